"""From boxes with names, frame by frame, to tracks with the mean embedding of their best crops."""

from __future__ import annotations

import math
import re
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import numpy as np

from ..data.boxes import LEAST_SIDE
from ..images import whole_boxes
from ..inference.prediction import Prediction
from ..inference.predictor import Predictor
from .video import VideoFrame

# A vehicle that has not been found for longer is gone.
PATIENCE = timedelta(seconds=1)
# What stays for longer has several passages, so that it is kept, too.
_LONGEST = timedelta(hours=1)
# A track's best crops, and those that are kept beside them until their quality is known.
_CROPS, _SPARE = 5, 3
# How much a crop is worth that the frame's border cuts.
_CUT_OFF = 0.3
# Less than this share of its size a vehicle must have gone for its direction to be known.
_LEAST_WAY = 0.5


class Seen(NamedTuple):
    """A vehicle in a frame: its track's name, x1, y1, x2, y2 in pixels, and confidence, 0..1."""

    name: str
    xyxy: np.ndarray
    confidence: float


class _Crop(NamedTuple):
    """What a crop is worth before a network sees it, its box ``[4]`` in whole pixels within the
    frame, and uint8 ``[H, W, 3]`` RGB."""

    score: float
    box: np.ndarray
    pixels: np.ndarray


@dataclass(eq=False)
class Passage:
    """A vehicle before a camera, from its coming to its leaving.

    Attributes:
        name: unique within the camera: the time of its first frame, and its number.
        first, last: when it was seen first and last.
        places: frame, x1, y1, x2, y2 in pixels, one after another; an hour of these is 4 MB.
        crops: the best, and a few more than will be asked for.
    """

    name: str
    first: datetime
    last: datetime
    places: array[float] = field(default_factory=lambda: array("d"))
    crops: list[_Crop] = field(default_factory=list)

    @property
    def heading(self) -> float | None:
        """Its direction in the picture in degrees, 0 right, 90 up; None if it hardly moved."""
        first, last = np.array(self.places[1:5]), np.array(self.places[-4:])
        x, y = (last[:2] + last[2:] - first[:2] - first[2:]) / 2
        if math.hypot(x, y) < _LEAST_WAY * max(_sizes(first), _sizes(last)):
            return None
        return math.degrees(math.atan2(-y, x)) % 360


class Track(NamedTuple):
    """A vehicle's passage and what it looks like.

    Attributes:
        passage: when and where it was seen.
        crops: its five best ones, uint8 ``[H, W, 3]`` RGB, the best first.
        prediction: of the best; its embedding (of length 1 if distances are cosines) and the
            probabilities of colours and types are the means of all these crops.
    """

    passage: Passage
    crops: tuple[np.ndarray, ...]
    prediction: Prediction


def gather(
    frames: Iterable[tuple[VideoFrame, Sequence[Seen]]],
    *,
    side: int,
    patience: timedelta = PATIENCE,
    known: frozenset[str] = frozenset(),
) -> Iterator[Passage]:
    """The passages of vehicles, each once it is over.

    Args:
        frames: with the vehicles in them.
        side: of the network's input: larger crops are worth no more.
        patience: it is over when the vehicle has not been seen for longer, or after an hour.
        known: names of those whose crops are not needed.
    """
    passages: dict[str, Passage] = {}
    for frame, vehicles in frames:
        for seen in vehicles:
            name = f"{frame.time:%Y%m%dT%H%M%S}-{seen.name}"
            passage = passages.setdefault(seen.name, Passage(name, frame.time, frame.time))
            passage.last = frame.time
            passage.places.extend([frame.number, *seen.xyxy.tolist()])
            if passage.name not in known and (crop := _crop(frame, seen, vehicles, side)):
                passage.crops.append(crop)
            if len(passage.crops) > _CROPS + _SPARE:
                scores = [one.score for one in passage.crops]
                del passage.crops[int(np.argmin(_values(passage.crops, scores)))]
        for name, passage in list(passages.items()):
            is_gone = frame.time - passage.last > patience
            if is_gone or frame.time - passage.first > _LONGEST:
                yield passages.pop(name)
    yield from passages.values()


def describe(passage: Passage, predictor: Predictor) -> Track | None:
    """The track of a passage that is over; None if no crop was large enough."""
    if not passage.crops:
        return None
    pixels = [one.pixels for one in passage.crops]
    predictions = predictor.predict(pixels)
    pairs = zip(passage.crops, predictions, strict=True)
    values = _values(passage.crops, [crop.score * found.quality for crop, found in pairs])
    best = np.argsort(-values, kind="stable")[:_CROPS].tolist()
    mean = _mean([predictions[one] for one in best], predictor.spec.distance == "cosine")
    return Track(passage, tuple(pixels[one] for one in best), mean)


def is_file_name(text: str) -> bool:
    """Whether a camera or track may have this name, which is a folder's or file's, too."""
    return re.fullmatch(r"[^\s./\\][^/\\]*", text) is not None


def _crop(frame: VideoFrame, seen: Seen, vehicles: Sequence[Seen], side: int) -> _Crop | None:
    height, width = frame.pixels.shape[:2]
    (box,) = whole_boxes([seen.xyxy], (height, width))
    x1, y1, x2, y2 = box.tolist()
    if min(x2 - x1, y2 - y1) < LEAST_SIDE:
        return None
    # The largest share that one nearer vehicle covers: nearer ones reach further down.
    others = np.array([one.xyxy for one in vehicles if one.xyxy[3] > y2 + 1]).reshape(-1, 4)
    common = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    hidden = min((common.clip(0).prod(1) / _sizes(box) ** 2).max(initial=0), 1)
    score = min(_sizes(box) / side, 1) * (1 - hidden) * seen.confidence
    is_cut = x1 == 0 or y1 == 0 or x2 == width or y2 == height
    pixels = frame.pixels[y1:y2, x1:x2].copy()
    return _Crop(float(score) * (_CUT_OFF if is_cut else 1), box, pixels)


def _values(crops: Sequence[_Crop], scores: Sequence[float]) -> np.ndarray:
    """What crops of one track are worth beside one another.

    A crop's score, times how far its view is from that of the nearest better one, up to 1: a
    vehicle that has moved by its own size is seen from another side.
    """
    order = np.argsort(-np.array(scores), kind="stable")
    values = np.array(scores, np.float64)
    boxes = np.stack([one.box for one in crops])[order]
    centers, sizes = (boxes[:, :2] + boxes[:, 2:]) / 2, _sizes(boxes)
    apart = np.linalg.norm(centers[:, None] - centers, axis=2) / (sizes[:, None] + sizes) * 2
    apart += np.abs(np.log(sizes[:, None] / sizes))
    apart[np.triu_indices(len(order))] = 1  # those that are not better
    values[order] *= apart.min(axis=1).clip(max=1)
    return values


def _sizes(boxes: np.ndarray) -> np.ndarray:
    """The roots of the areas of boxes ``[..., 4]``."""
    return np.sqrt(np.prod(boxes[..., 2:] - boxes[..., :2], axis=-1))


def _mean(predictions: Sequence[Prediction], is_cosine: bool) -> Prediction:
    embedding = np.mean([one.embedding for one in predictions], axis=0)
    if is_cosine:
        embedding /= np.linalg.norm(embedding)
    facts: dict[str, Any] = {"embedding": embedding}
    for name in ("color_probabilities", "type_probabilities"):
        every = [getattr(one, name) for one in predictions]
        means = {label: float(np.mean([one[label] for one in every])) for label in every[0]}
        facts[name] = dict(sorted(means.items(), key=lambda item: -item[1]))
    return replace(predictions[0], **facts)
