"""How far estimated keypoints are from the true ones. NumPy only.

Everywhere: estimates and truth are float arrays ``[N, 36, 3]`` of x, y (pixels) and confidence or
visibility; a true keypoint is visible from 0.5 on, else it is hidden, but its place is known.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..vehicle.keypoints import FRONT_REAR_KEYPOINTS, KEYPOINT_GROUPS, MIRRORED_KEYPOINTS, SEEN_FROM

THRESHOLDS = (0.05, 0.1, 0.2)
# Of PAMTRI's evaluation, in units of its scale: what "Mean" and "Mean@0.1" allow.
_PUBLISHED = {"Mean": 0.5, "Mean@0.1": 0.11}
_PUBLISHED_SCALE = 0.25
_BINS = 10
_SWAP_REACH = 0.1


@dataclass(frozen=True, eq=False)
class KeypointErrors:
    """Distances of estimates from the truth.

    Attributes:
        relative: float64 ``[N, 36]``, in units of the picture's longer side.
        visible: bool ``[N, 36]``.
        confidences: float64 ``[N, 36]``, the estimates'.
    """

    relative: np.ndarray
    visible: np.ndarray
    confidences: np.ndarray

    @classmethod
    def of(cls, estimates: np.ndarray, truth: np.ndarray, sides: np.ndarray) -> KeypointErrors:
        """``sides`` are the pictures' longer sides in pixels, ``[N]``."""
        distances = np.linalg.norm(estimates[..., :2] - truth[..., :2].astype(np.float64), axis=2)
        return cls(
            distances / np.asarray(sides)[:, None],
            truth[..., 2] >= SEEN_FROM,
            estimates[..., 2].astype(np.float64),
        )

    def pck(self, threshold: float, chosen: np.ndarray | None = None) -> float:
        """Share of keypoints at most ``threshold`` away, 0..1; of the visible ones by default.

        Yang and Ramanan, Articulated Human Detection with Flexible Mixtures of Parts, PAMI 2013,
        with the longer side of the vehicle's box. NaN if none is chosen.
        """
        chosen = self.visible if chosen is None else chosen
        return float((self.relative[chosen] <= threshold).mean()) if chosen.any() else float("nan")

    def nme(self, chosen: np.ndarray | None = None) -> float:
        """The mean distance in units of the longer side; arguments and NaN as in :meth:`pck`."""
        chosen = self.visible if chosen is None else chosen
        return float(self.relative[chosen].mean()) if chosen.any() else float("nan")

    def by_group(self, threshold: float) -> dict[str, float]:
        """:meth:`pck` of each group's visible keypoints."""
        return {name: self.pck(threshold, self._of(group)) for name, group in _GROUPS.items()}

    def _of(self, group: tuple[int, ...]) -> np.ndarray:
        chosen = np.zeros_like(self.visible)
        chosen[:, group] = self.visible[:, group]
        return chosen

    def calibration(self, threshold: float) -> list[CalibrationBin]:
        """How often visible keypoints of about one confidence are at most ``threshold`` away."""
        confidences = np.clip(self.confidences[self.visible], 0, 1)
        right = self.relative[self.visible] <= threshold
        bins = np.minimum((confidences * _BINS).astype(int), _BINS - 1)
        return [
            CalibrationBin(
                float(confidences[bins == one].mean()),
                float(right[bins == one].mean()),
                int((bins == one).sum()),
            )
            for one in np.unique(bins)
        ]


@dataclass(frozen=True)
class CalibrationBin:
    """Keypoints of about one confidence: its mean, the share that is right, and how many."""

    confidence: float
    right: float
    count: int


# Left and right together.
_GROUPS = {
    name: (*group, *(int(MIRRORED_KEYPOINTS[one]) for one in group))
    for name, group in KEYPOINT_GROUPS.items()
}


def published_metrics(estimates: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """The figures that both PAMTRI ports print, in percent, under their names.

    No PCK, though they are called so: the threshold is 4.07 (``Mean@0.1``: 0.895) pixels for each
    of 1,060 pictures, whatever their size, and grows with the square root of their number; the
    error has a third component, the confidence less the visibility. Kept as it is, to compare.
    Groups are plain means over their keypoints; NaN where one is visible in no picture.
    """
    scale = _PUBLISHED_SCALE * np.sqrt(len(estimates))
    errors = np.linalg.norm(estimates.astype(np.float64) - truth, axis=2)
    visible = truth[..., 2] >= SEEN_FROM
    near = (errors <= _PUBLISHED["Mean"] * scale) & visible
    counts = visible.sum(0)
    shares = np.divide(near.sum(0), counts, out=np.full(counts.shape, np.nan), where=counts > 0)
    metrics = {name: 100 * float(shares[list(group)].mean()) for name, group in _GROUPS.items()}
    for name, threshold in _PUBLISHED.items():
        within = errors[visible] <= threshold * scale
        metrics[name] = 100 * float(within.mean()) if within.size else float("nan")
    return metrics


def swap_shares(estimates: np.ndarray, truth: np.ndarray, sides: np.ndarray) -> Mapping[str, float]:
    """Share of visible keypoints found where their counterpart is: left-right and front-rear.

    Such an estimate lies within a tenth of the longer side of its counterpart's true place, and not
    of its own.
    """
    reach = _SWAP_REACH * np.asarray(sides)[:, None]
    visible = truth[..., 2] >= SEEN_FROM
    places = truth[..., :2].astype(np.float64)

    def near(order: np.ndarray) -> np.ndarray:
        return np.linalg.norm(estimates[..., :2] - places[:, order], axis=2) <= reach

    own = near(np.arange(places.shape[1]))
    return {
        name: float((near(order) & ~own)[visible].mean()) if visible.any() else float("nan")
        for name, order in (
            ("left-right", MIRRORED_KEYPOINTS),
            ("front-rear", FRONT_REAR_KEYPOINTS),
        )
    }


OCTANTS = (
    "front",
    "front left",
    "left",
    "rear left",
    "rear",
    "rear right",
    "right",
    "front right",
)
_FRONT, _REAR = (16, 17, 34, 35), (10, 11, 28, 29)
_LEFT, _RIGHT = tuple(range(10)), tuple(range(18, 28))


def octants(truth: np.ndarray) -> np.ndarray:
    """From where each vehicle is seen, as its visible keypoints tell: int ``[N]`` in OCTANTS."""
    visible = truth[..., 2] >= SEEN_FROM
    front, rear, left, right = (
        visible[:, group].mean(1) for group in (_FRONT, _REAR, _LEFT, _RIGHT)
    )
    angles = np.arctan2(left - right, front - rear)
    return np.round(angles / (np.pi / 4)).astype(int) % len(OCTANTS)
