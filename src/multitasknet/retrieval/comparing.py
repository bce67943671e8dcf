"""Whether two images show one vehicle, and what distances between images say of that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DataError
from ..files import check_output
from ..images import ImageInput
from ..ranking.calibration import Calibration, save_calibration
from ..ranking.distances import squared_distances
from ..weights.sidecar import sidecar_path

if TYPE_CHECKING:
    from ..inference.predictor import Prediction, Predictor


@dataclass(frozen=True, eq=False)
class Comparison:
    """Two images, and how alike their vehicles are.

    Attributes:
        first, second: what the network says of each.
        distance: squared Euclidean, of their embeddings.
        probability: that it is one vehicle, 0..1; None where the weights are not calibrated.
    """

    first: Prediction
    second: Prediction
    distance: float
    probability: float | None

    def as_json(self) -> dict[str, Any]:
        """What is printed and sent of it, as JSON takes it."""
        return {
            "distance": self.distance,
            "probability": self.probability,
            "first": self.first.as_json(),
            "second": self.second.as_json(),
        }


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
        DataError: the network gives no numbers for it.
    """
    return compared(predictor, *predictor.predict([first, second], keypoints))


def compared(predictor: Predictor, first: Prediction, second: Prediction) -> Comparison:
    """:func:`compare` for what the predictor has said already."""
    distance = squared_distances(first.embedding[None], second.embedding[None])[0, 0]
    return Comparison(first, second, float(distance), same_vehicle(predictor, distance))


def same_vehicle(predictor: Predictor, distance: float) -> float | None:
    """The probability of one vehicle at a squared distance; None if there is no calibration."""
    calibration = predictor.calibration
    return None if calibration is None else float(calibration.probability(distance))


def check_calibrates(predictor: Predictor) -> Path:
    """The file whose sidecar can hold a calibration; DataError, OutputError."""
    path = predictor.weights_file
    if path is None or not predictor.weights_are_own or path.suffix == ".onnx":
        raise DataError(
            f"{path or 'random weights'}: there is no sidecar to write to that is yours; give "
            f"--weights a checkpoint, such as a copy of this one with its sidecar"
        )
    check_output(sidecar_path(path))
    return path


def calibrate(predictor: Predictor, calibration: Calibration) -> Path:
    """Write a calibration into the sidecar of the predictor's weights; errors as above."""
    return save_calibration(check_calibrates(predictor), predictor.spec, calibration)
