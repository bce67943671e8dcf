"""A street with several vehicles before one fixed camera, frame after frame."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import cv2
import numpy as np

from .camera import Camera, Size, look_at, rotation
from .chance import Rng
from .light import Light
from .model import Model
from .optics import develop
from .place import Backdrop
from .prior import View
from .scene import Station, composed, draw_lamps, street_light
from .shading import PlacedVehicle
from .street import Standing, Street
from .traffic import Passage

_SEEN = 0.3  # of a vehicle's outline at least, for a box
_LEAST = 1 / 24  # of the picture's height: the shorter side of a box, at least
_FROM, _TO = -2.0, 105.0  # metres of the street that a camera may see


@dataclass(frozen=True, eq=False)
class Frame:
    """Pixels, uint8 ``[h, w, 3]``, RGB, and boxes of what is seen of vehicles: x1, y1, x2, y2."""

    pixels: np.ndarray
    boxes: dict[int, tuple[int, int, int, int]]


@dataclass(frozen=True, eq=False)
class Stage:
    """A street before a fixed camera, in the light of the whole film."""

    station: Station
    camera: Camera  # its origin is on the road where the camera looks
    origin: np.ndarray  # ``[3]``, that spot in the street's frame
    light: Light
    backdrop: Backdrop  # the street without vehicles
    environment: np.ndarray  # what they mirror

    @property
    def size(self) -> tuple[int, int]:
        height, width = self.backdrop.sun.shape
        return width, height


def set_stage(rng: Rng, station: Station, light: Light, size: Size) -> Stage:
    """Put up a camera beside or above a street, and turn the sun as its street lies on the map."""
    place = station.place
    eye = np.array([0, place.mount, rng.uniform(5.5, 8.0)])
    origin = np.array([rng.uniform(19, 27), 0, 0])
    x, y, z = eye - origin
    distance = math.hypot(x, y, z)
    view = View(math.degrees(math.atan2(y, x)), math.degrees(math.asin(z / distance)), 0, distance)
    zoom = size[0] * rng.uniform(1.1, 1.5) / 1000
    camera = look_at(np.zeros(3), view).cropped(-np.array(size) / zoom / 2, zoom)
    light = replace(light, direction=rotation(rng.uniform(0, 2 * np.pi)) @ light.direction)
    on_street = replace(camera, eye=eye)
    things = [thing for thing in place.street.standing if _beside(thing, place.street)]
    return Stage(
        # A straight lens, so that boxes are where the camera's plane has them.
        station=replace(station, optics=replace(station.optics, barrel=0.0)),
        camera=camera,
        origin=origin,
        light=light,
        backdrop=place.seen(on_street, light, size, things),
        environment=place.environment(light),
    )


def _beside(thing: Standing, street: Street) -> bool:
    """Whether something stands beyond the roadsides or across the end, never before a vehicle."""
    half = thing.texture.extent[0] / 2 if thing.turns else 0.0
    low, high = thing.feet[:, 1].min() - half, thing.feet[:, 1].max() + half
    crosses = high - low > 100
    return bool(crosses or high < street.roadsides[0] or low > street.roadsides[1])


def shoot_film(
    stage: Stage, models: Mapping[int, Model], passages: list[Passage], frames: int, rng: Rng
) -> Iterator[Frame]:
    """The frames of a film, of models by the vehicles' numbers; lamps and noise are random."""
    light, optics = stage.light, stage.station.optics
    lamps = [draw_lamps(rng, light) for _ in passages]
    still = int(rng.integers(2**31))  # shadows' edges do not flicker
    for number in range(frames):
        there = {
            passage.vehicle: PlacedVehicle(
                models[passage.vehicle],
                np.array([passage.x[number], passage.y, 0]) - stage.origin,
                passage.yaw,
                lit,
            )
            for passage, lit in zip(passages, lamps, strict=True)
            if _FROM < passage.x[number] < _TO
        }
        placed, shade = list(there.values()), np.random.default_rng(still)
        backdrop, mirrored = stage.backdrop, stage.environment
        picture, owner = composed(backdrop, mirrored, placed, stage.camera, light, shade)
        around = street_light(light)
        pixels = develop(picture, optics, rng, around=around, size=stage.size, play=0.0)
        boxes = {
            vehicle: _box(owner == place, _outline(one, stage.camera))
            for place, (vehicle, one) in enumerate(there.items())
        }
        yield Frame(pixels, {vehicle: box for vehicle, box in boxes.items() if box})


def _outline(vehicle: PlacedVehicle, camera: Camera) -> float:
    """Pixels of a vehicle's outline, of all of it; endless where it is not before the camera."""
    own = camera.seen_from(vehicle.place, vehicle.yaw)
    points, depth = own.project(vehicle.model.mesh.points)
    if depth.min() < 0.5:
        return math.inf
    return float(cv2.contourArea(cv2.convexHull(points.astype(np.float32))))


def _box(shown: np.ndarray, outline: float) -> tuple[int, int, int, int] | None:
    """Around the body, as people mark vehicles: without antennas, which are 2 cm thick."""
    if shown.sum() < _SEEN * outline:
        return None
    square = np.ones((2, 2), np.uint8)
    body = cv2.dilate(cv2.erode(shown.astype(np.uint8), square), square, anchor=(0, 0))
    x, y, width, height = cv2.boundingRect(body)
    if min(width, height) < _LEAST * len(shown):
        return None
    return x, y, x + width, y + height
