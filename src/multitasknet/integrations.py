"""Embeddings for programs of others, whose objects are taken as they are, without an import."""

from __future__ import annotations

from typing import Any

import numpy as np

from .data.boxes import corners_in
from .errors import ImageError
from .images import cut, read_image
from .inference.predictor import Predictor


class Embedder:
    """Vehicles in pictures as vectors of length 1, by the calls of several programs.

    Args:
        predictor: default is ``Predictor()``, with its pose network; ``Predictor(pose="none")`` is
            faster.
        bgr: whether pictures are BGR, as OpenCV reads them; LibreYOLO's are RGB.
    """

    def __init__(self, predictor: Predictor | None = None, *, bgr: bool = True) -> None:
        self.predictor = predictor or Predictor()
        self.bgr = bgr

    def __call__(self, image: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """The embeddings of boxes, float32 ``[N, D]``; zeros for a box outside the picture.

        LibreYOLO calls this.

        Args:
            image: uint8 ``[H, W, 3]``.
            boxes: as in :func:`multitasknet.crops`.

        Raises:
            ImageError: the picture is another array, or none, as OpenCV gives for a missing file.
        """
        if getattr(image, "dtype", None) != np.uint8 or image.shape[2:] != (3,):
            raise ImageError("expected a picture, a uint8 array [H, W, 3]; was the file found?")
        crops = cut(image, corners_in(boxes))
        seen = [place for place, crop in enumerate(crops) if crop.size]
        (width,) = self.predictor.spec.output_shapes(self.predictor.size)["embedding"]
        vectors = np.zeros((len(crops), width), np.float32)
        if seen:
            order = -1 if self.bgr else 1
            pictures = [np.ascontiguousarray(crops[place][..., ::order]) for place in seen]
            inputs = self.predictor.inputs(pictures)
            found = np.concatenate([self.predictor.engine.run(*batch)[-1] for batch in inputs])
            vectors[seen] = found / np.linalg.norm(found, axis=1, keepdims=True)
        return vectors

    def extract_embeddings(self, detections: Any, image: np.ndarray) -> np.ndarray:
        """As :meth:`__call__`, for ``supervision.Detections``; what Roboflow's programs call."""
        return self(image, detections)

    def get_features(self, boxes: np.ndarray, image: np.ndarray) -> np.ndarray:
        """As :meth:`__call__`, with BoxMOT's signature."""
        return self(image, boxes)


def embed_patches(
    samples: Any,
    predictor: Predictor | None = None,
    *,
    patches_field: str = "ground_truth",
    embeddings_field: str = "embedding",
) -> None:
    """Give FiftyOne's detections their embedding of length 1, colour and type.

    Colour and type become the attributes ``color`` and ``type``. ``compute_similarity`` takes the
    field's name as ``embeddings``.
    """
    predictor = predictor or Predictor()
    for sample in samples.iter_samples(autosave=True):
        patches = sample[patches_field].detections if sample[patches_field] else []
        image = read_image(sample.filepath)
        # x, y, width and height, as shares.
        boxes = np.reshape([patch.bounding_box for patch in patches], (-1, 4)).astype(np.float64)
        boxes[:, 2:] += boxes[:, :2]
        crops = cut(image, boxes * np.tile(image.shape[1::-1], 2))
        seen = [place for place, crop in enumerate(crops) if crop.size]
        found = predictor.predict([np.ascontiguousarray(crops[place]) for place in seen])
        for place, prediction in zip(seen, found, strict=True):
            embedding = prediction.embedding
            patches[place][embeddings_field] = embedding / np.linalg.norm(embedding)
            patches[place]["color"] = prediction.color
            patches[place]["type"] = prediction.type
