"""``card``: a Hub model card for a training's best weights."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

_FIELDS = ("name", "user", "version", "dataset", "author", "license", "repo", "summary")


def add_parsers(commands: Any) -> None:
    card = commands.add_parser("card", help="write a Hub model card for a training's best weights")
    card.add_argument("directory", type=Path, metavar="DIR", help="the --output of finetune")
    card.add_argument(
        "--url", required=True, help="the folder where best.ckpt and best.json will be published"
    )
    for name in _FIELDS:
        card.add_argument(f"--{name}", default=argparse.SUPPRESS, help=f"the card's {name}")
    card.set_defaults(run=_card)


def _card(options: argparse.Namespace) -> None:
    from ..hub.publishing import write_card

    fields = {name: getattr(options, name) for name in _FIELDS if hasattr(options, name)}
    card = write_card(options.directory, url=options.url, **fields)
    print(card.path)
    print(f"publish these two beside each other, then create_network(card={str(card.path)!r}):")
    print(f"  {card.asset.url}\n  {card.asset.side.url}")
