"""Videos: whose they are and when they begin, and the frames of files and cameras, by PyAV."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from itertools import islice
from pathlib import Path
from queue import Empty, Queue
from threading import Event, Thread
from typing import Any, TypeAlias

import numpy as np

from ..data.text import parse_time, read_table
from ..errors import DataError, ImageError, import_extra
from ..files import reading

logger = logging.getLogger(__name__)

# Frames of a camera that wait to be looked at; the oldest goes where there is no room.
WAITING = 16
# Of a source that states none, or the ticks of its clock instead.
_RATE, _HIGHEST_RATE = 25.0, 300.0
# A rate is steady if of the first packets this share are apart by one frame, give or take a tenth.
_FIRST_PACKETS, _MOSTLY, _JITTER = 200, 0.9, 0.1
# Seconds that a file may be shorter than it states.
_ROUGHLY = 0.5
# Seconds: for a camera to answer and to send something, between looks at whether to end, and to
# wait before it is asked again, twice as long each time.
_SILENCE, _LOOK = 10.0, 0.2
_FIRST_WAIT, _LONGEST_WAIT = 1.0, 30.0
_REMEDY = "expected a video that FFmpeg reads, or a camera's address, such as rtsp://..."
_PASSWORD = re.compile(r"(?<=://)[^/]*@")
_COLUMNS = ("name", "start")
# By camera: when its first video begins, and its videos.
Recordings: TypeAlias = "dict[str, tuple[datetime | None, list[str]]]"


def start_of(text: str, place: str) -> datetime:
    """When a recording begins, of the text in that place; DataError."""
    with reading(place, DataError, "start cannot be used", "give it as 2026-11-01T08:00:00Z"):
        if (start := parse_time(text)) is None:
            raise ValueError("start is empty")
        return start


def recordings(videos: Sequence[str], table: Path) -> Recordings:
    """The videos of each camera, whose name their file or folder has.

    Args:
        videos: files, those of one camera in the order of time.
        table: a CSV with the columns ``name`` and ``start``.

    Raises:
        DataError: the table cannot be read, or lacks a camera.
    """
    rows = read_table(table, _COLUMNS, once=_COLUMNS[:1])
    starts = {row["name"]: start_of(row["start"], place) for place, row in rows}
    found: Recordings = {}
    for video in videos:
        path = Path(video).resolve()
        names = path.stem, path.parent.name
        camera = next((name for name in names if name in starts), None)
        if camera is None:
            raise DataError(
                f"{table}: no camera is named {' or '.join(names)}, as {video} is; add it"
            )
        found.setdefault(camera, (starts[camera], []))[1].append(video)
    return found


@dataclass(frozen=True, eq=False)
class VideoFrame:
    """A frame.

    Attributes:
        number: from 1; frames that are damaged have theirs, dropped ones have none.
        time: when it was taken, in UTC if the start was.
        pixels: upright, uint8 ``[H, W, 3]`` in RGB order.
    """

    number: int
    time: datetime
    pixels: np.ndarray


class Video:
    """A file, or a camera on the network, whose frames are read once.

    A file loses the frames that are damaged. A camera is read in a thread: frames that nobody takes
    in time are dropped, and it is asked again, without end, once it has answered.

    Args:
        source: a file, or an address (with ``://``), which is taken to be a camera's.

    Attributes:
        name: the source, without a password.
        rate: frames a second, as the source states; 25 if it states none.
        total: frames, roughly, as a file states; None where that is not known.
        end: when the last frame so far ended.
        damaged, dropped: frames so far.

    Raises:
        ImageError: there is no video.
        MissingExtraError: PyAV is not installed.
    """

    def __init__(self, source: str) -> None:
        self.source, self.is_live = source, "://" in source
        self.name = _PASSWORD.sub("***@", source)
        self.end: datetime | None = None
        self.damaged = self.dropped = 0
        self._av = import_extra("av", "video")
        self._closed = Event()
        self._container = self._open()
        stream = self._stream
        rates = (float(one or 0) for one in (stream.average_rate, stream.guessed_rate))
        self.rate = next((one for one in rates if 0 < one <= _HIGHEST_RATE), _RATE)
        self._lasts = (self._container.duration or 0) / self._av.time_base
        self.total = round(max(self._lasts, 0) * self.rate) or None
        if not self.is_live:
            self._is_steady = self._has_steady_rate()
            self._container.close()  # opened again to be read: many files may wait for that

    @property
    def _stream(self) -> Any:
        return self._container.streams.best("video")

    def frames(self, start: datetime | None = None) -> Iterator[VideoFrame | None]:
        """The frames, once; None from time to time while a camera sends nothing.

        Args:
            start: when a file's first one was taken; those of a camera are of the time they come.
        """
        return self._received() if self.is_live else self._read(start or _now())

    def _open(self) -> Any:
        if not self.is_live and not Path(self.source).is_file():
            raise ImageError(f"{self.name}: there is no such file; give a video")
        # UDP loses packets, and with them pictures.
        options = {"rtsp_transport": "tcp"} if self.source.startswith("rtsp") else {}
        timeout = _SILENCE if self.is_live else None
        try:
            container = self._av.open(self.source, options=options, timeout=timeout)
        except self._av.FFmpegError as error:
            raise ImageError(
                f"{self.name}: the video cannot be read ({error.strerror}); {_REMEDY}"
            ) from None  # whose message has the password
        if container.streams.best("video") is None:
            raise ImageError(f"{self.name}: there are no pictures in it; {_REMEDY}")
        return container

    def _has_steady_rate(self) -> bool:
        """Whether the first frames come at the stated rate; of many recordings it varies."""
        times: list[float] = []
        with suppress(self._av.FFmpegError):
            for packet in islice(self._container.demux(self._stream), _FIRST_PACKETS):
                if packet.pts is not None:
                    times.append(float(packet.pts * packet.time_base))
        apart = np.diff(np.sort(times)) * self.rate
        return bool(np.sum(abs(apart - 1) < _JITTER) > _MOSTLY * len(apart))

    def _read(self, start: datetime) -> Iterator[VideoFrame]:
        number, count, first, latest = 0, 0, None, 0.0
        seconds, self.end = -1 / self.rate, start
        self._container = self._open()
        with closing(self._container):
            for decoded in self._decoded():
                number += 1
                if decoded is None:
                    continue
                following = seconds + 1 / self.rate if count else (number - 1) / self.rate
                if decoded.time is None:
                    seconds = following
                else:
                    if first is None or decoded.time - first < seconds:  # another clock begins
                        first = decoded.time - following
                    seconds, latest = decoded.time - first, decoded.time
                if self._is_steady:  # then frames that are gone without a trace are known
                    number = max(number, round(seconds * self.rate) + 1)
                time = start + timedelta(seconds=seconds)
                self.end = time + timedelta(seconds=1 / self.rate)
                count += 1
                yield VideoFrame(number, time, _upright(decoded))
        missing = self._lasts - max(seconds, latest) - 1 / self.rate
        if missing > _ROUGHLY:
            number += round(missing * self.rate)
            self.end = start + timedelta(seconds=self._lasts)  # where the next file begins
        self.damaged = number - count
        if self.damaged:
            logger.warning("%s is damaged: %d of %d frames could be read", self.name, count, number)

    def _decoded(self) -> Iterator[Any]:
        """PyAV's frames; None for each that is damaged, or that is made from a damaged one."""
        stream = self._stream
        stream.thread_type = "AUTO"
        is_whole = True
        try:
            for packet in self._container.demux(stream):
                try:
                    frames = packet.decode()
                except self._av.FFmpegError:
                    frames = [None]
                for frame in frames:
                    if frame is None or frame.is_corrupt:
                        is_whole = False
                    elif frame.key_frame:
                        is_whole = True
                    self.damaged += not is_whole
                    yield frame if is_whole else None
        except self._av.FFmpegError as error:
            logger.info("%s breaks off (%s)", self.name, error.strerror)

    def _received(self) -> Iterator[VideoFrame | None]:
        waiting: Queue[tuple[datetime, Any]] = Queue(WAITING)
        Thread(target=self._receive, args=(waiting,), daemon=True).start()
        number = 0
        try:
            while True:
                try:
                    self.end, decoded = waiting.get(timeout=_LOOK)
                except Empty:
                    yield None
                    continue
                number += 1
                yield VideoFrame(number, self.end, _upright(decoded))
        finally:
            self._closed.set()

    def _receive(self, waiting: Queue[tuple[datetime, Any]]) -> None:
        wait = _FIRST_WAIT
        while not self._closed.is_set():
            with closing(self._container):
                for decoded in self._decoded():
                    if self._closed.is_set():
                        return
                    if decoded is not None:
                        wait = _FIRST_WAIT
                        self._put(waiting, decoded)
            logger.warning("%s sends no more; asked again in %g s", self.name, wait)
            while not self._closed.wait(wait):
                wait = min(2 * wait, _LONGEST_WAIT)
                try:
                    self._container = self._open()
                    break
                except ImageError as error:
                    logger.warning("%s; asked again in %g s", error, wait)

    def _put(self, waiting: Queue[tuple[datetime, Any]], decoded: Any) -> None:
        if waiting.full():
            with suppress(Empty):
                waiting.get_nowait()
                self.dropped += 1
        waiting.put((_now(), decoded))


def _now() -> datetime:
    return datetime.now(timezone.utc).replace(tzinfo=None)


def _upright(decoded: Any) -> np.ndarray:
    pixels = decoded.to_ndarray(format="rgb24")
    return np.ascontiguousarray(np.rot90(pixels, round(decoded.rotation / 90)))
