"""The rows of a store as vehicles, and the ways that these took."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import chain
from typing import Any

import numpy as np
from tqdm import tqdm

from ..errors import import_extra
from ..ranking.distances import distance_blocks, nearest
from ..ranking.linking import link
from ..vehicle.cameras import UNKNOWN_CAMERA
from .store import EXTRA, JOURNEYS, StoreError, vectors
from .store_search import StoreGallery

# A row, and its neighbours and how far they are.
_Found = tuple[int, np.ndarray, np.ndarray]
_READ = ("id", "camera", "time", "embedding")


@dataclass(frozen=True)
class LinkReport:
    """What linking found.

    Attributes:
        rows: of the store.
        vehicles: groups of at least two rows.
        linked: rows in them.
        max_distance: that was allowed between two rows, squared Euclidean.
    """

    rows: int
    vehicles: int
    linked: int
    max_distance: float


def link_store(
    gallery: StoreGallery,
    *,
    max_distance: float,
    window: float = 1.0,
    neighbors: int = 50,
    progress: bool = True,
) -> LinkReport:
    """Group the rows of a store, see :func:`.ranking.linking.link`.

    Writes the column ``vehicle``, null for rows that are alone, and the table ``journeys``: of each
    vehicle the ids, cameras and times, by time.

    Args:
        max_distance: squared Euclidean.
        window: seconds between two appearances at one camera, at least.
        neighbors: of each row that are looked at.

    Raises:
        StoreError: the store is empty.
    """
    store = gallery.store
    pyarrow = import_extra("pyarrow", EXTRA)
    if not len(store):
        raise StoreError(f"{store.path}: there are no rows to link; add pictures first")
    table = pyarrow.Table.from_batches(list(store.read(_READ[:3])))
    names = table["camera"].to_pylist()
    numbers = {name: number for number, name in enumerate(sorted(set(names) - {""}))}
    times = [_seconds(time) for time in table["time"].to_pylist()]
    found = _neighbors(
        gallery, table["id"].to_pylist(), min(neighbors, len(store) - 1) + 1, progress
    )
    groups = link(
        *found,
        cameras=np.array([numbers.get(name, UNKNOWN_CAMERA) for name in names]),
        times=times,
        max_distance=max_distance,
        window=window,
    )
    counts = np.bincount(groups)
    together = counts[groups] > 1
    vehicles = np.unique(groups[together], return_inverse=True)[1]
    numbered = np.full(len(groups), -1)
    numbered[together] = vehicles
    labels = pyarrow.array(numbered, pyarrow.int64(), mask=~together)
    store.update(pyarrow.table({"id": table["id"], "vehicle": labels}))
    journeys = table.append_column("vehicle", labels).filter(pyarrow.array(together))
    store.replace(JOURNEYS, _journeys(journeys))
    return LinkReport(
        len(groups), int((counts > 1).sum()), int(together.sum()), float(max_distance)
    )


def _journeys(rows: Any) -> Any:
    ordered = rows.sort_by([("vehicle", "ascending"), ("time", "ascending")])
    lists = [(name, "list") for name in _READ[:3]]
    table = ordered.group_by("vehicle", use_threads=False).aggregate(lists)
    names = {f"{name}_list": f"{name}s" for name in _READ[:3]}
    return table.rename_columns([names.get(name, name) for name in table.column_names])


def _neighbors(
    gallery: StoreGallery, ids: list[str], count: int, progress: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Rows and distances of each row's nearest, ``[N, count]``, itself among them."""
    neighbors = np.full((len(ids), count), -1)
    distances = np.full((len(ids), count), np.inf)
    search = _exact if gallery.plan().exact else _indexed
    hidden = None if progress else True
    found = search(gallery, {one: row for row, one in enumerate(ids)}, count)
    for row, near, far in tqdm(found, "link", len(ids), disable=hidden, unit="row"):
        neighbors[row, : len(near)], distances[row, : len(near)] = near, far
    return neighbors, distances


def _exact(gallery: StoreGallery, rows: dict[str, int], count: int) -> Iterator[_Found]:
    every = np.zeros((len(rows), gallery.store.width), np.float32)
    for row, embedding in _embeddings(gallery, rows):
        every[row] = embedding
    blocks = distance_blocks(every, every)
    for row, distances in enumerate(chain.from_iterable(blocks)):
        near = nearest(distances, count)
        yield row, near, distances[near]


def _indexed(gallery: StoreGallery, rows: dict[str, int], count: int) -> Iterator[_Found]:
    for row, embedding in _embeddings(gallery, rows):
        hits = gallery.nearest(embedding[None], top=count)[0]
        kept = [hit for hit in hits if hit.row.id in rows]
        near = np.array([rows[hit.row.id] for hit in kept], dtype=np.int64)
        yield row, near, np.array([hit.distance for hit in kept])


def _embeddings(gallery: StoreGallery, rows: dict[str, int]) -> Iterator[tuple[int, np.ndarray]]:
    """Row and embedding, of those rows that are among these: others may have come since."""
    for batch in gallery.store.read(["id", "embedding"]):
        for one, embedding in zip(
            batch["id"].to_pylist(), vectors(batch["embedding"]), strict=True
        ):
            if one in rows:
                yield rows[one], embedding


def _seconds(time: datetime | None) -> float:
    return float("nan") if time is None else time.replace(tzinfo=timezone.utc).timestamp()
