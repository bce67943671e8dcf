"""What is seen from behind: rear window, boot, lamps, plate, bumper."""

from __future__ import annotations

import numpy as np

from .body import BACK_FOOT, REAR_HEADER, REAR_LOW, TAIL, Shells
from .chart import BLACK, CHROME, PLASTIC, RED_LENS, Chart, Matter
from .flank import glass, write
from .look import Look, draw_gray, draw_paint
from .strip import Strip

BRAKE_LAMP = Matter((0.5, 0.02, 0.02), 0.5, 0, 0.8)
_WHITE_LENS = Matter((0.5, 0.5, 0.5), 0.6)


def paint_tail(chart: Chart, shells: Shells, look: Look) -> None:
    if look.kind == "truck":
        return  # the cab's back stands before the load
    strip = Strip(shells)
    if look.two_tone == "skirt":
        chart.area(strip.patch((-1.1, 1.1), (TAIL, REAR_LOW), (0.35, 2)), look.second)
    _paint_bumper(chart, strip, look)
    if look.kind == "pickup":
        _paint_bed(chart, strip, look)
    else:
        _paint_boot(chart, strip, look)
    _paint_lamps(chart, strip, look)
    _paint_window(chart, strip, look)
    _paint_signs(chart, strip, look)


def _paint_bumper(chart: Chart, strip: Strip, look: Look) -> None:
    rng = look.rng(20)
    marks = (TAIL, REAR_LOW)
    lower = rng.uniform(0.78, 0.9)
    chart.area(strip.patch((-1.2, 1.2), marks, (lower, 1.6)), PLASTIC)
    if look.kind in ("suv", "pickup") and rng.random() < 0.6:
        bumper = PLASTIC if rng.random() < 0.6 else CHROME.tinted(0.7)
        chart.area(strip.patch((-1.2, 1.2), marks, (0.6, lower)), bumper)
    chart.line(strip.patch((-1, 1), marks, (0.52, 0.52))[:2], 0.010, look.paint.tinted(0.3))
    for side in (-1, 1):
        reflector = strip.patch((side * 0.62, side * 0.88), marks, (0.74, 0.78))
        chart.area(reflector, RED_LENS)
        if rng.random() < 0.5:
            chart.disc(
                (strip.y(side * 0.6), strip.way(*marks, 0.97)), (0.07, 0.04), CHROME.tinted(0.4)
            )


def _paint_boot(chart: Chart, strip: Strip, look: Look) -> None:
    rng = look.rng(21)
    gap = look.paint.tinted(0.3)
    start = BACK_FOOT if look.kind == "sedan" else REAR_HEADER
    lid = np.array(
        [
            (strip.y(0.80), strip.way(start, TAIL, 0.02)),
            (strip.y(0.82), strip.way(TAIL, REAR_LOW, 0.45)),
            (strip.y(-0.82), strip.way(TAIL, REAR_LOW, 0.45)),
            (strip.y(-0.80), strip.way(start, TAIL, 0.02)),
        ]
    )
    chart.line(lid, 0.009, gap)
    chart.ridge(strip.patch((-0.8, 0.8), (TAIL, REAR_LOW), (0.02, 0.02))[:2], 0.05, 0.7)
    if look.kind in ("van", "bus") and rng.random() < 0.5:
        chart.line(
            [(0, strip.way(REAR_HEADER, TAIL, 0.1)), (0, strip.way(TAIL, REAR_LOW, 0.8))], 0.01, gap
        )
    if rng.random() < 0.55:
        s = strip.way(TAIL, REAR_LOW, rng.uniform(0.1, 0.2))
        chart.rect((-0.32, 0.32), (s - 0.02, s + 0.02), CHROME)


def _paint_bed(chart: Chart, strip: Strip, look: Look) -> None:
    """The load bed is open: its far wall and what lies in it are dark."""
    chart.area(strip.patch((-0.86, 0.86), (BACK_FOOT, TAIL), (0.04, 0.93)), BLACK.tinted(1.5))
    floor = draw_gray(look.rng(22), 0.02, 0.10)
    chart.area(strip.patch((-0.78, 0.78), (BACK_FOOT, TAIL), (0.25, 0.9)), floor)
    write(chart, look.rng(23), (-0.45, strip.way(TAIL, REAR_LOW, 0.3)), 0.12, CHROME)


def _paint_lamps(chart: Chart, strip: Strip, look: Look) -> None:
    rng = look.rng(24)
    marks = (TAIL, REAR_LOW)
    upright = look.kind in ("suv", "van", "mpv", "hatchback", "estate", "pickup", "bus")
    tall = rng.uniform(0.35, 0.55) if upright else rng.uniform(0.22, 0.34)
    wide = rng.uniform(0.10, 0.22) if upright else rng.uniform(0.24, 0.45)
    first = rng.uniform(-0.25, 0.02) if upright else rng.uniform(0.0, 0.06)
    shape = rng.uniform(-0.1, 0.1)
    for side in (-1, 1):
        lamp = strip.patch((side * 1.15, side * (0.97 - wide)), marks, (first, first + tall))
        lamp[2, 0] += side * 0.08
        lamp[1, 1] += shape * 0.3
        chart.area(lamp, BLACK)
        middle = lamp.mean(axis=0)
        chart.area(middle + (lamp - middle) * 0.93, RED_LENS)
        glowing = middle + (lamp - middle) * [0.62, 0.55]
        chart.area(glowing, BRAKE_LAMP)
        for number, matter in enumerate((_WHITE_LENS, Matter((0.45, 0.2, 0.03), 0.5))):
            share = first + tall * (0.72 + 0.13 * number)
            inner = strip.patch(
                (side * (0.97 - 0.8 * wide), side * 0.93), marks, (share, share + 0.1 * tall)
            )
            chart.area(inner, matter)
    if rng.random() < 0.7:
        s = strip.way(REAR_HEADER, BACK_FOOT, 0.04)
        chart.rect((-0.16, 0.16), (s - 0.015, s + 0.015), BRAKE_LAMP)


def _paint_window(chart: Chart, strip: Strip, look: Look) -> None:
    rng = look.rng(25)
    shell = strip.shells.shell
    if look.kind == "van" and rng.random() < 0.2:
        return
    top = float(shell.on_strip(REAR_HEADER, 1)[1]) - 0.10
    foot = float(shell.on_strip(BACK_FOOT, 1)[1]) - 0.10
    low = {"bus": 0.85, "van": 0.9, "suv": 0.92, "mpv": 0.92}.get(look.kind, 0.97)
    s0, s1 = strip.way(REAR_HEADER, BACK_FOOT, 0.06), strip.way(REAR_HEADER, BACK_FOOT, low)
    if look.kind == "bus":
        s0 = strip.way(REAR_HEADER, BACK_FOOT, 0.2)
    frame = np.array([(-top, s0), (top, s0), (foot, s1), (-foot, s1)])
    chart.area(frame, BLACK)
    pane = frame + np.array([(0.03, 0.025), (-0.03, 0.025), (-0.03, -0.025), (0.03, -0.025)])
    tint = look.tint[1]
    chart.area(pane, glass(tint))
    tall = s1 - s0
    for side in (-1, 1):  # the rear seats' heads before what the windscreen lets in
        chart.disc((side * 0.32 * foot, s0 + 0.75 * tall), (0.11, 0.16 * tall), glass(0.5 * tint))
    chart.rect(
        (-0.6 * foot, 0.6 * foot),
        (s0 + 0.22 * tall, s0 + 0.5 * tall),
        Matter((0.06 * tint, 0.065 * tint, 0.07 * tint), 0.6, 1.0),
    )
    if rng.random() < 0.5:
        for share in np.linspace(0.15, 0.9, 7):
            chart.line(
                [(-0.9 * top, s0 + share * tall), (0.9 * top, s0 + share * tall)],
                0.004,
                glass(2 * tint),
            )
    if rng.random() < 0.35 and look.kind != "sedan":
        chart.line([(0, s1 - 0.02), (0.4 * foot, s0 + 0.55 * tall)], 0.02, BLACK)


def _paint_signs(chart: Chart, strip: Strip, look: Look) -> None:
    rng = look.rng(26)
    marks = (TAIL, REAR_LOW)
    s = strip.way(*marks, rng.uniform(0.22, 0.36) if rng.random() < 0.7 else rng.uniform(0.6, 0.68))
    chart.rect((-0.30, 0.30), (s - 0.10, s + 0.10), look.paint.tinted(0.55))
    chart.rect((-0.22, 0.22), (s - 0.07, s + 0.07), look.plate)
    if look.plate.color[2] > 0.2 or look.plate.color[0] > 0.3:
        ink = Matter((0.7, 0.7, 0.7)) if look.plate.color[0] < 0.2 else BLACK
        for sign in range(7):
            chart.line(
                [(-0.19 + 0.058 * sign, s - 0.035), (-0.17 + 0.058 * sign, s + 0.04)], 0.016, ink
            )
    badge = (0.0, strip.way(*marks, 0.09))
    chart.disc(badge, (0.05, 0.035), CHROME.tinted(0.7))
    for side in (-1, 1):
        if rng.random() < 0.6:
            write(chart, rng, (strip.y(side * 0.5) - 0.08, strip.way(*marks, 0.17)), 0.04, CHROME)
    for _ in range(int(rng.choice([0, 0, 1, 2]))):
        ink = draw_paint(rng, str(rng.choice(["red", "white", "yellow", "blue"])))
        spot = (rng.uniform(-0.6, 0.6), strip.way(*marks, rng.uniform(0.0, 0.5)))
        chart.disc(spot, (rng.uniform(0.04, 0.12), 0.05), ink)
    if look.kind in ("bus", "van") and rng.random() < 0.5:
        write(chart, rng, (-0.5, strip.way(REAR_HEADER, TAIL, 0.95)), 0.14, draw_paint(rng, "red"))
