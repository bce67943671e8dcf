"""From videos of one camera to tracks that are kept."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from time import monotonic
from typing import Any

from tqdm import tqdm

from ..errors import OutputError
from ..inference.predictor import Predictor
from ..inference.runner import ahead
from .following import Follower
from .outputs import Output
from .tracks import Passage, Seen, Track, describe, gather, is_file_name
from .video import Video, VideoFrame

logger = logging.getLogger(__name__)

# Tracks that are kept at once, and seconds until they are in any case.
_BATCH, _LATEST = 100, 60.0


@dataclass
class TrackReport:
    """What became of videos.

    Attributes:
        frames: that were looked at.
        damaged, dropped: frames that could not be read, or came faster than they were looked at.
        seconds: that it took.
        tracks, unchanged: tracks that are new, and that were there.
        too_small: tracks without a crop of 32 pixels a side.
        low_quality: tracks that were left out for the quality of their best crop, by its reason;
            ``doubtful`` if it is 0.5 or more.
    """

    frames: int = 0
    damaged: int = 0
    dropped: int = 0
    seconds: float = 0.0
    tracks: int = 0
    unchanged: int = 0
    too_small: int = 0
    low_quality: dict[str, int] = field(default_factory=dict)


def track(
    videos: Sequence[Video],
    follower: Callable[[Video], Follower],
    predictor: Predictor,
    output: Output,
    *,
    camera: str,
    start: datetime | None = None,
    min_quality: float = 0.0,
) -> TrackReport:
    """Find the tracks of a camera's videos, and keep each once it is over.

    Tracks that are there are left alone, so a call that was interrupted goes on: it looks at all
    frames again, but embeds and writes nothing twice. Those that are not over are not kept then.

    Args:
        videos: each begins when the one before ended.
        follower: gives what names the vehicles in a video's frames.
        camera: its name, which names a folder too.
        start: when the first video began; that of a camera on the network is now.
        min_quality: tracks whose best crop has less, 0..1, are left out and counted by reason.

    Raises:
        OutputError: tracks cannot be written, or a folder cannot have the camera's name.
    """
    if not is_file_name(camera):
        raise OutputError(f"camera is {camera!r}; expected a name that a folder can have")
    keeper = _Keeper(predictor, output, camera, min_quality)
    report, began = keeper.report, monotonic()
    try:
        for video in videos:
            follow = follower(video)
            # While vehicles are found in a frame, those of the one before are embedded.
            found = ahead(
                None if frame is None else (frame, follow(frame)) for frame in video.frames(start)
            )
            bar: tqdm[Any] = tqdm(desc=camera, total=video.total, unit="frame", disable=None)
            with bar, closing(found) as frames:
                try:
                    for passage in gather(
                        keeper.count(frames, bar),
                        side=max(predictor.size),
                        patience=follow.patience,
                        known=keeper.known,
                    ):
                        keeper.take(passage)
                finally:  # also at Ctrl-C
                    keeper.keep()
                    report.damaged += video.damaged
                    report.dropped += video.dropped
            start = video.end
    except KeyboardInterrupt:
        logger.warning("%d tracks were kept; the same command goes on", report.tracks)
        raise
    report.seconds = monotonic() - began
    return report


class _Keeper:
    """Describes passages that are over and writes them, many at once or after a minute."""

    def __init__(
        self, predictor: Predictor, output: Output, camera: str, min_quality: float
    ) -> None:
        self.report, self.known = TrackReport(), output.known(camera)
        self._predictor, self._output, self._camera = predictor, output, camera
        self._min_quality = min_quality
        self._waiting: list[Track] = []
        self._kept_at = monotonic()

    def count(
        self, frames: Iterator[tuple[VideoFrame, Sequence[Seen]] | None], bar: tqdm[Any]
    ) -> Iterator[tuple[VideoFrame, Sequence[Seen]]]:
        for one in frames:
            if one is not None:
                yield one
                self.report.frames += 1
                bar.update()
            # Also while a camera sends nothing, or shows no vehicle.
            if len(self._waiting) >= _BATCH or monotonic() - self._kept_at > _LATEST:
                self.keep()

    def take(self, passage: Passage) -> None:
        if passage.name in self.known:
            self.report.unchanged += 1
        elif (found := describe(passage, self._predictor)) is None:
            self.report.too_small += 1
        elif found.prediction.quality < self._min_quality:
            reason, counts = found.prediction.reason or "doubtful", self.report.low_quality
            counts[reason] = counts.get(reason, 0) + 1
        else:
            self._waiting.append(found)

    def keep(self) -> None:
        if self._waiting:
            self._output.add(self._camera, self._waiting)
        self.report.tracks += len(self._waiting)
        self._waiting, self._kept_at = [], monotonic()
