"""What a gallery is to those who search it, whatever keeps it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

import numpy as np


@dataclass(frozen=True)
class GalleryRow:
    """A crop of a gallery.

    Attributes:
        id: stable, one of a kind in its gallery.
        image: the picture's file.
        camera: its name or number; empty if unknown.
        time: when it was taken; None if unknown.
        color, type: names of the likeliest classes; empty if the network tells none.
    """

    id: str
    image: Path
    camera: str = ""
    time: datetime | None = None
    color: str = ""
    type: str = ""


@dataclass(frozen=True)
class Hit:
    """A row that was found, and how far its embedding is from the query's: squared Euclidean."""

    row: GalleryRow
    distance: float


@dataclass(frozen=True)
class GalleryFilter:
    """Which rows are searched: of any of these cameras, colours, types, and within the times.

    An empty tuple leaves nothing out; rows of unknown time pass no bound.
    """

    cameras: tuple[str, ...] = ()
    colors: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    not_before: datetime | None = None
    not_after: datetime | None = None


@dataclass(frozen=True)
class Facets:
    """The values that the rows of a gallery have, sorted."""

    cameras: tuple[str, ...]
    colors: tuple[str, ...]
    types: tuple[str, ...]


class Gallery(Protocol):
    """Searchable rows; any number of threads may share it."""

    def __len__(self) -> int:
        """How many rows there are."""

    @property
    def facets(self) -> Facets:
        """What can be chosen from in a filter."""

    def row(self, id: str) -> GalleryRow:
        """One row; KeyError if there is none of that id."""

    def embedding(self, id: str) -> np.ndarray:
        """Its embedding, float32 ``[D]``; KeyError if there is none of that id."""

    def nearest(
        self,
        queries: np.ndarray,
        *,
        top: int,
        where: GalleryFilter | None = None,
        max_distance: float | None = None,
    ) -> list[list[Hit]]:
        """The nearest rows of each query ``[Q, D]``, nearest first, at most ``top``.

        None further than ``max_distance`` (squared Euclidean) is among them.
        """


def passes(row: GalleryRow, where: GalleryFilter) -> bool:
    """Whether a row is one that the filter leaves in."""
    for value, wanted in (
        (row.camera, where.cameras),
        (row.color, where.colors),
        (row.type, where.types),
    ):
        if wanted and value not in wanted:
            return False
    return _within(row.time, where.not_before, where.not_after)


def _within(time: datetime | None, first: datetime | None, last: datetime | None) -> bool:
    if first is None and last is None:
        return True
    if time is None:
        return False
    return (first is None or time >= first) and (last is None or time <= last)


def find_rows(rows: Sequence[GalleryRow], where: GalleryFilter | None) -> np.ndarray:
    """The places of the rows that the filter leaves in, int64."""
    if where is None:
        return np.arange(len(rows))
    return np.flatnonzero([passes(row, where) for row in rows])
