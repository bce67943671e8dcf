"""Images as vehicles: linked across cameras, or grouped by distance alone."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from ..data.boxes import CORNERS
from ..errors import GalleryError
from ..files import replacing
from ..images import Corners
from ..ranking.distances import squared_distances
from ..vehicle.cameras import UNKNOWN_CAMERA, same_camera
from .store import with_corners

logger = logging.getLogger(__name__)

# From one camera to another, by their names.
Way: TypeAlias = "tuple[str, str]"

# Of one vehicle's images, in units of the distance that makes a pair.
SPREAD = 1.5
# Of a complete linkage, which holds all pairs of distances.
MOST_GROUPED = 20_000
# Seconds: tracks of one camera may follow each other at once.
_MOMENT = 1e-6
# Travel times that are learned: of so many vehicles, and how far from the median they may be, in
# spreads, of which each is at least this share of the median; of so many vehicles twice as far.
_FEWEST, _SPREADS, _LEAST_SPREAD, _UNSURE = 5, 3, 0.1, 10


@dataclass(frozen=True, eq=False)
class Groups:
    """Rows as vehicles."""

    images: tuple[Path, ...]
    vehicles: np.ndarray  # int64 ``[N]``, from 0 in the order of their first rows
    max_distance: float  # squared Euclidean, of a pair
    travel_times: Mapping[Way, Travel] = field(default_factory=dict)  # where they were learned
    boxes: tuple[Corners | None, ...] = ()  # in the images, None for the whole; empty if unknown

    @property
    def counts(self) -> dict[str, float]:
        """How many crops and vehicles there are, for people."""
        sizes = np.bincount(self.vehicles)
        return {
            "crops": len(self.vehicles),
            "vehicles": len(sizes),
            "with several crops": int((sizes > 1).sum()),
            "max distance": float(f"{self.max_distance:.4g}"),
        }

    def write(self, path: Path) -> Path:
        """Write a CSV with the columns ``image`` and ``vehicle``, and boxes if any; OutputError."""
        rows = pa.table({"image": list(map(str, self.images)), "vehicle": self.vehicles})
        if any(self.boxes):
            boxes = pa.array(self.boxes, pa.list_(pa.float32(), len(CORNERS)))
            rows = with_corners(rows.append_column("box", boxes))
        with replacing(path) as part:
            csv.write_csv(rows, part)
        return path


def complete_linkage(embeddings: np.ndarray, max_distance: float) -> np.ndarray:
    """Group images ``[N, D]`` so that no two of a group are further apart than a squared distance.

    int64 ``[N]``, from 0 in the order of their first images; GalleryError for more than 20,000.
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
    return numbered(fcluster(tree, max_distance, "distance").tolist())


@dataclass(frozen=True)
class Travel:
    """How long vehicles took from one camera's last moment to the next one's first, in seconds."""

    vehicles: int  # how many went there
    median: float
    spread: float  # 1.4826 times the median deviation: a normal distribution's standard one

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Travel:
        median = float(np.median(seconds))
        deviation = np.median(np.abs(np.subtract(seconds, median)))
        return cls(len(seconds), median, float(1.4826 * deviation))

    @property
    def bounds(self) -> tuple[float, float]:
        """The least and most seconds that a vehicle is believed to take."""
        reach = _SPREADS * max(self.spread, _LEAST_SPREAD * abs(self.median), 1.0)
        # Few vehicles tell the spread badly, and a bound that is too narrow parts what is one.
        reach *= 1 + _UNSURE / self.vehicles
        return self.median - reach, self.median + reach


@dataclass(frozen=True, eq=False)
class Sightings:
    """Where and when rows were seen, and so which of them cannot show one vehicle."""

    names: Sequence[str]  # of the cameras
    cameras: np.ndarray  # places in these ``[N]``, -1 where unknown
    # Seconds ``[N]``, NaN where unknown.
    first: np.ndarray
    last: np.ndarray
    # Seconds ``[N]``; two rows of one camera, from the end of the one to the start of the other,
    # are at least the smaller of their windows apart.
    window: np.ndarray
    tracks: np.ndarray  # integers ``[N]``; rows of one number show one vehicle
    pinned: np.ndarray  # integers ``[N]``, the vehicle that someone gave by hand, -1 for none
    # The least and most seconds from the last moment at one camera to the first at another.
    bounds: Mapping[Way, tuple[float, float]] = field(default_factory=dict)

    @classmethod
    def of(
        cls, rows: pa.Table, window: float, bounds: Mapping[Way, tuple[float, float]]
    ) -> Sightings:
        """Of a gallery's rows.

        A track's name is one of its camera's, or where that is unknown of its pictures' folder.
        """
        cameras, names = numbered_cameras(rows["camera"])
        if unknown := {name for way in bounds for name in way}.difference(names):
            logger.warning("travel times of cameras that no row has: %s", ", ".join(unknown))
        first, last = (
            _seconds(pc.coalesce(rows[name], rows["time"])) for name in ("first", "last")
        )
        of_track, keys = rows["track"].to_pylist(), list[Hashable]()
        for row, (camera, name) in enumerate(zip(cameras.tolist(), of_track, strict=True)):
            is_unknown = camera == UNKNOWN_CAMERA
            folder = Path(rows["image"][row].as_py()).parent if name and is_unknown else None
            keys.append((camera, folder, name) if name else row)
        tracks = numbered(keys)
        starts = np.full(len(tracks), np.nan)
        ends = starts.copy()
        np.fmin.at(starts, tracks, first)
        np.fmax.at(ends, tracks, last)
        return cls(
            names,
            cameras,
            starts[tracks],
            ends[tracks],
            window=np.array([_MOMENT if name else window for name in of_track]),
            tracks=tracks,
            pinned=rows["pinned"].fill_null(-1).to_numpy(),
            bounds={way: both for way, both in bounds.items() if not unknown.intersection(way)},
        )

    @cached_property
    def _limits(self) -> np.ndarray:
        """The least and most seconds between two cameras; the last place, -1, is unknown ones'."""
        places = {name: place for place, name in enumerate(self.names)}
        limits = np.full((len(places) + 1, len(places) + 1, 2), [-np.inf, np.inf])
        for (start, end), both in self.bounds.items():
            limits[places[start], places[end]] = both
        return limits

    def apart(self, a: Any, b: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Seconds from the earlier row (``a`` of equal ones) to the later, the least, the most."""
        is_first = self.first[a] <= self.first[b]
        earlier, later = np.where(is_first, a, b), np.where(is_first, b, a)
        places = self.cameras[earlier], self.cameras[later]
        least, most = np.moveaxis(self._limits[places], -1, 0)
        window = np.minimum(self.window[a], self.window[b])
        gap = self.first[later] - self.last[earlier]
        return gap, np.where(same_camera(*places), window, least), most

    def clash(self, a: Any, b: Any) -> np.ndarray:
        """Whether rows cannot show one vehicle, whatever others show."""
        (gap, least, _), (back, least_back, _) = self.apart(a, b), self.apart(b, a)
        first, second = self.pinned[a], self.pinned[b]
        is_too_soon = (gap < least) & (back < least_back)
        return is_too_soon | ((first != second) & (first >= 0) & (second >= 0))

    def too_late(self, a: Sequence[int], b: Sequence[int]) -> bool:
        """Whether a vehicle would take too long from a row of the one to the next, of the other."""
        timed = [row for row in (*a, *b) if not np.isnan(self.first[row])]
        order = np.array(sorted(timed, key=self.first.__getitem__), np.int64)
        gap, _, most = self.apart(order[:-1], order[1:])
        joined = np.diff(np.isin(order, a))
        return bool((gap > most)[joined].any())


def travel_times(vehicles: np.ndarray, seen: Sightings) -> dict[Way, Travel]:
    """How long linked vehicles took between two cameras that five or more passed in turn."""
    rows = np.unique(seen.tracks, return_index=True)[1]  # a track went once, however many it has
    rows = rows[~np.isnan(seen.first[rows]) & (seen.cameras[rows] >= 0)]
    order = rows[np.lexsort((seen.first[rows], vehicles[rows]))]
    a, b = order[:-1], order[1:]
    moved = (vehicles[a] == vehicles[b]) & (seen.cameras[a] != seen.cameras[b])
    seconds = defaultdict[Way, list[float]](list)
    for one, other in zip(a[moved], b[moved], strict=True):
        way = seen.names[seen.cameras[one]], seen.names[seen.cameras[other]]
        seconds[way].append(seen.first[other] - seen.last[one])
    return {way: Travel.of(all) for way, all in sorted(seconds.items()) if len(all) >= _FEWEST}


def link(
    embeddings: np.ndarray,
    neighbors: np.ndarray,
    distances: np.ndarray,
    seen: Sightings,
    *,
    max_distance: float,
) -> np.ndarray:
    """Group images that are mutual nearest neighbours, nearest pairs first.

    Two images are a pair if each is the nearest of its camera's to the other, of those that can
    show one vehicle. A pair joins its groups unless rows of these cannot, or two images of the
    vehicle would be further apart than one and a half times the distance, which keeps chains of
    look-alikes apart. What was pinned together is a group from the start.

    Args:
        embeddings: ``[N, D]``, whose distances are compared.
        neighbors: rows of each image's neighbours, int64 ``[N, K]``, nearest first; -1 for none.
        distances: theirs, ``[N, K]``.
        max_distance: squared Euclidean; images further apart are not a pair.

    Returns:
        int64 ``[N]``, the group of each image, from 0 in the order of their first images.
    """

    def can_join(a: list[int], b: list[int]) -> bool:
        if seen.clash(np.array(a)[:, None], np.array(b)).any() or seen.too_late(a, b):
            return False
        return bool(
            (squared_distances(embeddings[a], embeddings[b]) <= SPREAD * max_distance).all()
        )

    # Images of one group share a list of its rows.
    pinned = seen.pinned >= 0
    starts = numbered(zip(pinned, np.where(pinned, seen.pinned, seen.tracks), strict=True)).tolist()
    together = [list[int]() for _ in range(max(starts) + 1)]
    for row, start in enumerate(starts):
        together[start].append(row)
    groups = [together[start] for start in starts]
    for first, second in _mutual(neighbors, distances, seen, max_distance):
        small, large = sorted((groups[first], groups[second]), key=len)
        if small is not large and can_join(small, large):
            large += small
            for row in small:
                groups[row] = large
    return numbered(map(id, groups))


def _mutual(
    neighbors: np.ndarray, distances: np.ndarray, seen: Sightings, max_distance: float
) -> list[tuple[int, int]]:
    """Pairs of which each is the nearest of its camera's to the other, nearest first."""
    nearest: dict[tuple[int, int], float] = {}
    for row, (others, far) in enumerate(zip(neighbors, distances, strict=True)):
        near = (others >= 0) & (others != row) & (far <= max_distance)
        others, far = others[near], far[near]
        gap, _, most = seen.apart(row, others)
        possible = ~seen.clash(row, others) & ~(gap > most)
        others, far = others[possible], far[possible]
        # The first of each camera; of images without a camera each counts for itself.
        cameras = seen.cameras[others]
        counts = cameras == UNKNOWN_CAMERA
        counts[np.unique(cameras, return_index=True)[1]] = True
        for other, distance in zip(others[counts].tolist(), far[counts].tolist(), strict=True):
            nearest[row, other] = distance
    mutual = [
        (distance, row, other)
        for (row, other), distance in nearest.items()
        if row < other and (other, row) in nearest
    ]
    return [(row, other) for _, row, other in sorted(mutual)]


def numbered(groups: Iterable[Hashable]) -> np.ndarray:
    """What each is as an integer, int64 ``[N]``, from 0 in the order of the first of each."""
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(one, len(numbers)) for one in groups], np.int64)


def numbered_cameras(column: pa.ChunkedArray) -> tuple[np.ndarray, list[str]]:
    """The place of each camera among their names, int64 ``[N]``, -1 where unknown; the names."""
    names = column.to_pylist()
    known = sorted({*names} - {""})
    places = {name: place for place, name in enumerate(known)}
    return np.array([places.get(name, UNKNOWN_CAMERA) for name in names]), known


def _seconds(times: Any) -> np.ndarray:
    return times.cast(pa.int64()).cast(pa.float64()).fill_null(float("nan")).to_numpy() / 1e6
