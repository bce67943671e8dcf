"""``data`` and ``pack``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..data.records import Split, VehicleDataset


def add_parsers(commands: Any) -> None:
    data = commands.add_parser("data", help="check a data set and print its statistics")
    data.add_argument("root", type=Path, metavar="ROOT", help="PAMTRI, VeRi, CSV folder or pack")
    data.set_defaults(run=_data)

    pack = commands.add_parser("pack", help="write a data set as MindRecord, for repeated runs")
    pack.add_argument("root", type=Path, metavar="ROOT", help="PAMTRI, VeRi or CSV folder")
    pack.add_argument("output", type=Path, metavar="OUT", help="a new folder")
    pack.set_defaults(run=_pack)


def _data(options: argparse.Namespace) -> None:
    from ..data.layouts import read_dataset
    from ..data.records import warn_of_unmatched

    dataset = read_dataset(options.root)
    warn_of_unmatched(dataset)
    _print_statistics(dataset)


def _pack(options: argparse.Namespace) -> None:
    from ..data.layouts import read_dataset
    from ..data.pack import write_pack

    dataset = read_dataset(options.root)
    print(write_pack(dataset, options.output))


def _print_statistics(dataset: VehicleDataset) -> None:
    columns = {split.name: _statistics(split) for split in dataset.splits}
    names = next(iter(columns.values()))
    print(" " * 18 + "".join(f"{name:>12}" for name in columns))
    for row in names:
        print(f"{row:18}" + "".join(f"{column[row]:>12}" for column in columns.values()))


def _statistics(split: Split) -> dict[str, str]:
    records = split.records
    return {
        "images": f"{len(records):,}",
        "vehicles": f"{len({record.vehicle_id for record in records}):,}",
        "cameras": str(len({record.camera_id for record in records} - {-1})),
        "colours": str(len({record.color_id for record in records} - {None})),
        "types": str(len({record.type_id for record in records} - {None})),
        "unknown type": _count(record.type_id is None for record in records),
        "with keypoints": _count(record.keypoints is not None for record in records),
        "stored heatmaps": _count(record.heatmaps is not None for record in records),
        "stored segments": _count(record.segments is not None for record in records),
    }


def _count(flags: Any) -> str:
    return f"{sum(flags):,}"
