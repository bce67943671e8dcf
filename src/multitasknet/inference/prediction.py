"""What is predicted of one image, and what made its embedding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..vehicle.pose import Pose


@dataclass(frozen=True, eq=False)
class Prediction:
    """The network's results for one image.

    Attributes:
        source: the image's path, or ``image <index>``.
        color_probabilities, type_probabilities: the classes' softmax probabilities, 0..1,
            likeliest first; empty if the network has no such head.
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
    color_probabilities: dict[str, float]
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
    def color(self) -> str | None:
        """The likeliest class; None if the network has no such head."""
        return next(iter(self.color_probabilities), None)

    @property
    def color_probability(self) -> float | None:
        return next(iter(self.color_probabilities.values()), None)

    @property
    def type(self) -> str | None:
        """As :attr:`color`."""
        return next(iter(self.type_probabilities), None)

    @property
    def type_probability(self) -> float | None:
        return next(iter(self.type_probabilities.values()), None)

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
            "pose_given": self.pose.origin == "given",
            "pose": {
                "origin": self.pose.origin,
                "confidence": self.pose.confidence,
                "keypoints": self.pose.keypoints.tolist(),
            },
            "embedding": self.embedding.tolist(),
        }


def likeliest(logits: np.ndarray, names: tuple[str, ...]) -> dict[str, float]:
    """The softmax probabilities of classes, likeliest first."""
    weights = np.exp(logits.astype(np.float64) - logits.max())
    probabilities = weights / weights.sum()
    order = np.argsort(-probabilities, kind="stable")
    return {names[index]: float(probabilities[index]) for index in order}


@dataclass(frozen=True)
class EmbeddingOrigin:
    """What made embeddings; only those of one origin can be compared.

    Attributes:
        weights_sha256: of the weights file, or of the values if they are no file's.
        variant: the network's input variant.
        input_size: height and width that images were brought to.
        precision: that the network ran in, ``float32``, ``bfloat16``, ``float16`` or ``int8``.
        preprocessing: version of what makes the network's inputs.
        distance: ``cosine`` if the embeddings have the length 1, else ``euclidean``.
    """

    weights_sha256: str
    variant: str
    input_size: tuple[int, int]
    precision: str = "float32"
    preprocessing: int = 1
    distance: str = "euclidean"

    def differences(self, expected: EmbeddingOrigin) -> str:
        """What is not as expected, for people."""
        return "; ".join(
            f"{name} {value}, not {getattr(expected, name)}"
            for name, value in vars(self).items()
            if value != getattr(expected, name)
        )
