"""Grilles, the openings below them, and badges."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .body import BUMPER, FRONT_LOW, NOSE, Strip
from .chance import Rng, pick
from .chart import BLACK, CHROME, PLASTIC, Chart, Matter, Pair
from .lettering import draw_word
from .look import Look, draw_gray

# The right half of each outline, from below: across 0 is the middle and 1 the widest, up 0 to 1.
_OUTLINES = {
    "tapered": ((0.62, 0), (1, 1)),
    "spread": ((1, 0), (0.72, 1)),
    "wide": ((0.97, 0), (1, 0.5), (0.97, 1)),
    "hexagon": ((0.74, 0), (1, 0.6), (0.84, 1)),
    "oval": ((0.3, 0), (0.85, 0.25), (1, 0.5), (0.85, 0.75), (0.3, 1)),
    "shield": ((0.25, 0), (0.9, 0.55), (1, 1)),
    "chin": ((0.8, 0), (0.85, 0.4), (1, 0.45), (0.95, 1)),
    "waist": ((1, 0), (0.55, 0.5), (0.95, 1)),
}
_FAMILIES = (*_OUTLINES, "pair", "strip", "closed", "deep")
_FILLS = ("bars", "bars", "slats", "mesh", "cells", "one", "wings", "dots")


class _Opening:
    """An opening on the strip: middle, half width, lower and upper way, and its outline."""

    def __init__(
        self, x: float, half: float, way: Pair, outline: Sequence[tuple[float, ...]]
    ) -> None:
        self.x, self.half, self.way = x, half, way
        self._across, self._up = np.array(outline, float).T

    def corners(self, grown: float = 0.0) -> np.ndarray:
        """The outline ``[K, 2]``, larger by so many metres."""
        across = self.half * self._across + grown
        low, high = self.way[0] - grown, self.way[1] + grown
        s = low + self._up * (high - low)
        right = np.stack([self.x + across, s], axis=1)
        left = np.stack([self.x - across, s], axis=1)
        return np.concatenate([right, left[::-1]])

    def bar(self, up: float) -> list[Pair]:
        half = self.half * float(np.interp(up, self._up, self._across))
        s = self.way[0] + up * (self.way[1] - self.way[0])
        return [(self.x - half, s), (self.x + half, s)]

    def post(self, across: float) -> list[Pair]:
        outline = np.interp(np.linspace(0, 1, 21), self._up, self._across)
        inside = np.flatnonzero(outline >= abs(across))
        if not len(inside):
            return []
        low, high = (self.way[0] + at / 20 * (self.way[1] - self.way[0]) for at in inside[[0, -1]])
        x = self.x + across * self.half
        return [(x, float(low)), (x, float(high))]


def paint_grille(chart: Chart, strip: Strip, look: Look) -> None:
    rng, trim = look.of_model(11), look.of_version(11)
    marks = (BUMPER, NOSE)
    family = pick(rng, _FAMILIES)
    tall = {"suv": 0.78, "pickup": 0.82}.get(look.kind, rng.uniform(0.4, 0.8))
    half = rng.uniform(0.26, 0.55)
    low, high = 0.94 - tall, 0.93
    if family == "strip":
        low, half = 0.7, rng.uniform(0.5, 0.62)
    way = strip.way(*marks, low), strip.way(*marks, high)
    if family == "deep":
        way = strip.way(FRONT_LOW, BUMPER, rng.uniform(0.15, 0.4)), way[1]
    shiny = trim.random() < 0.6
    rim = CHROME if shiny else (look.paint if trim.random() < 0.4 else BLACK)
    thick = rng.uniform(0.015, 0.045)
    fill = pick(rng, _FILLS)
    bar = CHROME.tinted(0.9) if shiny else draw_gray(trim, 0.03, 0.2, 0.3)
    count = int(rng.integers(2, 7))
    if family == "pair":
        gap = rng.uniform(0.02, 0.09)
        outline = _OUTLINES[pick(rng, ("hexagon", "oval", "wide", "tapered"))]
        openings = [_Opening(side * (0.26 + gap), 0.24, way, outline) for side in (-1, 1)]
    elif family == "closed":
        openings = []
        if rng.random() < 0.6:
            line = strip.patch((-0.5, 0.5), marks, (0.7, 0.7))[:2]
            chart.line(line, 0.03, CHROME if shiny else BLACK)
    else:
        name = family if family in _OUTLINES else pick(rng, ("wide", "hexagon", "tapered"))
        openings = [_Opening(0, half, way, _OUTLINES[name])]
    for opening in openings:
        chart.area(opening.corners(thick), rim)
        chart.area(opening.corners(), BLACK)
        _fill(chart, opening, fill, bar, count)
    if rng.random() < 0.3 and openings:  # a bar right across to the lamps
        s = way[1] - rng.uniform(0.0, 0.5) * (way[1] - way[0])
        chart.line([(strip.y(-0.72), s), (strip.y(0.72), s)], rng.uniform(0.02, 0.045), rim)
    up = rng.uniform(0.45, 0.75) if rng.random() < 0.75 else 1.25
    paint_badge(chart, (0.0, way[0] + up * (way[1] - way[0])), rng, look)


def paint_openings(chart: Chart, strip: Strip, look: Look) -> None:
    """What lies below the grille, in the bumper."""
    rng, trim = look.of_model(10), look.of_version(10)
    marks = (FRONT_LOW, BUMPER)
    clad = look.kind in ("suv", "pickup")
    edge = rng.uniform(0.12, 0.5) if clad else 0.14
    lower = PLASTIC if clad or rng.random() < 0.4 else BLACK
    chart.area(strip.patch((-1.2, 1.2), marks, (-1, edge)), lower)
    family = pick(rng, ("mouth", "three", "smile", "fangs", "slot", "ladder"))
    low, top = strip.way(*marks, 0.18), strip.way(*marks, rng.uniform(0.58, 0.85))
    bar = PLASTIC.tinted(rng.uniform(1.5, 5))
    fill, count = pick(rng, ("bars", "mesh", "slats", "cells")), int(rng.integers(1, 4))
    half = rng.uniform(0.35, 0.72)
    outline = _OUTLINES[pick(rng, ("tapered", "spread", "wide", "hexagon"))]
    if family in ("mouth", "ladder"):
        middle = [_Opening(0, half, (low, top), outline)]
    elif family == "three":
        middle = [_Opening(0, 0.6 * half, (low, top), outline)]
        middle += [_Opening(strip.y(side * 0.7), 0.18, (low, top), outline) for side in (-1, 1)]
    elif family == "smile":
        middle = [_Opening(0, strip.y(0.8), (low, low + 0.06), outline)]
    elif family == "fangs":
        middle = [_Opening(0, 0.5 * half, (low, 0.5 * (low + top)), outline)]
        for side in (-1, 1):
            x = strip.y(side * 0.82)
            fang = [(x, low - 0.02), (x + side * 0.1, low), (x + side * 0.13, top + 0.1), (x, top)]
            chart.area(fang, BLACK)
    else:
        middle = [_Opening(0, 0.7 * half, (low + 0.05, low + 0.11), outline)]
    for opening in middle:
        chart.area(opening.corners(), BLACK)
        if family != "smile":
            _fill(chart, opening, fill, bar, count)
    if trim.random() < 0.35:
        shine = CHROME.tinted(trim.uniform(0.4, 0.9))
        chart.area(strip.patch((-0.75, 0.75), marks, (0.02, 0.11)), shine)
    if trim.random() < 0.25:
        chart.line(strip.patch((-0.95, 0.95), marks, (0.93, 0.93))[:2], 0.03, look.trim)


def _fill(chart: Chart, opening: _Opening, fill: str, bar: Matter, count: int) -> None:
    tall = opening.way[1] - opening.way[0]
    ups = np.linspace(0, 1, count + 2)[1:-1].tolist()
    if fill in ("bars", "cells"):
        for up in ups:
            chart.line(opening.bar(up), min(0.4 * tall / (count + 1), 0.05), bar)
    if fill in ("slats", "cells"):
        for across in np.linspace(-1, 1, 3 * count + 4)[1:-1].tolist():
            post = opening.post(across)
            if post:
                chart.line(post, 0.018, bar)
    if fill == "one":
        chart.line(opening.bar(0.55), min(0.25 * tall, 0.06), bar)
    if fill == "wings":
        (x0, s0), (x1, s1) = opening.bar(0.8)
        chart.line([(x0, s0), (opening.x, opening.way[0] + 0.25 * tall), (x1, s1)], 0.04, bar)
    if fill in ("mesh", "dots"):
        for row, up in enumerate(np.linspace(0, 1, max(round(tall / 0.055), 2) + 1)[1:-1].tolist()):
            (x0, s), (x1, _) = opening.bar(up)
            for x in np.arange(x0 + 0.03 + 0.03 * (row % 2), x1 - 0.02, 0.06).tolist():
                if fill == "dots":
                    chart.rect((x - 0.015, x + 0.015), (s - 0.01, s + 0.01), bar)
                else:
                    chart.line([(x - 0.028, s - 0.025), (x, s), (x + 0.028, s - 0.025)], 0.012, bar)


def paint_badge(chart: Chart, spot: Pair, rng: Rng, look: Look, *, behind: bool = False) -> None:
    """The maker's sign, the same in front and behind; ``rng`` draws its size."""
    own = look.of_model(18)
    family = pick(own, ("disc", "ring", "rings", "diamond", "bars", "letters", "wings"))
    ink = Matter(CHROME.color, 0.8) if own.random() < 0.7 else Matter((0.4, 0.02, 0.02), 0.5)
    field = draw_gray(own, 0.02, 0.3, 0.4) if own.random() < 0.7 else Matter((0.02, 0.06, 0.3), 0.4)
    word = draw_word(own, 1)[:2]
    (x, s), size = spot, rng.uniform(0.045, 0.075)
    if family in ("disc", "letters"):
        chart.disc(spot, (size * 1.25, size), ink)
        chart.disc(spot, 0.72 * size, field)
    if family == "letters":
        chart.write(word, spot, 0.9 * size, ink, turned=(behind, behind))
    if family == "ring":
        chart.disc(spot, 1.1 * size, ink)
        chart.disc(spot, 0.75 * size, field)
        chart.line([(x - size, s), (x + size, s)], 0.02, ink)
    if family == "rings":
        for shift in (-0.6, 0.6):
            chart.disc((x + shift * size, s), 0.8 * size, ink)
            chart.disc((x + shift * size, s), 0.55 * size, field)
    if family == "diamond":
        chart.area([(x - size, s), (x, s - 1.3 * size), (x + size, s), (x, s + 1.3 * size)], ink)
        chart.disc(spot, 0.35 * size, field)
    if family == "bars":
        for shift in (-0.7, 0, 0.7):
            foot = x + shift * size
            chart.line([(foot, s - size), (foot + 0.4 * size, s + size)], 0.02, ink)
    if family == "wings":
        shape = np.array([(-2.4, 0.4), (0, -0.4), (2.4, 0.4), (0, 0.5)])
        chart.area(spot + size * shape, ink)
        chart.disc(spot, 0.6 * size, ink)
        chart.disc(spot, 0.4 * size, field)
