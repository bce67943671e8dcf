"""What is seen from behind: rear window, boot, lamps, plate, bumper."""

from __future__ import annotations

import numpy as np

from .body import BACK_FOOT, REAR_HEADER, REAR_LOW, TAIL, Shells, Strip
from .chart import BLACK, CHROME, PLASTIC, RED_LENS, Chart, Matter
from .flank import glass
from .grille import paint_badge
from .lamps import paint_rear_lamps
from .lettering import draw_number, draw_word
from .look import Look, draw_gray, draw_vivid
from .marks import paint_plate, paint_rear_things, wear_rear


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
    paint_rear_lamps(chart, strip, look)
    _paint_window(chart, strip, look)
    wear_rear(chart, strip, look)
    _paint_signs(chart, strip, look)


def _paint_bumper(chart: Chart, strip: Strip, look: Look) -> None:
    rng, trim = look.of_model(20), look.of_version(20)
    marks = (TAIL, REAR_LOW)
    lower = rng.uniform(0.74, 0.92)
    chart.area(strip.patch((-1.2, 1.2), marks, (lower, 1.6)), PLASTIC)
    if rng.random() < 0.3:  # an apron between the exhausts
        half = rng.uniform(0.4, 0.7)
        apron = strip.patch((-half, half), marks, (lower - rng.uniform(0.05, 0.14), lower))
        apron[:2, 0] *= 0.85
        chart.area(apron, PLASTIC)
    if look.kind in ("suv", "pickup") and rng.random() < 0.6:
        bumper = PLASTIC if trim.random() < 0.6 else CHROME.tinted(0.7)
        chart.area(strip.patch((-1.2, 1.2), marks, (0.6, lower)), bumper)
    if trim.random() < 0.25:
        chart.line(strip.patch((-0.95, 0.95), marks, (0.66, 0.66))[:2], 0.035, look.trim)
    joint = rng.uniform(0.46, 0.56)
    chart.line(strip.patch((-1, 1), marks, (joint, joint))[:2], 0.010, look.paint.tinted(0.3))
    reflectors, exhaust = int(rng.integers(4)), int(trim.integers(6))
    low = rng.uniform(0.7, 0.82)
    for side in (-1, 1):
        if reflectors == 0:
            chart.area(strip.patch((side * 0.62, side * 0.88), marks, (low, low + 0.04)), RED_LENS)
        if reflectors == 1:
            chart.area(strip.patch((side * 0.82, side * 0.9), marks, (0.66, 0.84)), RED_LENS)
        if reflectors == 2:
            chart.disc((strip.y(side * 0.76), strip.way(*marks, low)), 0.05, RED_LENS)
        if exhaust in (0, 1) or (exhaust == 2 and side > 0):
            x, s = strip.y(side * 0.6), strip.way(*marks, 0.97)
            tip = CHROME.tinted(0.6)
            if exhaust == 1:
                chart.rect((x - 0.1, x + 0.1), (s - 0.035, s + 0.035), tip)
                chart.rect((x - 0.08, x + 0.08), (s - 0.02, s + 0.02), BLACK)
            else:
                chart.disc((x, s), (0.07, 0.045), tip)
                chart.disc((x, s), (0.05, 0.03), BLACK)


def _paint_boot(chart: Chart, strip: Strip, look: Look) -> None:
    rng, trim = look.of_model(21), look.of_version(21)
    gap = look.paint.tinted(0.3)
    start = BACK_FOOT if look.kind == "sedan" else REAR_HEADER
    half, foot = rng.uniform(0.74, 0.86), rng.uniform(0.4, 0.52)
    top, bottom = strip.way(start, TAIL, 0.02), strip.way(TAIL, REAR_LOW, foot)
    right = strip.y(half)
    lid = np.array([(right, top), (right, bottom), (-right, bottom), (-right, top)])
    chart.line(lid, 0.009, gap)
    edge, rise = rng.uniform(-0.02, 0.06), rng.uniform(0.2, 1.0)
    chart.ridge(strip.patch((-0.8, 0.8), (TAIL, REAR_LOW), (edge, edge))[:2], 0.05, rise)
    if rng.random() < 0.5:
        crease = rng.uniform(0.25, 0.42)
        chart.ridge(strip.patch((-0.8, 0.8), (TAIL, REAR_LOW), (crease, crease))[:2], 0.05, -rise)
    if look.kind in ("van", "bus") and rng.random() < 0.5:
        ends = strip.way(REAR_HEADER, TAIL, 0.1), strip.way(TAIL, REAR_LOW, 0.8)
        chart.line([(0, ends[0]), (0, ends[1])], 0.01, gap)
    s, wide, thick = rng.uniform(0.08, 0.22), rng.uniform(0.26, 0.62), rng.uniform(0.012, 0.03)
    if trim.random() < 0.55:
        s = strip.way(TAIL, REAR_LOW, s)
        strip_matter = CHROME if trim.random() < 0.7 else BLACK
        chart.rect((-wide, wide), (s - thick, s + thick), strip_matter)


def _paint_bed(chart: Chart, strip: Strip, look: Look) -> None:
    """The load bed is open: its far wall and what lies in it are dark."""
    chart.area(strip.patch((-0.86, 0.86), (BACK_FOOT, TAIL), (0.04, 0.93)), BLACK.tinted(1.5))
    rng = look.rng(22)
    draw = rng.random()
    if draw < 0.25:  # under a cover
        cover = draw_gray(rng, 0.01, 0.05, 0.1) if draw < 0.18 else look.paint.tinted(0.9)
        chart.area(strip.patch((-0.84, 0.84), (BACK_FOOT, TAIL), (0.05, 0.94)), cover)
        for share in np.linspace(0.1, 0.9, int(rng.integers(3, 6))):
            chart.ridge(strip.patch((-0.8, 0.8), (BACK_FOOT, TAIL), (share, share))[:2], 0.06, -0.5)
    else:
        floor = draw_gray(rng, 0.02, 0.10)
        chart.area(strip.patch((-0.78, 0.78), (BACK_FOOT, TAIL), (0.25, 0.9)), floor)
    own = look.of_model(23)
    if own.random() < 0.8 and look.company is None:
        ink = CHROME if own.random() < 0.6 else draw_gray(own, 0.02, 0.6)
        word, size = draw_word(own, 3), own.uniform(0.1, 0.2)
        spot = 0.0, strip.way(TAIL, REAR_LOW, 0.3)
        chart.write(word, spot, size, ink, widest=1.1, turned=(True, True))


def _paint_window(chart: Chart, strip: Strip, look: Look) -> None:
    rng, own = look.of_model(25), look.rng(25)
    shell = strip.shells.shell
    if look.kind == "van" and rng.random() < 0.2:
        return
    top = float(shell.on_strip(REAR_HEADER, 1)[1]) - rng.uniform(0.07, 0.14)
    foot = float(shell.on_strip(BACK_FOOT, 1)[1]) - rng.uniform(0.07, 0.16)
    low = {"bus": 0.85, "van": 0.9, "suv": 0.92, "mpv": 0.92}.get(look.kind, 0.97)
    low -= rng.uniform(0, 0.12)
    s0, s1 = strip.way(REAR_HEADER, BACK_FOOT, 0.06), strip.way(REAR_HEADER, BACK_FOOT, low)
    if look.kind == "bus":
        s0 = strip.way(REAR_HEADER, BACK_FOOT, rng.uniform(0.15, 0.35))
    frame = np.array([(-top, s0), (top, s0), (foot, s1), (-foot, s1)])
    chart.area(frame, BLACK)
    pane = frame + np.array([(0.03, 0.025), (-0.03, 0.025), (-0.03, -0.025), (0.03, -0.025)])
    tint = look.tint[1]
    chart.area(pane, glass(tint))
    tall = s1 - s0
    for side in (-1, 1):  # the rear seats' heads before what the windscreen lets in
        chart.disc((side * 0.32 * foot, s0 + 0.75 * tall), (0.11, 0.16 * tall), glass(0.5 * tint))
    far = Matter((0.06 * tint, 0.065 * tint, 0.07 * tint), 0.6, 1.0)
    chart.rect((-0.6 * foot, 0.6 * foot), (s0 + 0.22 * tall, s0 + 0.5 * tall), far)
    paint_rear_things(chart, look, (top, foot, s0, s1))
    if own.random() < 0.5:
        for share in np.linspace(0.15, 0.9, 7):
            s = s0 + share * tall
            chart.line([(-0.9 * top, s), (0.9 * top, s)], 0.004, glass(2 * tint))
    if rng.random() < 0.5 and look.kind != "sedan":
        chart.line([(0, s1 - 0.02), (0.4 * foot, s0 + 0.55 * tall)], 0.02, BLACK)
    if look.kind == "bus":
        _paint_bus_signs(chart, strip, look, pane)


def _paint_bus_signs(chart: Chart, strip: Strip, look: Look, pane: np.ndarray) -> None:
    """A bus's line behind its rear window, and what is advertised above or below."""
    rng, upside = look.rng(56), (True, True)
    (_, s0), (foot, s1) = pane[0], pane[2]
    light = Matter((0.7, 0.06, 0.03), 0, 0, 0.9)
    line, side = draw_number(rng, 3), rng.choice([-0.5, 0.5])  # the line as in front
    chart.write(line, (side * foot, s0 + 0.14), 0.2, light, turned=upside)
    if rng.random() < 0.4:
        return
    sheet = draw_vivid(rng)
    first, last = (s1 + 0.1, strip.way(TAIL, REAR_LOW, 0.1))
    if rng.random() < 0.3 or last - first < 0.3:
        first, last = s0 - 0.45, s0 - 0.05
    chart.rect((-0.85 * foot, 0.85 * foot), (first, last), sheet)
    middle, tall = 0.5 * (first + last), last - first
    chart.disc((rng.uniform(-0.5, 0.5) * foot, middle), (0.3, 0.4 * tall), draw_vivid(rng))
    words = draw_word(rng, 4)
    chart.write(words, (0, middle), 0.5 * tall, draw_vivid(rng), widest=1.5 * foot, turned=upside)


def _paint_signs(chart: Chart, strip: Strip, look: Look) -> None:
    rng, trim = look.of_model(26), look.of_version(26)
    marks = (TAIL, REAR_LOW)
    high = rng.random() < 0.65
    s = strip.way(*marks, rng.uniform(0.22, 0.36) if high else rng.uniform(0.6, 0.68))
    half, tall = rng.uniform(0.27, 0.4), rng.uniform(0.09, 0.13)
    recess = np.array([(-half, s - tall), (half, s - tall), (half, s + tall), (-half, s + tall)])
    recess[:2, 0] *= rng.uniform(0.8, 1.2)
    chart.area(recess, look.paint.tinted(rng.uniform(0.4, 0.8)))
    if look.kind != "bus" or rng.random() < 0.5:
        spot = 0.0, strip.way(*marks, rng.uniform(0.02, 0.12))
        paint_badge(chart, spot, rng, look, behind=True)
    name, engine = draw_word(rng, 2), f"{trim.integers(1, 4)}.{trim.integers(0, 10)}"
    line, size = strip.way(*marks, rng.uniform(0.12, 0.4)), rng.uniform(0.045, 0.085)
    ink, upside = CHROME.tinted(0.9), (True, True)
    for side, text, often in ((1, name, 0.75), (-1, engine, 0.6)):
        if trim.random() < often:
            chart.write(text, (strip.y(side * 0.52), line), size, ink, widest=0.34, turned=upside)
    if rng.random() < 0.12:  # the name right across
        chart.write(" ".join(name), (0.0, line), 0.07, ink, widest=0.9, turned=upside)
    if look.company is not None:
        way = strip.way(*marks, 0.62 if high else 0.3)
        if look.kind in ("bus", "van"):
            way = strip.way(REAR_HEADER, TAIL, 0.93)
        name, ink = look.company.name, look.company.ink
        chart.write(name, (0.0, way), 0.15, ink, widest=1.2, turned=upside)
    paint_plate(chart, (0.0, s), look, behind=True)
