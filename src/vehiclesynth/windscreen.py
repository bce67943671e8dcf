"""The windscreen: a pane before seats and people, with all that sticks to it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .body import COWL, HEADER
from .chart import BLACK, Chart, Matter
from .flank import glass, write
from .look import Look, draw_gray, draw_paint
from .strip import Strip

# How far below the cowl the glass begins, as a share of the way up to the roof.
_DEEP = {"bus": (-0.28, -0.08), "truck": (-0.16, -0.04)}


@dataclass(frozen=True)
class _Screen:
    """A trapezium on the strip, metres: half widths below and above, ways of both edges."""

    foot: float
    top: float
    low: float
    high: float

    @property
    def tall(self) -> float:
        return self.high - self.low

    def at(self, share: float) -> float:
        """The way at a share of the height."""
        return self.low + share * self.tall

    def inset(self, margin: float) -> np.ndarray:
        """Its corners ``[4, 2]``, drawn in on all sides."""
        foot, top = self.foot - margin, self.top - margin
        low, high = self.low + margin, self.high - margin
        return np.array([(-foot, low), (foot, low), (top, high), (-top, high)])


def paint_windscreen(chart: Chart, strip: Strip, look: Look) -> None:
    rng = look.rng(15)
    shell = strip.shells.shell
    screen = _Screen(
        foot=float(shell.on_strip(COWL, 1)[1]) - 0.04 * strip.half,
        top=float(shell.on_strip(HEADER, 1)[1]) - 0.04 * strip.half,
        low=strip.way(COWL, HEADER, rng.uniform(*_DEEP.get(look.kind, (0.02, 0.04)))),
        high=strip.way(COWL, HEADER, 0.95),
    )
    chart.area(screen.inset(0.0), BLACK)
    chart.area(screen.inset(0.03), glass(look.tint[0], look.screen))
    _paint_cabin(chart, screen, look, rng)
    _paint_papers(chart, screen, rng)
    for start in (-0.75, 0.0):  # wipers
        x = start * screen.foot
        chart.line([(x, screen.low + 0.03), (x + 0.45, screen.low + 0.1)], 0.022, BLACK)
    if look.kind in _DEEP:
        _paint_board(chart, screen, look, strip.half, rng)


def _paint_cabin(chart: Chart, screen: _Screen, look: Look, rng: np.random.Generator) -> None:
    """Dash, seats, people and the steering wheel, seen through the pane."""
    tint, low = look.tint[0], screen.low
    dash = np.array([(-0.95, 0.0), (0.95, 0.0), (0.9, 0.24), (-0.9, 0.24)])
    matter = Matter((0.05, 0.05, 0.052), look.screen, 0.6)
    chart.area(dash * [screen.foot, screen.tall] + [0, low + 0.05], matter)
    seat = 0.85 * min(screen.tall, 0.8)  # people are as tall behind a bus's screen as a car's
    driver = 0.44 * screen.foot
    for x, present in ((driver, rng.random() < 0.85), (-driver, rng.random() < 0.3)):
        chart.rect((x - 0.22, x + 0.22), (low + 0.2 * seat, low + 0.6 * seat), glass(0.6 * tint))
        chart.disc((x, low + 0.7 * seat), (0.13, 0.11 * seat), glass(0.6 * tint))
        if present:
            shirt = Matter(draw_gray(rng, 0.02, 0.25).color, look.screen, 1.0).tinted(0.5 * tint)
            chart.disc((x, low + 0.3 * seat), (0.21, 0.2 * seat), shirt)
            skin = Matter((0.10 * tint, 0.075 * tint, 0.065 * tint), look.screen, 1.0)
            chart.disc((x, low + 0.58 * seat), (0.075, 0.13 * seat), skin)
            chart.disc((x, low + 0.67 * seat), (0.08, 0.07 * seat), glass(0.3 * tint))
    half = 0.86 * screen.top
    chart.soften((-half, half), (screen.at(0.1), screen.at(0.9)), rng.uniform(0.008, 0.03))
    wheel = ((-0.17, 0.2), (-0.1, 0.38), (0.1, 0.38), (0.17, 0.2))
    chart.line([(driver + dx, low + share * seat) for dx, share in wheel], 0.03, BLACK)


def _paint_papers(chart: Chart, screen: _Screen, rng: np.random.Generator) -> None:
    """Mirror, inspection labels, papers on the dash, a tinted strip, sun visors."""
    chart.rect((-0.10, 0.10), (screen.at(0.8), screen.at(0.9)), BLACK)
    if rng.random() < 0.7:
        for number in range(int(rng.integers(1, 4))):
            x = 0.14 + 0.11 * number - screen.top
            label = draw_paint(rng, "green").tinted(1.2)
            chart.rect((x, x + 0.08), (screen.at(0.76), screen.at(0.9)), label)
    if rng.random() < 0.3:
        x = rng.uniform(-0.6, 0.3) * screen.foot
        paper = Matter((0.4, 0.4, 0.38), 0.6)
        chart.rect((x, x + rng.uniform(0.1, 0.3)), (screen.low + 0.08, screen.low + 0.16), paper)
    if rng.random() < 0.3:
        tinted = Matter((0.015, 0.03, 0.04), 0.6, 1.0)
        chart.rect((-screen.top, screen.top), (screen.at(0.82), screen.high - 0.02), tinted)
    if rng.random() < 0.25:
        x = rng.choice([-0.5, 0.5]) * screen.top
        visor = Matter((0.16, 0.15, 0.14), 0.6, 1.0)
        chart.rect((x - 0.2, x + 0.2), (screen.at(0.8), screen.high - 0.04), visor)


def _paint_board(
    chart: Chart, screen: _Screen, look: Look, half: float, rng: np.random.Generator
) -> None:
    """A bus's line in red letters of light above the windscreen, or a truck's visor."""
    tall = 0.22 if look.kind == "bus" else 0.14
    if look.kind == "bus":
        chart.rect((-0.7 * half, 0.7 * half), (screen.high - 0.02, screen.high + tall), BLACK)
        ink = (
            Matter((0.7, 0.06, 0.03), 0, 0, 0.9)
            if rng.random() < 0.7
            else Matter((0.7, 0.35, 0.03), 0, 0, 0.9)
        )
        write(chart, rng, (-0.45 * half, screen.high + 0.03), 0.13, ink)
    elif rng.random() < 0.4:
        chart.rect(
            (-0.9 * half, 0.9 * half),
            (screen.high - 0.02, screen.high + tall),
            draw_gray(rng, 0.02, 0.2, 0.3),
        )
