"""The proportions of a vehicle, by type, and the curved shells that follow from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .chance import Rng
from .chart import Pair
from .loft import Bend, HalfWidth, Loft

# Corners of the main shell's silhouette.
(
    FRONT_LOW,
    BUMPER,
    NOSE,
    COWL,
    HEADER,
    ROOF,
    REAR_HEADER,
    BACK_FOOT,
    TAIL,
    REAR_BUMPER,
    REAR_LOW,
) = range(11)
BOXY = ("van", "bus", "truck")


@dataclass(frozen=True)
class Body:
    """Proportions in metres; x points forward, y to the vehicle's left, z up from the ground."""

    # of the whole vehicle (a truck's height is its cab's)
    length: float
    width: float
    height: float
    belt: float  # height of the line on which the windows stand
    # height of the lower edge, of the bonnet's front and of the boot's rear
    sill: float
    nose: float
    tail: float
    # from the front to the windscreen's foot, and on to its top
    hood: float
    screen: float
    # from the rear to the rear window's foot, and on to its top
    boot: float
    back: float
    wheel: float  # radius
    # distance from the front and from the rear
    front_axle: float
    rear_axle: float
    tumble: float  # how much the roof is narrower than the waist, on each side
    bow: float  # how far the front's corners lie behind its middle
    cab: float  # length of a truck's cab; elsewhere the whole length


# The middle of each measure, by body type.
_TYPES = ("sedan", "suv", "van", "hatchback", "mpv", "pickup", "bus", "truck", "estate")
_BODIES = {
    "length":     (4.72,   4.58,   4.40,   4.05,   4.70,   5.25,   9.80,   7.00,   4.78),
    "width":      (1.80,   1.86,   1.68,   1.72,   1.84,   1.84,   2.50,   2.20,   1.80),
    "height":     (1.47,   1.74,   1.92,   1.52,   1.74,   1.80,   3.15,   2.45,   1.49),
    "belt":       (0.94,   1.10,   1.10,   0.95,   1.02,   1.18,   1.30,   1.40,   0.94),
    "sill":       (0.22,   0.30,   0.26,   0.22,   0.23,   0.38,   0.32,   0.46,   0.22),
    "nose":       (0.74,   1.00,   0.86,   0.74,   0.80,   1.06,   1.00,   1.05,   0.74),
    "tail":       (0.96,   0.98,   0.90,   0.90,   0.94,   1.12,   1.05,   1.00,   0.90),
    "hood":       (1.18,   1.10,   0.55,   0.92,   0.86,   1.22,   0.10,   0.10,   1.18),
    "screen":     (0.78,   0.58,   0.62,   0.72,   0.92,   0.50,   0.18,   0.26,   0.78),
    "boot":       (0.62,   0.08,   0.05,   0.12,   0.08,   1.62,   0.05,   0.05,   0.12),
    "back":       (0.66,   0.22,   0.10,   0.40,   0.26,   0.12,   0.08,   0.06,   0.40),
    "wheel":      (0.32,   0.37,   0.30,   0.31,   0.33,   0.40,   0.48,   0.44,   0.32),
    "front_axle": (0.90,   0.86,   0.70,   0.78,   0.90,   0.88,   2.30,   1.20,   0.90),
    "rear_axle":  (1.02,   0.86,   0.90,   0.66,   0.86,   1.20,   2.70,   1.40,   1.02),
    "tumble":     (0.27,   0.20,   0.17,   0.25,   0.23,   0.17,   0.08,   0.12,   0.26),
    "bow":        (0.26,   0.22,   0.16,   0.24,   0.24,   0.16,   0.16,   0.09,   0.26),
}  # fmt: skip


def draw_body(rng: Rng, kind: str) -> Body:
    """Draw the proportions of a vehicle of that type."""
    index = _TYPES.index(kind)
    spread = rng.normal(0, 0.045, len(_BODIES)).clip(-0.11, 0.11)
    size = 1 + rng.normal(0, 0.03)
    measures = {
        name: values[index] * (size if name in ("length", "width") else 1) * (1 + change)
        for (name, values), change in zip(_BODIES.items(), spread.tolist(), strict=True)
    }
    if kind == "bus":
        longer = rng.uniform(0.62, 1.15)
        measures["length"] *= longer
        measures["front_axle"] *= 0.5 + 0.5 * longer
        measures["rear_axle"] *= 0.5 + 0.5 * longer
        measures["height"] *= 0.86 + 0.14 * longer
    if kind == "truck":
        size = rng.uniform(0.75, 1.15)
        measures.update(length=measures["length"] * size, height=measures["height"] * size**0.6)
        measures.update(width=measures["width"] * size**0.5, belt=measures["belt"] * size**0.6)
    cab = measures["length"] * (rng.uniform(0.24, 0.31) if kind == "truck" else 1)
    return Body(**measures, cab=cab)


class Shells:
    """A body's main shell, and the measures that everything on it refers to."""

    def __init__(self, body: Body, kind: str) -> None:
        self.body, self.kind = body, kind
        self.boxy = kind in BOXY
        self.front, self.rear = body.length / 2, -body.length / 2
        self.back = self.front - body.cab  # where the main shell ends
        self.nose = min(body.nose, body.belt - 0.03)
        self.tail = min(body.tail, body.belt - 0.02)
        self.axles = (self.front - body.front_axle, self.rear + body.rear_axle)
        self.shell = self._main_shell()

    def half_width(self, x: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Barrel below the belt, a shoulder on it, and the cabin that leans in above it."""
        body = self.body
        share = np.clip((z - body.sill) / (body.belt - body.sill), 0, 1)
        tuck = 0.35 if self.boxy else 1.0
        below = 0.09 * np.clip(0.45 - share, 0, 1) ** 1.5 + 0.06 * np.clip(share - 0.6, 0, 1) ** 1.5
        rise = z - body.belt
        shoulder = (0.01 if self.boxy else 0.045) * np.clip(rise / 0.05 + 0.5, 0, 1)
        lean = (body.tumble - 0.03) * np.clip(rise / (body.height - body.belt), 0, 1.1) ** 1.15
        reach = 0.5 if self.boxy else 1.3
        taper = 0.03 if self.boxy else 0.10
        ends = np.maximum(x - (self.front - reach), self.back + reach - x) / reach
        plan = 1 - taper * np.clip(ends, 0, 1) ** 2
        return (body.width / 2) * plan - 2 * tuck * below - shoulder - lean

    def _main_shell(self) -> Loft:
        body, front, back = self.body, self.front, self.back
        rounding = 0.5 if self.boxy else 1.0
        slope = 0.02 if self.kind in ("bus", "truck") else 0.09
        roof = front - body.hood - body.screen
        last = back + body.boot + body.back
        corners = np.array(
            [
                (front - 0.10 * rounding, body.sill),
                (front, body.sill + 0.42 * (self.nose - body.sill)),
                (front - slope, self.nose),
                (front - max(body.hood, slope + 0.03), body.belt + 0.02),
                (roof, body.height - 0.04),
                (0.55 * roof + 0.45 * last, body.height),
                (last, body.height - (0.02 if self.boxy else 0.06)),
                (back + max(body.boot, 0.045), body.belt + 0.01),
                (back + min(0.03, body.boot / 2), self.tail - 0.05),
                (back, body.sill + 0.45 * (self.tail - body.sill)),
                (back + 0.08 * rounding, body.sill),
            ]
        )
        radii = rounding * np.array([0.12, 0.2, 0.24, 0.10, 0.22, 0.8, 0.26, 0.08, 0.12, 0.2, 0.12])
        crown = rounding * np.array([0.0, 0.02, 0.05, 0.08, 0.05, 0.05, 0.05, 0.03, 0.03, 0, 0])
        edge = 0.07 if self.kind == "truck" else 0.11
        bend = Bend(edge, body.bow, 0.6 * body.bow, tuple(crown.tolist()))
        middle = body.sill + 0.75 * (body.belt - body.sill)
        return Loft(corners, radii, self.half_width, bend, middle)

    def pillar(self, share: float, height: float | np.ndarray) -> Any:
        """x on the way from the windscreen (0) to the rear window (1) at a share of the height."""
        body = self.body
        first = self.front - body.hood - body.screen * np.asarray(height) - 0.10
        edge = 0.06 if self.boxy else 0.16
        last = self.back + body.boot + body.back * np.asarray(height) + edge
        return first + (last - first) * share

    def wheel_center(self, axle: float) -> np.ndarray:
        """The middle of a left wheel's outer face."""
        if self.kind == "truck" and axle < self.back:
            return np.array([axle, self.body.width / 2 - 0.02, self.body.wheel])
        center = self.shell.on_flank(axle, self.body.wheel)
        return np.array([axle, center[1] + 0.012, self.body.wheel])

    @property
    def arch_radius(self) -> float:
        return self.body.wheel * 1.15

    def load(self) -> tuple[np.ndarray, np.ndarray]:
        """Lowest and highest corner of a truck's load space."""
        body = self.body
        low = np.array([self.rear, -body.width / 2, 2 * body.wheel + 0.12])
        high = np.array([self.back - 0.12, body.width / 2, body.height * 1.08])
        return low, high


def box_loft(low: np.ndarray, high: np.ndarray, edge: float = 0.04) -> Loft:
    """A box with rounded edges between two corners."""
    corners = np.array([(high[0], low[2]), (high[0], high[2]), (low[0], high[2]), (low[0], low[2])])
    half = float(high[1])
    constant: HalfWidth = lambda x, z: np.full(np.broadcast(x, z).shape, half)  # noqa: E731
    middle = float(low[2] + high[2]) / 2
    return Loft(corners, np.full(4, edge), constant, Bend(edge, 0, 0, (0, 0, 0, 0)), middle)


class Strip:
    """Positions on the strip: shares of the half width, and shares between two corners."""

    def __init__(self, shells: Shells) -> None:
        self.shells = shells
        self.half = shells.body.width / 2

    def y(self, share: float) -> float:
        return share * self.half

    def way(self, first: int, last: int, share: float) -> float:
        start, end = self.shells.shell.way(first), self.shells.shell.way(last)
        return start + share * (end - start)

    def patch(self, y: Pair, marks: tuple[int, int], s: Pair) -> np.ndarray:
        """A rectangle ``[4, 2]``: shares across, and along between two corners."""
        low, high = (self.way(*marks, share) for share in s)
        left, right = (self.y(share) for share in y)
        return np.array([(left, low), (right, low), (right, high), (left, high)])


class Corner:
    """Where a lamp's outline lies at one end of the strip, of so many shares of its half width.

    ``side`` is 1 on the vehicle's left, -1 on its right. Across, 0 is the lamp's inner end and 1
    the vehicle's corner; along, 0 is the first of the two ways and 1 the other.
    """

    def __init__(self, strip: Strip, side: int, wide: float, way: Pair) -> None:
        self._inner, self._outer = strip.y(side * (1 - wide)), strip.y(side)
        self._first, self._last = way

    def points(self, shares: ArrayLike) -> np.ndarray:
        """Points ``[K, 2]`` of the strip from shares ``[K, 2]`` across and along."""
        low, high = (self._inner, self._first), (self._outer, self._last)
        return np.asarray(shares) * np.subtract(high, low) + low

    def spot(self, across: float, along: float) -> Pair:
        x, s = self.points([(across, along)])[0].tolist()
        return x, s
