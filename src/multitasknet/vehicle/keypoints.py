"""The 36 vehicle keypoints, their left-right pairs, and the surfaces that they span.

Keypoints 0..17 lie on the vehicle's left side, 18..35 are their mirror images on the right.
Everywhere in this package a pose is an array ``[36, 3]`` of x, y (pixels of the original image,
possibly outside it) and confidence.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

NUM_KEYPOINTS = 36
SEEN_FROM = 0.5

# Each surface is a quadrilateral of keypoints.
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
SURFACE_NAMES = (
    *(
        f"{side} {part}"
        for side in ("left", "right")
        for part in ("front wing", "doors", "rear wing")
    ),
    *("rear end", "boot", "rear window", "roof", "windscreen", "bonnet", "front end"),
)
_CORNERS, _NEXT = np.array(SURFACES), [1, 2, 3, 0]
# In a picture, whose y points down, the left side's corners run against the clock as seen from
# outside, all others with it.
_OUTSIDE = np.array([-1] * 3 + [1] * 10)

# Of the left side, by what they lie on.
KEYPOINT_GROUPS = {
    "Wheel": (0, 1),
    "Fender": (2, 3, 4, 5, 6, 7, 8, 9),
    "Back": (10, 11),
    "Front": (16, 17),
    "WindshieldBack": (12, 13),
    "WindshieldFront": (14, 15),
}
_ONE_SIDE = (
    "rear wheel",
    "front wheel",
    *(f"front arch {number}" for number in range(1, 5)),
    *(f"rear arch {number}" for number in range(1, 5)),
    "rear bumper",
    "boot corner",
    "rear screen low",
    "rear screen high",
    "windscreen high",
    "windscreen low",
    "bonnet front",
    "front bumper",
)
KEYPOINT_NAMES = tuple(f"{side} {name}" for side in ("left", "right") for name in _ONE_SIDE)
# What each keypoint of one side is at the other end: wheels, arches, bumpers, bonnet and boot,
# screens.
_OTHER_END = np.array([1, 0, 6, 7, 8, 9, 2, 3, 4, 5, 17, 16, 15, 14, 13, 12, 11, 10])
FRONT_REAR_KEYPOINTS = np.concatenate((_OTHER_END, _OTHER_END + NUM_KEYPOINTS // 2))
# What it is taken for when a vehicle is taken to face the other way.
HALF_TURN_KEYPOINTS = np.roll(FRONT_REAR_KEYPOINTS, NUM_KEYPOINTS // 2)
# The surfaces' edges, each once, and each wheel to its arch: pairs of keypoints.
SKELETON = tuple(
    sorted(
        {
            (min(pair), max(pair))
            for corners in SURFACES
            for pair in zip(corners, (*corners[1:], corners[0]), strict=True)
        }
        | {(0, 6), (0, 9), (1, 2), (1, 5), (18, 24), (18, 27), (19, 20), (19, 23)}
    )
)

# What each keypoint and surface becomes in a mirror: left and right change places.
MIRRORED_KEYPOINTS = np.roll(np.arange(NUM_KEYPOINTS), NUM_KEYPOINTS // 2)
MIRRORED_SURFACES = np.array([3, 4, 5, 0, 1, 2, *range(6, len(SURFACES))])


def check_keypoints(keypoints: np.ndarray) -> np.ndarray:
    """Return the pose as float32 ``[36, 3]``; ValueError if it is not one."""
    given = np.asarray(keypoints)
    if given.shape != (NUM_KEYPOINTS, 3):
        raise ValueError(
            f"keypoints have shape {given.shape}; expected ({NUM_KEYPOINTS}, 3): x, y, confidence"
        )
    with np.errstate(over="ignore"):
        pose = given.astype(np.float32)
    if not np.isfinite(pose).all():
        raise ValueError("keypoints hold NaN or infinity; expected finite numbers")
    return pose


def pose_or_zeros(keypoints: np.ndarray | None) -> np.ndarray:
    """The pose as float32 ``[36, 3]``; zeros, that is no confidence, where there is none."""
    if keypoints is None:
        return np.zeros((NUM_KEYPOINTS, 3), dtype=np.float32)
    return check_keypoints(keypoints)


def confident_surfaces(keypoints: np.ndarray) -> list[int]:
    """The surfaces whose four corners all have a confidence of at least 0.5."""
    return np.flatnonzero((keypoints[_CORNERS, 2] >= SEEN_FROM).all(1)).tolist()


def visible_surfaces(keypoints: np.ndarray) -> list[int]:
    """The surfaces that can be drawn: confident, and strictly convex as :func:`corners_of`."""
    confident, turns = _turns(keypoints)
    return confident[(turns > 0).all(1) | (turns < 0).all(1)].tolist()


def facing_surfaces(keypoints: np.ndarray) -> list[int]:
    """The visible surfaces whose outside is seen: not those of the far side, seen through it."""
    confident, turns = _turns(keypoints)
    return confident[(turns * _OUTSIDE[confident, None] > 0).all(1)].tolist()


def _turns(keypoints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The confident surfaces, and at each of their corners the cross product of its edges."""
    confident = np.array(confident_surfaces(keypoints), dtype=np.int64)
    corners = corners_of(keypoints, confident)
    edges = corners[:, _NEXT] - corners
    following = edges[:, _NEXT]
    return confident, edges[..., 0] * following[..., 1] - edges[..., 1] * following[..., 0]


def corners_of(keypoints: np.ndarray, surfaces: Sequence[int] | np.ndarray) -> np.ndarray:
    """Surfaces' corners, rounded to whole pixels as PAMTRI does: int64 ``[S, 4, 2]``."""
    return keypoints[_CORNERS[np.asarray(surfaces, np.int64)], :2].round().astype(np.int64)
