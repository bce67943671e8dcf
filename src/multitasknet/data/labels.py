"""The PAMTRI label format: class names, and CSV rows with 36 keypoints an image."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import MultiTaskNetError
from ..vehicle.keypoints import NUM_KEYPOINTS

COLUMNS = 4 + 3 * NUM_KEYPOINTS
_MOST_PROBLEMS = 20
_WHOLE = re.compile(r"([+-]?[0-9]+)(?:\.0*)?")
_LARGEST = float(np.finfo(np.float32).max)


class LabelError(MultiTaskNetError, ValueError):
    """A label file that cannot be used; names file, line and value, up to 20 problems at once."""


@dataclass(frozen=True, eq=False)
class LabelRow:
    """One row of a PAMTRI label CSV.

    Attributes:
        image: the image's file name.
        vehicle_id, color_id, type_id: raw ids as the file states them.
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
    """Read a PAMTRI label CSV (no header, 112 columns a row), keyed by image file name.

    Raises:
        LabelError: the file cannot be read, is empty, or has faulty or duplicate rows.
    """
    path = Path(path)
    rows: dict[str, LabelRow] = {}
    problems: list[str] = []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            for line, fields in enumerate(csv.reader(file), start=1):
                if not fields:
                    continue
                try:
                    row = _parse_row(fields, f"{path}:{line}")
                    if row.image in rows:
                        raise ValueError(f"image {row.image!r} has a row already")
                    rows[row.image] = row
                except ValueError as error:
                    problems.append(f"{path}:{line}: {error}")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise LabelError(
            f"{path}: the label file cannot be read ({error}); give a PAMTRI label CSV, "
            f"{COLUMNS} columns a row"
        ) from error
    if not rows and not problems:
        problems.append(f"{path}: the file has no rows; expected {COLUMNS} columns a row")
    if problems:
        raise LabelError(summarize(problems))
    return rows


def write_labels(path: str | Path, rows: Iterable[LabelRow]) -> None:
    """Write a PAMTRI label CSV that :func:`read_labels` reads; numbers to a hundredth."""
    with Path(path).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        for row in rows:
            numbers = [f"{value:.2f}" for value in row.keypoints.ravel().tolist()]
            writer.writerow([row.image, row.vehicle_id, row.color_id, row.type_id, *numbers])


def keypoints_of(images: Sequence[Path], labels: str | Path | None) -> list[np.ndarray | None]:
    """For each image the keypoints that the label file has under its name, else None."""
    rows = read_labels(labels) if labels else {}
    return [rows[image.name].keypoints if image.name in rows else None for image in images]


def summarize(problems: list[str]) -> str:
    """The first 20 problems, a line each, and how many more there are."""
    more = len(problems) - _MOST_PROBLEMS
    lines = problems[:_MOST_PROBLEMS] + ([f"... and {more} more"] if more > 0 else [])
    return "\n".join(lines)


def _parse_row(fields: list[str], origin: str) -> LabelRow:
    if len(fields) != COLUMNS:
        raise ValueError(
            f"{len(fields)} columns; expected {COLUMNS}: image, vehicle id, colour id, type id, "
            f"then {NUM_KEYPOINTS} x (x, y, confidence)"
        )
    if not fields[0].strip():
        raise ValueError("column 1 (image) is empty; expected a file name")
    numbers = [_number(text, column) for column, text in enumerate(fields[4:], start=5)]
    return LabelRow(
        image=fields[0].strip(),
        vehicle_id=_integer(fields[1], 2),
        color_id=_class(fields[2], 3),
        type_id=_class(fields[3], 4),
        keypoints=np.array(numbers, dtype=np.float32).reshape(NUM_KEYPOINTS, 3),
        origin=origin,
    )


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
