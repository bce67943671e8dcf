"""``demo``: the product in one command."""

from __future__ import annotations

import argparse
from itertools import count
from pathlib import Path
from typing import Any

from .options import add_command, images_of
from .predict import print_prediction

_FOLDER = "multitasknet-demo"
_NEAREST = 3


def add_parsers(commands: Any) -> None:
    demo = add_command(
        commands,
        "demo",
        _demo,
        "predict a photo and search a small gallery, offline",
        example="assets/example.jpg",
    )
    demo.add_argument("photo", type=Path, nargs="?", help="a crop of one vehicle (the demo's own)")
    demo.add_argument(
        "--output", type=Path, metavar="DIR", help=f"a new folder ({_FOLDER}, {_FOLDER}-2, ...)"
    )


def _demo(options: argparse.Namespace) -> None:
    from ..demo import run_demo

    if options.photo:
        images_of([options.photo])
    result = run_demo(options.output or _free_folder(), photo=options.photo)
    print_prediction(result.predictions[0])
    names = [hit.row.image.name for hit in result.found[0][:_NEAREST]]
    print(f"  nearest   {', '.join(names)} of {result.gallery}")
    queries = len(result.predictions) - bool(options.photo)
    print(f"\n{result.right} of {queries} queries found first, {result.seconds:.0f} s")
    print(f"\n{result.report}")


def _free_folder() -> Path:
    names = (f"{_FOLDER}-{number}" if number > 1 else _FOLDER for number in count(1))
    return next(path for path in map(Path, names) if not path.exists())
