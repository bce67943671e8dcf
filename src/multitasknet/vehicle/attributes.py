"""Colours and types: their published names, and which raw id is which class."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

# Names by raw id, 1 first: the network's class index is the rank of the raw id.
COLORS = ("yellow", "orange", "green", "gray", "red", "blue", "white", "golden", "brown", "black")
TYPES = ("sedan", "suv", "van", "hatchback", "mpv", "pickup", "bus", "truck", "estate")


class Labelled(Protocol):
    """Anything with a vehicle's labels; None where colour or type is unknown."""

    @property
    def vehicle_id(self) -> int: ...

    @property
    def color_id(self) -> int | None: ...

    @property
    def type_id(self) -> int | None: ...


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

    Attributes:
        vehicle_ids, color_ids, type_ids: sorted raw ids.
    """

    vehicle_ids: tuple[int, ...]
    color_ids: tuple[int, ...]
    type_ids: tuple[int, ...]

    @classmethod
    def of(cls, records: Iterable[Labelled]) -> ClassMaps:
        """The classes that occur in the records; unknown colours and types are none."""
        records = tuple(records)
        return cls(
            vehicle_ids=sorted_ids(record.vehicle_id for record in records),
            color_ids=sorted_ids(record.color_id for record in records),
            type_ids=sorted_ids(record.type_id for record in records),
        )

    @property
    def color_names(self) -> tuple[str, ...]:
        return tuple(class_name(raw, COLORS, "color") for raw in self.color_ids)

    @property
    def type_names(self) -> tuple[str, ...]:
        return tuple(class_name(raw, TYPES, "type") for raw in self.type_ids)

    def identity_index(self, vehicle_id: int) -> int:
        """The class of a vehicle, -1 if there is none."""
        return _rank(self.vehicle_ids, vehicle_id)

    def color_index(self, color_id: int | None) -> int:
        """The class of a colour, -1 if it is unknown or none."""
        return _rank(self.color_ids, color_id)

    def type_index(self, type_id: int | None) -> int:
        """The class of a type, -1 if it is unknown or none."""
        return _rank(self.type_ids, type_id)


def sorted_ids(ids: Iterable[int | None]) -> tuple[int, ...]:
    """The ids that are known, each once, ascending."""
    return tuple(sorted({raw for raw in ids if raw is not None}))


def _rank(ids: tuple[int, ...], raw: int | None) -> int:
    index = len(ids) if raw is None else bisect_left(ids, raw)
    return index if index < len(ids) and ids[index] == raw else -1
