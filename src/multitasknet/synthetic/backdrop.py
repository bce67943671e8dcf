"""The place behind a vehicle: a street with its skyline, or the random shapes of the paper."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from .camera import Camera
from .lens import to_image
from .render import Light


def draw_backdrop(
    rng: np.random.Generator, camera: Camera, light: Light, size: tuple[int, int]
) -> Image.Image:
    """Draw what an empty picture of ``size`` (width, height) shows."""
    abstract = rng.random() < 0.2
    picture = _abstract(rng, size) if abstract else _street(rng, camera, light, size)
    return _textured(rng, picture)


def _abstract(rng: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    """A random gradient with random shapes, as in domain randomisation."""
    corners = rng.integers(30, 226, (2, 2, 3), dtype=np.uint8)
    picture = Image.fromarray(corners).resize(size, Image.Resampling.BILINEAR)
    draw = ImageDraw.Draw(picture)
    for _ in range(rng.integers(0, 14)):
        x, y = rng.uniform(0, 1, 2) * size
        across, down = rng.uniform(0.04, 0.4, 2) * size
        shape = draw.rectangle if rng.random() < 0.5 else draw.ellipse
        shape((x, y, x + across, y + down), fill=_random_color(rng))
    return picture


def _street(
    rng: np.random.Generator, camera: Camera, light: Light, size: tuple[int, int]
) -> Image.Image:
    width = size[0]
    level = light.ambient + light.sun * light.direction[2]
    picture = Image.new("RGB", size, lit(rng.uniform(0.32, 0.6) + rng.normal(0, 0.015, 3), level))
    draw = ImageDraw.Draw(picture)
    _paint_ground(rng, draw, camera, level)
    left, right = _horizon(camera, width)
    if max(left, right) > 0:
        top = lit(light.sky * rng.uniform(0.7, 1.0), np.ones(3))
        draw.polygon([(0, -1), (width, -1), (width, right), (0, left)], fill=top)
        _paint_skyline(rng, draw, (left + right) / 2, size, level)
    return picture


def _horizon(camera: Camera, width: int) -> tuple[float, float]:
    """y of the horizon at the left and the right border."""
    ahead = camera.axes[2] * [1, 1, 0]
    side = np.cross(ahead, [0, 0, 1])
    far = camera.eye + 1e5 * np.stack([ahead - 0.1 * side, ahead + 0.1 * side])
    (x0, y0), (x1, y1) = camera.project(far)[0]
    slope = (y1 - y0) / (x1 - x0)
    return float(y0 - slope * x0), float(y0 + slope * (width - x0))


def _paint_ground(
    rng: np.random.Generator, draw: ImageDraw.ImageDraw, camera: Camera, level: np.ndarray
) -> None:
    """Verges and lane markings along the vehicle's road."""
    verge = rng.uniform(4, 9, 2)
    green = rng.random() < 0.5
    color = (0.25, 0.36, 0.18) if green else tuple(np.full(3, rng.uniform(0.4, 0.7)))
    for side, start in zip((-1, 1), verge, strict=True):
        _paint_strip(draw, camera, sorted((side * start, side * (start + 14))), lit(color, level))
    paint_color = lit((0.85, 0.85, 0.8) if rng.random() < 0.8 else (0.85, 0.68, 0.15), level)
    lane, dash = rng.uniform(1.7, 2.1), rng.choice([0, 2.5, 4.0])
    for y in (-3 * lane, -lane, lane, 3 * lane):
        _paint_strip(draw, camera, (y - 0.07, y + 0.07), paint_color, dash)


def _paint_strip(
    draw: ImageDraw.ImageDraw,
    camera: Camera,
    y: Sequence[float],
    color: tuple[int, int, int],
    dash: float = 0,
) -> None:
    """A strip of ground along the road, in pieces of which those before the camera are painted."""
    starts = np.arange(-32, 32, 2 * dash) if dash else np.arange(-48, 48, 4.0)
    x = np.stack([starts, starts + (dash or 4.0)], axis=1)
    low, high = (np.stack([x, np.full_like(x, value), np.zeros_like(x)], axis=-1) for value in y)
    quads = np.concatenate([low, high[:, ::-1]], axis=1)
    pixels, depth = camera.project(quads)
    for quad in pixels[(depth > 0.5).all(axis=1)].reshape(-1, 8).tolist():
        draw.polygon(quad, fill=color)


def _paint_skyline(
    rng: np.random.Generator,
    draw: ImageDraw.ImageDraw,
    horizon: float,
    size: tuple[int, int],
    level: np.ndarray,
) -> None:
    """Houses and trees that stand on the horizon."""
    width, height = size
    for _ in range(rng.integers(2, 9)):
        x, wide = rng.uniform(-0.2, 1) * width, rng.uniform(0.1, 0.5) * width
        tall = rng.uniform(0.05, 0.8) * height
        color = lit(rng.uniform(0.2, 0.75) + rng.normal(0, 0.05, 3), level)
        if rng.random() < 0.35:
            green = lit((0.16, rng.uniform(0.25, 0.4), 0.14), level)
            draw.ellipse((x, horizon - tall, x + wide, horizon + 0.1 * tall), fill=green)
            continue
        draw.rectangle((x, horizon - tall, x + wide, horizon + 2), fill=color)
        pane = lit(rng.uniform(0.1, 0.5, 3), level)
        step = max(wide / rng.integers(3, 8), 6)
        for left in np.arange(x + step / 4, x + wide - step / 2, step).tolist():
            for top in np.arange(horizon - tall + step / 4, horizon - step / 2, step).tolist():
                draw.rectangle((left, top, left + step / 2, top + step / 2), fill=pane)


def _textured(rng: np.random.Generator, picture: Image.Image) -> Image.Image:
    """Coarse and fine stains."""
    width, height = picture.size
    coarse = rng.normal(0, rng.uniform(2, 10), (max(height // 16, 2), max(width // 16, 2)))
    fine = rng.normal(0, rng.uniform(1, 7), (max(height // 2, 2), max(width // 2, 2)))
    stains = [
        np.asarray(
            Image.fromarray(noise.astype(np.float32)).resize(
                picture.size, Image.Resampling.BILINEAR
            )
        )
        for noise in (coarse, fine)
    ]
    return to_image(np.asarray(picture) + (stains[0] + stains[1])[..., None])


def lit(color: tuple[float, float, float] | np.ndarray, level: np.ndarray) -> tuple[int, int, int]:
    """The colour of a matt surface in that light."""
    return tuple((255 * np.clip(np.asarray(color) * level, 0, 1)).astype(int).tolist())


def _random_color(rng: np.random.Generator) -> tuple[int, int, int]:
    return tuple(rng.integers(10, 246, 3).tolist())
