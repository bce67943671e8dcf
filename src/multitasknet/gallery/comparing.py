"""How alike the vehicles of two images are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..images import ImageInput, open_picture
from ..inference.agreement import Part, agreement_as_json, hide_shared, parts_of
from ..ranking.distances import squared_distances

if TYPE_CHECKING:
    from ..inference.predictor import Prediction, Predictor


@dataclass(frozen=True, eq=False)
class Comparison:
    """Two images, and how alike their vehicles are.

    Attributes:
        first, second: the network's results for each.
        distance: squared Euclidean, of their embeddings.
        probability: that it is one vehicle, 0..1; None unless the user measured it.
        parts: what each surface of the vehicle contributes; empty where a pose is missing.
    """

    first: Prediction
    second: Prediction
    distance: float
    probability: float | None
    parts: tuple[Part, ...]

    def as_json(self) -> dict[str, Any]:
        """What the command gives as JSON."""
        found = {"distance": self.distance, "probability": self.probability}
        both = {"first": self.first.as_json(), "second": self.second.as_json()}
        return found | both | agreement_as_json(self.parts)


def compare(
    predictor: Predictor,
    first: ImageInput,
    second: ImageInput,
    *,
    keypoints: Sequence[np.ndarray | None] | None = None,
) -> Comparison:
    """Compare the vehicles of two images.

    Args:
        first, second: paths, Pillow images or uint8 arrays ``[H, W, 3]`` (RGB).
        keypoints: of both, as in :meth:`multitasknet.Predictor.predict`.

    Raises:
        ImageError: an image cannot be read.
        DataError: the network's values for it are not finite.
    """
    pictures = [
        open_picture(image, name=None if isinstance(image, str | Path) else f"image {place}")
        for place, image in enumerate((first, second))
    ]
    one, other = predictor.predict(pictures, keypoints)
    poses = one.pose, other.pose
    shown = predictor.embed(*hide_shared(pictures, poses, predictor.size))
    distance = float(squared_distances(one.embedding[None], other.embedding[None])[0, 0])
    probability = same_vehicle(predictor, distance)
    return Comparison(one, other, distance, probability, parts_of(poses, shown))


def same_vehicle(predictor: Predictor, distance: float) -> float | None:
    """The probability of one vehicle at a squared distance; None without a user's calibration."""
    calibration = predictor.calibration
    return None if calibration is None else float(calibration.probability(distance))
