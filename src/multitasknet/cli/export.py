"""``export`` and ``quantize``: the network as a file for others."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..models import pose_networks
from .options import (
    SOURCE,
    add_batch_size,
    add_command,
    add_options,
    check_images,
    given,
    make_pose_estimator,
    make_predictor,
    network_of,
    positive,
    print_json,
    print_rows,
    source_of,
)


def add_parsers(commands: Any) -> None:
    export = add_command(commands, "export", _export, "write ONNX or MindIR, checked on the Cell")
    export.add_argument("--output", type=Path, required=True, help="the file to write")
    export.add_argument("--format", choices=("onnx", "mindir"), help="default: the output's ending")
    add_options(export, "--network", *SOURCE, "--size", "--device", "--json")
    export.add_argument(
        "--fixed-batch", type=_batch, metavar="N", help="the only batch size that the file takes"
    )
    export.add_argument("--fp16", action="store_true", help="ONNX in float16: half the size")

    quantize = add_command(commands, "quantize", _quantize, "write INT8 ONNX and say what it costs")
    quantize.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="to calibrate on")
    quantize.add_argument("--output", type=Path, required=True, help="the file to write, .onnx")
    add_options(quantize, "--labels", "--pose", "--network", *SOURCE, "--size", "--threads")
    add_options(quantize, "--json")
    add_batch_size(quantize, 8)
    quantize.add_argument(
        "--min-cosine", type=float, default=0.99, help="keep the file from there on (0.99)"
    )
    quantize.set_defaults(variant=None, backend="onnx", flip_test=True, decode=None)


def _batch(text: str) -> int | None:
    return None if text == "dynamic" else positive(text)


def _export(options: argparse.Namespace) -> None:
    from ..inference.export import CHECKED_INPUTS, export

    report = export(
        options.output,
        name=network_of(options),
        **source_of(options),
        **given(options, ("format", "fixed_batch", "size", "fp16", "device")),
    )
    if options.json:
        print_json([asdict(report)])
        return
    print(report.path)
    print(f"largest difference from the Cell on {CHECKED_INPUTS} inputs: {report.difference:.1e}")


def _quantize(options: argparse.Namespace) -> None:
    check_images(options.images)
    from ..data.labels import keypoints_of
    from ..inference.quantization import QuantizationReport, quantize

    keypoints = keypoints_of(options.images, options.labels)
    is_pose = network_of(options) in {network.name for network in pose_networks()}
    runner = make_pose_estimator(options) if is_pose else make_predictor(options)
    report = quantize(
        options.output, runner, options.images, keypoints, min_cosine=options.min_cosine
    )
    if options.json:
        print_json([asdict(report)])
        return
    rows: dict[str, object] = {
        "file": report.path,
        "calibrated on": f"{report.calibrated_on} images",
        "compared on": f"{report.compared_on} other images, with float32",
    }
    if not isinstance(report, QuantizationReport):
        rows["maps"] = f"cosine {report.map_cosine:.4f}, least {report.least_cosine:.4f}"
        rows["keypoints"] = f"moved by {report.shift:.2%} of the longer side on average"
        if report.pck:
            rows["PCK@0.05"] = "float32 {:.1%}, INT8 {:.1%}".format(*report.pck)
        print_rows(rows)
        return
    rows["embeddings"] = f"cosine {report.embedding_cosine:.4f}, least {report.least_cosine:.4f}"
    if report.color_agreement is not None:
        rows["colour"] = f"the same for {report.color_agreement:.1%}"
        rows["type"] = f"the same for {report.type_agreement:.1%}"
    print_rows(rows)
