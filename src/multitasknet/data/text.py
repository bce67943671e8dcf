"""Text files as people's tools write them: encodings, rows, numbers and times."""

from __future__ import annotations

import codecs
import csv
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from io import StringIO
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np

from ..errors import DataError, shown
from ..files import reading

_MARKS = (
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (codecs.BOM_UTF8, "utf-8-sig"),
)
# What could be read as ASCII is not UTF-16, whatever it declares.
_DECLARED = re.compile(
    rb"\s*<\?xml[^>]{0,200}?encoding\s*=\s*[\"'](?!utf-?16|ucs)([\w.-]{1,40})[\"']", re.IGNORECASE
)
# What is called gb2312 or GBK often has characters of the larger set, which contains both.
_CHINESE = ("gb2312", "gb_2312-80", "gbk", "cp936", "936")
_DELIMITERS = ",;\t"
_MOST_PROBLEMS = 20
_LARGEST = float(np.finfo(np.float32).max)
# Of numbers that 64 bits hold.
_WHOLE = re.compile(r"([+-]?0*[0-9]{1,18})(?:[.,]0*)?")
_DECIMALS = re.compile(r"[.,](\d+)")
_DATE = re.compile(r"^((?:19|20)\d\d)(0[1-9]|1[0-2])([0-3]\d)$")
_MOST_SECONDS = 1e10  # in the year 2286; what is larger is a date without signs, or milliseconds
_ZONE = re.compile(r"\s*(?:(Z)|([+-]\d\d):?(\d\d))$", re.IGNORECASE)

Row = TypeVar("Row")
Parsed = TypeVar("Parsed")


def read_text(source: str | Path | BinaryIO) -> str:
    """The text of a file, or of an open binary file such as ``sys.stdin.buffer``.

    In the encoding that its byte order mark states, else the one that an XML declaration names
    (gb2312 is read as gb18030), else UTF-8.

    Raises:
        DataError: it cannot be read, or is no text in any of these.
    """
    with reading(_name_of(source), DataError, "the file cannot be read", "check path and file"):
        content = Path(source).read_bytes() if isinstance(source, str | Path) else source.read()
        marked = next((name for mark, name in _MARKS if content.startswith(mark)), None)
        declared = _DECLARED.match(content[:512])
        named = declared[1].decode("ascii").lower() if declared else "utf-8"
        named = "gb18030" if named in _CHINESE else named
        for encoding in [marked] if marked else [named, "utf-8"]:
            with suppress(UnicodeDecodeError, LookupError):
                return content.decode(encoding)
        raise ValueError(
            "it is not text in UTF-8, nor in the encoding it declares; save it as UTF-8"
        )


def _name_of(source: str | Path | BinaryIO) -> str:
    return str(source) if isinstance(source, str | Path) else "standard input"


def read_lines(source: str | Path | BinaryIO) -> Iterator[tuple[str, str]]:
    """The lines that are not blank, stripped, each after its place ``file:line``; DataError."""
    for number, line in enumerate(read_text(source).splitlines(), start=1):
        if line.strip():
            yield f"{_name_of(source)}:{number}", line.strip()


def read_csv(path: Path) -> Iterator[tuple[str, list[str]]]:
    """The rows that are not blank, each after its place, ``file:line``.

    Fields are separated by commas, semicolons or tabs, whichever the first line has most of that
    is no comment.
    """
    text = read_text(path)
    lines = map(str.strip, text.splitlines())
    first = next((line for line in lines if line and not line.startswith("#")), "")
    rows = csv.reader(StringIO(text, newline=""), delimiter=max(_DELIMITERS, key=first.count))
    try:
        yield from ((f"{path}:{rows.line_num}", fields) for fields in rows if any(fields))
    except csv.Error as error:
        raise DataError(f"{path}:{rows.line_num}: {error}; expected CSV") from error


def read_table(
    path: Path, required: Sequence[str], *, once: Sequence[str] = ()
) -> list[tuple[str, dict[str, str]]]:
    """The rows of a CSV file by the columns of its header, in lower case, each after its place.

    DataError with all faults; ``once`` are columns whose values no two rows may share.
    """
    seen: set[tuple[str, ...]] = set()
    (origin, fields), *rows = [*read_csv(path)] or [(f"{path}:1", [])]
    header = [name.strip().lower() for name in fields]
    if not {*header}.issuperset(required):
        raise DataError(
            f"{origin}: the header is {','.join(header)!r}; {' and '.join(required)} must be there"
        )

    if twice := {name for name in header if name and header.count(name) > 1}:
        raise DataError(f"{origin}: the header has the column {min(twice)!r} twice")

    def cells(row: list[str], place: str) -> tuple[str, dict[str, str]]:
        if len(row) != len(header):
            raise ValueError(f"{len(row)} columns; expected {len(header)}, as in the header")
        values = dict(zip(header, map(str.strip, row), strict=True))
        if once and (key := tuple(values[name] for name in once)) in seen:
            raise ValueError(f"there is a row of {' and '.join(once)} {', '.join(key)} already")
        if once:
            seen.add(key)
        return place, values

    return parse_all(rows, cells)


def parse_all(rows: Iterable[tuple[str, Row]], parse: Callable[[Row, str], Parsed]) -> list[Parsed]:
    """What ``parse`` makes of each row and its place; DataError with all its ValueErrors."""
    parsed, problems = [], []
    for place, row in rows:
        try:
            parsed.append(parse(row, place))
        except ValueError as error:
            problems.append(f"{place}: {error}")
    refuse(problems)
    return parsed


def parse_rows(
    rows: Iterable[tuple[str, Row]], parse: Callable[[Row, str], tuple[str, Parsed]]
) -> dict[str, Parsed]:
    """As :func:`parse_all`, by the image that ``parse`` gives first and that comes once."""
    known: dict[str, Parsed] = {}

    def once(row: Row, place: str) -> None:
        image, value = parse(row, place)
        if image in known:
            raise ValueError(f"{image!r} has come already")
        known[image] = value

    parse_all(rows, once)
    return known


def refuse(problems: Iterable[str]) -> None:
    """Raise DataError with the first 20 problems, and how many more there are, if any."""
    lines = list(problems)
    if len(lines) > _MOST_PROBLEMS:
        lines[_MOST_PROBLEMS:] = [f"... and {len(lines) - _MOST_PROBLEMS} more"]
    if lines:
        raise DataError("\n".join(lines))


def whole_number(text: str) -> int | None:
    """The number in a text such as ``2`` or ``2.0``; None if it is no whole one of 64 bits."""
    # Never through float, in which ids above 2**53 become one another.
    whole = _WHOLE.fullmatch(text.strip())
    return int(whole[1]) if whole else None


def as_number(text: str, field: str) -> int:
    """A number such as ``2``, ``2.0`` or, of a camera, ``c002``; ValueError."""
    value = whole_number(text.strip().lower().removeprefix("c"))
    if value is None or value < 0:
        raise ValueError(f"{field} is {text!r}; expected a whole number")
    return value


def finite(value: Any, name: str, most: float = _LARGEST) -> float:
    """A number that float32 holds, with a decimal point or comma; ValueError."""
    try:
        number = float(value.replace(",", ".") if isinstance(value, str) else value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not abs(number) <= most:
        raise ValueError(f"{name} is {shown(value)}; expected a finite number")
    return number


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
    # Digits alone are a date where they can be one, not seconds.
    text = _DATE.sub(r"\1-\2-\3", str(value).strip())
    try:
        with suppress(ValueError):
            if abs(seconds := float(text)) >= _MOST_SECONDS:
                raise OverflowError("too many seconds")
            return datetime(1970, 1, 1) + timedelta(seconds=seconds)
        # As Python 3.10 reads it.
        text = _DECIMALS.sub(lambda found: f".{found[1]:0<6.6}", text)
        text = _ZONE.sub(lambda found: "+00:00" if found[1] else f"{found[2]}:{found[3]}", text)
        return utc(datetime.fromisoformat(text))
    except (ValueError, OverflowError) as error:
        raise ValueError(
            f"{str(value)[:40]!r} is not a time; expected such as 2026-11-01T08:30:00"
        ) from error
