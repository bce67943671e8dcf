"""Painting a model, its shadow, and telling which of its points are hidden."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from .camera import Camera, rotation
from .model import Model, Part

SUPERSAMPLING = 2
_NEAREST = 0.3  # metres; nothing closer to the camera is painted
_THICKNESS = 0.04  # metres; a point is hidden behind more of a solid than this


@dataclass(frozen=True, eq=False)
class Light:
    """Sun and sky.

    Attributes:
        direction: ``[3]``, unit vector towards the sun.
        sun, ambient: ``[3]``, R, G, B of what comes from the sun, and from all around.
        sky, ground: ``[3]``, what shiny faces mirror above and below the horizon.
        softness: how blurred shadows are, metres.
    """

    direction: np.ndarray
    sun: np.ndarray
    ambient: np.ndarray
    sky: np.ndarray
    ground: np.ndarray
    softness: float

    def seen_from(self, yaw: float) -> Light:
        """The same light in the frame of an object turned by ``yaw``."""
        direction = self.direction @ rotation(yaw)
        return Light(direction, self.sun, self.ambient, self.sky, self.ground, self.softness)


def draw_light(rng: np.random.Generator) -> Light:
    """Draw a time of day and a weather."""
    height, around = np.radians(rng.uniform(22, 75)), rng.uniform(0, 2 * np.pi)
    level = np.cos(height)
    direction = np.array([level * np.cos(around), level * np.sin(around), np.sin(height)])
    cloud = rng.random()
    warm = np.array([1.05, 1.0, 0.92]) ** rng.uniform(-0.5, 1.5)
    brightness = rng.uniform(0.85, 1.12)
    return Light(
        direction=direction,
        sun=brightness * (0.85 - 0.65 * cloud) * warm,
        ambient=brightness * (0.62 + 0.38 * cloud) * np.array([0.98, 1.0, 1.03]),
        sky=np.array([0.62, 0.74, 0.92]) * (1 - 0.5 * cloud) + 0.42 * cloud,
        ground=np.full(3, rng.uniform(0.2, 0.4)),
        softness=0.05 + 0.3 * cloud,
    )


def paint(
    canvas: Image.Image, model: Model, camera: Camera, light: Light, mask: Image.Image | None = None
) -> None:
    """Paint a model on a supersampled canvas, and its shape as 255 on a mask of the same size."""
    draw = ImageDraw.Draw(canvas)
    cover = ImageDraw.Draw(mask) if mask else None
    for part in _far_to_near(model.parts, camera.eye):
        middles = part.quads.mean(axis=1)
        facing = ((camera.eye - middles) * part.normals).sum(axis=1) > 0
        corners, depth = _on_canvas(part.quads[facing], camera)
        in_front = (depth > _NEAREST).all(axis=1)
        colors = _shade(part, middles, facing, camera.eye, light)[in_front]
        polygons = corners[in_front].reshape(-1, 8).tolist()
        for polygon, color in zip(polygons, map(tuple, colors.tolist()), strict=True):
            draw.polygon(polygon, fill=color)
            if cover:
                cover.polygon(polygon, fill=255)


def paint_shadow(image: Image.Image, model: Model, camera: Camera, light: Light) -> Image.Image:
    """Darken the ground that a model shades: the sun's shadow, and the one under the vehicle."""
    pixels_a_metre = float(camera.focal / np.linalg.norm(camera.eye))
    strength = float(np.clip(light.sun.mean() / (light.sun + light.ambient).mean(), 0.1, 0.65))
    cast = Image.new("L", image.size)
    draw = ImageDraw.Draw(cast)
    for part in model.parts:
        points = part.quads[::6].reshape(-1, 3)
        fallen = points - light.direction * (points[:, 2:] / light.direction[2])
        _fill_hull(draw, fallen, camera, round(255 * strength))
    cast = cast.filter(ImageFilter.GaussianBlur(max(light.softness * pixels_a_metre, 0.5)))
    under = Image.new("L", image.size)
    low = np.min([part.low for part in model.parts], axis=0)
    high = np.max([part.high for part in model.parts], axis=0)
    footprint = np.array(
        [[x, y, 0] for x in (low[0], high[0]) for y in (low[1] * 0.8, high[1] * 0.8)]
    )
    _fill_hull(ImageDraw.Draw(under), footprint, camera, 190)
    under = under.filter(ImageFilter.GaussianBlur(max(0.18 * pixels_a_metre, 0.5)))
    black = Image.new("RGB", image.size, (8, 9, 12))
    return Image.composite(black, image, ImageChops.lighter(cast, under))


def hidden_by_solids(points: np.ndarray, model: Model, eye: np.ndarray) -> np.ndarray:
    """Which points have more than 4 cm of the model between themselves and the eye: bool ``[N]``.

    A segment is inside a convex part where it is inside all of its face planes, so each plane
    clips the stretch that can be inside.
    """
    sight = points - eye
    length = np.linalg.norm(sight, axis=1)
    hidden = np.zeros(len(points), dtype=bool)
    for part in model.parts:
        normals, offsets = part.planes[:, :3], part.planes[:, 3]
        height = eye @ normals.T - offsets  # of the eye over each plane
        rate = sight @ normals.T
        with np.errstate(divide="ignore", invalid="ignore"):
            crossing = -height / rate
        enter = np.where(rate < 0, crossing, -np.inf).max(axis=1)
        leave = np.where(rate > 0, crossing, np.inf).min(axis=1)
        outside = ((rate == 0) & (height > 0)).any(axis=1)
        inside = (np.minimum(leave, 1) - np.maximum(enter, 0)) * length
        hidden |= ~outside & (inside > _THICKNESS)
    return hidden


def _on_canvas(points: np.ndarray, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    pixels, depth = camera.project(points)
    return (pixels + 0.5) * SUPERSAMPLING - 0.5, depth


def _far_to_near(parts: tuple[Part, ...], eye: np.ndarray) -> list[Part]:
    """Order parts so that each comes after all that it may cover.

    Of two boxes that do not overlap, one lies on the far side of a plane between them.
    """
    waiting, ordered = list(parts), []
    while waiting:
        free = next(
            (part for part in waiting if not any(_may_cover(part, o, eye) for o in waiting)),
            waiting[0],
        )
        waiting.remove(free)
        ordered.append(free)
    return ordered


def _may_cover(front: Part, behind: Part, eye: np.ndarray) -> bool:
    """Whether no plane between the boxes has ``behind`` on the eye's side."""
    if front is behind:
        return False
    slack = 0.02
    above = (behind.low >= front.high - slack) & (eye > front.high - slack)
    below = (behind.high <= front.low + slack) & (eye < front.low + slack)
    return not (above | below).any()


def _shade(
    part: Part, middles: np.ndarray, facing: np.ndarray, eye: np.ndarray, light: Light
) -> np.ndarray:
    """Diffuse light, a mirrored sky and ground, and the sun's highlight: uint8 ``[F, 3]``."""
    normal, middle, albedo = part.normals[facing], middles[facing], part.colors[facing]
    gloss = part.gloss[facing, None]
    view = eye - middle
    view = view / np.linalg.norm(view, axis=1, keepdims=True)
    cosine = (normal * view).sum(axis=1, keepdims=True)
    mirror = 2 * cosine * normal - view
    low = 0.7 + 0.3 * np.clip(middle[:, 2:] / 0.9, 0, 1)  # less light arrives near the ground
    diffuse = light.ambient * (0.72 + 0.28 * normal[:, 2:])
    diffuse = low * (diffuse + light.sun * np.maximum(normal @ light.direction, 0)[:, None])
    height = np.clip(mirror[:, 2:] / 0.12 + 0.5, 0, 1)
    zenith = np.clip(mirror[:, 2:], 0, 1)
    surround = light.ground * (1 - height) + light.sky * height * (1.12 - 0.45 * zenith)
    fresnel = gloss * (0.22 + 0.78 * (1 - np.clip(cosine, 0, 1)) ** 3)
    highlight = gloss * np.maximum(mirror @ light.direction, 0)[:, None] ** 30 * light.sun
    color = albedo * diffuse * (1 - 0.5 * fresnel) + surround * fresnel + highlight
    return (255 * np.clip(color, 0, 1)).astype(np.uint8)


def _fill_hull(draw: ImageDraw.ImageDraw, points: np.ndarray, camera: Camera, fill: int) -> None:
    pixels, depth = camera.project(points)
    if (depth > _NEAREST).all():
        draw.polygon(_hull(pixels), fill=fill)


def _hull(points: np.ndarray) -> list[tuple[float, float]]:
    """The convex hull, to within a hundredth of its size: the farthest point in each direction."""
    angles = np.linspace(0, 2 * np.pi, 32, endpoint=False)
    farthest = (points @ np.stack([np.cos(angles), np.sin(angles)])).argmax(axis=0)
    return list(map(tuple, points[farthest].tolist()))
