"""What a truck has behind its cab: the chassis with the rear wheels, and the load space."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .frame import Frame
from .part import CHROME, SEAM, Part, PartBuilder
from .shell import box, grid, open_box
from .wheels import add_tread, add_wheel


def load_box(frame: Frame) -> tuple[np.ndarray, np.ndarray]:
    """A truck's load space."""
    body = frame.body
    half = body.width / 2
    floor = chassis_box(frame)[1][2] + 0.01
    top = {"box": 1.22, "tarp": 1.12, "flat": 0.0}[frame.vehicle.cargo] * body.height
    low = np.array([frame.rear, -half, floor])
    return low, np.array([frame.cab_rear - 0.15, half, max(top, floor + 0.55)])


def chassis_box(frame: Frame) -> tuple[np.ndarray, np.ndarray]:
    body = frame.body
    half = body.width / 2
    low = np.array([frame.rear + 0.08, -half, body.sill])
    return low, np.array([frame.cab_rear - 0.12, half, body.sill + 0.5])


def build_load(frame: Frame) -> list[Part]:
    """A truck's chassis with the rear wheels, and what stands on it."""
    base = PartBuilder(box(*chassis_box(frame)))
    add_tread(base, frame, frame.axles[1])
    base.add(_panels(*chassis_box(frame)), (0.16, 0.16, 0.17))
    low, high = chassis_box(frame)
    for side in (-1, 1):
        y = sorted((side * 0.55 * high[1], side * 0.9 * high[1]))
        lamp = _rear_panel(low[0], y, (low[2] + 0.25, high[2] - 0.08))
        base.add(lamp, (0.66, 0.04, 0.05), 0.3)
    base.add(_rear_panel(low[0], (-0.25, 0.25), (low[2] + 0.1, low[2] + 0.25)), frame.vehicle.plate)
    add_wheel(base, frame, frame.axles[1])
    return [base.build(), _cargo(frame)]


def _cargo(frame: Frame) -> Part:
    vehicle = frame.vehicle
    low, high = load_box(frame)
    part = PartBuilder(box(low, high))
    panels = _panels(low, high)
    if vehicle.cargo == "flat":
        top = panels[:, :, 2].min(axis=1) > high[2] - 1e-6
        inner = open_box(low + np.array([0.08, 0.08, 0.1]), high - np.array([0.08, 0.08, 0]))
        part.add(inner, (0.3, 0.26, 0.2), around=(low + high) / 2, inward=True)
        panels = panels[~top]
    part.add(panels, vehicle.cargo_paint, 0.12)
    ribs = np.linspace(low[0] + 0.05, high[0] - 0.1, 7 if vehicle.cargo != "box" else 2)
    rib_color = tuple(0.7 * value for value in vehicle.cargo_paint)
    for x in ribs:
        for side in (-1, 1):
            y = side * high[1]
            corners = [
                (x, y, low[2]),
                (x + 0.05, y, low[2]),
                (x + 0.05, y, high[2]),
                (x, y, high[2]),
            ]
            part.add(np.array([corners]), rib_color)
    part.add(_rear_panel(low[0], (-0.02, 0.02), (low[2], high[2])), SEAM)
    for share in (-0.55, 0.55):
        bar = share * high[1]
        part.add(_rear_panel(low[0], (bar - 0.02, bar + 0.02), (low[2], high[2])), CHROME, 0.3)
    return part.build()


def _panels(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """A box in panels of about half a metre."""
    panels = []
    for corner in box(low, high):
        a, b, c, d = corner
        rows = np.linspace(0, 1, 2 + int(np.linalg.norm(d - a) / 0.5))[:, None, None]
        columns = np.linspace(0, 1, 2 + int(np.linalg.norm(b - a) / 0.5))[None, :, None]
        top, bottom = a + (b - a) * columns, d + (c - d) * columns
        panels.append(grid(top + (bottom - top) * rows))
    return np.concatenate(panels)


def _rear_panel(x: float, y: Sequence[float], z: Sequence[float]) -> np.ndarray:
    return np.array([[(x, y[0], z[0]), (x, y[1], z[0]), (x, y[1], z[1]), (x, y[0], z[1])]])
