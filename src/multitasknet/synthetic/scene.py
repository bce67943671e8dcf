"""Everything round a vehicle, drawn anew for every picture: place, passers-by, and the lens."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from ..keypoints import NUM_KEYPOINTS
from ..labels import COLORS, TYPES
from .camera import Camera, Station, look_at_vehicle
from .model import Model, build_model
from .render import (
    SUPERSAMPLING,
    Light,
    draw_light,
    hidden_by_solids,
    paint,
    paint_shadow,
)
from .vehicle import draw_vehicle

_LEAST_SEEN = 0.6  # share of the seen keypoints that an occluder must leave
_FAR = 300.0


@dataclass(frozen=True, eq=False)
class Shot:
    """A picture of a vehicle.

    Attributes:
        jpeg: the file's bytes.
        keypoints: float32 ``[36, 3]``: x and y in pixels, also outside the picture; confidence 1
            where nothing stands before the point, 0.1 to 0.4 where the vehicle itself or another
            object does.
    """

    jpeg: bytes
    keypoints: np.ndarray


def shoot(model: Model, station: Station, rng: np.random.Generator, size: int) -> Shot:
    """Photograph a vehicle at a random place, in a random light, from a random side.

    Args:
        model: the vehicle.
        station: the camera that takes the picture.
        rng: everything else is drawn from it.
        size: the longer side of the picture in pixels.
    """
    camera, (width, height) = _frame_vehicle(model, station, rng, size)
    light = draw_light(rng)
    picture = _background(rng, camera, light, (width, height))
    if rng.random() < 0.3:
        picture = _paint_on(picture, *_neighbor(rng, camera, light, behind=True))
    picture = paint_shadow(picture, model, camera, light)
    canvas = picture.resize(
        (width * SUPERSAMPLING, height * SUPERSAMPLING), Image.Resampling.NEAREST
    )
    paint(canvas, model, camera, light)
    pixels, _ = camera.project(model.keypoints)
    hidden = hidden_by_solids(model.keypoints, model, camera.eye)
    if rng.random() < 0.35:
        canvas, covered = _occlude(rng, canvas, camera, light, pixels, hidden)
        hidden = hidden | covered
    picture = _through_lens(rng, canvas.reduce(SUPERSAMPLING), station)
    confidence = np.where(hidden, rng.uniform(0.1, 0.4, NUM_KEYPOINTS), 1.0)
    keypoints = np.column_stack([pixels, confidence]).astype(np.float32)
    return Shot(_encode(picture, station.quality), keypoints)


def _frame_vehicle(
    model: Model, station: Station, rng: np.random.Generator, size: int
) -> tuple[Camera, tuple[int, int]]:
    """The camera of a crop as a detector would cut it, and the crop's width and height."""
    points = np.concatenate([part.quads.reshape(-1, 3) for part in model.parts])
    length = np.ptp(points[:, 0])
    camera = look_at_vehicle(
        station,
        yaw=rng.uniform(0, 2 * np.pi),
        distance=length * station.reach * rng.uniform(0.8, 1.25) + 2,
        height=station.height * rng.uniform(0.9, 1.1) + 0.15 * points[:, 2].max(),
        target=np.array([*rng.normal(0, 0.5, 2), 0.45 * points[:, 2].max()]),
    )
    pixels, _ = camera.project(points)
    low, high = pixels.min(axis=0), pixels.max(axis=0)
    extent = high - low
    low = low - extent * rng.normal(0.04, 0.03, 2)
    high = high + extent * rng.normal(0.04, 0.03, 2)
    if rng.random() < 0.2:
        cut = rng.uniform(0.06, 0.2) * extent
        axis = int(rng.integers(2))
        if rng.random() < 0.5:
            low[axis] += cut[axis]
        else:
            high[axis] -= cut[axis]
    scale = float(size / (high - low).max())
    width, height = np.clip(np.rint((high - low) * scale), 1, size).astype(int).tolist()
    return camera.cropped(low, scale), (width, height)


# -- the place -----------------------------------------------------------------------------------


def _background(
    rng: np.random.Generator, camera: Camera, light: Light, size: tuple[int, int]
) -> Image.Image:
    abstract = rng.random() < 0.2
    picture = _abstract(rng, size) if abstract else _street(rng, camera, light, size)
    return _textured(rng, picture)


def _abstract(rng: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    """A random gradient with random shapes, as in domain randomisation."""
    corners = rng.integers(30, 226, (2, 2, 3), dtype=np.uint8)
    picture = Image.fromarray(corners, "RGB").resize(size, Image.Resampling.BILINEAR)
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
    picture = Image.new("RGB", size, _lit(rng.uniform(0.32, 0.6) + rng.normal(0, 0.015, 3), level))
    draw = ImageDraw.Draw(picture)
    _paint_ground(rng, draw, camera, level)
    left, right = _horizon(camera, width)
    if max(left, right) > 0:
        top = _lit(light.sky * rng.uniform(0.7, 1.0), np.ones(3))
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
        _paint_strip(draw, camera, sorted((side * start, side * (start + 14))), _lit(color, level))
    paint_color = _lit((0.85, 0.85, 0.8) if rng.random() < 0.8 else (0.85, 0.68, 0.15), level)
    lane, dash = rng.uniform(1.7, 2.1), rng.choice([0, 2.5, 4.0])
    for y in (-3 * lane, -lane, lane, 3 * lane):
        _paint_strip(draw, camera, (y - 0.07, y + 0.07), paint_color, dash)


def _paint_strip(
    draw: ImageDraw.ImageDraw,
    camera: Camera,
    y: tuple[float, float],
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
        color = _lit(rng.uniform(0.2, 0.75) + rng.normal(0, 0.05, 3), level)
        if rng.random() < 0.35:
            green = _lit((0.16, rng.uniform(0.25, 0.4), 0.14), level)
            draw.ellipse((x, horizon - tall, x + wide, horizon + 0.1 * tall), fill=green)
            continue
        draw.rectangle((x, horizon - tall, x + wide, horizon + 2), fill=color)
        pane = _lit(rng.uniform(0.1, 0.5, 3), level)
        step = max(wide / rng.integers(3, 8), 6)
        for left in np.arange(x + step / 4, x + wide - step / 2, step).tolist():
            for top in np.arange(horizon - tall + step / 4, horizon - step / 2, step).tolist():
                draw.rectangle((left, top, left + step / 2, top + step / 2), fill=pane)


def _textured(rng: np.random.Generator, picture: Image.Image) -> Image.Image:
    """Coarse and fine stains."""
    width, height = picture.size
    coarse = rng.normal(0, rng.uniform(2, 10), (max(height // 16, 2), max(width // 16, 2)))
    fine = rng.normal(0, rng.uniform(1, 7), (max(height // 2, 2), max(width // 2, 2)))
    stains = sum(
        np.asarray(
            Image.fromarray(noise.astype(np.float32)).resize(
                picture.size, Image.Resampling.BILINEAR
            )
        )
        for noise in (coarse, fine)
    )
    return _to_image(np.asarray(picture) + stains[..., None])


def _lit(color: tuple[float, float, float] | np.ndarray, level: np.ndarray) -> tuple[int, int, int]:
    return tuple((255 * np.clip(np.asarray(color) * level, 0, 1)).astype(int).tolist())


def _random_color(rng: np.random.Generator) -> tuple[int, int, int]:
    return tuple(rng.integers(10, 246, 3).tolist())


# -- other objects -------------------------------------------------------------------------------


def _neighbor(
    rng: np.random.Generator, camera: Camera, light: Light, *, behind: bool
) -> tuple[Model, Camera, Light]:
    """Another vehicle, on the far or on the near side of the one in the picture."""
    vehicle = draw_vehicle(
        rng, int(rng.integers(len(TYPES))) + 1, int(rng.integers(len(COLORS))) + 1
    )
    away = -camera.eye * [1, 1, 0] / np.linalg.norm(camera.eye[:2])
    across = np.array([-away[1], away[0], 0])
    ahead = rng.uniform(4.5, 8) if behind else -rng.uniform(3.2, 4.2)
    place = ahead * away + rng.uniform(-3.5, 3.5) * across
    yaw = rng.uniform(0, 2 * np.pi)
    return build_model(vehicle), camera.seen_from(place, yaw), light.seen_from(yaw)


def _paint_on(picture: Image.Image, model: Model, camera: Camera, light: Light) -> Image.Image:
    size = (picture.width * SUPERSAMPLING, picture.height * SUPERSAMPLING)
    canvas = picture.resize(size, Image.Resampling.NEAREST)
    paint(canvas, model, camera, light)
    return canvas.reduce(SUPERSAMPLING)


def _occlude(
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
    kind = rng.choice(["pole", "bush", "wall", "vehicle"])
    if kind == "vehicle":
        model, moved, turned = _neighbor(rng, camera, light, behind=False)
        paint(front, model, moved, turned, mask)
    else:
        _paint_object(rng, str(kind), mask)
        color = _lit(rng.uniform(0.1, 0.7) + rng.normal(0, 0.08, 3), light.ambient + light.sun / 2)
        front.paste(color, (0, 0), mask)
    covered = _lookup(mask, pixels)
    if (covered & ~hidden).sum() > (1 - _LEAST_SEEN) * (~hidden).sum():
        return canvas, np.zeros(len(hidden), dtype=bool)
    return front, covered


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


# -- the lens ------------------------------------------------------------------------------------


def _through_lens(rng: np.random.Generator, picture: Image.Image, station: Station) -> Image.Image:
    """Blur, exposure, colour cast, vignette and noise of the camera."""
    radius = station.blur * max(picture.size) / 256 * rng.uniform(0.6, 1.4)
    pixels = np.asarray(picture.filter(ImageFilter.GaussianBlur(radius)), dtype=np.float32)
    gain = station.exposure * rng.uniform(0.9, 1.1) * np.array(station.cast, dtype=np.float32)
    pixels = (pixels - 118) * np.float32(station.contrast) + 118
    down, across = (np.linspace(-1, 1, count, dtype=np.float32) for count in pixels.shape[:2])
    falloff = 1 - np.float32(station.vignette / 2) * (down[:, None] ** 2 + across[None] ** 2)
    pixels *= (gain * falloff[..., None]).astype(np.float32)
    pixels += rng.standard_normal(pixels.shape, dtype=np.float32) * np.float32(station.noise)
    return _to_image(pixels)


def _to_image(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _encode(picture: Image.Image, quality: int) -> bytes:
    buffer = BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()
