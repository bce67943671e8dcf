"""Which boxes of a video are one vehicle: by ByteTrack, or as another program's file states."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Protocol

import numpy as np

from ..data.boxes import Box, read_boxes
from ..errors import DataError, import_extra
from .detectors import Detections
from .tracks import PATIENCE, Seen, is_file_name
from .video import VideoFrame

# Frames in a row that show a vehicle, before it is one.
_LEAST_FRAMES = 3
# One less the overlap by which a box goes on with a track. The library's 0.8 loses vehicles that
# drive far between two of ten frames a second.
_MATCHING = 0.9
_LAST_DIGITS = re.compile(r"(\d+)(?:\.[a-z]+)?$", re.ASCII | re.IGNORECASE)


class Follower(Protocol):
    """Names the vehicles in a video's frames, which are given in their order."""

    patience: timedelta  # how long a vehicle may be out of sight and go on with its track

    def __call__(self, frame: VideoFrame) -> Sequence[Seen]: ...


class ByteTrack:
    """Follows what a detector finds (Zhang et al., ECCV 2022), by ``supervision``.

    Args:
        detect: what finds vehicles in a frame.
        rate: frames a second.

    Raises:
        MissingExtraError: ``supervision`` is not installed.
    """

    patience = PATIENCE

    def __init__(self, detect: Callable[[VideoFrame], Detections], rate: float) -> None:
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

    def __call__(self, frame: VideoFrame) -> list[Seen]:
        found = self._library.Detections(**self._detect(frame)._asdict())
        found = self._tracker.update_with_detections(found)
        if not len(found):
            return []
        rows = zip(found.tracker_id, found.xyxy, found.confidence, strict=True)
        return [Seen(str(number), box, float(confidence)) for number, box, confidence in rows]


class GivenDetections:
    """Another program's boxes, to be followed.

    Frames count from 0 where the file has one of that number or its format does so, else from 1.

    Args:
        path: of :func:`.read_boxes`; without a box it is of a video without vehicles.

    Raises:
        DataError: it cannot be read, its frames have no numbers, or its confidences no known scale.
    """

    def __init__(self, path: Path) -> None:
        file = read_boxes(path)
        self._is_relative = file.relative
        numbers = [_number_of(box, path) for box in file.boxes]
        first = min(1 if file.first is None else file.first, *numbers, 1)
        self.frames: dict[int, list[Box]] = {}
        for number, box in zip(numbers, file.boxes, strict=True):
            if not 0 <= box.confidence <= 1:
                raise DataError(
                    f"{path}: a confidence of frame {number} is {box.confidence:g}; expected 0 to "
                    f"1, or -1 where it is not known"
                )
            self.frames.setdefault(number - first + 1, []).append(box)

    def __call__(self, frame: VideoFrame) -> Detections:
        boxes = self.frames.get(frame.number, ())
        xyxy = np.array([box.xyxy for box in boxes], np.float32).reshape(-1, 4)
        if self._is_relative:
            xyxy *= np.tile(frame.pixels.shape[1::-1], 2)
        return Detections(xyxy, np.array([box.confidence for box in boxes], np.float32))


class GivenTracks:
    """Another program's tracks; arguments and errors as :class:`GivenDetections`.

    One that is gone for a minute is another when it comes back: programs use numbers again.
    """

    patience = timedelta(minutes=1)

    def __init__(self, path: Path) -> None:
        self._detect = GivenDetections(path)
        for number, boxes in self._detect.frames.items():
            for box in boxes:
                if not is_file_name(box.track):
                    raise DataError(
                        f"{path}: a track of frame {number} is {box.track[:60]!r}; expected a name "
                        f"that a file can have (without tracks use --boxes)"
                    )

    def __call__(self, frame: VideoFrame) -> list[Seen]:
        boxes, found = self._detect.frames.get(frame.number, ()), self._detect(frame)
        return [Seen(box.track, *row) for box, *row in zip(boxes, *found, strict=True)]


def _number_of(box: Box, path: Path) -> int:
    if box.frame is not None:
        return box.frame
    name = _LAST_DIGITS.search(box.image.name)
    if name is None:
        raise DataError(f"{path}: the box of {box.image} is of no frame with a number")
    return int(name[1])
