"""Images as vehicles, from each one's nearest neighbours; and how good such groups are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from .distances import check_integers

# Of one vehicle's images, in units of the distance that makes a pair.
_SPREAD = 1.5


@dataclass(frozen=True)
class LinkQuality:
    """How groups of images agree with the vehicles that they show.

    Attributes:
        precision, recall: of pairs of images in one group; 0 without any.
        id_f1: of images, under the best one-to-one matching of groups with vehicles (Ristani et
            al., "Performance Measures and a Data Set for Multi-Target, Multi-Camera Tracking",
            ECCVW 2016).
    """

    precision: float
    recall: float
    id_f1: float


def link(
    neighbors: np.ndarray,
    distances: np.ndarray,
    cameras: ArrayLike,
    times: ArrayLike,
    *,
    max_distance: float,
    window: float = 1.0,
) -> np.ndarray:
    """Group images that are mutual nearest neighbours, nearest pairs first.

    Two images are a pair if each is the nearest of its camera's to the other. A pair joins its
    groups unless one camera would have seen the vehicle twice within the window, or two images of
    it would be further apart than one and a half times the distance, which keeps chains of
    vehicles that look a little like the next one from becoming one.

    Args:
        neighbors: rows of each image's neighbours, int64 ``[N, K]``, nearest first; -1 for none.
        distances: theirs, ``[N, K]``.
        cameras: integers ``[N]``, -1 where unknown.
        times: seconds ``[N]``, NaN where unknown.
        max_distance: pairs further apart are none.
        window: seconds; images of one camera that are less apart in time show two vehicles.

    Returns:
        int64 ``[N]``, the group of each image, from 0 in the order of their first images.
    """
    places = check_integers("cameras", cameras, len(neighbors), "image")
    moments = np.asarray(times, dtype=np.float64)
    groups = _Groups(places, moments, window, _Spread(neighbors, distances, _SPREAD * max_distance))
    for first, second in _mutual(neighbors, distances, places, max_distance):
        groups.join(first, second)
    return groups.labels()


def link_quality(groups: ArrayLike, vehicles: ArrayLike) -> LinkQuality:
    """Compare groups with the truth: integers ``[N]`` each."""
    found = check_integers("groups", groups, np.size(groups), "image")
    truth = check_integers("vehicles", vehicles, len(found), "image")
    from scipy.optimize import linear_sum_assignment

    found, truth = (np.unique(one, return_inverse=True)[1] for one in (found, truth))
    shared = np.zeros((found.max() + 1, truth.max() + 1), dtype=np.int64)
    np.add.at(shared, (found, truth), 1)
    right, made, wanted = (
        _pairs(counts) for counts in (shared, shared.sum(axis=1), shared.sum(axis=0))
    )
    matched = shared[linear_sum_assignment(shared, maximize=True)].sum()
    return LinkQuality(
        precision=float(right / made) if made else 0.0,
        recall=float(right / wanted) if wanted else 0.0,
        id_f1=float(matched / len(found)),
    )


def link_by_looks(colors: Sequence[str], types: Sequence[str]) -> np.ndarray:
    """The baseline: all images of one colour and type are one vehicle, int64 ``[N]``."""
    looks = np.array([f"{color}\0{kind}" for color, kind in zip(colors, types, strict=True)])
    return np.unique(looks, return_inverse=True)[1]


def _pairs(counts: np.ndarray) -> int:
    return int((counts * (counts - 1) // 2).sum())


def _mutual(
    neighbors: np.ndarray, distances: np.ndarray, cameras: np.ndarray, max_distance: float
) -> Iterator[tuple[int, int]]:
    """Pairs of which each is the nearest of its camera's to the other, nearest first."""
    nearest: dict[tuple[int, int], float] = {}
    for row, (others, far) in enumerate(zip(neighbors, distances, strict=True)):
        near = others[(others >= 0) & (others != row) & (far <= max_distance)]
        seen: set[int] = set()
        for other in near.tolist():
            # Of images without a camera each counts for itself.
            camera = int(cameras[other])
            if camera in seen and camera >= 0:
                continue
            seen.add(camera)
            nearest[row, other] = float(far[others == other][0])
    mutual = [
        (distance, row, other)
        for (row, other), distance in nearest.items()
        if row < other and (other, row) in nearest
    ]
    yield from ((row, other) for _, row, other in sorted(mutual))


@dataclass(frozen=True, eq=False)
class _Spread:
    """Whether images are further apart than a limit, as far as their neighbours tell."""

    neighbors: np.ndarray
    distances: np.ndarray
    limit: float

    def exceeded(self, a: list[int], b: list[int]) -> bool:
        """If any image of ``a`` is too far from any of ``b``."""
        apart = np.minimum(self._among(a, b), self._among(b, a).T)
        # One that is nobody's neighbour is no nearer than the last neighbour of either.
        last = self.distances[:, -1]
        apart = np.where(np.isfinite(apart), apart, np.maximum(last[a][:, None], last[b]))
        return bool((apart > self.limit).any())

    def _among(self, a: list[int], b: list[int]) -> np.ndarray:
        """Distances ``[A, B]`` of those of ``b`` that are neighbours of ``a``, else infinite."""
        found = self.neighbors[a][:, :, None] == np.array(b)
        return np.where(found, self.distances[a][:, :, None], np.inf).min(axis=1)


class _Groups:
    """Groups of images that were joined, as lists of rows."""

    def __init__(
        self, cameras: np.ndarray, times: np.ndarray, window: float, spread: _Spread
    ) -> None:
        self._cameras, self._times, self._window = cameras, times, window
        self._spread = spread
        self._members = {row: [row] for row in range(len(cameras))}
        self._group = list(range(len(cameras)))

    def join(self, first: int, second: int) -> None:
        a, b = self._group[first], self._group[second]
        if a == b or not self._fit(self._members[a], self._members[b]):
            return
        if len(self._members[a]) < len(self._members[b]):
            a, b = b, a
        for row in self._members[b]:
            self._group[row] = a
        self._members[a] += self._members.pop(b)

    def labels(self) -> np.ndarray:
        numbers: dict[int, int] = {}
        return np.array([numbers.setdefault(one, len(numbers)) for one in self._group], np.int64)

    def _fit(self, a: list[int], b: list[int]) -> bool:
        return not (self._clash(a, b) or self._spread.exceeded(a, b))

    def _clash(self, a: list[int], b: list[int]) -> bool:
        same = self._cameras[a][:, None] == self._cameras[b]
        known = self._cameras[a][:, None] >= 0
        apart = np.abs(self._times[a][:, None] - self._times[b])
        return bool((same & known & (apart < self._window)).any())
