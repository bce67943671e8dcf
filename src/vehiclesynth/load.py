"""What trucks and pickups carry: boxes, tarpaulins, tippers full of sand, goods on a flat bed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .body import Shells, box_loft
from .chance import Rng, pick
from .chart import BLACK, PLASTIC, RED_LENS, SEAM, Chart, Matter, Pair
from .fittings import Fitting, ball, box, draw_ladder
from .lettering import draw_number, draw_word
from .loft import Loft
from .look import Look, draw_gray, draw_paint, draw_vivid
from .marks import stick
from .mesh import grid_mesh

_RED_STRIP, _WHITE_STRIP = Matter((0.45, 0.03, 0.03), 0.2), Matter((0.6, 0.6, 0.6), 0.2)
_SAND = ((0.26, 0.20, 0.12), (0.12, 0.10, 0.08), (0.30, 0.29, 0.27), (0.05, 0.05, 0.05))


@dataclass(frozen=True, eq=False)
class Load:
    """A load space with painted sides, and the loose parts on and below it."""

    loft: Loft | None
    charts: tuple[Chart, Chart, Chart] | tuple[()]
    fittings: tuple[Fitting, ...]


def draw_load(shells: Shells, look: Look, density: float) -> Load:
    """What a truck or a pickup carries; nothing elsewhere."""
    rng = look.rng(40)
    if look.kind == "pickup":
        return Load(None, (), tuple(_goods(rng, *_bed(shells), int(rng.integers(0, 4)))))
    if look.kind != "truck":
        return Load(None, (), ())
    low, high = shells.load()
    kind = pick(rng, ("box", "tarp", "tipper", "flat", "tank"), (0.36, 0.2, 0.26, 0.13, 0.05))
    goods: list[Fitting] = []
    if kind == "flat":
        loft = box_loft(low, np.array([high[0], high[1], low[2] + 0.35]), 0.02)
        charts = _painted(loft, look, rng, density, "board")
        inner, outer = np.array([0.15, 0.15, 0.3]), np.array([0.15, 0.15, 0.0])
        goods = _goods(rng, low + inner, high - outer, int(rng.integers(2, 7)))
    elif kind == "tipper":
        high = np.array([high[0], high[1], low[2] + rng.uniform(0.6, 1.2)])
        loft = box_loft(low, high, 0.02)
        charts = _painted(loft, look, rng, density, "tipper")
        goods = [_heap(rng, low, high)]
    else:
        high[2] *= rng.uniform(0.95, 1.25)
        loft = box_loft(low, high, 0.12 if kind == "tarp" else 0.04)
        charts = _painted(loft, look, rng, density, kind)
    ladder = _ladder(look.rng(41), loft, high[1], closed=kind not in ("flat", "tipper"))
    return Load(loft, charts, (*_chassis(shells, low), *goods, *ladder))


def _ladder(rng: Rng, loft: Loft, half: float, *, closed: bool) -> list[Fitting]:
    """A ladder that some trucks carry on a side, or on the rear or the top of a closed box."""
    if rng.random() > 0.25:
        return []
    (rear, low), (front, high) = loft.low, loft.high
    where = rng.choice(["left", "right", "rear", "top"] if closed else ["left", "right"])
    if where == "rear":
        corner = rear - 0.06, rng.uniform(0.1 - half, half - 0.6), low
        return draw_ladder(rng, corner, high - low, along=2, across=1)
    start = rear + rng.uniform(0.1, 0.5)
    room = min(front - start, 4.0)
    if where == "top":
        corner = start, rng.uniform(0.1 - half, half - 0.6), high
        return draw_ladder(rng, corner, room, along=0, across=1)
    y = half + 0.01 if where == "left" else -half - 0.06
    corner = start, y, low + rng.uniform(0.0, max(high - low - 0.5, 0.05))
    return draw_ladder(rng, corner, room, along=0, across=2)


def load_keypoints(shells: Shells, load: Load) -> dict[int, np.ndarray]:
    """The rear corners of a truck's left side: bumper, lower and upper edge, between them."""
    assert load.loft is not None
    low, high = float(shells.load()[0][2]), load.loft.high[1]
    x, y = shells.rear + 0.02, shells.body.width / 2 - 0.03
    heights = (2 * shells.body.wheel - 0.3, low, (low + high) / 2, high - 0.02)
    return {index: np.array([x, y, z]) for index, z in enumerate(heights, start=10)}


def _bed(shells: Shells) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest corner of what a pickup carries."""
    half = shells.body.width / 2 - 0.3
    low = np.array([shells.back + 0.15, -half, shells.tail - 0.25])
    return low, np.array([shells.back + shells.body.boot - 0.15, half, shells.tail + 0.35])


def _chassis(shells: Shells, low: np.ndarray) -> list[Fitting]:
    """Frame, bumper, lamps, tanks, guards and mudflaps."""
    front, rear, wheel = shells.front, shells.rear, shells.body.wheel
    half, (first, last) = shells.body.width / 2, shells.axles
    tank = (first + last) / 2
    lamp = (rear - 0.01, half - 0.5, wheel + 0.18), (rear + 0.05, half - 0.12, wheel + 0.34)
    tanks = (tank - 0.2, half - 0.5, wheel - 0.15), (tank + 0.7, half - 0.08, wheel + 0.35)
    guard = (last + 0.8, half - 0.08, wheel), (tank - 0.3, half - 0.04, wheel + 0.3)
    flap = (last - 0.75, half - 0.4, 0.25), (last - 0.72, half, 2 * wheel)
    grey, end = PLASTIC.tinted(2), rear + 0.12
    return [
        box((rear + 0.1, -0.45, wheel), (front - 1.0, 0.45, low[2]), SEAM),
        box((rear + 0.02, -half + 0.1, wheel - 0.02), (end, half - 0.1, wheel + 0.14), grey),
        box(*lamp, RED_LENS, both=True),
        box(*tanks, PLASTIC.tinted(3), both=True),
        box(*guard, grey, both=True),
        box(*flap, BLACK, both=True),
    ]


def _painted(
    loft: Loft, look: Look, rng: Rng, density: float, kind: str
) -> tuple[Chart, Chart, Chart]:
    base = _base(rng, look, kind)
    charts = loft.charts(density, base)
    (x0, z0), (x1, z1) = loft.low, loft.high
    long, tall, company = x1 - x0, z1 - z0, look.company
    ink = draw_vivid(rng)
    ropes = draw_gray(rng, 0.2, 0.6) if rng.random() < 0.5 else None
    for number, side in enumerate(charts[:2]):
        for x in np.arange(x0 + 0.2, x1, rng.uniform(0.35, 0.9)):
            side.ridge([(x, z0), (x, z1)], 0.12 if kind == "tarp" else 0.05, rng.uniform(-0.5, 0.5))
            if kind in ("tipper", "board"):
                side.rect((x - 0.04, x + 0.04), (z0, z1), base.tinted(0.7))
        if kind == "tarp":
            for x in np.arange(x0 + 0.3, x1, 0.6):
                side.line([(x, z0), (x + 0.05, z0 + 0.3)], 0.02, draw_gray(rng, 0.2, 0.5))
        side.rect((x0, x1), (z0, z0 + 0.08), base.tinted(0.45))
        if company is not None or rng.random() < 0.3:
            name = company.name if company else draw_word(rng, 3)
            spot = x0 + rng.uniform(0.35, 0.65) * long, z0 + rng.uniform(0.4, 0.7) * tall
            size, letters = min(rng.uniform(0.3, 0.8), 0.6 * tall), company.ink if company else ink
            side.write(name, spot, size, letters, widest=0.8 * long, turned=(number == 0, False))
        if kind == "tarp" and ropes:
            for x in np.arange(x0 + 0.2, x1 - 0.5, 0.9):
                side.line([(x, z1), (x + 0.45, z0)], 0.03, ropes)
                side.line([(x + 0.45, z1), (x, z0)], 0.03, ropes)
        for x in np.arange(x0 + 0.3, x1, 1.2):  # reflecting strips
            side.rect((x, x + 0.3), (z0 + 0.09, z0 + 0.15), _RED_STRIP)
            side.rect((x + 0.3, x + 0.45), (z0 + 0.09, z0 + 0.15), _WHITE_STRIP)
        side.stain(rng, 0.3 + 0.6 * look.dirt, (0.16, 0.14, 0.11), below=z1)
    _paint_rear(charts[2], loft, rng, base, kind, look)
    return charts


def _base(rng: Rng, look: Look, kind: str) -> Matter:
    if kind == "tarp":
        return draw_paint(rng, pick(rng, ("green", "blue", "gray", "red"))).tinted(0.8)
    if kind in ("tipper", "board"):
        return look.paint.tinted(0.9) if rng.random() < 0.75 else draw_gray(rng, 0.05, 0.3, 0.1)
    return look.paint if rng.random() < 0.55 else draw_gray(rng, 0.35, 0.75, 0.2)


def _paint_rear(chart: Chart, loft: Loft, rng: Rng, base: Matter, kind: str, look: Look) -> None:
    """Doors, hinges and bars between the strip's corners 2 (top) and 3 (bottom)."""
    half = chart.high[0]
    top, bottom = loft.way(2) + 0.05, loft.way(3) - 0.05
    gap, edge = base.tinted(0.4), half - 0.06
    rim = [(-edge, top), (edge, top), (edge, bottom), (-edge, bottom)]
    chart.line(rim, 0.03, gap, closed=True)
    if kind in ("box", "tank"):
        chart.line([(0, top), (0, bottom)], 0.02, gap)
        for y in (-0.25, 0.25):
            chart.line([(y, top), (y, bottom)], 0.03, draw_gray(rng, 0.1, 0.4, 0.4))
    if kind == "tarp":
        chart.ridge([(-half, top + 0.3), (half, top + 0.4)], 0.1, 0.6)
    for s in np.linspace(top, bottom, 4)[1:-1]:
        chart.line([(-half + 0.1, s), (half - 0.1, s)], 0.025, gap)
    for y in np.arange(-half + 0.1, half - 0.2, 0.45):
        chart.rect((y, y + 0.25), (bottom - 0.12, bottom - 0.05), _RED_STRIP)
    _letter_rear(chart, rng, look, half, (top, bottom))
    for side in (-1, 1):
        y = side * (half - 0.3)
        chart.rect((y - 0.12, y + 0.12), (bottom - 0.3, bottom - 0.18), RED_LENS)


def _letter_rear(chart: Chart, rng: Rng, look: Look, half: float, way: Pair) -> None:
    """The owner's name, the number in large signs as law asks for, stickers, a repaired patch."""
    (top, bottom), company = way, look.company
    tall = bottom - top

    def write(text: str, down: float, size: float, ink: Matter, widest: float) -> None:
        spot = 0.0, top + down * tall
        chart.write(text, spot, size, ink, widest=widest * half, turned=(True, True))

    if company is not None:
        write(company.name, 0.3, min(0.3, 0.4 * tall), company.ink, 1.6)
    if rng.random() < 0.6:
        large = f"{draw_word(rng, 1)[0]}-{draw_number(rng, 5)}"
        ink = draw_gray(rng, 0.5, 0.7) if rng.random() < 0.6 else draw_vivid(rng)
        write(large, 0.68, min(0.28, 0.3 * tall), ink, 1.4)
    for _ in range(int(rng.integers(0, 4))):
        spot = (rng.uniform(-0.8, 0.8) * half, top + rng.uniform(0.1, 0.9) * tall)
        stick(chart, rng, spot, rng.uniform(0.06, 0.16), behind=True)
    for _ in range(int(rng.poisson(2 * look.wear))):
        x, s = rng.uniform(-0.8, 0.8) * half, top + rng.uniform(0.1, 0.9) * tall
        wide, high = rng.uniform(0.1, 0.4), rng.uniform(0.05, 0.25)
        chart.rect((x - wide, x + wide), (s - high, s + high), draw_gray(rng, 0.05, 0.4))


def _heap(rng: Rng, low: np.ndarray, high: np.ndarray) -> Fitting:
    """Sand or gravel, heaped or under a net."""
    u, v = np.meshgrid(np.linspace(0, 1, 14), np.linspace(0, 1, 9), indexing="ij")
    bulge = rng.uniform(0.1, 0.6) * (np.sin(np.pi * u) * np.sin(np.pi * v)) ** 0.7
    z = high[2] - 0.04 + bulge + rng.normal(0, 0.03, u.shape)
    x = low[0] + 0.1 + u * (high[0] - low[0] - 0.2)
    y = low[1] + 0.06 + v * (high[1] - low[1] - 0.12)
    points = np.stack([x, y, z], axis=2)
    return Fitting(Matter(pick(rng, _SAND)), grid_mesh(points))


def _goods(rng: Rng, low: np.ndarray, high: np.ndarray, count: int) -> list[Fitting]:
    fittings = []
    for _ in range(count):
        size = rng.uniform(0.25, 0.7, 3) * [1.4, 1.0, 1.0] * min(1.0, high[2] - low[2])
        first = low + rng.uniform(0, 1, 3) * np.maximum(high - low - size, 0.01) * [1, 1, 0]
        last = first + size
        colors = ["gray", "brown", "white", "blue", "green", "red"]
        matter = Matter(draw_paint(rng, pick(rng, colors)).color, 0.1)
        if rng.random() < 0.35:
            fittings.append(ball((first + last) / 2, (last - first) / 2, matter, 0.7))
        else:
            fittings.append(box(first, last, matter))
    return fittings
