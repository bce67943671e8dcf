"""Rear lamps: their outlines on the corners or right across, and what is in them."""

from __future__ import annotations

import numpy as np

from .body import BACK_FOOT, REAR_HEADER, REAR_LOW, TAIL
from .chart import BLACK, CHROME, RED_LENS, Chart, Matter
from .look import Look
from .strip import Strip

BRAKE_LAMP = Matter((0.5, 0.02, 0.02), 0.5, 0, 0.8)
_WHITE_LENS = Matter((0.5, 0.5, 0.5), 0.6)
_AMBER_LENS = Matter((0.45, 0.2, 0.03), 0.5)
_SMOKED = Matter((0.06, 0.008, 0.008), 0.6)
_CLEAR = Matter((0.35, 0.3, 0.3), 0.65)
# Outlines: across 0 is the inner end and 1 the corner, down 0 the upper edge and 1 the lower one.
_LYING = {
    "block": ((0, 0.1), (1.2, 0), (1.2, 1), (0, 0.9)),
    "wedge": ((0, 0.05), (1.2, 0), (1.2, 1.1), (0.45, 0.75)),
    "claw": ((-0.2, 0.15), (1.2, -0.1), (1.2, 1), (0.55, 0.95), (0.5, 0.5), (-0.2, 0.4)),
    "arrow": ((-0.15, 0.45), (0.5, 0), (1.2, 0), (1.2, 0.9), (0.5, 0.9)),
    "slim": ((-0.3, 0.2), (1.2, 0.05), (1.2, 0.5), (-0.3, 0.45)),
    "fan": ((0.2, -0.1), (1.2, -0.25), (1.2, 1.2), (0.55, 1.1)),
    "shelf": ((-0.1, 0.0), (1.2, 0.0), (1.2, 1.3), (0.7, 1.3), (0.65, 0.5), (-0.1, 0.45)),
}
_STANDING = {
    "tower": ((0.25, -0.6), (1.2, -0.6), (1.2, 1), (0.25, 0.9)),
    "pillar": ((0.55, -1.3), (1.2, -1.5), (1.2, 0.9), (0.5, 0.9)),
    "low": ((0, 0.1), (1.2, 0), (1.2, 1), (0, 1)),
    "hook": ((0.5, -0.7), (1.2, -0.8), (1.2, 1), (-0.5, 1), (-0.5, 0.6), (0.5, 0.5)),
    "crook": ((-0.5, -0.2), (1.2, -0.35), (1.2, 1.0), (0.55, 1.0), (0.5, 0.3), (-0.5, 0.15)),
    "drop": ((0.5, -0.6), (1.2, -0.4), (1.2, 1.1), (0.15, 0.8), (0.1, 0.3)),
    "wedge": ((-0.4, 0.2), (1.2, -0.4), (1.2, 0.8), (-0.2, 0.75)),
}
_SHARED = ("across", "round", "pairs", "split")
_GLOWS = {
    "core": None,
    "bars": ((0.15, 0.3), (1.1, 0.3), (1.1, 0.62), (0.15, 0.62)),
    "brow": ((0.1, 0.2), (1.15, 0.15), (1.15, 0.85)),
    "hook": ((1.0, 0.1), (1.0, 0.8), (0.3, 0.82)),
    "ring": ((0.3, 0.2), (1.1, 0.2), (1.1, 0.8), (0.3, 0.8), (0.3, 0.2)),
}


def paint_rear_lamps(chart: Chart, strip: Strip, look: Look) -> None:
    rng, trim = look.of_model(24), look.of_version(24)
    marks = (TAIL, REAR_LOW)
    upright = look.kind in ("suv", "van", "mpv", "hatchback", "estate", "pickup", "bus")
    outlines = _STANDING if upright else _LYING
    family = str(rng.choice([*outlines, *_SHARED]))
    tall = rng.uniform(0.3, 0.5) if upright else rng.uniform(0.24, 0.36)
    wide = rng.uniform(0.14, 0.26) if upright else rng.uniform(0.26, 0.44)
    first = rng.uniform(-0.1, 0.05) if upright else rng.uniform(0.0, 0.06)
    lens = (RED_LENS, RED_LENS, _SMOKED, _CLEAR)[int(trim.choice(4, p=[0.45, 0.25, 0.18, 0.12]))]
    glow = str(trim.choice(list(_GLOWS)))
    rim = CHROME if trim.random() < 0.2 else BLACK
    below, white = rng.random() < 0.5, int(rng.integers(3))
    if family == "across":
        bar = strip.patch((-0.95, 0.95), marks, (first + 0.1 * tall, first + 0.4 * tall))
        chart.area(bar, rim)
        chart.area(
            bar * [1, 1]
            + np.array([(0.02, 0.015), (-0.02, 0.015), (-0.02, -0.015), (0.02, -0.015)]),
            lens,
        )
        chart.line(bar[[0, 1]] + [0, 0.04], 0.025, BRAKE_LAMP)
    for side in (-1, 1):

        def placed(points: object, side: int = side) -> np.ndarray:
            across, down = np.moveaxis(np.asarray(points, float), -1, 0)
            x = strip.y(side * (1 - wide)) + across * (strip.y(side) - strip.y(side * (1 - wide)))
            return np.stack(
                [
                    x,
                    strip.way(*marks, 0)
                    + (first + tall * down) * (strip.way(*marks, 1) - strip.way(*marks, 0)),
                ],
                axis=-1,
            )

        if family in ("round", "pairs"):
            _paint_round(chart, placed, family, upright, lens)
            continue
        if family == "split":  # the lid has a part of its own
            lid = placed(((-0.9, 0.15), (-0.1, 0.1), (-0.1, 0.85), (-0.8, 0.8)))
            chart.area(lid, rim)
            chart.area(lid.mean(axis=0) + (lid - lid.mean(axis=0)) * 0.9, lens)
        outline = outlines.get(family, outlines["low" if upright else "block"])
        lamp = placed(outline)
        middle = lamp.mean(axis=0)
        chart.area(lamp, rim)
        chart.area(middle + (lamp - middle) * 0.92, lens)
        if glow == "core":
            chart.area(middle + (lamp - middle) * [0.62, 0.55], BRAKE_LAMP)
        else:
            chart.line(placed(_GLOWS[glow]), 0.032, BRAKE_LAMP)
        at = 0.72 if below else 0.2
        if white < 2:
            box = ((0.2, at), (0.75, at), (0.75, at + 0.16), (0.2, at + 0.16))
            chart.area(placed(box), _WHITE_LENS)
        if white != 1:
            box = ((0.8, at), (1.2, at), (1.2, at + 0.18), (0.8, at + 0.18))
            chart.area(placed(box), _AMBER_LENS)
    if rng.random() < 0.7:
        s = strip.way(REAR_HEADER, BACK_FOOT, 0.04)
        half = rng.uniform(0.1, 0.3)
        chart.rect((-half, half), (s - 0.015, s + 0.015), BRAKE_LAMP)


def _paint_round(chart: Chart, placed: object, family: str, upright: bool, lens: Matter) -> None:
    spots = [(0.75, 0.1), (0.75, 0.8)] if upright else [(0.75, 0.5), (0.1, 0.5)]
    for number, spot in enumerate(spots if family == "pairs" or upright else spots[:1]):
        x, s = placed(spot).tolist()  # type: ignore[operator]
        radius = 0.075 if family == "pairs" else 0.095
        chart.disc((x, s), 1.2 * radius, CHROME if family == "round" else BLACK)
        chart.disc((x, s), radius, lens)
        chart.disc((x, s), 0.6 * radius, _WHITE_LENS if number else BRAKE_LAMP)
