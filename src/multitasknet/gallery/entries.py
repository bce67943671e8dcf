"""What is to be added: pictures, folders, data sets, and manifests in CSV or Parquet."""

from __future__ import annotations

import csv
import logging
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from ..data.boxes import Box, are_relative, box_corners, corner_columns, fitted
from ..data.file_names import camera_in, path_in
from ..data.labels import keypoints_of
from ..data.layouts import has_split, read_dataset
from ..data.records import NO_VEHICLE, Record
from ..data.text import parse_time, read_csv
from ..errors import DataError, GalleryError, ImageError, OutputError
from ..files import reading, replacing
from ..images import Frame, crop_name, encode_jpeg, find_images
from ..vehicle.cameras import UNKNOWN_CAMERA
from .columns import check_names, parse_cells
from .rows import Entry, Hit, corners, name_of

logger = logging.getLogger(__name__)

_GIVEN = ("id", "image", "camera", "time", "track")
# Of the manifest of exported crops.
_WRITTEN = ("image", "id", "camera", "time", "track")
_JPEG_QUALITY = 95
_SHOWN = 5
_EXPECTED = "expected a CSV file with a header, or Parquet"


def entries_of(images: Iterable[Path]) -> list[Entry]:
    """Pictures, and the crops of folders and data sets, each once.

    Its id is the resolved path: the same however a folder is named or linked. ImageError for a
    folder without any.
    """
    found: dict[str, Entry] = {}
    for image in images:
        for record in _records_of(image) if image.is_dir() else [_unlabelled(image)]:
            whole = _resolved(record.image)
            found[str(whole)] = _entry_of(str(whole), replace(record, image=whole))
    return list(found.values())


def entries_in(folder: Path) -> list[Entry]:
    """The crops of a folder or data set; ids are paths in it."""
    return [
        _entry_of(Path(os.path.relpath(one.image, folder)).as_posix(), one)
        for one in _records_of(folder)
    ]


def _records_of(folder: Path) -> tuple[Record, ...]:
    """The crops of a folder and those below it, of a data set those of its split ``gallery``."""
    if not has_split(folder, "gallery"):
        return tuple(map(_unlabelled, find_images(folder)))
    return read_dataset(folder, ["gallery"], check=False, labelled=False).gallery.records


def _unlabelled(image: Path) -> Record:
    """A crop of which its name alone says something."""
    return Record(image, NO_VEHICLE, camera_in(image.name))


def _entry_of(id: str, record: Record) -> Entry:
    camera = "" if record.camera_id == UNKNOWN_CAMERA else str(record.camera_id)
    return Entry(id, record.image, camera, record.time, record=record)


def entries_of_boxes(boxes: Iterable[Box]) -> list[Entry]:
    """What is in boxes of :func:`.boxes_of`, each once; ids are the resolved path and the box."""
    found: dict[str, Entry] = {}
    for image, group in groupby(boxes, key=lambda box: box.image):
        whole = _entry_of("", replace(_unlabelled(image), image=_resolved(image)))
        for box in group:
            id = crop_name(whole.image, box.xyxy)
            more = {"label": box.label} if box.label else {}
            cut_out = replace(whole, id=id, box=box.xyxy, track=box.track, record=None, more=more)
            found[id] = cut_out
    return list(found.values())


def entry_order(place: object) -> dict[str, int]:
    """The ids of a folder's crops and which in its order they are, from 1; GalleryError else."""
    if not isinstance(place, Path):
        raise GalleryError(
            "a store has no order that a challenge knows; give the challenge's folder as gallery"
        )
    return {entry.id: number for number, entry in enumerate(entries_in(place), start=1)}


def write_ranks(path: Path, found: Iterable[Sequence[Hit]], order: Mapping[str, int]) -> Path:
    """Write a line of ``order``'s numbers for each query, nearest first; OutputError."""
    lines = (" ".join(str(order[hit.row.id]) for hit in hits) for hits in found)
    with replacing(path) as temporary:
        temporary.write_text("".join(f"{line}\n" for line in lines), encoding="ascii")
    return path


def write_crops(folder: Path, rows: Iterable[dict[str, Any]], own: Sequence[str]) -> int:
    """Write what rows show as JPEG files with ``crops.csv``, which :func:`read_manifest` reads.

    Args:
        folder: a new one.
        rows: columns of the table, those of one picture together.
        own: the user's columns among them, to be written as well.

    Returns:
        How many were written; those that cannot be read are left out, which is logged.

    Raises:
        OutputError: the folder is there, or cannot be written.
    """
    if folder.exists():  # said before the work, not after
        raise OutputError(f"{folder}: something is there already; give a new folder")
    lines: list[dict[str, Any]] = []
    with replacing(folder) as part:
        part.mkdir()
        for image, group in groupby(rows, key=lambda row: row["image"]):
            frame, shown = Frame(image), list(group)
            try:
                boxes = [corners(row["box"]) for row in shown]
                crops = [frame.crop(box) if box else frame.picture for box in boxes]
                pixels = [crop.decode()[0] for crop in crops]
            except ImageError as error:
                logger.warning("%s is left out: %s", image, error)
                continue
            for row, crop in zip(shown, pixels, strict=True):
                name = f"{len(lines) + 1:06}.jpg"
                (part / name).write_bytes(encode_jpeg(crop, _JPEG_QUALITY))
                lines.append(row | {"image": name})
        with (part / "crops.csv").open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, [*_WRITTEN, *own], extrasaction="ignore")
            table.writeheader()
            table.writerows(lines)
    return len(lines)


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


def _resolved(path: Path) -> Path:
    # Unlike Path.resolve, it does not fail on links that lead to themselves.
    return Path(os.path.realpath(path))


def read_manifest(path: Path) -> list[Entry]:
    """Pictures from a CSV with a header, or a Parquet file.

    Columns: ``image`` (relative paths start at the manifest's folder), and as wanted ``id`` (the
    image's resolved path without it, and the box), ``camera``, ``time`` (ISO 8601, or seconds since
    1970; UTC if a zone is given), ``track``, a box in the picture as ``x1, y1, x2, y2`` or ``x, y,
    w, h`` (empty for the whole picture), and any others, which become columns of the gallery.

    Raises:
        GalleryError: no such file, a damaged one, names of columns that cannot be stored, faulty
            times and boxes, missing pictures.
        DataError: a CSV that is not text; boxes in pixels and in shares together.
        ImageError: a picture with boxes is none.
    """
    with reading(path, GalleryError, "the manifest cannot be read", _EXPECTED):
        is_parquet = path.suffix.lower() == ".parquet"
        columns = _named(_parquet_columns(path) if is_parquet else _csv_columns(path))
        corners = _check_columns(columns)
    entries = [
        _entry(path, number, dict(zip(columns, row, strict=True)), corners)
        for number, row in enumerate(zip(*columns.values(), strict=True), start=1)
    ]
    # Path.is_file fails on names that are too long.
    missing = [str(one.image) for one in entries if not os.path.isfile(one.image)]  # noqa: PTH113
    if missing:
        raise GalleryError(
            f"{path}: {len(missing)} pictures are missing: {', '.join(missing[:_SHOWN])}; fetch "
            f"them, or take their rows out"
        )
    entries = list(_cut_out(path, entries))
    if not entries:
        raise GalleryError(f"{path}: there are no rows; give at least one picture")
    return entries


def _cut_out(path: Path, entries: Sequence[Entry]) -> Iterator[Entry]:
    """The entries with their boxes fitted to their pictures, without those that are too small."""
    given = [(number, one.box, one) for number, one in enumerate(entries, start=1) if one.box]
    places = [f"{path}, row {number}" for number, _, _ in given]
    relative = are_relative([box for _, box, _ in given], places)
    fits = iter(fitted([Box(one.image, box) for _, box, one in given], relative=relative))
    for entry in entries:
        box = next(fits) if entry.box else None
        if box or not entry.box:
            xyxy = box.xyxy if box else None
            yield replace(entry, id=entry.id or name_of(entry.image, xyxy), box=xyxy)


def _csv_columns(path: Path) -> Iterable[tuple[str, list[Any]]]:
    (_, names), *lines = read_csv(path)
    for place, cells in lines:
        if len(cells) != len(names):
            raise ValueError(f"{place}: {len(cells)} cells; the header has {len(names)}")
    for column, name in enumerate(names):
        cells = [line[column] for _, line in lines]
        yield name, cells if name.strip() in _GIVEN else parse_cells(cells)


def _parquet_columns(path: Path) -> Iterable[tuple[str, list[Any]]]:
    table = parquet.read_table(path)
    for name, column in zip(table.column_names, table.columns, strict=True):
        if pa.types.is_timestamp(column.type):
            # Of nanoseconds Python's times hold none.
            column = column.cast(pa.timestamp("us", tz=column.type.tz), safe=False)
        values = column.to_pylist()
        yield name, [None if isinstance(one, float) and math.isnan(one) else one for one in values]


def _named(columns: Iterable[tuple[str, list[Any]]]) -> dict[str, list[Any]]:
    """The columns by name, without the index that pandas writes."""
    found: dict[str, list[Any]] = {}
    for place, (written, values) in enumerate(columns):
        name = written.strip()
        is_unnamed = not name and (place == 0 or not any(values))
        if is_unnamed or name.startswith("__index_level_"):
            continue
        if name in found:
            raise ValueError(f"two columns are named {name!r}")
        found[name] = values
    return found


def _check_columns(columns: Iterable[str]) -> tuple[str, ...]:
    """The columns that are boxes, if any; GalleryError for those that cannot be used."""
    names = {name.casefold(): name for name in columns}
    if "bbox" in names:
        raise GalleryError(
            "the column 'bbox' may be of either kind; give four, x1, y1, x2, y2 or x, y, w, h"
        )
    if "image" not in columns:
        raise GalleryError(f"no column is 'image'; it has {', '.join(columns) or 'none'}")
    corners = tuple(names[one] for one in corner_columns(names) or ())
    check_names([name for name in columns if name not in (*_GIVEN, *corners)])
    return corners


def _entry(path: Path, number: int, row: dict[str, Any], corners: Sequence[str]) -> Entry:
    if not row["image"]:
        raise GalleryError(f"{path}: row {number} has no image; give its path")
    cells = [row.pop(name) for name in corners]
    with reading(f"{path}, row {number}", GalleryError, "cannot be used", "correct the row"):
        time = parse_time(row.get("time"))
        image = _resolved(path.parent / path_in(str(row["image"])))
        # A row without a box is a whole picture.
        box = None if set(cells) <= {None} else box_corners(corners, cells)
    more = {name: value for name, value in row.items() if name not in _GIVEN}
    id, camera, track = (_word(row.get(name)) for name in ("id", "camera", "track"))
    return Entry(id, image, camera, time, box=box, track=track, more=more)


def _word(value: object) -> str:
    """An id or camera as text; a whole number that was written as a decimal without it."""
    text = "" if value is None else str(value).strip()
    whole, _, rest = text.partition(".")
    return whole if rest == "0" and whole.lstrip("-").isdigit() else text
