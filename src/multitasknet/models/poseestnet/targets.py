"""What the network is taught: a map a keypoint, as PAMTRI's training draws them."""

from __future__ import annotations

import numpy as np

from ...vehicle.keypoints import SEEN_FROM
from .spec import STRIDE

_SIGMA = 2.0
_REACH = 6


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
