"""``predict``: colour, type and embedding of images."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .options import add_json, add_network_options, check_images, make_predictor, print_json

if TYPE_CHECKING:
    from ..inference.predictor import Predictor
    from ..models.multitasknet.decoding import Prediction

_SHOWN = 3
_POSES = {
    "given": "36 keypoints, given",
    "estimated": "36 keypoints, estimated, mean confidence {0.confidence:.2f}",
    "neutral": "missing: a neutral one was taken",
}


def add_parsers(commands: Any) -> None:
    predict = commands.add_parser("predict", help="predict colour, type and embedding of images")
    predict.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="a vehicle crop")
    predict.add_argument("--labels", type=Path, help="PAMTRI label CSV with the images' keypoints")
    add_json(predict)
    add_network_options(predict, batch=8)
    predict.set_defaults(run=_predict)


def _predict(options: argparse.Namespace) -> None:
    check_images(options.images)
    from ..data.labels import keypoints_of

    keypoints = keypoints_of(options.images, options.labels)
    predictor = make_predictor(options)
    predictions = predictor.predict(options.images, keypoints)
    if options.json:
        print_json(map(_as_json, predictions))
        return
    _print_header(predictor)
    for prediction in predictions:
        _print(prediction)


def _print_header(predictor: Predictor) -> None:
    spec, engine = predictor.spec, predictor.engine
    print(f"network    {spec.variant}, {spec.channels} channels, run by {engine.name}")
    print(f"weights    {engine.source or 'none: random values, what follows means nothing'}")


def _print(prediction: Prediction) -> None:
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


def _as_json(prediction: Prediction) -> dict[str, Any]:
    return {
        "image": prediction.source,
        "color": prediction.color,
        "color_probabilities": prediction.color_probabilities,
        "type": prediction.type,
        "type_probabilities": prediction.type_probabilities,
        "pose_given": prediction.pose_given,
        "pose": {
            "origin": prediction.pose.origin,
            "confidence": prediction.pose.confidence,
            "keypoints": prediction.pose.keypoints.tolist(),
        },
        "embedding": prediction.embedding.tolist(),
    }
