"""What the server answers with, apart from HTTP: the networks, in batches, and the gallery."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import PurePath
from typing import Any, TypeAlias

import numpy as np
from starlette.concurrency import run_in_threadpool

from ..errors import GalleryError, ImageError
from ..gallery.gallery import Gallery
from ..gallery.rows import GalleryRow
from ..images import Picture
from ..inference.predictor import Prediction, Predictor
from ..runtime import usable_cores
from .bodies import unusable
from .problems import ProblemError

logger = logging.getLogger(__name__)

_Job: TypeAlias = "tuple[Picture, np.ndarray | None, asyncio.Future[Prediction | Exception]]"

# While one batch is in the network, the next one is read and drawn.
_WORKERS = 2


class Service:
    """Predictions and a gallery for any number of callers in one event loop.

    Pictures that arrive while a batch runs go into the next one, so none waits for others. With 8
    callers and inputs of 64 x 64 this is a quarter faster than one call for each. If a batch fails,
    each of its pictures is predicted alone, so that one caller's mistake reaches no other.

    Args:
        predictor: the network, with its pose estimator.
        gallery: to search in; None for no search.

    Attributes:
        decoding: to hold while a picture is decoded, of which only so many are in memory at a time.
    """

    def __init__(self, predictor: Predictor, gallery: Gallery | None) -> None:
        self.predictor = predictor
        self.gallery = gallery
        predictor.calibration  # noqa: B018, so that a damaged one is an error now
        self.decoding = asyncio.Semaphore(usable_cores())
        self.crops = CropIds()
        self._checked: int | None = None
        self._queue: asyncio.Queue[_Job] = asyncio.Queue()
        self._workers: list[asyncio.Task[None]] = []  # which end with the loop

    async def predict(
        self, pictures: Sequence[Picture], keypoints: Sequence[np.ndarray | None] | None = None
    ) -> list[Prediction]:
        """A prediction for each picture, whose keypoints ``[36, 3]`` may be known.

        ProblemError for one that cannot be used.
        """
        if not self._workers:
            self._workers = [asyncio.create_task(self._work()) for _ in range(_WORKERS)]
        futures: list[asyncio.Future[Prediction | Exception]] = []
        for picture, known in zip(pictures, keypoints or [None] * len(pictures), strict=True):
            futures.append(asyncio.Future())
            self._queue.put_nowait((picture, known, futures[-1]))
        predictions = []
        results = zip(pictures, await asyncio.gather(*futures), strict=True)
        for place, (picture, found) in enumerate(results):
            if isinstance(found, ImageError):
                detail = str(found).removeprefix(f"{picture.name}: ")
                raise unusable(400, place, picture, detail) from found
            if isinstance(found, Exception):
                raise found
            predictions.append(found)
        return predictions

    async def _work(self) -> None:
        while True:
            batch = [await self._queue.get()]
            while len(batch) < self.predictor.batch_size and not self._queue.empty():
                batch.append(self._queue.get_nowait())
            if batch := [job for job in batch if not job[-1].done()]:
                await self._finish(batch)

    async def _finish(self, batch: Sequence[_Job]) -> None:
        results: Sequence[Prediction | Exception]
        pictures, keypoints, futures = zip(*batch, strict=True)
        try:
            results = await run_in_threadpool(self.predictor.predict, pictures, keypoints)
        except Exception as error:
            if len(batch) > 1:
                for job in batch:
                    await self._finish([job])
                return
            results = [error] * len(batch)
        for future, result in zip(futures, results, strict=True):
            if not future.done():  # its caller has gone
                future.set_result(result)

    def check_gallery(self, gallery: Gallery) -> None:
        """ProblemError if rows were made by other weights since the server was started."""
        version = gallery.table.version
        if version == self._checked:
            return
        try:
            gallery.check_origin(self.predictor.origin)
        except GalleryError as error:
            logger.error("%s", error)
            detail = "the gallery no longer fits this server's weights; its log says why"
            raise ProblemError(500, detail) from error
        self._checked = version

    @property
    def measured_on(self) -> str | None:
        """What probabilities were measured on; None if there are none."""
        calibration = self.predictor.calibration
        return calibration.measured_on if calibration else None

    def row_as_json(self, row: GalleryRow) -> dict[str, Any]:
        """A crop of the gallery, without the place of its file."""
        times = {name: getattr(row, name) for name in ("time", "first", "last")}
        return {
            "id": self.crops.shown(row.id),
            "name": _short_name(row.id),
            **{name: getattr(row, name) for name in ("camera", "color", "type", "box", "vehicle")},
            **{name: time and time.isoformat() for name, time in times.items()},
        }


class CropIds:
    """Ids of crops as callers see them.

    An id that shows where files are on this machine, or that is no text, is replaced by its hash.
    """

    def __init__(self) -> None:
        self._own: dict[str, str] = {}

    def shown(self, id: str) -> str:
        if _is_harmless(id):
            return id
        shown = blake2b(id.encode(errors="surrogatepass"), digest_size=16).hexdigest()
        self._own[shown] = id
        return shown

    def own(self, shown: str) -> str:
        """The gallery's id; KeyError if there can be none."""
        return self._own.get(shown, shown) if _is_harmless(shown) else self._own[shown]


def _is_harmless(id: str) -> bool:
    """Whether an id is a relative path or a plain word."""
    parts = id.split("/")
    return id.isprintable() and not {"", ".", ".."} & set(parts) and not {":", "\\"} & set(id)


def _short_name(id: str) -> str:
    """An id for people: of a path of this machine the file and its folder."""
    name = id if _is_harmless(id) else "/".join(PurePath(id).parts[-2:])
    return name.encode(errors="replace").decode()
