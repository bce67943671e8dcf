"""``evaluate-pose``: how near estimated keypoints are to labelled ones."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .options import (
    add_command,
    add_options,
    add_pose_options,
    card_of,
    check_folder,
    given,
    make_pose_estimator,
    print_card,
    print_json,
    print_table,
)

if TYPE_CHECKING:
    from ..evaluation.pose import PoseEvaluation
    from ..evaluation.results import CardMetrics

_SPLITS = ("train", "query", "gallery")


def add_parsers(commands: Any) -> None:
    parser = add_command(
        commands, "evaluate-pose", _evaluate_pose, "measure how near estimated keypoints are"
    )
    add_options(parser, "--data", "--allow-outside", "--json", "--workers")
    parser.add_argument(
        "--split",
        nargs="+",
        choices=_SPLITS,
        help="which images (those that are there but train; train if it is alone)",
    )
    parser.add_argument("--output", type=Path, metavar="DIR", help="for metrics.json, report.html")
    add_pose_options(parser)


def _evaluate_pose(options: argparse.Namespace) -> None:
    from ..data.layouts import read_dataset
    from ..evaluation.pose import evaluate_pose, evaluated_splits
    from ..evaluation.pose_report import write_pose_report
    from ..evaluation.results import card_metrics

    # The labels first: a split that is not evaluated needs no check of its images.
    check_folder(options.output)
    outside = given(options, ("allow_outside",))
    labels = read_dataset(options.data, options.split, check=False, **outside)
    names = [split.name for split in evaluated_splits(labels, options.split)]
    dataset = read_dataset(options.data, names, **outside)
    estimator = make_pose_estimator(options)
    card = card_metrics(card_of(options), estimator.engine.weights_sha256)
    evaluation = evaluate_pose(
        estimator, dataset, splits=names, output=options.output, workers=options.workers
    )
    report = options.output and options.output / "report.html"
    if report:  # before anything is printed, to a reader that may go
        write_pose_report(evaluation, report, card=card)
    if options.json:
        print_json([evaluation.as_json()])
    else:
        _print_metrics(evaluation, card)
    if report:
        stream = sys.stderr if options.json else sys.stdout
        print(f"\n{report}\n{options.output / 'metrics.json'}", file=stream)


def _print_metrics(evaluation: PoseEvaluation, card: CardMetrics | None) -> None:
    from ..evaluation.pose import AS_PUBLISHED

    overall = evaluation.overall
    visible, hidden = overall.visible.count, overall.hidden.count
    print_table("percent", {"this run": evaluation.metrics}, decimals=2)
    print(f"{overall.images} images, {visible} visible and {hidden} hidden keypoints", end="")
    print(f", {evaluation.unlabelled} images without keypoints left out")
    print(f"\n{AS_PUBLISHED}")
    columns = {"this run": evaluation.published} | ({"card": card.values} if card else {})
    print_table("percent", columns, decimals=2)
    print_card(card)
