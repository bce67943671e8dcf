"""``evaluate-pose``: how near estimated keypoints are to labelled ones."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..inference.engine import BACKENDS
from .options import (
    add_json,
    add_source_options,
    add_workers,
    image_size,
    positive,
    print_json,
    weights_of,
)

if TYPE_CHECKING:
    from ..evaluation.pose import PoseEvaluation
    from ..inference.pose_estimator import PoseEstimator

_SPLITS = ("train", "query", "gallery")
_DECODINGS = ("published", "dark")


def add_parsers(commands: Any) -> None:
    parser = commands.add_parser(
        "evaluate-pose",
        help="PCK, swaps and calibration of estimated keypoints",
        description="Estimate the keypoints of labelled images and compare them with the labels.",
    )
    parser.add_argument(
        "--data", type=Path, required=True, help="PAMTRI layout or a pack of it, with keypoints"
    )
    parser.add_argument(
        "--split",
        nargs="+",
        choices=_SPLITS,
        help="which images (those that are there but train; train if it is alone)",
    )
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="for poses, metrics.json and report.html"
    )
    add_json(parser)
    add_workers(parser)
    group = parser.add_argument_group("pose network")
    words = "'card' (default), 'none' for random values, or a file of weights or export"
    add_source_options(group, weights=words)
    group.add_argument("--size", type=image_size, help="side of the input in pixels (256)")
    group.add_argument("--batch-size", type=positive, default=8, help="images at a time (8)")
    group.add_argument(
        "--backend",
        choices=BACKENDS,
        default="auto",
        help="what runs the network (auto: ONNX Runtime on a CPU if it is installed)",
    )
    group.add_argument("--threads", type=positive, help="of ONNX Runtime (all usable cores)")
    group.add_argument(
        "--no-flip-test",
        dest="flip_test",
        action="store_false",
        help="leave the mirrored image out: twice as fast, less accurate",
    )
    group.add_argument(
        "--decode", choices=_DECODINGS, default="published", help="from a map to a place"
    )
    parser.set_defaults(run=_evaluate_pose)


def _evaluate_pose(options: argparse.Namespace) -> None:
    from ..data.layouts import read_dataset
    from ..evaluation.pose import evaluate_pose, evaluated_splits, published_card_metrics
    from ..evaluation.pose_report import write_pose_report
    from ..hub.card import default_card_path, load_card

    # The labels first: a split that is not evaluated needs no check of its images.
    labels = read_dataset(options.data, options.split, check=False)
    names = [split.name for split in evaluated_splits(labels, options.split)]
    dataset = read_dataset(options.data, names)
    published = published_card_metrics(load_card(options.card or default_card_path("poseestnet")))
    estimator = _make_estimator(options)
    evaluation = evaluate_pose(
        estimator, dataset, splits=names, output=options.output, workers=options.workers
    )
    if options.json:
        print_json([evaluation.as_json()])
    else:
        _print_metrics(evaluation, published)
    if not estimator.engine.source:
        print("multitasknet: the weights are random; these metrics mean nothing", file=sys.stderr)
    if options.output:
        report = options.output / "report.html"
        write_pose_report(evaluation, report, published=published)
        stream = sys.stderr if options.json else sys.stdout
        print(f"\n{report}\n{options.output / 'metrics.json'}", file=stream)


def _make_estimator(options: argparse.Namespace) -> PoseEstimator:
    from ..inference.pose_estimator import PoseEstimator

    return PoseEstimator(
        weights_of(options),
        card=options.card,
        cache_dir=options.cache_dir,
        offline=options.offline,
        batch_size=options.batch_size,
        size=options.size,
        backend=options.backend,
        threads=options.threads,
        flip_test=options.flip_test,
        decode=options.decode,
    )


def _print_metrics(evaluation: PoseEvaluation, published: dict[str, float]) -> None:
    from ..evaluation.pose import AS_PUBLISHED

    overall = evaluation.overall
    visible, hidden = overall.visible.count, overall.hidden.count
    _print_table("percent", {"": evaluation.metrics})
    print(f"{overall.images} images, {visible} visible and {hidden} hidden keypoints", end="")
    print(f", {evaluation.unlabelled} images without keypoints left out")
    print(f"\n{AS_PUBLISHED}")
    _print_table("percent", {"this run": evaluation.published, "card": published})


def _print_table(corner: str, columns: dict[str, dict[str, float]]) -> None:
    names = list(next(iter(columns.values())))
    width = max(map(len, names))
    print(f"{corner:{width}}" + "".join(f"{title:>12}" for title in columns))
    for name in names:
        values = (column.get(name) for column in columns.values())
        cells = ("" if value is None else f"{value:.2f}" for value in values)
        print(f"{name:{width}}" + "".join(f"{cell:>12}" for cell in cells))
