"""How far estimated keypoints are from the true ones. NumPy only.

Everywhere: estimates and truth are float arrays ``[N, 36, 3]`` of x, y (pixels) and confidence or
visibility. A true keypoint is visible from 0.5 on, else hidden. The place of a hidden one is known,
unless it is (0, 0), as annotation tools write what was not marked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .keypoints import (
    FRONT_REAR_KEYPOINTS,
    HALF_TURN_KEYPOINTS,
    KEYPOINT_GROUPS,
    MIRRORED_KEYPOINTS,
    NUM_KEYPOINTS,
    SEEN_FROM,
)

THRESHOLDS = (0.05, 0.1, 0.2)
# Of PAMTRI's evaluation, in units of its scale: what "Mean" and "Mean@0.1" allow.
_PUBLISHED = {"Mean": 0.5, "Mean@0.1": 0.11}
_PUBLISHED_SCALE = 0.25
_BINS = 10
_SWAP_REACH = 0.1
_COUNTERPARTS = {
    "left-right": MIRRORED_KEYPOINTS,
    "front-rear": FRONT_REAR_KEYPOINTS,
    "half turn": HALF_TURN_KEYPOINTS,
}
# Left and right together.
GROUPS = {
    name: (*group, *MIRRORED_KEYPOINTS[list(group)].tolist())
    for name, group in KEYPOINT_GROUPS.items()
}
OCTANTS = ("front", "front left", "left", "rear left", "rear", "rear right", "right", "front right")
UNCLEAR = -1
_LEFT = np.arange(NUM_KEYPOINTS // 2)
# Wheel, arch, bumper, boot and screen of the rear, on both sides.
_REAR = np.add.outer((0, NUM_KEYPOINTS // 2), (0, 6, 7, 8, 9, 10, 11, 12, 13)).ravel()
# How much farther apart keypoints of the two ends are than those of the two sides.
_LENGTH = 2


@dataclass(frozen=True)
class CalibrationBin:
    """Keypoints of about one confidence: its mean, the share that is right, and how many."""

    confidence: float
    right: float
    count: int


@dataclass(frozen=True, eq=False)
class KeypointErrors:
    """Distances of estimates from the truth, arrays ``[N, 36]``."""

    relative: np.ndarray  # float64, in units of the picture's longer side
    visible: np.ndarray  # bool
    hidden: np.ndarray  # bool; neither is where the true place is not known
    confidences: np.ndarray  # float64, the estimates'

    @classmethod
    def of(cls, estimates: np.ndarray, truth: np.ndarray, sides: np.ndarray) -> KeypointErrors:
        """``sides`` are the pictures' longer sides in pixels, ``[N]``."""
        distances = np.linalg.norm(estimates[..., :2] - truth[..., :2].astype(np.float64), axis=2)
        visible = _visible(truth)
        return cls(
            distances / np.asarray(sides)[:, None],
            visible,
            _placed(truth) & ~visible,
            estimates[..., 2].astype(np.float64),
        )

    def pck(self, threshold: float, chosen: np.ndarray | None = None) -> float:
        """Share of keypoints at most ``threshold`` away, 0..1, of the visible ones by default.

        Yang and Ramanan, Articulated Human Detection with Flexible Mixtures of Parts, PAMI 2013,
        with the longer side of the vehicle's box. NaN if none is chosen.
        """
        return _mean(self.relative[self.visible if chosen is None else chosen] <= threshold)

    def score(self, chosen: np.ndarray | None = None) -> dict[str, float]:
        """PCK at each of THRESHOLDS and NME, the mean distance, in percent.

        Of some keypoints, bool ``[N, 36]``; of the visible ones by default.
        """
        chosen = self.visible if chosen is None else chosen
        pck = {f"PCK@{one:g}": 100 * self.pck(one, chosen) for one in THRESHOLDS}
        return pck | {"NME": 100 * _mean(self.relative[chosen])}

    def by_image(self) -> np.ndarray:
        """The mean distance of each picture's visible keypoints: float64 ``[N]``, NaN without."""
        return _means(self.relative, self.visible, axis=1)

    def calibration(self, threshold: float, chosen: np.ndarray) -> list[CalibrationBin]:
        """How often keypoints of about one confidence are at most ``threshold`` away.

        Of some keypoints, bool ``[N, 36]``. Confidences count as 0 below and as 1 above.
        """
        confidences = np.clip(self.confidences[chosen], 0, 1)
        right = self.relative[chosen] <= threshold
        bins = np.minimum((confidences * _BINS).astype(int), _BINS - 1)
        groups = [bins == one for one in np.unique(bins)]
        return [
            CalibrationBin(float(confidences[g].mean()), float(right[g].mean()), int(g.sum()))
            for g in groups
        ]


def calibration_error(bins: Sequence[CalibrationBin]) -> float:
    """The expected calibration error, 0..1: how far confidence and share are apart, on average.

    Naeini et al., Obtaining Well Calibrated Probabilities Using Bayesian Binning, AAAI 2015. NaN
    without keypoints.
    """
    count = sum(one.count for one in bins)
    apart = sum(one.count * abs(one.right - one.confidence) for one in bins)
    return apart / count if count else float("nan")


def published_thresholds(count: int) -> dict[str, float]:
    """What :func:`published_metrics` allows for that many pictures, in pixels."""
    scale = _PUBLISHED_SCALE * float(np.sqrt(count))
    return {name: factor * scale for name, factor in _PUBLISHED.items()}


def published_metrics(estimates: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """The figures that both PAMTRI ports print, in percent, under their names.

    No PCK, though they are called so: the threshold is 4.07 (``Mean@0.1``: 0.895) pixels for each
    of 1,060 pictures, whatever their size, and grows with the square root of their number; the
    error has a third component, the confidence less the visibility. Kept as it is, to compare.
    Groups are plain means over their keypoints; NaN where one is visible in no picture.
    """
    thresholds = published_thresholds(len(estimates))
    visible = _visible(truth)
    stated = np.concatenate((truth[..., :2].astype(np.float64), visible[..., None]), axis=2)
    errors = np.linalg.norm(estimates - stated, axis=2)
    shares = _means(errors <= thresholds["Mean"], visible, axis=0)
    groups = {name: 100 * float(shares[list(group)].mean()) for name, group in GROUPS.items()}
    return groups | {name: 100 * _mean(errors[visible] <= at) for name, at in thresholds.items()}


def swap_shares(estimates: np.ndarray, truth: np.ndarray, sides: np.ndarray) -> dict[str, float]:
    """Share of visible keypoints, 0..1, that are found where their counterpart is.

    Their counterpart on the other side (``left-right``), at the other end (``front-rear``), or
    both (``half turn``). Such an estimate lies within a tenth of the longer side of its
    counterpart's true place, and not of its own. NaN if no keypoint is visible.
    """
    reach = _SWAP_REACH * np.asarray(sides)[:, None]
    visible, placed = _visible(truth), _placed(truth)
    places = truth[..., :2].astype(np.float64)

    def near(order: np.ndarray) -> np.ndarray:
        distances = np.linalg.norm(estimates[..., :2] - places[:, order], axis=2)
        return (distances <= reach) & placed[:, order]

    wrong = ~near(np.arange(NUM_KEYPOINTS))
    return {name: _mean((near(order) & wrong)[visible]) for name, order in _COUNTERPARTS.items()}


def octants(truth: np.ndarray) -> np.ndarray:
    """From where each vehicle is seen: int ``[N]``, places in OCTANTS; -1 where that is unclear.

    Told by how far apart in x left and right keypoints lie, and those of front and rear: seen from
    the front, what is left is on the right of the picture; seen from the left, the front is left.
    """
    x, placed = truth[..., 0].astype(np.float64), _placed(truth)

    def apart(these: np.ndarray, those: np.ndarray) -> np.ndarray:
        return _means(x[:, these] - x[:, those], placed[:, these] & placed[:, those], axis=1)

    across = apart(_LEFT, MIRRORED_KEYPOINTS[_LEFT])
    along = apart(_REAR, FRONT_REAR_KEYPOINTS[_REAR])
    clear = np.hypot(across, along) > 0
    angles = np.arctan2(along, _LENGTH * across, out=np.zeros_like(along), where=clear)
    return np.where(clear, np.round(angles / (np.pi / 4)).astype(int) % len(OCTANTS), UNCLEAR)


def _visible(truth: np.ndarray) -> np.ndarray:
    return truth[..., 2] >= SEEN_FROM


def _placed(truth: np.ndarray) -> np.ndarray:
    return _visible(truth) | (truth[..., :2] != 0).any(axis=2)


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else float("nan")


def _means(values: np.ndarray, chosen: np.ndarray, axis: int) -> np.ndarray:
    """Means of the chosen values, NaN where there are none."""
    counts = chosen.sum(axis)
    sums = np.where(chosen, values, 0).sum(axis)
    return np.divide(sums, counts, out=np.full(counts.shape, np.nan), where=counts > 0)
