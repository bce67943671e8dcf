"""What the server answers with, apart from HTTP: the networks, in batches, and the gallery."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import PurePath
from threading import Lock
from typing import Any, TypeAlias

import numpy as np
from starlette.concurrency import run_in_threadpool

from ..errors import EngineError, GalleryError, ImageError
from ..gallery.gallery import Gallery
from ..gallery.rows import GalleryRow
from ..images import Picture
from ..inference.predictor import Prediction, Predictor
from ..runtime import usable_cores
from .bodies import unusable
from .problems import ProblemError, busy

logger = logging.getLogger(__name__)

_Job: TypeAlias = "tuple[Picture, np.ndarray | None]"
_Found: TypeAlias = "Prediction | Exception"
_Waiting: TypeAlias = "tuple[_Job, asyncio.Future[_Found]]"

# While one batch is in the network, the next one is read and drawn.
_WORKERS = 2
_QUEUED = 2048
# Crops whose ids were replaced: the last ones that were shown are known.
_MOST_REPLACED = 100_000


class Service:
    """Predictions and a gallery for any number of callers.

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
        self._batches = Batches(predictor)

    async def predict(
        self, pictures: Sequence[Picture], keypoints: Sequence[np.ndarray | None] | None = None
    ) -> list[Prediction]:
        """A prediction for each picture, whose keypoints ``[36, 3]`` may be known.

        ProblemError for one that cannot be used.
        """
        jobs = list(zip(pictures, keypoints or [None] * len(pictures), strict=True))
        predictions = []
        for place, found in enumerate(await self._batches.results(jobs)):
            picture = pictures[place]
            if isinstance(found, ImageError):
                detail = str(found).removeprefix(f"{picture.name}: ")
                raise unusable(400, place, picture, detail) from found
            if isinstance(found, EngineError):
                detail = "the network gives no finite numbers for it; check the server's weights"
                raise unusable(500, place, picture, detail) from found
            if isinstance(found, Exception):
                raise found
            predictions.append(found)
        return predictions

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
        return {
            "id": self.crops.shown(row.id),
            "name": _short_name(row.id),
            "camera": row.camera,
            "time": None if row.time is None else row.time.isoformat(),
            "color": row.color,
            "type": row.type,
            "box": row.box,
            "vehicle": row.vehicle,
            "first": None if row.first is None else row.first.isoformat(),
            "last": None if row.last is None else row.last.isoformat(),
        }


class Batches:
    """Predicts in batches, in threads, for any number of callers in one event loop.

    Pictures that arrive while a batch runs go into the next one, so none waits for others. With 8
    callers and inputs of 64 x 64 this is a quarter faster than one call for each. If a batch fails,
    each of its pictures is predicted alone, so that one caller's mistake reaches no other.
    """

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor
        self._queue: asyncio.Queue[_Waiting] = asyncio.Queue()
        # They end with the loop.
        self._workers: list[asyncio.Task[None]] = []

    async def results(self, jobs: Sequence[_Job]) -> list[_Found]:
        """What comes of each; ProblemError (503) if too many are waiting."""
        if self._queue.qsize() + len(jobs) > _QUEUED:
            raise busy("too many pictures are waiting")
        if not self._workers:
            self._workers = [asyncio.create_task(self._work()) for _ in range(_WORKERS)]
        waiting: list[_Waiting] = [(one, asyncio.Future()) for one in jobs]
        for one in waiting:
            self._queue.put_nowait(one)
        return await asyncio.gather(*(future for _, future in waiting))

    async def _work(self) -> None:
        while True:
            batch = [await self._queue.get()]
            while len(batch) < self._predictor.batch_size and not self._queue.empty():
                batch.append(self._queue.get_nowait())
            await self._finish([one for one in batch if not one[1].done()])

    async def _finish(self, batch: list[_Waiting]) -> None:
        results: Sequence[_Found]
        try:
            jobs = zip(*(job for job, _ in batch), strict=True)
            results = await run_in_threadpool(lambda: self._predictor.predict(*jobs))
        except Exception as error:
            if len(batch) > 1:
                for one in batch:
                    await self._finish([one])
                return
            results = [error] * len(batch)
        for (_, future), result in zip(batch, results, strict=True):
            if not future.done():  # its caller has gone
                future.set_result(result)


class CropIds:
    """Ids of crops as callers see them; any number of threads may share it.

    An id that shows where files are on this machine, or that is no text, is replaced by its hash.
    """

    def __init__(self) -> None:
        self._own: dict[str, str] = {}
        self._lock = Lock()

    def shown(self, id: str) -> str:
        if _is_harmless(id):
            return id
        shown = blake2b(id.encode(errors="surrogatepass"), digest_size=16).hexdigest()
        with self._lock:
            self._own.pop(shown, None)  # so that it is the last one
            self._own[shown] = id
            if len(self._own) > _MOST_REPLACED:
                del self._own[next(iter(self._own))]
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
