"""The shells of a vehicle, and the measures that its details refer to."""

from __future__ import annotations

from typing import Any

import numpy as np

from .shell import Shell
from .vehicle import Vehicle

# Where the pillars stand between the first and the last side window, as shares of the way back.
PILLARS = {
    "sedan": (0, 0.50, 1),
    "suv": (0, 0.40, 0.74, 1),
    "van": (0, 0.24, 0.60, 1),
    "hatchback": (0, 0.58, 1),
    "mpv": (0, 0.20, 0.48, 0.76, 1),
    "pickup": (0, 0.55, 1),
    "bus": (0, 0.10, 0.26, 0.42, 0.58, 0.74, 0.90, 1),
    "truck": (0, 1),
    "estate": (0, 0.38, 0.68, 1),
}
# Corners of the lower shell's profile, and of the cabin's.
FRONT_LOW, FRONT_MID, NOSE, SCREEN_FOOT, BACK_FOOT, TAIL, REAR_MID, REAR_LOW = range(8)
CABIN_SCREEN, CABIN_ROOF, CABIN_BACK = range(3)


class Frame:
    """The two shells of a vehicle and the measures that its details refer to."""

    def __init__(self, vehicle: Vehicle) -> None:
        body = vehicle.body
        self.vehicle, self.body = vehicle, body
        self.boxy = vehicle.type_name in ("bus", "truck", "van")
        self.front = body.length / 2
        self.rear = -body.length / 2
        self.is_truck = vehicle.type_name == "truck"
        self.cab_rear = self.front - 0.28 * body.length if self.is_truck else self.rear
        self.nose = min(body.nose, body.belt - 0.06)
        self.tail = min(body.tail, body.belt - 0.03)
        self.axles = (self.front - body.front_axle, self.rear + body.rear_axle)
        self.lower = self._lower_shell()
        self.cabin = self._cabin_shell()

    def waist(self, x: np.ndarray, z: np.ndarray) -> np.ndarray:
        body = self.body
        taper = 0.04 if self.boxy else 0.13
        reach = 0.35 if self.boxy else 1.0
        ends = np.maximum(x - (self.front - reach), self.cab_rear + reach - x) / reach
        middle = body.sill + 0.62 * (body.belt - body.sill)
        height = np.where(z > middle, (z - middle) / (body.belt - middle), 0)
        depth = np.where(z < middle, (middle - z) / (middle - body.sill), 0)
        tuck = 0.3 if self.boxy else 1.0
        return body.width / 2 * (1 - taper * np.clip(ends, 0, 1) ** 2) - tuck * (
            0.05 * height**2 + 0.07 * depth**2
        )

    def greenhouse(self, x: np.ndarray, z: np.ndarray) -> np.ndarray:
        body = self.body
        share = np.clip((z - body.belt) / (body.height - body.belt), 0, 1.2)
        shelf = 0.005 if self.boxy else 0.03
        return self.waist(x, np.asarray(body.belt)) - shelf - body.tumble * share**1.25

    def _lower_shell(self) -> Shell:
        body, front, rear = self.body, self.front, self.cab_rear
        lean = min(0.04, body.boot / 2)
        slope = 0.03 if self.boxy else 0.10
        profile = [
            (front - 0.07, body.sill),
            (front, body.sill + 0.45 * (self.nose - body.sill)),
            (front - slope, self.nose),
            (front - max(body.hood, slope + 0.03), body.belt),
            (rear + max(body.boot, 0.03), body.belt),
            (rear + lean, self.tail),
            (rear, body.sill + 0.45 * (self.tail - body.sill)),
            (rear + 0.06, body.sill),
        ]
        swell = 0.4 if self.boxy else 1.0
        bulge = [(0.10, 0), (0.12, 0), (0.11, 0.02), (0.10, 0)]
        bulge += [(-0.05, 0), (-0.07, 0.0), (-0.08, 0), (-0.06, 0)]
        radius = [0.08, 0.1, 0.14, 0, 0, 0.06, 0.1, 0.08]
        return Shell(np.array(profile), swell * np.array(bulge), np.array(radius), self.waist, 0.07)

    def _cabin_shell(self) -> Shell:
        body, front, rear = self.body, self.front, self.cab_rear
        slope = 0.06 if self.boxy else 0.13
        profile = [
            (front - max(body.hood, slope), body.belt),
            (front - max(body.hood, slope) - body.screen, body.height),
            (rear + max(body.boot, 0.03) + body.back, body.height),
            (rear + max(body.boot, 0.03), body.belt),
        ]
        bulge = np.array([(0.13, 0), (0.05, 0.04), (-0.04, 0.04), (-0.08, 0)])
        round_roof = 0.12 if self.boxy else 0.42
        radius = np.array([0, round_roof, round_roof * 0.8, 0])
        swell = 0.4 if self.boxy else 1.0
        return Shell(np.array(profile), swell * bulge, radius, self.greenhouse, 0.07)

    def pillar(self, share: float, height: float | np.ndarray) -> Any:
        """x of the way from the windscreen (0) to the rear window (1) at a share of the height."""
        (x15, _), (x14, _), (x13, _), (x12, _) = self.cabin.profile
        margin = 0.07 if self.boxy else 0.13
        first = x15 + (x14 - x15) * height - margin
        last = x12 + (x13 - x12) * height + margin
        return first + (last - first) * share

    def on_flank(self, x: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Points on the side where the wheels are; a truck's rear ones are in the chassis."""
        points = self.lower.on_side(x, z)
        if self.is_truck:
            points[..., 1] = np.where(x < self.cab_rear, self.body.width / 2, points[..., 1])
        return points

    def wheel_center(self, axle: float) -> np.ndarray:
        """The middle of a left wheel's outer face."""
        center = self.on_flank(np.asarray(axle), np.asarray(self.body.wheel))
        return center + np.array([0, 0.015, 0])

    @property
    def arch_radius(self) -> float:
        return self.body.wheel * 1.16
