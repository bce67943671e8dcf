"""COCO keypoint JSON, as annotation tools speak it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from ..documents import read_json
from ..files import reading
from ..vehicle.keypoints import KEYPOINT_NAMES, NUM_KEYPOINTS, SEEN_FROM, SKELETON
from .labels import LabelError, LabelRow, parse_rows, refuse, vehicle_in

_CATEGORY = 1
_IDS = ("vehicle_id", "color_id", "type_id")
_SHOWN = 40
_LARGEST = float(np.finfo(np.float32).max)
# A whole data set in one file.
_MOST_BYTES = 1 << 30
_ABSENT, _HIDDEN, _VISIBLE = 0, 1, 2


def write_coco(
    path: str | Path, rows: Iterable[LabelRow], sizes: Mapping[str, tuple[int, int]]
) -> None:
    """Write labels as COCO keypoint JSON, one annotation an image, whose box is the image.

    A keypoint is visible (2) from a confidence of 0.5 on, else hidden (1); one that is all zero
    is not labelled (0). The confidences stand beside that as ``confidences``, the ids as
    ``attributes``, so that :func:`read_coco` gives the same rows.

    Args:
        path: the file.
        rows: the labels, an image once.
        sizes: the images' width and height in pixels, by name.
    """
    images, annotations = [], []
    for number, row in enumerate(rows, start=1):
        width, height = sizes[row.image]
        images.append({"id": number, "file_name": row.image, "width": width, "height": height})
        annotations.append(
            {
                "id": number,
                "image_id": number,
                "category_id": _CATEGORY,
                "bbox": [0, 0, width, height],
                "area": width * height,
                "iscrowd": 0,
                **_keypoint_fields(row.keypoints),
                "attributes": {name: getattr(row, name) for name in _IDS},
            }
        )
    category = {
        "id": _CATEGORY,
        "name": "vehicle",
        "supercategory": "vehicle",
        "keypoints": KEYPOINT_NAMES,
        "skeleton": [[first + 1, second + 1] for first, second in SKELETON],
    }
    content = {"images": images, "annotations": annotations, "categories": [category]}
    Path(path).write_text(json.dumps(content, allow_nan=False), encoding="utf-8")


def read_coco(path: str | Path) -> Mapping[str, LabelRow]:
    """Read COCO keypoint JSON of the 36 keypoints, keyed by image file name.

    Without ``confidences`` a visible keypoint has a confidence of 1, any other of 0; without
    ``attributes`` the file name's leading digits are the vehicle, colour and type are unknown (0).
    Keypoints stand in the order that the category gives their names; images without annotation are
    left out.

    Raises:
        LabelError: the file cannot be read, or names image and value of up to 20 faults.
    """
    path = Path(path)
    content = _read(path)
    problems: list[str] = []
    images = _by_id(content, "images", path, problems)
    categories = _by_id(content, "categories", path, problems)
    refuse(problems)
    names = {key: image.get("file_name") for key, image in images.items()}

    def parse(annotation: Any, origin: str) -> tuple[str, LabelRow]:
        if not isinstance(annotation, dict):
            raise ValueError(f"it is {_shown(annotation)}; expected an object")
        image = _base_name(names.get(_key(annotation.get("image_id"))))
        if not image:
            raise ValueError(
                f"image_id is {_shown(annotation.get('image_id'))}; expected the id of an image "
                f"with a file_name"
            )
        category = categories.get(_key(annotation.get("category_id")))
        if category is None:
            raise ValueError(
                f"category_id is {_shown(annotation.get('category_id'))}; expected the id of a "
                f"category"
            )
        keypoints = _keypoints(annotation)[_order(category)]
        ids = _ids(annotation, image)
        return image, LabelRow(image=image, keypoints=keypoints, origin=origin, **ids)

    rows = parse_rows(_places(content, path, names), parse, "has an annotation already")
    if not rows:
        raise LabelError(f"{path}: the file has no annotations; expected one an image")
    return rows


def _keypoint_fields(keypoints: np.ndarray) -> dict[str, Any]:
    seen = np.where(keypoints[:, 2] >= SEEN_FROM, _VISIBLE, _HIDDEN)
    seen[~keypoints.any(1)] = _ABSENT
    # The shortest digits that make the same float32, and not those of its double.
    numbers = [[float(str(value)) for value in row] for row in keypoints.astype(np.float32)]
    return {
        "keypoints": [
            value
            for (x, y, _), flag in zip(numbers, seen.tolist(), strict=True)
            for value in (x, y, flag)
        ],
        "num_keypoints": int((seen != _ABSENT).sum()),
        "confidences": [confidence for _, _, confidence in numbers],
    }


def _read(path: Path) -> dict[str, Any]:
    with reading(path, LabelError, "the file is no JSON", "expected COCO keypoint JSON"):
        content = read_json(path, most=_MOST_BYTES)
    if not isinstance(content, dict) or not isinstance(content.get("annotations"), list):
        raise LabelError(
            f"{path}: no COCO keypoint JSON; expected an object with images, annotations and "
            f"categories"
        )
    return content


def _by_id(
    content: dict[str, Any], field: str, path: Path, problems: list[str]
) -> dict[Any, dict[str, Any]]:
    """The objects of a list by their ids; what has none becomes a problem."""
    listed = content.get(field)
    if not isinstance(listed, list):
        problems.append(f"{path}: {field} is {_shown(listed)}; expected a list")
        return {}
    by_id = {}
    for number, entry in enumerate(listed, start=1):
        key = _key(entry.get("id")) if isinstance(entry, dict) else None
        if key is None or key in by_id:
            problems.append(
                f"{path}: {field} entry {number} is {_shown(entry)} with the id {_shown(key)}; "
                f"expected an object with an id of its own"
            )
        else:
            by_id[key] = entry
    return by_id


def _places(
    content: dict[str, Any], path: Path, names: Mapping[Any, object]
) -> Iterator[tuple[str, Any]]:
    """The annotations, each behind its place: the file, its number and its image."""
    for number, annotation in enumerate(content["annotations"], start=1):
        key = _key(annotation.get("image_id")) if isinstance(annotation, dict) else None
        image = _base_name(names.get(key))
        yield f"{path}: annotation {number}" + (f", image {image!r}" if image else ""), annotation


def _order(category: dict[str, Any]) -> list[int]:
    """Where the category keeps each of the 36 keypoints."""
    names = category.get("keypoints")
    if names is None:
        return list(range(NUM_KEYPOINTS))
    is_list = isinstance(names, list) and all(isinstance(name, str) for name in names)
    if not is_list or sorted(names) != sorted(KEYPOINT_NAMES):
        raise ValueError(
            f"its category has the keypoints {_shown(names)}; expected the {NUM_KEYPOINTS} of a "
            f"vehicle, {KEYPOINT_NAMES[0]!r} to {KEYPOINT_NAMES[-1]!r}"
        )
    return [names.index(name) for name in KEYPOINT_NAMES]


def _keypoints(annotation: dict[str, Any]) -> np.ndarray:
    keypoints = _numbers(annotation, "keypoints", 3 * NUM_KEYPOINTS).reshape(NUM_KEYPOINTS, 3)
    for number, flag in enumerate(keypoints[:, 2].tolist()):
        if flag not in (_ABSENT, _HIDDEN, _VISIBLE):
            raise ValueError(f"visibility of keypoint {number + 1} is {flag:g}; expected 0, 1 or 2")
    if annotation.get("confidences") is None:
        keypoints[:, 2] = keypoints[:, 2] == _VISIBLE
    else:
        keypoints[:, 2] = _numbers(annotation, "confidences", NUM_KEYPOINTS)
    return keypoints


def _numbers(annotation: dict[str, Any], field: str, count: int) -> np.ndarray:
    """A list of that many finite numbers, float32; ValueError if it is not."""
    values = annotation.get(field)
    if not isinstance(values, list) or len(values) != count:
        found = f"{len(values)} values" if isinstance(values, list) else _shown(values)
        raise ValueError(f"{field} is {found}; expected {count} numbers")
    for place, value in enumerate(values, start=1):
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not abs(value) <= _LARGEST:
            raise ValueError(f"{field} value {place} is {_shown(value)}; expected a finite number")
    return np.array(values, dtype=np.float32)


def _ids(annotation: dict[str, Any], image: str) -> dict[str, int]:
    """Vehicle, colour and type; ValueError if they are stated and no ids."""
    attributes = annotation.get("attributes") or {}
    if not isinstance(attributes, dict):
        raise ValueError(f"attributes is {_shown(attributes)}; expected an object")
    ids = {"vehicle_id": vehicle_in(image), "color_id": 0, "type_id": 0}
    ids |= {name: attributes[name] for name in _IDS if name in attributes}
    for name, value in ids.items():
        is_whole = isinstance(value, int) and not isinstance(value, bool)
        if not is_whole or (value < 0 and name != "vehicle_id"):
            raise ValueError(f"{name} is {_shown(value)}; expected a whole number")
    return ids


def _key(value: object) -> int | str | None:
    """An id that can be looked up; None for what is none."""
    return value if isinstance(value, int | str) and not isinstance(value, bool) else None


def _base_name(name: object) -> str:
    """A file's name without its folders; empty where there is none."""
    return PurePosixPath(name.replace("\\", "/")).name.strip() if isinstance(name, str) else ""


def _shown(value: object) -> str:
    if isinstance(value, list | dict):
        return f"{'a list' if isinstance(value, list) else 'an object'} of {len(value)}"
    text = json.dumps(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
