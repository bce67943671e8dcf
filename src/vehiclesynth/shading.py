"""Light on a vehicle: what scatters, what mirrors, what shines, and what shadow it throws."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from .camera import Camera, Size, rotation
from .chance import Rng
from .light import Light
from .model import Model
from .trace import Hits

# What a clear coat, glass, a lens and chrome mirror of what meets them head on, by ``Matter.coat``.
_HEAD_ON = np.interp(
    np.arange(256) / 255, [0, 0.4, 0.6, 0.8, 1.0], [0.0, 0.035, 0.09, 0.24, 0.5]
).astype(np.float32)
_SQUARES = (np.arange(256, dtype=np.float32) / 255) ** 2
_WIDE = 512  # columns of the maps that OpenCV samples by; it takes no longer ones than 32,767
_ROUNDED = 0.45  # metres, the corners of the shadow below a vehicle
_WIDTH = 3**0.5  # of a source of light over its softness, which is twice its deviation
_LAMPS = 1.6  # radiance of a lit lamp by day


@dataclass(frozen=True)
class Lamps:
    """Which lamps are lit, and how bright against the daylight: 0 is off."""

    head: float
    rear: float


@dataclass(frozen=True, eq=False)
class PlacedVehicle:
    """A vehicle at a place ``[3]``, turned to the left by ``yaw`` in radians."""

    model: Model
    place: np.ndarray
    yaw: float
    lamps: Lamps

    @property
    def keypoints(self) -> np.ndarray:
        """On the street, ``[36, 3]``."""
        return self.model.keypoints @ rotation(self.yaw).T + self.place

    def inward(self, vectors: np.ndarray) -> np.ndarray:
        """Directions ``[..., 3]`` in the vehicle's own frame."""
        turn = rotation(self.yaw).astype(np.float32)
        return np.einsum("...i,ij->...j", vectors, turn)

    def blocks(
        self, origins: np.ndarray, directions: np.ndarray, reach: float | np.ndarray
    ) -> np.ndarray:
        """Whether it stands on rays ``[N, 3]`` within ``reach`` directions: bool ``[N]``."""
        own = self.inward(np.asarray(origins - self.place, np.float32))
        return self.model.tracer.blocked(own, self.inward(directions), reach)


def see(
    vehicle: PlacedVehicle,
    camera: Camera,
    size: Size,
    light: Light,
    environment: np.ndarray,
    rng: Rng,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Trace and light one vehicle; ``environment`` is that of ``Place``, the sun's edge random.

    Returns:
        Flat indices of its pixels, int ``[H]``, their distances in metres, float32 ``[H]``, and
        radiance, float32 ``[3, H]``.
    """
    model = vehicle.model
    own = camera.seen_from(vehicle.place, vehicle.yaw)
    low, high = _box(model, own, size)
    rays = own.cropped(low, 1.0).rays((high - low).tolist()).reshape(-1, 3)
    hits = model.tracer.first(own.eye, rays)
    if not len(hits.rays):
        return hits.rays, hits.distances, np.zeros((3, 0), np.float32)
    surface = _surface(model, hits, own.eye, rays)
    color = _radiance(surface, vehicle, light, environment, rng)
    row, column = np.divmod(hits.rays, high[0] - low[0])
    pixels = (row + low[1]) * size[0] + column + low[0]
    return pixels, hits.distances, color


@dataclass(frozen=True, eq=False)
class _Surface:
    """What rays meet, a row for each quantity: NumPy is ten times as fast along as across them."""

    # float32 ``[3, H]``; view looks back to the eye
    points: np.ndarray
    normal: np.ndarray
    view: np.ndarray
    cosine: np.ndarray  # between normal and view, ``[H]``
    open_sky: np.ndarray  # the share of the sky that the vehicle's own parts leave, ``[H]``
    albedo: np.ndarray  # float32 ``[3, H]``
    # uint8 ``[H]``, as of ``Matter``
    coat: np.ndarray
    glass: np.ndarray
    glow: np.ndarray


def _surface(model: Model, hits: Hits, eye: np.ndarray, rays: np.ndarray) -> _Surface:
    corners = cv2.transpose(model.corners.take(hits.triangles, axis=0)).reshape(3, 6, -1)
    normal, (x, y, open_sky) = np.split((corners * hits.weights[:, None]).sum(axis=0), 2)
    look, kind = _sampled(model.atlas.look, x, y), _sampled(model.atlas.kind, x, y)
    view = cv2.transpose(-rays.take(hits.rays, axis=0))
    points = eye.astype(np.float32)[:, None] - hits.distances * view
    normal = _bumped(normal, kind, model.mesh.across.take(hits.triangles))
    # A smooth normal may look away from the eye where the flat triangle does not.
    cosine = _dot(normal, view)
    normal -= np.minimum(cosine - 0.02, 0) * view
    cosine = np.maximum(cosine, 0.02)
    albedo = cv2.LUT(look[:3], _SQUARES)
    return _Surface(points, normal, view, cosine, open_sky, albedo, look[3], kind[0], kind[1])


def _radiance(
    surface: _Surface, vehicle: PlacedVehicle, light: Light, environment: np.ndarray, rng: Rng
) -> np.ndarray:
    """What is scattered, mirrored and sent out by lamps: float32 ``[3, H]``."""
    points, normal, cosine = surface.points, surface.normal, surface.cosine
    direction = vehicle.inward(light.direction.astype(np.float32))
    sunny = _sunlight(vehicle.model, points, normal, direction, light, rng)
    low_down = np.clip(2 * points[2], 0, 1)
    let_in = surface.open_sky * (1 - np.float32(0.3 / 255) * surface.glass)
    above = let_in * (0.5 + 0.5 * normal[2]) * (0.55 + 0.45 * low_down)
    below = let_in * (0.5 - 0.5 * normal[2]) * (0.05 + 0.15 * low_down)
    sources = np.stack([light.sky, light.ground, light.sun], axis=1).astype(np.float32)
    color = surface.albedo * _mixed(sources, np.stack([above, below, sunny]))

    mirror = 2 * cosine * normal - surface.view
    head_on = _HEAD_ON.take(surface.coat)
    slick = np.minimum(surface.coat * np.float32(1 / 102), 1)
    graze = (1 - cosine) ** 2
    gain = head_on + (0.7 - head_on) * graze * graze * (1 - cosine) * slick  # Schlick 1994
    outward = _mixed(rotation(vehicle.yaw).astype(np.float32), mirror)
    color += gain * (0.35 + 0.65 * surface.open_sky) * _mirrored(environment, outward)
    if sunny.any():
        spot = np.maximum(_mixed(direction, mirror), 0)
        for _ in range(7):  # to the power of 128
            spot *= spot
        color += 1.5 * spot * (sunny > 0) * slick * sources[:, 2:]

    lit = np.where(points[0] > 0, np.float32(vehicle.lamps.head), np.float32(vehicle.lamps.rear))
    shining = np.flatnonzero(surface.glow * lit)
    glow = np.float32(_LAMPS / 255) * surface.glow[shining] * lit[shining]
    color[:, shining] += glow * np.sqrt(surface.albedo[:, shining])
    return color


def ground_light(
    vehicles: list[PlacedVehicle], camera: Camera, size: Size, light: Light, rng: Rng
) -> tuple[np.ndarray, np.ndarray]:
    """How much light reaches the road below a sky, and below one with a sun.

    Two float32 ``[h, w]``, 1 where no vehicle takes any.
    """
    half = ((size[0] + 1) // 2, (size[1] + 1) // 2)
    everywhere = camera.cropped(np.zeros(2), 0.5).on_ground(half)
    x, y, rise = (values.reshape(-1) for values in everywhere)
    down = np.flatnonzero(rise < -0.02)
    sky, sun = np.ones(len(rise), np.float32), np.ones(len(rise), np.float32)
    x, y = x.take(down), y.take(down)
    for vehicle in vehicles:
        sky[down] *= _open_ground(vehicle, x, y)
    casts = _casts_shadows(light)
    for vehicle in vehicles if casts else ():
        reach = 2 * float(np.linalg.norm(vehicle.model.extent[1]))
        x0, y0, _ = vehicle.place.tolist()
        near = np.flatnonzero((x - x0) ** 2 + (y - y0) ** 2 < reach**2)
        toward = _toward_sun(light.direction, light.softness, len(near), rng)
        spots = np.stack([x.take(near), y.take(near), np.zeros(len(near), np.float32)], axis=1)
        sun[down[near]] *= ~vehicle.blocks(spots, toward, 2 * reach)
    below_sky = cv2.GaussianBlur(sky.reshape(half[::-1]), (0, 0), 0.7)
    below_sun: np.ndarray = sun.reshape(half[::-1])
    if casts:
        blur = max(0.7, light.softness * camera.focal / float(np.linalg.norm(camera.eye)) * 0.2)
        below_sun = cv2.GaussianBlur(below_sun, (0, 0), blur)
    # The sun goes with a part of the sky about it.
    layers = (below_sky, below_sun * (0.3 + 0.7 * below_sky))
    grown = [cv2.resize(layer, (2 * half[0], 2 * half[1])) for layer in layers]
    return grown[0][: size[1], : size[0]], grown[1][: size[1], : size[0]]


def _casts_shadows(light: Light) -> bool:
    return bool(light.sun.mean() > 0.08 * light.ground.mean())


def _open_ground(vehicle: PlacedVehicle, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The share of the sky that a vehicle leaves to spots on the road: dark below, soft beside."""
    low, high = vehicle.model.extent
    x0, y0, _ = vehicle.place.tolist()
    cos, sin = math.cos(vehicle.yaw), math.sin(vehicle.yaw)
    ahead, aside = cos * (x - x0) + sin * (y - y0), cos * (y - y0) - sin * (x - x0)
    half_long, half_wide = np.minimum(-low[:2], high[:2]) - np.float32(_ROUNDED + 0.1)
    # Metres from a footprint with rounded corners; negative below the vehicle.
    beyond, beside = np.abs(ahead) - half_long, np.abs(aside) - half_wide
    corner = np.sqrt(np.maximum(beyond, 0) ** 2 + np.maximum(beside, 0) ** 2)
    away = corner - _ROUNDED + np.minimum(np.maximum(beyond, beside), 0)
    outside = np.maximum(away, 0)
    wall = 0.4 * (1 - outside / np.sqrt(outside**2 + high[2] ** 2))
    contact = 0.55 * np.exp(-outside / 0.3)
    under = np.clip(0.5 - away / 0.5, 0, 1)
    return (1 - wall) * (1 - contact) * (1 - 0.8 * under)


def _box(model: Model, camera: Camera, size: Size) -> tuple[np.ndarray, np.ndarray]:
    """The picture's part that holds a model, in whose frame the camera is: first x, y; end."""
    pixels, depth = camera.project(model.mesh.points)
    if depth.min() < 0.5:
        return np.zeros(2, int), np.array(size)
    x, y, wide, tall = cv2.boundingRect(pixels.astype(np.float32))
    first = np.clip([x, y], 0, np.subtract(size, 1))
    return first, np.clip([x + wide, y + tall], first + 1, size)


def _dot(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.einsum("ch,ch->h", first, second)


def _mixed(weights: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """``weights @ rows``, for which BLAS would wake its threads."""
    return np.einsum("...c,ch->...h", weights, rows)


def _sampled(image: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The channels of an image ``[h, w, C]`` at places: ``[C, H]``."""
    # In rows of a length that OpenCV takes.
    count = len(x)
    shape = (-(-max(count, 1) // _WIDE), _WIDE)
    x, y = (np.resize(places, shape) for places in (x, y))
    sampled = cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    channels = np.stack(cv2.split(sampled))
    return channels.reshape(len(channels), -1)[:, :count]


def _bumped(normal: np.ndarray, kind: np.ndarray, across: np.ndarray) -> np.ndarray:
    """Normals ``[3, H]`` of unit length, tilted where there is relief."""
    rough = np.flatnonzero((kind[2] != 128) | (kind[3] != 128))
    right, down = (kind[2:, rough] - np.float32(128)) * np.float32(2 / 255)
    x, y, z = normal[:, rough]
    over = across[rough]
    # Along the texture's x: the vehicle's x, or its y; and down it: z, or over the strip.
    normal[0, rough] = x - np.where(over, down * z, right)
    normal[1, rough] = y - np.where(over, right, 0)
    normal[2, rough] = z + np.where(over, down * x, down)
    normal /= np.sqrt(np.maximum(_dot(normal, normal), 1e-12))
    return normal


def _sunlight(
    model: Model,
    points: np.ndarray,
    normal: np.ndarray,
    direction: np.ndarray,
    light: Light,
    rng: Rng,
) -> np.ndarray:
    """Cosine of the sun where the vehicle does not shade itself: ``[H]``."""
    cosine: np.ndarray = np.maximum(_mixed(direction, normal), 0)
    lit = np.flatnonzero(cosine > 0)
    if not _casts_shadows(light):
        return cosine
    toward = _toward_sun(direction, light.softness, len(lit), rng)
    start = (points + np.float32(0.03) * normal).T.take(lit, axis=0)
    cosine[lit[model.tracer.blocked(start, toward)]] = 0
    return cosine


def _toward_sun(direction: np.ndarray, softness: float, count: int, rng: Rng) -> np.ndarray:
    """Directions to spots of a light of some width, about unit length: float32 ``[count, 3]``."""
    spread = rng.random((count, 3), dtype=np.float32)
    spread -= np.float32(0.5)
    spread *= np.float32(_WIDTH * softness)
    spread += direction.astype(np.float32)
    return spread


def _mirrored(environment: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """Radiance from each direction ``[3, H]``."""
    rows, columns = environment.shape[:2]
    x, y, z = directions[:, None]
    level, turn = cv2.cartToPolar(x, y)
    down = cv2.phase(z, level)
    x = turn[0] * np.float32(columns / (2 * np.pi)) - np.float32(0.5)
    y = down[0] * np.float32(rows / np.pi) - np.float32(0.5)
    return _sampled(environment, x, y)
