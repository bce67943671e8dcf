"""Images as vehicles: linked across cameras, or grouped by distance alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike

from ..errors import GalleryError
from ..ranking.distances import check_integers, squared_distances

# Of one vehicle's images, in units of the distance that makes a pair.
SPREAD = 1.5
# Of a complete linkage, which holds all pairs of distances.
MOST_GROUPED = 20_000


def complete_linkage(embeddings: np.ndarray, max_distance: float) -> np.ndarray:
    """Group images so that no two of a group are further apart than a squared distance.

    Complete linkage: the two groups are joined, again and again, whose furthest images are nearest.

    Args:
        embeddings: float32 ``[N, D]``.

    Returns:
        int64 ``[N]``, the group of each image, from 0 in the order of their first images.

    Raises:
        GalleryError: more than 20,000 images, whose pairs do not fit in memory.
    """
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    if len(embeddings) > MOST_GROUPED:
        raise GalleryError(
            f"{len(embeddings):,} images; all pairs of at most {MOST_GROUPED:,} are compared: "
            f"group a part of them, or use 'gallery link'"
        )
    if len(embeddings) < 2:
        return np.zeros(len(embeddings), np.int64)
    distances = squared_distances(embeddings, embeddings)
    tree = linkage(squareform(distances, checks=False), "complete")
    return _numbered(fcluster(tree, max_distance, "distance").tolist())


def link(
    embeddings: np.ndarray,
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
        embeddings: ``[N, D]``, which tell how far any two images are apart.
        neighbors: rows of each image's neighbours, int64 ``[N, K]``, nearest first; -1 for none.
        distances: theirs, ``[N, K]``.
        cameras: integers ``[N]``, -1 where unknown.
        times: seconds ``[N]``, NaN where unknown.
        max_distance: squared Euclidean; images further apart are not a pair.
        window: seconds; images of one camera that are less apart in time show two vehicles.

    Returns:
        int64 ``[N]``, the group of each image, from 0 in the order of their first images.
    """
    places = check_integers("cameras", cameras, len(neighbors), "image")
    moments = np.asarray(times, dtype=np.float64)
    groups = _Groups(embeddings, places, moments, window, SPREAD * max_distance)
    for first, second in _mutual(neighbors, distances, places, max_distance):
        groups.join(first, second)
    return groups.labels()


def _numbered(groups: Sequence[int]) -> np.ndarray:
    numbers: dict[int, int] = {}
    return np.array([numbers.setdefault(one, len(numbers)) for one in groups], np.int64)


def _mutual(
    neighbors: np.ndarray, distances: np.ndarray, cameras: np.ndarray, max_distance: float
) -> Iterator[tuple[int, int]]:
    """Pairs of which each is the nearest of its camera's to the other, nearest first."""
    nearest: dict[tuple[int, int], float] = {}
    for row, (others, far) in enumerate(zip(neighbors, distances, strict=True)):
        near = (others >= 0) & (others != row) & (far <= max_distance)
        seen: set[int] = set()
        for other, distance in zip(others[near].tolist(), far[near].tolist(), strict=True):
            # Of images without a camera each counts for itself.
            camera = int(cameras[other])
            if camera in seen and camera >= 0:
                continue
            seen.add(camera)
            nearest[row, other] = distance
    mutual = [
        (distance, row, other)
        for (row, other), distance in nearest.items()
        if row < other and (other, row) in nearest
    ]
    yield from ((row, other) for _, row, other in sorted(mutual))


class _Groups:
    """Groups of images that were joined, as lists of rows."""

    def __init__(
        self,
        embeddings: np.ndarray,
        cameras: np.ndarray,
        times: np.ndarray,
        window: float,
        limit: float,
    ) -> None:
        self._embeddings, self._limit = embeddings, limit
        self._cameras, self._times, self._window = cameras, times, window
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
        return _numbered(self._group)

    def _fit(self, a: list[int], b: list[int]) -> bool:
        return not (self._clash(a, b) or self._too_far(a, b))

    def _too_far(self, a: list[int], b: list[int]) -> bool:
        far = squared_distances(self._embeddings[a], self._embeddings[b])
        return bool((far > self._limit).any())

    def _clash(self, a: list[int], b: list[int]) -> bool:
        same = self._cameras[a][:, None] == self._cameras[b]
        known = self._cameras[a][:, None] >= 0
        apart = np.abs(self._times[a][:, None] - self._times[b])
        return bool((same & known & (apart < self._window)).any())
