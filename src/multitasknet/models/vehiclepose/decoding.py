"""From the network's outputs to keypoints, probabilities and doubt about the direction."""

from __future__ import annotations

import numpy as np

from ...vehicle.keypoints import HALF_TURN_KEYPOINTS

# In cells: three sigmas of what the network is taught.
_REACH = 3
_STEPS = np.arange(-_REACH, _REACH + 1)
_LEAST = 1e-30


def softmax(logits: np.ndarray, axis: int | tuple[int, ...] = (2, 3)) -> np.ndarray:
    """Of float32 ``[N, 36, h, w]`` over each map's cells, or over another axis."""
    powers = np.exp(logits - logits.max(axis, keepdims=True))
    return powers / powers.sum(axis, keepdims=True)


def sigmoid(values: np.ndarray) -> np.ndarray:
    """Of logits, without overflow."""
    return (0.5 + 0.5 * np.tanh(0.5 * values)).astype(np.float32)


def find_peaks(maps: np.ndarray) -> np.ndarray:
    """The centre of each map within three cells of the largest one.

    Args:
        maps: float32 ``[N, 36, h, w]``, none of it negative.

    Returns:
        float32 ``[N, 36, 2]``: x and y in cells.
    """
    count, joints, _, width = maps.shape
    row, column = np.divmod(maps.reshape(count, joints, -1).argmax(2), width)
    window = _windows(maps, row, column)
    total = np.maximum(window.sum((2, 3)), _LEAST)
    across = (window.sum(2) * _STEPS).sum(2) / total
    down = (window.sum(3) * _STEPS).sum(2) / total
    return np.stack((column + across, row + down), axis=2).astype(np.float32)


def half_turn_shares(peaks: np.ndarray, maps: np.ndarray) -> np.ndarray:
    """How much of the maps' probability lies where a half turn would put the keypoints.

    An estimate that takes front for rear has the shape of a vehicle as well, so the shape does not
    show it; but its maps are less sure. The card states how many are found by this.

    Returns:
        ``[N]``, 0..1: the mean over keypoints, weighted by how visible they are, of those whose
        other place is not nearly the same.
    """
    places = peaks[..., :2]
    turned = places[:, HALF_TURN_KEYPOINTS]
    apart = np.linalg.norm(places - turned, axis=2) > 2 * _REACH + 1
    weights = peaks[..., 2] * apart
    column, row = np.moveaxis(np.rint(turned).astype(int), 2, 0)
    there = _windows(maps, row, column).sum((2, 3))
    shares: np.ndarray = (weights * there).sum(1) / np.maximum(weights.sum(1), _LEAST)
    return shares


def _windows(maps: np.ndarray, row: np.ndarray, column: np.ndarray) -> np.ndarray:
    """What lies within three cells of a cell of each map, 0 outside: ``[N, 36, 7, 7]``."""
    count, joints, height, width = maps.shape
    rows, columns = row[..., None] + _STEPS, column[..., None] + _STEPS
    is_row, is_column = (rows >= 0) & (rows < height), (columns >= 0) & (columns < width)
    window = maps[
        np.arange(count)[:, None, None, None],
        np.arange(joints)[:, None, None],
        np.clip(rows, 0, height - 1)[..., :, None],
        np.clip(columns, 0, width - 1)[..., None, :],
    ]
    return np.where(is_row[..., :, None] & is_column[..., None, :], window, 0)
