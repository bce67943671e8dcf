"""What the images of one camera have in common, taken away from their embeddings."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ..errors import DataError
from ..vehicle.cameras import UNKNOWN_CAMERA
from .distances import check_embeddings, check_integers

# The mean of fewer is that of the vehicles that a camera saw rather than of the camera.
FEWEST = 50


def large_cameras(cameras: np.ndarray, fewest: int = FEWEST) -> np.ndarray:
    """The known cameras, ascending, that took at least so many of the images."""
    names, counts = np.unique(cameras, return_counts=True)
    kept: np.ndarray = names[(names != UNKNOWN_CAMERA) & (counts >= fewest)]
    return kept


def center_cameras(
    embeddings: ArrayLike, cameras: ArrayLike, *, fewest: int = FEWEST
) -> np.ndarray:
    """Take each camera's mean embedding away; each embedding keeps its length.

    From images of unknown cameras, and of those with too few, the mean of all is taken away:
    with nothing taken away they would lie apart from all others. As in Song et al., Exploring the
    Camera Bias of Person Re-identification, ICLR 2025. It takes out the light and the lens of a
    camera, and also what the vehicles before it have in common: with one vehicle before a camera,
    that is the vehicle.

    Args:
        embeddings: finite numbers ``[N, D]``.
        cameras: integers ``[N]``, -1 where unknown.
        fewest: images that make a camera's mean its own.

    Returns:
        float32 ``[N, D]``.

    Raises:
        DataError: wrong shapes or types, or no camera took so many images.
    """
    images = check_embeddings("embeddings", embeddings)
    places = check_integers("cameras", cameras, len(images), "embedding")
    if not len(large := large_cameras(places, fewest)):
        raise DataError(
            f"none of the cameras of {len(images)} images took {fewest} of them, as the "
            f"mean of a camera needs; leave the cameras' means in"
        )
    means = {int(camera): _mean(images[places == camera]) for camera in large}
    of_all, centered = _mean(images), np.empty(images.shape, np.float32)
    for camera in np.unique(places):
        own = places == camera
        before = images[own].astype(np.float64)
        after = before - means.get(int(camera), of_all)
        lengths = np.linalg.norm(before, axis=1), np.linalg.norm(after, axis=1)
        centered[own] = after * (lengths[0] / np.maximum(lengths[1], 1e-12))[:, None]
    return centered


def _mean(images: np.ndarray) -> np.ndarray:
    mean: np.ndarray = images.mean(axis=0, dtype=np.float64)
    return mean
