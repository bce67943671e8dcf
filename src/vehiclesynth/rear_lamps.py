"""Rear lamps: their outlines on the corners or right across, and what is in them."""

from __future__ import annotations

from .body import BACK_FOOT, REAR_HEADER, REAR_LOW, TAIL
from .chart import BLACK, CHROME, RED_LENS, Chart, Matter
from .look import Look
from .strip import Corner, Strip

_Outline = tuple[tuple[float, float], ...]
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
    family = str(rng.choice([*outlines, *_SHARED]))
    tall = rng.uniform(0.3, 0.5) if upright else rng.uniform(0.24, 0.36)
    wide = rng.uniform(0.14, 0.26) if upright else rng.uniform(0.26, 0.44)
    first = rng.uniform(-0.1, 0.05) if upright else rng.uniform(0.0, 0.06)
    way = strip.way(TAIL, REAR_LOW, first), strip.way(TAIL, REAR_LOW, first + tall)
    lens = (RED_LENS, _SMOKED, _CLEAR)[int(trim.choice(3, p=[0.7, 0.18, 0.12]))]
    rim = CHROME if trim.random() < 0.2 else BLACK
    inside = str(trim.choice(list(_GLOWS))), 0.72 if rng.random() < 0.5 else 0.2, rng.integers(3)
    if family == "across":
        s = way[0] + 0.25 * (way[1] - way[0])
        half, thick = strip.y(0.95), 0.15 * (way[1] - way[0])
        chart.rect((-half, half), (s - thick, s + thick), rim)
        chart.rect((-half + 0.02, half - 0.02), (s - thick + 0.015, s + thick - 0.015), lens)
        chart.line([(-half, s), (half, s)], 0.025, BRAKE_LAMP)
    for side in (-1, 1):
        place = Corner(strip, side, wide, way)
        if family in ("round", "pairs"):
            _paint_round(chart, place, lens, pairs=family == "pairs", upright=upright)
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


def _paint_round(chart: Chart, place: Corner, lens: Matter, *, pairs: bool, upright: bool) -> None:
    spots = ((0.75, 0.1), (0.75, 0.8)) if upright else ((0.75, 0.5), (0.1, 0.5))
    for number, spot in enumerate(spots if pairs or upright else spots[:1]):
        middle, radius = place.spot(*spot), 0.075 if pairs else 0.095
        chart.disc(middle, 1.2 * radius, BLACK if pairs else CHROME)
        chart.disc(middle, radius, lens)
        chart.disc(middle, 0.6 * radius, _WHITE_LENS if number else BRAKE_LAMP)
