"""``data``, ``pack`` and ``synthesize``: data sets checked, packed and drawn."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .options import (
    add_command,
    add_options,
    add_renamed,
    given,
    positive,
    print_json,
    print_table,
)

if TYPE_CHECKING:
    from ..data.records import Split

_LABELS = {"colors": "colours"}
_SIZES = {
    "vehicles": (60, "vehicles to train on"),
    "images": (12, "images of each vehicle"),
    "cameras": (6, "camera ids"),
    "pixels": (256, "longer side"),
}
_DRAWN = (*_SIZES, "test_vehicles", "prior", "seed", "workers", "heatmaps", "segments", "sheet")


def add_parsers(commands: Any) -> None:
    data = add_command(commands, "data", _data, "check a data set and print its statistics")
    data.add_argument("root", type=Path, metavar="ROOT", help="PAMTRI, VeRi, CSV folder or pack")
    add_options(data, "--allow-outside", "--json")

    pack = add_command(commands, "pack", _pack, "write a data set as MindRecord, to be reused")
    pack.add_argument("root", type=Path, metavar="ROOT", help="PAMTRI, VeRi or CSV folder")
    pack.add_argument("output", type=Path, metavar="OUT", help="a new folder")
    add_options(pack, "--allow-outside")

    draw = add_command(
        commands,
        "synthesize",
        _synthesize,
        "write synthetic vehicles with exact labels, in the PAMTRI layout: train, query and test "
        "(the gallery); the same seed gives the same bytes",
    )
    draw.add_argument("--output", type=Path, required=True, help="a new or empty folder")
    for name, (default, help) in _SIZES.items():
        draw.add_argument(f"--{name}", type=positive, default=default, help=f"{help} ({default})")
    draw.add_argument(
        "--test-vehicles",
        type=positive,
        help="vehicles to test on (a third as many as to train on, at least 10)",
    )
    add_renamed(draw, "--size", "--pixels", type=positive)
    draw.add_argument(
        "--prior",
        choices=("even", "real"),
        default="even",
        help="even, for training: wide ranges, all sides, colours and types (the default); or "
        "real: as on traffic crops, of many sizes",
    )
    draw.add_argument("--seed", type=int, default=0, help="of all that is random (0)")
    for name, maps in (("heatmaps", 36), ("segments", 13)):
        draw.add_argument(
            f"--{name}", action="store_true", help=f"write the {maps} {name} as files"
        )
    draw.add_argument("--sheet", type=Path, help="write a picture of samples, with their labels")
    add_options(draw, "--workers")


def _data(options: argparse.Namespace) -> None:
    from ..data.layouts import read_dataset
    from ..data.records import warn_of_unmatched

    dataset = read_dataset(options.root, allow_outside=options.allow_outside)
    warn_of_unmatched(dataset)
    counts = {split.name: _counts(split) for split in dataset.splits}
    if options.json:
        print_json({"split": name} | one for name, one in counts.items())
        return
    columns = {
        split: {_LABELS.get(name, name.replace("_", " ")): count for name, count in one.items()}
        for split, one in counts.items()
    }
    print_table("", columns)


def _pack(options: argparse.Namespace) -> None:
    from ..data.layouts import read_dataset
    from ..data.pack import write_pack

    dataset = read_dataset(options.root, allow_outside=options.allow_outside)
    print(write_pack(dataset, options.output))


def _counts(split: Split) -> dict[str, int]:
    records = split.records
    return {
        "images": len(records),
        "vehicles": len({record.vehicle_id for record in records}),
        "cameras": len({record.camera_id for record in records} - {-1}),
        "colors": len({record.color_id for record in records} - {None}),
        "types": len({record.type_id for record in records} - {None}),
        "unknown_type": sum(record.type_id is None for record in records),
        "with_keypoints": sum(record.keypoints is not None for record in records),
        "stored_heatmaps": sum(record.heatmaps is not None for record in records),
        "stored_segments": sum(record.segments is not None for record in records),
    }


def _synthesize(options: argparse.Namespace) -> None:
    from ..synthetic import synthesize

    data = synthesize(options.output, progress=True, **given(options, _DRAWN))
    people = data.vehicles
    counts = ", ".join(f"{count} {split}" for split, count in data.images.items())
    print(f"{data.root}: {counts} images of {people['train']} + {people['test']} vehicles")
    if options.sheet:
        print(f"samples: {options.sheet}")
