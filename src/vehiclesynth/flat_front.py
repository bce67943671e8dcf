"""The upright fronts of cab-over trucks and buses: lamps, panels, names."""

from __future__ import annotations

import numpy as np

from .body import COWL, FRONT_LOW, NOSE
from .chart import BLACK, CHROME, LENS, PLASTIC, Chart, Matter
from .grille import paint_badge
from .headlamps import AMBER, HEADLAMP
from .lettering import draw_number, draw_word
from .look import Look, draw_gray
from .strip import Strip

_LAMPS = ("box", "round", "stack", "slant", "slim", "cluster")
# Where the lamps' middles are, in widths outward and heights upward.
_SPOTS: dict[str, tuple[tuple[float, float], ...]] = {
    "stack": ((0, 0.28), (0, -0.22)),
    "cluster": ((-0.25, 0), (0.2, 0.05)),
    "box": ((-0.15, 0), (0.2, 0)),
    "slim": ((-0.3, 0), (0, 0), (0.3, 0)),
}
_PANELS = ("dark", "bars", "painted", "mask", "chrome", "mesh")


def paint_flat_front(chart: Chart, strip: Strip, look: Look) -> None:
    rng = look.of_model(14)
    low = (FRONT_LOW, NOSE)
    _paint_bumper(chart, strip, look, rng)
    s = strip.way(*low, rng.uniform(0.22, 0.42))
    panel = str(rng.choice(_PANELS))
    middle = _paint_panel(chart, strip, look, rng, panel)
    if panel == "mask":  # the dark panel goes down to the lamps
        chart.area(strip.patch((-0.95, 0.95), low, (0.2, 0.5)), BLACK)
    _paint_lamps(chart, strip, look, rng, s)
    painted = panel in ("painted", "chrome")
    ink = CHROME if not painted or rng.random() < 0.5 else Matter((0.5, 0.03, 0.03), 0.4)
    if rng.random() < 0.5:
        paint_badge(chart, (0.0, middle), rng, look)
    else:
        chart.write(draw_word(rng, 2), (0.0, middle), rng.uniform(0.11, 0.18), ink, widest=1.2)
    _paint_names(chart, strip, look)


def _paint_bumper(chart: Chart, strip: Strip, look: Look, rng: np.random.Generator) -> None:
    low = (FRONT_LOW, NOSE)
    bumper = look.paint
    if look.kind == "truck":
        bumper = PLASTIC if rng.random() < 0.5 else draw_gray(rng, 0.15, 0.6, 0.2)
    top = rng.uniform(0.22, 0.36)
    chart.area(strip.patch((-1.2, 1.2), low, (-1, top)), bumper)
    half = rng.uniform(0.3, 0.7)
    chart.area(strip.patch((-half, half), low, (0.06, rng.uniform(0.14, 0.24))), BLACK)
    chart.line(strip.patch((-1, 1), low, (top, top))[:2], 0.015, bumper.tinted(0.3))
    if rng.random() < 0.4:
        for side in (-1, 1):
            chart.disc((strip.y(side * 0.7), strip.way(*low, 0.12)), (0.09, 0.06), LENS)


def _paint_panel(
    chart: Chart, strip: Strip, look: Look, rng: np.random.Generator, panel: str
) -> float:
    """The panel between lamps and windscreen; returns the way to its middle."""
    first, last = rng.uniform(0.45, 0.6), rng.uniform(0.76, 0.92)
    half = rng.uniform(0.5, 0.9)
    corners = strip.patch((-half, half), (FRONT_LOW, COWL), (first, last))
    corners[:2, 0] *= rng.uniform(0.75, 1.1)
    middle = float(corners[:, 1].mean())
    if panel == "painted":
        return middle
    chart.area(corners, CHROME.tinted(0.7) if panel == "chrome" else BLACK)
    if panel in ("bars", "chrome"):
        bar = draw_gray(rng, 0.1, 0.5, 0.6) if panel == "bars" else BLACK
        for s in np.linspace(corners[0, 1], corners[2, 1], int(rng.integers(3, 7)))[1:-1]:
            chart.line([(0.95 * corners[0, 0], s), (0.95 * corners[1, 0], s)], 0.035, bar)
    if panel == "mesh":
        for x in np.linspace(corners[0, 0], corners[1, 0], int(rng.integers(6, 16)))[1:-1]:
            chart.line([(x, corners[0, 1]), (x, corners[2, 1])], 0.02, PLASTIC.tinted(3))
    return middle


def _paint_lamps(
    chart: Chart, strip: Strip, look: Look, rng: np.random.Generator, s: float
) -> None:
    family = str(rng.choice(_LAMPS))
    tall, wide = rng.uniform(0.16, 0.30), rng.uniform(0.24, 0.44)
    if family == "stack":
        tall, wide = 1.7 * tall, 0.22
    if family == "slim":
        tall, wide = 0.1, 1.2 * wide
    slant = 0.35 * tall if family == "slant" else 0.0
    amber = 1 if rng.random() < 0.5 else -1
    for side in (-1, 1):
        x = side * (strip.half - 0.04 - wide / 2)
        box = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * [wide / 2, tall / 2]
        box[:, 1] += slant * np.array([-1, 1, 1, -1]) * side
        lamp = box + np.array([x, s])
        if family == "round":
            chart.disc((x, s), (0.65 * tall, 0.65 * tall), CHROME)
        elif family == "cluster":
            chart.disc((x, s), (0.62 * wide, 0.6 * tall), BLACK)
        else:
            chart.area(lamp, BLACK)
            chart.area(box * 0.9 + np.array([x, s]), LENS)
        for across, up in _SPOTS.get(family, ((-0.05, 0.0),)):
            radius = min(0.4 * tall, 0.34 * wide) if family != "stack" else 0.09
            spot = (x + side * across * wide, s + up * tall)
            chart.disc(spot, radius, CHROME)
            chart.disc(spot, 0.75 * radius, HEADLAMP)
        chart.disc((x + side * 0.38 * wide, s + amber * 0.3 * tall), (0.045, 0.06), AMBER)


def _paint_names(chart: Chart, strip: Strip, look: Look) -> None:
    """The owner's name and number, on the panel's side and above the windscreen."""
    rng = look.rng(14)
    company = look.company
    if company is None:
        return
    number = draw_number(rng, 3)  # as on the doors
    side = 0.62 if company.style % 2 else -0.62
    spot = (side * strip.half, strip.way(FRONT_LOW, COWL, 0.62))
    if look.kind == "truck":
        if company.style in (0, 3):
            chart.write(
                company.name, (0, strip.way(FRONT_LOW, COWL, 0.93)), 0.13, company.ink, widest=1.5
            )
    elif company.style < 2:  # a stripe, or one that dips in the middle
        (left, s), (right, _) = strip.patch((-1.1, 1.1), (FRONT_LOW, COWL), (0.6, 0.6))[:2]
        dip = 0.15 * company.style
        chart.line([(left, s), (0, s - dip), (right, s)], 0.12, company.ink)
    if rng.random() < 0.7:
        chart.write(number, spot, 0.16, company.ink)
