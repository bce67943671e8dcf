"""Random changes of a picture and its keypoints, for the pose network."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from ..images import encode_jpeg
from ..models.poseestnet.preprocessing import frame_transform
from ..vehicle.sample import Sample
from .augmentation import erase, jitter, mirror

_NO_MAPS = np.zeros((0, 0, 0), np.uint8)
_TURNED = 0.6
_BRIGHTNESS = 0.4
_GAIN = 0.25
_COARSEST = 0.2
_LARGEST_BLUR = 2.0
_LARGEST_NOISE = 12.0
_QUALITIES = (20, 95)


@dataclass(frozen=True)
class PoseAugmentation:
    """What is done to a training picture, and how often.

    Attributes:
        scale, rotation, mirror: PAMTRI's: the frame's size is 1 plus ``scale`` times a normal
            number, at most one spread away; with probability 0.6 it is turned by ``rotation``
            degrees times a normal number, at most two spreads; it is mirrored, left and right
            exchanged, with probability ``mirror``.
        appearance: probability of each of: brightness and contrast, the colours' gains, blur,
            noise, JPEG.
        resolution: probability to make the picture coarser, up to five times.
        cover: probability to cover a rectangle with one colour.
    """

    scale: float = 0.25
    rotation: float = 30.0
    mirror: float = 0.5
    appearance: float = 0.5
    resolution: float = 0.5
    cover: float = 0.3

    def __call__(
        self,
        pixels: np.ndarray,
        keypoints: np.ndarray,
        size: tuple[int, int],
        rng: np.random.Generator,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The changed picture and keypoints, and the transform into an input of ``size``."""
        factor = 1 + self.scale * np.clip(rng.normal(), -1, 1)
        turned = rng.random() < _TURNED
        degrees = self.rotation * np.clip(rng.normal(), -2, 2) * turned
        if rng.random() < self.mirror:
            flipped = mirror(Sample(pixels, keypoints, _NO_MAPS))
            pixels, keypoints = np.ascontiguousarray(flipped.pixels), flipped.keypoints
        if rng.random() < self.cover:
            pixels = erase(pixels, rng)
        pixels = self._seen_otherwise(pixels, rng)
        height, width = pixels.shape[:2]
        return (
            pixels,
            keypoints,
            frame_transform(width, height, size, factor=factor, degrees=degrees),
        )

    def _seen_otherwise(self, pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The picture as another camera, lens and connection would give it."""
        if rng.random() < self.appearance:
            pixels = jitter(pixels, _BRIGHTNESS, rng)
        if rng.random() < self.appearance:
            gains = rng.uniform(1 - _GAIN, 1 + _GAIN, 3)
            pixels = np.clip(pixels * gains, 0, 255).astype(np.uint8)
        if rng.random() < self.resolution:
            pixels = _coarser(pixels, rng.uniform(_COARSEST, 1))
        if rng.random() < self.appearance:
            pixels = cv2.GaussianBlur(pixels, (0, 0), rng.uniform(0.1, _LARGEST_BLUR))
        if rng.random() < self.appearance:
            noise = rng.normal(0, rng.uniform(0, _LARGEST_NOISE), pixels.shape)
            pixels = np.clip(pixels + noise, 0, 255).astype(np.uint8)
        if rng.random() < self.appearance:
            content = np.frombuffer(encode_jpeg(pixels, int(rng.integers(*_QUALITIES))), np.uint8)
            pixels = cv2.cvtColor(cv2.imdecode(content, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        return pixels


def _coarser(pixels: np.ndarray, part: float) -> np.ndarray:
    height, width = pixels.shape[:2]
    small = max(round(width * part), 2), max(round(height * part), 2)
    coarse = cv2.resize(pixels, small, interpolation=cv2.INTER_AREA)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
