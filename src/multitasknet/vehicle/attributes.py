"""Colours and types: their published names, and which raw id is which class."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

# Names by raw id, 1 first: the network's class index is the rank of the raw id.
COLORS = ("yellow", "orange", "green", "gray", "red", "blue", "white", "golden", "brown", "black")
TYPES = ("sedan", "suv", "van", "hatchback", "mpv", "pickup", "bus", "truck", "estate")


def class_name(raw_id: int, published: tuple[str, ...], kind: str) -> str:
    """The name of a raw colour or type id: a published one, else such as ``color 12``."""
    return published[raw_id - 1] if 1 <= raw_id <= len(published) else f"{kind} {raw_id}"


def class_names(count: int, published: tuple[str, ...], kind: str) -> tuple[str, ...]:
    """The published names if there are as many, else ``color 0``, ``color 1``, ..."""
    if count == len(published):
        return published
    return tuple(f"{kind} {index}" for index in range(count))


def class_ids(names: Sequence[str], published: tuple[str, ...], kind: str) -> tuple[int, ...]:
    """The raw ids that :func:`class_name` made these names of; 1, 2, ... of any other names."""
    known = {name: raw for raw, name in enumerate(published, start=1)}
    try:
        ids = [known.get(name) or int(name.removeprefix(f"{kind} ")) for name in names]
    except ValueError:
        return tuple(range(1, len(names) + 1))
    return tuple(ids) if ids == [*sorted_ids(ids)] else tuple(range(1, len(names) + 1))


@dataclass(frozen=True)
class ClassMaps:
    """Which raw id is which class: a class's index is the rank of its raw id.

    Records are anything with ``vehicle_id``, ``color_id`` and ``type_id``, None where unknown.
    """

    vehicle_ids: tuple[int, ...]  # sorted
    color_ids: tuple[int, ...]
    type_ids: tuple[int, ...]

    @classmethod
    def of(cls, records: Iterable[Any]) -> ClassMaps:
        """The classes that occur in the records; unknown colours and types are none."""
        return cls(*map(sorted_ids, _columns(records)))

    @property
    def color_names(self) -> tuple[str, ...]:
        return tuple(class_name(raw, COLORS, "color") for raw in self.color_ids)

    @property
    def type_names(self) -> tuple[str, ...]:
        return tuple(class_name(raw, TYPES, "type") for raw in self.type_ids)

    def indices(self, records: Iterable[Any]) -> np.ndarray:
        """Identity, colour and type of records as classes, int32 ``[3, N]``, -1 for none."""
        known = self.vehicle_ids, self.color_ids, self.type_ids
        ranks = [{raw: rank for rank, raw in enumerate(ids)} for ids in known]
        columns = zip(ranks, _columns(records), strict=True)
        return np.array([[one.get(raw, -1) for raw in ids] for one, ids in columns], np.int32)


def sorted_ids(ids: Iterable[int | None]) -> tuple[int, ...]:
    """The ids that are known, each once, ascending."""
    return tuple(sorted({raw for raw in ids if raw is not None}))


def _columns(records: Iterable[Any]) -> list[list[Any]]:
    rows = [(record.vehicle_id, record.color_id, record.type_id) for record in records]
    return [[row[column] for row in rows] for column in range(3)]
