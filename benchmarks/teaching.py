"""What a small pose network learns from one generator's pictures, tried on another's.

    python benchmarks/teaching.py --weights first.pth now.pth --data EVEN REAL FIRST --shifted EVEN

Each file is trained by ``examples/train_vehiclepose.py --size 96 --steps 850`` on 3,600 pictures;
each folder's query and test parts are looked at, ``--shifted`` ones as a poor camera at dusk would
have taken them: two fifths of the size, dark, tinted, noisy, JPEG 20.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable
from itertools import chain
from pathlib import Path

import cv2
import numpy as np

from multitasknet import PoseEstimator, read_dataset
from multitasknet.images import encode_jpeg, picture_of, read_image
from multitasknet.vehicle.keypoint_metrics import KeypointErrors
from multitasknet.vehicle.keypoints import HALF_TURN_KEYPOINTS, SEEN_FROM

Change = Callable[[Path], np.ndarray]
COLUMNS = ("PCK@0.05", "PCK@0.1", "PCK@0.2", "half turns")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, nargs="+", required=True)
    parser.add_argument("--data", type=Path, nargs="+", default=[])
    parser.add_argument("--shifted", type=Path, nargs="+", default=[])
    parser.add_argument("--pictures", type=int, default=600, help="of each folder (600)")
    options = parser.parse_args()
    estimators = {path.stem: PoseEstimator(path) for path in options.weights}
    print(f"| data | weights | {' | '.join(COLUMNS)} |")
    print("| --- " * (2 + len(COLUMNS)) + "|")
    sets: list[tuple[Path, str, Change]] = [(root, root.name, read_image) for root in options.data]
    sets += [(root, f"{root.name}, shifted", Shifted()) for root in options.shifted]
    for root, name, change in sets:
        images, truth = load(root, change, options.pictures)
        for weights, estimator in estimators.items():
            shares = measure(estimator, images, truth)
            print(f"| {name} | {weights} | {' | '.join(f'{100 * one:.1f}' for one in shares)} |")


def load(root: Path, change: Change, count: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Pictures of the query and test parts, evenly from all, and their keypoints."""
    dataset = read_dataset(root, ("query", "gallery"), check=False)
    records = list(chain(dataset.query.records, dataset.gallery.records))
    chosen = records[:: max(len(records) // count, 1)][:count]
    return [change(record.image) for record in chosen], np.array([one.marked for one in chosen])


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


if __name__ == "__main__":
    main()
