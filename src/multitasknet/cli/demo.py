"""``demo``: the whole product in one run."""

from __future__ import annotations

import argparse
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .options import add_workers

if TYPE_CHECKING:
    from ..training.history import EpochRecord

_DEFAULT = "multitasknet-demo"


def add_parsers(commands: Any) -> None:
    demo = commands.add_parser("demo", help="make data, train, evaluate and report, offline")
    demo.add_argument(
        "--output", type=Path, metavar="DIR", help=f"a new folder ({_DEFAULT}, {_DEFAULT}-2, ...)"
    )
    demo.add_argument("--quick", action="store_true", help="about a minute instead of ten")
    demo.add_argument("--online", action="store_true", help="start from the card's weights")
    demo.add_argument("--open", action="store_true", help="open the report in a browser")
    add_workers(demo)
    demo.set_defaults(run=_demo)


def _demo(options: argparse.Namespace) -> None:
    from ..demo import FULL, QUICK, run_demo

    result = run_demo(
        options.output or _free_folder(),
        QUICK if options.quick else FULL,
        online=options.online,
        workers=options.workers,
        on_epoch=_print_epoch,
    )
    print(f"\n{'unseen vehicles':16}{'chance':>8}{'before':>8}{'after':>8}")
    for name, value in result.after.items():
        chance = f"{result.chance[name]:.1f}" if name in result.chance else ""
        print(f"{name:16}{chance:>8}{result.before[name]:8.1f}{value:8.1f}")
    print(f"\n{result.report}")
    if options.open:
        webbrowser.open(result.report.resolve().as_uri())


def _print_epoch(record: EpochRecord) -> None:
    print(
        f"epoch {record.epoch}: loss {record.losses['total']:.3f}, "
        f"{record.images_per_second:.0f} images/s",
        flush=True,
    )


def _free_folder() -> Path:
    candidate, number = Path(_DEFAULT), 1
    while candidate.exists():
        number += 1
        candidate = Path(f"{_DEFAULT}-{number}")
    return candidate
