"""The perspective camera, and the stations: what one camera id's pictures have in common."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True, eq=False)
class Camera:
    """A pinhole camera.

    Attributes:
        eye: ``[3]``, metres.
        axes: ``[3, 3]``, the directions of x (right), y (down) and depth (forward) as rows.
        focal: pixels.
        center: ``[2]``, the pixel that the camera looks at; pixel centres are whole numbers.
    """

    eye: np.ndarray
    axes: np.ndarray
    focal: float
    center: np.ndarray

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pixels ``[..., 2]`` and depths ``[...]`` of points ``[..., 3]``."""
        seen = (points - self.eye) @ self.axes.T
        depth = seen[..., 2]
        return self.focal * seen[..., :2] / depth[..., None] + self.center, depth

    def cropped(self, low: np.ndarray, scale: float) -> Camera:
        """The camera of a crop that starts at pixel edge ``low`` and is resized by ``scale``."""
        center = (self.center + 0.5 - low) * scale - 0.5
        return replace(self, focal=self.focal * scale, center=center)

    def seen_from(self, place: np.ndarray, yaw: float) -> Camera:
        """The same camera in the frame of an object that stands at ``place``, turned by ``yaw``."""
        turn = rotation(yaw)
        return replace(self, eye=(self.eye - place) @ turn, axes=self.axes @ turn)


@dataclass(frozen=True)
class Station:
    """One camera id: its mounting and its look.

    Attributes:
        height: metres above the ground.
        reach: usual distance to a vehicle, in vehicle lengths.
        roll: radians.
        cast: gain of R, G and B.
        exposure, contrast: gain, and slope about the middle.
        noise: standard deviation in grey levels.
        blur: standard deviation in pixels of a 256 pixel crop.
        vignette: how much darker the corners are.
        quality: of the JPEG.
    """

    height: float
    reach: float
    roll: float
    cast: tuple[float, float, float]
    exposure: float
    contrast: float
    noise: float
    blur: float
    vignette: float
    quality: int


def draw_station(rng: np.random.Generator) -> Station:
    """Draw the mounting and the look of one camera id."""
    warmth, tint = rng.uniform(-0.08, 0.08), rng.uniform(-0.03, 0.03)
    return Station(
        height=rng.uniform(1.5, 6.5),
        reach=rng.uniform(1.9, 3.6),
        roll=rng.normal(0, 0.015),
        cast=(1 + warmth, 1 + tint, 1 - warmth),
        exposure=rng.uniform(0.82, 1.18),
        contrast=rng.uniform(0.85, 1.15),
        noise=rng.uniform(1.0, 6.0),
        blur=rng.uniform(0.0, 0.9),
        vignette=rng.uniform(0.0, 0.25),
        quality=int(rng.integers(62, 94)),
    )


def look_at_vehicle(
    station: Station, *, yaw: float, distance: float, height: float, target: np.ndarray
) -> Camera:
    """A camera ``distance`` metres away, at ``yaw`` from straight ahead towards the left side."""
    eye = np.array([distance * np.cos(yaw), distance * np.sin(yaw), height])
    forward = target - eye
    forward = forward / np.linalg.norm(forward)
    right = np.cross(forward, [0, 0, 1])
    right /= np.linalg.norm(right)
    down = np.cross(forward, right)
    cos, sin = np.cos(station.roll), np.sin(station.roll)
    axes = np.stack([cos * right + sin * down, cos * down - sin * right, forward])
    return Camera(eye, axes, 1000.0, np.zeros(2))


def rotation(yaw: float) -> np.ndarray:
    """Turns about the vertical: ``[3, 3]``."""
    cos, sin = np.cos(yaw), np.sin(yaw)
    return np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
