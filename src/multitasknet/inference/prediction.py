"""From an embedding network's outputs to a prediction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..models.embedding import EmbeddingSpec
from ..vehicle.pose import Pose


@dataclass(frozen=True, eq=False)
class Prediction:
    """The network's results for one image.

    Attributes:
        source: the image's path, or ``image <index>``.
        color, type: the likeliest class; None if the network has no such head.
        color_probability, type_probability: its softmax probability, 0..1.
        color_probabilities, type_probabilities: all classes, likeliest first.
        embedding: float32 ``[D]``; compare by squared Euclidean distance.
        pose: the keypoints that it was predicted with, and whether they were given with the image,
            estimated, or neutral.
        index: its place in what was predicted, from 0.
        sha256: of the image's bytes.
        width, height: of the image, upright.
        quality: the probability that it shows one whole vehicle, 0..1; 0 if it is too small or too
            dark. Without a pose that VehiclePose estimated (``pose="none"``, given keypoints,
            weights without a quality head) only these two are known, and it is 1 otherwise.
        reason: what is wrong with it, where the quality is below 0.5: ``no vehicle``,
            ``several vehicles``, ``cut off``, ``too small``, ``too dark``; else None. What is
            predicted, and distances, mean little then.
    """

    source: str
    color: str | None
    color_probability: float | None
    color_probabilities: dict[str, float]
    type: str | None
    type_probability: float | None
    type_probabilities: dict[str, float]
    embedding: np.ndarray
    pose: Pose
    index: int = 0
    sha256: str = ""
    width: int = 0
    height: int = 0
    quality: float = 1.0
    reason: str | None = None

    @property
    def pose_given(self) -> bool:
        """Whether keypoints were given for the image."""
        return self.pose.origin == "given"

    @property
    def doubt(self) -> str:
        """What is wrong with a picture of low quality, to follow its name; empty if nothing is."""
        if self.reason is None:
            return ""
        return f": {self.reason} (quality {self.quality:.2f}), what follows means little"

    def as_json(self) -> dict[str, Any]:
        """What is printed and sent of it, as JSON takes it."""
        return {
            "image": self.source,
            "quality": self.quality,
            "reason": self.reason,
            "color": self.color,
            "color_probabilities": self.color_probabilities,
            "type": self.type,
            "type_probabilities": self.type_probabilities,
            "pose_given": self.pose_given,
            "pose": {
                "origin": self.pose.origin,
                "confidence": self.pose.confidence,
                "keypoints": self.pose.keypoints.tolist(),
            },
            "embedding": self.embedding.tolist(),
        }


def decode(
    row: Mapping[str, np.ndarray], spec: EmbeddingSpec, *, source: str, pose: Pose, **facts: Any
) -> Prediction:
    """One image's outputs by name, without the batch, as a :class:`Prediction`.

    ``facts`` are its fields that are known of the image: index, sha256, width, height, quality
    and reason.
    """
    colors = _ranked(row["color_logits"], spec.color_names) if spec.has_attributes else {}
    types = _ranked(row["type_logits"], spec.type_names) if spec.has_attributes else {}
    return Prediction(
        source=source,
        color=next(iter(colors), None),
        color_probability=next(iter(colors.values()), None),
        color_probabilities=colors,
        type=next(iter(types), None),
        type_probability=next(iter(types.values()), None),
        type_probabilities=types,
        embedding=row["embedding"],
        pose=pose,
        **facts,
    )


def _ranked(logits: np.ndarray, names: tuple[str, ...]) -> dict[str, float]:
    weights = np.exp(logits.astype(np.float64) - logits.max())
    probabilities = weights / weights.sum()
    order = np.argsort(-probabilities, kind="stable")
    return {names[index]: float(probabilities[index]) for index in order}
