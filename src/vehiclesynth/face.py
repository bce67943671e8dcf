"""What is seen from the front: bumper, grille, lamps, bonnet, windscreen; and the roof."""

from __future__ import annotations

import numpy as np

from .body import BUMPER, COWL, FRONT_LOW, HEADER, NOSE, REAR_HEADER, Shells
from .chart import BLACK, CHROME, LENS, PLASTIC, Chart, Matter
from .flank import glass, write
from .look import Look, draw_gray, draw_paint
from .strip import Strip
from .windscreen import paint_windscreen

HEADLAMP = Matter((0.5, 0.51, 0.5), 0.6, 0, 1.0)
_AMBER = Matter((0.5, 0.2, 0.02), 0.5, 0, 0.2)


def paint_face(chart: Chart, shells: Shells, look: Look) -> None:
    strip = Strip(shells)
    if look.two_tone == "bonnet":
        chart.area(strip.patch((-1, 1), (NOSE, COWL), (0.05, 1)), look.second)
    if look.two_tone == "skirt":
        chart.area(strip.patch((-1.1, 1.1), (FRONT_LOW, NOSE), (-0.5, 0.45)), look.second)
    if look.kind in ("bus", "truck"):
        _paint_flat_front(chart, strip, look)
    else:
        _paint_bumper(chart, strip, look)
        _paint_grille(chart, strip, look)
        _paint_headlamps(chart, strip, look)
        _paint_bonnet(chart, strip, look)
    paint_windscreen(chart, strip, look)
    _paint_roof(chart, strip, look)


def _paint_bumper(chart: Chart, strip: Strip, look: Look) -> None:
    rng = look.rng(10)
    marks = (FRONT_LOW, BUMPER)
    lower = PLASTIC if look.kind in ("suv", "pickup") or rng.random() < 0.4 else BLACK
    chart.area(strip.patch((-1.2, 1.2), marks, (-1, 0.14)), lower)
    half = rng.uniform(0.35, 0.75)
    top = rng.uniform(0.62, 0.85)
    opening = strip.patch((-half, half), marks, (0.18, top))
    opening[2:, 0] *= rng.uniform(0.8, 1.1)
    chart.area(opening, BLACK)
    for share in np.linspace(0.28, top - 0.1, int(rng.integers(1, 4))):
        line = strip.patch((-half, half), marks, (share, share))[:2]
        chart.line(line, 0.018, PLASTIC.tinted(2))
    for side in (-1, 1):
        center = (strip.y(side * rng.uniform(0.76, 0.82)), strip.way(*marks, 0.5))
        chart.disc(center, (0.14, 0.085), BLACK)
        if rng.random() < 0.8:
            chart.disc(center, 0.05, Matter(LENS.color, 0.7, 0, 0.35))
    if rng.random() < 0.3:
        chart.area(strip.patch((-0.8, 0.8), marks, (0.02, 0.10)), CHROME.tinted(0.6))


def _paint_grille(chart: Chart, strip: Strip, look: Look) -> None:
    rng = look.rng(11)
    marks = (BUMPER, NOSE)
    tall = {"suv": 0.75, "pickup": 0.8}.get(look.kind, rng.uniform(0.35, 0.8))
    low, high = 0.93 - tall, 0.92
    half = rng.uniform(0.26, 0.52)
    narrow = rng.uniform(0.6, 1.05)
    frame = strip.patch((-half, half), marks, (low, high))
    frame[:2, 0] *= narrow
    shiny = rng.random() < 0.65
    chart.area(frame, CHROME if shiny else BLACK)
    inner = frame.mean(axis=0) + (frame - frame.mean(axis=0)) * [0.93, 0.84]
    chart.area(inner, BLACK)
    bar = CHROME.tinted(0.9) if shiny else PLASTIC.tinted(1.5)
    (x0, s0), (x1, _), (_, s1), _ = inner
    count = int(rng.integers(2, 7))
    if rng.random() < 0.75:
        for s in np.linspace(s0, s1, count + 2)[1:-1]:
            chart.line([(x0, s), (x1, s)], 0.35 * (s1 - s0) / count, bar)
    else:
        for x in np.linspace(x0, x1, 3 * count)[1:-1]:
            chart.line([(x, s0), (x, s1)], 0.018, bar)
    badge = (0.0, strip.way(*marks, 0.5 * (low + high) + 0.1))
    size = rng.uniform(0.035, 0.065)
    chart.disc(badge, (size * rng.uniform(1, 1.4), size), CHROME)
    chart.disc(badge, 0.6 * size, draw_gray(rng, 0.02, 0.3, 0.4))
    _paint_plate(chart, (0.0, strip.way(FRONT_LOW, BUMPER, rng.uniform(0.72, 1.05))), look)


def _paint_plate(chart: Chart, center: tuple[float, float], look: Look) -> None:
    x, s = center
    chart.rect((x - 0.23, x + 0.23), (s - 0.075, s + 0.075), look.plate)
    if look.plate.color[2] > 0.2:  # signs are left on those that are not masked
        ink = Matter((0.7, 0.7, 0.7)) if look.plate.color[0] < 0.2 else BLACK
        for sign in range(7):
            left = x - 0.2 + 0.058 * sign
            chart.line([(left, s - 0.035), (left + 0.02, s + 0.04)], 0.016, ink)


def _paint_headlamps(chart: Chart, strip: Strip, look: Look) -> None:
    """Large, swept back round the corner; their outer part lies on the flank's chart."""
    rng = look.rng(12)
    marks = (BUMPER, NOSE)
    width, tall = rng.uniform(0.32, 0.5), rng.uniform(0.35, 0.7)
    sweep, round_lamp = rng.uniform(0.0, 0.35), rng.random() < 0.12
    twin = rng.random() < 0.6
    s0, s1 = strip.way(*marks, 0.98 - tall), strip.way(*marks, 1.05)
    for side in (-1, 1):
        outer, inner = strip.y(side * 1.15), strip.y(side * (1.0 - width))
        if round_lamp:
            chart.disc((strip.y(side * 0.72), (s0 + s1) / 2), 0.12, CHROME)
            chart.disc((strip.y(side * 0.72), (s0 + s1) / 2), 0.10, HEADLAMP)
            continue
        rise = sweep * (s1 - s0)
        shape = np.array(
            [
                (inner, s0 + 0.25 * (s1 - s0)),
                (strip.y(side * 0.8), s0),
                (outer, s0 + rise),
                (outer, s1 + 0.10),
                (inner + 0.02 * side, s1 - 0.25 * (s1 - s0)),
            ]
        )
        chart.area(shape, BLACK)
        middle = shape.mean(axis=0)
        chart.area(middle + (shape - middle) * [0.95, 0.88], LENS)
        chart.area(middle + (shape - middle) * [0.75, 0.6], LENS.tinted(rng.uniform(0.3, 0.9)))
        bulb = 0.33 * (s1 - s0)
        for number in range(1 + twin):
            x = inner + side * (0.12 + 0.17 * number)
            chart.disc((x, (s0 + s1) / 2 + 0.03 * number), min(bulb, 0.085), CHROME)
            chart.disc((x, (s0 + s1) / 2 + 0.03 * number), 0.7 * min(bulb, 0.085), HEADLAMP)
        chart.disc((strip.y(side * 0.93), (s0 + s1) / 2 + 0.5 * rise), (0.04, 0.4 * bulb), _AMBER)


def _paint_bonnet(chart: Chart, strip: Strip, look: Look) -> None:
    rng = look.rng(13)
    gap = look.paint.tinted(0.3)
    half = 0.93
    edge = strip.patch((-half, half), (NOSE, COWL), (0.06, 0.97))
    edge[:2, 0] *= 0.92
    chart.line(edge, 0.009, gap, closed=True)
    for side in (-1, 1):
        inner = rng.uniform(0.25, 0.6)
        line = [
            (strip.y(side * 0.8 * inner), strip.way(NOSE, COWL, 0.05)),
            (strip.y(side * inner), strip.way(NOSE, COWL, 0.95)),
        ]
        chart.ridge(line, 0.06, 0.6)
    chart.area(strip.patch((-0.86, 0.86), (NOSE, COWL), (0.945, 1.06)), BLACK)


def _paint_flat_front(chart: Chart, strip: Strip, look: Look) -> None:
    """Cab-over trucks and buses: a painted band with lamps, a dark panel with the maker's name."""
    rng = look.rng(14)
    low = (FRONT_LOW, NOSE)
    bumper = PLASTIC if rng.random() < 0.5 else draw_gray(rng, 0.15, 0.6, 0.2)
    chart.area(
        strip.patch((-1.2, 1.2), low, (-1, 0.30)), bumper if look.kind == "truck" else look.paint
    )
    chart.area(strip.patch((-0.55, 0.55), low, (0.06, 0.20)), BLACK)
    s = strip.way(*low, rng.uniform(0.22, 0.42))
    tall, wide = rng.uniform(0.16, 0.30), rng.uniform(0.22, 0.42)
    for side in (-1, 1):
        x = side * (strip.half - 0.04 - wide / 2)
        lamp = np.array(
            [
                (x - wide / 2, s - tall / 2),
                (x + wide / 2, s - tall / 2),
                (x + wide / 2, s + tall / 2),
                (x - wide / 2, s + tall / 2),
            ]
        )
        chart.area(lamp, BLACK)
        chart.area((lamp - [x, s]) * 0.9 + [x, s], LENS)
        chart.disc((x + side * -0.03, s), 0.32 * tall, HEADLAMP)
        chart.disc((x + side * 0.38 * wide, s), (0.04, 0.4 * tall), _AMBER)
    dark = rng.random() < 0.7
    panel = strip.patch((-0.75, 0.75), (FRONT_LOW, COWL), (0.56, 0.86))
    if look.kind == "truck":
        panel[:, 0] *= rng.uniform(0.75, 1.15)
    if dark:
        chart.area(panel, BLACK)
        for s_bar in np.linspace(panel[0, 1], panel[2, 1], int(rng.integers(2, 6)))[1:-1]:
            chart.line(
                [(panel[0, 0], s_bar), (panel[1, 0], s_bar)], 0.03, draw_gray(rng, 0.1, 0.5, 0.6)
            )
    middle = 0.5 * (panel[0, 1] + panel[2, 1])
    ink = CHROME if dark else draw_paint(rng, "red")
    if rng.random() < 0.5:
        chart.disc((0, middle), (0.14, 0.09), ink)
    else:
        write(chart, rng, (-0.45, middle - 0.06), 0.13, ink)
    _paint_plate(chart, (0.0, strip.way(*low, 0.16)), look)


def _paint_roof(chart: Chart, strip: Strip, look: Look) -> None:
    rng = look.rng(16)
    if look.two_tone in ("roof", "taxi"):
        chart.area(strip.patch((-1, 1), (HEADER, REAR_HEADER), (-0.03, 1.03)), look.second)
    if look.kind in ("sedan", "suv", "mpv", "hatchback", "estate"):
        if rng.random() < 0.4:
            last = rng.uniform(0.4, 0.9)
            chart.area(strip.patch((-0.5, 0.5), (HEADER, REAR_HEADER), (0.08, last)), glass(0.6))
        for side in (-1, 1):
            line = strip.patch((side * 0.66, side * 0.66), (HEADER, REAR_HEADER), (0.0, 1.0))[1:3]
            chart.ridge(line, 0.05, -0.4)
    if look.kind == "van":
        for share in np.linspace(0.1, 0.9, 6):
            chart.ridge(
                strip.patch((-0.7, 0.7), (HEADER, REAR_HEADER), (share, share))[:2], 0.06, -0.5
            )
