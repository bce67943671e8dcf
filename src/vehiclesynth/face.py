"""What is seen from the front: bumper, grille, lamps, bonnet, windscreen; and the roof."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .body import BUMPER, COWL, FRONT_LOW, HEADER, NOSE, REAR_HEADER, Shells, Strip
from .chance import Rng, pick
from .chart import BLACK, CHROME, LENS, PLASTIC, Chart, Matter, Pair
from .flank import glass
from .grille import paint_badge, paint_grille, paint_openings
from .lamps import AMBER, HEADLAMP, paint_headlamps
from .lettering import draw_number, draw_word
from .look import Look, draw_gray, draw_vivid
from .marks import paint_plate, paint_screen_things, wear_front


def paint_face(chart: Chart, shells: Shells, look: Look) -> None:
    strip = Strip(shells)
    if look.two_tone == "bonnet":
        chart.area(strip.patch((-1, 1), (NOSE, COWL), (0.05, 1)), look.second)
    if look.two_tone == "skirt":
        chart.area(strip.patch((-1.1, 1.1), (FRONT_LOW, NOSE), (-0.5, 0.45)), look.second)
    if look.kind in ("bus", "truck"):
        _paint_flat_front(chart, strip, look)
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
    _paint_windscreen(chart, strip, look)


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
            rib = strip.patch((-0.7, 0.7), (HEADER, REAR_HEADER), (share, share))[:2]
            chart.ridge(rib, 0.06, -0.5)


_LAMPS = ("box", "round", "stack", "slant", "slim", "cluster")
# Where the lamps' middles are, in widths outward and heights upward.
_SPOTS: dict[str, tuple[Pair, ...]] = {
    "stack": ((0, 0.28), (0, -0.22)),
    "cluster": ((-0.25, 0), (0.2, 0.05)),
    "box": ((-0.15, 0), (0.2, 0)),
    "slim": ((-0.3, 0), (0, 0), (0.3, 0)),
}
_PANELS = ("dark", "bars", "painted", "mask", "chrome", "mesh")


def _paint_flat_front(chart: Chart, strip: Strip, look: Look) -> None:
    rng = look.of_model(14)
    low = (FRONT_LOW, NOSE)
    _paint_bumper(chart, strip, look, rng)
    s = strip.way(*low, rng.uniform(0.22, 0.42))
    panel = pick(rng, _PANELS)
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


def _paint_bumper(chart: Chart, strip: Strip, look: Look, rng: Rng) -> None:
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


def _paint_panel(chart: Chart, strip: Strip, look: Look, rng: Rng, panel: str) -> float:
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


def _paint_lamps(chart: Chart, strip: Strip, look: Look, rng: Rng, s: float) -> None:
    family = pick(rng, _LAMPS)
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
            middle = (0, strip.way(FRONT_LOW, COWL, 0.93))
            chart.write(company.name, middle, 0.13, company.ink, widest=1.5)
    elif company.style < 2:  # a stripe, or one that dips in the middle
        (left, s), (right, _) = strip.patch((-1.1, 1.1), (FRONT_LOW, COWL), (0.6, 0.6))[:2]
        dip = 0.15 * company.style
        chart.line([(left, s), (0, s - dip), (right, s)], 0.12, company.ink)
    if rng.random() < 0.7:
        chart.write(number, spot, 0.16, company.ink)


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


def _paint_windscreen(chart: Chart, strip: Strip, look: Look) -> None:
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


def _paint_cabin(chart: Chart, screen: _Screen, look: Look, rng: Rng) -> None:
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


def _paint_mirror(chart: Chart, screen: _Screen, rng: Rng) -> None:
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


def _paint_board(chart: Chart, screen: _Screen, look: Look, half: float, rng: Rng) -> None:
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
