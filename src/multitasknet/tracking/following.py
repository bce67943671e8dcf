"""Which boxes of a video are one vehicle: by ByteTrack, or as another program's file states."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from ..data.boxes import Box, read_boxes
from ..errors import DataError, import_extra
from .detectors import Detections, Detector
from .tracks import PATIENCE, Seen
from .video import Frame

# Frames in a row that show a vehicle, before it is one.
_LEAST_FRAMES = 3
# One less the overlap by which a box goes on with a track. The library's 0.8 loses vehicles that
# drive far between two of ten frames a second.
_MATCHING = 0.9
_LAST_DIGITS = re.compile(r"(\d+)$", re.ASCII)


class Follower(Protocol):
    """Names the vehicles in a video's frames, which are given in their order.

    Attributes:
        ends: the last frame of each track, by its name; None where that is not known.
    """

    ends: Mapping[str, int] | None

    def __call__(self, frame: Frame) -> Sequence[Seen]: ...


class ByteTrack:
    """Follows what a detector finds (Zhang et al., ECCV 2022), by ``supervision``.

    Args:
        detect: what finds vehicles in a frame.
        rate: frames a second.

    Raises:
        MissingExtraError: ``supervision`` is not installed.
    """

    ends: Mapping[str, int] | None = None

    def __init__(self, detect: Callable[[Frame], Detections], rate: float) -> None:
        self._detect, self._library = detect, import_extra("supervision", "video")
        with warnings.catch_warnings():  # that the next version has none
            warnings.simplefilter("ignore", FutureWarning)
            self._tracker = self._library.ByteTrack(
                frame_rate=rate,
                # As if there were 30 frames a second.
                lost_track_buffer=round(30 * PATIENCE.total_seconds()),
                minimum_consecutive_frames=_LEAST_FRAMES,
                minimum_matching_threshold=_MATCHING,
            )

    def __call__(self, frame: Frame) -> list[Seen]:
        found = self._library.Detections(**self._detect(frame)._asdict())
        found = self._tracker.update_with_detections(found)
        if not len(found):
            return []
        rows = zip(found.tracker_id, found.xyxy, found.confidence, strict=True)
        return [Seen(str(number), box, float(confidence)) for number, box, confidence in rows]


class GivenDetections:
    """Another program's boxes, to be followed.

    Args:
        path: of :func:`.read_boxes`.

    Raises:
        DataError: it cannot be read, or its frames have no numbers.
    """

    def __init__(self, path: Path) -> None:
        self.frames, self._is_relative = _by_frame(path)

    def __call__(self, frame: Frame) -> Detections:
        boxes = self.frames.get(frame.number, ())
        xyxy = np.array([box.xyxy for box in boxes], np.float32).reshape(-1, 4)
        if self._is_relative:
            xyxy *= np.tile(frame.pixels.shape[1::-1], 2)
        return Detections(xyxy, np.array([box.confidence for box in boxes], np.float32))


class GivenTracks:
    """Another program's tracks; arguments and errors as :class:`GivenDetections`."""

    def __init__(self, path: Path) -> None:
        self._detect = GivenDetections(path)
        self.ends: Mapping[str, int] | None = {}
        for number, boxes in sorted(self._detect.frames.items()):
            if not all(box.track for box in boxes):
                raise DataError(f"{path}: boxes of frame {number} are of no track; use --boxes")
            self.ends |= {box.track: number for box in boxes}

    def __call__(self, frame: Frame) -> list[Seen]:
        boxes, found = self._detect.frames.get(frame.number, ()), self._detect(frame)
        return [Seen(box.track, *row) for box, *row in zip(boxes, *found, strict=True)]


def own_detections(detector: Detector) -> Callable[[Frame], Detections]:
    """What a detector finds."""
    return lambda frame: detector(frame.pixels)


def _by_frame(path: Path) -> tuple[dict[int, list[Box]], bool]:
    """The boxes of each frame by its number from 1, and whether they are shares of the frame."""
    file = read_boxes(path)
    frames: dict[int, list[Box]] = {}
    for box in file.boxes:
        name = _LAST_DIGITS.search(box.image.stem)
        number = int(name[1]) if box.frame is None and name else box.frame
        if number is None:
            raise DataError(f"{path}: the box of {box.image} is of no frame with a number")
        frames.setdefault(number, []).append(box)
    first = min(1, *frames) if file.first is None else file.first
    return {number - first + 1: boxes for number, boxes in frames.items()}, file.relative
