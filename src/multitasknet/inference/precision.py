"""What each precision costs on pictures: how fast it is, and how far its answers are off."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..images import ImageInput, read_image
from .predictor import Predictor


@dataclass(frozen=True)
class PrecisionCost:
    """A predictor, compared with another one on the same pictures.

    Attributes:
        precision, engine: of the identity network.
        images_per_second: from pictures to predictions, pose network included, in a second run.
        embedding_cosine, least_cosine: between a picture's two embeddings: mean, and the least.
        color_agreement, type_agreement: share of pictures with the same likeliest class.
        shift: the keypoints' mean distance, in units of the picture's longer side; 0 where they
            are given.
    """

    precision: str
    engine: str
    images_per_second: float
    embedding_cosine: float
    least_cosine: float
    color_agreement: float
    type_agreement: float
    shift: float


def precision_costs(
    predictors: Sequence[Predictor],
    images: Sequence[ImageInput],
    keypoints: Sequence[np.ndarray | None] | None = None,
) -> list[PrecisionCost]:
    """Compare predictors with the first of them; arguments as in :meth:`.Predictor.predict`."""
    sides = np.array([max(read_image(image).shape[:2]) for image in images])
    costs: list[PrecisionCost] = []
    exact: list[Any] = []
    for predictor in predictors:
        predictor.predict(images, keypoints)  # the first run warms up
        start = time.perf_counter()
        found = predictor.predict(images, keypoints)
        seconds = time.perf_counter() - start
        exact = exact or found
        pairs = list(zip(found, exact, strict=True))
        near = cosines(*(np.stack([one.embedding for one in some]) for some in (found, exact)))
        moved = [
            np.linalg.norm((one.pose.keypoints - other.pose.keypoints)[:, :2], axis=1).mean()
            for one, other in pairs
        ]
        costs.append(
            PrecisionCost(
                precision=predictor.engine.precision,
                engine=predictor.engine.name,
                images_per_second=len(images) / seconds,
                embedding_cosine=float(near.mean()),
                least_cosine=float(near.min()),
                color_agreement=float(np.mean([one.color == other.color for one, other in pairs])),
                type_agreement=float(np.mean([one.type == other.type for one, other in pairs])),
                shift=float(np.mean(moved / sides)),
            )
        )
    return costs


def cosines(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The cosine between each row of one array and that row of the other, ``[N]``."""
    norms = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return (one * other).sum(axis=1) / np.maximum(norms, np.finfo(np.float32).tiny)
