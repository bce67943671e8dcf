"""``info``, ``download``, ``card`` and ``hub-install``."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import MultiTaskNetError
from .options import (
    add_command,
    add_options,
    card_of,
    check_weights,
    given,
    print_json,
    print_rows,
    weights_of,
)

if TYPE_CHECKING:
    from ..hub.info import CardInfo, WeightsInfo

_FIELDS = ("name", "user", "version", "dataset", "author", "license", "repo", "summary")


def add_parsers(commands: Any) -> None:
    info = add_command(
        commands,
        "info",
        _info,
        "print what a card or a weights file holds, or check this machine",
        example="--system",
    )
    what = info.add_mutually_exclusive_group()
    add_options(what, "--card", "--weights")
    what.add_argument(
        "--system",
        action="store_true",
        help="versions, devices, and the shipped networks' outputs beside stored ones",
    )
    add_options(info, "--network", "--cache-dir", "--device", "--json")

    download = add_command(commands, "download", _download, "fetch and verify the card's weights")
    which = download.add_mutually_exclusive_group()
    add_options(which, "--card")
    which.add_argument(
        "--weights", choices=("card", "synthetic"), default="card", help="whose card"
    )
    add_options(download, "--network", "--cache-dir", "--offline")
    download.add_argument("--verify", action="store_true", help="hash a cached file again")

    card = add_command(commands, "card", _card, "write a Hub model card for a training's weights")
    card.add_argument(
        "directory", type=Path, metavar="DIR", help="the --output of finetune, or a .ckpt file"
    )
    card.add_argument(
        "--url", required=True, help="the folder where weights and sidecar will be published"
    )
    card.add_argument(
        "--body", type=Path, metavar="FILE", default=argparse.SUPPRESS, help="more text, Markdown"
    )
    for name in _FIELDS:
        card.add_argument(f"--{name}", default=argparse.SUPPRESS, help=f"the card's {name}")
    add_options(card, "--network", "--json")

    install = add_command(
        commands, "hub-install", _hub_install, "install card and module for mindspore_hub.load"
    )
    install.add_argument("--hub-dir", type=Path, help="the hub folder (default: ~/.mscache)")
    add_options(install, "--network", "--card", "--offline")
    install.add_argument("--version", help="the Hub's version to install it for, such as 1.9")
    install.add_argument("--download", action="store_true", help="fetch the weights as well")


def _info(options: argparse.Namespace) -> None:
    from ..hub.card import ENTRIES
    from ..hub.info import describe_card, describe_weights

    if options.system:
        print_system(options)
        return
    weights = weights_of(options)
    if weights in ENTRIES:
        rows = _card_rows(describe_card(card_of(options), options.cache_dir))
    else:
        check_weights(options, Path(weights))
        rows = weights_rows(describe_weights(weights))
    print_rows(rows, as_json=options.json)


def print_system(options: argparse.Namespace) -> None:
    """Print a line a finding; MultiTaskNetError if one of them is wrong."""
    from ..system import examine

    wrong = 0
    for finding in examine(options.device):
        wrong += not finding.is_right
        if options.json:
            print_json([asdict(finding)])
        else:
            mark = "" if finding.is_right else "WRONG: "
            print(f"{finding.name:24}{mark}{finding.found}", flush=True)
    if wrong:
        raise MultiTaskNetError(f"{wrong} of these are wrong; report them with this table")


def _card_rows(info: CardInfo) -> dict[str, object]:
    card = info.card
    metrics = ", ".join(f"{name} {value}" for name, value in card.metrics.items())
    rows: dict[str, object] = {
        "card": card.path,
        "uid": card.uid,
        "model": f"{card.name} ({card.backbone_name}), {card.module_type}",
        "author": f"{card.author}, {card.update_time}",
        "trained on": card.train_dataset,
        "metrics": f"{metrics or 'none'} (as published)",
        "licence": card.license,
        "fine-tunable": "yes" if card.fine_tunable else "no",
        "asset": card.asset.url,
        "mirrors": len(card.asset.mirrors),
        "sha256": card.asset.sha256,
        "cached": f"{_cached(info)}: {info.path}",
    }
    if info.weights is None:
        return rows | {
            "architecture": "stated in the file alone; 'multitasknet download' fetches it"
        }
    return rows | weights_rows(info.weights)


def _cached(info: CardInfo) -> str:
    if not info.verified:
        return "no"
    return "shipped, verified" if info.path == info.card.asset.shipped else "yes, verified"


def weights_rows(info: WeightsInfo) -> dict[str, object]:
    """What ``info`` and ``convert`` say of a weights file."""
    from ..models import find_network

    return {
        "file": info.path,
        "sha256": info.sha256,
        "network": info.spec.network,
        **find_network(info.spec.network).describe(info.spec),
        "parameters": f"{info.tensors} tensors, {info.values:,} values",
        "left out": f"{len(info.left_out)} further entries" + _first(info.left_out),
    }


def _first(names: tuple[str, ...]) -> str:
    return f" ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})" if names else ""


def _download(options: argparse.Namespace) -> None:
    from ..hub.fetch import fetch_asset

    path = fetch_asset(
        card_of(options), options.cache_dir, offline=options.offline, verify=options.verify
    )
    print(path)


def _card(options: argparse.Namespace) -> None:
    from ..hub.publish import checkpoint_of, write_card

    check_weights(options, checkpoint_of(options.directory))
    card = write_card(options.directory, url=options.url, **given(options, (*_FIELDS, "body")))
    urls = [asset.url for asset in (card.asset, card.asset.side) if asset]
    if options.json:
        print_json([{"card": card.path, "uid": card.uid, "publish": urls}])
        return
    print(card.path)
    print(f"publish these two beside each other, then create_network(card={str(card.path)!r}):")
    print(*(f"  {url}" for url in urls), sep="\n")


def _hub_install(options: argparse.Namespace) -> None:
    from ..hub.fetch import fetch_asset
    from ..hub.install import hub_install

    for card in hub_install(options.hub_dir, **given(options, ("card", "version", "network"))):
        root = card.path.parents[len(card.folder.parts)]
        print(f"installed {card.uid} into {root}; it loads with")
        if options.hub_dir:
            print(f"  mindspore_hub.manage.set_hub_dir({str(root)!r})")
        print(f'  mindspore_hub.load("{card.uid}")')
        if options.download:
            print(f"weights: {fetch_asset(card, root, offline=options.offline)}")
