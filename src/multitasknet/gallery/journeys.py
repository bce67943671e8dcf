"""Linked rows as journeys of vehicles from camera to camera, and vehicles put right by hand."""

from __future__ import annotations

import csv
import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from itertools import chain, groupby, pairwise
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow.compute as pc

from ..data.text import read_table
from ..errors import DataError, GalleryError
from ..files import replacing
from .gallery import Gallery
from .linking import Travel
from .rows import GalleryRow, any_of

# From one camera to another.
Way: TypeAlias = "tuple[str, str]"

ALONE, _LINKED = "vehicle is null", "vehicle is not null"
# Vehicles that a condition names one by one.
_NAMED = 1_000
_TIMES = ("from", "to", "least", "most")
_PLACES = ("name", "latitude", "longitude")
_CSV = (
    *("vehicle", "stop", "camera", "first", "last", "seconds", "track", "color", "type"),
    *("image", "id"),
)


@dataclass(frozen=True)
class Stop:
    """Rows of one vehicle that one camera saw, one after another.

    Attributes:
        camera: its name.
        rows: in the order of time.
        first, last: moments, in UTC if the rows' zone was known.
        seconds: from the stop before to this; None for the first.
    """

    camera: str
    rows: tuple[GalleryRow, ...]
    first: datetime
    last: datetime
    seconds: float | None


@dataclass(frozen=True)
class Journey:
    """A vehicle's way.

    Attributes:
        vehicle: its number.
        rows: that show it, in the order of time, those of unknown time last.
    """

    vehicle: int
    rows: tuple[GalleryRow, ...]

    @cached_property
    def stops(self) -> list[Stop]:
        """The cameras in turn, of rows whose camera and time are known."""
        stops: list[Stop] = []
        known = [
            (row, row.first, row.last) for row in self.rows if row.camera and row.first and row.last
        ]
        for camera, found in groupby(known, lambda one: one[0].camera):
            rows, starts, ends = zip(*found, strict=True)
            first, last = starts[0], max(ends)
            seconds = (first - stops[-1].last).total_seconds() if stops else None
            stops.append(Stop(camera, rows, first, last, seconds))
        return stops


def vehicles(gallery: Gallery, where: str | None = None) -> list[int]:
    """The numbers that ``link`` gave, those that most cameras saw first, then by most rows.

    Args:
        gallery: that was linked.
        where: LanceDB's SQL; vehicles of which no row meets it are left out.

    Raises:
        GalleryError: a condition that cannot be used.
    """
    kept = where and {row["vehicle"] for row in gallery.rows(["vehicle"], where)}
    cameras = defaultdict[int, list[str]](list)
    for row in gallery.rows(["vehicle", "camera"], _LINKED):
        if kept is None or row["vehicle"] in kept:
            cameras[row["vehicle"]].append(row["camera"])
    return sorted(cameras, key=lambda one: (-len(set(cameras[one])), -len(cameras[one]), one))


def journeys(gallery: Gallery, vehicles: Sequence[int]) -> list[Journey]:
    """The journeys of these vehicles, in that order."""
    rows: dict[int, list[GalleryRow]] = {vehicle: [] for vehicle in vehicles}
    where = any_of("vehicle", vehicles) if len(vehicles) <= _NAMED else _LINKED
    for row in gallery.select(where):
        if row.vehicle in rows:
            rows[row.vehicle].append(row)
    return [
        Journey(vehicle, tuple(sorted(found, key=lambda row: (row.first or datetime.max, row.id))))
        for vehicle, found in rows.items()
    ]


def ways(journeys: Iterable[Journey]) -> dict[Way, Travel]:
    """From each camera to the next, those that most vehicles took first."""
    pairs = (pair for one in journeys for pair in pairwise(one.stops))
    return _travels((a, b, b.seconds or 0.0) for a, b in pairs)


def origins_and_destinations(journeys: Iterable[Journey]) -> dict[Way, Travel]:
    """From the first camera of each journey to its last, those of most vehicles first."""
    whole = [one.stops for one in journeys if len(one.stops) > 1]
    return _travels(
        (stops[0], stops[-1], (stops[-1].first - stops[0].last).total_seconds()) for stops in whole
    )


def _travels(found: Iterable[tuple[Stop, Stop, float]]) -> dict[Way, Travel]:
    seconds = defaultdict[Way, list[float]](list)
    for start, end, time in found:
        seconds[start.camera, end.camera].append(time)
    travels = {way: Travel.of(times) for way, times in sorted(seconds.items())}
    return dict(sorted(travels.items(), key=lambda one: -one[1].vehicles))


def pin(gallery: Gallery, ids: Sequence[str]) -> int:
    """Say by hand that rows show one vehicle, and no other row of the vehicles they had does.

    So vehicles are split and merged. ``link`` keeps both: rows that were pinned together, and the
    rest of each vehicle that they were taken from. New rows may still join either.

    Returns:
        The vehicle's number.

    Raises:
        GalleryError: no row has one of these ids, or there are none.
    """
    columns = ["id", "vehicle", "pinned"]
    if not ids:
        raise GalleryError("no row is named; give the ids of one vehicle's rows")
    with gallery.writing():
        numbers = (pc.max(one).as_py() or 0 for one in chain(*gallery.read(columns[1:])))
        number = 1 + max(numbers, default=0)
        chosen = {row["id"]: row["vehicle"] for row in gallery.rows(columns, any_of("id", ids))}
        for id in ids:
            if id not in chosen:
                raise GalleryError(f"no row has the id {id[:100]!r}; expected one of the gallery")
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
    for place, row in read_table(path, _TIMES, _TIMES):
        least, most = (_number(place, row, name) for name in ("least", "most"))
        if least > most:
            raise DataError(f"{place}: least is {least:g} and most {most:g}; exchange them")
        found[row["from"], row["to"]] = least, most
    return found


def read_cameras(path: Path) -> dict[str, tuple[float, float]]:
    """Latitude and longitude by camera, from a CSV ``name,latitude,longitude``; DataError."""
    return {
        row["name"]: (_number(place, row, "latitude", 90), _number(place, row, "longitude", 180))
        for place, row in read_table(path, _PLACES, _PLACES)
    }


def _number(place: str, row: Mapping[str, str], name: str, most: float = math.inf) -> float:
    with suppress(ValueError):
        if abs(value := float(row[name])) <= most:
            return value
    raise DataError(f"{place}: {name} is {row[name]!r}; expected a number of at most {most:g}")


def write_csv(path: Path, journeys: Iterable[Journey]) -> Path:
    """Write a line for each row; OutputError.

    Columns: ``vehicle``, ``stop`` (from 1; empty for a row without camera or time), ``camera``,
    ``first``, ``last``, ``seconds`` since the camera before, ``track``, ``color``, ``type``,
    ``image`` and ``id``.
    """
    with replacing(path) as part, part.open("w", encoding="utf-8", newline="") as file:
        lines = csv.DictWriter(file, _CSV, extrasaction="ignore")
        lines.writeheader()
        for journey in journeys:
            stops = {
                row.id: {"stop": number, "seconds": stop.seconds}
                for number, stop in enumerate(journey.stops, start=1)
                for row in stop.rows
            }
            lines.writerows(vars(row) | stops.get(row.id, {}) for row in journey.rows)
    return path


def write_geojson(
    path: Path, journeys: Iterable[Journey], cameras: Mapping[str, tuple[float, float]]
) -> Path:
    """Write cameras as points and journeys as lines between them, RFC 7946; OutputError.

    GalleryError for a camera whose place is not known.
    """
    journeys = list(journeys)
    check_places(journeys, cameras)
    features = [
        _feature("Point", cameras[name][::-1], {"camera": name}) for name in sorted(cameras)
    ]
    for one in journeys:
        stops = one.stops
        if len(stops) > 1:
            line = [cameras[stop.camera][::-1] for stop in stops]
            facts = {
                "vehicle": one.vehicle,
                "cameras": [stop.camera for stop in stops],
                "first": [stop.first.isoformat() for stop in stops],
                "last": [stop.last.isoformat() for stop in stops],
            }
            features.append(_feature("LineString", line, facts))
    with replacing(path) as part:
        part.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def _feature(kind: str, places: object, facts: Mapping[str, Any]) -> dict[str, Any]:
    geometry = {"type": kind, "coordinates": places}
    return {"type": "Feature", "geometry": geometry, "properties": facts}


def check_places(journeys: Iterable[Journey], cameras: Mapping[str, object]) -> None:
    """GalleryError for a camera of a journey that is not among these."""
    for camera in sorted({stop.camera for one in journeys for stop in one.stops}):
        if camera not in cameras:
            raise GalleryError(
                f"camera {camera!r} is not among {', '.join(cameras) or 'the cameras given'}; add "
                f"its place"
            )
