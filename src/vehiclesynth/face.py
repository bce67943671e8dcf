"""What is seen from the front: bumper, grille, lamps, bonnet, windscreen; and the roof."""

from __future__ import annotations

import numpy as np

from .body import BUMPER, COWL, FRONT_LOW, HEADER, NOSE, REAR_HEADER, Shells
from .chart import BLACK, Chart
from .flank import glass
from .flat_front import paint_flat_front
from .grille import paint_grille, paint_openings
from .headlamps import paint_headlamps
from .look import Look
from .marks import paint_plate, wear_front
from .strip import Strip
from .windscreen import paint_windscreen


def paint_face(chart: Chart, shells: Shells, look: Look) -> None:
    strip = Strip(shells)
    if look.two_tone == "bonnet":
        chart.area(strip.patch((-1, 1), (NOSE, COWL), (0.05, 1)), look.second)
    if look.two_tone == "skirt":
        chart.area(strip.patch((-1.1, 1.1), (FRONT_LOW, NOSE), (-0.5, 0.45)), look.second)
    if look.kind in ("bus", "truck"):
        paint_flat_front(chart, strip, look)
    else:
        paint_openings(chart, strip, look)
        _paint_bonnet(chart, strip, look)
        paint_grille(chart, strip, look)
        paint_headlamps(chart, strip, look)
    wear_front(chart, strip, look)
    up = look.of_model(19).uniform(0.72, 1.05)
    marks = (FRONT_LOW, NOSE) if look.kind in ("bus", "truck") else (FRONT_LOW, BUMPER)
    paint_plate(chart, (0.0, strip.way(*marks, 0.2 * up if NOSE in marks else up)), look)
    _paint_roof(chart, strip, look)
    paint_windscreen(chart, strip, look)


def _paint_bonnet(chart: Chart, strip: Strip, look: Look) -> None:
    rng = look.of_model(13)
    gap = look.paint.tinted(0.3)
    half, foot = 0.93, rng.uniform(0.75, 0.95)
    edge = strip.patch((-half, half), (NOSE, COWL), (rng.uniform(0.0, 0.09), 0.97))
    edge[:2, 0] *= foot
    chart.line(edge, 0.009, gap, closed=True)
    outer, inner = rng.uniform(0.25, 0.65), rng.uniform(0.2, 1.0)
    rise, wide = rng.uniform(-0.8, 0.9), rng.uniform(0.04, 0.09)
    for side in (-1, 1):
        line = [
            (strip.y(side * outer * inner), strip.way(NOSE, COWL, 0.05)),
            (strip.y(side * outer), strip.way(NOSE, COWL, 0.95)),
        ]
        chart.ridge(line, wide, rise)
    if rng.random() < 0.15:
        chart.ridge(strip.patch((0, 0), (NOSE, COWL), (0.05, 0.95))[1:3], 0.08, 0.6)
    if look.kind in ("suv", "pickup") and rng.random() < 0.1:  # a scoop
        chart.area(strip.patch((-0.22, 0.22), (NOSE, COWL), (0.55, 0.62)), BLACK)
    chart.area(strip.patch((-0.86, 0.86), (NOSE, COWL), (0.945, 1.06)), BLACK)


def _paint_roof(chart: Chart, strip: Strip, look: Look) -> None:
    rng, trim = look.of_model(16), look.of_version(16)
    if look.two_tone in ("roof", "taxi"):
        chart.area(strip.patch((-1, 1), (HEADER, REAR_HEADER), (-0.03, 1.03)), look.second)
    if look.kind in ("sedan", "suv", "mpv", "hatchback", "estate"):
        if trim.random() < 0.4:
            last = trim.uniform(0.4, 0.9)
            chart.area(strip.patch((-0.5, 0.5), (HEADER, REAR_HEADER), (0.08, last)), glass(0.6))
        for side in (-1, 1):
            line = strip.patch((side * 0.66, side * 0.66), (HEADER, REAR_HEADER), (0.0, 1.0))[1:3]
            chart.ridge(line, 0.05, -0.4)
    if look.kind == "van":
        for share in np.linspace(0.1, 0.9, int(rng.integers(4, 9))):
            chart.ridge(
                strip.patch((-0.7, 0.7), (HEADER, REAR_HEADER), (share, share))[:2], 0.06, -0.5
            )
