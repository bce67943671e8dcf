"""Label files, 36 keypoints an image: PAMTRI's and NVlabs' CSV; and what reading any takes."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TypeVar

import numpy as np

from ..documents import shown
from ..errors import MultiTaskNetError
from ..files import reading
from ..vehicle.keypoints import NUM_KEYPOINTS

COLUMNS = 4 + 3 * NUM_KEYPOINTS
ANNOTATION_COLUMNS = 3 + 3 * NUM_KEYPOINTS
_MOST_PROBLEMS = 20
_LONGEST_NAME = 4096
_WHOLE = re.compile(r"([+-]?[0-9]+)(?:\.0*)?")
_VEHICLE_IN_NAME = re.compile(r"[0-9]+")
_LARGEST = float(np.finfo(np.float32).max)

Row = TypeVar("Row")
Parsed = TypeVar("Parsed")


class LabelError(MultiTaskNetError, ValueError):
    """A label file that cannot be used; names file, line and value, up to 20 problems at once."""


@dataclass(frozen=True, eq=False)
class LabelRow:
    """What a label file says of one image.

    Attributes:
        image: the image's file name.
        vehicle_id, color_id, type_id: raw ids as the file states them, 0 where it does not.
        keypoints: float32 ``[36, 3]``: x and y in pixels of the original image, confidence.
        origin: where it stands, ``file:line``.
    """

    image: str
    vehicle_id: int
    color_id: int
    type_id: int
    keypoints: np.ndarray
    origin: str = ""


def read_labels(path: str | Path) -> Mapping[str, LabelRow]:
    """Read a label file, keyed by image file name.

    Understood are PAMTRI's label CSV (no header, 112 columns a row), NVlabs' annotation CSV (no
    header, 111 columns: image, width, height, then x, y and visibility, which becomes a confidence
    of 1 or 0; the name's leading digits are the vehicle) and COCO keypoint JSON, see
    :func:`multitasknet.data.coco.read_coco`.

    Raises:
        LabelError: the file cannot be read, is empty, or has faulty or duplicate rows.
    """
    path = Path(path)
    if path.suffix.lower() == ".json":
        from .coco import read_coco  # which builds on this module

        return read_coco(path)
    rows = read_csv(path)
    first = next(rows, None)
    if first is None:
        raise LabelError(f"{path}: the file has no rows; expected {COLUMNS} columns a row")
    parse = _parse_annotation if len(first[1]) == ANNOTATION_COLUMNS else _parse_row
    return parse_rows(chain([first], rows), parse)


def write_labels(path: str | Path, rows: Iterable[LabelRow], *, decimals: int = 2) -> None:
    """Write a PAMTRI label CSV that :func:`read_labels` reads; numbers to that many decimals."""
    with Path(path).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        for row in rows:
            numbers = [f"{value:.{decimals}f}" for value in row.keypoints.ravel().tolist()]
            writer.writerow([row.image, row.vehicle_id, row.color_id, row.type_id, *numbers])


def read_visibility(path: Path) -> Mapping[str, np.ndarray]:
    """Which keypoints can be seen, uint8 ``[36]`` keyed by image; empty if there is no such file.

    A row is the image and 36 times 0 (visible), 1 (hidden by the vehicle itself) or 2 (hidden
    otherwise, or outside).
    """
    return parse_rows(read_csv(path), _parse_visibility) if path.is_file() else {}


def _parse_visibility(fields: list[str], _: str) -> tuple[str, np.ndarray]:
    if len(fields) != 1 + NUM_KEYPOINTS:
        raise ValueError(f"{len(fields)} columns; expected {1 + NUM_KEYPOINTS}")
    strange = set(fields[1:]) - {"0", "1", "2"}
    if strange:
        raise ValueError(f"visibility is {min(strange)!r}; expected 0, 1 or 2")
    return fields[0], np.array(fields[1:], dtype=np.uint8)


def keypoints_of(
    images: Sequence[Path], labels: str | Path | Mapping[str, LabelRow] | None
) -> list[np.ndarray | None]:
    """For each image the keypoints that the label file or its rows have under its name, or None."""
    rows = read_labels(labels) if isinstance(labels, str | Path) else labels or {}
    return [rows[image.name].keypoints if image.name in rows else None for image in images]


def vehicle_in(name: str) -> int:
    """The vehicle of a file name such as ``0002_c002_00030600_0.jpg``: its leading digits, or 0."""
    digits = _VEHICLE_IN_NAME.match(name)
    return int(digits[0]) if digits else 0


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Whatever keeps a label file from being read, as LabelError."""
    with reading(path, LabelError, "the label file cannot be read", "check path and file"):
        yield


def read_csv(path: Path) -> Iterator[tuple[str, list[str]]]:
    """The rows that are not blank, each behind its place, ``file:line``."""
    with readable(path), path.open(newline="", encoding="utf-8-sig") as file:
        rows = csv.reader(file)
        yield from ((f"{path}:{rows.line_num}", fields) for fields in rows if fields)


def parse_rows(
    rows: Iterable[tuple[str, Row]],
    parse: Callable[[Row, str], tuple[str, Parsed]],
    again: str = "has a row already",
) -> dict[str, Parsed]:
    """The images and what is known of them, as ``parse`` makes it of each row and its place.

    LabelError names all faults at once: ValueErrors of ``parse``, and images that come again.
    """
    parsed: dict[str, Parsed] = {}
    problems = []
    for origin, row in rows:
        try:
            image, known = parse(row, origin)
            if image in parsed:
                raise ValueError(f"image {image!r} {again}")
            parsed[image] = known
        except ValueError as error:
            problems.append(f"{origin}: {error}")
    refuse(problems)
    return parsed


def refuse(problems: Iterable[str]) -> None:
    """Raise LabelError with the first 20 problems, and how many more there are, if any."""
    lines = list(problems)
    if len(lines) > _MOST_PROBLEMS:
        lines[_MOST_PROBLEMS:] = [f"... and {len(lines) - _MOST_PROBLEMS} more"]
    if lines:
        raise LabelError("\n".join(lines))


def _parse_row(fields: list[str], origin: str) -> tuple[str, LabelRow]:
    if len(fields) != COLUMNS:
        raise ValueError(
            f"{len(fields)} columns; expected {COLUMNS}: image, vehicle id, colour id, type id, "
            f"then {NUM_KEYPOINTS} x (x, y, confidence)"
        )
    image = _image_name(fields[0])
    numbers = [_number(text, column) for column, text in enumerate(fields[4:], start=5)]
    return image, LabelRow(
        image=image,
        vehicle_id=_integer(fields[1], 2),
        color_id=_class(fields[2], 3),
        type_id=_class(fields[3], 4),
        keypoints=np.array(numbers, dtype=np.float32).reshape(NUM_KEYPOINTS, 3),
        origin=origin,
    )


def _parse_annotation(fields: list[str], origin: str) -> tuple[str, LabelRow]:
    if len(fields) != ANNOTATION_COLUMNS:
        raise ValueError(
            f"{len(fields)} columns; expected {ANNOTATION_COLUMNS} as in the first row: image, "
            f"width, height, then {NUM_KEYPOINTS} x (x, y, visibility)"
        )
    image = _image_name(fields[0])
    for column, text in enumerate(fields[1:3], start=2):
        if _integer(text, column) < 1:
            raise ValueError(f"column {column} is {text!r}; expected the image's width and height")
    numbers = [_number(text, column) for column, text in enumerate(fields[3:], start=4)]
    keypoints = np.array(numbers, dtype=np.float32).reshape(NUM_KEYPOINTS, 3)
    for column, value in enumerate(keypoints[:, 2].tolist()):
        if value not in (0, 1):
            raise ValueError(
                f"column {6 + 3 * column} is {fields[5 + 3 * column]!r}; expected a visibility of "
                f"1 or 0"
            )
    return image, LabelRow(image, vehicle_in(image), 0, 0, keypoints, origin)


def _image_name(text: str) -> str:
    name = text.strip()
    if not name:
        raise ValueError("column 1 (image) is empty; expected a file name")
    if len(name) > _LONGEST_NAME or "\0" in name:
        raise ValueError(f"column 1 (image) is {shown(name)}; expected a file name")
    return name


def _integer(text: str, column: int) -> int:
    _number(text, column)
    # Never through float, in which ids above 2**53 become one another.
    whole = _WHOLE.fullmatch(text.strip())
    if not whole:
        raise ValueError(f"column {column} is {text!r}; expected a whole number")
    return int(whole[1])


def _class(text: str, column: int) -> int:
    value = _integer(text, column)
    if value < 0:
        raise ValueError(f"column {column} is {text!r}; expected a class id, 0 where unknown")
    return value


def _number(text: str, column: int) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"column {column} is {text!r}; expected a number") from None
    if not abs(value) <= _LARGEST:
        raise ValueError(f"column {column} is {text!r}; expected a finite number")
    return value
