"""The 36 vehicle keypoints and what the network is fed from them.

Keypoints 0..17 lie on the vehicle's left side, 18..35 are their mirror images on the right.
Everywhere in this package a pose is an array ``[36, 3]`` of x, y (pixels of the original image,
possibly outside it) and confidence.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

NUM_KEYPOINTS = 36
MAP_SIZE = 64
_HEATMAP_SIGMA = 2.0
_MIN_CONFIDENCE = 0.5

# Each surface is a quadrilateral of keypoints: three on the left side, three on the right, then
# rear bumper, boot, rear window, roof, windscreen, bonnet, front.
SURFACES = (
    (5, 15, 16, 17),
    (5, 6, 12, 15),
    (6, 10, 11, 12),
    (23, 33, 34, 35),
    (23, 24, 30, 33),
    (24, 28, 29, 30),
    (10, 11, 29, 28),
    (11, 12, 30, 29),
    (12, 13, 31, 30),
    (13, 14, 32, 31),
    (14, 15, 33, 32),
    (15, 16, 34, 33),
    (16, 17, 35, 34),
)


def check_keypoints(keypoints: np.ndarray) -> np.ndarray:
    """Return the pose as float32 ``[36, 3]``; ValueError if it is not one."""
    pose = np.asarray(keypoints, dtype=np.float32)
    if pose.shape != (NUM_KEYPOINTS, 3):
        raise ValueError(
            f"keypoints have shape {pose.shape}; expected ({NUM_KEYPOINTS}, 3): x, y, confidence"
        )
    if not np.isfinite(pose).all():
        raise ValueError("keypoints hold NaN or infinity; expected finite numbers")
    return pose


def pose_vector(keypoints: np.ndarray, width: int, height: int) -> np.ndarray:
    """The network's input ``p``: float32 ``[108]`` of (x / W - 0.5, y / H - 0.5, conf - 0.5).

    ``width`` and ``height`` are those of the image that x and y are pixels of.
    """
    scale = np.array([width, height, 1], dtype=np.float32)
    return (keypoints / scale - np.float32(0.5)).astype(np.float32).reshape(-1)


def heatmaps(keypoints: np.ndarray, width: int, height: int) -> np.ndarray:
    """Draw the pose network's target: uint8 ``[36, 64, 64]``.

    Map k is a Gaussian of sigma 2 around keypoint k, rounded to a map pixel, whose peak is 255
    times the confidence.
    """
    scale = MAP_SIZE / np.array([width, height], dtype=np.float64)
    centers = np.floor(keypoints[:, :2] * scale + 0.5)
    distances = np.arange(MAP_SIZE) - centers[:, :, None]
    across, down = np.moveaxis(np.exp(-(distances**2) / (2 * _HEATMAP_SIGMA**2)), 1, 0)
    peaks = 255 * np.clip(keypoints[:, 2], 0, 1)
    return np.rint(peaks[:, None, None] * down[:, :, None] * across[:, None, :]).astype(np.uint8)


def visible_surfaces(keypoints: np.ndarray) -> list[int]:
    """The surfaces that can be drawn: strictly convex, and all four confidences at least 0.5."""
    return [
        index
        for index, corners in enumerate(SURFACES)
        if (keypoints[corners, 2] >= _MIN_CONFIDENCE).all()
        and _is_strictly_convex(keypoints[corners, :2])
    ]


def segment(keypoints: np.ndarray, surface: int, width: int, height: int) -> np.ndarray:
    """One surface as a filled polygon of 255: uint8 ``[height, width]``."""
    canvas = Image.new("L", (width, height))
    corners = keypoints[SURFACES[surface], :2].round().astype(int)
    ImageDraw.Draw(canvas).polygon([tuple(corner) for corner in corners.tolist()], fill=255)
    return np.asarray(canvas)


def _is_strictly_convex(corners: np.ndarray) -> bool:
    edges = np.roll(corners, -1, axis=0) - corners
    following = np.roll(edges, -1, axis=0)
    turns = edges[:, 0] * following[:, 1] - edges[:, 1] * following[:, 0]
    return bool((turns > 0).all() or (turns < 0).all())
