"""Other things in the picture: passers-by behind the vehicle, and what stands before it."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

from ..vehicle.attributes import COLORS, TYPES
from .backdrop import lit
from .camera import Camera
from .model import Model, build_model
from .render import SUPERSAMPLING, Light, paint
from .vehicle import draw_vehicle

_PASSERS_BY = 64
_LEAST_SEEN = 0.6  # share of the seen keypoints that an occluder must leave
_MOST_COVERED = 0.35  # share of the picture that an occluder may take


def add_passer_by(
    rng: np.random.Generator, canvas: Image.Image, camera: Camera, light: Light
) -> None:
    """Paint another vehicle on the far side of where the vehicle will stand."""
    paint(canvas, *_neighbor(rng, camera, light, behind=True))


def occlude(
    rng: np.random.Generator,
    canvas: Image.Image,
    camera: Camera,
    light: Light,
    pixels: np.ndarray,
    hidden: np.ndarray,
) -> tuple[Image.Image, np.ndarray]:
    """Put something before the vehicle, unless too little of it would be left to see.

    Returns:
        The canvas, and which keypoints the object covers.
    """
    front, mask = canvas.copy(), Image.new("L", canvas.size)
    kind = str(rng.choice(["pole", "bush", "wall", "vehicle"]))
    if kind == "vehicle":
        model, moved, turned = _neighbor(rng, camera, light, behind=False)
        paint(front, model, moved, turned, mask)
    else:
        _paint_object(rng, kind, mask)
        tone = rng.uniform(0.1, 0.6) + rng.normal(0, 0.04, 3)
        color = tone * [0.6, 1, 0.5] if kind == "bush" else tone
        front.paste(lit(color, light.ambient + light.sun / 2), (0, 0), mask)
    covered = _lookup(mask, pixels)
    most = (1 - _LEAST_SEEN) * (~hidden).sum()
    if (covered & ~hidden).sum() > most or np.asarray(mask).mean() > 255 * _MOST_COVERED:
        return canvas, np.zeros(len(hidden), dtype=bool)
    return front, covered


def _neighbor(
    rng: np.random.Generator, camera: Camera, light: Light, *, behind: bool
) -> tuple[Model, Camera, Light]:
    """Another vehicle, on the far or on the near side of the one in the picture."""
    model = _passer_by(int(rng.integers(_PASSERS_BY)))
    away = -camera.eye * [1, 1, 0] / np.linalg.norm(camera.eye[:2])
    across = np.array([-away[1], away[0], 0])
    ahead = rng.uniform(4.5, 8) if behind else -rng.uniform(3.2, 4.2)
    place = ahead * away + rng.uniform(-3.5, 3.5) * across
    yaw = rng.uniform(0, 2 * np.pi)
    return model, camera.seen_from(place, yaw), light.seen_from(yaw)


@lru_cache(maxsize=_PASSERS_BY)
def _passer_by(number: int) -> Model:
    """One of a fixed crowd, the same in every data set; building each costs as much as painting."""
    rng = np.random.default_rng(number)
    type_id, color_id = int(rng.integers(len(TYPES))) + 1, int(rng.integers(len(COLORS))) + 1
    return build_model(draw_vehicle(rng, type_id, color_id))


def _paint_object(rng: np.random.Generator, kind: str, mask: Image.Image) -> None:
    draw = ImageDraw.Draw(mask)
    width, height = mask.size
    if kind == "pole":
        x, wide = rng.uniform(0.1, 0.9) * width, rng.uniform(0.015, 0.07) * width
        lean = rng.normal(0, 0.03) * width
        draw.polygon(
            [(x, 0), (x + wide, 0), (x + wide + lean, height), (x + lean, height)], fill=255
        )
    elif kind == "wall":
        left, right = height * (1 - rng.uniform(0.05, 0.25, 2))
        draw.polygon([(0, left), (width, right), (width, height), (0, height)], fill=255)
    else:
        x, y = rng.choice([0.05, 0.95]) * width, rng.uniform(0.5, 1.0) * height
        for _ in range(14):
            dx, dy = rng.normal(0, 0.07, 2) * width
            radius = rng.uniform(0.03, 0.09) * width
            draw.ellipse(
                (x + dx - radius, y + dy - radius, x + dx + radius, y + dy + radius), fill=255
            )


def _lookup(mask: Image.Image, pixels: np.ndarray) -> np.ndarray:
    """Whether the mask is set at each point; never outside it."""
    spots = np.rint((pixels + 0.5) * SUPERSAMPLING - 0.5).astype(int)
    inside = ((spots >= 0) & (spots < mask.size)).all(axis=1)
    covered = np.zeros(len(pixels), dtype=bool)
    columns, rows = spots[inside].T
    covered[inside] = np.asarray(mask)[rows, columns] > 0
    return covered
