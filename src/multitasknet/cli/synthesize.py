"""``synthesize``: a data set of synthetic vehicles."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from .options import add_renamed, positive


def add_parsers(commands: Any) -> None:
    parser = commands.add_parser(
        "synthesize",
        help="write synthetic vehicles with exact labels, in the PAMTRI layout",
        description="Write synthetic vehicles with exact labels, in the PAMTRI layout: train, "
        "query and test (the gallery). The same seed gives the same bytes.",
    )
    parser.add_argument("--output", type=Path, required=True, help="a new or empty folder")
    parser.add_argument(
        "--vehicles",
        type=positive,
        default=60,
        help="vehicles to train on (60); a third as many, at least 10, are added to test on",
    )
    parser.add_argument("--images", type=positive, default=12, help="images of each vehicle (12)")
    parser.add_argument("--cameras", type=positive, default=6, help="camera ids (6)")
    parser.add_argument("--pixels", type=positive, default=256, help="the longer side (256)")
    add_renamed(parser, "--size", "--pixels", type=positive)
    parser.add_argument("--seed", type=int, default=0, help="of all that is random (0)")
    parser.add_argument(
        "--workers", type=positive, default=os.cpu_count() or 1, help="processes (all cores)"
    )
    parser.add_argument("--heatmaps", action="store_true", help="write the 36 heatmaps as files")
    parser.add_argument("--segments", action="store_true", help="write the 13 segments as files")
    parser.add_argument(
        "--sheet", type=Path, help="write a picture of samples, keypoints and surfaces drawn in"
    )
    parser.set_defaults(run=_synthesize)


def _synthesize(options: argparse.Namespace) -> None:
    from ..synthetic import synthesize

    data = synthesize(
        options.output,
        vehicles=options.vehicles,
        images=options.images,
        cameras=options.cameras,
        pixels=options.pixels,
        seed=options.seed,
        workers=options.workers,
        heatmaps=options.heatmaps,
        segments=options.segments,
        sheet=options.sheet,
        progress=True,
    )
    people = data.vehicles
    counts = ", ".join(f"{count} {split}" for split, count in data.images.items())
    print(f"{data.root}: {counts} images of {people['train']} + {people['test']} vehicles")
    if options.sheet:
        print(f"samples: {options.sheet}")
