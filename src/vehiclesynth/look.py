"""Who a vehicle is: type, colour, proportions, paint, and what tells it from its like."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from multitasknet.vehicle.attributes import COLORS, TYPES

from .body import Body, draw_body
from .chart import BLACK, CHROME, PLASTIC, RGB, Matter

# CIE L*, a*, b* of the paint in full light: the middle, and how far a vehicle may be from it.
# What crops show is darker: doors see half of the sky.
_PAINTS = {
    "yellow": ((55, 2, 34), (8, 4, 14)),
    "orange": ((40, 15, 23), (8, 9, 10)),
    "green": ((33, -4, 0), (12, 6, 6)),
    "gray": ((57, -1, -4), (11, 1, 3)),
    "red": ((34, 31, 14), (8, 10, 8)),
    "blue": ((28, 1, -11), (10, 5, 9)),
    "white": ((90, -1, 1), (5, 1, 3)),
    "golden": ((61, 1, 6), (7, 2, 5)),
    "brown": ((41, 4, 2), (10, 4, 5)),
    "black": ((8, 0, -2), (5, 1, 2)),
}


# From CIE X, Y, Z of daylight D65 to linear sRGB (IEC 61966-2-1), and that light's own X, Y, Z.
_RGB_OF_XYZ = np.array(
    [[3.2406, -1.5372, -0.4986], [-0.9689, 1.8758, 0.0415], [0.0557, -0.2040, 1.0570]]
)
_DAYLIGHT = np.array([0.9505, 1.0, 1.089])


@dataclass(frozen=True)
class Look:
    """One identity. Two vehicles of the same type and colour differ by all the rest.

    Attributes:
        type_id, color_id: raw label ids, 1..9 and 1..10.
        body: proportions.
        paint, second: the paint, and the other one of ``two_tone``.
        two_tone: "", "roof", "skirt", "bonnet" or "taxi" (the upper half): what wears the second.
        trim: bumper strips, mirrors, rails.
        frame: round the windows.
        tint: how much light the glass lets back out, 0..1, in front and in the rear.
        screen: how much the windscreen mirrors, as ``Matter.coat``.
        plate: its colour.
        dirt: 0..1.
        details: seed of all that is drawn on it.
    """

    type_id: int
    color_id: int
    body: Body
    paint: Matter
    second: Matter
    two_tone: str
    trim: Matter
    frame: Matter
    tint: tuple[float, float]
    screen: float
    plate: Matter
    dirt: float
    details: int

    @property
    def kind(self) -> str:
        return TYPES[self.type_id - 1]

    def rng(self, room: int) -> np.random.Generator:
        """The source of what is drawn in one room of the vehicle, whatever the others draw."""
        return np.random.default_rng((self.details, room))


def draw_look(rng: np.random.Generator, type_id: int, color_id: int) -> Look:
    """Draw one identity of that type (1..9) and colour (1..10)."""
    kind, color = TYPES[type_id - 1], COLORS[color_id - 1]
    paint = draw_paint(rng, color)
    second = draw_paint(rng, str(rng.choice(["white", "gray", "golden", "green", "blue", "black"])))
    plates = (
        (Matter((0.01, 0.01, 0.012)), 0.35),  # masked
        (Matter((0.02, 0.06, 0.33), 0.15), 0.45),
        (Matter((0.75, 0.76, 0.72), 0.15), 0.08),
        (Matter((0.62, 0.40, 0.03), 0.15), 0.12),
    )
    return Look(
        type_id=type_id,
        color_id=color_id,
        body=draw_body(rng, kind),
        paint=paint,
        second=second,
        two_tone=_pick(rng, _two_tones(kind)),
        trim=_choose(rng, (PLASTIC, PLASTIC, paint, paint, CHROME)),
        frame=_choose(rng, (BLACK, BLACK, BLACK, CHROME)),
        tint=(rng.uniform(0.5, 1.2), rng.uniform(0.15, 0.9)),
        screen=rng.uniform(0.58, 0.88),
        plate=_choose(rng, tuple(plate for plate, _ in plates), tuple(p for _, p in plates)),
        dirt=float(rng.beta(1.2, 4)),
        details=int(rng.integers(2**31)),
    )


def draw_paint(rng: np.random.Generator, color: str) -> Matter:
    """A paint of that name."""
    middle, spread = _PAINTS[color]
    lab = np.array(middle) + np.array(spread) * rng.normal(0, 0.75, 3).clip(-1.6, 1.6)
    lab[0] = np.clip(lab[0], 5, 96)
    return Matter(linear_of_lab(lab), coat=rng.uniform(0.33, 0.45))


def linear_of_lab(lab: np.ndarray) -> RGB:
    """Linear R, G, B of a CIE L*a*b* colour, clipped to what a paint can be."""
    roots = (lab[0] + 16) / 116 + np.array([lab[1] / 500, 0, -lab[2] / 200])
    xyz = _DAYLIGHT * np.where(roots > 6 / 29, roots**3, (roots - 4 / 29) * 108 / 841)
    red, green, blue = (_RGB_OF_XYZ @ xyz).clip(0.004, 0.9).tolist()
    return red, green, blue


def draw_gray(rng: np.random.Generator, low: float, high: float, coat: float = 0.0) -> Matter:
    """A grey between two linear values."""
    value = rng.uniform(low, high)
    return Matter((value, value, value * 1.02), coat)


def _pick(rng: np.random.Generator, weights: dict[str, float]) -> str:
    shares = np.array(list(weights.values()))
    return list(weights)[int(rng.choice(len(shares), p=shares / shares.sum()))]


def _choose(
    rng: np.random.Generator, options: tuple[Matter, ...], shares: tuple[float, ...] | None = None
) -> Matter:
    return options[int(rng.choice(len(options), p=shares))]


def _two_tones(kind: str) -> dict[str, float]:
    if kind == "sedan":
        return {"": 0.84, "roof": 0.03, "skirt": 0.03, "bonnet": 0.02, "taxi": 0.08}
    if kind in ("bus", "van"):
        return {"": 0.55, "skirt": 0.35, "roof": 0.1}
    return {"": 0.86, "roof": 0.06, "skirt": 0.08}
