"""Linked rows as journeys of vehicles from camera to camera, and vehicles put right by hand."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from itertools import chain, groupby, pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ..data.text import read_table
from ..errors import DataError, GalleryError
from .gallery import Gallery
from .linking import Travel, Way
from .rows import GalleryRow, any_of

ALONE, _LINKED = "vehicle is null", "vehicle is not null"
_TIMES, _PLACES = ("from", "to", "least", "most"), ("name", "latitude", "longitude")


@dataclass(frozen=True)
class Stop:
    """Rows of one vehicle that one camera saw, one after another, in the order of time."""

    camera: str
    rows: tuple[GalleryRow, ...]
    first: datetime  # in UTC if the rows' zone was known
    last: datetime
    seconds: float | None  # since the stop before; None for the first


@dataclass(frozen=True)
class Journey:
    """A vehicle's way: its rows in the order of time, those of unknown time last."""

    vehicle: int
    rows: tuple[GalleryRow, ...]

    @cached_property
    def stops(self) -> list[Stop]:
        """The cameras in turn, of rows whose camera and time are known."""
        stops: list[Stop] = []
        known = [row for row in self.rows if row.camera and row.first and row.last]
        for camera, found in groupby(known, lambda row: row.camera):
            rows: tuple[Any, ...] = tuple(found)
            first, last = rows[0].first, max(row.last for row in rows)
            seconds = (first - stops[-1].last).total_seconds() if stops else None
            stops.append(Stop(camera, rows, first, last, seconds))
        return stops


def vehicles(gallery: Gallery, where: str | None = None) -> list[int]:
    """The numbers that ``link`` gave, those that most cameras saw first, then by most rows.

    Of these only the vehicles of which a row meets the SQL; GalleryError if it cannot be used.
    """
    batches = list(gallery.read(["vehicle", "camera"], _LINKED))
    if not batches:
        return []
    counts = [("camera", "count_distinct"), ("camera", "count")]
    found = pa.Table.from_batches(batches).group_by("vehicle").aggregate(counts)
    order = [(f"{column}_{count}", "descending") for column, count in counts]
    numbers: list[int] = found.sort_by([*order, ("vehicle", "ascending")])["vehicle"].to_pylist()
    if where:
        kept = {row["vehicle"] for row in gallery.rows(["vehicle"], where)}
        numbers = [one for one in numbers if one in kept]
    return numbers


def journeys(gallery: Gallery, vehicles: Sequence[int]) -> list[Journey]:
    """The journeys of these vehicles, in that order."""
    rows: dict[int, list[GalleryRow]] = {vehicle: [] for vehicle in vehicles}
    # A condition names so many one by one.
    where = any_of("vehicle", vehicles) if len(vehicles) <= 1_000 else _LINKED
    for row in gallery.select(where):
        if row.vehicle in rows:
            rows[row.vehicle].append(row)
    return [
        Journey(vehicle, tuple(sorted(found, key=lambda row: (row.first or datetime.max, row.id))))
        for vehicle, found in rows.items()
    ]


def ways(journeys: Iterable[Journey]) -> dict[Way, Travel]:
    """From each camera to the next, those that most vehicles took first."""
    return _travels(pair for one in journeys for pair in pairwise(one.stops))


def origins_and_destinations(journeys: Iterable[Journey]) -> dict[Way, Travel]:
    """From the first camera of each journey to its last, those of most vehicles first."""
    return _travels((one.stops[0], one.stops[-1]) for one in journeys if len(one.stops) > 1)


def _travels(found: Iterable[tuple[Stop, Stop]]) -> dict[Way, Travel]:
    seconds = defaultdict[Way, list[float]](list)
    for start, end in found:
        seconds[start.camera, end.camera].append((end.first - start.last).total_seconds())
    travels = {way: Travel.of(times) for way, times in sorted(seconds.items())}
    return dict(sorted(travels.items(), key=lambda one: -one[1].vehicles))


def pin(gallery: Gallery, ids: Sequence[str]) -> int:
    """Say by hand that rows show one vehicle, and no other row of the vehicles they had does.

    ``link`` keeps both: rows that were pinned together, and the rest of each vehicle that they were
    taken from. New rows may join either. Returns the vehicle's number; GalleryError for no ids, or
    one that no row has.
    """
    columns = ["id", "vehicle", "pinned"]
    if not ids:
        raise GalleryError("no row is named; give the ids of one vehicle's rows")
    with gallery.writing():
        numbers = (pc.max(one).as_py() or 0 for one in chain(*gallery.read(columns[1:])))
        number = 1 + max(numbers, default=0)
        chosen = {row["id"]: row["vehicle"] for row in gallery.rows(columns, any_of("id", ids))}
        if strange := [id for id in ids if id not in chosen]:
            raise GalleryError(f"no row has the id {strange[0]!r}; expected one of the gallery")
        records = [{"id": id, "vehicle": number, "pinned": number} for id in chosen]
        former = sorted({one for one in chosen.values() if one is not None})
        records += [
            row | {"pinned": number + 1 + former.index(row["vehicle"])}
            for row in gallery.rows(columns, any_of("vehicle", former))
            if row["id"] not in chosen
        ]
        gallery.merge(records)
    return number


def read_travel_times(path: Path) -> dict[Way, tuple[float, float]]:
    """The least and most seconds between cameras, from a CSV ``from,to,least,most``; DataError."""
    found = {}
    for place, row in read_table(path, _TIMES, once=_TIMES[:2]):
        least, most = (_number(place, row, name) for name in ("least", "most"))
        if least > most:
            raise DataError(f"{place}: least is {least:g} and most {most:g}; exchange them")
        found[row["from"], row["to"]] = least, most
    return found


def read_cameras(path: Path) -> dict[str, tuple[float, float]]:
    """Latitude and longitude by camera, from a CSV ``name,latitude,longitude``; DataError."""
    return {
        row["name"]: (_number(place, row, "latitude", 90), _number(place, row, "longitude", 180))
        for place, row in read_table(path, _PLACES, once=_PLACES[:1])
    }


def _number(place: str, row: Mapping[str, str], name: str, most: float = math.inf) -> float:
    with suppress(ValueError):
        if abs(value := float(row[name])) <= most:
            return value
    raise DataError(f"{place}: {name} is {row[name]!r}; expected a number of at most {most:g}")
