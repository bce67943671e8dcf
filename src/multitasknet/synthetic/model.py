"""From an identity to geometry: coloured quadrilaterals, solids and the 36 keypoints in 3-D.

A model is a set of convex parts whose bounding boxes do not overlap, so that painting them from
the farthest to the nearest, each with the faces that look at the camera, is exact without a depth
buffer. Decals (windows, lamps, stickers) are faces of their part, painted after what they lie on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..vehicle.keypoints import NUM_KEYPOINTS
from .bodywork import build_lower
from .cabin import build_cabin, build_mirrors, build_roof_parts, build_spoiler
from .cargo import build_load, chassis_box, load_box
from .frame import FRONT_LOW, NOSE, REAR_LOW, TAIL, Frame
from .part import Part
from .shell import mirrored
from .vehicle import Vehicle


@dataclass(frozen=True, eq=False)
class Model:
    """A vehicle in its own frame: x forward, y left, z up, origin on the ground below its middle.

    Attributes:
        parts: the pieces.
        keypoints: ``[36, 3]`` in metres, in the order of the labels.
    """

    parts: tuple[Part, ...]
    keypoints: np.ndarray


def build_model(vehicle: Vehicle) -> Model:
    """Build a vehicle's geometry."""
    frame = Frame(vehicle)
    parts = [
        build_lower(frame),
        build_cabin(frame),
        *build_mirrors(frame),
        *build_roof_parts(frame),
    ]
    if vehicle.type_name == "truck":
        parts += build_load(frame)
    if vehicle.spoiler:
        parts.append(build_spoiler(frame))
    left = _left_keypoints(frame)
    return Model(tuple(parts), np.concatenate([left, mirrored(left)]))


def _left_keypoints(frame: Frame) -> np.ndarray:
    body, lower, cabin = frame.body, frame.lower, frame.cabin
    points = np.zeros((NUM_KEYPOINTS // 2, 3))
    front, rear = frame.axles
    points[0] = frame.wheel_center(rear)
    points[1] = frame.wheel_center(front)
    angles = np.radians([8, 55, 125, 172])
    for first, axle in ((2, front), (6, rear)):
        radius = frame.arch_radius
        x, z = axle + radius * np.cos(angles), body.wheel + radius * np.sin(angles)
        points[first : first + 4] = frame.on_flank(x, np.maximum(z, body.sill))
    points[10:12] = lower.corner(REAR_LOW), lower.corner(TAIL)
    points[12:16] = [cabin.corner(index) for index in (3, 2, 1, 0)]
    points[16:18] = lower.corner(NOSE), lower.corner(FRONT_LOW)
    if frame.is_truck:
        low, high = load_box(frame)
        base_low, _ = chassis_box(frame)
        half = body.width / 2
        points[10] = base_low[0], half, base_low[2]
        points[11] = low[0], half, low[2]
        points[12] = low[0], half, (low[2] + high[2]) / 2
        points[13] = low[0], half, high[2]
    return points
