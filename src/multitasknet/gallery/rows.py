"""What goes into a gallery and comes out of it, and its conditions as LanceDB's SQL."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from ..data.records import Record
from ..data.text import parse_time, utc
from ..errors import DataError, GalleryError
from ..images import Corners, Picture, crop_name, open_picture
from ..ranking.strangers import Rate

_LITERAL = r"(?:timestamp\s*)?'(?:[^']|'')*'"
_COMPARED = (
    rf"\s*(?:(?:[<>]=?|!?=|<>)\s*{_LITERAL}"
    rf"|\b(?:not\s+)?between\s*{_LITERAL}\s*and\s*{_LITERAL})"
)


@dataclass(frozen=True)
class GalleryRow:
    """A crop of a gallery."""

    id: str  # unique in its gallery
    image: Path  # the picture's file
    camera: str = ""  # its name or number; empty if unknown
    time: datetime | None = None  # when it was taken; None if unknown
    # Names of the likeliest classes; empty if the network has no such head.
    color: str = ""
    type: str = ""
    box: Corners | None = None  # x1, y1, x2, y2 in pixels; None for the whole picture
    track: str = ""  # its track's name within its camera; empty if it is of none
    quality: float | None = None  # how surely it shows one whole vehicle, 0..1; None if unknown
    # The track's first and last moment, of a plain crop ``time``; None if unknown.
    first: datetime | None = None
    last: datetime | None = None
    vehicle: int | None = None  # the number that ``link`` gave it; None if it is alone

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> GalleryRow:
        """A row from the table's :data:`ROW`; other columns are left out."""
        known: dict[str, Any] = {name: values[name] for name in ROW}
        known |= {name: values[name] or values["time"] for name in ("first", "last")}
        return cls(**known | {"image": Path(values["image"]), "box": corners(values["box"])})

    @property
    def name(self) -> str:
        """The picture's path, with the box if there is one."""
        return name_of(self.image, self.box)

    @property
    def picture(self) -> Picture:
        """What the row shows; ImageError if it cannot be read."""
        return open_picture(self.image, box=self.box)


ROW = tuple(one.name for one in fields(GalleryRow))


@dataclass(frozen=True)
class Hit:
    """A row that was found."""

    row: GalleryRow
    distance: float  # squared Euclidean, of its embedding from the query's
    rate: Rate | None = None  # of pairs of strangers as near; None where the gallery cannot say
    probability: float | None = None  # that it is the query's vehicle, 0..1; None if not measured

    @property
    def alone(self) -> Hit:
        """The same without what its distance means: for a query that shows no single vehicle."""
        return replace(self, rate=None, probability=None)

    @property
    def meaning(self) -> dict[str, float | None]:
        return meaning(self.distance, self.rate, self.probability)


@dataclass(frozen=True)
class Entry:
    """A picture to add, and what is known about it; fields as in :class:`GalleryRow`."""

    id: str
    image: Path
    camera: str = ""
    time: datetime | None = None
    box: Corners | None = None
    track: str = ""
    record: Record | None = None  # its label, with keypoints and stored maps; None without one
    # The user's own columns: text, numbers, booleans, times; None where there is no value.
    more: Mapping[str, object] = field(default_factory=dict)


@dataclass
class AddReport:
    """What became of pictures."""

    added: int = 0  # rows that are new, or were embedded again
    unchanged: int = 0  # pictures that were there; what else was given for them is corrected
    moved: int = 0  # of these, pictures whose file is in another place now
    # Left out for their quality, by its reason; ``doubtful`` if it is 0.5 or more.
    low_quality: dict[str, int] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)  # could not be read, and why


@dataclass(frozen=True)
class Facets:
    """The values that the rows of a gallery have, sorted, numbers by their size."""

    cameras: tuple[str, ...]
    colors: tuple[str, ...]
    types: tuple[str, ...]

    def where(
        self,
        *,
        cameras: Sequence[str] = (),
        colors: Sequence[str] = (),
        types: Sequence[str] = (),
        not_before: datetime | None = None,
        not_after: datetime | None = None,
    ) -> str | None:
        """SQL for the rows of any of these cameras, colours and types, and within the times.

        What is empty leaves nothing out; rows of unknown time pass no bound. DataError for a
        value that is not among these facets, which lists them.
        """
        parts = []
        for column, chosen in (("camera", cameras), ("color", colors), ("type", types)):
            present = getattr(self, f"{column}s")
            if strange := [value for value in chosen if value not in present]:
                raise DataError(
                    f"no row has {strange[0]!r} among its {column}s; the gallery has "
                    f"{', '.join(present) or 'none'}"
                )
            parts.append(any_of(column, chosen) if chosen else None)
        bounds = {">=": not_before, "<=": not_after}
        return all_of(
            [*parts, *(f"time {how} {quoted(utc(one))}" for how, one in bounds.items() if one)]
        )


def name_of(image: str | Path, box: Corners | None) -> str:
    """What a picture, or what is in a box of it, is called."""
    return crop_name(image, box) if box else str(image)


def corners(values: Sequence[float] | None) -> Corners | None:
    """A box as the table has it."""
    return (values[0], values[1], values[2], values[3]) if values else None


def meaning(
    distance: float, rate: Rate | None, probability: float | None
) -> dict[str, float | None]:
    """A distance and what it means, as JSON has it; null where that is not known."""
    return {
        "distance": distance,
        "rate": None if rate is None else rate.rate,
        "rate_upper": None if rate is None else rate.upper,
        "probability": probability,
    }


def quoted(value: object) -> str:
    """A value as SQL."""
    if isinstance(value, datetime):
        return f"timestamp '{value.isoformat(sep=' ')}'"
    if isinstance(value, bytes):
        return f"X'{value.hex()}'"
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return str(value)


def any_of(column: str, values: Iterable[object]) -> str:
    """SQL for rows with one of these values."""
    listed = ", ".join(map(quoted, values))
    return f"{column} in ({listed})" if listed else "false"


def all_of(parts: Iterable[str | None]) -> str | None:
    """What holds where all of these conditions hold; None without any."""
    return " and ".join(f"({part})" for part in parts if part) or None


def with_times(where: str, columns: Iterable[str]) -> str:
    """The condition with text that these columns of times are compared with as timestamps.

    LanceDB demands these. So ``time > '2026-11-01 08:02'`` works, with or without seconds and a
    zone. GalleryError for text that is not a time.
    """
    names = "|".join(map(re.escape, columns))
    column = rf"(?P<column>`(?:{names})`|\b(?:{names}))"
    # Any other text in quotes is left alone.
    pattern = rf"{column}(?P<times>{_COMPARED})|{_LITERAL}"

    def typed(found: re.Match[str]) -> str:
        if not found["column"]:
            return found[0]
        return found["column"] + re.sub(_LITERAL, timestamp, found["times"], flags=re.IGNORECASE)

    def timestamp(found: re.Match[str]) -> str:
        try:
            return quoted(parse_time(found[0].partition("'")[2][:-1]))
        except ValueError as error:
            raise GalleryError(f"a time is compared with {found[0]}: {error}") from error

    return re.sub(pattern, typed, where, flags=re.IGNORECASE)
