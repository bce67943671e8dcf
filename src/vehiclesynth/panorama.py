"""Painting a street: sky, ground and marks, what stands on it, what a wet road mirrors."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from .camera import Camera
from .light import Light
from .street import PERIOD, Standing, Street
from .surface import (
    blend,
    filled,
    outline,
    paint_flat,
    paint_upright,
    pixels_a_metre,
    quads_in_view,
    window,
)
from .textures import colored

_YELLOW = np.array([1.0, 0.68, 0.22], dtype=np.float32)
_WHITE = np.array([1.0, 0.99, 0.96], dtype=np.float32)


@dataclass(frozen=True, eq=False)
class Ground:
    """Where a picture shows the ground.

    Attributes:
        x, y: float32 ``[h, w]``, the places that it shows, metres.
        shown: bool ``[h, w]``, whether it shows the ground and not the sky.
    """

    x: np.ndarray
    y: np.ndarray
    shown: np.ndarray


def empty_sky(camera: Camera, light: Light, size: tuple[int, int]) -> tuple[np.ndarray, Ground]:
    """A canvas ``[h, w, 3]`` with nothing but sky, and where the ground is."""
    x, y, rise = camera.on_ground(size)
    canvas = np.zeros((size[1], size[0], 3), dtype=np.float32)
    ground = Ground(x, y, rise < 0)
    if not ground.shown.all():
        canvas[:] = colored(1.15 - 0.5 * np.clip(rise, 0, 1), light.sky)
    return canvas, ground


def paint_ground(
    canvas: np.ndarray, ground: Ground, street: Street, camera: Camera, irradiance: np.ndarray
) -> None:
    """Paint the street, all of it lit, wherever there is ground."""
    size = (canvas.shape[1], canvas.shape[0])
    near, far, side = -20.0, 300.0, 120.0
    corners = np.array([[near, -side, 0], [far, -side, 0], [far, side, 0], [near, side, 0]])
    whole = outline(camera, corners, size)
    if not len(whole):
        return
    middle = camera.eye + camera.axes[2] * (camera.eye[2] / max(-camera.axes[2, 2], 0.06))
    scale = pixels_a_metre(camera, middle)
    x, y = ground.x, ground.y + np.float32(PERIOD / 2)
    stones = street.stones.at(x, y, scale)
    values = street.road.at(x, y, scale) * (1 + 0.075 * stones)
    road = colored(values, street.albedo * irradiance)
    if ground.shown.all():
        canvas[:] = road
    else:
        blend(canvas, road, filled([whole], size))
    for low, high, texture in street.bands:
        strip = np.array([[near, low, 0], [far, low, 0], [far, high, 0], [near, high, 0]])
        polygon = outline(camera, strip, size, 1)
        where = window(polygon, size)
        if where is not None:
            corner = [where[1].start, where[0].start]
            picture = texture.at(x[where], y[where], scale)
            paint_flat(canvas[where], polygon - corner, picture, irradiance)
    for quads, color in ((street.white, _WHITE), (street.yellow, _YELLOW)):
        marks = quads_in_view(camera, quads, size)
        where = window(np.concatenate(marks), size) if marks else None
        if where is not None:
            worn = np.clip(1 - street.wear + 0.5 * street.wear * stones[where], 0.1, 1)
            cover = filled(marks, size)[where] * worn
            blend(canvas[where], colored(values[where], street.paint * color * irradiance), cover)


def shade_ground(canvas: np.ndarray, ground: Ground, sun: np.ndarray, light: Light) -> None:
    """Take the sun from the ground where something shades it."""
    dark = np.where(ground.shown, 1 - sun, np.float32(0))
    shares = (1 - light.sky / light.ground).astype(np.float32)
    canvas *= cv2.merge([1 - share * dark for share in shares])


def paint_shadows(canvas: np.ndarray, camera: Camera, things: list[Standing]) -> None:
    """Darken the ground below those who pass."""
    size = (canvas.shape[1], canvas.shape[0])
    for thing in things:
        left, right = thing.feet
        deep = (
            0.9
            * np.linalg.norm(right - left)
            * np.array([-camera.axes[0, 1], camera.axes[0, 0], 0])
        )
        quad = np.stack([left - 0.1 * deep, right - 0.1 * deep, right + deep, left + deep])
        seen = outline(camera, quad, size)
        blur = 0.12 * pixels_a_metre(camera, left)
        where = window(seen, size, int(blur) + 1)
        if where is None:
            continue
        low = [where[1].start, where[0].start]
        part = canvas[where]
        dark = filled([seen - low], (part.shape[1], part.shape[0]))
        dark = 1 - 0.7 * cv2.blur(dark, (int(2 * blur) + 1, int(blur) + 1))
        part *= cv2.merge([dark, dark, dark])


def mirror(
    canvas: np.ndarray,
    ground: Ground,
    standing: list[Standing],
    camera: Camera,
    light: Light,
    wet: float,
) -> None:
    """Darken a wet road and let it mirror, upright smears, what stands on it."""
    size = (canvas.shape[1], canvas.shape[0])
    mirrored = np.broadcast_to(light.sky.astype(np.float32), canvas.shape).copy()
    for thing in standing:
        paint_standing(mirrored, thing, camera, light, -1.0)
    steep = np.clip(-camera.axes[2, 2], 0.05, 1)
    share = np.float32(wet * (0.02 + 0.98 * (1 - steep) ** 5))
    cover = np.where(ground.shown, share, 0).astype(np.float32)
    canvas *= (1 - 0.45 * wet * ground.shown[..., None]).astype(np.float32)
    blend(canvas, cv2.blur(mirrored, (3, size[1] // 8 | 1)), cover)


def paint_standing(
    canvas: np.ndarray, thing: Standing, camera: Camera, light: Light, mirrored: float = 1.0
) -> None:
    run = thing.feet[1] - thing.feet[0]
    normal = np.array([run[1], -run[0], 0]) / np.hypot(run[0], run[1])
    if normal @ (camera.eye - thing.feet[0]) < 0:
        normal = -normal
    irradiance = light.upright(normal)
    paint_upright(canvas, camera, thing.texture, thing.feet, mirrored * thing.top, irradiance)


def in_view(things: list[Standing], camera: Camera, size: tuple[int, int]) -> list[Standing]:
    """Those of the things that may show; whether what is long does is found out later."""
    balls = np.array([thing.ball for thing in things]).reshape(-1, 4)
    pixels, depth = camera.project(balls[:, :3])
    reach = balls[:, 3] * camera.focal / np.maximum(depth, 0.1)
    beside = np.abs(pixels + 0.5 - np.array(size) / 2) - np.array(size) / 2
    shown = (depth > 0.5) & (beside.max(axis=1) < reach) | (balls[:, 3] > 20)
    return [thing for thing, one in zip(things, shown.tolist(), strict=True) if one]


def far_first(thing: Standing, camera: Camera) -> tuple[float, float]:
    """Sorts far things first: of two in one direction the farther is farther aside."""
    if abs(float(thing.feet[0, 1] - thing.feet[1, 1])) > 100:  # the end of the view
        return -math.inf, 0.0
    x, y, _, _ = thing.ball
    return -abs(y - float(camera.eye[1])), float(camera.eye[0]) - x
