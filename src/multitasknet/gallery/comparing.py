"""How alike the vehicles of two images are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..images import ImageInput, open_picture
from ..inference.agreement import Part, agreement_as_json, hide_shared, parts_of
from ..ranking.distances import squared_distances
from ..ranking.strangers import Rate
from .gallery import Gallery
from .rows import meaning

if TYPE_CHECKING:
    from ..inference.predictor import Prediction, Predictor


@dataclass(frozen=True, eq=False)
class Comparison:
    """Two images, and how alike their vehicles are."""

    first: Prediction
    second: Prediction
    distance: float  # squared Euclidean, of their embeddings
    parts: tuple[Part, ...]  # of each surface; empty without poses, or one vehicle in both
    # Of pairs of strangers as near, and that a row so far away shows the first image's vehicle;
    # None without a gallery, or where that is not known.
    rate: Rate | None = None
    probability: float | None = None

    def as_json(self) -> dict[str, Any]:
        both = {"first": self.first.as_json(), "second": self.second.as_json()}
        found = meaning(self.distance, self.rate, self.probability)
        return found | both | agreement_as_json(self.parts)


def compare(
    predictor: Predictor,
    first: ImageInput,
    second: ImageInput,
    *,
    gallery: Gallery | None = None,
) -> Comparison:
    """Compare the vehicles of two images.

    Args:
        first, second: paths, Pillow images or uint8 arrays ``[H, W, 3]`` (RGB).
        gallery: of embeddings of that predictor: says what the distance means among its vehicles.

    ImageError for an image that cannot be read; DataError if the network's values are not finite.
    """
    pictures = [
        open_picture(image, name=None if isinstance(image, str | Path) else f"image {place}")
        for place, image in enumerate((first, second))
    ]
    one, other = predictor.predict(pictures)
    shown = predictor.embed(*hide_shared(pictures, (one.pose, other.pose), predictor.size))
    return compared(predictor, one, other, shown, gallery)


def compared(
    predictor: Predictor,
    first: Prediction,
    second: Prediction,
    shown: np.ndarray,
    gallery: Gallery | None,
) -> Comparison:
    """Two predictions, and the embeddings of what :func:`hide_shared` made of the pictures."""
    distance = float(squared_distances(first.embedding[None], second.embedding[None])[0, 0])
    if first.reason or second.reason:
        return Comparison(first, second, distance, ())
    parts = parts_of((first.pose, second.pose), shown)
    meant: tuple[Rate | None, float | None] = (None, None)
    if gallery is not None:
        (meant,) = gallery.judged(first.embedding, [distance], predictor.calibration)
    return Comparison(first, second, distance, parts, *meant)
