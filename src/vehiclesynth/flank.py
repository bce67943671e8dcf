"""The sides: windows, doors, sill, arches, lamps that reach round the corners, lettering, dirt."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from .body import Shells
from .chance import Rng
from .chart import BLACK, CHROME, LENS, PLASTIC, RED_LENS, SEAM, Chart, Matter, Pair
from .lettering import draw_number, draw_word
from .look import Company, Look, draw_gray, draw_vivid

# Where the pillars stand between the first and the last side window, as shares of the way back.
_PILLARS = {
    "sedan": (0, 0.50, 0.93),
    "suv": (0, 0.40, 0.74, 1),
    "van": (0, 0.28, 0.62, 1),
    "hatchback": (0, 0.58, 1),
    "mpv": (0, 0.12, 0.44, 0.74, 1),
    "pickup": (0, 0.55, 1),
    "bus": (0, 0.10, 0.26, 0.42, 0.58, 0.74, 0.90, 1),
    "truck": (0, 0.9),
    "estate": (0, 0.38, 0.68, 1),
}


def paint_flank(chart: Chart, shells: Shells, look: Look, *, left: bool) -> None:
    """Paint one side of the main shell; a bus's doors, lettering and marks tell the sides apart."""
    rng = look.rng(0)
    _paint_second(chart, shells, look)
    if look.kind == "bus":
        _paint_advertising(chart, shells, look.rng(1 if left else 2), left=left)
    if look.company is not None:
        _paint_company(chart, shells, look, look.company, left=left)
    _paint_relief(chart, shells, look.of_model(0))
    _paint_windows(chart, shells, look)
    _paint_doors(chart, shells, look)
    if look.kind == "bus" and not left:
        _paint_bus_doors(chart, shells)
    _paint_sill(chart, shells, look)
    _paint_lamps(chart, shells, look)
    for axle in shells.axles:
        if axle > shells.back:
            _paint_arch(chart, shells, look, axle)
    _paint_marks(chart, shells, look, look.rng(4 if left else 5))
    dust = (0.20, 0.17, 0.13) if rng.random() < 0.7 else (0.10, 0.10, 0.10)
    chart.stain(rng, look.dirt, dust, below=shells.body.belt * 0.9)


def _paint_second(chart: Chart, shells: Shells, look: Look) -> None:
    body = shells.body
    reach = (shells.back - 1, shells.front + 1)
    height = body.belt - body.sill
    if look.two_tone == "skirt":
        chart.rect(reach, (0, body.sill + 0.42 * height), look.second)
    if look.two_tone == "taxi":
        chart.rect(reach, (body.sill + 0.55 * height, body.height + 1), look.second)
        middle = (shells.pillar(0.25, 0.0), body.sill + 0.62 * height)
        chart.disc(middle, 0.17, look.frame)
        chart.disc(middle, 0.14, look.paint)
    if look.two_tone == "roof":
        chart.rect(reach, (body.belt + 0.02, body.height + 1), look.second)


def _paint_relief(chart: Chart, shells: Shells, rng: Rng) -> None:
    """The lines that a press leaves in the metal."""
    body = shells.body
    height = body.belt - body.sill
    for share, depth in ((rng.uniform(0.6, 0.82), 0.35), (rng.uniform(0.15, 0.3), -0.35)):
        tilt = rng.uniform(-0.02, 0.06)
        z = body.sill + share * height
        x = np.linspace(shells.back + 0.3, shells.front - 0.4, 12)
        line = np.stack([x, z - tilt * (x - x.mean()) + 0.02 * np.sin(1.2 * x)], axis=1)
        chart.ridge(line, 0.05, depth * rng.uniform(0.4, 1.0))


def _paint_windows(chart: Chart, shells: Shells, look: Look) -> None:
    kind, rng, own = shells.kind, look.of_model(3), look.rng(3)
    pillars = np.array(_PILLARS[kind], float)
    pillars[1:-1] += rng.normal(0, 0.025, len(pillars) - 2).clip(-0.05, 0.05)
    spans = list(pairwise(pillars.tolist()))
    if kind == "van" and rng.random() < 0.5:
        spans = spans[:1]
    top = {"bus": 0.74, "van": 0.80, "truck": 0.80}.get(kind, 0.86) + rng.uniform(-0.04, 0.03)
    band = BLACK if kind == "bus" or rng.random() < 0.5 else look.frame
    if kind == "bus":
        chart.area(_window(shells, 0, 1, top + 0.05, -0.04), band)
    kick = rng.uniform(0.0, 0.3) if rng.random() < 0.5 else 0.0  # the last window's foot rises
    for number, (first, last) in enumerate(spans):
        rise = np.zeros((4, 2))
        if number == len(spans) - 1 and kind not in ("bus", "truck"):
            rise[3, 1] = kick * (shells.body.height - shells.body.belt)
        chart.area(_window(shells, first, last, top + 0.02, 0.005) + rise, look.frame)
        chart.area(_window(shells, first, last, top, 0.022) + rise, BLACK)
        pane = _window(shells, first, last, top, 0.035) + rise
        tint = look.tint[0] if number == 0 else look.tint[1]
        chart.area(pane, glass(tint))
        _paint_inside(chart, pane, tint, own, driver=number == 0)


def _window(shells: Shells, first: float, last: float, top: float, margin: float) -> np.ndarray:
    body = shells.body
    tall = body.height - body.belt
    low, high = 0.05 + margin / tall, top - margin / tall
    shares = np.array([low, high])
    start = shells.pillar(first, shares) - (0.02 if first else 0.0) - margin
    end = shells.pillar(last, shares) + (0.02 if last < 1 else 0.0) + margin
    start = np.maximum(start, end + 0.02)
    z = body.belt + shares * tall
    return np.array([(start[0], z[0]), (start[1], z[1]), (end[1], z[1]), (end[0], z[0])])


def glass(tint: float, coat: float = 0.6) -> Matter:
    """A pane before a dark room."""
    return Matter((0.022 * tint, 0.025 * tint, 0.026 * tint), coat, 1.0)


def _paint_inside(chart: Chart, pane: np.ndarray, tint: float, rng: Rng, *, driver: bool) -> None:
    """Seats, heads and the windows of the far side, as far as the pane lets them be seen."""
    low, high = pane.min(axis=0), pane.max(axis=0)
    width, height = high - low
    if width < 0.25:
        return
    far = Matter((0.10 * tint, 0.11 * tint, 0.115 * tint), 0.6, 1.0)
    center = low + (high - low) * [0.5, 0.62]
    chart.area(center + (pane - center) * [0.72, 0.55], far)
    seat = glass(0.8 * tint)
    x = low[0] + width * rng.uniform(0.3, 0.5)
    chart.disc((x, low[1] + 0.55 * height), (0.11, 0.10), seat)
    chart.rect((x - 0.16, x + 0.14), (low[1], low[1] + 0.42 * height), seat)
    if driver and rng.random() < 0.6:
        skin = Matter((0.09 * tint, 0.065 * tint, 0.055 * tint), 0.6, 1.0)
        chart.disc((x + 0.16, low[1] + 0.6 * height), (0.08, 0.11), skin)
        chart.disc((x + 0.13, low[1] + 0.75 * height), (0.09, 0.06), glass(0.3 * tint))


def _paint_doors(chart: Chart, shells: Shells, look: Look) -> None:
    body, kind, rng = shells.body, shells.kind, look.of_model(8)
    if kind == "bus":
        for z in (body.sill + 0.28, body.belt - 0.1):
            chart.line([(shells.back, z), (shells.front, z)], 0.012, look.paint.tinted(0.6))
        return
    height = body.belt - body.sill
    shares = [share for share in _PILLARS[kind] if share < 0.95][:4]
    gap = look.paint.tinted(0.25)
    for number, share in enumerate(shares):
        x = shells.pillar(share, 0.0) + 0.01
        foot = x - (0.12 if number == len(shares) - 1 and not shells.boxy else 0.0)
        low, high = body.sill + 0.10, body.belt + 0.02
        line = [(foot, low), (x, low + 0.4 * height), (x, high)]
        chart.line(line, 0.009, gap)
        chart.ridge(line, 0.03, -0.5)
    z = body.sill + 0.1
    chart.line([(shells.pillar(0, 0.0), z), (shells.back + 0.5, z)], 0.009, gap)
    handle = CHROME if look.of_version(8).random() < 0.3 else look.paint.tinted(0.8)
    for share in shares[1:3]:
        x, z = shells.pillar(share, 0.0) + 0.06, body.belt - rng.uniform(0.1, 0.16)
        chart.rect((x, x + 0.19), (z - 0.035, z + 0.02), look.paint.tinted(0.45))
        chart.rect((x, x + 0.19), (z - 0.012, z + 0.018), handle)
    if kind in ("sedan", "hatchback", "suv", "mpv", "estate"):
        x = shells.back + 0.75
        chart.line(_ring((x, body.belt - 0.14), 0.085), 0.008, gap, closed=True)


def _ring(center: Pair, radius: float) -> np.ndarray:
    angles = np.linspace(0, 2 * np.pi, 17)[:-1]
    return np.asarray(center) + radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _paint_bus_doors(chart: Chart, shells: Shells) -> None:
    body = shells.body
    top = body.belt + 0.8 * (body.height - body.belt)
    for x in (shells.front - 0.55, 0.5):
        for right in (x, x - 0.52):
            left = right - 0.48
            chart.rect((left, right), (body.sill + 0.06, top), BLACK)
            chart.rect((left + 0.05, right - 0.05), (body.sill + 0.15, top - 0.08), glass(0.7))


def _paint_sill(chart: Chart, shells: Shells, look: Look) -> None:
    body, kind, rng = shells.body, shells.kind, look.of_version(9)
    tall = 0.16 if kind in ("suv", "pickup") else rng.uniform(0.04, 0.10)
    plastic = kind in ("suv", "pickup", "truck") or rng.random() < 0.5
    along = shells.back - 1, shells.front + 1
    chart.rect(along, (0, body.sill + tall), PLASTIC if plastic else look.paint.tinted(0.5))
    chart.rect(along, (0, body.sill + 0.02), BLACK)
    if kind == "suv" and rng.random() < 0.5:
        z = body.sill + 0.28
        chart.line([(shells.axles[1] + 0.5, z), (shells.axles[0] - 0.5, z)], 0.05, look.trim)
    if rng.random() < 0.25:
        ends = (shells.back, body.belt - 0.02), (shells.front - body.hood, body.belt)
        chart.line(ends, 0.02, CHROME)


def _paint_lamps(chart: Chart, shells: Shells, look: Look) -> None:
    """Where the lamps of front and rear reach round the corner."""
    rng, body = look.of_model(6), shells.body
    if shells.kind not in ("bus", "truck"):
        x, z, back = shells.front, shells.nose - 0.05, shells.front - rng.uniform(0.22, 0.5)
        lamp = [(x + 0.1, z - 0.17), (x + 0.1, z), (back, z + 0.07), (back, z + 0.04)]
        chart.area([*lamp, (x - 0.15, z - 0.13)], Matter(LENS.color, LENS.coat, 0, 0.4))
    if shells.kind == "truck":
        return
    reach, x, z = rng.uniform(0.12, 0.3), shells.back, shells.tail - 0.1
    tall = rng.uniform(0.15, 0.25) if not shells.boxy else 0.4
    lamp = [(x - 0.1, z - tall), (x - 0.1, z), (x + reach, z - 0.02)]
    lamp.append((x + 0.6 * reach, z - 0.8 * tall))
    chart.area(lamp, Matter(RED_LENS.color, RED_LENS.coat, 0, 0.5))
    if rng.random() < 0.6:
        x, z, amber = shells.front - body.front_axle, body.belt, Matter((0.45, 0.18, 0.02), 0.5)
        chart.rect((x - 0.5, x - 0.42), (z - 0.28, z - 0.25), amber)


def _paint_arch(chart: Chart, shells: Shells, look: Look, axle: float) -> None:
    center, radius = (axle, shells.body.wheel), shells.arch_radius
    if shells.kind in ("suv", "pickup") and look.of_version(7).random() < 0.7:
        chart.disc(center, radius + 0.055, PLASTIC)
    chart.line(_ring(center, radius + 0.012), 0.02, look.paint.tinted(0.75), closed=True)
    chart.disc(center, radius, SEAM)


def _paint_company(
    chart: Chart, shells: Shells, look: Look, company: Company, *, left: bool
) -> None:
    """The owner's stripe or block, its name, and the vehicle's number."""
    body, rng = shells.body, look.rng(57)
    low, high = body.sill + 0.25, body.belt - 0.05
    back, front = shells.back + 0.3, shells.front - 0.5
    turned = (left, False)
    if company.style == 0:
        z = low + 0.6 * (high - low)
        chart.rect((back - 1, front + 1), (z, z + 0.14), company.ink)
    if company.style == 1:
        tip = 0.5 * (back + front)
        chart.area([(back - 1, low), (back - 1, high), (tip + 0.6, high), (tip, low)], company.ink)
    long = front - back
    spot = (back + 0.5 * long, 0.5 * (low + high))
    ink = company.ink if company.style != 1 else company.second
    tall = rng.uniform(0.15, 0.3)
    chart.write(company.name, spot, tall, ink, widest=0.5 * long, turned=turned)
    if rng.random() < 0.7:
        door = (shells.pillar(0.3 if look.kind != "truck" else 0.5, 0.0), high - 0.2)
        chart.write(draw_number(look.rng(14), 3), door, 0.16, ink, widest=0.7, turned=turned)


def _paint_advertising(chart: Chart, shells: Shells, rng: Rng, *, left: bool) -> None:
    """What a bus carries for money below its windows."""
    body = shells.body
    if rng.random() < 0.4:
        return
    low, high = body.sill + 0.3, body.belt - 0.05
    start = shells.back + rng.uniform(0.3, 2.0)
    end = min(start + rng.uniform(2.0, 5.0), shells.front - 1.2)
    chart.rect((start, end), (low, high), draw_vivid(rng))
    for _ in range(int(rng.integers(1, 4))):
        x = rng.uniform(start + 0.3, end - 0.3)
        chart.disc((x, 0.5 * (low + high)), (0.3, 0.4 * (high - low)), draw_vivid(rng))
    words = f"{draw_word(rng, 2)} {draw_word(rng, 3)}"
    spot = (0.5 * (start + end), 0.5 * (low + high))
    chart.write(words, spot, 0.3, draw_vivid(rng), widest=0.9 * (end - start), turned=(left, False))


def _paint_marks(chart: Chart, shells: Shells, look: Look, rng: Rng) -> None:
    """Stickers, scratches, dents: what two vehicles of one model do not share."""
    body = shells.body
    low, high = body.sill + 0.15, body.belt - 0.1
    for _ in range(int(rng.choice([0, 0, 1, 2]))):
        x, z = shells.back + body.cab * rng.uniform(0.1, 0.75), rng.uniform(low, high)
        size = rng.uniform(0.06, 0.22)
        chart.disc((x, z), (size * rng.uniform(0.6, 1.6), size * 0.6), draw_vivid(rng))
    for _ in range(int(rng.poisson(2.5 * look.wear))):
        x, z = shells.back + body.cab * rng.uniform(0.08, 0.9), rng.uniform(low, high)
        across = rng.normal(0, 0.2, 2) * [1, 0.3]
        chart.line([(x, z), (x + across[0], z + across[1])], 0.012, draw_gray(rng, 0.05, 0.4))
        chart.ridge([(x, z), (x + across[0], z + across[1])], 0.1, rng.uniform(-0.8, 0.8))
