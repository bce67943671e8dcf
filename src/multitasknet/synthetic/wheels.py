"""Wheels: tread and inner face behind the body, arch and outer face before it."""

from __future__ import annotations

import numpy as np

from .frame import Frame
from .part import BLACK, PLASTIC, RUBBER, PartBuilder
from .shell import disc, grid, mirrored, sectors


def add_tread(part: PartBuilder, frame: Frame, axle: float) -> None:
    """The tyre's running surface and inner face, which the body covers in part."""
    outer = frame.wheel_center(axle)
    radius = frame.body.wheel
    inner = outer - [0, 0.24 + 0.1 * frame.boxy, 0]
    angles = np.linspace(0, 2 * np.pi, 21)
    ring = radius * np.stack([np.cos(angles), np.zeros_like(angles), np.sin(angles)], axis=1)
    tread = grid(np.stack([inner + ring, outer + ring]))
    middle = (inner + outer) / 2
    part.add(disc(inner, radius), BLACK, around=middle)
    part.add(tread, RUBBER, around=middle)
    part.add(mirrored(disc(inner, radius)), BLACK, around=middle * [1, -1, 1])
    part.add(mirrored(tread), RUBBER, around=middle * [1, -1, 1])


def add_wheel(part: PartBuilder, frame: Frame, axle: float) -> None:
    """Arch and outer face of a wheel, on both sides."""
    wheel, body = frame.vehicle.wheel, frame.body
    center = frame.wheel_center(axle)
    radius = body.wheel
    low = np.arcsin(np.clip((body.sill - radius) / frame.arch_radius, -1, 1))
    around = np.linspace(low, np.pi - low, 17)

    if frame.vehicle.type_name in ("suv", "pickup"):
        part.add_both(sectors(center, 0, frame.arch_radius * 1.14, around), PLASTIC)
    part.add_both(sectors(center, 0, frame.arch_radius, around), BLACK)
    part.add_both(disc(center, radius), RUBBER)
    rim = radius * wheel.rim_share
    part.add_both(disc(center, rim), tuple(0.55 * value for value in wheel.color), 0.1)
    part.add_both(disc(center, rim * 0.9), BLACK)
    gap = 2 * np.pi / wheel.spokes
    half = gap * wheel.spoke_share / 2
    for spoke in range(wheel.spokes):
        angles = spoke * gap + np.linspace(-half, half, 3)
        part.add_both(sectors(center, 0.1 * rim, 0.95 * rim, angles), wheel.color, 0.25)
    part.add_both(disc(center, rim * 0.24, slices=10), wheel.color, 0.3)
