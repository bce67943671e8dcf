"""Images as vehicles: linked across cameras, or grouped by distance alone."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike
from pyarrow import csv

from ..errors import GalleryError
from ..files import replacing
from ..ranking.distances import check_integers, squared_distances

# Of one vehicle's images, in units of the distance that makes a pair.
SPREAD = 1.5
# Of a complete linkage, which holds all pairs of distances.
MOST_GROUPED = 20_000


@dataclass(frozen=True, eq=False)
class Groups:
    """Rows as vehicles.

    Attributes:
        images: of the rows.
        vehicles: int64 ``[N]``, the vehicle of each, from 0 in the order of their first rows.
        max_distance: squared Euclidean, of a pair.
    """

    images: tuple[Path, ...]
    vehicles: np.ndarray
    max_distance: float

    @property
    def counts(self) -> dict[str, float]:
        """How many crops and vehicles there are, and vehicles with several crops."""
        sizes = np.bincount(self.vehicles)
        return {
            "crops": len(self.vehicles),
            "vehicles": len(sizes),
            "with several crops": int((sizes > 1).sum()),
            "max distance": float(f"{self.max_distance:.4g}"),
        }

    def write(self, path: Path) -> Path:
        """Write a CSV with the columns ``image`` and ``vehicle``; OutputError."""
        with replacing(path) as part:
            csv.write_csv(
                pa.table({"image": list(map(str, self.images)), "vehicle": self.vehicles}), part
            )
        return path


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
        embeddings: ``[N, D]``, whose distances are compared.
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

    def clash(a: list[int], b: list[int]) -> bool:
        same = (places[a][:, None] == places[b]) & (places[b] >= 0)
        apart = np.abs(moments[a][:, None] - moments[b])
        return bool((same & (apart < window)).any())

    def too_far(a: list[int], b: list[int]) -> bool:
        far = squared_distances(embeddings[a], embeddings[b])
        return bool((far > SPREAD * max_distance).any())

    # Images of one group share a list of its rows.
    groups = [[row] for row in range(len(places))]
    for first, second in _mutual(neighbors, distances, places, max_distance):
        small, large = sorted((groups[first], groups[second]), key=len)
        if small is large or clash(small, large) or too_far(small, large):
            continue
        large += small
        for row in small:
            groups[row] = large
    return _numbered(map(id, groups))


def _numbered(groups: Iterable[Hashable]) -> np.ndarray:
    numbers: dict[Hashable, int] = {}
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
