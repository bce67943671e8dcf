"""COCO keypoint JSON, as annotation tools read and write it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from ..errors import DataError, shown
from ..files import reading
from ..images import Corners
from ..vehicle.keypoints import KEYPOINT_NAMES, NUM_KEYPOINTS, SEEN_FROM, SKELETON
from .file_names import path_in, vehicle_in
from .labels import LabelRow, Labels
from .text import parse_rows, read_text, refuse

_CATEGORY = 1
_IDS = ("vehicle_id", "color_id", "type_id")
# JSON's; True and False are no numbers, though Python counts them as int.
_NUMBERS = (int, float)
_LARGEST = float(np.finfo(np.float32).max)
_LARGEST_ID = 2**63 - 1
_ABSENT, _HIDDEN, _VISIBLE = 0, 1, 2


def write_coco(
    path: str | Path,
    rows: Iterable[LabelRow],
    sizes: Mapping[str, tuple[int, int]],
    boxes: Sequence[Corners] = (),
) -> None:
    """Write labels as COCO keypoint JSON, an annotation a row.

    A keypoint is visible (2) from a confidence of 0.5 on, else hidden (1); one that is all zero
    is not labelled (0). The confidences are added as ``confidences``, the ids as ``attributes``,
    so that :func:`read_coco` gives the same rows.

    Args:
        path: the file.
        rows: the labels; without boxes an image once.
        sizes: the images' width and height in pixels, by name.
        boxes: of each row; default is the whole image.
    """
    numbers: dict[str, int] = {}
    annotations = []
    for number, row in enumerate(rows, start=1):
        x1, y1, x2, y2 = boxes[number - 1] if boxes else (0, 0, *sizes[row.image])
        annotations.append(
            {
                "id": number,
                "image_id": numbers.setdefault(row.image, len(numbers) + 1),
                "category_id": _CATEGORY,
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": (x2 - x1) * (y2 - y1),
                "iscrowd": 0,
                **_keypoint_fields(row.keypoints),
                "attributes": {name: getattr(row, name) for name in _IDS},
            }
        )
    images = [
        {"id": number, "file_name": name, "width": sizes[name][0], "height": sizes[name][1]}
        for name, number in numbers.items()
    ]
    category = {
        "id": _CATEGORY,
        "name": "vehicle",
        "supercategory": "vehicle",
        "keypoints": KEYPOINT_NAMES,
        "skeleton": [[first + 1, second + 1] for first, second in SKELETON],
    }
    content = {"images": images, "annotations": annotations, "categories": [category]}
    Path(path).write_text(json.dumps(content, allow_nan=False), encoding="utf-8")


def read_coco(path: str | Path) -> Labels:
    """Read COCO keypoint JSON of the 36 keypoints.

    Without ``confidences`` a visible keypoint has a confidence of 1, any other of 0; without
    ``attributes`` the file name's leading digits are the vehicle, colour and type are unknown (0).
    Keypoints are in the order of the category's names; images without annotation are left out.

    Raises:
        DataError: the file cannot be read; or up to 20 faults, each with image and value.
    """
    with reading(path, DataError, "the file is no JSON", "expected COCO keypoint JSON"):
        content = json.loads(read_text(path))
    names = ("images", "categories", "annotations")
    lists: list[Any] = [content.get(n) if isinstance(content, dict) else None for n in names]
    if not all(isinstance(one, list) and one for one in lists):
        raise DataError(
            f"{path}: no COCO keypoint JSON; expected an object with lists of images, categories "
            f"and annotations"
        )
    images = objects_by_id(lists[0], f"{path}: images")
    categories = objects_by_id(lists[1], f"{path}: categories")

    def image_of(annotation: Any) -> str:
        name = images.get(id_of(annotation, "image_id"), {}).get("file_name")
        return path_in(name) if isinstance(name, str) else ""

    def parse(annotation: Any, origin: str) -> tuple[str, LabelRow]:
        if not isinstance(annotation, dict):
            raise ValueError(f"it is {shown(annotation)}; expected an object")
        image, category = image_of(annotation), categories.get(id_of(annotation, "category_id"))
        if not image or category is None:
            field, of = ("category_id", "a category") if image else ("image_id", "a named image")
            raise ValueError(f"{field} is {shown(annotation.get(field))}; expected the id of {of}")
        keypoints = _keypoints(annotation)[_order(category)]
        return image, LabelRow(image, *_ids(annotation, image), keypoints, origin)

    def place(number: int, annotation: Any) -> str:
        image = image_of(annotation)
        return f"{path}: annotation {number}" + (f", image {image!r}" if image else "")

    rows = [(place(number, one), one) for number, one in enumerate(lists[2], start=1)]
    return Labels(parse_rows(rows, parse, "has an annotation already"))


def _keypoint_fields(keypoints: np.ndarray) -> dict[str, Any]:
    seen = np.where(keypoints[:, 2] >= SEEN_FROM, _VISIBLE, _HIDDEN)
    seen[~keypoints.any(1)] = _ABSENT
    # The shortest digits that make the same float32, and not those of its double.
    numbers = [[float(str(value)) for value in row] for row in keypoints.astype(np.float32)]
    places = zip(numbers, seen.tolist(), strict=True)
    return {
        "keypoints": [value for (x, y, _), flag in places for value in (x, y, flag)],
        "num_keypoints": int((seen != _ABSENT).sum()),
        "confidences": [confidence for _, _, confidence in numbers],
    }


def objects_by_id(entries: Any, field: str) -> dict[int | str | None, dict[str, Any]]:
    """A list's objects by their ids; DataError for another value, or one without its own id."""
    if not isinstance(entries, list):
        raise DataError(f"{field} is {shown(entries)}; expected a list of objects with ids")
    by_id: dict[int | str | None, dict[str, Any]] = {}
    problems = []
    for number, entry in enumerate(entries, start=1):
        key = id_of(entry, "id")
        if key is None or key in by_id:
            problems.append(
                f"{field} entry {number} is {shown(entry)} with the id {shown(key)}; expected an "
                f"object with an id of its own"
            )
        else:
            by_id[key] = entry
    refuse(problems)
    return by_id


def _order(category: dict[str, Any]) -> list[int]:
    """Where the category keeps each of the 36 keypoints."""
    names = category.get("keypoints", KEYPOINT_NAMES)
    if not isinstance(names, list | tuple) or sorted(map(str, names)) != sorted(KEYPOINT_NAMES):
        raise ValueError(
            f"its category has the keypoints {shown(names)}; expected the {NUM_KEYPOINTS} of a "
            f"vehicle, {KEYPOINT_NAMES[0]!r} to {KEYPOINT_NAMES[-1]!r}"
        )
    return [names.index(name) for name in KEYPOINT_NAMES]


def _keypoints(annotation: dict[str, Any]) -> np.ndarray:
    keypoints = numbers_in(annotation, "keypoints", 3 * NUM_KEYPOINTS).reshape(NUM_KEYPOINTS, 3)
    strange = set(keypoints[:, 2].tolist()) - {_ABSENT, _HIDDEN, _VISIBLE}
    if strange:
        raise ValueError(f"a keypoint's visibility is {min(strange):g}; expected 0, 1 or 2")
    if annotation.get("confidences") is None:
        keypoints[:, 2] = keypoints[:, 2] == _VISIBLE
    else:
        keypoints[:, 2] = numbers_in(annotation, "confidences", NUM_KEYPOINTS)
    return keypoints


def numbers_in(annotation: dict[str, Any], field: str, count: int) -> np.ndarray:
    """A list of that many numbers that float32 holds; ValueError if it is not."""
    values = annotation.get(field)
    if not isinstance(values, list) or len(values) != count:
        raise ValueError(f"{field} is {shown(values)}; expected {count} numbers")
    strange = [one for one in values if type(one) not in _NUMBERS or not abs(one) <= _LARGEST]
    if strange:
        raise ValueError(f"{field} has the value {shown(strange[0])}; expected finite numbers")
    return np.array(values, dtype=np.float32)


def _ids(annotation: dict[str, Any], image: str) -> tuple[int, int, int]:
    """Vehicle, colour and type; ValueError if they are stated and no ids."""
    attributes = annotation.get("attributes") or {}
    if not isinstance(attributes, dict):
        raise ValueError(f"attributes is {shown(attributes)}; expected an object")
    found = {"vehicle_id": vehicle_in(PurePosixPath(image).name), "color_id": 0, "type_id": 0}
    found |= {name: attributes[name] for name in _IDS if name in attributes}
    for name, value in found.items():
        least = -_LARGEST_ID if name == "vehicle_id" else 0
        if type(value) is not int or not least <= value <= _LARGEST_ID:
            raise ValueError(f"{name} is {shown(value)}; expected a whole number")
    return found["vehicle_id"], found["color_id"], found["type_id"]


def id_of(entry: Any, field: str) -> int | str | None:
    """An id that can be looked up; None if there is none."""
    value = entry.get(field) if isinstance(entry, dict) else None
    return value if type(value) in (int, str) else None
