"""Label files, 36 keypoints an image: PAMTRI's and NVlabs' CSV, and COCO JSON (``coco``)."""

from __future__ import annotations

import csv
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import cast

import numpy as np

from ..errors import DataError
from ..vehicle.keypoints import NUM_KEYPOINTS
from .file_names import path_in, vehicle_in
from .text import parse_rows, read_csv, whole_number

logger = logging.getLogger(__name__)

COLUMNS = 4 + 3 * NUM_KEYPOINTS
ANNOTATION_COLUMNS = 3 + 3 * NUM_KEYPOINTS
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True, eq=False)
class LabelRow:
    """A label file's row on one image.

    Attributes:
        image: the image's file name or path, as the file states it, with forward slashes.
        vehicle_id, color_id, type_id: raw ids as the file states them, 0 where it does not.
        keypoints: float32 ``[36, 3]``: x and y in pixels of the original image, confidence.
        origin: its place, ``file:line``.
    """

    image: str
    vehicle_id: int
    color_id: int
    type_id: int
    keypoints: np.ndarray
    origin: str = ""


class Labels(dict[str, LabelRow]):
    """The rows of a label file by the image that each names."""

    def find(self, image: str | Path) -> LabelRow | None:
        """The row whose path is the longest end of the image's; None if no row's path is one.

        A row ``cam1/000001.jpg`` is that of ``/data/cam1/000001.jpg``, not of ``cam2/000001.jpg``;
        a row ``000001.jpg`` is that of either.
        """
        return next((self[one] for one in ends_of(image) if one in self), None)

    def match(self, images: Sequence[str | Path]) -> list[LabelRow | None]:
        """:meth:`find` for each image; logs how many rows are those of none of them.

        Raises:
            DataError: two different images would take the same row.
        """
        taken: dict[str, Path] = {}
        found = []
        for image in images:
            row = self.find(image)
            if row is not None:
                place = _absolute(image)
                other = taken.setdefault(row.image, place)
                if other != place:
                    raise DataError(
                        f"{row.origin}: the image {row.image!r} may be {other} or {place}; write "
                        f"its folder into the row"
                    )
            found.append(row)
        if len(taken) < len(self):
            strange = next(row for row in self.values() if row.image not in taken)
            logger.warning(
                "%d of %d label rows match none of the %d images, the first is %s, image %r",
                len(self) - len(taken),
                len(self),
                len(images),
                strange.origin,
                strange.image,
            )
        return found


def ends_of(image: str | Path) -> Iterator[str]:
    """What an image may be called: its whole path, and the ends of it, longest first."""
    path = _absolute(image)
    yield path.as_posix()
    yield from ("/".join(path.parts[start:]) for start in range(1, len(path.parts)))


def read_labels(path: str | Path) -> Labels:
    """Read a label file.

    Understood are PAMTRI's label CSV (no header, 112 columns a row), NVlabs' annotation CSV (no
    header, 111 columns: image, width, height, then x, y and visibility, which becomes a confidence
    of 1 or 0; the name's leading digits are the vehicle) and COCO keypoint JSON, see
    :func:`multitasknet.data.coco.read_coco`.

    Raises:
        DataError: the file cannot be read, is empty, or has faulty or duplicate rows.
    """
    path = Path(path)
    if path.suffix.lower() == ".json":
        from .coco import read_coco  # which builds on this module

        return read_coco(path)
    rows = read_csv(path)
    first = next(rows, None)
    if first is None:
        raise DataError(f"{path}: the file has no rows; expected {COLUMNS} columns a row")
    parse = _parse_annotation if len(first[1]) == ANNOTATION_COLUMNS else _parse_row
    return Labels(parse_rows(chain([first], rows), parse))


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


def keypoints_of(
    images: Sequence[str | Path], labels: str | Path | Mapping[str, LabelRow] | None
) -> list[np.ndarray | None]:
    """The keypoints that the label file or its rows state for each image, or None."""
    if labels is None:
        return [None] * len(images)
    rows = read_labels(labels) if isinstance(labels, str | Path) else Labels(labels)
    return [None if row is None else row.keypoints for row in rows.match(images)]


def _parse_row(fields: list[str], origin: str) -> tuple[str, LabelRow]:
    first = "image, vehicle id, colour id, type id"
    image, (vehicle, color, kind), keypoints = _parsed(fields, 4, first)
    for column, value in ((3, color), (4, kind)):
        if value < 0:
            raise ValueError(f"column {column} is {value}; expected a class id, 0 where unknown")
    return image, LabelRow(image, vehicle, color, kind, keypoints, origin)


def _parse_annotation(fields: list[str], origin: str) -> tuple[str, LabelRow]:
    image, _, keypoints = _parsed(fields, 3, "image, width, height, as in the first row")
    strange = set(keypoints[:, 2].tolist()) - {0, 1}
    if strange:
        raise ValueError(f"visibility is {min(strange):g}; expected 1 or 0")
    return image, LabelRow(image, vehicle_in(PurePosixPath(image).name), 0, 0, keypoints, origin)


def _parse_visibility(fields: list[str], _: str) -> tuple[str, np.ndarray]:
    if len(fields) != 1 + NUM_KEYPOINTS:
        raise ValueError(f"{len(fields)} columns; expected {1 + NUM_KEYPOINTS}")
    strange = set(fields[1:]) - {"0", "1", "2"}
    if strange:
        raise ValueError(f"visibility is {min(strange)!r}; expected 0, 1 or 2")
    return _image(fields[0]), np.array(fields[1:], dtype=np.uint8)


def _parsed(fields: list[str], start: int, first: str) -> tuple[str, list[int], np.ndarray]:
    """The image, the whole numbers after it, and the keypoints from a column on.

    ``first`` says what the columns before these are.
    """
    expected = start + 3 * NUM_KEYPOINTS
    if len(fields) != expected:
        raise ValueError(
            f"{len(fields)} columns; expected {expected}: {first}, then {NUM_KEYPOINTS} times x, "
            f"y and confidence"
        )
    whole = [whole_number(text) for text in fields[1:start]]
    numbers = [_number(text) for text in fields[start:]]
    for column, (text, value) in enumerate(zip(fields[1:], whole + numbers, strict=True), start=2):
        if value is None:
            kind = "whole" if column <= start else "finite"
            raise ValueError(f"column {column} is {text!r}; expected a {kind} number")
    keypoints = np.array(numbers, dtype=np.float32).reshape(NUM_KEYPOINTS, 3)
    return _image(fields[0]), cast("list[int]", whole), keypoints


def _image(text: str) -> str:
    name = path_in(text)
    if not name:
        raise ValueError(f"column 1 (image) is {text[:40]!r}; expected a file name")
    return name


def _number(text: str) -> float | None:
    """A number that float32 holds; None if it is none."""
    try:
        # A comma is a decimal one where semicolons separate the fields.
        value = float(text.replace(",", "."))
    except ValueError:
        return None
    return value if abs(value) <= _LARGEST else None


def _absolute(image: str | Path) -> Path:
    # Links are not followed: rows name files as the user does.
    return Path(os.path.abspath(image))  # noqa: PTH100
