"""From the network's maps to keypoints, as published."""

from __future__ import annotations

import numpy as np

from ...vehicle.keypoints import MIRRORED_KEYPOINTS


def unmirrored(maps: np.ndarray) -> np.ndarray:
    """The maps of a mirrored input as those of the input itself: float32 ``[N, 36, h, w]``.

    Mirrored back, left and right keypoints exchanged, then moved one column to the right as the
    published flip test does, which leaves the first column as it was. That is a quarter of a column
    too far: a cell's place is its first pixel, and the last pixel is not a cell's.
    """
    turned = maps[:, MIRRORED_KEYPOINTS, :, ::-1]
    return np.concatenate((turned[..., :1], turned[..., :-1]), axis=-1)


def find_peaks(maps: np.ndarray) -> np.ndarray:
    """Where each map is largest.

    Args:
        maps: float32 ``[N, 36, h, w]``.

    Returns:
        float32 ``[N, 36, 3]``: x and y of the largest cell, moved a quarter of a cell towards the
        larger neighbour on each axis, and its value. Where that is not above zero, the cell is the
        first.
    """
    count, joints, height, width = maps.shape
    flat = maps.reshape(count, joints, -1)
    best = flat.argmax(2)
    values = np.take_along_axis(flat, best[..., None], 2)[..., 0]
    row, column = np.divmod(np.where(values > 0, best, 0), width)
    cells = np.stack((column, row), axis=2).astype(np.float32)
    inner = (column > 1) & (column < width - 1) & (row > 1) & (row < height - 1)
    image, joint = np.nonzero(inner)
    x, y = column[inner], row[inner]
    across = maps[image, joint, y, x + 1] - maps[image, joint, y, x - 1]
    down = maps[image, joint, y + 1, x] - maps[image, joint, y - 1, x]
    cells[inner] += np.float32(0.25) * np.sign(np.stack((across, down), axis=1))
    return np.concatenate((cells, values[..., None]), axis=2).astype(np.float32)
