"""What label files, lists and tables of data sets hold, row by row, each after its place."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path
from xml.parsers import expat

from ..errors import DataError
from ..files import reading
from .class_names import UNKNOWN_WORDS
from .labels import refuse, whole_number
from .text import read_csv, read_lines, read_text

_COLUMNS = ("image", "vehicle_id", "camera", "color", "type")
_REQUIRED = ("image", "vehicle_id")
_FRACTION = re.compile(r"[+-]?[0-9]*[.,][0-9]+")
_DECIMALS = re.compile(r"[.,](\d+)")
_ZONE = re.compile(r"\s*(?:(Z)|([+-]\d\d):?(\d\d))$", re.IGNORECASE)


def read_columns(path: Path, count: int) -> list[tuple[str, list[str]]]:
    """The rows of a list whose columns blanks separate, each after its place; none without it."""
    rows = [(origin, line.split()) for origin, line in read_lines(path)] if path.is_file() else []
    refuse(
        f"{origin}: {len(row)} columns; expected {count}, separated by blanks"
        for origin, row in rows
        if len(row) != count
    )
    return rows


def read_items(path: Path) -> list[tuple[str, dict[str, str]]]:
    """The attributes of a label file's items, each after its place."""
    items = []
    parser = expat.ParserCreate()

    def start(_: str, attributes: dict[str, str]) -> None:
        if "imageName" in attributes:
            items.append((f"{path}:{parser.CurrentLineNumber}", attributes))

    parser.StartElementHandler = start
    text = read_text(path)
    with reading(path, DataError, "the label file cannot be read", "expected XML"):
        # Text, not bytes: expat does not know the gb2312 that VeRi's files declare.
        parser.Parse(text, True)
    return items


def read_table(
    path: Path, columns: Sequence[str] = _COLUMNS, required: Sequence[str] = _REQUIRED
) -> list[tuple[str, dict[str, str]]]:
    """The rows of a CSV file by the columns of its header, each after its place."""
    (origin, fields), *rows = [*read_csv(path)] or [(f"{path}:1", [])]
    header = [name.strip().lower() for name in fields]
    if set(required) - set(header):
        raise DataError(
            f"{origin}: the header is {','.join(header)!r}; expected {','.join(columns)}, of "
            f"which {' and '.join(required)} must be there"
        )
    refuse(
        f"{origin}: the header has the column {name!r} twice"
        for name in columns
        if header.count(name) > 1
    )
    refuse(
        f"{place}: {len(row)} columns; expected {len(header)}, as in the header"
        for place, row in rows
        if len(row) != len(header)
    )
    return [(place, dict(zip(header, map(str.strip, row), strict=True))) for place, row in rows]


def numbering(words: Iterable[str]) -> dict[str, int]:
    """A column's words as numbers: as they state, or by rank where they are names."""
    known = sorted(
        word
        for word in words
        if word.lower() not in UNKNOWN_WORDS
        and not (_FRACTION.fullmatch(word) and whole_number(word) is None)
    )
    try:
        return {word: as_number(word, "") for word in known}
    except ValueError:
        return {word: rank for rank, word in enumerate(known, start=1)}


def as_number(text: str, field: str) -> int:
    """A number such as ``2``, ``2.0`` or, of a camera, ``c002``."""
    value = whole_number(text.strip().lower().removeprefix("c"))
    if value is None or value < 0:
        raise ValueError(f"{field} is {text!r}; expected a whole number")
    return value


def utc(time: datetime) -> datetime:
    """A time without a zone: one with a zone becomes UTC."""
    return time if time.tzinfo is None else time.astimezone(timezone.utc).replace(tzinfo=None)


def parse_time(value: object) -> datetime | None:
    """A time in ISO 8601, or in seconds since 1970 (UTC); None for no value.

    Of nanoseconds the microseconds are kept. ValueError for anything else.
    """
    if value is None or value == "":
        return None
    if isinstance(value, datetime):
        return utc(value)
    text = str(value).strip()
    try:
        with suppress(ValueError):
            return datetime(1970, 1, 1) + timedelta(seconds=float(text))
        # As Python 3.10 reads it.
        text = _DECIMALS.sub(lambda found: f".{found[1]:0<6.6}", text)
        text = _ZONE.sub(lambda found: "+00:00" if found[1] else f"{found[2]}:{found[3]}", text)
        return utc(datetime.fromisoformat(text))
    except (ValueError, OverflowError) as error:
        raise ValueError(
            f"{str(value)[:40]!r} is not a time; expected such as 2026-11-01T08:30:00"
        ) from error
