"""A wheel's outer face: tyre, rim, spokes and what is dark between them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .chance import Rng, pick
from .chart import BLACK, CHROME, RUBBER, Chart, Matter, Pair
from .look import Look, draw_gray


def paint_wheels(look: Look, density: float) -> tuple[Chart, Chart]:
    """Charts of a wheel, centred at 0: what all have, and what one of them may have instead."""
    usual = _paint_wheel(look, look.of_version(30), density)
    rng = look.rng(30)
    lost = rng.random() < 0.05 + 0.2 * look.wear  # a cap, or it is a spare
    return usual, _paint_wheel(look, rng, density) if lost else usual


def _paint_wheel(look: Look, rng: Rng, density: float) -> Chart:
    radius = look.body.wheel
    heavy = look.kind in ("bus", "truck")
    chart = Chart((-radius, -radius), (radius, radius), density, RUBBER)
    rim = radius * (rng.uniform(0.52, 0.6) if heavy else rng.uniform(0.60, 0.76))
    chart.disc((0, 0), 0.92 * radius, RUBBER.tinted(1.4))
    chart.disc((0, 0), 1.04 * rim, RUBBER.tinted(0.6))
    metal = _metal(rng, heavy)
    chart.disc((0, 0), rim, metal.tinted(0.8))
    chart.disc((0, 0), 0.91 * rim, BLACK)
    chart.ridge(_circle(0.96 * rim), 0.03, 1.0)
    chart.disc((0, 0), 0.5 * rim, draw_gray(rng, 0.03, 0.12))
    shares = [share for _, share in _FAMILIES.values()]
    family = "steel" if heavy else pick(rng, tuple(_FAMILIES), shares)
    _FAMILIES[family][0](chart, rim, metal, rng)
    chart.disc((0, 0), 0.2 * rim, metal)
    chart.disc((0, 0), 0.1 * rim, draw_gray(rng, 0.01, 0.3))
    return chart


def _metal(rng: Rng, heavy: bool) -> Matter:
    if heavy:
        return draw_gray(rng, 0.05, 0.5, 0.1)
    draw = rng.random()
    if draw < 0.08:
        return CHROME
    return draw_gray(rng, 0.25, 0.5, 0.45) if draw < 0.78 else draw_gray(rng, 0.01, 0.06, 0.3)


def _circle(radius: float) -> np.ndarray:
    return _polar(np.linspace(0, 2 * np.pi, 25), radius)


def _polar(angles: np.ndarray, radii: float | np.ndarray) -> np.ndarray:
    return np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)


def _steel(chart: Chart, rim: float, metal: Matter, rng: Rng) -> None:
    """A plate with holes, or a cap on it."""
    holes, large = int(rng.integers(5, 13)), rng.uniform(0.08, 0.15)
    chart.disc((0, 0), 0.9 * rim, metal)
    chart.ridge(_circle(0.5 * rim), 0.05, rng.choice([-1.0, 1.0]))
    for angle in np.arange(holes) * 2 * np.pi / holes:
        x, y = (0.68 * rim * np.array([np.cos(angle), np.sin(angle)])).tolist()
        chart.disc((x, y), large * rim, BLACK)
    chart.disc((0, 0), 0.42 * rim, metal.tinted(0.7))


def _cap(chart: Chart, rim: float, metal: Matter, rng: Rng) -> None:
    """A hub cap with slots between broad blades."""
    chart.disc((0, 0), 0.95 * rim, metal)
    blades = int(rng.integers(6, 13))
    for blade in range(blades):
        middle, half = blade * 2 * np.pi / blades, 0.55 / blades
        angles = middle + half * np.array([-1, 1, 1.6, -1.6])
        chart.area(_polar(angles, rim * np.array([0.55, 0.55, 0.86, 0.86])), BLACK)


def _spokes(
    chart: Chart, rim: float, metal: Matter, angles: np.ndarray, widths: Pair, *, twist: float = 0.0
) -> None:
    """Bars from the hub to the rim, so many metres wide there and here, with a rounded back."""
    for angle in angles.tolist():
        ends = np.array([angle, angle + twist])
        half = np.array([widths[0] / (0.24 * rim), widths[1] / (1.9 * rim)])
        radii = rim * np.array([0.12, 0.95])
        corners = np.concatenate([_polar(ends - half, radii), _polar(ends + half, radii)[::-1]])
        chart.area(corners, metal)
        chart.ridge(_polar(ends, radii), 0.6 * max(widths), 0.9)


def _turns(count: int) -> np.ndarray:
    return np.arange(count) * (2 * np.pi / count) + np.pi / 2


def _five(chart: Chart, rim: float, metal: Matter, rng: Rng) -> None:
    wide = rim * rng.uniform(0.25, 0.4)
    _spokes(chart, rim, metal, _turns(5), (0.7 * wide, wide))


def _doubled(chart: Chart, rim: float, metal: Matter, rng: Rng) -> None:
    gap, wide = rng.uniform(0.11, 0.18), rim * rng.uniform(0.1, 0.15)
    turns = _turns(int(rng.integers(5, 7)))
    _spokes(chart, rim, metal, np.concatenate([turns - gap, turns + gap]), (0.5 * wide, wide))


def _many(chart: Chart, rim: float, metal: Matter, rng: Rng) -> None:
    _spokes(chart, rim, metal, _turns(int(rng.integers(9, 16))), (0.04 * rim, 0.1 * rim))


def _forked(chart: Chart, rim: float, metal: Matter, rng: Rng) -> None:
    """Each spoke parts in two half way."""
    turns, wide = _turns(int(rng.integers(5, 8))), rim * 0.13
    for side in (-1, 1):
        _spokes(chart, rim, metal, turns, (0.8 * wide, wide), twist=side * rng.uniform(0.2, 0.34))


def _blades(chart: Chart, rim: float, metal: Matter, rng: Rng) -> None:
    """Spokes that lean, as a turbine's."""
    count, wide = int(rng.integers(6, 12)), rim * rng.uniform(0.12, 0.3)
    twist = rng.choice([-1, 1]) * rng.uniform(0.3, 0.7)
    _spokes(chart, rim, metal, _turns(count), (0.3 * wide, wide), twist=float(twist))


def _cross(chart: Chart, rim: float, metal: Matter, rng: Rng) -> None:
    """A net of thin spokes."""
    turns = _turns(int(rng.integers(8, 12)))
    for side in (-1, 1):
        _spokes(chart, rim, metal, turns, (0.03 * rim, 0.06 * rim), twist=side * 0.35)


def _three(chart: Chart, rim: float, metal: Matter, rng: Rng) -> None:
    count = int(rng.choice([3, 4]))
    _spokes(chart, rim, metal, _turns(count), (0.35 * rim, rim * rng.uniform(0.45, 0.7)))


def _dish(chart: Chart, rim: float, metal: Matter, rng: Rng) -> None:
    """A closed disc with a ring of slots."""
    chart.disc((0, 0), 0.93 * rim, metal)
    chart.ridge(_circle(rng.uniform(0.6, 0.75) * rim), 0.06, -1.0)
    for angle in _turns(int(rng.integers(10, 24))).tolist():
        chart.line(_polar(np.full(2, angle), rim * np.array([0.72, 0.86])), 0.02, BLACK)


# How each is painted, and how many of the cars have it.
_FAMILIES: dict[str, tuple[Callable[[Chart, float, Matter, Rng], None], float]] = {
    "five": (_five, 0.16),
    "doubled": (_doubled, 0.16),
    "many": (_many, 0.13),
    "forked": (_forked, 0.13),
    "blades": (_blades, 0.11),
    "cross": (_cross, 0.06),
    "three": (_three, 0.04),
    "cap": (_cap, 0.11),
    "dish": (_dish, 0.04),
    "steel": (_steel, 0.06),
}
