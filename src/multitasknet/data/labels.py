"""Label files, 36 keypoints an image: PAMTRI's and NVlabs' CSV, COCO JSON; which row is whose."""

from __future__ import annotations

import csv
import json
import logging
import os
import re
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import numpy as np

from ..errors import DataError, shown
from ..files import reading
from ..images import Corners
from ..vehicle.keypoints import KEYPOINT_NAMES, NUM_KEYPOINTS, SEEN_FROM, SKELETON
from .file_names import path_in, vehicle_in
from .text import finite, parse_all, parse_rows, read_csv, read_text, whole_number

logger = logging.getLogger(__name__)

Key = TypeVar("Key", bound=Hashable)
Parsed = TypeVar("Parsed")

COLUMNS = 4 + 3 * NUM_KEYPOINTS
ANNOTATION_COLUMNS = 3 + 3 * NUM_KEYPOINTS
_PLACES = [f"column {number}" for number in range(1, COLUMNS + 1)]
_IDS = ("vehicle_id", "color_id", "type_id")
_LARGEST_ID = 2**63 - 1
# COCO's visibility of a keypoint.
_ABSENT, _HIDDEN, _VISIBLE = 0, 1, 2
_DIGITS = re.compile(r"([0-9]+)$")


@dataclass(frozen=True, eq=False)
class LabelRow:
    """A label file's row on one image."""

    image: str  # its file name or path, as the file states it, with forward slashes
    # Raw ids as the file states them, 0 where it does not.
    vehicle_id: int
    color_id: int
    type_id: int
    keypoints: np.ndarray  # float32 ``[36, 3]`` of x, y (pixels of the image) and confidence
    origin: str = ""  # its place, ``file:line``


def read_labels(path: str | Path) -> dict[str, LabelRow]:
    """The rows of a label file by the image that each names.

    Understood are PAMTRI's label CSV (no header, 112 columns a row), NVlabs' annotation CSV (no
    header, 111 columns: image, width, height, then x, y and visibility, which becomes a confidence
    of 1 or 0; the name's leading digits are the vehicle) and COCO keypoint JSON, an annotation an
    image, with keypoints in the order of the category's names. Without ``confidences`` a visible
    keypoint has a confidence of 1 there, any other of 0; without ``attributes`` the file name's
    leading digits are the vehicle, colour and type are unknown (0).

    Raises:
        DataError: the file cannot be read, is empty, or has faulty or duplicate rows; up to 20 of
            these are named with place and value.
    """
    path = Path(path)
    if path.suffix.lower() == ".json":
        found = read_annotations(path, "expected COCO keypoint JSON", _coco_row)
        rows = parse_rows([(row.origin, row) for row in found], lambda row, _: (row.image, row))
    else:
        lines = list(read_csv(path))
        columns = len(lines[0][1]) if lines else COLUMNS
        is_annotated = columns == ANNOTATION_COLUMNS
        rows = parse_rows(lines, partial(_csv_row, columns=columns if is_annotated else COLUMNS))
    if not rows:
        raise DataError(f"{path}: there are no labels; expected a row or annotation an image")
    return rows


def write_labels(path: str | Path, rows: Iterable[LabelRow]) -> None:
    """Write a PAMTRI label CSV that :func:`read_labels` reads."""
    with Path(path).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        for row in rows:
            # As many decimals as PAMTRI's pose network writes.
            numbers = [f"{value:.3f}" for value in row.keypoints.ravel().tolist()]
            writer.writerow([row.image, row.vehicle_id, row.color_id, row.type_id, *numbers])


def write_coco(
    path: str | Path,
    rows: Iterable[LabelRow],
    sizes: Mapping[str, tuple[int, int]],
    boxes: Sequence[Corners] = (),
) -> None:
    """Write labels as COCO keypoint JSON, an annotation a row.

    A keypoint is visible (2) from a confidence of 0.5 on, else hidden (1); one that is all zero
    is not labelled (0). The confidences are added as ``confidences``, the ids as ``attributes``,
    so that :func:`read_labels` gives the same rows.

    Args:
        rows: the labels; without boxes an image once.
        sizes: the images' width and height in pixels, by name.
        boxes: of each row; default is the whole image.
    """
    numbers: dict[str, int] = {}
    annotations = []
    for place, row in enumerate(rows):
        x1, y1, x2, y2 = boxes[place] if boxes else (0, 0, *sizes[row.image])
        seen = np.where(row.keypoints[:, 2] >= SEEN_FROM, _VISIBLE, _HIDDEN)
        seen[~row.keypoints.any(1)] = _ABSENT
        # The shortest digits that make the same float32, and not those of its double.
        points = [[float(str(one)) for one in point] for point in row.keypoints.astype(np.float32)]
        flags = zip(points, seen.tolist(), strict=True)
        annotations.append(
            {
                "id": place + 1,
                "image_id": numbers.setdefault(row.image, len(numbers) + 1),
                "category_id": 1,
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": (x2 - x1) * (y2 - y1),
                "iscrowd": 0,
                "keypoints": [value for (x, y, _), flag in flags for value in (x, y, flag)],
                "num_keypoints": int((seen != _ABSENT).sum()),
                "confidences": [confidence for _, _, confidence in points],
                "attributes": {name: getattr(row, name) for name in _IDS},
            }
        )
    images = [
        {"id": number, "file_name": name, "width": sizes[name][0], "height": sizes[name][1]}
        for name, number in numbers.items()
    ]
    category = {
        "id": 1,
        "name": "vehicle",
        "supercategory": "vehicle",
        "keypoints": KEYPOINT_NAMES,
        "skeleton": [[first + 1, second + 1] for first, second in SKELETON],
    }
    content = {"images": images, "annotations": annotations, "categories": [category]}
    Path(path).write_text(json.dumps(content, allow_nan=False), encoding="utf-8")


def read_visibility(path: Path) -> Mapping[str, np.ndarray]:
    """Which keypoints can be seen, uint8 ``[36]`` keyed by image; empty if there is no such file.

    A row is the image and 36 times 0 (visible), 1 (hidden by the vehicle itself) or 2 (hidden
    otherwise, or outside).
    """

    def parse(fields: list[str], _: str) -> tuple[str, np.ndarray]:
        if len(fields) != 1 + NUM_KEYPOINTS:
            raise ValueError(f"{len(fields)} columns; expected {1 + NUM_KEYPOINTS}")
        if strange := set(fields[1:]) - {"0", "1", "2"}:
            raise ValueError(f"visibility is {min(strange)!r}; expected 0, 1 or 2")
        return path_in(fields[0]), np.array(fields[1:], dtype=np.uint8)

    return parse_rows(read_csv(path), parse) if path.is_file() else {}


def keypoints_of(
    images: Sequence[str | Path], labels: str | Path | None
) -> list[np.ndarray | None]:
    """The keypoints that the label file states for each image, or None; errors as :func:`match`."""
    if labels is None:
        return [None] * len(images)
    rows = read_labels(labels)
    found = match(
        images, rows, "label rows", lambda name: f"{rows[name].origin}: the image {name!r}"
    )
    return [None if name is None else rows[name].keypoints for name in found]


def match(
    images: Sequence[str | Path],
    keys: Collection[Key],
    kind: str,
    said: Callable[[Key], str],
    *,
    first: int | None = None,
) -> list[Key | None]:
    """Which of a file's names or numbers of pictures each image has, if any.

    A name is the longest that the image's path ends in, with or without suffix: ``cam1/1.jpg`` is
    that of ``/data/cam1/1.jpg``, not of ``cam2/1.jpg``; ``1.jpg`` may be that of either. A number
    is the one that the image's name ends in.

    Args:
        keys: the names and numbers.
        kind: what they are of; how many of these no image has is logged.
        said: names a key and its place.
        first: what number the file gives the first picture, if it numbers them.

    Raises:
        DataError: two different images would have the same.
    """
    digits = [_DIGITS.search(Path(image).stem) for image in images]
    numbers = [int(one[1]) if one else -1 for one in digits]
    known: dict[object, Key] = {key: key for key in keys}
    # Frames that were saved from a video often begin with 0.
    offset = int(first == 1 and 0 in numbers and 0 not in known)
    taken: dict[Key, str] = {}
    found: list[Key | None] = []
    for image, number in zip(images, numbers, strict=True):
        # Links are not followed: rows name files as the user does.
        path = Path(os.path.abspath(image)).as_posix()  # noqa: PTH100
        name = next((one for one in _ends_of(path) if one in known), number + offset)
        key = known.get(name)
        found.append(key)
        if key is not None and taken.setdefault(key, path) != path:
            raise DataError(
                f"{said(key)} may be {taken[key]} or {path}; name its folder there, too, or give "
                f"each folder's pictures with a file of their own"
            )
    if strange := [key for key in known.values() if key not in taken]:
        logger.warning(
            "%d of %d %s match none of the %d images, such as %s",
            *(len(strange), len(known), kind, len(images), said(strange[0])),
        )
    return found


def _ends_of(path: str) -> Iterator[str]:
    """A path and its ends, longest first, each with and without suffix."""
    rest = "/"
    while rest:
        yield path
        yield os.path.splitext(path)[0]  # noqa: PTH122
        _, rest, path = path.partition("/")


def _csv_row(fields: list[str], origin: str, *, columns: int) -> tuple[str, LabelRow]:
    """A row of PAMTRI's 112 columns, or of NVlabs' 111."""
    if len(fields) != columns:
        raise ValueError(
            f"{len(fields)} columns; expected {columns}, of which the last are {NUM_KEYPOINTS} "
            f"times x, y and confidence"
        )
    image = path_in(fields[0])
    if not image:
        raise ValueError("the image has no name")
    start = columns - 3 * NUM_KEYPOINTS
    ids = []
    for place, text in zip(_PLACES[1:start], fields[1:start], strict=True):
        if (number := whole_number(text)) is None:
            raise ValueError(f"{place} is {text!r}; expected a whole number")
        ids.append(number)
    numbers = map(finite, fields[start:], _PLACES[start:])
    keypoints = np.array(list(numbers), dtype=np.float32).reshape(NUM_KEYPOINTS, 3)
    if columns == ANNOTATION_COLUMNS:
        _check_visibility(keypoints, (1, 0))
        ids = [vehicle_in(PurePosixPath(image).name), 0, 0]
    vehicle, color, kind = ids
    if min(color, kind) < 0:
        raise ValueError(f"a class is {min(color, kind)}; expected its id, 0 where unknown")
    return image, LabelRow(image, vehicle, color, kind, keypoints, origin)


def read_annotations(
    path: Path, expected: str, parse: Callable[[dict[str, Any], str | int, Any, str], Parsed]
) -> list[Parsed]:
    """What ``parse`` makes of each annotation of COCO JSON, or of each entry of a list of results.

    It is given the annotation, its image's name (in a list of results the id), its category (an
    object, or the id if no such category is there) and its place. DataError names all faults.
    """
    with reading(path, DataError, "no COCO JSON with images and annotations", expected):
        content = json.loads(read_text(path))
        images: dict[Any, Any] | None = None
        categories: dict[Any, Any] = {}
        if isinstance(content, dict):
            images = {one["id"]: one["file_name"] for one in content["images"]}
            categories = {one["id"]: one for one in content.get("categories") or ()}
            content = content["annotations"]
        places = [f"{path}: annotation {number}" for number in range(1, len(content) + 1)]

    def found(one: Any, place: str) -> Parsed:
        if not isinstance(one, dict):
            raise ValueError(f"it is {shown(one)}; expected an object")
        id, category = _id_of(one, "image_id"), _id_of(one, "category_id")
        name = id if images is None else images.get(id)
        if not isinstance(name, str | int) or name == "":
            raise ValueError(f"image_id is {shown(id)}; expected the id of a named image")
        return parse(one, name, categories.get(category, category), place)

    return parse_all(zip(places, content, strict=True), found)


def _id_of(annotation: dict[str, Any], field: str) -> int | str | None:
    """An id that can be looked up; None if there is none."""
    value = annotation.get(field)
    return value if isinstance(value, int | str) else None


def numbers_in(annotation: dict[str, Any], field: str, count: int) -> np.ndarray:
    """A list of that many numbers that float32 holds; ValueError if it is not."""
    values = annotation.get(field)
    if not isinstance(values, list) or len(values) != count:
        raise ValueError(f"{field} is {shown(values)}; expected {count} numbers")
    return np.array([finite(one, f"a value of {field}") for one in values], dtype=np.float32)


def _coco_row(annotation: dict[str, Any], name: str | int, category: Any, origin: str) -> LabelRow:
    image = path_in(str(name))
    if not isinstance(category, dict):
        stated = shown(annotation.get("category_id"))
        raise ValueError(f"category_id is {stated}; expected the id of a category")
    names = category.get("keypoints", KEYPOINT_NAMES)
    if not isinstance(names, list | tuple) or sorted(map(str, names)) != sorted(KEYPOINT_NAMES):
        raise ValueError(
            f"its category has the keypoints {shown(names)}; expected the {NUM_KEYPOINTS} of a "
            f"vehicle, {KEYPOINT_NAMES[0]!r} to {KEYPOINT_NAMES[-1]!r}"
        )
    keypoints = numbers_in(annotation, "keypoints", 3 * NUM_KEYPOINTS).reshape(NUM_KEYPOINTS, 3)
    _check_visibility(keypoints, (_ABSENT, _HIDDEN, _VISIBLE))
    keypoints[:, 2] = (
        keypoints[:, 2] == _VISIBLE
        if annotation.get("confidences") is None
        else numbers_in(annotation, "confidences", NUM_KEYPOINTS)
    )
    attributes = annotation.get("attributes")
    ids = {"vehicle_id": vehicle_in(PurePosixPath(image).name), "color_id": 0, "type_id": 0}
    if isinstance(attributes, dict):
        ids |= {field: attributes[field] for field in _IDS if field in attributes}
    for field, value in ids.items():
        least = -_LARGEST_ID if field == "vehicle_id" else 0
        if type(value) is not int or not least <= value <= _LARGEST_ID:
            raise ValueError(f"{field} is {shown(value)}; expected a whole number")
    keypoints = keypoints[[names.index(one) for one in KEYPOINT_NAMES]]
    return LabelRow(image=image, **ids, keypoints=keypoints, origin=origin)


def _check_visibility(keypoints: np.ndarray, allowed: tuple[int, ...]) -> None:
    if strange := set(keypoints[:, 2].tolist()).difference(allowed):
        expected = " or ".join(map(str, allowed))
        raise ValueError(f"visibility is {min(strange):g}; expected {expected}")
