"""The pose as pictures: 36 heatmaps and 13 segments, as PAMTRI's pose network leaves them."""

from __future__ import annotations

import numpy as np

from ..images import fill_polygon, resize
from .keypoints import (
    MIRRORED_KEYPOINTS,
    MIRRORED_SURFACES,
    NUM_KEYPOINTS,
    SURFACES,
    confident_surfaces,
    corners_of,
    visible_surfaces,
)

MAP_SIZE = 64
# The pose network's square around the image's centre, in units of the image's longer side.
FRAME = 1.25
_HEATMAP_SIGMA = 2.0


def draw_maps(
    keypoints: np.ndarray, *, heatmaps: bool, segments: bool, height: int, width: int
) -> np.ndarray:
    """Draw pose maps for an image of that height and width.

    Returns:
        uint8 ``[M, 64, 64]``: the form in which PAMTRI stores them, heatmaps first.
    """
    parts = [np.zeros((0, MAP_SIZE, MAP_SIZE), dtype=np.uint8)]
    if heatmaps:
        parts.append(draw_heatmaps(keypoints, width=width, height=height))
    if segments:
        parts.append(draw_segments(keypoints, width=width, height=height))
    return np.concatenate(parts)


def draw_heatmaps(keypoints: np.ndarray, width: int, height: int) -> np.ndarray:
    """Draw what the pose network gives: uint8 ``[36, 64, 64]``.

    Map k is a Gaussian of sigma 2 around keypoint k, rounded to a map pixel, whose peak is 255
    times the confidence. The maps cover the pose network's input, a square of 1.25 times the longer
    side around the image's centre, and not the image: PAMTRI's loader stretches them onto it as
    they are, and its weights were trained so.
    """
    side = FRAME * max(width, height)
    in_frame = (keypoints[:, :2] - np.array([width, height]) / 2) / side + 0.5
    centers = np.floor(in_frame.astype(np.float64) * MAP_SIZE + 0.5)
    distances = np.arange(MAP_SIZE) - centers[:, :, None]
    across, down = np.moveaxis(np.exp(-(distances**2) / (2 * _HEATMAP_SIGMA**2)), 1, 0)
    peaks = 255 * np.clip(keypoints[:, 2], 0, 1)
    return (peaks[:, None, None] * down[:, :, None] * across[:, None, :]).astype(np.uint8)


def draw_segments(keypoints: np.ndarray, width: int, height: int) -> np.ndarray:
    """Draw every visible surface as a filled polygon, and bring it to uint8 ``[13, 64, 64]``."""
    maps = np.zeros((len(SURFACES), MAP_SIZE, MAP_SIZE), dtype=np.uint8)
    surfaces = visible_surfaces(keypoints)
    for surface, corners in zip(surfaces, corners_of(keypoints, surfaces), strict=True):
        polygon = fill_polygon(corners, height=height, width=width)
        maps[surface] = resize(polygon, (MAP_SIZE, MAP_SIZE))
    return maps


def gate_segments(segments: np.ndarray, keypoints: np.ndarray) -> np.ndarray:
    """Black every surface that has a corner of confidence below 0.5, as PAMTRI's loader does."""
    gated = np.zeros_like(segments)
    kept = confident_surfaces(keypoints)
    gated[kept] = segments[kept]
    return gated


def mirrored_maps(count: int) -> np.ndarray:
    """The order of that many maps in a mirror: heatmaps and segments, either, both or none."""
    heatmaps = count // NUM_KEYPOINTS * NUM_KEYPOINTS
    return np.concatenate(
        [MIRRORED_KEYPOINTS[:heatmaps], heatmaps + MIRRORED_SURFACES[: count - heatmaps]]
    )
