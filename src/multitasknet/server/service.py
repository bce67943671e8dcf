"""What the server answers with, apart from HTTP: the networks, in batches, and the gallery."""

from __future__ import annotations

from hashlib import blake2b
from pathlib import PurePath
from typing import Any, TypeAlias

import numpy as np

from ..errors import EngineError, ImageError
from ..gallery.gallery import Gallery
from ..gallery.rows import GalleryFilter, GalleryRow
from ..images import Picture
from ..inference.predictor import Prediction, Predictor
from ..vehicle.keypoints import visible_surfaces
from .batching import Batcher
from .pictures import Sent, unusable

_EXAMPLES = 14
# Crops whose ids were replaced: the last ones that were shown are known.
_MOST_REPLACED = 100_000
_Job: TypeAlias = "tuple[Picture, np.ndarray | None]"


class Service:
    """Predictions and searches for any number of callers.

    Args:
        predictor: the network, with its pose estimator.
        gallery: to search in; None for no search.
    """

    def __init__(self, predictor: Predictor, gallery: Gallery | None) -> None:
        self.predictor = predictor
        self.gallery = gallery
        predictor.calibration  # noqa: B018, so that a damaged one is an error now
        self.crops = CropIds()
        self._batcher: Batcher[_Job, Prediction] = Batcher(
            lambda jobs: predictor.predict(*zip(*jobs, strict=True)), most=predictor.batch_size
        )

    async def predict(self, sent: Sent) -> list[Prediction]:
        """A prediction for each picture; ProblemError for one that cannot be used."""
        jobs = list(zip(sent.pictures, sent.keypoints, strict=True))
        predictions = []
        for place, found in enumerate(await self._batcher.results(jobs)):
            picture = sent.pictures[place]
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

    def examples(self, gallery: Gallery) -> list[dict[str, Any]]:
        """A few crops to begin with, of several colours where these are known."""
        colors = gallery.facets.colors[:_EXAMPLES]
        filters = [GalleryFilter(colors=(color,)) for color in colors] or [GalleryFilter()]
        anywhere = np.zeros((1, gallery.width), dtype=np.float32)
        each = -(-_EXAMPLES // len(filters))
        found = [gallery.search(anywhere, top=each, where=where)[0] for where in filters]
        return [self.row_as_json(hit.row) for hits in found for hit in hits][:_EXAMPLES]


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
