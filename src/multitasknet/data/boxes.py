"""Boxes of vehicles in larger pictures, as other programs write them, and what they cut out."""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ..errors import DataError
from ..files import reading
from ..images import (
    Corners,
    Crop,
    Frame,
    ImageInput,
    crop_name,
    cut,
    read_image,
    size_of,
    whole_boxes,
)
from .coco import id_of, numbers_in, objects_by_id
from .file_names import path_in
from .labels import ends_of, refuse, whole_number
from .text import read_csv, read_lines, read_text

logger = logging.getLogger(__name__)

Row = TypeVar("Row", bound=Sized)

# Pixels of the shorter side.
LEAST_SIDE = 32
# Of a box, as tables name them.
CORNERS = ("x1", "y1", "x2", "y2")
_SIZES = (("x", "y", "w", "h"), ("x", "y", "width", "height"))
_NAMES = {
    "image": ("image", "file_name"),
    "frame": ("frame",),
    "track": ("track", "track_id", "id"),
    "confidence": ("confidence", "conf", "score"),
    "label": ("label", "class"),
}
# What no box in pixels has, and no box of shares leaves: its frame is as wide again.
_MOST_SHARE = 2
_LARGEST = 1e9
# Columns of YOLO's, KITTI's and MOT's rows.
_YOLO, _KITTI, _KITTI_TRACKS, _MOT = (5, 6), (15, 16), (17, 18), (6, 7, 8, 9, 10)
_IGNORED = "DontCare"
_NO_TRACK = ("", "-1")
_EXPECTED = (
    "expected COCO JSON, MOT or CityFlow text (frame,id,x,y,w,h,...), CSV with a header of image "
    "or frame and x1,y1,x2,y2 or x,y,w,h, or a folder of YOLO or KITTI texts"
)
# Of a box that is not known yet.
_NONE = (0.0, 0.0, 0.0, 0.0)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE | re.ASCII)
_DIGITS = re.compile(r"(\d+)$", re.ASCII)


@dataclass(frozen=True)
class Box:
    """A vehicle in a frame.

    Attributes:
        image: the frame's file; as a file of boxes names it, perhaps without suffix, until the
            file is found, and empty where it only numbers frames.
        xyxy: left, top, right and bottom in pixels of the upright frame.
        track: the name of its track; empty if it is of none.
        confidence: the detector's, 1 if unknown.
        label: the class's name or number; empty if unknown.
        frame: its number; None if unknown.
    """

    image: Path
    xyxy: Corners
    track: str = ""
    confidence: float = 1.0
    label: str = ""
    frame: int | None = None

    @property
    def name(self) -> str:
        """``frame.jpg#x,y,width,height``."""
        return crop_name(self.image, self.xyxy)


@dataclass(frozen=True)
class BoxFile:
    """What a file states.

    Attributes:
        boxes: in its order.
        relative: whether they are shares of the frame's width and height; else pixels.
        first: what number the first frame has; None if the format does not say.
    """

    boxes: tuple[Box, ...]
    relative: bool = False
    first: int | None = None


def boxes_of(images: Sequence[Path], path: Path) -> list[Box]:
    """The boxes that a file states for these frames, frame by frame, in whole pixels within them.

    Frames that are named are those whose path ends so, with or without suffix; those that are
    numbered are those whose name ends in that number. Boxes with a side of less than 32 pixels
    within the frame are left out, as are those of other frames; how many these are is logged.

    Raises:
        DataError: as :func:`read_boxes`; no box is of these frames, two frames would have the same
            boxes.
        ImageError: a frame is no picture.
    """
    file = read_boxes(path)
    of_frame: dict[str | int, list[Box]] = {}
    for box in file.boxes:
        key = box.frame if box.image == Path() and box.frame is not None else box.image.as_posix()
        of_frame.setdefault(key, []).append(box)
    taken: dict[str | int, Path] = {}
    found = []
    for image, key in _keys(images, of_frame, file.first):
        if taken.setdefault(key, image) != image:
            raise DataError(
                f"{path}: frame {key} may be {taken[key]} or {image}; give each camera's frames "
                f"with its own file, or name frames by their folder, too"
            )
        found += [replace(box, image=image) for box in of_frame[key]]
    strange = [key for key in of_frame if key not in taken]
    if not found:
        raise DataError(
            f"{path}: no box is of these {len(images)} images, such as {images[0]}; it has frame "
            f"{strange[0]}"
        )
    if strange:
        logger.warning(
            "%s: %d of %d frames are none of the images, such as %s",
            *(path, len(strange), len(of_frame), strange[0]),
        )
    return [box for box in fitted(found, relative=file.relative) if box]


def fitted(boxes: Iterable[Box], *, relative: bool = False) -> list[Box | None]:
    """Boxes in whole pixels within their frames; None for those with a side below 32 pixels.

    How many these are is logged.

    Args:
        boxes: of files that exist.
        relative: whether they are shares of the frame's width and height.

    Raises:
        ImageError: a frame is no picture.
    """
    found: list[Box | None] = []
    for image, group in groupby(boxes, key=lambda box: box.image):
        own = list(group)
        height, width = size = size_of(image)
        corners = np.array([box.xyxy for box in own])
        if relative:
            corners *= [width, height] * 2
        whole = whole_boxes(corners, size)
        large = (whole[:, 2:] - whole[:, :2]).min(axis=1) >= LEAST_SIDE
        for box, fits, (x1, y1, x2, y2) in zip(own, large, whole.tolist(), strict=True):
            found.append(replace(box, xyxy=(x1, y1, x2, y2)) if fits else None)
    if small := found.count(None):
        logger.warning(
            "%d of %d boxes are left out: a side within the frame is below %d pixels",
            *(small, len(found), LEAST_SIDE),
        )
    return found


def open_crops(boxes: Iterable[Box]) -> Iterator[Crop]:
    """What is in boxes of :func:`boxes_of`, as pictures; nothing is read yet."""
    for image, group in groupby(boxes, key=lambda box: box.image):
        frame = Frame(image)
        yield from (frame.crop(box.xyxy) for box in group)


def crops(image: ImageInput, detections: Any) -> list[np.ndarray]:
    """Cut a detector's boxes out of a picture, for a predictor or anything else.

    Args:
        image: a path, a Pillow image or an array, uint8 ``[H, W, 3]`` in RGB order.
        detections: ``supervision.Detections``, Ultralytics' ``Results`` or ``Boxes``, or an array
            ``[N, 4]`` or more columns, of which the first are x1, y1, x2, y2 in pixels.

    Returns:
        uint8 ``[h, w, 3]`` in RGB order for each box, in order: its part within the picture, which
        is empty for a box outside.

    Raises:
        ImageError: the picture cannot be read.
        TypeError: these are no such detections.
    """
    return [np.ascontiguousarray(one) for one in cut(read_image(image), corners_in(detections))]


def corners_in(detections: Any) -> np.ndarray:
    """The boxes ``[N, 4]`` of detections as :func:`crops` takes them, float64; TypeError."""
    found = getattr(detections, "boxes", detections)
    found = getattr(found, "xyxy", found)
    if hasattr(found, "cpu"):
        found = found.cpu().numpy()
    try:
        boxes = np.asarray(found, np.float64)
    except (TypeError, ValueError):
        boxes = np.empty(1)
    if not boxes.size:
        return np.empty((0, 4))
    if boxes.ndim != 2 or boxes.shape[1] < 4:
        raise TypeError(
            f"detections are {type(detections).__name__}; expected supervision.Detections, "
            f"Ultralytics' results, or an array [N, 4] of x1, y1, x2, y2"
        )
    return boxes[:, :4]


def read_boxes(path: Path) -> BoxFile:
    """Read boxes that another program wrote.

    Understood are COCO JSON (annotations, or a list of results), MOT challenge's and CityFlow's
    text, KITTI's for objects and for tracking, YOLO's, and CSV with a header; of YOLO's and
    KITTI's a folder with a text for each frame. What they mark as none to look at is left out:
    KITTI's ``DontCare``, COCO's crowds, MOT's rows with a confidence of 0.

    Raises:
        DataError: it is none of these; up to 20 faults, each with its place and value; pixels and
            shares together.
    """
    if path.is_dir():
        texts = [one for one in sorted(path.rglob("*.txt")) if one.name != "classes.txt"]
        names = [one.relative_to(path).with_suffix("").as_posix() for one in texts]
        parts = [_text_boxes(*both) for both in zip(texts, names, strict=True)]
        boxes = tuple(box for one in parts for box in one.boxes)
        units = {one.relative for one in parts if one.boxes}
        if len(units) > 1 or any(box.frame is not None for box in boxes):
            raise DataError(f"{path}: not one text for each frame, all of one format; {_EXPECTED}")
        file = BoxFile(boxes, relative=True in units)
    elif path.suffix.lower() == ".json":
        file = BoxFile(_coco_boxes(path))
    else:
        file = _text_boxes(path, path.stem)
    if not file.boxes:
        raise DataError(f"{path}: there is no box; {_EXPECTED}")
    return file


def corner_columns(names: Iterable[str]) -> tuple[str, ...] | None:
    """Which of a table's columns, in lower case, are boxes; None if there are none."""
    present = set(names)
    return next((one for one in (CORNERS, *_SIZES) if present.issuperset(one)), None)


def box_corners(columns: Sequence[str], values: Sequence[object]) -> Corners:
    """Left, top, right and bottom of a box; ValueError for what is no box."""
    numbers = [_number(name, value) for name, value in zip(columns, values, strict=True)]
    x1, y1, x2, y2 = numbers
    if tuple(map(str.casefold, columns)) != CORNERS:
        x2, y2 = x1 + x2, y1 + y2
    if x2 < x1 or y2 < y1:
        found = ", ".join(f"{name} {one:g}" for name, one in zip(columns, numbers, strict=True))
        raise ValueError(f"the box is {found}; expected a width and height of at least 0")
    return x1, y1, x2, y2


def are_relative(boxes: Sequence[Corners], places: Sequence[str]) -> bool:
    """Whether boxes are shares of their frames; else pixels. DataError if they are both."""
    first: dict[bool, tuple[str, Corners]] = {}
    for place, box in zip(places, boxes, strict=True):
        if box[:2] != box[2:]:  # which trackers write for nothing
            first.setdefault(max(map(abs, box)) <= _MOST_SHARE, (place, box))
    if len(first) > 1:
        (one, small), (other, large) = first[True], first[False]
        raise DataError(
            f"{one}: the box {_shown(small)} is in shares of the frame, and that of {other}, "
            f"{_shown(large)}, in pixels; write all of them in one"
        )
    return True in first


def _keys(
    images: Sequence[Path], known: Mapping[str | int, object], first: int | None
) -> Iterator[tuple[Path, str | int]]:
    """The images that boxes are known of, and the name or number by which they are."""
    numbers = {image: int(found[1]) for image in images if (found := _DIGITS.search(image.stem))}
    # Frames that were saved from a video often begin with 0.
    offset = int(first == 1 and 0 in numbers.values() and 0 not in known)
    for image in images:
        names = [*ends_of(image), *ends_of(image.with_suffix(""))]
        name = max((one for one in names if one in known), key=len, default=None)
        number = numbers.get(image, -1 - offset) + offset
        if name is not None:
            yield image, name
        elif number in known:
            yield image, number


def _text_boxes(path: Path, name: str) -> BoxFile:
    """The boxes of a text; ``name`` is of the frame that it is of, where it is of one."""
    lines = [(place, line) for place, line in read_lines(path) if not line.startswith("#")]
    if not lines:
        return BoxFile(())
    header = re.split(r"\s*[,;\t]\s*", lines[0][1].casefold())
    if corner_columns(cell.strip('"') for cell in header):
        return _csv_boxes(path)
    by_commas = "," in lines[0][1]
    rows = [(place, re.split(r"\s*,\s*" if by_commas else r"\s+", line)) for place, line in lines]
    first = rows[0][1]
    count, is_word = len(first), [not _NUMBER.fullmatch(cell) for cell in first]
    if count in (_MOT if by_commas else _MOT[2:]) and not any(is_word):
        return BoxFile(_parsed(rows, _MOT, _mot_box), first=1)
    if count in _YOLO and not by_commas:
        boxes = _parsed(rows, _YOLO, lambda row: _yolo_box(row, Path(name)))
        return BoxFile(boxes, relative=True)
    if count in _KITTI and is_word[0]:
        return BoxFile(_parsed(rows, _KITTI, lambda row: _kitti_box(row, Box(Path(name), _NONE))))
    if count in _KITTI_TRACKS and is_word[2]:
        return BoxFile(_parsed(rows, _KITTI_TRACKS, _kitti_track))
    raise DataError(f"{lines[0][0]}: {count} columns of no format that is known; {_EXPECTED}")


def _parsed(
    rows: Iterable[tuple[str, Row]], counts: Sequence[int], parse: Callable[[Row], Box | None]
) -> tuple[Box, ...]:
    """The boxes of rows, each after its place, that have so many columns; DataError."""
    boxes, problems = [], []
    for place, row in rows:
        try:
            if counts and len(row) not in counts:
                raise ValueError(f"{len(row)} columns; expected {' or '.join(map(str, counts))}")
            boxes.append(parse(row))
        except ValueError as error:
            problems.append(f"{place}: {error}")
    refuse(problems)
    return tuple(box for box in boxes if box)


def _mot_box(row: list[str]) -> Box | None:
    confidence = _number("confidence", row[6]) if len(row) > 6 else 1.0
    label = row[7] if len(row) > 7 and row[7] not in _NO_TRACK else ""
    xyxy = box_corners(_SIZES[0], row[2:6])
    box = Box(Path(), xyxy, _track(row[1]), confidence, label, _frame(row[0]))
    return box if confidence else None  # 0 is of what is not looked at


def _kitti_track(row: list[str]) -> Box | None:
    return _kitti_box(row[2:], Box(Path(), _NONE, _track(row[1]), frame=_frame(row[0])))


def _kitti_box(row: list[str], box: Box) -> Box | None:
    confidence = _number("score", row[15]) if len(row) > 15 else 1.0
    xyxy = box_corners(CORNERS, row[4:8])
    found = replace(box, xyxy=xyxy, confidence=confidence, label=row[0])
    return None if row[0] == _IGNORED else found


def _yolo_box(row: list[str], image: Path) -> Box:
    x, y, width, height = (_number(*one) for one in zip(_SIZES[1], row[1:5], strict=True))
    if min(width, height) < 0 or max(map(abs, (x, y, width, height))) > _MOST_SHARE:
        raise ValueError(f"the box is {' '.join(row[1:5])}; expected shares of the frame, 0 to 1")
    xyxy = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    confidence = _number("confidence", row[5]) if len(row) > 5 else 1.0
    return Box(image, xyxy, confidence=confidence, label=row[0])


def _csv_boxes(path: Path) -> BoxFile:
    (origin, header), *rows = [*read_csv(path)] or [(f"{path}:1", [])]
    names = [name.strip().casefold() for name in header]
    corners = corner_columns(names)
    known = {
        field: names.index(next(one for one in given if one in names))
        for field, given in _NAMES.items()
        if set(given) & set(names)
    }
    if corners is None or not {"image", "frame"} & set(known):
        raise DataError(f"{origin}: the header is {','.join(header)[:200]!r}; {_EXPECTED}")
    columns = [names.index(name) for name in corners]

    def parse(row: list[str]) -> Box:
        cells = {field: row[column].strip() for field, column in known.items()}
        if not (cells.get("image") or cells.get("frame")):
            raise ValueError("neither image nor frame is given; expected one of them")
        return Box(
            Path(path_in(cells.get("image", ""))),
            box_corners(corners, [row[column] for column in columns]),
            _track(cells.get("track", "")),
            _number("confidence", cells.get("confidence") or 1),
            cells.get("label", ""),
            _frame(cells["frame"]) if cells.get("frame") else None,
        )

    rows = [(place, row) for place, row in rows if not row[0].startswith("#")]
    boxes = _parsed(rows, (len(names),), parse)
    places = [place for place, _ in rows]
    return BoxFile(boxes, are_relative([box.xyxy for box in boxes], places))


def _coco_boxes(path: Path) -> tuple[Box, ...]:
    """Of annotations, or of results, whose images are named by their ids."""
    with reading(path, DataError, "the file is no JSON", _EXPECTED):
        content = json.loads(read_text(path))
    images: Mapping[Any, Any] = {}
    categories: Mapping[Any, Any] = {}
    if isinstance(content, dict) and isinstance(content.get("images"), list):
        images = objects_by_id(content["images"], f"{path}: images")
        categories = objects_by_id(content.get("categories") or [], f"{path}: categories")
        content = content.get("annotations")
    if not isinstance(content, list):
        raise DataError(f"{path}: no COCO JSON with images and annotations; {_EXPECTED}")

    def parse(one: Any) -> Box | None:
        id = id_of(one, "image_id")
        name = images.get(id, {}).get("file_name") if images else id
        if not isinstance(name, str | int):
            raise ValueError(f"image_id is {_shown(id)}; expected the id of a named image")
        category = id_of(one, "category_id")
        label = categories.get(category, {}).get("name", category)
        box = Box(
            Path() if isinstance(name, int) else Path(path_in(name)),
            box_corners(_SIZES[0], numbers_in(one, "bbox", 4).tolist()),
            _track(str(one.get("track_id", ""))),
            _number("score", one.get("score", 1.0)),
            "" if label is None else str(label),
            name if isinstance(name, int) else None,
        )
        return None if one.get("iscrowd") else box

    places = (f"{path}: annotation {number}" for number in range(1, len(content) + 1))
    return _parsed(zip(places, content, strict=False), (), parse)


def _number(name: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not abs(number) <= _LARGEST:
        raise ValueError(f"{name} is {_shown(value)}; expected a number")
    return number


def _frame(text: str) -> int:
    number = whole_number(text)
    if number is None or number < 0:
        raise ValueError(f"frame is {_shown(text)}; expected a whole number of at least 0")
    return number


def _track(text: str) -> str:
    """A track's name; a whole number that was written as a decimal without it."""
    number = whole_number(text)
    name = text.strip() if number is None else str(number)
    return "" if name in _NO_TRACK else name


def _shown(value: object) -> str:
    text = str(list(value) if isinstance(value, tuple) else value)
    return repr(text[:60]) if isinstance(value, str) else text[:60]
