"""What the network gets of a picture, and the maps that its training wants for it."""

from __future__ import annotations

import cv2
import numpy as np

from ...images import write_planes
from ...vehicle.keypoints import SEEN_FROM
from ...vehicle.maps import FRAME
from .spec import STRIDE

# Of the maps' Gaussians, in cells.
_SIGMA = 2.0
_REACH = 6


def frame_transform(
    width: int, height: int, size: tuple[int, int], *, factor: float = 1, degrees: float = 0
) -> np.ndarray:
    """From pixels of the picture to pixels of the input: float64 ``[2, 3]``.

    The input shows a square of 1.25 times the picture's longer side around its centre (PAMTRI's
    data loader, on a box that is the picture); in training one ``factor`` as large, turned.
    """
    scale = min(size) / (FRAME * max(width, height) * factor)
    cos, sin = scale * np.cos(np.radians(degrees)), scale * np.sin(np.radians(degrees))
    turn = np.array([[cos, sin], [-sin, cos]])
    middle = np.array([size[1] / 2, size[0] / 2]) - turn @ np.array([width / 2, height / 2])
    return np.column_stack((turn, middle))


def write_framed(pixels: np.ndarray, transform: np.ndarray, planes: np.ndarray) -> None:
    """Write what :func:`frame_transform` frames of a picture, normalised, into such an array."""
    size = planes.shape[2], planes.shape[1]
    framed = cv2.warpAffine(pixels, transform, size, flags=cv2.INTER_LINEAR)
    write_planes(framed, planes)


def draw_targets(keypoints: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Gaussians of sigma 2 around the visible keypoints, cut off 6 cells away.

    Args:
        keypoints: ``[36, 3]`` of x, y (pixels of the network's input) and visibility.
        size: height and width of the input.

    Returns:
        Maps, float32 ``[36, H / 4, W / 4]`` with 1 at the cell nearest to a keypoint, and weights,
        float32 ``[36]``: 1 where a keypoint is visible and its Gaussian meets the map, else 0, and
        its map is all zero.
    """
    height, width = size[0] // STRIDE, size[1] // STRIDE
    # Towards zero, as int() does.
    centers = np.trunc(keypoints[:, :2].astype(np.float64) / STRIDE + 0.5)
    across = _gaussians(centers[:, 0], width)
    down = _gaussians(centers[:, 1], height)
    weights = (keypoints[:, 2] >= SEEN_FROM) & across.any(1) & down.any(1)
    maps = down[:, :, None] * across[:, None, :] * weights[:, None, None]
    return maps.astype(np.float32), weights.astype(np.float32)


def _gaussians(centers: np.ndarray, cells: int) -> np.ndarray:
    distances = np.arange(cells) - centers[:, None]
    values = np.exp(-(distances**2) / (2 * _SIGMA**2))
    return np.where(np.abs(distances) <= _REACH, values, 0)
