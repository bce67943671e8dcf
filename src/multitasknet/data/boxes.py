"""Boxes of vehicles in larger pictures, as other programs write them, and what they cut out."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..errors import DataError, shown
from ..images import Corners, Crop, Frame, ImageInput, cut, read_image, size_of, whole_boxes
from .file_names import path_in
from .labels import match, numbers_in, read_annotations
from .text import finite, parse_all, read_csv, whole_number

logger = logging.getLogger(__name__)

# Pixels of the shorter side.
LEAST_SIDE = 32
# Of a box, as tables name them.
CORNERS = ("x1", "y1", "x2", "y2")
_SIZES = (("x", "y", "w", "h"), ("x", "y", "width", "height"))
_CENTERED = ("cx", "cy", "w", "h")
_FIELDS = {
    "image": ("image", "file_name"),
    "frame": ("frame",),
    "track": ("track", "track_id", "id"),
    "confidence": ("confidence", "conf", "score"),
    "label": ("label", "class"),
}
# What no box of shares leaves, as its frame is as wide again; what no box in pixels has.
_MOST_SHARE, _MOST = 2, 1e9
_UNKNOWN = ("", "-1", "-1.0")
_EXPECTED = (
    "expected COCO JSON, MOT or CityFlow text (frame,id,x,y,w,h,...), CSV with a header of image "
    "or frame and x1,y1,x2,y2 or x,y,w,h, or a folder of YOLO or KITTI texts"
)


@dataclass(frozen=True)
class Box:
    """A vehicle in a frame."""

    # The frame's file; as a file of boxes names it, perhaps without suffix, until the file is
    # found, and empty where it only numbers frames.
    image: Path
    xyxy: Corners  # left, top, right and bottom in pixels of the upright frame
    track: str = ""  # its name; empty if it is of none
    confidence: float = 1.0  # the detector's, 1 if unknown
    label: str = ""  # the class's name or number; empty if unknown
    frame: int | None = None  # its number; None if unknown


@dataclass(frozen=True)
class BoxFile:
    """What a file states."""

    boxes: tuple[Box, ...]  # in its order
    relative: bool = False  # whether they are shares of the frame's width and height; else pixels
    first: int | None = None  # what number the first frame has; None if the format does not say


class _Format(NamedTuple):
    """Columns of rows, how many of them must be there, and the number of the first frame."""

    columns: Sequence[str]
    least: int
    first: int | None = None


_OBJECT = ("label", *["-"] * 3, *CORNERS, *["-"] * 7, "confidence")
_MOT = _Format(("frame", "track", *_SIZES[0], "confidence", "label", "-", "-"), 6, first=1)
_YOLO = _Format(("label", *_CENTERED, "confidence", "track"), 5)
_KITTI = (_Format(_OBJECT, 15), _Format(("frame", "track", *_OBJECT), 17, first=0))


def boxes_of(images: Sequence[Path], path: Path) -> list[Box]:
    """The boxes that a file states for these frames, frame by frame, in whole pixels within them.

    Frames are found by name or number, see :func:`.labels.match`. Boxes with a side of less than
    32 pixels within the frame are left out, as are those of other frames; how many is logged.

    Raises:
        DataError: as :func:`read_boxes`; there is no box, none of these frames, or all are too
            small; two frames would have the same boxes.
        ImageError: a frame is no picture.
    """
    file = read_boxes(path)
    of_frame: dict[str | int, list[Box]] = {}
    for box in file.boxes:
        key = box.frame if box.image == Path() and box.frame is not None else box.image.as_posix()
        of_frame.setdefault(key, []).append(box)
    keys = match(images, of_frame, "frames", lambda key: f"{path}: frame {key}", first=file.first)
    found = [
        replace(box, image=image)
        for image, key in zip(images, keys, strict=True)
        if key is not None
        for box in of_frame[key]
    ]
    if not found:
        raise DataError(
            f"{path}: none of {len(file.boxes)} boxes is of these {len(images)} images, such as "
            f"{images[0]}; {_EXPECTED}"
        )
    large = [box for box in fitted(found, relative=file.relative) if box]
    if not large:
        raise DataError(
            f"{path}: no box has {LEAST_SIDE} pixels a side within its frame; give larger frames"
        )
    return large


def fitted(boxes: Iterable[Box], *, relative: bool = False) -> list[Box | None]:
    """Boxes in whole pixels within their frames; None for those with a side below 32 pixels.

    How many these are is logged. ImageError for a frame that is no picture.

    Args:
        boxes: of files that exist.
        relative: whether they are shares of the frame's width and height.
    """
    found: list[Box | None] = []
    for image, group in groupby(boxes, key=lambda box: box.image):
        own = list(group)
        height, width = size = size_of(image)
        whole = whole_boxes(
            np.array([box.xyxy for box in own]) * ([width, height] * 2 if relative else 1), size
        )
        for box, (x1, y1, x2, y2) in zip(own, whole.tolist(), strict=True):
            fits = min(x2 - x1, y2 - y1) >= LEAST_SIDE
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
        found = read_annotations(path, _EXPECTED, _coco_box)
        return BoxFile(tuple(box for box in found if box))
    if not path.is_dir():
        return _text_boxes(path, path.stem)
    texts = [one for one in sorted(path.rglob("*.txt")) if one.name != "classes.txt"]
    parts = [_text_boxes(one, one.relative_to(path).with_suffix("").as_posix()) for one in texts]
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
    numbers = [finite(value, name, _MOST) for name, value in zip(columns, values, strict=True)]
    names = tuple(map(str.casefold, columns))
    x1, y1, x2, y2 = numbers
    if names == _CENTERED:
        x1, y1 = x1 - x2 / 2, y1 - y2 / 2
    if names != CORNERS:
        x2, y2 = x1 + x2, y1 + y2
    is_share = names != _CENTERED or max(map(abs, numbers)) <= _MOST_SHARE
    if x2 < x1 or y2 < y1 or not is_share:
        found = ", ".join(f"{name} {one:g}" for name, one in zip(columns, numbers, strict=True))
        expected = "a width and height of at least 0" if is_share else "shares of the frame, 0 to 1"
        raise ValueError(f"the box is {found}; expected {expected}")
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


def _text_boxes(path: Path, name: str) -> BoxFile:
    """The boxes of a text; ``name`` is of the frame that it is of, where it is of one."""
    rows = [
        (place, row)
        for place, row in read_csv(path)
        if any(map(str.strip, row)) and not row[0].startswith("#")
    ]
    if not rows:
        return BoxFile(())
    formats = [_MOT]
    if len(rows[0][1]) == 1:  # separated by blanks
        rows, formats = [(place, row[0].split()) for place, row in rows], [_YOLO, *_KITTI]
    place, first = rows[0]
    count, header = len(first), [cell.strip().casefold() for cell in first]
    has_header = corner_columns(header) is not None
    if has_header:
        formats, rows = [_format_of(header)], rows[1:]
    format = next((one for one in formats if one.least <= count <= len(one.columns)), None)
    if format is None:
        raise DataError(f"{place}: {count} columns of no format that is known; {_EXPECTED}")
    columns = format.columns
    image = {} if has_header or "frame" in columns else {"image": name}

    def parse(row: list[str], _: str) -> Box | None:
        if not format.least <= len(row) <= len(columns):
            counts = " to ".join(map(str, sorted({format.least, len(columns)})))
            raise ValueError(f"{len(row)} columns; expected {counts}")
        box = _box(image | dict(zip(columns, row, strict=False)))
        if format is _YOLO and box.confidence > 1:
            raise ValueError(
                f"confidence is {box.confidence:g}; expected 0 to 1, and a track's number after it"
            )
        is_nothing = box.label == "DontCare" or (format is _MOT and not box.confidence)
        return None if is_nothing else box

    found = parse_all(rows, parse)
    boxes = [(box, place) for box, (place, _) in zip(found, rows, strict=True) if box]
    relative = format is _YOLO or (
        has_header and are_relative([box.xyxy for box, _ in boxes], [place for _, place in boxes])
    )
    return BoxFile(tuple(box for box, _ in boxes), relative, format.first)


def _format_of(header: Sequence[str]) -> _Format:
    """The columns of a table, by the names that programs give them."""
    names = {
        next((one for one in given if one in header), ""): field for field, given in _FIELDS.items()
    }
    return _Format([names.get(name, name) for name in header], len(header))


def _coco_box(one: dict[str, Any], name: str | int, category: Any, _: str) -> Box | None:
    box = _box(
        {
            "image" if isinstance(name, str) else "frame": name,
            **dict(zip(_SIZES[0], numbers_in(one, "bbox", 4).tolist(), strict=True)),
            "track": one.get("track_id"),
            "confidence": one.get("score"),
            "label": category.get("name") if isinstance(category, dict) else category,
        }
    )
    return None if one.get("iscrowd") else box


def _box(cells: Mapping[str, Any]) -> Box:
    """The box of a row, by the names of its columns; ValueError."""
    text = {name: "" if cell is None else str(cell).strip() for name, cell in cells.items()}
    image, frame = Path(path_in(text.get("image", ""))), None
    if text.get("frame"):
        frame = whole_number(text["frame"])
        if frame is None or frame < 0:
            raise ValueError(f"frame is {text['frame']!r}; expected a whole number of at least 0")
    if image == Path() and frame is None:
        raise ValueError("neither image nor frame is given; expected one of them")
    columns = corner_columns(text) or _CENTERED
    corners = box_corners(columns, [text[name] for name in columns])
    track, label, confidence = (
        "" if text.get(name, "") in _UNKNOWN else text[name]
        for name in ("track", "label", "confidence")
    )
    if (number := whole_number(track)) is not None:
        track = str(number)
    certain = finite(confidence, "confidence", _MOST) if confidence else 1.0
    return Box(image, corners, track, certain, label, frame)
