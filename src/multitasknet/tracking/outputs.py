"""Where tracks go: a gallery, or a folder with a table."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
from filelock import FileLock

from ..data.text import read_table
from ..errors import GalleryError
from ..files import file_sha256, make_folder, replacing, writing
from ..gallery.gallery import Gallery
from ..gallery.rows import quoted
from ..gallery.store import SUFFIX, is_store
from ..images import encode_jpeg
from ..inference.predictor import Predictor
from .tracks import Track

_COLUMNS = (
    *("camera", "track", "first", "last", "heading", "image", "crops"),
    *("quality", "reason", "color", "type"),
)
_JPEG_QUALITY = 95


class GalleryOutput:
    """A row for each track in a store, and its crops and boxes in a folder beside it."""

    def __init__(self, place: str, predictor: Predictor) -> None:
        if "://" in place:
            raise GalleryError(
                f"{place}: the crops of tracks are kept beside the store; give one on this machine"
            )
        self._gallery, self._origin = Gallery.create(place, predictor), predictor.origin
        self._gallery.check_origin(self._origin)
        whole = Path(place).resolve()
        self._crops = whole.with_name(f"{whole.name.removesuffix(SUFFIX)}-crops")

    def known(self, camera: str) -> frozenset[str]:
        """The names of a camera's tracks that are there."""
        where = f"camera = {quoted(camera)} and track <> ''"
        return frozenset(row["track"] for row in self._gallery.rows(["track"], where))

    def add(self, camera: str, tracks: Sequence[Track]) -> None:
        """Keep tracks, in place of those of the same names; OutputError if that fails."""
        rows = ((track.prediction, self._row(camera, track)) for track in tracks)
        self._gallery.add_predicted(self._origin, rows)

    def _row(self, camera: str, track: Track) -> dict[str, object]:
        passage, image = track.passage, write_crops(self._crops / camera, track)
        return {
            "id": f"{camera}/{passage.name}",
            "image": str(image),
            "sha256": bytes.fromhex(file_sha256(image)),
            "camera": camera,
            "time": passage.first,
            "track": passage.name,
            "first": passage.first,
            "last": passage.last,
            "heading": passage.heading,
            "crops": len(track.crops),
        }


class FolderOutput:
    """A folder with the crops and boxes of each track, and a table ``tracks.csv``.

    Its methods are those of :class:`GalleryOutput`.
    """

    def __init__(self, folder: Path) -> None:
        make_folder(folder)
        self._folder, self._table = folder, folder / "tracks.csv"
        self._lock = FileLock(folder / ".lock")

    def known(self, camera: str) -> frozenset[str]:
        return frozenset(row["track"] for row in self._rows() if row["camera"] == camera)

    def add(self, camera: str, tracks: Sequence[Track]) -> None:
        new = [self._row(camera, track) for track in tracks]
        # Of another camera, another process may have added some meanwhile.
        with writing(self._table), self._lock:
            rows = {(row["camera"], row["track"]): row for row in [*self._rows(), *new]}
            with replacing(self._table) as part, part.open("w", encoding="utf-8", newline="") as to:
                writer = csv.DictWriter(to, _COLUMNS, lineterminator="\n", extrasaction="ignore")
                writer.writeheader()
                writer.writerows(rows.values())

    def _rows(self) -> list[dict[str, str]]:
        table = read_table(self._table, _COLUMNS) if self._table.is_file() else []
        return [row for _, row in table]

    def _row(self, camera: str, track: Track) -> dict[str, str]:
        image = write_crops(self._folder / camera, track).relative_to(self._folder).as_posix()
        passage, found = track.passage, track.prediction
        values = (
            *(camera, passage.name, passage.first.isoformat(), passage.last.isoformat()),
            "" if passage.heading is None else f"{passage.heading:.1f}",
            *(image, str(len(track.crops)), f"{found.quality:.3f}", found.reason or ""),
            *(found.color or "", found.type or ""),
        )
        return dict(zip(_COLUMNS, values, strict=True))


Output: TypeAlias = GalleryOutput | FolderOutput


def open_output(place: str, predictor: Predictor) -> Output:
    """A gallery for a name in ``.lance``, else a folder; made if it is not there yet.

    Raises:
        GalleryError: a store of other weights, or in object storage, where no pictures can be kept.
        DataError: the folder has another table of that name.
        OutputError: it cannot be made.
    """
    return GalleryOutput(place, predictor) if is_store(place) else FolderOutput(Path(place))


def write_crops(folder: Path, track: Track) -> Path:
    """Write a track's crops and its boxes.

    They are ``TRACK.jpg``, the best, ``TRACK_2.jpg`` and so on, and ``TRACK.csv`` (frame, x1, y1,
    x2, y2).

    Returns:
        The path of the best crop.
    """
    passage = track.passage
    for number, pixels in enumerate(track.crops, start=1):
        with replacing(folder / f"{passage.name}{f'_{number}' * (number > 1)}.jpg") as part:
            part.write_bytes(encode_jpeg(pixels, _JPEG_QUALITY))
    with replacing(folder / f"{passage.name}.csv") as part:
        rows, formats = np.reshape(passage.places, (-1, 5)), ["%d", *["%.1f"] * 4]
        np.savetxt(part, rows, formats, ",", header="frame,x1,y1,x2,y2", comments="")
    return folder / f"{passage.name}.jpg"
