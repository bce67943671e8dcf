"""From boxes with names, frame by frame, to tracks with the mean embedding of their best crops."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import numpy as np

from ..data.boxes import LEAST_SIDE
from ..gallery.adding import Embedder
from ..inference.prediction import Prediction
from .video import Frame

# A track that has not been seen for longer is over.
PATIENCE = timedelta(seconds=1)
# One that goes on for longer becomes several, so that what stays there is kept, too.
_LONGEST = timedelta(hours=1)
# Crops more than are asked for, which are kept until their quality is known.
_SPARE = 3
# How much a crop is worth that the frame's border cuts.
_CUT_OFF = 0.3
# Less than this share of its size a vehicle must have gone for its direction to be known.
_LEAST_WAY = 0.5


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


@dataclass(frozen=True, eq=False)
class Track:
    """A vehicle before one camera, from its coming to its leaving.

    Attributes:
        camera: its name.
        name: unique within the camera: the time of its first frame, and its number.
        first, last: when it was seen first and last.
        heading: its direction in the picture in degrees, 0 to the right, 90 up; None where it
            hardly moved.
        numbers: of its frames, int ``[N]``.
        boxes: in these, float32 ``[N, 4]`` of x1, y1, x2, y2 in pixels.
        crops: its best ones, uint8 ``[H, W, 3]`` RGB, the best first.
        prediction: of the best; its embedding and the probabilities of colours and types are the
            means of all these crops.
    """

    camera: str
    name: str
    first: datetime
    last: datetime
    heading: float | None
    numbers: np.ndarray
    boxes: np.ndarray
    crops: tuple[np.ndarray, ...]
    prediction: Prediction

    @property
    def embedding(self) -> np.ndarray:
        """The mean of its crops', float32 ``[D]``; of length 1 where they are."""
        return self.prediction.embedding


class _Crop(NamedTuple):
    score: float
    box: np.ndarray
    pixels: np.ndarray


@dataclass(eq=False)
class Gathered:
    """A track whose crops are not embedded yet."""

    camera: str
    name: str
    first: datetime
    last: datetime
    numbers: list[int] = field(default_factory=list)
    boxes: list[np.ndarray] = field(default_factory=list)
    crops: list[_Crop] = field(default_factory=list)

    def add(self, frame: Frame, seen: Seen) -> None:
        self.last = frame.time
        self.numbers.append(frame.number)
        self.boxes.append(seen.xyxy)

    def offer(self, crop: _Crop, most: int) -> None:
        """Keep a crop if it is among the best of different views."""
        self.crops.append(crop)
        if len(self.crops) > most:
            values = _values([one.score for one in self.crops], [one.box for one in self.crops])
            del self.crops[int(np.argmin(values))]

    @property
    def heading(self) -> float | None:
        first, last = self.boxes[0], self.boxes[-1]
        x, y = (last[:2] + last[2:] - first[:2] - first[2:]) / 2
        if math.hypot(x, y) < _LEAST_WAY * max(_size(first), _size(last)):
            return None
        return math.degrees(math.atan2(-y, x)) % 360


def gather(
    frames: Iterable[tuple[Frame, Sequence[Seen]]],
    *,
    camera: str,
    crops: int,
    side: int,
    known: frozenset[str] = frozenset(),
    ends: Mapping[str, int] | None = None,
) -> Iterator[Gathered]:
    """Tracks, each once it is over.

    Args:
        frames: with the vehicles in them.
        camera: its name.
        crops: of a track that are kept, a few more than will be asked for.
        side: of the network's input: larger crops are worth no more.
        known: tracks whose crops are not needed.
        ends: the last frame of each track, where that is known; else one is over that has not been
            seen for a second, or goes on for an hour.
    """
    tracks: dict[str, Gathered] = {}
    for frame, vehicles in frames:
        for seen in vehicles:
            name = f"{frame.time:%Y%m%dT%H%M%S}-{seen.name}"
            track = tracks.setdefault(seen.name, Gathered(camera, name, frame.time, frame.time))
            track.add(frame, seen)
            if track.name not in known:
                crop = _crop(frame.pixels, seen, [one.xyxy for one in vehicles], side)
                if crop is not None:
                    track.offer(crop, crops + _SPARE)
        for name, track in list(tracks.items()):
            if ends is None:
                is_gone = frame.time - track.last > PATIENCE
                is_over = is_gone or frame.time - track.first > _LONGEST
            else:
                is_over = frame.number >= ends[name]
            if is_over:
                yield tracks.pop(name)
    yield from tracks.values()


def describe(track: Gathered, predictor: Embedder, *, crops: int, is_cosine: bool) -> Track | None:
    """A track with the mean embedding of its best crops; None if none was large enough.

    Args:
        track: that is over.
        predictor: what embeds.
        crops: how many at most.
        is_cosine: whether embeddings are compared by angle.
    """
    if not track.crops:
        return None
    pixels = [one.pixels for one in track.crops]
    predictions = list(predictor.stream(pixels, skip=lambda *_: None))
    scores = [
        one.score * prediction.quality
        for one, prediction in zip(track.crops, predictions, strict=True)
    ]
    values = _values(scores, [one.box for one in track.crops])
    best = np.argsort(-values, kind="stable")[:crops].tolist()
    return Track(
        track.camera,
        track.name,
        track.first,
        track.last,
        track.heading,
        np.array(track.numbers),
        np.array(track.boxes, np.float32),
        tuple(pixels[one] for one in best),
        _mean([predictions[one] for one in best], is_cosine),
    )


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
    for name in ("color", "type"):
        every = [getattr(one, f"{name}_probabilities") for one in predictions]
        if every[0]:
            means = {label: float(np.mean([one[label] for one in every])) for label in every[0]}
            ranked = dict(sorted(means.items(), key=lambda item: -item[1]))
            likeliest, probability = next(iter(ranked.items()))
            facts |= {
                name: likeliest,
                f"{name}_probability": probability,
                f"{name}_probabilities": ranked,
            }
    return replace(best, **facts)
