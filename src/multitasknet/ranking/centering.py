"""What the images of one camera have in common, taken away from their embeddings."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ..errors import DataError
from ..vehicle.cameras import UNKNOWN_CAMERA
from .distances import check_embeddings, check_integers

# The mean of fewer is that of the vehicles that a camera saw rather than of the camera.
FEWEST = 50


def large_cameras(cameras: np.ndarray) -> np.ndarray:
    """The known cameras, ascending, that took at least 50 of the images."""
    names, counts = np.unique(cameras, return_counts=True)
    kept: np.ndarray = names[(names != UNKNOWN_CAMERA) & (counts >= FEWEST)]
    return kept


def check_cameras(cameras: np.ndarray) -> None:
    """DataError unless a camera took at least 50 of the images."""
    if not len(large_cameras(cameras)):
        raise DataError(
            f"none of the cameras of {len(cameras)} images took {FEWEST} of them, as the "
            f"mean of a camera needs; leave the cameras' means in"
        )


def center_cameras(embeddings: ArrayLike, cameras: ArrayLike) -> np.ndarray:
    """Take each camera's mean away from embeddings ``[N, D]``; each keeps its length. float32.

    From images of unknown cameras, -1, and of those with fewer than 50, the mean of all is taken
    away: with nothing taken away they would lie apart from all others. As in Song et al., Exploring
    the Camera Bias of Person Re-identification, ICLR 2025. DataError: wrong shapes or types, or no
    camera took so many images.
    """
    images = check_embeddings("embeddings", embeddings)
    places = check_integers("cameras", cameras, len(images), "embedding")
    check_cameras(places)
    large, of_all = large_cameras(places), images.mean(axis=0, dtype=np.float64)
    centered = np.empty(images.shape, np.float32)
    for camera in np.unique(places):
        own = places == camera
        before = images[own].astype(np.float64)
        after = before - (before.mean(axis=0) if camera in large else of_all)
        lengths = np.linalg.norm(before, axis=1), np.linalg.norm(after, axis=1)
        centered[own] = after * (lengths[0] / np.maximum(lengths[1], 1e-12))[:, None]
    return centered
