"""From boxes with names, frame by frame, to tracks with the mean embedding of their best crops."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import numpy as np

from ..data.boxes import LEAST_SIDE
from ..gallery.adding import Embedder
from ..inference.prediction import Prediction
from .video import Frame

# A vehicle that has not been found for longer is gone.
PATIENCE = timedelta(seconds=1)
# What stays for longer has several passages, so that it is kept, too.
_LONGEST = timedelta(hours=1)
# Crops more than are asked for, which are kept until their quality is known.
_SPARE = 3
# How much a crop is worth that the frame's border cuts.
_CUT_OFF = 0.3
# Less than this share of its size a vehicle must have gone for its direction to be known.
_LEAST_WAY = 0.5
# Bytes, so that a file's name has room for a time and a suffix.
_LONGEST_NAME = 200


class Seen(NamedTuple):
    """A vehicle in a frame.

    Attributes:
        name: of its track.
        xyxy: x1, y1, x2, y2 in pixels.
        confidence: 0..1.
    """

    name: str
    xyxy: np.ndarray
    confidence: float


class _Crop(NamedTuple):
    """A vehicle cut out of a frame.

    Attributes:
        score: what it is worth, by what is known without a network.
        box: in whole pixels within the frame, ``[4]``.
        pixels: uint8 ``[H, W, 3]`` RGB.
    """

    score: float
    box: np.ndarray
    pixels: np.ndarray


@dataclass(eq=False)
class Passage:
    """A vehicle before a camera, from its coming to its leaving.

    Attributes:
        name: unique within the camera: the time of its first frame, and its number.
        first, last: when it was seen first and last.
        numbers: of its frames.
        corners: in these, x1, y1, x2, y2 in pixels, one after another.
        crops: the best, and a few more than will be asked for.
    """

    name: str
    first: datetime
    last: datetime
    # An hour of these costs 2 MB.
    numbers: array[int] = field(default_factory=lambda: array("q"))
    corners: array[float] = field(default_factory=lambda: array("f"))
    crops: list[_Crop] = field(default_factory=list)

    def add(self, frame: Frame, seen: Seen) -> None:
        """Note that it is in a frame."""
        self.last = frame.time
        self.numbers.append(frame.number)
        self.corners.extend(seen.xyxy.tolist())

    def offer(self, crop: _Crop, most: int) -> None:
        """Keep a crop if it is among the best of different views."""
        self.crops.append(crop)
        if len(self.crops) > most:
            values = _values([one.score for one in self.crops], [one.box for one in self.crops])
            del self.crops[int(np.argmin(values))]

    @property
    def boxes(self) -> np.ndarray:
        """In each frame, float32 ``[N, 4]`` of x1, y1, x2, y2 in pixels."""
        return np.array(self.corners, np.float32).reshape(-1, 4)

    @property
    def heading(self) -> float | None:
        """Its direction in the picture in degrees, 0 right, 90 up; None if it hardly moved."""
        first, last = self.boxes[[0, -1]]
        x, y = (last[:2] + last[2:] - first[:2] - first[2:]) / 2
        if math.hypot(x, y) < _LEAST_WAY * max(_size(first), _size(last)):
            return None
        return math.degrees(math.atan2(-y, x)) % 360


class Track(NamedTuple):
    """A vehicle's passage and what it looks like.

    Attributes:
        passage: when and where it was seen.
        crops: its best ones, uint8 ``[H, W, 3]`` RGB, the best first.
        prediction: of the best; its embedding and the probabilities of colours and types are the
            means of all these crops.
    """

    passage: Passage
    crops: tuple[np.ndarray, ...]
    prediction: Prediction


def gather(
    frames: Iterable[tuple[Frame, Sequence[Seen]]],
    *,
    crops: int,
    side: int,
    patience: timedelta = PATIENCE,
    known: frozenset[str] = frozenset(),
) -> Iterator[Passage]:
    """The passages of vehicles, each once it is over.

    Args:
        frames: with the vehicles in them.
        crops: of a passage that are kept, a few more than will be asked for.
        side: of the network's input: larger crops are worth no more.
        patience: it is over when the vehicle has not been seen for longer, or after an hour.
        known: names of those whose crops are not needed.
    """
    passages: dict[str, Passage] = {}
    for frame, vehicles in frames:
        for seen in vehicles:
            name = f"{frame.time:%Y%m%dT%H%M%S}-{seen.name}"
            passage = passages.setdefault(seen.name, Passage(name, frame.time, frame.time))
            passage.add(frame, seen)
            if passage.name not in known:
                crop = _crop(frame.pixels, seen, [one.xyxy for one in vehicles], side)
                if crop is not None:
                    passage.offer(crop, crops + _SPARE)
        for name, passage in list(passages.items()):
            is_gone = frame.time - passage.last > patience
            if is_gone or frame.time - passage.first > _LONGEST:
                yield passages.pop(name)
    yield from passages.values()


def describe(passage: Passage, predictor: Embedder, *, crops: int, is_cosine: bool) -> Track | None:
    """A passage with the mean embedding of its best crops; None if none was large enough.

    Args:
        passage: that is over.
        predictor: what embeds.
        crops: how many at most.
        is_cosine: whether embeddings are compared by angle.
    """
    if not passage.crops:
        return None
    pixels = [one.pixels for one in passage.crops]
    predictions = list(predictor.stream(pixels, skip=lambda *_: None))
    scores = [
        one.score * prediction.quality
        for one, prediction in zip(passage.crops, predictions, strict=True)
    ]
    values = _values(scores, [one.box for one in passage.crops])
    best = np.argsort(-values, kind="stable")[:crops].tolist()
    return Track(
        passage,
        tuple(pixels[one] for one in best),
        _mean([predictions[one] for one in best], is_cosine),
    )


def is_file_name(text: str) -> bool:
    """Whether a camera or track may have this name, which is a folder's or file's, too."""
    fits = 0 < len(text.encode("utf-8", "replace")) <= _LONGEST_NAME
    return fits and text == text.strip(" .") and text.isprintable() and not set(text) & set("/\\")


def _crop(pixels: np.ndarray, seen: Seen, boxes: Sequence[np.ndarray], side: int) -> _Crop | None:
    """A vehicle's crop and what it is worth, by what is known without a network."""
    height, width = pixels.shape[:2]
    box = np.clip(np.round(seen.xyxy), 0, [width, height, width, height])
    x1, y1, x2, y2 = box.astype(int)
    if min(x2 - x1, y2 - y1) < LEAST_SIDE:
        return None
    is_cut = x1 == 0 or y1 == 0 or x2 == width or y2 == height
    score = min(_size(box) / side, 1) * (1 - _hidden(box, boxes)) * seen.confidence
    return _Crop(score * (_CUT_OFF if is_cut else 1), box, pixels[y1:y2, x1:x2].copy())


def _hidden(box: np.ndarray, boxes: Sequence[np.ndarray]) -> float:
    """The share of a box that one of a nearer vehicle covers: nearer ones reach further down."""
    others = np.array([one for one in boxes if one[3] > box[3] + 1]).reshape(-1, 4)
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    return float((sides.clip(0).prod(1) / (_size(box) ** 2)).max(initial=0).clip(0, 1))


def _values(scores: Sequence[float], boxes: Sequence[np.ndarray]) -> np.ndarray:
    """What crops of one track are worth beside one another.

    A crop's score, times how far its view is from that of the nearest better one, up to 1: a
    vehicle that has moved by its own size is seen from another side.
    """
    order = np.argsort(-np.array(scores), kind="stable")
    values = np.array(scores, np.float64)
    corners = np.array(boxes)[order]
    centers, sizes = (
        (corners[:, :2] + corners[:, 2:]) / 2,
        np.array([_size(one) for one in corners]),
    )
    for rank in range(1, len(order)):
        way = np.linalg.norm(centers[:rank] - centers[rank], axis=1)
        apart = way / (sizes[:rank] + sizes[rank]) * 2
        growth = np.abs(np.log(sizes[:rank] / sizes[rank]))
        values[order[rank]] *= min(float((apart + growth).min()), 1)
    return values


def _size(box: np.ndarray) -> float:
    return float(np.sqrt((box[2] - box[0]) * (box[3] - box[1])))


def _mean(predictions: Sequence[Prediction], is_cosine: bool) -> Prediction:
    """The best crop's prediction with all crops' mean embedding and probabilities."""
    best = predictions[0]
    embedding = np.mean([one.embedding for one in predictions], axis=0)
    if is_cosine:
        embedding /= np.linalg.norm(embedding)
    facts: dict[str, Any] = {"embedding": embedding}
    for name in ("color_probabilities", "type_probabilities"):
        every = [getattr(one, name) for one in predictions]
        if every[0]:
            means = {label: float(np.mean([one[label] for one in every])) for label in every[0]}
            ranked = sorted(means.items(), key=lambda item: -item[1])
            facts[name] = dict(ranked)
    return replace(best, **facts)
