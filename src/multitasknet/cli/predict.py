"""``predict``: colour, type and embedding of vehicle crops."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .options import (
    ENGINE,
    IMAGES,
    NOTHING_READ,
    add_command,
    add_options,
    add_predictor_options,
    box_of,
    boxes_in,
    images_of,
    make_predictor,
    print_error,
    print_json,
)

if TYPE_CHECKING:
    from ..inference.prediction import Prediction

_SHOWN = 3
_POSES = {
    "given": "36 keypoints, given",
    "estimated": "36 keypoints, estimated, mean confidence {0.confidence:.2f}",
    "neutral": "missing: a neutral one was taken",
}


def add_parsers(commands: Any) -> None:
    predict = add_command(
        commands,
        "predict",
        _predict,
        "predict colour, type and embedding",
        example="assets/example.jpg",
    )
    predict.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help=IMAGES)
    add_options(predict, "--labels", "--boxes", "--json")
    add_predictor_options(predict, *ENGINE)


def _predict(options: argparse.Namespace) -> int:
    images = images_of(options.images)
    sources: Iterable[Any] = images
    keypoints, boxes = None, boxes_in(options, images) if options.boxes else None
    if boxes:
        from ..data.boxes import open_crops

        sources = open_crops(boxes)
    elif options.labels:
        from ..data.labels import keypoints_of

        keypoints = keypoints_of(images, options.labels)
    predictor = make_predictor(options)
    if not options.json:
        spec, engine = predictor.spec, predictor.engine
        print(f"network    {spec.network}, {spec.variant}")
        print(f"engine     {engine.name}, {engine.precision}")
        print(f"weights    {engine.source or 'none: random values, what follows means nothing'}")
    code = NOTHING_READ
    for prediction in predictor.stream(sources, keypoints, skip=print_error):
        code = 0
        if options.json:
            print_json([prediction.as_json() | box_of(boxes, prediction.index)])
        else:
            print_prediction(prediction, with_pose=predictor.spec.uses_pose)
    return code


def print_prediction(prediction: Prediction, *, with_pose: bool = True) -> None:
    """One image's prediction, for people."""
    print(f"\n{prediction.source}{prediction.doubt}")
    for name, scores in (
        ("colour", prediction.color_probabilities),
        ("type", prediction.type_probabilities),
    ):
        if scores:
            best = list(scores.items())[:_SHOWN]
            print(f"  {name:9}" + ", ".join(f"{label} {score:.2f}" for label, score in best))
    embedding = prediction.embedding
    print(f"  embedding {embedding.size} values, norm {(embedding**2).sum() ** 0.5:.4g}")
    if with_pose:
        print(f"  pose      {_POSES[prediction.pose.origin].format(prediction.pose)}")
