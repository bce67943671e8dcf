"""One picture: a vehicle somewhere, in some light, before a camera, cut out as a detector would.

Or a part of a street with several vehicles or none, as no detector should cut it out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from multitasknet.vehicle.attributes import COLORS, TYPES

from .camera import Camera, Size, look_at
from .chance import Rng, pick
from .foreground import draw_foreground
from .light import Light, draw_light
from .look import draw_look
from .model import Model, build_model
from .optics import Optics, develop, draw_optics, encode
from .place import Backdrop, Place, draw_place
from .prior import Crop, View, draw_crop, draw_view
from .shading import Lamps, PlacedVehicle, ground_light, see
from .surface import blend
from .visibility import draw_confidences, find_visibility, stands_before

_CROWD = 8  # models that pass by, the same in every data set
_FINER = 1.2  # pixels drawn for each of the sensor's, along each side
_ALBEDO = 0.15  # of a street as a whole
_HIDDEN = 0.35  # of the keypoints, at most, by the other vehicle
_QUEUED, _LANE = 8.0, 3.4  # metres between vehicles of a street
_COMPANY = {"even": 0.35, "real": 0.25}  # how many of the pictures show another vehicle


@dataclass(frozen=True, eq=False)
class Shot:
    """A picture of a vehicle.

    Attributes:
        jpeg: the file's bytes.
        keypoints: float32 ``[36, 3]``: x and y in pixels, also outside the picture, and a
            confidence such as the published pose network's.
        visibility: uint8 ``[36]``: 0 visible, 1 hidden by the vehicle itself, 2 hidden by
            something else or outside the picture.
        view: how the camera saw it.
    """

    jpeg: bytes
    keypoints: np.ndarray
    visibility: np.ndarray
    view: View


@dataclass(frozen=True, eq=False)
class Station:
    """One camera id: what stands before it, and what it makes of the light."""

    place: Place
    optics: Optics


def draw_station(rng: Rng, prior: str) -> Station:
    """Draw a camera id's surroundings and look."""
    wide = prior == "even"
    return Station(draw_place(rng, wide=wide), draw_optics(rng, wide=wide))


def shoot(model: Model, station: Station, rng: Rng, *, pixels: int, prior: str) -> Shot:
    """Photograph a vehicle at a random place, in a random light, from a random side.

    ``pixels`` is the usual longer side of the picture.
    """
    wide = prior == "even"
    view, crop = draw_view(rng, prior), draw_crop(rng, prior, pixels)
    camera, size = _framed(model, view, crop)
    # What the sensor sees coarsely need not be drawn finely.
    fineness = min(1.0, _FINER * crop.scale)
    full, size = size, (max(round(size[0] * fineness), 8), max(round(size[1] * fineness), 8))
    camera = camera.cropped(np.zeros(2), fineness)
    light = draw_light(rng, wide=wide)
    vehicle = PlacedVehicle(model, np.zeros(3), 0.0, draw_lamps(rng, light))
    others = [
        other
        for other in _draw_company(rng, camera, light, prior)
        if stands_before(other, model.keypoints, camera.eye).mean() < _HIDDEN
    ]
    picture = _lit_scene([vehicle, *others], station.place, camera, light, size, rng)
    layer = draw_foreground(rng, size, light, wide=wide)
    cover = None
    if layer is not None:
        color, cover = layer
        blend(picture, color, cover)
    photo = develop(
        picture,
        station.optics,
        rng,
        around=street_light(light),
        scale=crop.scale / fineness,
        motion=_draw_motion(rng, camera, size, wide),
        size=full,
    )
    projected, _ = camera.project(model.keypoints)
    projected = station.optics.bent((projected + 0.5) / fineness - 0.5, full)
    visibility = find_visibility(vehicle, others, camera, size, cover)
    confidence = draw_confidences(rng, visibility)
    keypoints = np.column_stack([projected, confidence]).astype(np.float32)
    return Shot(encode(photo, station.optics.quality), keypoints, visibility, view)


def shoot_street(
    models: Sequence[Model], station: Station, rng: Rng, *, pixels: int, prior: str
) -> tuple[bytes, int]:
    """Photograph up to nine vehicles in a queue or side by side, or an empty street.

    Returns:
        The JPEG file's bytes, and how many of the vehicles the others hide less than half.
    """
    wide = prior == "even"
    light = draw_light(rng, wide=wide)
    vehicles = _queue(models, light, rng)
    camera, size = _overview(vehicles, draw_view(rng, prior), pixels, rng)
    picture = _lit_scene(vehicles, station.place, camera, light, size, rng)
    photo = develop(picture, station.optics, rng, around=street_light(light), size=size)
    shown = sum(_hidden(one, vehicles, camera) < 0.5 for one in vehicles)
    return encode(photo, station.optics.quality), shown


def _hidden(vehicle: PlacedVehicle, others: list[PlacedVehicle], camera: Camera) -> float:
    """The share of its keypoints before which others stand."""
    points = vehicle.keypoints
    before = [stands_before(one, points, camera.eye) for one in others if one is not vehicle]
    return float(np.any(before, axis=0).mean()) if before else 0.0


def _queue(models: Sequence[Model], light: Light, rng: Rng) -> list[PlacedVehicle]:
    """The vehicles on neighbouring places of three lanes."""
    places = [(x, y) for x in (-_QUEUED, 0.0, _QUEUED) for y in (-_LANE, 0.0, _LANE)]
    first = pick(rng, places)
    places.sort(key=lambda place: math.dist(place, first) + rng.uniform(0, 4))
    return [
        PlacedVehicle(
            model,
            np.array([x + rng.normal(0, 0.7), y + rng.normal(0, 0.15), 0.0]),
            np.pi * (rng.random() < 0.3) + rng.normal(0, 0.03),
            draw_lamps(rng, light),
        )
        for model, (x, y) in zip(models, places, strict=False)
    ]


def _overview(
    vehicles: list[PlacedVehicle], view: View, pixels: int, rng: Rng
) -> tuple[Camera, tuple[int, int]]:
    """The camera of a picture that shows all of them, or of an empty one, and its size."""
    box = np.stack(np.meshgrid([-1, 1], [-1, 1], [0, 0.4]), axis=-1).reshape(-1, 3)
    points = [rng.uniform(1.5, 9) * box]
    if vehicles:
        points = [one.keypoints for one in vehicles]
    seen = np.concatenate(points)
    camera = look_at(seen.mean(axis=0), view)
    projected, _ = camera.project(seen)
    low, high = projected.min(axis=0), projected.max(axis=0)
    margin = 0.06 * (high - low)
    extent = high - low + 2 * margin
    scale = float(pixels / extent.max())
    width, height = np.clip(np.rint(extent * scale), pixels // 3, pixels).astype(int).tolist()
    return camera.cropped(low - margin, scale), (width, height)


def _framed(model: Model, view: View, crop: Crop) -> tuple[Camera, tuple[int, int]]:
    """The camera of the crop, and the crop's width and height."""
    _, high = model.extent
    camera = look_at(np.array([0, 0, 0.45 * high[2]]), view)
    points, _ = camera.project(model.keypoints)
    first, last = points.min(axis=0), points.max(axis=0)
    before, after = np.array([crop.left, crop.top]), np.array([crop.right, crop.bottom])
    extent = (last - first) / np.maximum(1 - before - after, 0.3)
    scale = float(crop.longer_side / extent.max())
    width, height = np.clip(np.rint(extent * scale), 16, crop.longer_side).astype(int).tolist()
    return camera.cropped(first - before * extent, scale), (width, height)


def _lit_scene(
    vehicles: list[PlacedVehicle], place: Place, camera: Camera, light: Light, size: Size, rng: Rng
) -> np.ndarray:
    """Radiance of the scene: float32 ``[h, w, 3]``."""
    wet = float(rng.uniform(0.2, 0.9)) if rng.random() < 0.1 else 0.0
    backdrop = place.backdrop(camera, light, size, rng, wet=wet)
    return composed(backdrop, place.environment(light), vehicles, camera, light, rng)[0]


def composed(
    backdrop: Backdrop,
    environment: np.ndarray,
    vehicles: list[PlacedVehicle],
    camera: Camera,
    light: Light,
    rng: Rng,
) -> tuple[np.ndarray, np.ndarray]:
    """Vehicles and their shadows on a street, the nearer ones before the others.

    Returns:
        Radiance, float32 ``[h, w, 3]``, and whose each pixel is, int ``[h, w]``: a number in
        ``vehicles``, or -1.
    """
    size = (backdrop.sun.shape[1], backdrop.sun.shape[0])
    sky, sunny = ground_light(vehicles, camera, size, light, rng)
    share = backdrop.sun * np.float32(1 - light.sky.mean() / light.ground.mean())
    lit = sky + share * (sunny - sky)
    picture = [(channel * lit).reshape(-1) for channel in cv2.split(backdrop.color)]
    nearest, owner = np.full(lit.size, np.inf, np.float32), np.full(lit.size, -1)
    for number, standing in enumerate(vehicles):
        pixels, distances, colors = see(standing, camera, size, light, environment, rng)
        closer = np.flatnonzero(distances < nearest.take(pixels))
        pixels = pixels.take(closer)
        nearest[pixels], owner[pixels] = distances.take(closer), number
        for channel, color in zip(picture, colors, strict=True):
            channel[pixels] = color.take(closer)
    color = cv2.merge([channel.reshape(lit.shape) for channel in picture])
    return color, owner.reshape(lit.shape)


def street_light(light: Light) -> float:
    """Mean radiance of a street, by which cameras expose."""
    return _ALBEDO * float(light.ground.mean())


def draw_lamps(rng: Rng, light: Light) -> Lamps:
    dark = light.night or light.ground.mean() < 0.3
    head = 1.0 if dark or rng.random() < 0.06 else 0.0
    brake = rng.uniform(0.5, 1.0) if rng.random() < 0.35 else 0.0
    return Lamps(head * rng.uniform(0.6, 2.0), max(brake, 0.3 * head))


def _draw_company(rng: Rng, camera: Camera, light: Light, prior: str) -> list[PlacedVehicle]:
    """Another vehicle ahead, behind or in the next lane, where it does not hide this one."""
    if rng.random() > _COMPANY[prior]:
        return []
    lane = rng.choice([-1, 0, 1])
    x = rng.uniform(-9, 9) if lane else rng.choice([-1, 1]) * rng.uniform(7.5, 14)
    place = np.array([x, lane * rng.uniform(3.0, 3.8), 0.0])
    turned = np.pi if lane and rng.random() < 0.4 else 0.0
    nearer = np.linalg.norm(camera.eye - place) < np.linalg.norm(camera.eye)
    if nearer and rng.random() < 0.6:
        place[:2] *= -1
    model = _passer_by(int(rng.integers(_CROWD)))
    return [PlacedVehicle(model, place, turned + rng.normal(0, 0.03), draw_lamps(rng, light))]


@lru_cache(maxsize=_CROWD)
def _passer_by(number: int) -> Model:
    """One of a fixed crowd; building each costs as much as several pictures."""
    rng = np.random.default_rng(number)
    type_id = int(rng.choice(len(TYPES), p=np.array([5, 3, 1, 1, 1, 1, 0.5, 1, 0.5]) / 14)) + 1
    return build_model(draw_look(rng, type_id, int(rng.integers(len(COLORS))) + 1))


def _draw_motion(rng: Rng, camera: Camera, size: Size, wide: bool) -> tuple[float, float]:
    """Pixels that the vehicle moves along its road while the shutter is open."""
    ends, _ = camera.project(np.array([[0, 0, 0.8], [0.5, 0, 0.8]]))
    step = 2 * (ends[1] - ends[0])  # pixels a metre
    speed = abs(rng.normal(0, 0.10 if wide else 0.05))  # metres in that time
    x, y = (step * speed).clip(-0.1 * max(size), 0.1 * max(size)).tolist()
    return x, y
