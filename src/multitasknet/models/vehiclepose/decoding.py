"""From the network's outputs to keypoints."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...vehicle.keypoints import HALF_TURN_KEYPOINTS, MIRRORED_KEYPOINTS
from ..base import Decoded
from .preprocessing import placement
from .spec import STRIDE

# In cells: three sigmas of what the network is taught.
_REACH = 3
_LEAST = 1e-30


def decode(outputs: Sequence[np.ndarray], mirrored: Sequence[np.ndarray] | None = None) -> Decoded:
    """As :meth:`..base.PoseNetwork.decode`: maps that each sum up to 1, and as confidences the
    probabilities of being visible. With ``mirrored`` all are averages.
    """
    _, visibility, *quality, maps = outputs
    probabilities, seen = softmax(maps), sigmoid(visibility)
    contents = softmax(quality[0], axis=1) if quality else None
    if mirrored is not None:
        _, visibility, *quality, maps = mirrored
        probabilities = (probabilities + softmax(maps)[:, MIRRORED_KEYPOINTS, :, ::-1]) / 2
        seen = (seen + sigmoid(visibility)[:, MIRRORED_KEYPOINTS]) / 2
        if contents is not None:
            contents = (contents + softmax(quality[0], axis=1)) / 2
    peaks = np.concatenate((find_peaks(probabilities), seen[..., None]), axis=2)
    return Decoded(peaks, probabilities, half_turn_shares(peaks, probabilities), contents)


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
    steps = np.arange(-_REACH, _REACH + 1)
    total = np.maximum(window.sum((2, 3)), _LEAST)
    across = (window.sum(2) * steps).sum(2) / total
    down = (window.sum(3) * steps).sum(2) / total
    return np.stack((column + across, row + down), axis=2).astype(np.float32)


def half_turn_shares(peaks: np.ndarray, maps: np.ndarray) -> np.ndarray:
    """How much of the maps' probability lies where a half turn would put the keypoints.

    An estimate that takes front for rear has the shape of a vehicle as well, so the shape does not
    show it; but its maps are less sure. The card states how many are found by this.

    Args:
        peaks, maps: as from :func:`decode`.

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
    steps = np.arange(-_REACH, _REACH + 1)
    rows, columns = row[..., None] + steps, column[..., None] + steps
    inside = (
        ((rows >= 0) & (rows < height))[..., :, None]
        & ((columns >= 0) & (columns < width))[..., None, :]
    )  # fmt: skip
    window = maps[
        np.arange(count)[:, None, None, None],
        np.arange(joints)[:, None, None],
        np.clip(rows, 0, height - 1)[..., :, None],
        np.clip(columns, 0, width - 1)[..., None, :],
    ]
    return np.where(inside, window, 0)


def keypoints_in_image(
    peaks: np.ndarray, *, width: int, height: int, size: tuple[int, int]
) -> np.ndarray:
    """As :meth:`..base.PoseNetwork.keypoints_in_image`."""
    at = placement(width, height, size)
    keypoints = peaks.astype(np.float64)
    # Distances from the first pixel's outer corner, which both sides of a resize share.
    edges = (keypoints[:, :2] + 0.5) * STRIDE - np.array([at.left, at.top])
    keypoints[:, :2] = edges * np.array([width / at.width, height / at.height]) - 0.5
    return keypoints.astype(np.float32)
