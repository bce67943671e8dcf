"""What the server answers with, apart from HTTP: the networks, in batches, and the gallery."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from hashlib import blake2b
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..errors import ImageError
from ..gallery.rows import GalleryFilter, GalleryRow
from ..images import Picture
from ..inference.predictor import Prediction, Predictor
from ..ranking.distances import squared_distances
from ..vehicle.keypoints import visible_surfaces
from .batching import Batcher
from .pictures import Sent, unusable

if TYPE_CHECKING:
    from ..gallery.gallery import Gallery

_EXAMPLES = 14
# Crops whose ids were replaced: the last ones that were shown are known.
_MOST_REPLACED = 100_000


class _Job(NamedTuple):
    picture: Picture
    keypoints: np.ndarray | None


class Service:
    """Predictions and searches for any number of callers.

    Args:
        predictor: the network, with its pose estimator.
        gallery: to search in; None for no search.
        on_batch: called with the size of each batch.
    """

    def __init__(
        self,
        predictor: Predictor,
        gallery: Gallery | None,
        *,
        on_batch: Callable[[int], object] = lambda size: None,
    ) -> None:
        self.predictor = predictor
        self.gallery = gallery
        # Read now, so that a damaged one fails at the start.
        self.calibration = predictor.calibration
        self.crops = CropIds()
        self._batcher: Batcher[_Job, Prediction] = Batcher(
            self._predict, most=predictor.batch_size, on_batch=on_batch
        )

    @property
    def width(self) -> int:
        """Numbers of an embedding."""
        return int(self.predictor.spec.output_shapes(self.predictor.size)["embedding"][0])

    def close(self) -> None:
        """Finish what was asked for."""
        self._batcher.close()

    async def predict(self, sent: Sent) -> list[Prediction]:
        """A prediction for each picture; ProblemError for one that cannot be read."""
        jobs = map(_Job, sent.pictures, sent.keypoints)
        futures = [asyncio.wrap_future(self._batcher.submit(one)) for one in jobs]
        await asyncio.gather(*futures, return_exceptions=True)
        predictions = []
        for place, (future, picture) in enumerate(zip(futures, sent.pictures, strict=True)):
            try:
                predictions.append(future.result())
            except ImageError as error:
                detail = str(error).removeprefix(f"{picture.name}: ")
                raise unusable(400, place, picture, detail) from error
        return predictions

    def compare(self, first: Prediction, second: Prediction) -> dict[str, Any]:
        """How far two pictures are apart."""
        distance = squared_distances(first.embedding[None], second.embedding[None])[0, 0]
        about = self.distance_as_json(float(distance))
        return about | {"first": prediction_as_json(first), "second": prediction_as_json(second)}

    def distance_as_json(self, distance: float) -> dict[str, Any]:
        """A distance, and how probable one vehicle is where the user has measured that."""
        if self.calibration is None:
            return {"distance": distance}
        return {
            "distance": distance,
            "probability": float(self.calibration.probability(distance)),
            "measured_on": self.calibration.measured_on,
        }

    def row_as_json(self, row: GalleryRow) -> dict[str, Any]:
        """A crop of the gallery, without the place of its file."""
        return {
            "id": self.crops.shown(row.id),
            "name": _short_name(row.id),
            "camera": row.camera,
            "time": None if row.time is None else row.time.isoformat(),
            "color": row.color,
            "type": row.type,
        }

    def examples(self) -> list[GalleryRow]:
        """A few crops to begin with, of several colours where these are known."""
        assert self.gallery is not None
        colors = self.gallery.facets.colors[:_EXAMPLES]
        filters = [GalleryFilter(colors=(color,)) for color in colors] or [GalleryFilter()]
        anywhere = np.zeros((1, self.width), dtype=np.float32)
        each = -(-_EXAMPLES // len(filters))
        found = [self.gallery.search(anywhere, top=each, where=where)[0] for where in filters]
        return [hit.row for hits in found for hit in hits][:_EXAMPLES]

    def _predict(self, jobs: Sequence[_Job]) -> list[Prediction]:
        pictures, keypoints = zip(*jobs, strict=True)
        return self.predictor.predict(pictures, keypoints)


class CropIds:
    """Ids of crops as callers see them.

    An id that tells where files are on this machine, or that is no text, is replaced by its hash.
    """

    def __init__(self) -> None:
        self._own: dict[str, str] = {}

    def shown(self, id: str) -> str:
        if _is_harmless(id):
            return id
        shown = blake2b(id.encode(errors="surrogatepass"), digest_size=16).hexdigest()
        if shown not in self._own and len(self._own) >= _MOST_REPLACED:
            del self._own[next(iter(self._own))]
        self._own[shown] = id
        return shown

    def own(self, shown: str) -> str:
        """The gallery's id; KeyError if there can be none."""
        return shown if shown not in self._own and _is_harmless(shown) else self._own[shown]


def prediction_as_json(prediction: Prediction) -> dict[str, Any]:
    """As ``predict --json`` prints it, with the picture's size and the surfaces that are seen."""
    found = prediction.as_json()
    found["pose"]["surfaces"] = visible_surfaces(prediction.pose.keypoints)
    return found | {"width": prediction.width, "height": prediction.height}


def _is_harmless(id: str) -> bool:
    """Whether an id is a relative path or a plain word."""
    parts = id.split("/")
    return id.isprintable() and not {"", ".", ".."} & set(parts) and not {":", "\\"} & set(id)


def _short_name(id: str) -> str:
    """An id for people: of a path of this machine the file and its folder."""
    name = id if _is_harmless(id) else "/".join(PurePath(id).parts[-2:])
    return name.encode(errors="replace").decode()
