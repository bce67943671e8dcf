"""Conditions on the rows of a store, as SQL."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

from ..errors import MultiTaskNetError
from ..files import reading
from .gallery import GalleryFilter

# Text in quotes, which is left alone, or a comparison of the one or other column.
_LITERAL = r"'(?:[^']|'')*'"
_TIMES = re.compile(
    rf"(?P<time>\btime\s*(?:[<>!=]=?|<>)\s*|\btime\s+(?:not\s+)?between\s+){_LITERAL}"
    rf"(?:\s+and\s+{_LITERAL})?|{_LITERAL}",
    re.IGNORECASE,
)
_CAMERAS = re.compile(
    rf"\bcamera\s*(?:[!=]=?|<>)\s*\d+\b|\bcamera\s+(?:not\s+)?in\s*\([\d\s,]+\)|{_LITERAL}",
    re.IGNORECASE,
)


class ConditionError(MultiTaskNetError, ValueError):
    """A file of travel times that cannot be used."""


@dataclass(frozen=True)
class TravelTimes:
    """How long vehicles take from one camera to another.

    Attributes:
        seconds: by camera and other camera, least and most seconds; the same both ways.
    """

    seconds: Mapping[tuple[str, str], tuple[float, float]]

    @classmethod
    def read(cls, path: Path) -> TravelTimes:
        """From a CSV with the columns ``from``, ``to``, ``least`` and ``most`` (seconds).

        Raises:
            ConditionError: the file cannot be read, or a row is faulty.
        """
        seconds: dict[tuple[str, str], tuple[float, float]] = {}
        remedy = "expected the columns from, to, least, most, with seconds of at least 0"
        with (
            reading(path, ConditionError, "these are no travel times", remedy),
            path.open(newline="", encoding="utf-8-sig") as file,
        ):
            for row in csv.DictReader(file):
                least, most = float(row["least"]), float(row["most"])
                if not 0 <= least <= most < math.inf:
                    raise ValueError(f"least is {least:g} and most {most:g}")
                seconds[row["from"], row["to"]] = least, most
        if not seconds:
            raise ConditionError(f"{path}: there are no rows; {remedy}")
        return cls(seconds)

    def condition(self, camera: str, time: datetime) -> str:
        """Where and when a vehicle can be that this camera saw at this time, as SQL."""
        parts = []
        for (first, second), (least, most) in self.seconds.items():
            if camera in (first, second):
                other = second if camera == first else first
                parts += [
                    f"(camera = {quoted(other)} and time between {quoted(start)} and {quoted(end)})"
                    for start, end in (
                        (_shifted(time, least), _shifted(time, most)),
                        (_shifted(time, -most), _shifted(time, -least)),
                    )
                ]
        return f"({' or '.join(parts)})" if parts else "false"


def quoted(value: object) -> str:
    """A value as SQL."""
    if isinstance(value, datetime):
        return f"timestamp '{value.isoformat(sep=' ')}'"
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return str(value)


def typed(where: str) -> str:
    """The condition with ``time`` compared with times and ``camera`` with text.

    So that ``time > '2026-11-01'`` and ``camera in (3, 4)`` mean what they say.
    """
    where = _TIMES.sub(lambda found: _as_time(found) if found["time"] else found[0], where)
    return _CAMERAS.sub(
        lambda found: found[0] if found[0][0] == "'" else re.sub(r"\d+", r"'\g<0>'", found[0]),
        where,
    )


def filter_condition(chosen: GalleryFilter) -> str | None:
    """A filter as SQL; None if it leaves nothing out."""
    parts = [
        f"{column} in ({', '.join(map(quoted, values))})"
        for column, values in (
            ("camera", chosen.cameras),
            ("color", chosen.colors),
            ("type", chosen.types),
        )
        if values
    ]
    if chosen.not_before is not None:
        parts.append(f"time >= {quoted(utc(chosen.not_before))}")
    if chosen.not_after is not None:
        parts.append(f"time <= {quoted(utc(chosen.not_after))}")
    return all_of(parts)


def all_of(parts: Iterable[str | None]) -> str | None:
    """What holds where all of these conditions hold; None if there is none."""
    given = [f"({part})" for part in parts if part]
    return " and ".join(given) or None


def any_of(column: str, values: Sequence[str]) -> str:
    """Rows with one of these values."""
    return f"{column} in ({', '.join(map(quoted, values))})"


def utc(time: datetime) -> datetime:
    """A time without a zone: of one that has a zone, that of UTC."""
    return time if time.tzinfo is None else time.astimezone(timezone.utc).replace(tzinfo=None)


def parse_time(value: object) -> datetime | None:
    """A time in ISO 8601, or in seconds since 1970 (UTC); None if there is none.

    ValueError for anything else.
    """
    if value is None or value == "":
        return None
    try:
        if isinstance(value, datetime):
            return utc(value)
        if isinstance(value, int | float):
            return datetime(1970, 1, 1) + timedelta(seconds=value)
        text = str(value).strip()
        return utc(datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith("Z") else text))
    except (ValueError, OverflowError) as error:
        raise ValueError(
            f"{str(value)[:40]!r} is no time; expected such as 2026-11-01T08:30:00"
        ) from error


def _shifted(time: datetime, seconds: float) -> datetime:
    try:
        return time + timedelta(seconds=seconds)
    except OverflowError:
        return datetime.max if seconds > 0 else datetime.min


def _as_time(found: re.Match[str]) -> str:
    start = len(found["time"])
    return found["time"] + re.sub(_LITERAL, r"timestamp \g<0>", found[0][start:])
