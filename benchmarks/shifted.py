"""Pictures as a poor camera at dusk would have taken them: two fifths of the size, dark, tinted,
noisy, JPEG 20; and what pose networks find on pictures. For the other scripts here.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np

from multitasknet import PoseEstimator
from multitasknet.images import encode_jpeg, picture_of, read_image
from multitasknet.vehicle.keypoint_metrics import KeypointErrors
from multitasknet.vehicle.keypoints import HALF_TURN_KEYPOINTS, SEEN_FROM


class Shifted:
    """Reads a picture as a poor camera at dusk would have taken it."""

    def __init__(self) -> None:
        self._rng = np.random.default_rng(0)

    def __call__(self, image: Path) -> np.ndarray:
        return self.change(read_image(image))

    def change(self, pixels: np.ndarray) -> np.ndarray:
        height, width = pixels.shape[:2]
        small = cv2.resize(pixels, (width * 2 // 5, height * 2 // 5), interpolation=cv2.INTER_AREA)
        gain = self._rng.uniform(0.5, 1.1, 3)
        dark = 255 * (small / 255) ** 1.5 * gain + self._rng.normal(0, 5, small.shape)
        coded = np.clip(dark, 0, 255).astype(np.uint8)
        large = cv2.resize(coded, (width, height), interpolation=cv2.INTER_CUBIC)
        return picture_of(encode_jpeg(large, 20), "small").decode()[0]


def shifted_copy(root: Path, target: Path) -> Path:
    """The data set once more, its pictures changed."""
    change = Shifted()
    for path in filter(Path.is_file, sorted(root.rglob("*"))):
        place = target / path.relative_to(root)
        place.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".jpg":
            place.write_bytes(encode_jpeg(change(path), 95))
        else:
            shutil.copyfile(path, place)
    return target


def measure(estimator: PoseEstimator, images: list[np.ndarray], truth: np.ndarray) -> list[float]:
    """Shares, 0..1, of visible points found, and of pictures that fit better turned round."""
    found = np.array([pose.keypoints for pose in estimator.estimate(images)])
    sides = np.array([max(image.shape[:2]) for image in images])
    errors = KeypointErrors.of(found, truth, sides)
    turned = half_turned(found, truth)
    return [*(errors.pck(reach) for reach in (0.05, 0.1, 0.2)), float(turned.mean())]


def half_turned(found: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Which poses fit better with front and rear, left and right exchanged: bool ``[N]``."""
    visible = truth[..., 2] >= SEEN_FROM
    own, other = (
        np.linalg.norm(found[..., :2] - places[..., :2], axis=2)
        for places in (truth, truth[:, HALF_TURN_KEYPOINTS])
    )
    return np.asarray(np.where(visible, other - own, 0).sum(1) < 0)
