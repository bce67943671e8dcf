"""``synthesize``: vehicles drawn with exact labels."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..errors import MultiTaskNetError
from .options import add_command, add_options, given, positive

_SIZES = {
    "vehicles": (60, "vehicles to train on"),
    "images": (12, "images of each vehicle"),
    "cameras": (6, "camera ids"),
    "pixels": (256, "longer side of the images"),
}
_SETTINGS = (*_SIZES, "test_vehicles", "prior", "seed", "workers")


def add_parsers(commands: Any) -> None:
    draw = add_command(
        commands,
        "synthesize",
        _synthesize,
        "write synthetic vehicles with exact labels, in the PAMTRI layout: train, query and test "
        "(the gallery); the same seed gives the same bytes",
        example="--output vehicles --vehicles 20 --images 8 --workers 2",
    )
    draw.add_argument("--output", type=Path, required=True, help="a new or empty folder")
    for name, (default, help) in _SIZES.items():
        draw.add_argument(f"--{name}", type=positive, default=default, help=f"{help} ({default})")
    draw.add_argument(
        "--test-vehicles",
        type=positive,
        help="vehicles to test on (a third as many as to train on, at least 10)",
    )
    draw.add_argument(
        "--prior",
        choices=("even", "real"),
        default="even",
        help="even, for training: wide ranges, all sides, colours and types (the default); or "
        "real: as on traffic crops, of many sizes",
    )
    draw.add_argument("--seed", type=int, default=0, help="of all that is random (0)")
    draw.add_argument(
        "--maps", action="store_true", help="write the 36 heatmaps and the 13 segments as files"
    )
    add_options(draw, "--workers")


def _synthesize(options: argparse.Namespace) -> None:
    from vehiclesynth import SyntheticError, synthesize

    settings = given(options, _SETTINGS)
    settings |= {"heatmaps": options.maps, "segments": options.maps}
    try:
        data = synthesize(options.output, progress=True, **settings)
    except SyntheticError as error:
        raise MultiTaskNetError(str(error)) from error
    counts = ", ".join(f"{count} {split}" for split, count in data.images.items())
    vehicles = data.vehicles
    print(f"{data.root}: {counts} images of {vehicles['train']} + {vehicles['test']} vehicles")
