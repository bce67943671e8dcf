"""``demo``: the product in one command."""

from __future__ import annotations

import argparse
import webbrowser
from itertools import count
from pathlib import Path
from typing import Any

from ..errors import MultiTaskNetError
from .inference import print_prediction
from .options import add_command, add_options, check_images, print_table
from .training import print_epoch

_FOLDER = "multitasknet-demo"
_NEAREST = 3


class DemoCommandError(MultiTaskNetError, ValueError):
    """Options that do not go together."""


def add_parsers(commands: Any) -> None:
    demo = add_command(
        commands,
        "demo",
        _demo,
        "a photo understood and found in a small gallery, offline; --train: train as well",
    )
    demo.add_argument("photo", type=Path, nargs="?", help="a crop of one vehicle (the demo's own)")
    demo.add_argument(
        "--output", type=Path, metavar="DIR", help=f"a new folder ({_FOLDER}, {_FOLDER}-2, ...)"
    )
    demo.add_argument("--open", action="store_true", help="open the report in a browser")
    training = demo.add_argument_group("training")
    training.add_argument("--train", action="store_true", help="train, in about ten minutes")
    training.add_argument("--quick", action="store_true", help="train, in about a minute")
    training.add_argument("--online", action="store_true", help="train from the card's weights")
    add_options(training, "--workers", "--device")


def _demo(options: argparse.Namespace) -> None:
    trains = options.train or options.quick or options.online
    if trains and options.photo:
        raise DemoCommandError(f"{options.photo}: training takes no photo")
    report = _train_demo(options) if trains else _first_look(options)
    print(f"\n{report}")
    if options.open:
        webbrowser.open(report.resolve().as_uri())


def _first_look(options: argparse.Namespace) -> Path:
    if options.photo:
        check_images([options.photo])
    from ..demo.first_look import look

    result = look(options.output or _free_folder(), photo=options.photo)
    print_prediction(result.predictions[0])
    names = [Path(match.name).name for match in result.found[0][:_NEAREST]]
    print(f"  nearest   {', '.join(names)} of {result.gallery}")
    queries = len(result.predictions) - bool(options.photo)
    print(f"\n{result.right} of {queries} queries found first, {result.seconds:.0f} s")
    return result.report


def _train_demo(options: argparse.Namespace) -> Path:
    from ..demo.training import FULL, QUICK, run_demo

    result = run_demo(
        options.output or _free_folder(),
        QUICK if options.quick else FULL,
        online=options.online,
        device=options.device,
        workers=options.workers,
        on_epoch=print_epoch,
    )
    print()
    columns = {"chance": result.chance, "before": result.before, "after": result.after}
    print_table("unseen vehicles", columns, decimals=1)
    return result.report


def _free_folder() -> Path:
    names = (f"{_FOLDER}-{number}" if number > 1 else _FOLDER for number in count(1))
    return next(path for path in map(Path, names) if not path.exists())
