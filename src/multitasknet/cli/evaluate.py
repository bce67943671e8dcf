"""``evaluate``, ``evaluate-pose``, ``calibrate`` and ``check-data``: measures on labelled data."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DataError
from .options import (
    ENGINE,
    add_command,
    add_options,
    add_pose_options,
    add_predictor_options,
    card_of,
    check_folder,
    given,
    make_pose_estimator,
    make_predictor,
    positive,
    print_json,
    print_rows,
    print_table,
)

if TYPE_CHECKING:
    from ..data.records import Split, VehicleDataset
    from ..evaluation.results import CardMetrics

_SPLITS = ("train", "query", "gallery")
_REPORT = "report.html"


def add_parsers(commands: Any) -> None:
    evaluate = add_command(
        commands,
        "evaluate",
        _evaluate,
        "measure mAP, Rank-k, colour and type",
        example="--data ROOT --weights tuned.ckpt --rerank --output out",
    )
    add_options(evaluate, "--data", "--center-cameras")
    evaluate.add_argument(
        "--protocol",
        choices=("veri", "cityflow", "vehicleid", "veriwild"),
        help="how to measure (the data set's own)",
    )
    evaluate.add_argument(
        "--test-size",
        type=positive,
        metavar="VEHICLES",
        help="which test set, of VehicleID and VERI-Wild (the smallest)",
    )
    evaluate.add_argument("--rerank", action="store_true", help="k-reciprocal re-ranking as well")
    _add_output(evaluate)
    add_predictor_options(evaluate, *ENGINE)

    pose = add_command(
        commands,
        "evaluate-pose",
        _evaluate_pose,
        "measure how near estimated keypoints are",
        example="--data ROOT --output out",
    )
    add_options(pose, "--data")
    pose.add_argument(
        "--split",
        nargs="+",
        choices=_SPLITS,
        help="which images (query and gallery; train if it is alone)",
    )
    _add_output(pose)
    add_pose_options(pose)

    calibrate = add_command(
        commands,
        "calibrate",
        _calibrate,
        "measure how likely hits are the same vehicle, and keep it in the weights' sidecar",
        example="--data ROOT --weights tuned.ckpt",
    )
    add_options(calibrate, "--data", "--json")
    calibrate.add_argument(
        "--vehicle-rows",
        type=positive,
        metavar="N",
        help="rows that your galleries have of one vehicle (as many as the data)",
    )
    add_predictor_options(calibrate)

    data = add_command(
        commands,
        "check-data",
        _check_data,
        "check every label and image of data sets, and count them",
        example="ROOT",
    )
    data.add_argument("data", type=Path, nargs="+", metavar="ROOT", help="a data set's folder")
    add_options(data, "--json")


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", type=Path, metavar="DIR", help="for metrics.json, report.html")


def _evaluate(options: argparse.Namespace) -> None:
    from ..evaluation.figures import part_columns
    from ..evaluation.report import write_evaluation_report
    from ..evaluation.results import card_metrics
    from ..evaluation.run import evaluate

    check_folder(options.output)
    dataset = _query_and_gallery(options)
    predictor = make_predictor(options)
    card = card_metrics(card_of(options), predictor.engine.weights_sha256, dataset.root)
    how = given(options, ("protocol", "rerank", "center_cameras", "output"))
    evaluation = evaluate(predictor, dataset, **how)
    if options.output:  # before anything is printed, to a reader that may go
        write_evaluation_report(evaluation, options.output / _REPORT, card=card)
    _print_percent(evaluation.columns, card)
    count, skipped = evaluation.ranking.valid_queries, len(evaluation.ranking.skipped_queries)
    queries = "query" if count == 1 else "queries"
    print(f"{count} {queries}, {skipped} without a match left out")
    print(evaluation.settings["protocol"])
    for reason in evaluation.settings["not_comparable"]:
        print(f"Not comparable with published figures: {reason}.")
    for title, parts in evaluation.breakdown.items():
        print()
        print_table(f"by {title}", part_columns(parts))
    if not predictor.engine.source:
        print("multitasknet: the weights are random; these metrics mean nothing", file=sys.stderr)
    _print_files(options.output)


def _evaluate_pose(options: argparse.Namespace) -> None:
    from ..data.layouts import read_dataset
    from ..evaluation.pose import AS_PUBLISHED, evaluate_pose
    from ..evaluation.report import write_pose_report
    from ..evaluation.results import card_metrics, data_name

    check_folder(options.output)
    dataset = read_dataset(options.data, options.split, check=False)
    estimator = make_pose_estimator(options)
    card = card_metrics(card_of(options), estimator.engine.weights_sha256, dataset.root)
    evaluation = evaluate_pose(estimator, dataset, splits=options.split, output=options.output)
    if options.output:
        write_pose_report(evaluation, options.output / _REPORT, card=card)
    data, overall = data_name(dataset.root), evaluation.overall
    _print_percent({data: evaluation.metrics}, card)
    print(
        f"{overall.images} images, {overall.visible['keypoints']} visible and "
        f"{overall.hidden['keypoints']} hidden keypoints, {evaluation.unlabelled} images without "
        f"keypoints left out\n\n{AS_PUBLISHED}"
    )
    _print_percent({data: evaluation.published}, card)
    _print_files(options.output)


def _print_percent(columns: Mapping[str, Mapping[str, Any]], card: CardMetrics | None) -> None:
    measured = next(iter(columns.values()))
    stated = {k: one for k, one in (card.values if card else {}).items() if k in measured}
    print_table("percent", {**columns, **({"card": stated} if stated else {})}, decimals=2)
    if card and stated:
        print(f"card: as the weights' card states it for {card.data}")


def _calibrate(options: argparse.Namespace) -> None:
    from ..evaluation.run import calibrate, keep_calibration

    dataset = _query_and_gallery(options)
    predictor = make_predictor(options)
    calibration = calibrate(predictor, dataset, vehicle_rows=options.vehicle_rows)
    sidecar, refused = None, None
    try:
        sidecar = keep_calibration(predictor, calibration)
    except DataError as error:
        refused = error
    print_rows(asdict(calibration) | {"sidecar": sidecar}, as_json=options.json)
    if refused:
        print(f"multitasknet: not kept: {refused}", file=sys.stderr)


def _check_data(options: argparse.Namespace) -> None:
    from ..data.layouts import read_dataset
    from ..data.records import warn_about

    for root in options.data:
        dataset = read_dataset(root)
        warn_about(dataset)
        about = {"data": str(root), "layout": dataset.layout, "protocol": dataset.protocol}
        counts = {split.name: _counts(split) for split in dataset.splits}
        if options.json:
            print_json(about | {"split": name} | one for name, one in counts.items())
            continue
        print(f"{root}: {dataset.layout}, evaluated by --protocol {dataset.protocol}")
        columns = {
            split: {name.replace("_", " "): count for name, count in one.items()}
            for split, one in counts.items()
        }
        print_table("", columns)


def _counts(split: Split) -> dict[str, int]:
    records = split.records
    return {
        "images": len(records),
        "vehicles": len({record.vehicle_id for record in records}),
        "cameras": len({record.camera_id for record in records} - {-1}),
        "unknown_camera": sum(record.camera_id == -1 for record in records),
        "colors": len({record.color_id for record in records} - {None}),
        "types": len({record.type_id for record in records} - {None}),
        "unknown_type": sum(record.type_id is None for record in records),
        "with_keypoints": sum(record.keypoints is not None for record in records),
        "stored_heatmaps": sum(record.heatmaps is not None for record in records),
        "stored_segments": sum(record.segments is not None for record in records),
        "tracks": len({record.track for record in records} - {None}),
        "with_time": sum(record.time is not None for record in records),
    }


def _query_and_gallery(options: argparse.Namespace) -> VehicleDataset:
    from ..data.layouts import read_dataset

    how = given(options, ("test_size",))
    return read_dataset(options.data, ["query", "gallery"], check=False, **how)


def _print_files(folder: Path | None) -> None:
    if folder:
        print("", folder / _REPORT, folder / "metrics.json", sep="\n")
