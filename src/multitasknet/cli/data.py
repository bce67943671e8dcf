"""``data``: data sets checked."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .options import (
    add_command,
    add_options,
    print_json,
    print_table,
)

if TYPE_CHECKING:
    from ..data.records import Split

_LABELS = {"colors": "colours"}


def add_parsers(commands: Any) -> None:
    data = add_command(commands, "data", _data, "check a data set and print its statistics")
    data.add_argument("root", type=Path, metavar="ROOT", help="the data set's folder")
    add_options(data, "--allow-outside", "--json")


def _data(options: argparse.Namespace) -> None:
    from ..data.layouts import read_dataset
    from ..data.records import warn_about

    dataset = read_dataset(options.root, allow_outside=options.allow_outside)
    warn_about(dataset)
    counts = {split.name: _counts(split) for split in dataset.splits}
    if options.json:
        print_json({"split": name} | one for name, one in counts.items())
        return
    columns = {
        split: {_LABELS.get(name, name.replace("_", " ")): count for name, count in one.items()}
        for split, one in counts.items()
    }
    print_table("", columns)


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
