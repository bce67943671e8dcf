"""What is to be added: pictures, folders, data sets, and manifests in CSV or Parquet."""

from __future__ import annotations

import csv
import logging
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from ..data.boxes import Box, are_relative, box_corners, corner_columns, fitted
from ..data.file_names import path_in
from ..data.labels import keypoints_of
from ..data.layouts import has_split, read_dataset
from ..data.records import NO_VEHICLE, Record
from ..data.text import parse_time, read_csv
from ..errors import DataError, GalleryError, ImageError, OutputError
from ..files import reading, replacing
from ..images import Frame, crop_name, encode_jpeg, find_images
from ..vehicle.cameras import camera_name
from .rows import Entry, Hit, corners, name_of
from .store import check_names

logger = logging.getLogger(__name__)

_GIVEN = ("image", "id", "camera", "time", "track")
_JPEG_QUALITY = 95
_EXPECTED = "expected a CSV file with a header, or Parquet"


def entries_of(places: Iterable[Path], root: Path | None = None) -> list[Entry]:
    """Pictures, and the crops of folders and of data sets (their split ``gallery``), each once.

    Ids are resolved paths, the same however a folder is named or linked, or paths in ``root``.
    ImageError for a folder without any.
    """
    found: dict[str, Entry] = {}
    for place in places:
        for record in _records_of(place):
            image = record.image if root else Path(os.path.realpath(record.image))
            id = Path(os.path.relpath(image, root)).as_posix() if root else str(image)
            record = replace(record, image=image)
            found[id] = Entry(id, image, camera_name(record.camera_id), record.time, record=record)
    return list(found.values())


def _records_of(place: Path) -> Iterable[Record]:
    if place.is_dir() and has_split(place, "gallery"):
        return read_dataset(place, ["gallery"], check=False, labelled=False).gallery.records
    images = find_images(place) if place.is_dir() else [place]
    return (Record(image, NO_VEHICLE) for image in images)


def entries_of_boxes(boxes: Iterable[Box]) -> list[Entry]:
    """What is in boxes of :func:`.boxes_of`, each once; ids are the resolved path and the box."""
    found: dict[str, Entry] = {}
    for image, group in groupby(boxes, key=lambda box: box.image):
        (frame,) = entries_of([image])
        for box in group:
            id, more = crop_name(frame.image, box.xyxy), {"label": box.label} if box.label else {}
            found[id] = Entry(
                id, frame.image, frame.camera, box=box.xyxy, track=box.track, more=more
            )
    return list(found.values())


def with_labels(entries: Sequence[Entry], labels: Path | None) -> list[Entry]:
    """The entries with the keypoints that a label file gives for their images.

    DataError, also for boxes, whose keypoints no label file gives.
    """
    if labels and any(entry.box for entry in entries):
        raise DataError(f"{labels}: keypoints of boxes are estimated; leave --labels out")
    keypoints = keypoints_of([entry.image for entry in entries], labels)
    return [
        entry if points is None else replace(entry, record=Record(entry.image, 0, keypoints=points))
        for entry, points in zip(entries, keypoints, strict=True)
    ]


def write_ranks(path: Path, found: Iterable[Sequence[Hit]], folder: Path) -> Path:
    """Write a line for each query: its hits' places among the folder's crops, from 1; OutputError.

    The hits are of a gallery of that folder.
    """
    order = {entry.id: str(number) for number, entry in enumerate(entries_of([folder], folder), 1)}
    with replacing(path) as part:
        lines = (" ".join(order[hit.row.id] for hit in hits) for hits in found)
        part.write_text("".join(f"{line}\n" for line in lines), encoding="ascii")
    return path


def write_crops(folder: Path, rows: Iterable[dict[str, Any]], own: Sequence[str]) -> int:
    """Write what rows of the table show as JPEG files into a new folder, with ``crops.csv``.

    This manifest has the user's ``own`` columns, too. Returns how many were written; OutputError;
    GalleryError if no picture can be read.
    """
    if folder.exists():
        raise OutputError(f"{folder}: something is there already; give a new folder")
    ordered = sorted(rows, key=lambda row: str(row["image"]))
    count = 0
    with replacing(folder) as part:
        part.mkdir()
        with (part / "crops.csv").open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, [*_GIVEN, *own], extrasaction="ignore")
            table.writeheader()
            for image, group in groupby(ordered, key=lambda row: row["image"]):
                frame = Frame(image)
                for row in group:
                    box = corners(row["box"])
                    try:
                        pixels, _ = (frame.crop(box) if box else frame.picture).decode()
                    except ImageError as error:
                        logger.warning("%s is left out: %s", image, error)
                        continue
                    count += 1
                    name = f"{count:06}.jpg"
                    (part / name).write_bytes(encode_jpeg(pixels, _JPEG_QUALITY))
                    table.writerow(row | {"image": name})
        if not count:
            raise GalleryError(f"{folder}: no row's picture can be read; nothing is written")
    return count


def read_manifest(path: Path) -> list[Entry]:
    """Pictures from a CSV with a header, or a Parquet file.

    Columns: ``image`` (relative paths start at the manifest's folder), and as wanted ``id`` (else
    path and box), ``camera``, ``time`` (ISO 8601, or seconds since 1970; UTC if a zone is given),
    ``track``, a box as ``x1, y1, x2, y2`` or ``x, y, w, h`` (empty for the whole picture), and any
    others, which become columns of the gallery.

    GalleryError for a damaged file, names of columns that cannot be stored, faulty times and boxes,
    missing pictures; DataError for a CSV that is not text, or boxes in pixels and in shares
    together; ImageError for a picture with boxes that is none.
    """
    with reading(path, GalleryError, "the manifest cannot be read", _EXPECTED):
        columns = _columns(path)
        of_box = _box_columns(columns)
    entries = [
        _entry(path, number, dict(zip(columns, row, strict=True)), of_box)
        for number, row in enumerate(zip(*columns.values(), strict=True), start=1)
    ]
    # Path.is_file fails on names that are too long.
    missing = [str(one.image) for one in entries if not os.path.isfile(one.image)]  # noqa: PTH113
    if missing:
        raise GalleryError(
            f"{path}: {len(missing)} pictures are missing, such as {missing[0]}; fetch them, or "
            f"take their rows out"
        )
    if not (entries := list(_cut_out(path, entries))):
        raise GalleryError(f"{path}: there are no rows; give at least one picture")
    return entries


def _columns(path: Path) -> dict[str, list[Any]]:
    """The columns by name, without the index that pandas writes; only own ones of CSV are typed."""
    is_parquet = path.suffix.lower() == ".parquet"
    if is_parquet:
        table = parquet.read_table(path)
        columns = list(zip(table.column_names, map(_values, table.columns), strict=True))
    else:
        (_, names), *lines = read_csv(path)
        for line, cells in lines:
            if len(cells) != len(names):
                raise ValueError(f"{line}: {len(cells)} cells; the header has {len(names)}")
        columns = [(name, [cells[n] for _, cells in lines]) for n, name in enumerate(names)]
    found: dict[str, list[Any]] = {}
    for place, (written, values) in enumerate(columns):
        name = written.strip()
        is_unnamed = not name and (place == 0 or not any(values))
        if is_unnamed or name.startswith("__index_level_"):
            continue
        if name in found:
            raise ValueError(f"two columns are named {name!r}")
        found[name] = values if is_parquet or name in _GIVEN else parse_cells(values)
    return found


def _values(column: Any) -> list[Any]:
    if pa.types.is_timestamp(column.type):
        # Of nanoseconds Python's times hold none.
        column = column.cast(pa.timestamp("us", tz=column.type.tz), safe=False)
    values = column.to_pylist()
    return [None if isinstance(one, float) and math.isnan(one) else one for one in values]


def parse_cells(cells: Sequence[str]) -> list[object]:
    """A column of text, as a CSV file has it, with its type; None for an empty cell.

    They are numbers only if writing each of them back gives the same text, so that ``00123``,
    ``1E5`` and ``NA`` stay text.
    """
    numbers = list(map(_number, cells))
    if all(number is not None or not cell for number, cell in zip(numbers, cells, strict=True)):
        return list(numbers)
    return [cell or None for cell in cells]


def _number(text: str) -> int | float | None:
    with suppress(ValueError):
        value = int(text) if text.lstrip("-").isdecimal() else float(text)
        if str(value) == text and math.isfinite(value) and abs(value) < 1 << 63:
            return value
    return None


def _box_columns(columns: Iterable[str]) -> tuple[str, ...]:
    names = {name.casefold(): name for name in columns}
    if "bbox" in names:
        raise GalleryError(
            "the column 'bbox' may be of either kind; give four, x1, y1, x2, y2 or x, y, w, h"
        )
    if "image" not in columns:
        raise GalleryError(f"no column is 'image'; it has {', '.join(columns) or 'none'}")
    found = tuple(names[one] for one in corner_columns(names) or ())
    check_names([name for name in columns if name not in (*_GIVEN, *found)])
    return found


def _entry(path: Path, number: int, row: dict[str, Any], of_box: Sequence[str]) -> Entry:
    cells = [row.pop(name) for name in of_box]
    with reading(f"{path}, row {number}", GalleryError, "cannot be used", "correct the row"):
        if not row["image"]:
            raise ValueError("no image")
        time = parse_time(row.get("time"))
        image = (path.parent / path_in(str(row["image"]))).resolve()
        # A row without a box is a whole picture.
        box = None if set(cells) <= {None} else box_corners(of_box, cells)
    more = {name: value for name, value in row.items() if name not in _GIVEN}
    id, camera, track = (_word(row.get(name)) for name in ("id", "camera", "track"))
    return Entry(id, image, camera, time, box=box, track=track, more=more)


def _word(value: object) -> str:
    # A whole number may have been written as a decimal.
    text = "" if value is None else str(value).strip()
    whole, _, rest = text.partition(".")
    return whole if rest == "0" and whole.lstrip("-").isdigit() else text


def _cut_out(path: Path, entries: Sequence[Entry]) -> Iterator[Entry]:
    given = {f"{path}, row {number}": one for number, one in enumerate(entries, start=1) if one.box}
    boxes = [Box(one.image, one.box) for one in given.values() if one.box]
    relative = are_relative([box.xyxy for box in boxes], list(given))
    fits = iter(fitted(boxes, relative=relative))
    for entry in entries:
        box = next(fits) if entry.box else None
        if box or not entry.box:
            xyxy = box.xyxy if box else None
            yield replace(entry, id=entry.id or name_of(entry.image, xyxy), box=xyxy)
