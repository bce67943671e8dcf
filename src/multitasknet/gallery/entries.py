"""What is to be added: pictures, folders, data sets, and manifests in CSV or Parquet."""

from __future__ import annotations

import csv
import math
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from ..data.file_names import camera_in, path_in
from ..data.labels import Labels
from ..data.records import Record
from ..data.text import read_text
from ..errors import GalleryError
from ..files import reading
from ..images import find_images
from ..vehicle.cameras import UNKNOWN_CAMERA
from .columns import check_names, parse_cells
from .rows import Entry, parse_time

_GIVEN = ("id", "image", "camera", "time")
_BOX = ({"x", "y", "w", "h"}, {"x", "y", "width", "height"}, {"bbox"}, {"x1", "y1", "x2", "y2"})
_SHOWN = 5
_EXPECTED = "expected a CSV file with a header, or Parquet"


def entries_of(images: Iterable[Path]) -> list[Entry]:
    """Pictures, and all those in folders and below, each once.

    Its id is the resolved path: the same however a folder is named or linked. Its camera is what
    its name states. ImageError for a folder without any.
    """
    found: dict[str, Entry] = {}
    for image in images:
        for path in find_images(image) if image.is_dir() else [image]:
            whole = _resolved(path)
            found[str(whole)] = Entry(str(whole), whole, camera_of(camera_in(whole.name)))
    return list(found.values())


def entries_in(folder: Path, records: Iterable[Record]) -> list[Entry]:
    """The images of a data set or folder, with their paths in it as ids."""
    return [
        Entry(
            id=Path(os.path.relpath(record.image, folder)).as_posix(),
            image=record.image,
            camera=camera_of(record.camera_id),
            record=record,
        )
        for record in records
    ]


def _resolved(path: Path) -> Path:
    # Unlike Path.resolve, it does not fail on links that lead to themselves.
    return Path(os.path.realpath(path))


def camera_of(number: int) -> str:
    """A camera's name in a gallery; empty if unknown."""
    return "" if number == UNKNOWN_CAMERA else str(number)


def read_manifest(path: Path) -> list[Entry]:
    """Pictures from a CSV with a header, or a Parquet file.

    Columns: ``image`` (relative paths start at the manifest's folder), and as wanted ``id`` (the
    image's resolved path without it), ``camera``, ``time`` (ISO 8601, or seconds since 1970; UTC if
    a zone is given) and any others, which become columns of the gallery.

    Raises:
        GalleryError: no such file, a damaged one, names of columns that cannot be stored, faulty
            times, ids that occur twice, missing pictures, boxes.
    """
    with reading(path, GalleryError, "the manifest cannot be read", _EXPECTED):
        is_parquet = path.suffix.lower() == ".parquet"
        columns = _parquet_columns(path) if is_parquet else _csv_columns(path)
        _check_columns(columns)
    entries = [
        _entry(path, number, dict(zip(columns, row, strict=True)))
        for number, row in enumerate(zip(*columns.values(), strict=True), start=1)
    ]
    twice = [id for id, count in Counter(one.id for one in entries).items() if count > 1]
    _refuse(path, "ids occur twice", twice, "give each row an id of its own")
    # Path.is_file fails on names that are too long.
    missing = [str(one.image) for one in entries if not os.path.isfile(one.image)]  # noqa: PTH113
    _refuse(path, "pictures are missing", missing, "fetch them, or take their rows out")
    if not entries:
        raise GalleryError(f"{path}: there are no rows; give at least one picture")
    return entries


def _csv_columns(path: Path) -> dict[str, list[Any]]:
    text = read_text(path)
    header, _, _ = text.partition("\n")
    delimiter = max(",;\t", key=header.count)
    lines = list(csv.reader(StringIO(text, newline=""), delimiter=delimiter, strict=True))
    names, rows = [name.strip() for name in lines[0]], [line for line in lines[1:] if line]
    for number, row in enumerate(rows, start=1):
        if len(row) != len(names):
            raise ValueError(f"row {number} has {len(row)} cells, the header {len(names)}")
    columns: dict[str, list[Any]] = {}
    for place, name in enumerate(names):
        cells = [row[place] for row in rows]
        if name in columns:
            raise ValueError(f"two columns are named {name!r}")
        # pandas writes its index first, without a name.
        if name or (place and any(cells)):
            columns[name] = cells if name in _GIVEN else parse_cells(cells)
    return columns


def _parquet_columns(path: Path) -> dict[str, list[Any]]:
    table = parquet.read_table(path)
    names = [name.strip() for name in table.column_names]
    if len(set(names)) < len(names):
        raise ValueError(f"two columns have one name among {', '.join(names)}")
    return {
        name: _values(column)
        for name, column in zip(names, table.columns, strict=True)
        if name and not name.startswith("__index_level_")
    }


def _values(column: Any) -> list[Any]:
    kind = column.type
    if pa.types.is_timestamp(kind):
        # Of nanoseconds Python's times hold none.
        column = column.cast(pa.timestamp("us", tz=kind.tz), safe=False)
    return [
        None if isinstance(value, float) and math.isnan(value) else value
        for value in column.to_pylist()
    ]


def _check_columns(columns: Mapping[str, Any]) -> None:
    names = {name.casefold() for name in columns}
    for box in _BOX:
        if box <= names:
            raise GalleryError(
                f"the columns {', '.join(sorted(box))} are boxes in larger pictures, which are not "
                f"read; cut the vehicles out, one picture each"
            )
    if "image" not in columns:
        raise GalleryError(f"no column is 'image'; it has {', '.join(columns) or 'none'}")
    own = [name for name in columns if name not in _GIVEN]
    check_names(own)


def _entry(path: Path, number: int, row: dict[str, Any]) -> Entry:
    if not row["image"]:
        raise GalleryError(f"{path}: row {number} has no image; give its path")
    with reading(f"{path}, row {number}", GalleryError, "cannot be used", "correct the row"):
        time = parse_time(row.get("time"))
        image = _resolved(path.parent / path_in(str(row["image"])))
    more = {name: value for name, value in row.items() if name not in _GIVEN}
    id, camera = _word(row.get("id")), _word(row.get("camera"))
    return Entry(id or str(image), image, camera, time, more=more)


def _word(value: object) -> str:
    """An id or camera as text; a whole number that was written as a decimal without it."""
    text = "" if value is None else str(value).strip()
    whole, dot, rest = text.partition(".")
    is_decimal = isinstance(value, float) or (dot and rest == "0" and whole.isdigit())
    return whole if is_decimal and rest == "0" else text


def with_labels(entries: Sequence[Entry], labels: Labels) -> list[Entry]:
    """The entries with the keypoints that labels give for their images; DataError."""
    rows = labels.match([entry.image for entry in entries])
    return [
        entry
        if row is None
        else replace(entry, record=Record(entry.image, 0, keypoints=row.keypoints))
        for entry, row in zip(entries, rows, strict=True)
    ]


def _refuse(path: Path, what: str, found: Sequence[str], remedy: str) -> None:
    """GalleryError if anything was found; names the first."""
    if found:
        more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise GalleryError(
            f"{path}: {len(found)} {what}: {', '.join(found[:_SHOWN])}{more}; {remedy}"
        )
