"""The perspective camera."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import cv2
import numpy as np

from .prior import View

Size = tuple[int, int]  # width and height, pixels


@dataclass(frozen=True, eq=False)
class Camera:
    """A pinhole camera."""

    eye: np.ndarray  # ``[3]``, metres
    # ``[3, 3]``, the directions of x (right), y (down) and depth (forward) as rows
    axes: np.ndarray
    focal: float  # pixels
    # ``[2]``, the pixel that the camera looks at; pixel centres are whole numbers
    center: np.ndarray

    @cached_property
    def to_pixels(self) -> np.ndarray:
        """From what lies ahead of the eye, in metres, to x and y times depth, and depth."""
        x, y = self.center
        lens = np.array([[self.focal, 0, x], [0, self.focal, y], [0, 0, 1]])
        return lens @ self.axes

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pixels ``[..., 2]`` and depths ``[...]`` of points ``[..., 3]``."""
        seen = (points - self.eye) @ self.axes.T
        depth = seen[..., 2]
        return self.focal * seen[..., :2] / depth[..., None] + self.center, depth

    def rays(self, size: Size) -> np.ndarray:
        """Unit directions of the pixels of a picture of width and height: float32 ``[h, w, 3]``."""
        x, y = self._slopes(size)
        shorter = 1 / np.sqrt(1 + x**2 + y**2)
        return cv2.merge([part * shorter for part in self._sights(size)])

    def on_ground(self, size: Size) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Where a picture's lines of sight meet the plane z = 0: float32 ``[h, w]`` each.

        Their x and y in metres, far away where they do not meet it, and how steeply they rise,
        metres a metre of depth.
        """
        ahead, aside, rise = self._sights(size)
        eye = self.eye.astype(np.float32)
        depth = eye[2] / np.minimum(rise, np.float32(-1e-4))
        return eye[0] - depth * ahead, eye[1] - depth * aside, rise

    def _sights(self, size: Size) -> list[np.ndarray]:
        """x, y and z of directions to the pixels, a metre deep: float32 ``[h, w]`` each."""
        x, y = self._slopes(size)
        axes = self.axes.T.astype(np.float32)
        return [right * x + (down * y + forward) for right, down, forward in axes]

    def _slopes(self, size: Size) -> tuple[np.ndarray, np.ndarray]:
        """How far right and down the pixels lie at a depth of a metre: ``[1, w]``, ``[h, 1]``."""
        x, y = (
            ((np.arange(count) - center) / self.focal).astype(np.float32)
            for count, center in zip(size, self.center, strict=True)
        )
        return x[None], y[:, None]

    def cropped(self, low: np.ndarray, scale: float) -> Camera:
        """The camera of a crop that starts at pixel edge ``low`` and is resized by ``scale``."""
        center = (self.center + 0.5 - low) * scale - 0.5
        return replace(self, focal=self.focal * scale, center=center)

    def seen_from(self, place: np.ndarray, yaw: float) -> Camera:
        """The same camera in the frame of an object that stands at ``place``, turned by ``yaw``."""
        turn = rotation(yaw)
        return replace(self, eye=(self.eye - place) @ turn, axes=self.axes @ turn)


def look_at(target: np.ndarray, view: View) -> Camera:
    """The camera that sees a vehicle's point ``target`` in the middle, from that side."""
    yaw, elevation, roll = np.radians([view.yaw, view.elevation, view.roll])
    level = np.cos(elevation)
    away = np.array([level * np.cos(yaw), level * np.sin(yaw), np.sin(elevation)])
    forward = -away
    right = np.cross(forward, [0, 0, 1])
    right /= np.linalg.norm(right)
    down = np.cross(forward, right)
    cos, sin = np.cos(roll), np.sin(roll)
    axes = np.stack([cos * right - sin * down, cos * down + sin * right, forward])
    return Camera(target + view.distance * away, axes, 1000.0, np.zeros(2))


def rotation(yaw: float) -> np.ndarray:
    """Turns about the vertical: ``[3, 3]``."""
    cos, sin = np.cos(yaw), np.sin(yaw)
    return np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
