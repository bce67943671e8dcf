"""A drawn video: three vehicles a lane, which pass each other; the near lane hides the far one."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from vehiclesynth.camera import look_at
from vehiclesynth.light import draw_light
from vehiclesynth.look import draw_look
from vehiclesynth.model import build_model
from vehiclesynth.optics import develop
from vehiclesynth.prior import View
from vehiclesynth.scene import draw_station
from vehiclesynth.shading import Lamps, PlacedVehicle, ground_light, see

SIZE = (960, 540)
FRAMES = 48
# Type and colour ids: near lane, far lane. Two greys, two whites.
VEHICLES = ((3, 7), (1, 4), (8, 6), (1, 4), (2, 7), (4, 5))
_GAP, _LANE, _HALF_WAY = 7.0, 1.9, 10.5  # metres
_SEEN = 0.35  # less of a vehicle a detector does not find


@dataclass(frozen=True, eq=False)
class Frame:
    """A picture, uint8 ``[h, w, 3]`` RGB, and the boxes by vehicle of what is seen: x1, y1, x2, y2;
    NaN where too little is."""

    pixels: np.ndarray
    boxes: np.ndarray


def draw_video(seed: int) -> list[Frame]:
    rng = np.random.default_rng(seed)
    models = [build_model(draw_look(rng, *ids)) for ids in VEHICLES]
    station, light = draw_station(rng, "real"), draw_light(rng, wide=False)
    view = View(yaw=78, elevation=7, roll=0, distance=52)
    camera = look_at(np.array([0, 0, 1.0]), view).cropped(-np.array(SIZE) / 2, 1.0)
    camera = camera.cropped(np.array(SIZE) * (1 - 1 / 1.25) / 2, 1.25)
    backdrop = station.place.backdrop(camera, light, SIZE, rng)
    environment = station.place.environment(light)
    share = backdrop.sun * np.float32(1 - light.sky.mean() / light.ground.mean())
    frames = []
    for number in range(FRAMES):
        placed = [
            PlacedVehicle(model, *_place(index, number), Lamps(0.0, 0.0))
            for index, model in enumerate(models)
        ]
        own = np.random.default_rng(seed)
        sky, sunny = ground_light(placed, camera, SIZE, light, own)
        picture = (backdrop.color * (sky + share * (sunny - sky))[..., None]).reshape(-1, 3)
        nearest, owner = np.full(len(picture), np.inf, np.float32), np.full(len(picture), -1)
        whole = []
        for index, vehicle in enumerate(placed):
            seen = see(vehicle, camera, SIZE, light, environment, own)
            whole.append(len(seen.pixels))
            closer = seen.distances < nearest[seen.pixels]
            pixels = seen.pixels[closer]
            nearest[pixels], owner[pixels] = seen.distances[closer], index
            picture[pixels] = seen.color[:, closer].T
        pixels = develop(
            picture.reshape(SIZE[1], SIZE[0], 3),
            station.optics,
            np.random.default_rng(seed + number),
            around=0.15 * float(light.ground.mean()),
            scale=1.0,
            motion=(0.0, 0.0),
            size=SIZE,
        )
        boxes = [_box(owner.reshape(SIZE[::-1]) == i, count) for i, count in enumerate(whole)]
        frames.append(Frame(pixels, np.array(boxes, np.float32)))
    return frames


def _place(index: int, number: int) -> tuple[np.ndarray, float]:
    """Where a vehicle is, and its yaw. The far lane waits while it is hidden."""
    lane, rank = divmod(index, 3)
    way = number / (FRAMES - 1)
    if lane:
        way = float(np.interp(way, [0, 0.4, 0.65, 1], [0, 0.5, 0.5, 1]))
    x = _HALF_WAY * (2 * way - 1) + (rank - 1) * _GAP
    return np.array([-x if lane else x, -_LANE if lane else _LANE, 0.0]), np.pi if lane else 0.0


def _box(mask: np.ndarray, whole: int) -> list[float]:
    if mask.sum() < max(_SEEN * whole, 60):
        return [np.nan] * 4
    x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
    return [x, y, x + width, y + height]
