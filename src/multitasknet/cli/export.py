"""``export`` and ``quantize``: the network as a file for others."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..inference.tracker_files import HOSTS, export_for
from ..models import NETWORKS, POSE_NETWORKS
from .options import (
    add_command,
    add_options,
    given,
    images_of,
    make_pose_estimator,
    make_predictor,
    positive,
    print_rows,
    source_of,
)


def add_parsers(commands: Any) -> None:
    export = add_command(
        commands,
        "export",
        _export,
        "write ONNX or MindIR, checked against the Cell",
        example="--output model.onnx",
    )
    export.add_argument(
        "--output", type=Path, required=True, help="the file to write, .onnx or .mindir"
    )
    add_options(export, "--network", "--weights", "--size", "--device")
    export.add_argument(
        "--fixed-batch", type=positive, metavar="N", help="the only batch size that the file takes"
    )
    export.add_argument(
        "--rgb",
        action="store_true",
        help="a file for other programs, from RGB in 0..1 to an embedding of length 1, without a "
        "pose; of an INT8 file too (--weights int8.onnx)",
    )
    export.add_argument(
        "--embedding-only", action="store_true", help="with --rgb or --for: no colour and type"
    )
    export.add_argument(
        "--for",
        dest="host",
        choices=HOSTS,
        help="--rgb as this program takes it, with the files that it takes beside it",
    )

    quantize = add_command(
        commands,
        "quantize",
        _quantize,
        "write INT8 ONNX and print what it costs",
        example="crops --output int8.onnx",
    )
    quantize.add_argument(
        "images", nargs="+", type=Path, metavar="IMAGE", help="crops to calibrate on, or folders"
    )
    quantize.add_argument("--output", type=Path, required=True, help="the file to write, .onnx")
    add_options(quantize, "--labels", "--pose", "--weights")
    quantize.add_argument(
        "--min-cosine",
        type=float,
        default=0.99,
        help="least mean cosine with float32's embeddings at which the file is kept (0.99)",
    )
    quantize.set_defaults(network=None, backend="onnx")


def _export(options: argparse.Namespace) -> None:
    from ..inference.export import CHECKED_INPUTS, export

    how = given(options, ("weights", "fixed_batch", "size", "device", "embedding_only"))
    how["name"] = options.network
    lines = ""
    if options.host:
        report, lines = export_for(options.host, options.output, **how)
    else:
        report = export(options.output, **how, **given(options, ("rgb",)))
    what = "Cell, on {} inputs"
    if options.rgb or options.host:
        what = "predictor without poses (1 - cosine), on {} pictures"
    rows: dict[str, object] = {
        "file": report.path,
        "size": f"{report.bytes / 1e6:.1f} MB",
        "difference": f"{report.difference:.1e} at most from the {what.format(CHECKED_INPUTS)}",
    }
    print_rows(rows)
    if lines:
        print(f"\n{lines}")


def _is_pose(options: argparse.Namespace) -> bool:
    """Whether ``--weights`` are a pose network's."""
    from ..files import expand
    from ..inference.engines import open_engine

    source = source_of(options)
    if source.weights is None or source.weights in NETWORKS:
        return source.weights in POSE_NETWORKS
    if str(source.weights).endswith(".onnx"):
        return open_engine(expand(source.weights)).spec.network in POSE_NETWORKS
    file = source.file()
    return file is not None and file.read().network.name in POSE_NETWORKS


def _quantize(options: argparse.Namespace) -> None:
    images = images_of(options.images)
    from ..data.labels import keypoints_of
    from ..inference.quantize import quantize

    is_pose = _is_pose(options)
    runner = make_pose_estimator(options) if is_pose else make_predictor(options)
    keypoints = keypoints_of(images, options.labels)
    report = quantize(options.output, runner, images, keypoints, min_cosine=options.min_cosine)
    rows: dict[str, object] = {
        "file": report.path,
        "calibrated on": f"{report.calibrated_on} images",
        "compared on": f"{report.compared_on} other images, with float32",
        "images/s": "{:.1f}, float32 {:.1f} (the network alone)".format(*report.images_per_second),
    }
    kind = "maps" if is_pose else "embeddings"
    rows[kind] = f"cosine {report.cosine:.4f}, least {report.least_cosine:.4f}"
    if report.color_agreement is not None:
        rows["colour"] = f"the same for {report.color_agreement:.1%}"
        rows["type"] = f"the same for {report.type_agreement:.1%}"
    if report.shift is not None:
        rows["keypoints"] = f"moved by {report.shift:.2%} of the longer side on average"
    print_rows(rows)
