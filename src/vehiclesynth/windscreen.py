"""The windscreen: a pane before seats and people, with all that sticks to it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .body import COWL, HEADER
from .chart import BLACK, Chart, Matter
from .flank import glass
from .lettering import draw_number, draw_word
from .look import Look, draw_gray, draw_vivid
from .marks import paint_screen_things
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
        low=strip.way(COWL, HEADER, look.of_model(15).uniform(*_DEEP.get(look.kind, (0.02, 0.04)))),
        high=strip.way(COWL, HEADER, 0.95),
    )
    chart.area(screen.inset(0.0), BLACK)
    chart.area(screen.inset(0.03), glass(look.tint[0], look.screen))
    _paint_cabin(chart, screen, look, rng)
    _paint_mirror(chart, screen, rng)
    paint_screen_things(chart, look, (screen.foot, screen.top, screen.low, screen.high))
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
    cover = glass(0.6 * tint)
    if rng.random() < 0.3:
        cover = Matter(draw_vivid(rng).tinted(0.22 * tint).color, look.screen, 0.8)
    for x, present in ((driver, rng.random() < 0.85), (-driver, rng.random() < 0.3)):
        chart.rect((x - 0.22, x + 0.22), (low + 0.2 * seat, low + 0.6 * seat), cover)
        chart.disc((x, low + 0.7 * seat), (0.13, 0.11 * seat), cover)
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


def _paint_mirror(chart: Chart, screen: _Screen, rng: np.random.Generator) -> None:
    """Mirror, a tinted strip, sun visors."""
    chart.rect((-0.10, 0.10), (screen.at(0.8), screen.at(0.9)), BLACK)
    if rng.random() < 0.25:
        color = ((0.015, 0.03, 0.04), (0.01, 0.01, 0.012), (0.02, 0.05, 0.03))[int(rng.integers(3))]
        tinted = Matter(color, 0.6, 1.0)
        foot = rng.uniform(0.78, 0.88)
        chart.rect((-screen.top, screen.top), (screen.at(foot), screen.high - 0.02), tinted)
    for side in (-0.5, 0.5):
        if rng.random() < 0.2:
            x = side * screen.top
            visor = Matter((0.16, 0.15, 0.14), 0.6, 1.0)
            chart.rect((x - 0.2, x + 0.2), (screen.at(0.8), screen.high - 0.04), visor)


def _paint_board(
    chart: Chart, screen: _Screen, look: Look, half: float, rng: np.random.Generator
) -> None:
    """A bus's line in red letters of light above the windscreen, or a truck's visor."""
    if look.kind == "bus":
        low, high = screen.high - 0.24, screen.high + 0.03
        chart.rect((-0.7 * half, 0.7 * half), (low, high), BLACK)
        color = (0.7, 0.06, 0.03) if rng.random() < 0.7 else (0.7, 0.35, 0.03)
        text = f"{draw_number(look.rng(56), 3)} {draw_word(rng, 3)}"
        middle = (0.0, screen.high - 0.12)
        chart.write(text, middle, 0.17, Matter(color, 0, 0, 0.9), widest=1.25 * half)
    elif rng.random() < 0.4:
        visor = (screen.high - 0.02, screen.high + 0.14)
        chart.rect((-0.9 * half, 0.9 * half), visor, draw_gray(rng, 0.02, 0.2, 0.3))
