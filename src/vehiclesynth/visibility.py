"""Which keypoints can be seen, as people mark them, and how sure a pose network would be."""

from __future__ import annotations

import numpy as np

from multitasknet.vehicle.keypoints import SURFACES

from .camera import Camera, Size
from .chance import Rng
from .shading import PlacedVehicle

VISIBLE, HIDDEN_BY_ITSELF, HIDDEN_OTHERWISE = 0, 1, 2
_TOLERANCE = 0.06  # metres; a point lies on the skin, not before it
# People count points as visible that are seen edge on: a point shows if it would, were it this
# much higher, further out, or nearer to its end of the vehicle, in metres. By one side's keypoint.
_LENIENT = (2, 3, 4, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17)
_UP = (0.05, 0.09, 0.08, 0.09, 0.09, 0.05, 0.09, 0.14, 0.24, 0.22, 0.22, 0.16, 0.12, 0.09)
_OUT = (0.10, 0.13, 0.10, 0.12, 0.13, 0.12, 0.14, 0.12, 0.10, 0.10, 0.12, 0.08, 0.10, 0.10)
_ALONG = (0.20, 0.20, 0.05, 0.05, 0.12, 0.18, 0.10, 0.05, 0.05, 0.0, 0.0, 0.0, 0.05, 0.10)
_LEVELS = (0, 0.05, 0.25, 0.5, 0.75, 0.95, 1)
# Percentiles of the published network's confidence on real crops, where people mark a point as
# visible and where they do not.
_CONFIDENCE = {
    VISIBLE: (0.5, 0.66, 0.90, 0.93, 0.95, 0.97, 0.99),
    HIDDEN_BY_ITSELF: (0.2, 0.36, 0.64, 0.75, 0.91, 1.00, 1.02),
    HIDDEN_OTHERWISE: (0.02, 0.08, 0.25, 0.45, 0.7, 0.9, 1.0),
}


def find_visibility(
    vehicle: PlacedVehicle,
    others: list[PlacedVehicle],
    camera: Camera,
    size: Size,
    cover: np.ndarray | None,
) -> np.ndarray:
    """uint8 ``[36]``: 0 visible, 1 hidden by the vehicle itself, 2 by another thing or outside.

    ``cover`` (float ``[h, w]`` 0 to 1) stands right before the camera, which is in the vehicle's
    frame.
    """
    points = vehicle.model.keypoints
    kinds = np.where(_shows(vehicle, points, camera.eye), VISIBLE, HIDDEN_BY_ITSELF)
    pixels, _ = camera.project(points)
    outside = ((pixels < -0.5) | (pixels > np.array(size) - 0.5)).any(axis=1)
    covered = outside
    for other in others:
        covered |= stands_before(other, points, camera.eye)
    if cover is not None:
        spots = np.clip(np.rint(pixels), 0, np.array(size) - 1).astype(int)
        covered |= cover[spots[:, 1], spots[:, 0]] > 0.5
    kinds[covered] = HIDDEN_OTHERWISE
    return kinds.astype(np.uint8)


def stands_before(
    other: PlacedVehicle, points: np.ndarray, eye: np.ndarray, *, by: float = 0.0
) -> np.ndarray:
    """Whether that vehicle is before each of the points, ``by`` metres or more: bool ``[N]``."""
    sight = points - eye
    length = np.linalg.norm(sight, axis=1)
    directions = (sight / length[:, None]).astype(np.float32)
    return other.blocks(eye, directions, length - by)


def draw_confidences(rng: Rng, visibility: np.ndarray) -> np.ndarray:
    """Confidences ``[36]`` as the published pose network gives them to such points."""
    drawn = np.empty(len(visibility))
    hidden = visibility != VISIBLE
    # The network is least sure where surfaces go out of sight, so that few of these pass.
    vanishing = np.zeros(len(visibility))
    for corners in SURFACES:
        vanishing[list(corners)] += hidden[list(corners)].any()
    for kind, percentiles in _CONFIDENCE.items():
        chosen = np.flatnonzero(visibility == kind)
        shares = np.sort(rng.random(len(chosen)))
        order = np.argsort(-vanishing[chosen] + rng.random(len(chosen)))
        drawn[chosen[order]] = np.interp(shares, _LEVELS, percentiles)
    return drawn


def _shows(vehicle: PlacedVehicle, points: np.ndarray, eye: np.ndarray) -> np.ndarray:
    """Whether the vehicle leaves each point, or a spot close by it, to the eye."""
    left = np.array(_LENIENT)
    near = np.concatenate([left, left + len(points) // 2])
    up, out, along = np.tile([_UP, _OUT, _ALONG], 2)
    side, end = np.sign(points[near, 1]), np.sign(points[near, 0])
    none = np.zeros_like(up)
    offsets = np.array(
        [[none, none, up], [none, side * out, none], [end * along, 0.02 * side, none]]
    ).swapaxes(1, 2)
    spots = np.concatenate([points, (points[near] + offsets).reshape(-1, 3)])
    clear = ~stands_before(vehicle, spots, eye, by=_TOLERANCE)
    shown = clear[: len(points)].copy()
    shown[near] |= clear[len(points) :].reshape(len(offsets), -1).any(axis=0)
    return shown
