"""``export`` and ``quantize``: the network as a file for other runtimes."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .options import (
    add_pose,
    add_renamed,
    add_source_options,
    check_images,
    image_size,
    positive,
    print_rows,
    weights_of,
)


def add_parsers(commands: Any) -> None:
    export = commands.add_parser(
        "export", help="write the network as ONNX or MindIR, checked against the Cell"
    )
    export.add_argument("--output", type=Path, required=True, help="the file to write")
    export.add_argument("--format", choices=("onnx", "mindir"), help="default: the output's ending")
    add_source_options(export, weights="'card' (default), 'none' for random values, or a file")
    export.add_argument("--size", type=image_size, help="side of the input in pixels (256)")
    export.add_argument(
        "--fixed-batch", type=_batch, metavar="N", help="the only batch size that the file takes"
    )
    add_renamed(export, "--batch", "--fixed-batch", type=_batch)
    export.add_argument("--fp16", action="store_true", help="ONNX in float16: half the size")
    export.set_defaults(run=_export)

    quantize = commands.add_parser(
        "quantize", help="write the network as INT8 ONNX, and say what that costs"
    )
    quantize.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="to calibrate on")
    quantize.add_argument("--output", type=Path, required=True, help="the file to write, .onnx")
    quantize.add_argument("--labels", type=Path, help="PAMTRI label CSV with the keypoints")
    add_pose(quantize)
    add_source_options(quantize, weights="'card' (default) or a file")
    quantize.add_argument("--size", type=image_size, help="side of the input in pixels (256)")
    quantize.add_argument("--batch-size", type=positive, default=8, help="images at a time (8)")
    add_renamed(quantize, "--batch", "--batch-size", type=positive)
    quantize.add_argument(
        "--min-cosine", type=float, default=0.99, help="keep the file from there on (0.99)"
    )
    quantize.set_defaults(run=_quantize)


def _batch(text: str) -> int | None:
    return None if text == "dynamic" else positive(text)


def _export(options: argparse.Namespace) -> None:
    from ..inference.export import CHECKED_INPUTS, export

    report = export(
        options.output,
        format=options.format,
        weights=weights_of(options),
        card=options.card,
        cache_dir=options.cache_dir,
        offline=options.offline,
        fixed_batch=options.fixed_batch,
        size=options.size,
        fp16=options.fp16,
    )
    print(report.path)
    print(f"largest difference from the Cell on {CHECKED_INPUTS} inputs: {report.difference:.1e}")


def _quantize(options: argparse.Namespace) -> None:
    check_images(options.images)
    from ..data.labels import keypoints_of
    from ..inference.predictor import Predictor
    from ..inference.quantization import quantize

    predictor = Predictor(
        options.weights,
        card=options.card,
        cache_dir=options.cache_dir,
        offline=options.offline,
        size=options.size,
        backend="onnx",
        pose=options.pose,
        batch_size=options.batch_size,
    )
    report = quantize(
        options.output,
        predictor,
        options.images,
        keypoints_of(options.images, options.labels),
        min_cosine=options.min_cosine,
    )
    rows: dict[str, object] = {
        "file": report.path,
        "calibrated on": f"{report.calibrated_on} images",
        "compared on": f"{report.compared_on} other images, with float32",
        "embeddings": f"cosine {report.embedding_cosine:.4f}, least {report.least_cosine:.4f}",
    }
    if report.color_agreement is not None:
        rows["colour"] = f"the same for {report.color_agreement:.1%}"
        rows["type"] = f"the same for {report.type_agreement:.1%}"
    print_rows(rows)
