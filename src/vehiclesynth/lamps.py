"""Head, fog and rear lamps: their outlines, and what is in them."""

from __future__ import annotations

import numpy as np

from .body import BACK_FOOT, BUMPER, FRONT_LOW, NOSE, REAR_HEADER, REAR_LOW, TAIL, Corner, Strip
from .chance import pick
from .chart import BLACK, CHROME, LENS, RED_LENS, Chart, Matter, Pair
from .look import Look

HEADLAMP = Matter((0.5, 0.51, 0.5), 0.6, 0, 1.0)
AMBER = Matter((0.5, 0.2, 0.02), 0.5, 0, 0.2)
_LED = Matter((0.75, 0.77, 0.8), 0.5, 0, 1.0)
# Outlines: across 0 is the inner end and 1 the vehicle's corner, up 0 the lower edge and 1 the
# upper one. What lies beyond 1 goes on round the corner.
_HEADLAMPS = {
    "swept": ((0, 0.25), (0.5, 0), (1.3, 0.3), (1.3, 1.1), (0.05, 0.75)),
    "leaf": ((0, 0.4), (0.45, 0.12), (1.3, 0.55), (1.3, 1.15), (0.5, 0.85)),
    "block": ((0, 0.05), (1.3, 0.05), (1.3, 0.95), (0, 0.95)),
    "wedge": ((0, 0.6), (0.3, 0.35), (1.3, 0.0), (1.3, 1.0), (0, 0.85)),
    "drop": ((0, 0.45), (0.2, 0.1), (0.7, -0.1), (1.3, 0.15), (1.3, 1.1), (0.35, 0.9)),
    "tall": ((0.35, -0.15), (0.9, -0.15), (1.3, 0.3), (1.3, 1.35), (0.6, 1.1)),
    "claw": ((0, 0.7), (0.5, 0.5), (0.6, 0), (1.3, 0), (1.3, 1.0), (0, 0.92)),
    "slit": ((-0.1, 0.66), (1.3, 0.5), (1.3, 0.9), (-0.1, 0.86)),
    "bow": ((0, 0.1), (0.6, 0.3), (1.3, 0.8), (1.3, 1.2), (0.6, 0.95), (0.05, 0.6)),
}
_HEAD_FAMILIES = (*_HEADLAMPS, "round", "twin", "split", "stack")
_SIGNATURES = {
    "none": (),
    "brow": ((0.1, 0.74), (0.6, 0.84), (1.2, 0.95)),
    "hook": ((0.15, 0.7), (0.2, 0.32), (1.0, 0.25)),
    "ell": ((0.95, 0.9), (0.9, 0.3), (0.35, 0.22)),
    "arrow": ((0.3, 0.75), (0.85, 0.5), (0.4, 0.25)),
    "base": ((0.2, 0.22), (1.15, 0.36)),
}
_BULBS = {1: (0.45,), 2: (0.32, 0.72), 3: (0.22, 0.5, 0.78)}


def paint_headlamps(chart: Chart, strip: Strip, look: Look) -> None:
    rng, trim = look.of_model(12), look.of_version(12)
    family = pick(rng, _HEAD_FAMILIES)
    wide, tall = rng.uniform(0.34, 0.52), rng.uniform(0.42, 0.75)
    top = rng.uniform(0.95, 1.1)
    way = strip.way(BUMPER, NOSE, top - tall), strip.way(BUMPER, NOSE, top)
    dim = 1 - 0.5 * max(look.wear - 0.4, 0)  # old lenses are yellow
    lens = Matter((LENS.color[0] * dim, LENS.color[1] * dim, LENS.color[2] * dim**3), LENS.coat)
    dark = lens.tinted(float(trim.choice([0.12, 0.35, 0.8], p=[0.35, 0.3, 0.35])))
    signature = pick(trim, tuple(_SIGNATURES))
    bulbs = _BULBS[int(trim.choice([1, 2, 3], p=[0.3, 0.5, 0.2]))]
    square = trim.random() < 0.25
    amber = int(rng.integers(4))
    for side in (-1, 1):
        place = Corner(strip, side, wide, way)
        size = 0.33 * (way[1] - way[0])
        if family in ("round", "twin", "stack"):
            _paint_round_headlamp(chart, place, family, lens, size)
        else:
            outline = _HEADLAMPS["slit" if family == "split" else family]
            shape = place.points(outline)
            middle = shape.mean(axis=0)
            chart.area(shape, BLACK)
            chart.area(middle + (shape - middle) * [0.95, 0.88], lens)
            chart.area(middle + (shape - middle) * [0.8, 0.66], dark)
            low, high = _reach(outline)
            up = 0.5 * (low + high)
            for bulb in bulbs:
                spot = place.spot(bulb, up)
                radius = min(size, 0.085, 0.5 * (high - low) * (way[1] - way[0]))
                _paint_bulb(chart, spot, radius, square=square)
            if signature != "none":
                line = np.array(_SIGNATURES[signature]) * [1, high - low] + [0, low]
                chart.line(place.points(line), 0.028, _LED)
            if amber < 3:
                spot = place.spot((0.95, 0.12, 0.6)[amber], up - (0.0, 0.0, 0.28)[amber])
                chart.disc(spot, (0.035, 0.4 * size), AMBER)
        if family == "split":
            below = strip.way(FRONT_LOW, BUMPER, 0.86)
            spot = (place.spot(0.5, 0)[0], below)
            chart.disc(spot, (0.13, 0.10), BLACK)
            _paint_bulb(chart, spot, 0.075, square=square)
    _paint_fog_lamps(chart, strip, look)


def _reach(outline: tuple[Pair, ...]) -> Pair:
    """Lower and upper edge of an outline near its middle."""
    points = np.array(outline)
    dense = np.concatenate(
        [np.linspace(a, b, 9) for a, b in zip(points, np.roll(points, -1, axis=0), strict=True)]
    )
    near = dense[np.abs(dense[:, 0] - 0.5) < 0.2, 1]
    return float(near.min()), float(near.max())


def _paint_round_headlamp(
    chart: Chart, place: Corner, family: str, lens: Matter, size: float
) -> None:
    spots = {
        "round": ((0.55, 0.5, 1.35),),
        "twin": ((0.25, 0.5, 1.0), (0.78, 0.52, 1.15)),
        "stack": ((0.6, 0.9, 0.85), (0.6, 0.2, 0.95)),
    }[family]
    for across, up, large in spots:
        spot, radius = place.spot(across, up), min(large * size, 0.12)
        chart.disc(spot, 1.2 * radius, CHROME)
        chart.disc(spot, radius, lens)
        chart.disc(spot, 0.62 * radius, HEADLAMP)
    chart.disc(place.spot(1.02, 0.4), (0.05, 0.05), AMBER)


def _paint_bulb(chart: Chart, spot: Pair, radius: float, *, square: bool) -> None:
    if square:
        (x, s), r = spot, 0.85 * radius
        chart.rect((x - r, x + r), (s - r, s + r), CHROME)
        chart.rect((x - 0.7 * r, x + 0.7 * r), (s - 0.7 * r, s + 0.7 * r), HEADLAMP)
    else:
        chart.disc(spot, radius, CHROME)
        chart.disc(spot, 0.68 * radius, HEADLAMP)


def _paint_fog_lamps(chart: Chart, strip: Strip, look: Look) -> None:
    rng, trim = look.of_model(17), look.of_version(17)
    family = pick(rng, ("round", "square", "line", "upright", "none"))
    across, up = rng.uniform(0.72, 0.84), rng.uniform(0.35, 0.6)
    fitted, chrome = trim.random() < 0.75, trim.random() < 0.3
    lamp = Matter(LENS.color, 0.7, 0, 0.35)
    for side in (-1, 1):
        x, s = strip.y(side * across), strip.way(FRONT_LOW, BUMPER, up)
        if family in ("round", "square"):
            chart.disc((x, s), (0.15, 0.095), CHROME if chrome else BLACK)
            chart.disc((x, s), (0.13, 0.08), BLACK)
        if not fitted:
            continue
        if family == "round":
            chart.disc((x, s), 0.055, lamp)
        if family == "square":
            chart.rect((x - 0.08, x + 0.08), (s - 0.035, s + 0.035), lamp)
        if family == "line":
            chart.line([(x - 0.15, s), (x + 0.13, s + 0.03)], 0.035, _LED)
        if family == "upright":
            frame = [(x - 0.05, s - 0.14), (x + 0.05, s - 0.14), (x + 0.05, s + 0.16)]
            chart.area([*frame, (x, s + 0.16)], BLACK)
            chart.line([(x, s - 0.1), (x, s + 0.12)], 0.035, _LED)


_Outline = tuple[Pair, ...]
BRAKE_LAMP = Matter((0.5, 0.02, 0.02), 0.5, 0, 0.8)
_WHITE_LENS = Matter((0.5, 0.5, 0.5), 0.6)
_AMBER_LENS = Matter((0.45, 0.2, 0.03), 0.5)
_SMOKED = Matter((0.06, 0.008, 0.008), 0.6)
_CLEAR = Matter((0.35, 0.3, 0.3), 0.65)
# Outlines: across 0 is the inner end and 1 the corner, down 0 the upper edge and 1 the lower one.
_LYING: dict[str, _Outline] = {
    "block": ((0, 0.1), (1.2, 0), (1.2, 1), (0, 0.9)),
    "wedge": ((0, 0.05), (1.2, 0), (1.2, 1.1), (0.45, 0.75)),
    "claw": ((-0.2, 0.15), (1.2, -0.1), (1.2, 1), (0.55, 0.95), (0.5, 0.5), (-0.2, 0.4)),
    "arrow": ((-0.15, 0.45), (0.5, 0), (1.2, 0), (1.2, 0.9), (0.5, 0.9)),
    "slim": ((-0.3, 0.2), (1.2, 0.05), (1.2, 0.5), (-0.3, 0.45)),
    "fan": ((0.2, -0.1), (1.2, -0.25), (1.2, 1.2), (0.55, 1.1)),
    "notch": ((0, 0), (1.2, 0), (1.2, 0.9), (0.35, 0.9), (0.35, 0.6), (0, 0.55)),
    "shelf": ((-0.1, 0.0), (1.2, 0.0), (1.2, 1.3), (0.7, 1.3), (0.65, 0.5), (-0.1, 0.45)),
}
_STANDING: dict[str, _Outline] = {
    "tower": ((0.25, -0.6), (1.2, -0.6), (1.2, 1), (0.25, 0.9)),
    "pillar": ((0.55, -1.3), (1.2, -1.5), (1.2, 0.9), (0.5, 0.9)),
    "low": ((0, 0.1), (1.2, 0), (1.2, 1), (0, 1)),
    "hook": ((0.5, -0.7), (1.2, -0.8), (1.2, 1), (-0.5, 1), (-0.5, 0.6), (0.5, 0.5)),
    "crook": ((-0.5, -0.2), (1.2, -0.35), (1.2, 1.0), (0.55, 1.0), (0.5, 0.3), (-0.5, 0.15)),
    "stair": ((0.6, -0.8), (1.2, -0.9), (1.2, 0.9), (0, 0.9), (0, 0.4), (0.6, 0.35)),
    "drop": ((0.5, -0.6), (1.2, -0.4), (1.2, 1.1), (0.15, 0.8), (0.1, 0.3)),
    "wedge": ((-0.4, 0.2), (1.2, -0.4), (1.2, 0.8), (-0.2, 0.75)),
}
_LID = ((-0.9, 0.15), (-0.1, 0.1), (-0.1, 0.85), (-0.8, 0.8))
_SHARED = ("across", "round", "pairs", "split")
_GLOWS: dict[str, _Outline] = {
    "core": (),
    "bars": ((0.15, 0.3), (1.1, 0.3), (1.1, 0.62), (0.15, 0.62)),
    "brow": ((0.1, 0.2), (1.15, 0.15), (1.15, 0.85)),
    "hook": ((1.0, 0.1), (1.0, 0.8), (0.3, 0.82)),
    "ring": ((0.3, 0.2), (1.1, 0.2), (1.1, 0.8), (0.3, 0.8), (0.3, 0.2)),
}


def paint_rear_lamps(chart: Chart, strip: Strip, look: Look) -> None:
    rng, trim = look.of_model(24), look.of_version(24)
    upright = look.kind in ("suv", "van", "mpv", "hatchback", "estate", "pickup", "bus")
    outlines = _STANDING if upright else _LYING
    family = pick(rng, (*outlines, *_SHARED))
    tall = rng.uniform(0.3, 0.5) if upright else rng.uniform(0.24, 0.36)
    wide = rng.uniform(0.14, 0.26) if upright else rng.uniform(0.26, 0.44)
    first = rng.uniform(-0.1, 0.05) if upright else rng.uniform(0.0, 0.06)
    way = strip.way(TAIL, REAR_LOW, first), strip.way(TAIL, REAR_LOW, first + tall)
    lens = (RED_LENS, _SMOKED, _CLEAR)[int(trim.choice(3, p=[0.7, 0.18, 0.12]))]
    rim = CHROME if trim.random() < 0.2 else BLACK
    inside = pick(trim, tuple(_GLOWS)), 0.72 if rng.random() < 0.5 else 0.2, rng.integers(3)
    if family == "across":
        s = way[0] + 0.25 * (way[1] - way[0])
        half, thick = strip.y(0.95), 0.15 * (way[1] - way[0])
        chart.rect((-half, half), (s - thick, s + thick), rim)
        chart.rect((-half + 0.02, half - 0.02), (s - thick + 0.015, s + thick - 0.015), lens)
        chart.line([(-half, s), (half, s)], 0.025, BRAKE_LAMP)
    for side in (-1, 1):
        place = Corner(strip, side, wide, way)
        if family in ("round", "pairs"):
            _paint_round_rear_lamp(chart, place, lens, pairs=family == "pairs", upright=upright)
            continue
        if family == "split":  # the lid has a part of its own
            _paint_lens(chart, place, _LID, rim, lens)
        outline = outlines.get(family, outlines["low" if upright else "block"])
        _paint_lens(chart, place, outline, rim, lens)
        _paint_inside(chart, place, outline, *inside)
    if rng.random() < 0.7:
        s = strip.way(REAR_HEADER, BACK_FOOT, 0.04)
        half = rng.uniform(0.1, 0.3)
        chart.rect((-half, half), (s - 0.015, s + 0.015), BRAKE_LAMP)


def _paint_lens(chart: Chart, place: Corner, outline: _Outline, rim: Matter, lens: Matter) -> None:
    lamp = place.points(outline)
    middle = lamp.mean(axis=0)
    chart.area(lamp, rim)
    chart.area(middle + 0.92 * (lamp - middle), lens)


def _paint_inside(
    chart: Chart, place: Corner, outline: _Outline, glow: str, at: float, lenses: int
) -> None:
    """What glows when it brakes, and the white and amber parts at that share of the height."""
    if glow == "core":
        lamp = place.points(outline)
        middle = lamp.mean(axis=0)
        chart.area(middle + (lamp - middle) * [0.62, 0.55], BRAKE_LAMP)
    else:
        chart.line(place.points(_GLOWS[glow]), 0.032, BRAKE_LAMP)
    if lenses < 2:
        box = ((0.2, at), (0.75, at), (0.75, at + 0.16), (0.2, at + 0.16))
        chart.area(place.points(box), _WHITE_LENS)
    if lenses != 1:
        box = ((0.8, at), (1.2, at), (1.2, at + 0.18), (0.8, at + 0.18))
        chart.area(place.points(box), _AMBER_LENS)


def _paint_round_rear_lamp(
    chart: Chart, place: Corner, lens: Matter, *, pairs: bool, upright: bool
) -> None:
    spots = ((0.75, 0.1), (0.75, 0.8)) if upright else ((0.75, 0.5), (0.1, 0.5))
    for number, spot in enumerate(spots if pairs or upright else spots[:1]):
        middle, radius = place.spot(*spot), 0.075 if pairs else 0.095
        chart.disc(middle, 1.2 * radius, BLACK if pairs else CHROME)
        chart.disc(middle, radius, lens)
        chart.disc(middle, 0.6 * radius, _WHITE_LENS if number else BRAKE_LAMP)
