"""``export``: the network as an ONNX or MindIR file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .options import positive


def add_parsers(commands: Any) -> None:
    export = commands.add_parser(
        "export", help="write the network as ONNX or MindIR, checked against the Cell"
    )
    export.add_argument("--output", type=Path, required=True, help="the file to write")
    export.add_argument("--format", choices=("onnx", "mindir"), help="default: the output's ending")
    export.add_argument(
        "--weights", default="card", help="'card' (default), 'none' for random values, or a file"
    )
    export.add_argument("--card", type=Path, help="a model card (default: this module's)")
    export.add_argument(
        "--batch", type=_batch, metavar="N", help="a fixed batch size (default: 'dynamic')"
    )
    export.add_argument("--fp16", action="store_true", help="ONNX in float16: half the size")
    export.set_defaults(run=_export)


def _batch(text: str) -> int | None:
    return None if text == "dynamic" else positive(text)


def _export(options: argparse.Namespace) -> None:
    from ..exporting import CHECKED_INPUTS, export

    report = export(
        options.output,
        format=options.format,
        weights=None if options.weights == "none" else options.weights,
        card=options.card,
        batch=options.batch,
        fp16=options.fp16,
    )
    print(report.path)
    print(f"largest difference from the Cell on {CHECKED_INPUTS} inputs: {report.difference:.1e}")
