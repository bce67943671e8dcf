"""``predict`` and ``precision``: what the network finds in images."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .options import (
    SOURCE,
    add_batch_size,
    add_command,
    add_options,
    add_predictor_options,
    check_images,
    make_predictor,
    print_json,
    weights_of,
)

if TYPE_CHECKING:
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
