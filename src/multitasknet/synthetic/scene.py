"""One picture: a vehicle somewhere, in some light, before a camera, cut out as a detector would."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from ..vehicle.keypoints import NUM_KEYPOINTS
from .backdrop import draw_backdrop
from .camera import Camera, Station, look_at_vehicle
from .lens import encode, through_lens
from .model import Model
from .objects import add_passer_by, occlude
from .render import SUPERSAMPLING, draw_light, hidden_by_solids, paint, paint_shadow

_PASSER_BY, _OCCLUDED, _CUT = 0.3, 0.35, 0.2  # how many of the pictures


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
    picture = draw_backdrop(rng, camera, light, (width, height))
    picture = paint_shadow(picture, model, camera, light)
    fine = (width * SUPERSAMPLING, height * SUPERSAMPLING)
    canvas = picture.resize(fine, Image.Resampling.NEAREST)
    if rng.random() < _PASSER_BY:
        add_passer_by(rng, canvas, camera, light)
    paint(canvas, model, camera, light)
    pixels, _ = camera.project(model.keypoints)
    hidden = hidden_by_solids(model.keypoints, model, camera.eye)
    if rng.random() < _OCCLUDED:
        canvas, covered = occlude(rng, canvas, camera, light, pixels, hidden)
        hidden = hidden | covered
    picture = through_lens(rng, canvas.reduce(SUPERSAMPLING), station)
    confidence = np.where(hidden, rng.uniform(0.1, 0.4, NUM_KEYPOINTS), 1.0)
    keypoints = np.column_stack([pixels, confidence]).astype(np.float32)
    return Shot(encode(picture, station.quality), keypoints)


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
    if rng.random() < _CUT:
        cut = rng.uniform(0.06, 0.2) * extent
        axis = int(rng.integers(2))
        if rng.random() < 0.5:
            low[axis] += cut[axis]
        else:
            high[axis] -= cut[axis]
    scale = float(size / (high - low).max())
    width, height = np.clip(np.rint((high - low) * scale), 1, size).astype(int).tolist()
    return camera.cropped(low, scale), (width, height)
