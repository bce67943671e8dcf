"""Who a vehicle is: proportions by body type, paint, and the details that tell it from its like."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np

from ..vehicle.attributes import COLORS, TYPES

RGB = tuple[float, float, float]


@dataclass(frozen=True)
class Body:
    """Proportions in metres; x points forward, y to the vehicle's left, z up from the ground.

    Attributes:
        length, width, height: of the whole vehicle.
        belt: height of the line on which the windows stand.
        sill, nose, tail: height of the lower edge, of the bonnet's front and of the boot's rear.
        hood, screen: from the front to the windscreen's foot, and on to its top.
        boot, back: from the rear to the rear window's foot, and on to its top.
        wheel: radius.
        front_axle, rear_axle: distance from the front and from the rear.
        tumble: how much the roof is narrower than the waist, on each side.
    """

    length: float
    width: float
    height: float
    belt: float
    sill: float
    nose: float
    tail: float
    hood: float
    screen: float
    boot: float
    back: float
    wheel: float
    front_axle: float
    rear_axle: float
    tumble: float


# The middle of each measure, by body type in the order of TYPES.
_BODIES = {
    #            sedan     suv     van  hatchb     mpv  pickup     bus   truck  estate
    "length":     (4.75,   4.55,   5.10,   3.85,   4.65,   5.30,   9.60,   7.20,   4.85),
    "width":      (1.82,   1.93,   1.98,   1.72,   1.84,   1.90,   2.50,   2.25,   1.82),
    "height":     (1.44,   1.80,   2.28,   1.50,   1.72,   1.82,   3.10,   2.50,   1.47),
    "belt":       (0.92,   1.10,   1.26,   0.94,   0.98,   1.14,   1.42,   1.52,   0.92),
    "sill":       (0.25,   0.36,   0.30,   0.25,   0.25,   0.42,   0.34,   0.52,   0.25),
    "nose":       (0.68,   0.96,   0.86,   0.70,   0.72,   1.00,   0.98,   1.10,   0.68),
    "tail":       (0.86,   0.86,   0.80,   0.80,   0.80,   1.12,   0.94,   1.00,   0.84),
    "hood":       (1.25,   1.15,   0.62,   0.88,   0.72,   1.22,   0.10,   0.10,   1.25),
    "screen":     (0.80,   0.52,   0.72,   0.72,   1.10,   0.62,   0.16,   0.24,   0.78),
    "boot":       (0.72,   0.06,   0.03,   0.08,   0.06,   1.80,   0.04,   0.04,   0.06),
    "back":       (0.72,   0.22,   0.06,   0.52,   0.24,   0.10,   0.06,   0.04,   0.42),
    "wheel":      (0.33,   0.40,   0.35,   0.32,   0.34,   0.41,   0.50,   0.46,   0.33),
    "front_axle": (0.92,   0.86,   0.92,   0.74,   0.88,   0.92,   2.10,   1.25,   0.92),
    "rear_axle":  (1.05,   0.86,   1.05,   0.60,   0.82,   1.15,   2.60,   1.50,   1.05),
    "tumble":     (0.20,   0.13,   0.10,   0.17,   0.15,   0.14,   0.07,   0.08,   0.19),
}  # fmt: skip

# Hue, saturation and value: the middle and how far a vehicle may be from it.
_PAINTS = {
    "yellow": ((0.135, 0.90, 0.95), (0.015, 0.10, 0.05)),
    "orange": ((0.055, 0.92, 0.92), (0.015, 0.08, 0.07)),
    "green": ((0.380, 0.70, 0.42), (0.050, 0.20, 0.15)),
    "gray": ((0.600, 0.05, 0.47), (0.100, 0.04, 0.11)),
    "red": ((0.990, 0.90, 0.70), (0.012, 0.08, 0.14)),
    "blue": ((0.610, 0.80, 0.55), (0.030, 0.15, 0.20)),
    "white": ((0.120, 0.02, 0.95), (0.080, 0.02, 0.04)),
    "golden": ((0.112, 0.47, 0.68), (0.012, 0.08, 0.07)),
    "brown": ((0.055, 0.62, 0.33), (0.020, 0.10, 0.07)),
    "black": ((0.600, 0.10, 0.07), (0.200, 0.10, 0.035)),
}


@dataclass(frozen=True)
class Sticker:
    """A patch on one face: ``u`` and ``v`` in 0..1 along and up the face, sizes in metres."""

    face: str
    u: float
    v: float
    width: float
    height: float
    color: RGB
    stripes: int


@dataclass(frozen=True)
class Wheel:
    """Rims: how many spokes of which width (share of the gap), rim's share of the radius."""

    spokes: int
    spoke_share: float
    rim_share: float
    color: RGB


@dataclass(frozen=True)
class Vehicle:
    """One identity. Two vehicles of the same type and colour differ by all the rest.

    Attributes:
        type_id, color_id: raw label ids, 1..9 and 1..10.
        body: proportions.
        paint: the exact shade; colours are R, G, B in 0..1.
        second: the other paint, used by ``two_tone``.
        two_tone: "", "roof", "skirt" or "bonnet": what wears the second paint.
        trim: bumper strips, mirrors, window frames.
        grille: height and width as shares of the front, and colour.
        lamps: height and width of the head lamps as shares of the front; height of the rear lamps.
        glass: how dark the windows are, 0..1.
        roof: "", "rails", "box", "sign" or "beacon".
        sunroof, spoiler, window_frames: whether it has them.
        cargo: a van's closed sides, a truck's "box", "tarp" or "flat".
        cargo_paint: a truck's load space.
        plate: its colour.
    """

    type_id: int
    color_id: int
    body: Body
    paint: RGB
    second: RGB
    two_tone: str
    trim: RGB
    wheel: Wheel
    grille: tuple[float, float, RGB]
    lamps: tuple[float, float, float]
    glass: float
    roof: str
    sunroof: bool
    spoiler: bool
    window_frames: bool
    cargo: str
    cargo_paint: RGB
    plate: RGB
    stickers: tuple[Sticker, ...]
    dents: tuple[Sticker, ...]

    @property
    def type_name(self) -> str:
        return TYPES[self.type_id - 1]

    @property
    def color_name(self) -> str:
        return COLORS[self.color_id - 1]


def draw_vehicle(rng: np.random.Generator, type_id: int, color_id: int) -> Vehicle:
    """Draw one identity of that type (1..9) and colour (1..10)."""
    kind, color = TYPES[type_id - 1], COLORS[color_id - 1]
    paint = _paint(rng, color)
    second = _paint(rng, str(rng.choice(["white", "black", "gray", "golden", "red", "blue"])))
    dark = _gray(rng, 0.05, 0.16)
    return Vehicle(
        type_id=type_id,
        color_id=color_id,
        body=_draw_body(rng, type_id - 1),
        paint=paint,
        second=second,
        two_tone=_pick(rng, {"": 0.62, "roof": 0.16, "skirt": 0.14, "bonnet": 0.08}),
        trim=_choose(rng, (dark, dark, paint, _gray(rng, 0.7, 0.9))),
        wheel=Wheel(
            spokes=int(rng.integers(4, 11)),
            spoke_share=rng.uniform(0.25, 0.7),
            rim_share=rng.uniform(0.58, 0.76),
            color=_choose(rng, (_gray(rng, 0.6, 0.9), _gray(rng, 0.6, 0.9), _gray(rng, 0.1, 0.35))),
        ),
        grille=(rng.uniform(0.18, 0.4), rng.uniform(0.35, 0.7), _gray(rng, 0.03, 0.3)),
        lamps=(rng.uniform(0.15, 0.28), rng.uniform(0.2, 0.34), rng.uniform(0.2, 0.6)),
        glass=rng.uniform(0.04, 0.22),
        roof=_pick(rng, {"": 0.6, **_roof_extras(kind)}),
        sunroof=bool(rng.random() < 0.25)
        and kind in ("sedan", "suv", "hatchback", "estate", "mpv"),
        spoiler=bool(rng.random() < 0.25) and kind in ("sedan", "hatchback", "suv"),
        window_frames=bool(rng.random() < 0.35),
        cargo=_cargo(rng, kind),
        cargo_paint=_choose(rng, (_gray(rng, 0.75, 0.95), _gray(rng, 0.45, 0.7), paint, paint)),
        plate=_choose(rng, ((0.15, 0.3, 0.75), (0.95, 0.95, 0.92), (0.92, 0.78, 0.2))),
        stickers=_stickers(rng, kind),
        dents=_dents(rng),
    )


def _draw_body(rng: np.random.Generator, index: int) -> Body:
    factors = rng.uniform(0.955, 1.045, len(_BODIES)).tolist()
    named = zip(_BODIES.items(), factors, strict=True)
    return Body(**{name: values[index] * factor for (name, values), factor in named})


def _paint(rng: np.random.Generator, color: str) -> RGB:
    middle, spread = _PAINTS[color]
    hue, saturation, value = rng.uniform(-1, 1, 3) * spread + middle
    return colorsys.hsv_to_rgb(hue % 1, min(max(saturation, 0), 1), min(max(value, 0), 1))


def _gray(rng: np.random.Generator, low: float, high: float) -> RGB:
    value = rng.uniform(low, high)
    return (value, value, value * 1.02)


def _pick(rng: np.random.Generator, weights: dict[str, float]) -> str:
    shares = np.array(list(weights.values()))
    return list(weights)[int(rng.choice(len(shares), p=shares / shares.sum()))]


def _choose(rng: np.random.Generator, options: tuple[RGB, ...]) -> RGB:
    return options[int(rng.integers(len(options)))]


def _roof_extras(kind: str) -> dict[str, float]:
    if kind in ("bus", "truck"):
        return {"box": 0.2, "beacon": 0.2}
    if kind == "sedan":
        return {"sign": 0.15, "beacon": 0.05, "rails": 0.08}
    return {"rails": 0.25, "box": 0.08, "beacon": 0.04}


def _cargo(rng: np.random.Generator, kind: str) -> str:
    if kind == "van":
        return _pick(rng, {"closed": 0.6, "windows": 0.4})
    if kind == "truck":
        return _pick(rng, {"box": 0.55, "tarp": 0.25, "flat": 0.2})
    return ""


def _stickers(rng: np.random.Generator, kind: str) -> tuple[Sticker, ...]:
    large = kind in ("van", "bus", "truck")
    count = int(rng.integers(1, 4)) if large else int(rng.integers(0, 3))
    return tuple(
        Sticker(
            face=str(rng.choice(["left", "right", "both", "bonnet", "rear"])),
            u=rng.uniform(0.15, 0.75),
            v=rng.uniform(0.35, 0.75),
            width=rng.uniform(0.25, 1.6 if large else 0.7),
            height=rng.uniform(0.08, 0.5 if large else 0.3),
            color=_paint(rng, str(rng.choice(COLORS))),
            stripes=int(rng.integers(1, 5)),
        )
        for _ in range(count)
    )


def _dents(rng: np.random.Generator) -> tuple[Sticker, ...]:
    count = int(rng.choice([0, 0, 0, 1, 2]))
    return tuple(
        Sticker(
            face=str(rng.choice(["left", "right", "bonnet", "rear"])),
            u=rng.uniform(0.1, 0.85),
            v=rng.uniform(0.2, 0.7),
            width=rng.uniform(0.12, 0.45),
            height=rng.uniform(0.08, 0.25),
            color=_gray(rng, 0.12, 0.4),
            stripes=1,
        )
        for _ in range(count)
    )
