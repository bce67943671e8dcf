"""What tells an individual from the others of its model: things, stickers, wear, its plate."""

from __future__ import annotations

import numpy as np

from .body import BACK_FOOT, BUMPER, COWL, FRONT_LOW, NOSE, REAR_LOW, TAIL, Strip
from .chance import Rng, pick
from .chart import BLACK, CHROME, PLASTIC, Chart, Matter, Pair
from .lettering import draw_number, draw_word
from .look import Look, draw_gray, draw_vivid

_PRIMERS = ((0.16, 0.16, 0.17), (0.14, 0.05, 0.03), (0.3, 0.3, 0.28), (0.02, 0.02, 0.02))
_RUST = Matter((0.10, 0.035, 0.012))


def paint_plate(chart: Chart, spot: Pair, look: Look, *, behind: bool = False) -> None:
    """The plate in its frame; its signs are the same on all, as no picture shows them sharply."""
    (x, s), rng = spot, look.rng(50)
    frame = rng.choice(5)
    if frame:
        edge = (CHROME, BLACK, draw_vivid(rng), PLASTIC)[int(frame) - 1]
        chart.rect((x - 0.255, x + 0.255), (s - 0.1, s + 0.1), edge)
    chart.rect((x - 0.225, x + 0.225), (s - 0.072, s + 0.072), look.plate)
    if look.plate.color[2] > 0.2 or look.plate.color[0] > 0.3:  # those that are not masked
        ink = Matter((0.7, 0.7, 0.7)) if look.plate.color[0] < 0.2 else BLACK
        chart.write("A-88888", spot, 0.1, ink, widest=0.38, turned=(behind, behind))


def stick(
    chart: Chart, rng: Rng, spot: Pair, size: float, *, behind: bool = False, coat: float = 0.1
) -> None:
    """A sticker: a disc, a label, a triangle, or writing; ``coat`` as of ``Matter``."""
    (x, s), kind = spot, int(rng.integers(6))
    inks = [Matter(draw_vivid(rng).color, coat) for _ in range(2)]
    tall = size * rng.uniform(0.5, 1.0)
    if kind == 0:
        chart.disc(spot, size, inks[0])
        chart.disc(spot, 0.55 * size, inks[1])
    elif kind == 1:
        chart.rect((x - size, x + size), (s - tall, s + tall), inks[0])
        chart.rect((x - 0.7 * size, x + 0.7 * size), (s - 0.3 * tall, s + 0.3 * tall), inks[1])
    elif kind == 2:
        chart.area([(x - size, s - tall), (x + size, s - tall), (x, s + size)], inks[0])
    elif kind == 3:
        chart.disc(spot, (size, 0.6 * size), inks[0])
    else:
        word = draw_word(rng, int(rng.integers(1, 4))) if kind == 4 else draw_number(rng, 3)
        chart.write(word, spot, 1.1 * size, inks[0], widest=6 * size, turned=(behind, behind))


def wear_front(chart: Chart, strip: Strip, look: Look) -> None:
    """Dents, scratches, other paint, stickers on bumper and bonnet."""
    rng = look.rng(51)
    body = (FRONT_LOW, NOSE) if look.kind in ("bus", "truck") else (FRONT_LOW, BUMPER)
    _repaint(chart, look, rng, strip.patch((-0.9, 0.9), (NOSE, COWL), (0.06, 0.94)))
    _fade(chart, strip, look, (NOSE, COWL))
    _damage(chart, strip, look, rng, body, (0.3, 1.1))
    for _ in range(int(rng.choice(3, p=[0.75, 0.18, 0.07]))):
        marks = (NOSE, COWL) if rng.random() < 0.4 else body
        spot = (strip.y(rng.uniform(-0.75, 0.75)), strip.way(*marks, rng.uniform(0.3, 0.9)))
        stick(chart, rng, spot, rng.uniform(0.03, 0.09))
    if rng.random() < 0.08:  # the cover of the towing eye is gone
        side = rng.choice([-1, 1])
        chart.disc((strip.y(side * 0.5), strip.way(FRONT_LOW, BUMPER, 0.75)), 0.045, BLACK)


def wear_rear(chart: Chart, strip: Strip, look: Look) -> None:
    """The same behind, and what owners and dealers put on a boot."""
    rng = look.rng(52)
    marks = (TAIL, REAR_LOW)
    _repaint(chart, look, rng, strip.patch((-1.1, 1.1), marks, (0.5, 0.82)))
    if look.kind == "sedan":
        _fade(chart, strip, look, (BACK_FOOT, TAIL))
    _damage(chart, strip, look, rng, marks, (0.1, 0.85))
    for _ in range(int(rng.choice(5, p=[0.45, 0.3, 0.15, 0.07, 0.03]))):
        across = rng.choice([-1, 1]) * rng.uniform(0.2, 0.75)
        spot = (strip.y(across), strip.way(*marks, rng.uniform(0.0, 0.7)))
        stick(chart, rng, spot, rng.uniform(0.03, 0.075), behind=True)


def _repaint(chart: Chart, look: Look, rng: Rng, panel: np.ndarray) -> None:
    """A panel that was painted again, in nearly the right colour, or is not painted yet."""
    draw = rng.random()
    if draw < 0.06 * look.wear:
        chart.veil(panel, Matter(pick(rng, _PRIMERS), 0.05), 0.9)
    elif draw < 0.4 * look.wear:
        chart.veil(panel, look.paint.tinted(float(rng.choice([0.7, 0.8, 1.25, 1.4]))), 0.8)


def _fade(chart: Chart, strip: Strip, look: Look, marks: tuple[int, int]) -> None:
    """Clear coat that has come off what the sun burns."""
    rng = look.rng(53)  # the same in front and behind
    if look.wear < 0.55 or rng.random() < 0.5:
        return
    for _ in range(int(rng.integers(2, 6))):
        spot = (strip.y(rng.uniform(-0.7, 0.7)), strip.way(*marks, rng.uniform(0.15, 0.85)))
        size = rng.uniform(0.05, 0.22)
        angles = np.arange(14) * (2 * np.pi / 14)
        radii = size * rng.uniform(0.5, 1.2, 14)
        blotch = spot + radii[:, None] * np.stack([1.5 * np.cos(angles), np.sin(angles)], axis=1)
        chart.area(blotch, Matter(look.paint.tinted(1.5).color, 0.08))


def _damage(
    chart: Chart, strip: Strip, look: Look, rng: Rng, marks: tuple[int, int], way: Pair
) -> None:
    for _ in range(int(rng.poisson(3.2 * look.wear))):
        x = strip.y(float(rng.choice([-1, 1]) * rng.beta(3, 1.6)))
        s = strip.way(*marks, rng.uniform(*way))
        long = rng.normal(0, 0.16, 2) * [1, 0.35]
        kind = rng.random()
        if kind < 0.5:
            ink = draw_gray(rng, 0.03, 0.5) if rng.random() < 0.8 else _RUST
            chart.line([(x, s), (x + long[0], s + long[1])], rng.uniform(0.01, 0.035), ink)
        elif kind < 0.7:
            primer = Matter(pick(rng, _PRIMERS))
            chart.disc((x, s), (rng.uniform(0.04, 0.15), rng.uniform(0.03, 0.08)), primer)
        chart.ridge([(x, s), (x + long[0], s + long[1])], 0.12, rng.uniform(-1, 1))


def paint_screen_things(
    chart: Chart, look: Look, corners: tuple[float, float, float, float]
) -> None:
    """What is stuck to the windscreen, lies on the dashboard and hangs from the mirror.

    ``corners``: half widths below and above, ways of the lower and the upper edge.
    """
    foot, top, low, high = corners
    tall, rng = high - low, look.rng(54)
    _paint_inspections(chart, rng, top, (low, tall))
    shade = 0.45 + 0.25 * look.tint[0]

    def behind(matter: Matter) -> Matter:
        return Matter(matter.tinted(shade).color, look.screen, 0.5)

    for _ in range(int(rng.choice(5, p=[0.25, 0.3, 0.22, 0.15, 0.08]))):
        spot = (rng.uniform(-0.8, 0.8) * foot, low + rng.uniform(0.06, 0.14) * min(tall, 1.0))
        inks = (behind(draw_vivid(rng)), behind(draw_vivid(rng)))
        _put_down(chart, spot, rng.uniform(0.05, 0.14), inks, int(rng.integers(4)))
    if rng.random() < 0.4:  # a charm
        x, long = rng.uniform(-0.06, 0.06), rng.uniform(0.12, 0.3) * min(tall, 1.0)
        s = low + 0.8 * tall
        charm = behind(draw_vivid(rng) if rng.random() < 0.5 else Matter((0.6, 0.03, 0.03)))
        chart.line([(x, s), (x, s - long)], 0.018, charm)
        chart.disc((x, s - long), rng.uniform(0.025, 0.06), charm)
    if rng.random() < 0.2:  # a cloth over the dashboard
        cloth, edge = behind(draw_vivid(rng)), low + 0.16 * tall
        chart.rect((-0.86 * foot, 0.86 * foot), (low + 0.05, edge), cloth)
    for side in (-1, 1):
        if rng.random() < 0.12:
            spot = (side * rng.uniform(0.5, 0.8) * foot, low + rng.uniform(0.1, 0.2) * tall)
            stick(chart, rng, spot, rng.uniform(0.04, 0.08), coat=look.screen)


def _put_down(
    chart: Chart, spot: Pair, size: float, inks: tuple[Matter, Matter], kind: int
) -> None:
    """A ball, a box, paper that lies flat, or a figure with a head."""
    x, s = spot
    if kind == 0:
        chart.disc((x, s + 0.7 * size), size * 0.8, inks[0])
    elif kind == 1:
        chart.rect((x - size, x + size), (s, s + 0.9 * size), inks[0])
    elif kind == 2:
        pale = Matter((0.4, 0.4, 0.38), inks[0].coat, 0.5)
        chart.rect((x - size, x + size), (s, s + 0.07), pale)
    else:
        chart.disc((x, s + 0.5 * size), (0.4 * size, 0.8 * size), inks[0])
        chart.disc((x, s + 1.4 * size), 0.45 * size, inks[1])


def _paint_inspections(chart: Chart, rng: Rng, top: float, extent: Pair) -> None:
    """Inspection stickers in the corner, as many as years, in a row, columns or a block."""
    low, tall = extent
    count = int(rng.choice(8, p=[0.14, 0.14, 0.18, 0.16, 0.13, 0.11, 0.08, 0.06]))
    layout, size = int(rng.integers(3)), rng.uniform(0.035, 0.055)
    inks = [draw_vivid(rng) for _ in range(2)]
    green = Matter((0.05, 0.32, 0.16), 0.3)
    side = -1 if rng.random() < 0.85 else 1
    drop = rng.uniform(0.84, 0.93)
    for number in range(count):
        row, column = {0: (0, number), 1: (number % 4, number // 4), 2: divmod(number, 3)}[layout]
        shift = rng.normal(0, 0.008, 2)
        x = side * (top - 0.11 - (2.2 * size) * column) + shift[0]
        s = low + drop * tall - 2.1 * size * row + shift[1]
        ink = green if rng.random() < 0.45 else inks[number % 2]
        label = Matter(ink.color, 0.35)
        if rng.random() < 0.3:
            chart.disc((x, s), size, label)
        else:
            chart.rect((x - size, x + size), (s - 0.85 * size, s + 0.85 * size), label)
        chart.disc((x, s), 0.4 * size, Matter((0.6, 0.6, 0.58), 0.3))


def paint_rear_things(chart: Chart, look: Look, corners: tuple[float, float, float, float]) -> None:
    """What stands on the shelf behind the rear window and sticks to it.

    ``corners``: half widths above and below, ways of the upper and the lower edge.
    """
    top, foot, high, low = corners
    tall = low - high
    rng = look.rng(55)
    shade = 0.25 + 0.45 * look.tint[1]

    def behind(matter: Matter) -> Matter:
        return Matter(matter.tinted(shade).color, 0.6, 0.5)

    for _ in range(int(rng.choice(5, p=[0.35, 0.25, 0.2, 0.12, 0.08]))):
        x, size = rng.uniform(-0.75, 0.75) * foot, rng.uniform(0.06, 0.16)
        matter, s = behind(draw_vivid(rng)), low - 0.05
        if rng.random() < 0.5:
            chart.rect((x - size, x + size), (s - 0.9 * size, s), matter)
        else:
            chart.disc((x, s - 0.7 * size), (size, 0.8 * size), matter)
            chart.disc((x, s - 1.5 * size), 0.5 * size, matter)
    if rng.random() < 0.1:  # a child's seat
        x = float(rng.choice([-0.4, 0.4])) * foot
        chart.rect((x - 0.16, x + 0.16), (high + 0.3 * tall, low - 0.05), behind(draw_vivid(rng)))
    if rng.random() < 0.08:  # a blind
        blind = [(-0.9 * top, high + 0.1), (0.9 * top, high + 0.1)]
        blind += [(0.85 * foot, low - 0.1), (-0.85 * foot, low - 0.1)]
        chart.area(blind, behind(draw_gray(rng, 0.05, 0.4)))
    for _ in range(int(rng.choice(4, p=[0.5, 0.27, 0.15, 0.08]))):
        corner = rng.choice([-1, 1]), rng.choice([0.2, 0.8])
        x = corner[0] * rng.uniform(0.3, 0.8) * (top + corner[1] * (foot - top))
        spot = (float(x), float(high + corner[1] * tall))
        stick(chart, rng, spot, rng.uniform(0.04, 0.1), behind=True)
