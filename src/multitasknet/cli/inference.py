"""``predict``, ``evaluate`` and ``threshold``: what the network says of images."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .options import (
    SOURCE,
    add_batch_size,
    add_command,
    add_options,
    add_predictor_options,
    card_of,
    check_folder,
    check_images,
    make_predictor,
    print_card,
    print_json,
    print_table,
    share,
    weights_of,
)

if TYPE_CHECKING:
    from ..evaluation.results import CardMetrics, Evaluation
    from ..models.multitasknet.decoding import Prediction

_SHOWN = 3
_POSES = {
    "given": "36 keypoints, given",
    "estimated": "36 keypoints, estimated, mean confidence {0.confidence:.2f}",
    "neutral": "missing: a neutral one was taken",
}


def add_parsers(commands: Any) -> None:
    predict = add_command(commands, "predict", _predict, "predict colour, type and embedding")
    predict.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="a vehicle crop")
    add_options(predict, "--labels", "--json")
    add_predictor_options(predict)

    precision = add_command(
        commands, "precision", _precision, "say how fast each precision is, and how far off"
    )
    precision.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="a vehicle crop")
    precision.add_argument("--int8", type=Path, metavar="FILE", help="a file of 'quantize' as well")
    add_options(
        precision, "--labels", "--pose", *SOURCE, "--size", "--threads", "--optimize-for", "--json"
    )
    add_batch_size(precision)
    precision.set_defaults(variant=None, network=None)

    evaluate = add_command(commands, "evaluate", _evaluate, "measure mAP, Rank-k, colour and type")
    add_options(evaluate, "--data", "--allow-outside", "--json", "--workers")
    evaluate.add_argument("--rerank", action="store_true", help="k-reciprocal re-ranking as well")
    evaluate.add_argument(
        "--output", type=Path, metavar="DIR", help="for embeddings, metrics.json and report.html"
    )
    add_predictor_options(evaluate, batch=32)

    threshold = add_command(commands, "threshold", _threshold, "the distance at a false-match rate")
    add_options(threshold, "--data", "--allow-outside", "--json", "--workers")
    threshold.add_argument(
        "--false-match-rate", type=share, default=0.001, help="share of different pairs (0.001)"
    )
    threshold.add_argument(
        "--output", type=Path, metavar="DIR", help="the --output of evaluate, to reuse embeddings"
    )
    threshold.add_argument(
        "--save",
        action="store_true",
        help="keep what distances say in the weights' sidecar, for search, compare and serve",
    )
    threshold.add_argument(
        "--prior", type=share, default=0.5, help="with --save: share of same-vehicle pairs (0.5)"
    )
    add_predictor_options(threshold, batch=32)


def _predict(options: argparse.Namespace) -> None:
    check_images(options.images)
    from ..data.labels import keypoints_of

    keypoints = keypoints_of(options.images, options.labels)
    predictor = make_predictor(options)
    predictions = predictor.predict(options.images, keypoints)
    if options.json:
        print_json(prediction.as_json() for prediction in predictions)
        return
    spec, engine = predictor.spec, predictor.engine
    print(f"network    {spec.variant}, {spec.channels} channels")
    print(f"engine     run by {engine.name}, {engine.precision}")
    print(f"weights    {engine.source or 'none: random values, what follows means nothing'}")
    for prediction in predictions:
        print_prediction(prediction)


def print_prediction(prediction: Prediction) -> None:
    """What the network says of one image, for people."""
    print(f"\n{prediction.source}")
    for name, probabilities in (
        ("colour", prediction.color_probabilities),
        ("type", prediction.type_probabilities),
    ):
        if probabilities:
            best = list(probabilities.items())[:_SHOWN]
            print(f"  {name:9}" + ", ".join(f"{label} {value:.1%}" for label, value in best))
    embedding = prediction.embedding
    print(f"  embedding {embedding.size} values, norm {(embedding**2).sum() ** 0.5:.4g}")
    print(f"  pose      {_POSES[prediction.pose.origin].format(prediction.pose)}")


def _precision(options: argparse.Namespace) -> None:
    check_images(options.images)
    from ..data.labels import keypoints_of
    from ..inference.choice import runnable_precisions
    from ..inference.precision import precision_costs

    keypoints = keypoints_of(options.images, options.labels)
    ways = [(weights_of(options), one) for one in runnable_precisions()]
    if options.int8:
        ways.append((str(options.int8), "int8"))
    predictors = [
        make_predictor(argparse.Namespace(**vars(options) | {"weights": weights, "precision": one}))
        for weights, one in ways
    ]
    costs = precision_costs(predictors, options.images, keypoints)
    if options.json:
        print_json(map(asdict, costs))
        return
    row = "{:10}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}"
    print(row.format("", "engine", "images/s", "cosine", "least", "colour", "type", "keypoints"))
    for cost in costs:
        figures = f"{cost.images_per_second:.1f}", f"{cost.embedding_cosine:.5f}"
        shares = cost.color_agreement, cost.type_agreement, cost.shift
        least = f"{cost.least_cosine:.5f}"
        cells = *figures, least, *(f"{share:.2%}" for share in shares)
        print(row.format(cost.precision, cost.engine, *cells))
    print(
        "embeddings: cosine with those of float32, mean and least; colour and type: the same as in "
        "float32; keypoints: moved by this share of the longer side on average"
    )


def _evaluate(options: argparse.Namespace) -> None:
    from ..data.layouts import read_dataset
    from ..evaluation.report import write_evaluation_report
    from ..evaluation.results import card_metrics
    from ..evaluation.run import evaluate

    check_folder(options.output)
    dataset = read_dataset(options.data, ["query", "gallery"], allow_outside=options.allow_outside)
    predictor = make_predictor(options)
    card = card_metrics(card_of(options), predictor.engine.weights_sha256)
    evaluation = evaluate(
        predictor, dataset, rerank=options.rerank, output=options.output, workers=options.workers
    )
    report = options.output and options.output / "report.html"
    if report:  # before anything is printed, to a reader that may go
        write_evaluation_report(evaluation, dataset, report, card=card)
    if options.json:
        print_json([evaluation.as_json()])
    else:
        _print_metrics(evaluation, card)
    if not predictor.engine.source:
        print("multitasknet: the weights are random; these metrics mean nothing", file=sys.stderr)
    if report:
        stream = sys.stderr if options.json else sys.stdout
        print(f"\n{report}\n{options.output / 'metrics.json'}", file=stream)


def _print_metrics(evaluation: Evaluation, card: CardMetrics | None) -> None:
    columns = {"this run": evaluation.metrics}
    if evaluation.reranked:
        columns["re-ranked"] = evaluation.reranked_metrics
    if card:
        columns["card"] = card.values
    print_table("percent", columns, decimals=2)
    print_card(card)
    ranking = evaluation.ranking
    count = ranking.valid_queries
    print(f"{count} {'query' if count == 1 else 'queries'}", end="")
    print(f", {len(ranking.skipped_queries)} without a match left out")


def _threshold(options: argparse.Namespace) -> None:
    from ..data.layouts import read_dataset
    from ..evaluation.run import dataset_roc
    from ..ranking.calibration import Calibration
    from ..ranking.threshold import threshold_at
    from ..retrieval.comparing import calibrate, check_calibrates

    check_folder(options.output)
    dataset = read_dataset(options.data, ["query", "gallery"], allow_outside=options.allow_outside)
    predictor = make_predictor(options)
    if options.save:
        check_calibrates(predictor)
    roc = dataset_roc(predictor, dataset, output=options.output, workers=options.workers)
    chosen = threshold_at(roc, options.false_match_rate)
    saved = None
    if options.save:
        calibration = Calibration.of(
            roc, predictor.size, measured_on=options.data.resolve().name, prior=options.prior
        )
        saved = calibrate(predictor, calibration)
    if options.json:
        print_json([asdict(chosen)])
        return
    print(f"distance          {chosen.distance:.6g} (squared Euclidean; at most this is a match)")
    print(f"false-match rate  {chosen.false_match_rate:.3g} ({chosen.false_matches} pairs)")
    print(f"true-match rate   {chosen.true_match_rate:.3g}")
    print(f"measured on       {roc.positives:,} same-vehicle, {roc.negatives:,} different pairs")
    if saved:
        print(f"calibration       {saved} (prior {options.prior:g})")
