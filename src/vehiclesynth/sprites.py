"""Flat figures that stand about a road: vehicles, riders, walkers, cones, trees, poles."""

from __future__ import annotations

import cv2
import numpy as np

from .chance import Rng, pick
from .surface import Texture
from .textures import clouds, leaves

_FINE = 8  # fractional bits of the points' coordinates
_CLOTHES = ((0.03, 0.03, 0.035), (0.05, 0.07, 0.13), (0.4, 0.4, 0.42), (0.13, 0.05, 0.05))
_PAINTS = ((0.6, 0.6, 0.6), (0.02, 0.02, 0.022), (0.3, 0.31, 0.32), (0.25, 0.03, 0.03))
_SKIN = (0.3, 0.2, 0.15)


def draw_sprite(rng: Rng, kind: str) -> Texture:
    """Draw a figure of a kind: car, rider, walker, cone, tree, bush or pole."""
    painter, extent, shape = {
        "car": (_car, (rng.uniform(1.75, 2.0), rng.uniform(1.7, 2.1)), (96, 96)),
        "van": (_car, (rng.uniform(1.9, 2.4), rng.uniform(2.2, 3.2)), (96, 96)),
        "rider": (_rider, (0.85, 1.65), (96, 48)),
        "walker": (_walker, (0.65, 1.7), (96, 40)),
        "cone": (_cone, (0.4, 0.75), (48, 32)),
        "tree": (_tree, (rng.uniform(3, 5), rng.uniform(4, 7)), (128, 96)),
        "bush": (_bush, (rng.uniform(1.5, 3), rng.uniform(0.8, 1.6)), (64, 96)),
        "pole": (_pole, (0.3, 6.0), (128, 16)),
    }[kind]
    figure = _Figure(np.zeros((*shape, 3), np.float32), np.zeros(shape, np.float32))
    painter(rng, figure)
    cover = cv2.GaussianBlur(figure.cover, (3, 3), 0.7)
    color = cv2.GaussianBlur(figure.color * figure.cover[..., None], (3, 3), 0.7)
    # nothing may lie on the borders, which repeat
    cover[0], cover[:, 0], cover[:, -1] = 0, 0, 0
    return Texture.of(np.dstack([color, cover]), extent, depth=5)


class _Figure:
    """Albedo and cover, painted in shares of the figure's width and height."""

    def __init__(self, color: np.ndarray, cover: np.ndarray) -> None:
        self.color, self.cover = color, cover

    def polygon(self, points: list[tuple[float, float]], color: object) -> None:
        rows, columns = self.cover.shape
        pixels = np.rint(np.array(points) * [columns, rows] * 2**_FINE).astype(np.int32)
        tone = np.asarray(color, dtype=float).tolist()
        cv2.fillPoly(self.color, [pixels], tone, cv2.LINE_8, _FINE)
        cv2.fillPoly(self.cover, [pixels], [1.0], cv2.LINE_8, _FINE)

    def oval(self, x: float, y: float, wide: float, tall: float, color: object) -> None:
        angle = np.linspace(0, 2 * np.pi, 20, endpoint=False)
        self.polygon(
            list(zip(x + wide * np.cos(angle), y + tall * np.sin(angle), strict=True)), color
        )


def _car(rng: Rng, figure: _Figure) -> None:
    """A car's front or rear, seen from a little above."""
    front = rng.random() < 0.5
    paint = np.array(pick(rng, _PAINTS)) * rng.uniform(0.7, 1.1)
    if rng.random() < 0.25:
        paint = np.clip(paint.mean() * np.exp(rng.normal(0, 0.3, 3)), 0.02, 0.6)
    roof, belt = rng.uniform(0.12, 0.18), rng.uniform(0.38, 0.46)
    narrow = rng.uniform(0.14, 0.2)
    for x in (0.2, 0.8):
        figure.oval(x, 0.9, 0.1, 0.095, (0.02, 0.02, 0.02))
    body = [(0.05, 0.52), (0.09, belt), (0.91, belt), (0.95, 0.52), (0.96, 0.82), (0.9, 0.92)]
    figure.polygon([*body, (0.1, 0.92), (0.04, 0.82)], paint)
    crown = [(narrow + 0.03, roof - 0.07), (0.97 - narrow, roof - 0.07), (1 - narrow, roof + 0.02)]
    figure.polygon([*crown, (0.92, belt + 0.02), (0.08, belt + 0.02), (narrow, roof + 0.02)], paint)
    pane = rng.uniform(0.05, 0.25) if front else rng.uniform(0.02, 0.1)
    inner = [(narrow + 0.04, roof + 0.04), (0.96 - narrow, roof + 0.04), (0.87, belt), (0.13, belt)]
    figure.polygon(inner, np.array([0.95, 1, 1.05]) * pane)
    figure.polygon(
        [(0.1, belt + 0.02), (0.9, belt + 0.02), (0.93, 0.56), (0.07, 0.56)], 1.15 * paint
    )
    lamp = (0.5, 0.5, 0.48) if front else (0.25, 0.02, 0.02)
    for x in (0.15, 0.85):
        figure.oval(x, 0.62, 0.09, 0.04, lamp)
    if front:
        figure.polygon([(0.3, 0.6), (0.7, 0.6), (0.66, 0.7), (0.34, 0.7)], (0.03, 0.03, 0.03))
    figure.polygon([(0.38, 0.72), (0.62, 0.72), (0.62, 0.77), (0.38, 0.77)], (0.05, 0.07, 0.14))
    figure.polygon([(0.08, 0.84), (0.92, 0.84), (0.88, 0.94), (0.12, 0.94)], (0.03, 0.03, 0.03))
    shine = 1.15 - 0.45 * np.linspace(0, 1, figure.cover.shape[0], dtype=np.float32)
    figure.color *= shine[:, None, None]


def _rider(rng: Rng, figure: _Figure) -> None:
    """Somebody on a scooter, from the front or the rear."""
    shirt, trousers = (_cloth(rng) for _ in range(2))
    scooter = _cloth(rng)
    figure.oval(0.5, 0.86, 0.1, 0.12, (0.02, 0.02, 0.02))
    figure.polygon([(0.3, 0.5), (0.7, 0.5), (0.74, 0.8), (0.26, 0.8)], trousers)
    figure.polygon([(0.37, 0.55), (0.63, 0.55), (0.6, 0.84), (0.4, 0.84)], scooter)
    figure.polygon([(0.08, 0.46), (0.92, 0.46), (0.92, 0.5), (0.08, 0.5)], (0.05, 0.05, 0.05))
    body = [(0.32, 0.2), (0.68, 0.2), (0.86, 0.44), (0.76, 0.48), (0.68, 0.4), (0.68, 0.56)]
    figure.polygon([*body, (0.32, 0.56), (0.32, 0.4), (0.24, 0.48), (0.14, 0.44)], shirt)
    figure.oval(0.5, 0.12, 0.16, 0.085, _SKIN)
    figure.oval(0.5, 0.09, 0.17, 0.07, _cloth(rng))


def _walker(rng: Rng, figure: _Figure) -> None:
    shirt, trousers = (_cloth(rng) for _ in range(2))
    stride = rng.uniform(0, 0.18)
    for side in (-1, 1):
        x, hip = 0.5 + side * (0.12 + stride / 2), 0.5 + side * 0.02
        leg = [(hip, 0.5), (0.5 + side * 0.24, 0.5), (x + 0.09, 0.98), (x - 0.09, 0.98)]
        figure.polygon(leg, trousers)
    figure.polygon([(0.24, 0.2), (0.76, 0.2), (0.84, 0.5), (0.16, 0.5)], shirt)
    figure.oval(0.5, 0.1, 0.16, 0.075, _SKIN)
    figure.oval(0.5, 0.075, 0.17, 0.06, (0.02, 0.02, 0.02))


def _cone(rng: Rng, figure: _Figure) -> None:
    red = np.array([0.45, 0.09, 0.03]) * rng.uniform(0.6, 1.1)
    figure.polygon([(0.05, 0.92), (0.95, 0.92), (0.95, 0.99), (0.05, 0.99)], 0.5 * red)
    figure.polygon([(0.44, 0.05), (0.56, 0.05), (0.82, 0.93), (0.18, 0.93)], red)
    for top in (0.3, 0.58):
        wide = 0.06 + 0.32 * top
        band = [(0.5 - wide, top), (0.5 + wide, top), (0.55 + wide, top + 0.14)]
        figure.polygon([*band, (0.45 - wide, top + 0.14)], (0.5, 0.5, 0.5))


def _tree(rng: Rng, figure: _Figure) -> None:
    lean = rng.normal(0, 0.02)
    bark = np.array([0.11, 0.09, 0.07]) * rng.uniform(0.6, 1.3)
    pale = rng.random() < 0.4  # trunks along Chinese streets are painted white up to a metre
    figure.polygon([(0.47 + lean, 0.3), (0.53 + lean, 0.3), (0.54, 1), (0.46, 1)], bark)
    figure.polygon([(0.46, 0.82), (0.54, 0.82), (0.54, 1), (0.46, 1)], 0.5 if pale else bark)
    _crown(rng, figure, 0.36, 0.34)


def _bush(rng: Rng, figure: _Figure) -> None:
    _crown(rng, figure, 0.58, 0.4)
    figure.cover[-1] = 0


def _crown(rng: Rng, figure: _Figure, middle: float, tall: float) -> None:
    """Foliage with a ragged edge."""
    rows, columns = figure.cover.shape
    y = (np.arange(rows, dtype=np.float32)[:, None] / rows - middle) / tall
    x = (np.arange(columns, dtype=np.float32)[None] / columns - 0.5) / 0.46
    ragged = 0.16 * clouds(rng, (rows, columns), (rows // 8, columns // 8))
    ragged += 0.12 * clouds(rng, (rows, columns), (rows // 2, columns // 2))
    crown = np.hypot(x, y) + ragged < 0.85
    figure.color[crown] = (
        leaves(rng, (rows, columns)) * (1.1 - 0.5 * np.clip(y, -1, 1))[..., None]
    )[crown]
    figure.cover[crown] = 1


def _pole(rng: Rng, figure: _Figure) -> None:
    left, right = 0.5 - rng.uniform(0.12, 0.4), 0.5 + rng.uniform(0.12, 0.4)
    tone = rng.uniform(0.08, 0.4) * np.exp(rng.normal(0, 0.04, 3))
    figure.polygon([(left, 0), (right, 0), (right, 1), (left, 1)], tone)
    figure.color *= np.array([0.6, 1, 1.1, 0.9, 0.5], np.float32).repeat(4)[None, 2:18, None]


def _cloth(rng: Rng) -> np.ndarray:
    cloth = np.array(pick(rng, _CLOTHES))
    return cloth * np.exp(rng.normal(0, 0.25, 3) * 0.5)
