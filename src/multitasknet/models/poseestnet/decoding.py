"""From the network's maps to keypoints."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from ...vehicle.keypoints import MIRRORED_KEYPOINTS
from .preprocessing import frame_transform
from .spec import STRIDE

DECODINGS = ("published", "dark", "udp")

_QUARTER = 0.25
_TOO_FAR = 0.25
_BLUR_KERNEL = 11
_LEAST = 1e-10


def decode(
    outputs: Sequence[np.ndarray],
    mirrored: Sequence[np.ndarray] | None = None,
    decoding: str = DECODINGS[0],
) -> tuple[np.ndarray, np.ndarray]:
    """As :meth:`..base.PoseNetwork.decode`; with ``mirrored`` the maps are the average of both."""
    (maps,) = outputs
    if mirrored is not None:
        maps = (maps + unmirrored(mirrored[0], decoding)) * np.float32(0.5)
    return find_peaks(maps, decoding), maps


def unmirrored(maps: np.ndarray, decode: str = "published") -> np.ndarray:
    """The maps of a mirrored input as those of the input itself: float32 ``[N, 36, h, w]``.

    Mirrored back, left and right keypoints exchanged, then moved one column to the right as the
    published flip test does, which leaves the first column as it was. That is a quarter of a column
    too far: a cell's place is its first pixel, and the last pixel is not a cell's. ``udp`` moves
    them by three quarters (after Huang et al., The Devil Is in the Details: Delving into Unbiased
    Data Processing for Human Pose Estimation, CVPR 2020).
    """
    turned = maps[:, MIRRORED_KEYPOINTS, :, ::-1]
    moved = np.concatenate((turned[..., :1], turned[..., :-1]), axis=-1)
    if decode != "udp":
        return moved
    return moved - np.float32(_TOO_FAR) * (moved - turned)


def find_peaks(maps: np.ndarray, decode: str = "published") -> np.ndarray:
    """Where each map is largest.

    Args:
        maps: float32 ``[N, 36, h, w]``.
        decode: ``published``: the largest cell, moved a quarter of a cell towards the larger
            neighbour on each axis. ``dark``: the top of a paraboloid through the logarithm of the
            smoothed map (Zhang et al., Distribution-Aware Coordinate Representation for Human Pose
            Estimation, CVPR 2020). ``udp``: as ``dark``; it differs in the flip test.

    Returns:
        float32 ``[N, 36, 3]``: x and y in cells, and the map's largest value. Where that is not
        above zero, the cell is the first.
    """
    count, joints, height, width = maps.shape
    flat = maps.reshape(count, joints, -1)
    best = flat.argmax(2)
    values = np.take_along_axis(flat, best[..., None], 2)[..., 0]
    best = np.where(values > 0, best, 0)
    column, row = best % width, best // width
    cells = np.stack((column, row), axis=2).astype(np.float32)
    inner = (column > 1) & (column < width - 1) & (row > 1) & (row < height - 1)
    image, joint = np.nonzero(inner)
    x, y = column[inner], row[inner]
    if decode == "published":
        across = maps[image, joint, y, x + 1] - maps[image, joint, y, x - 1]
        down = maps[image, joint, y + 1, x] - maps[image, joint, y - 1, x]
        cells[inner] += np.float32(_QUARTER) * np.sign(np.stack((across, down), axis=1))
    else:
        cells[inner] += _tops(_log_smoothed(maps), image, joint, y, x)
    return np.concatenate((cells, values[..., None]), axis=2).astype(np.float32)


def keypoints_in_image(
    peaks: np.ndarray, *, width: int, height: int, size: tuple[int, int]
) -> np.ndarray:
    """As :meth:`..base.PoseNetwork.keypoints_in_image`."""
    transform = frame_transform(width, height, size)
    keypoints = peaks.astype(np.float64)
    keypoints[:, :2] = (keypoints[:, :2] * STRIDE - transform[:, 2]) / transform[[0, 1], [0, 1]]
    return keypoints.astype(np.float32)


def _log_smoothed(maps: np.ndarray) -> np.ndarray:
    """The logarithm of the maps, smoothed; each keeps its own largest value."""
    kernel = _BLUR_KERNEL, _BLUR_KERNEL
    flat = [cv2.GaussianBlur(one, kernel, 0) for one in maps.reshape(-1, *maps.shape[2:])]
    smooth = np.stack(flat).reshape(maps.shape)
    most = maps.max((2, 3), keepdims=True) / np.maximum(smooth.max((2, 3), keepdims=True), _LEAST)
    return np.log(np.maximum(smooth * most, _LEAST))


def _tops(
    logs: np.ndarray, image: np.ndarray, joint: np.ndarray, y: np.ndarray, x: np.ndarray
) -> np.ndarray:
    """One Newton step from cells to the top around them, ``[M, 2]``, at most a cell; else none."""

    def at(down: int, right: int) -> np.ndarray:
        return logs[image, joint, y + down, x + right].astype(np.float64)

    gradient = np.stack((at(0, 1) - at(0, -1), at(1, 0) - at(-1, 0)), axis=1) / 2
    xx = at(0, 1) - 2 * at(0, 0) + at(0, -1)
    yy = at(1, 0) - 2 * at(0, 0) + at(-1, 0)
    xy = (at(1, 1) - at(1, -1) - at(-1, 1) + at(-1, -1)) / 4
    determinant = xx * yy - xy**2
    is_top = (determinant > 0) & (xx < 0)
    safe = np.where(is_top, determinant, 1)
    step = (
        -np.stack(
            (yy * gradient[:, 0] - xy * gradient[:, 1], xx * gradient[:, 1] - xy * gradient[:, 0]),
            axis=1,
        )
        / safe[:, None]
    )
    kept = is_top & (np.abs(step) <= 1).all(1)
    return np.where(kept[:, None], step, 0).astype(np.float32)
