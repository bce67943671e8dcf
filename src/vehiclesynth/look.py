"""Who a vehicle is: its model, its paint and trim, and what tells it from others of its model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from multitasknet.vehicle.attributes import COLORS, TYPES

from .body import Body, draw_body
from .chance import Rng, pick
from .chart import BLACK, CHROME, PLASTIC, RGB, Matter
from .lettering import draw_word

# CIE L*, a*, b* of the paint in full light: the middle, and how far a vehicle may be from it.
# What crops show is darker: doors see half of the sky.
_PAINTS = {
    "yellow": ((43, 3, 20), (11, 4, 11)),
    "orange": ((32, 11, 11), (16, 8, 10)),
    "green": ((20, -2, -1), (14, 3, 5)),
    "gray": ((60, 0, -3), (20, 1, 2)),
    "red": ((23, 21, 9), (11, 10, 7)),
    "blue": ((12, 0, -8), (7, 2, 5)),
    "white": ((76, 0, -1), (15, 1, 2)),
    "golden": ((58, 0, 2), (17, 1, 3)),
    "brown": ((36, 4, 1), (13, 4, 4)),
    "black": ((10, 0, -5), (8, 1, 2)),
}
_PLATES = (
    Matter((0.01, 0.01, 0.012)),  # masked
    Matter((0.02, 0.06, 0.33), 0.15),
    Matter((0.75, 0.76, 0.72), 0.15),
    Matter((0.62, 0.40, 0.03), 0.15),
)
_COMPANIES = 40  # as many own taxis, vans, trucks and buses
_PALETTE = (0.7, 0.3)  # how often the paints that a model has by one name are chosen
_VERSIONS = (0.4, 0.3, 0.2, 0.1)  # and its trims

# From CIE X, Y, Z of daylight D65 to linear sRGB (IEC 61966-2-1), and that light's own X, Y, Z.
_RGB_OF_XYZ = np.array(
    [[3.2406, -1.5372, -0.4986], [-0.9689, 1.8758, 0.0415], [0.0557, -0.2040, 1.0570]]
)
_DAYLIGHT = np.array([0.9505, 1.0, 1.089])


@dataclass(frozen=True)
class Company:
    """What all vehicles of an owner wear."""

    name: str  # as it is written on them
    ink: Matter  # of the writing and the sign
    second: Matter  # paint of two-tone vehicles
    style: int  # 0..3, where stripes and blocks are


@dataclass(frozen=True)
class Look:
    """One individual."""

    # raw label ids, 1..9 and 1..10
    type_id: int
    color_id: int
    model: int  # seed of what all of its model have: body, face, rear, wheels to choose from
    version: int  # which of the model's trims it has: lamps, wheels, chrome, rails, sunroof
    details: int  # seed of what is its own: stickers, things behind glass, damage, load
    body: Body  # proportions
    # the paint, and the other one of ``two_tone``
    paint: Matter
    second: Matter
    two_tone: str  # "", "roof", "skirt", "bonnet" or "taxi" (the upper half): what wears the second
    trim: Matter  # bumper strips, mirrors, rails
    frame: Matter  # round the windows
    # how much light the glass lets back out, 0..1, in front and in the rear
    tint: tuple[float, float]
    screen: float  # how much the windscreen mirrors, as ``Matter.coat``
    plate: Matter  # its colour
    wear: float  # 0..1, what age and want of care have done to it, in front and behind
    dirt: float  # 0..1
    company: Company | None  # its owner; None where that is a person

    @property
    def kind(self) -> str:
        return TYPES[self.type_id - 1]

    def rng(self, room: int) -> Rng:
        """The source of its own things in one room of the vehicle, whatever the others draw."""
        return np.random.default_rng((self.details, room))

    def of_model(self, room: int) -> Rng:
        """The source of what is alike in all of the model."""
        return np.random.default_rng((self.model, room))

    def of_version(self, room: int) -> Rng:
        """The source of what is alike in all of the model that have its trim."""
        return np.random.default_rng((self.model, room, 1 + self.version))


def draw_look(rng: Rng, type_id: int, color_id: int, *, model: int | None = None) -> Look:
    """Draw one individual of that type (1..9) and colour (1..10).

    ``model`` is the seed of its model; by default no other is of it.
    """
    kind, color = TYPES[type_id - 1], COLORS[color_id - 1]
    seed = int(rng.integers(2**31)) if model is None else model
    palette = int(rng.choice(len(_PALETTE), p=_PALETTE))
    paint = draw_paint(np.random.default_rng((seed, 1000 + color_id, palette)), color)
    paint = paint.tinted(float(np.exp(rng.normal(0, 0.05))))
    version = int(rng.choice(len(_VERSIONS), p=_VERSIONS))
    trim = np.random.default_rng((seed, 1001, version))
    two_tones = _two_tones(kind)
    two_tone = pick(rng, tuple(two_tones), tuple(two_tones.values()))
    owned = two_tone == "taxi" or rng.random() < _OWNED.get(kind, 0.0)
    company = _company(int(rng.integers(_COMPANIES))) if owned else None
    second = draw_paint(rng, pick(rng, ("white", "gray", "golden", "green", "blue", "black")))
    return Look(
        type_id=type_id,
        color_id=color_id,
        model=seed,
        version=version,
        details=int(rng.integers(2**31)),
        body=draw_body(np.random.default_rng((seed, 1002)), kind),
        paint=paint,
        second=company.second if company else second,
        two_tone=two_tone,
        trim=pick(trim, (PLASTIC, PLASTIC, paint, paint, CHROME)),
        frame=pick(trim, (BLACK, BLACK, BLACK, CHROME)),
        tint=(rng.uniform(0.5, 1.2), rng.uniform(0.15, 0.9)),
        screen=rng.uniform(0.58, 0.88),
        plate=pick(rng, _PLATES, (0.35, 0.45, 0.08, 0.12)),
        wear=float(rng.beta(1.1, 2.5)),
        dirt=float(rng.beta(1.2, 4)),
        company=company,
    )


_OWNED = {"van": 0.5, "truck": 0.65, "bus": 0.9, "pickup": 0.15, "mpv": 0.1}


def _company(number: int) -> Company:
    rng = np.random.default_rng((number, 1003))
    inks = ("red", "blue", "green", "black", "white", "yellow", "orange")
    seconds = ("white", "white", "gray", "golden", "green", "blue", "yellow", "red")
    return Company(
        name=draw_word(rng, int(rng.integers(2, 5))),
        ink=draw_paint(rng, pick(rng, inks)),
        second=draw_paint(rng, pick(rng, seconds)),
        style=int(rng.integers(4)),
    )


def draw_paint(rng: Rng, color: str) -> Matter:
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


def draw_gray(rng: Rng, low: float, high: float, coat: float = 0.0) -> Matter:
    """A grey between two linear values."""
    value = rng.uniform(low, high)
    return Matter((value, value, value * 1.02), coat)


def draw_vivid(rng: Rng) -> Matter:
    """The colour of a sticker, a toy, a cloth."""
    hues = (
        (0.55, 0.03, 0.03),
        (0.6, 0.4, 0.03),
        (0.04, 0.3, 0.08),
        (0.03, 0.12, 0.5),
        (0.6, 0.6, 0.58),
        (0.5, 0.14, 0.3),
        (0.35, 0.2, 0.09),
        (0.015, 0.015, 0.016),
        (0.6, 0.2, 0.02),
        (0.1, 0.4, 0.45),
    )
    return Matter(pick(rng, hues), 0.1).tinted(rng.uniform(0.6, 1.2))


def _two_tones(kind: str) -> dict[str, float]:
    if kind == "sedan":
        return {"": 0.84, "roof": 0.03, "skirt": 0.03, "bonnet": 0.02, "taxi": 0.08}
    if kind in ("bus", "van"):
        return {"": 0.55, "skirt": 0.35, "roof": 0.1}
    return {"": 0.86, "roof": 0.06, "skirt": 0.08}
