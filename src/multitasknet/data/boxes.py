"""Boxes of vehicles in larger pictures, as other programs write them, and what they cut out."""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ..errors import DataError, shown
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
from .labels import ends_of
from .text import read_csv, read_lines, read_text, refuse, whole_number

logger = logging.getLogger(__name__)

Row = TypeVar("Row")

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
_IGNORED = "DontCare"
_UNKNOWN = ("", "-1")
_EXPECTED = (
    "expected COCO JSON, MOT or CityFlow text (frame,id,x,y,w,h,...), CSV with a header of image "
    "or frame and x1,y1,x2,y2 or x,y,w,h, or a folder of YOLO or KITTI texts"
)
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
        DataError: as :func:`read_boxes`; there is no box, none of these frames, or all are too
            small; two frames would have the same boxes.
        ImageError: a frame is no picture.
    """
    file = read_boxes(path)
    if not file.boxes:
        raise DataError(f"{path}: there is no box; {_EXPECTED}")
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
    large = [box for box in fitted(found, relative=file.relative) if box]
    if not large:
        raise DataError(
            f"{path}: no box has {LEAST_SIDE} pixels a side within its frame; give larger frames"
        )
    return large


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
    """Read boxes that another program wrote; there may be none.

    Understood are COCO JSON (annotations, or a list of results), MOT challenge's and CityFlow's
    text, KITTI's for objects and for tracking, YOLO's, and CSV with a header; of YOLO's and
    KITTI's a folder with a text for each frame. What they mark as none to look at is left out:
    KITTI's ``DontCare``, COCO's crowds, MOT's rows with a confidence of 0. A confidence of -1 is
    unknown.

    Raises:
        DataError: it is none of these; up to 20 faults, each with its place and value; pixels and
            shares together.
    """
    if path.suffix.lower() == ".json":
        return BoxFile(_coco_boxes(path))
    if not path.is_dir():
        return _text_boxes(path, path.stem)
    texts = [one for one in sorted(path.rglob("*.txt")) if one.name != "classes.txt"]
    names = [one.relative_to(path).with_suffix("").as_posix() for one in texts]
    parts = [_text_boxes(*both) for both in zip(texts, names, strict=True)]
    boxes = tuple(box for one in parts for box in one.boxes)
    units = {one.relative for one in parts if one.boxes}
    if len(units) > 1 or not texts or any(box.frame is not None for box in boxes):
        raise DataError(f"{path}: not one text for each frame, all of one format; {_EXPECTED}")
    return BoxFile(boxes, relative=True in units)


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
            f"{one}: the box {shown(small)} is in shares of the frame, and that of {other}, "
            f"{shown(large)}, in pixels; write all of them in one"
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


@dataclass(frozen=True)
class _Rows:
    """A format of rows.

    Attributes:
        columns: their names; "" is passed over.
        counts: how many columns a row may have.
        first: what number the first frame has; None if the format does not say.
        is_of_frame: whether a text is of one frame, which has its name.
        relative: whether boxes are in shares, and given by their centres.
    """

    columns: Sequence[str]
    counts: range
    first: int | None = None
    is_of_frame: bool = False
    relative: bool = False


_MOT = _Rows(("frame", "track", *_SIZES[0], "confidence", "label"), range(6, 11), first=1)
_YOLO = _Rows(("label", *_SIZES[0], "confidence", "track"), range(5, 8), None, True, True)
_OBJECT = ("label", *[""] * 3, *CORNERS, *[""] * 7, "confidence")
_KITTI = _Rows(_OBJECT, range(15, 17), is_of_frame=True)
_KITTI_TRACKS = _Rows(("frame", "track", *_OBJECT), range(17, 19), first=0)


def _text_boxes(path: Path, name: str) -> BoxFile:
    """The boxes of a text; ``name`` is of the frame that it is of, where it is of one."""
    lines = [(place, line) for place, line in read_lines(path) if not line.startswith("#")]
    if not lines:
        return BoxFile(())
    header = re.split(r"\s*[,;\t]\s*", lines[0][1].casefold())
    has_header = corner_columns(cell.strip('"') for cell in header) is not None
    format, rows = _table(path) if has_header else _without_header(lines)
    image = Path(name) if format.is_of_frame else Path()
    boxes = _parsed(rows, lambda row: _box_in(row, format, image))
    relative = format.relative
    if has_header:
        relative = are_relative([box.xyxy for box in boxes], [place for place, _ in rows])
    return BoxFile(boxes, relative, format.first)


def _table(path: Path) -> tuple[_Rows, list[tuple[str, list[str]]]]:
    """The columns of a CSV with a header, and its rows."""
    (origin, header), *rows = read_csv(path)
    names = [name.strip().casefold() for name in header]
    columns = list(names)
    for field, given in _NAMES.items():
        name = next((one for one in given if one in names), field)
        columns = [field if one == name else one for one in columns]
    if not {"image", "frame"} & set(columns):
        raise DataError(f"{origin}: the header is {','.join(header)[:200]!r}; {_EXPECTED}")
    rows = [(place, row) for place, row in rows if not row[0].startswith("#")]
    return _Rows(columns, range(len(names), len(names) + 1)), rows


def _without_header(
    lines: list[tuple[str, str]],
) -> tuple[_Rows, list[tuple[str, list[str]]]]:
    """The format of rows by how many columns the first has, and the rows."""
    by_commas = "," in lines[0][1]
    rows = [(place, re.split(r"\s*,\s*" if by_commas else r"\s+", line)) for place, line in lines]
    count = len(rows[0][1])
    for format in [_MOT] if by_commas else [_YOLO, _KITTI, _KITTI_TRACKS]:
        if count in format.counts:
            return format, rows
    raise DataError(f"{rows[0][0]}: {count} columns of no format that is known; {_EXPECTED}")


def _box_in(row: Sequence[str], format: _Rows, image: Path) -> Box | None:
    if len(row) not in format.counts:
        counts = " or ".join(map(str, format.counts))
        raise ValueError(f"{len(row)} columns; expected {counts}")
    box = _box(dict(zip(format.columns, row, strict=False)), image)
    if format.relative:
        box = replace(box, xyxy=_centered(*box.xyxy))
    if format is _YOLO and box.confidence > 1:
        raise ValueError(
            f"confidence is {box.confidence:g}; expected 0 to 1, and a track's number after it"
        )
    is_nothing = box.label == _IGNORED or (format is _MOT and not box.confidence)
    return None if is_nothing else box


def _centered(x1: float, y1: float, x2: float, y2: float) -> Corners:
    """A box in shares whose centre was taken for its first corner."""
    if max(map(abs, (x1, y1, x2 - x1, y2 - y1))) > _MOST_SHARE:
        raise ValueError(
            f"the box is {x1:g} {y1:g} {x2 - x1:g} {y2 - y1:g}; expected shares of the frame, 0 "
            f"to 1"
        )
    width, height = (x2 - x1) / 2, (y2 - y1) / 2
    return x1 - width, y1 - height, x2 - width, y2 - height


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
        id, category = id_of(one, "image_id"), id_of(one, "category_id")
        name = images.get(id, {}).get("file_name") if images else id
        if not isinstance(name, str | int):
            raise ValueError(f"image_id is {shown(id)}; expected the id of a named image")
        corners = numbers_in(one, "bbox", 4).tolist()
        box = _box(
            {
                "image" if isinstance(name, str) else "frame": name,
                **dict(zip(_SIZES[0], corners, strict=True)),
                "track": one.get("track_id"),
                "confidence": one.get("score"),
                "label": categories.get(category, {}).get("name", category),
            }
        )
        return None if one.get("iscrowd") else box

    places = (f"{path}: annotation {number}" for number in range(1, len(content) + 1))
    return _parsed(zip(places, content, strict=False), parse)


def _parsed(rows: Iterable[tuple[str, Row]], parse: Callable[[Row], Box | None]) -> tuple[Box, ...]:
    """The boxes of rows, each after its place; DataError with all ValueErrors."""
    boxes, problems = [], []
    for place, row in rows:
        try:
            boxes.append(parse(row))
        except ValueError as error:
            problems.append(f"{place}: {error}")
    refuse(problems)
    return tuple(box for box in boxes if box)


def _box(cells: Mapping[str, Any], image: Path = Path()) -> Box:
    """The box of a row, by the names of its columns; ValueError."""
    text = {name: "" if cell is None else str(cell).strip() for name, cell in cells.items()}
    image = Path(path_in(text.get("image", ""))) if image == Path() else image
    frame = _frame(text["frame"]) if text.get("frame") else None
    if image == Path() and frame is None:
        raise ValueError("neither image nor frame is given; expected one of them")
    corners = corner_columns(text) or ()
    number = whole_number(text.get("track", ""))
    track = text.get("track", "") if number is None else str(number)
    confidence, label = (text.get(name, "") for name in ("confidence", "label"))
    return Box(
        image,
        box_corners(corners, [text[name] for name in corners]),
        "" if track in _UNKNOWN else track,
        1.0 if confidence in ("", "-1", "-1.0") else _number("confidence", confidence),
        "" if label in _UNKNOWN else label,
        frame,
    )


def _number(name: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not abs(number) <= _LARGEST:
        raise ValueError(f"{name} is {shown(value)}; expected a number")
    return number


def _frame(text: str) -> int:
    number = whole_number(text)
    if number is None or number < 0:
        raise ValueError(f"frame is {shown(text)}; expected a whole number of at least 0")
    return number
