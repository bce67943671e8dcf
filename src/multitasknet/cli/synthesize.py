"""``synthesize``: vehicles drawn with exact labels."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..errors import MultiTaskNetError
from .options import add_command, given, positive

_SIZES = {
    "scenes": "draw films, not pictures, of that many streets: MOT boxes and CityFlow folders",
    "vehicles": "vehicles to train on (60), or of a scene (20)",
    "images": "images of each vehicle (12)",
    "cameras": "camera ids (6), or cameras of a scene (4)",
    "seconds": "length of each film, at 10 frames a second (60)",
    "pixels": "longer side of the images (256) or of the films' frames (640)",
    "models": "models of which the vehicles are, few of them common, those of the test others "
    "(each vehicle has a shape of its own)",
    "test-vehicles": "vehicles to test on (a third as many as to train on, at least 10)",
}
_SHARED = ("vehicles", "cameras", "pixels", "prior", "seed")
_OF_PICTURES, _OF_FILMS = ("images", "test_vehicles", "models"), ("scenes", "seconds")


def add_parsers(commands: Any) -> None:
    draw = add_command(
        commands,
        "synthesize",
        _synthesize,
        "write synthetic vehicles with exact labels, in the PAMTRI layout: train, query and test "
        "(the gallery), or films of them; the same seed gives the same bytes",
        example="--output vehicles --vehicles 20 --images 8",
    )
    draw.add_argument("--output", type=Path, required=True, help="a new or empty folder")
    for name, help in _SIZES.items():
        draw.add_argument(f"--{name}", type=positive, help=help)
    draw.add_argument(
        "--prior",
        choices=("even", "real"),
        help="even, for training: wide ranges, all sides, colours and types (the default); or "
        "real: as on traffic crops, of many sizes (the default of films)",
    )
    draw.add_argument("--seed", type=int, default=0, help="of all that is random (0)")


def _synthesize(options: argparse.Namespace) -> None:
    from vehiclesynth import SyntheticError, synthesize, synthesize_scenes

    from ..runtime import usable_cores

    kept, left = (_OF_FILMS, _OF_PICTURES) if options.scenes else (_OF_PICTURES, _OF_FILMS)
    for name in given(options, left):
        which = "is of pictures; leave out --scenes" if options.scenes else "needs --scenes"
        options.usage(f"--{name.replace('_', '-')} {which}")
    draw: Any = synthesize_scenes if options.scenes else synthesize
    settings = given(options, (*_SHARED, *kept))
    try:
        data = draw(options.output, progress=True, workers=usable_cores(), **settings)
    except SyntheticError as error:
        raise MultiTaskNetError(str(error)) from error
    vehicles = data.vehicles
    if options.scenes:
        found = f"{data.films} films, {data.frames} frames with {data.boxes} boxes of {vehicles}"
    else:
        counts = ", ".join(f"{count} {split}" for split, count in data.images.items())
        found = f"{counts} images of {vehicles['train']} + {vehicles['test']}"
    print(f"{data.root}: {found} vehicles")
