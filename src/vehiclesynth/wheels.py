"""A wheel's outer face: tyre, rim, spokes and what is dark between them."""

from __future__ import annotations

import numpy as np

from .chart import BLACK, RUBBER, Chart, Matter
from .look import Look, draw_gray


def paint_wheel(look: Look, density: float) -> Chart:
    """A chart of one wheel, centred at 0; all four of a vehicle are alike."""
    rng = look.rng(30)
    radius = look.body.wheel
    chart = Chart((-radius, -radius), (radius, radius), density, RUBBER)
    heavy = look.kind in ("bus", "truck")
    rim = radius * (rng.uniform(0.52, 0.6) if heavy else rng.uniform(0.60, 0.74))
    chart.disc((0, 0), 0.92 * radius, RUBBER.tinted(1.4))
    chart.disc((0, 0), 1.04 * rim, RUBBER.tinted(0.6))
    metal = _metal(rng, heavy)
    chart.disc((0, 0), rim, metal.tinted(0.8))
    chart.disc((0, 0), 0.91 * rim, BLACK)
    chart.disc((0, 0), 0.5 * rim, draw_gray(rng, 0.03, 0.12))
    if heavy or rng.random() < 0.25:
        _paint_disc_rim(chart, rim, metal, int(rng.integers(6, 11)))
    else:
        spokes, share = int(rng.integers(5, 11)), rng.uniform(0.25, 0.6)
        _paint_spokes(chart, rim, metal, spokes, share)
    chart.disc((0, 0), 0.2 * rim, metal)
    chart.disc((0, 0), 0.1 * rim, metal.tinted(0.3))
    return chart


def _metal(rng: np.random.Generator, heavy: bool) -> Matter:
    if heavy:
        return draw_gray(rng, 0.05, 0.5, 0.1)
    return (
        draw_gray(rng, 0.25, 0.5, 0.45) if rng.random() < 0.8 else draw_gray(rng, 0.01, 0.05, 0.3)
    )


def _paint_disc_rim(chart: Chart, rim: float, metal: Matter, holes: int) -> None:
    """A steel wheel or a hub cap: a plate with holes."""
    chart.disc((0, 0), 0.9 * rim, metal)
    for angle in np.arange(holes) * 2 * np.pi / holes:
        spot = 0.66 * rim * np.array([np.cos(angle), np.sin(angle)])
        chart.disc((float(spot[0]), float(spot[1])), 0.12 * rim, BLACK)
    chart.disc((0, 0), 0.42 * rim, metal.tinted(0.7))


def _paint_spokes(chart: Chart, rim: float, metal: Matter, spokes: int, share: float) -> None:
    gap = 2 * np.pi / spokes
    for spoke in range(spokes):
        middle = spoke * gap
        angles = middle + share * gap / 2 * np.array([-1.4, -1, 1, 1.4])
        radii = rim * np.array([0.12, 0.95, 0.95, 0.12])
        chart.area(np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1), metal)
