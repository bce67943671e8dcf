"""Embeddings for programs of others that find and track vehicles in pictures.

None of them is imported here; their objects are taken as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .data.boxes import corners_in
from .errors import ImageError
from .images import cut, read_image
from .inference.predictor import Predictor


class Embedder:
    """Vehicles in pictures as vectors of length 1.

    ``embedder(image, boxes)`` is what LibreYOLO takes, :meth:`extract_embeddings` what Roboflow's
    programs call; :meth:`get_features` has BoxMOT's signature.

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

        Args:
            image: uint8 ``[H, W, 3]``.
            boxes: as in :func:`multitasknet.crops`.

        Raises:
            TypeError: the picture is no array, such as what OpenCV gives for a missing file.
            ImageError: it is another array.
        """
        _check_picture(image)
        crops = cut(image, corners_in(boxes))
        seen = [place for place, crop in enumerate(crops) if crop.size]
        (width,) = self.predictor.spec.output_shapes(self.predictor.size)["embedding"]
        vectors = np.zeros((len(crops), width), np.float32)
        if seen:
            pictures = [_rgb(crops[place], self.bgr) for place in seen]
            inputs = self.predictor.inputs(pictures)
            found = np.concatenate([self.predictor.engine.run(*batch)[-1] for batch in inputs])
            vectors[seen] = found / np.linalg.norm(found, axis=1, keepdims=True)
        return vectors

    def extract_embeddings(self, detections: Any, image: np.ndarray) -> np.ndarray:
        """The embeddings of ``supervision.Detections``, as :meth:`__call__`."""
        return self(image, detections)

    def get_features(self, boxes: np.ndarray, image: np.ndarray) -> np.ndarray:
        """As :meth:`__call__`."""
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
        corners = [_corners(patch.bounding_box, image) for patch in patches]
        crops = cut(image, np.reshape(corners, (-1, 4)))
        seen = [place for place, crop in enumerate(crops) if crop.size]
        found = predictor.predict([np.ascontiguousarray(crops[place]) for place in seen])
        for place, prediction in zip(seen, found, strict=True):
            embedding = prediction.embedding
            patches[place][embeddings_field] = embedding / np.linalg.norm(embedding)
            patches[place]["color"] = prediction.color
            patches[place]["type"] = prediction.type


def _corners(box: Sequence[float], image: np.ndarray) -> np.ndarray:
    """x1, y1, x2, y2 in pixels of FiftyOne's x, y, width, height, which are shares."""
    x, y, width, height = box
    width_height = np.array(image.shape[1::-1], np.float64)
    return np.concatenate([width_height * (x, y), width_height * (x + width, y + height)])


def _check_picture(image: np.ndarray) -> None:
    expected = "expected a picture, a uint8 array [H, W, 3]"
    if not isinstance(image, np.ndarray):
        raise TypeError(f"{expected}, not {type(image).__name__}; was the file found?")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ImageError(f"{expected}, not {image.dtype} {list(image.shape)}")


def _rgb(crop: np.ndarray, bgr: bool) -> np.ndarray:
    return np.ascontiguousarray(crop[..., ::-1] if bgr else crop)
