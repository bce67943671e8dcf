"""Surfaces around a vehicle, as pictures of their albedo that repeat in both directions."""

from __future__ import annotations

import cv2
import numpy as np

from .chance import Rng

Rgb = tuple[float, float, float] | np.ndarray


def clouds(rng: Rng, shape: tuple[int, int], cells: tuple[int, int]) -> np.ndarray:
    """Smooth noise of deviation about 1 that repeats, of so many cells: float32 ``[*shape]``.

    The shape is whole multiples of ``cells``.
    """
    values = rng.standard_normal(cells, dtype=np.float32)
    grid = cv2.copyMakeBorder(values, 2, 2, 2, 2, cv2.BORDER_WRAP)
    down, across = shape[0] // cells[0], shape[1] // cells[1]
    size = (grid.shape[1] * across, grid.shape[0] * down)
    wide = cv2.resize(grid, size, interpolation=cv2.INTER_CUBIC)
    return 1.25 * wide[2 * down : 2 * down + shape[0], 2 * across : 2 * across + shape[1]]


def colored(values: np.ndarray, color: Rgb) -> np.ndarray:
    """Grey factors ``[h, w]`` as an albedo ``[h, w, 3]``."""
    factors = np.maximum(values, np.float32(0.02)).astype(np.float32, copy=False)
    return cv2.merge([factors * np.float32(channel) for channel in color])


def grain(rng: Rng, size: int) -> np.ndarray:
    """The stones of a road: float32 ``[size, size]`` of mean 0."""
    fine = rng.standard_normal((size, size), dtype=np.float32)
    coarse = clouds(rng, (size, size), (size // 2, size // 2))
    return 0.6 * fine + 0.6 * coarse + 0.25 * clouds(rng, (size, size), (size // 8, size // 8))


def paving(rng: Rng, stones: np.ndarray) -> np.ndarray:
    """Slabs with joints and the grain ``[n, n]``: float32 ``[n, n, 3]``, a square of about 4 m."""
    size = len(stones)
    count = int(rng.choice([4, 8, 16]))
    slabs = 1 + 0.08 * rng.standard_normal((count, count), dtype=np.float32)
    step = size // count
    values = np.repeat(np.repeat(slabs, step, axis=0), step, axis=1) * (1 + 0.06 * stones)
    values[::step] *= 0.75
    values[:, ::step] *= 0.75
    tone = rng.uniform(0.18, 0.34)
    return colored(values, tone * (np.array([1.04, 1, 0.95]) ** rng.uniform(-0.3, 3)))


def lawn(rng: Rng, blades: np.ndarray) -> np.ndarray:
    """Grass of a grain ``[n, n]`` with bare spots: float32 ``[n, n, 3]``."""
    size = len(blades)
    bare = np.clip(0.5 + 0.9 * clouds(rng, (size, size), (8, 8)) - rng.uniform(0, 1.2), 0, 1)
    green = colored(1 + 0.35 * blades, np.array([0.105, 0.125, 0.06]) * rng.uniform(0.7, 1.2))
    soil = colored(1 + 0.15 * blades, np.array([0.19, 0.165, 0.13]) * rng.uniform(0.7, 1.2))
    return cv2.blendLinear(soil, green, bare, 1 - bare)


def leaves(rng: Rng, shape: tuple[int, int]) -> np.ndarray:
    """Foliage: lit leaves over dark gaps: float32 ``[*shape, 3]``."""
    rows, columns = shape
    lumps = clouds(rng, shape, (rows // 16, columns // 16))
    twigs = clouds(rng, shape, (rows // 4, columns // 4))
    fine = clouds(rng, shape, (rows // 2, columns // 2))
    light = np.exp(np.clip(0.35 * lumps + 0.45 * twigs + 0.35 * fine, -1.8, 1.3))
    base = np.array([0.062, 0.08, 0.04]) * rng.uniform(0.7, 1.4)
    base = base * np.exp(rng.normal(0, [0.1, 0.03, 0.1]))
    picture = colored(light, base)
    picture[..., 0] *= 1 + 0.12 * np.clip(lumps, -1, 1)
    return picture


def masonry(rng: Rng, shape: tuple[int, int]) -> np.ndarray:
    """Plaster, bricks or sheets with dirt that runs down: float32 ``[*shape, 3]``."""
    rows, columns = shape
    values = 1 + 0.1 * clouds(rng, shape, (2, 8)) + 0.07 * clouds(rng, shape, (rows // 2, 16))
    values += 0.05 * clouds(rng, shape, (rows // 4, columns // 4))
    step = int(rng.choice([4, 16, 32]))
    values[::step] *= 0.85
    values[:, :: 2 * step] *= 0.85
    tone = rng.uniform(0.12, 0.5)
    return colored(values, tone * np.exp(rng.normal(0, [0.08, 0.02, 0.08])))


def facade(rng: Rng, shape: tuple[int, int]) -> np.ndarray:
    """A house's lower storeys with shop windows: float32 ``[*shape, 3]``."""
    picture = masonry(rng, shape)
    rows, columns = shape
    count = int(rng.integers(2, 6))
    for storey in range(2):
        for bay in range(count):
            top, left = (storey + 0.25) * rows / 2, (bay + 0.15) * columns / count
            low = round(left), round(top)
            high = round(left + 0.7 * columns / count), round(top + 0.3 * rows)
            pane = rng.uniform(0.02, 0.22) * np.exp(rng.normal(0, 0.06, 3))
            cv2.rectangle(picture, low, high, pane.tolist(), -1)
            cv2.rectangle(picture, low, high, (0.25, 0.25, 0.25), 1)
    return picture


def fence(rng: Rng, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """A railing, 2 m of it: albedo float32 ``[*shape, 3]`` and cover float32 ``[*shape]``."""
    rows, columns = shape
    cover = np.zeros(shape, dtype=np.float32)
    bars, thick = int(rng.integers(5, 16)), int(rng.integers(1, 4))
    if rng.random() < 0.75:
        for left in np.linspace(0, columns, bars, endpoint=False).astype(int):
            cover[rows // 8 :, left : left + thick] = 1
    rails = ((0.06, 0.85), (0.06, 0.5, 0.9), (0.06, 0.3, 0.55, 0.8))[int(rng.integers(3))]
    for top in rails:
        at = round(top * rows)
        cover[at : at + 2 * thick + 1] = 1
    cover[:, : columns // 24 + 1] = 1  # a post
    pale = rng.random() < 0.6
    tone = rng.uniform(0.35, 0.65) if pale else rng.uniform(0.05, 0.2)
    color = tone * np.exp(rng.normal(0, [0.05, 0.02, 0.06]))
    return colored(1 + 0.1 * clouds(rng, shape, (rows // 8, columns // 8)), color), cover
