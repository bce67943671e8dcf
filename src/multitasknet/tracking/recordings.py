"""Which camera took which videos, and when: by a table of cameras."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ..data.tables import read_table
from ..errors import DataError
from ..gallery.rows import parse_time

_COLUMNS = ("name", "start")


@dataclass(frozen=True)
class Recording:
    """A camera's videos.

    Attributes:
        camera: its name.
        start: when the first begins; None where that is not known.
        videos: files or addresses, of which each begins when the one before ended.
    """

    camera: str
    start: datetime | None
    videos: tuple[str, ...]


def recordings(videos: Sequence[str], table: Path) -> list[Recording]:
    """Videos by their cameras, of which each file, or its folder, has the name.

    Args:
        videos: files, those of one camera in the order of time.
        table: a CSV with the columns ``name`` and ``start``.

    Raises:
        DataError: the table cannot be read, or lacks a camera.
    """
    starts = {
        row["name"]: _start(place, row) for place, row in read_table(table, _COLUMNS, _COLUMNS)
    }
    found: dict[str, list[str]] = {}
    for video in videos:
        path = Path(video).resolve()
        names = path.stem, path.parent.name
        camera = next((name for name in names if name in starts), None)
        if camera is None:
            raise DataError(
                f"{table}: no camera is named {' or '.join(names)}, as {video} is; add it"
            )
        found.setdefault(camera, []).append(video)
    return [Recording(camera, starts[camera], tuple(of)) for camera, of in found.items()]


def beside(video: str, path: Path) -> Path:
    """A file that belongs to a video: in the folder of the video, if it is there."""
    own = Path(video).parent / path
    return own if own.is_file() else path


def _start(place: str, row: dict[str, str]) -> datetime:
    try:
        time = parse_time(row["start"])
    except ValueError as error:
        raise DataError(f"{place}: {error}") from error
    if time is None:
        raise DataError(f"{place}: start is empty; give a time, such as 2026-11-01T08:00:00Z")
    return time
