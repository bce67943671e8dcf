"""Random changes of an image and its pose together, for each of the networks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np

from ..images import encode_jpeg
from ..models.poseestnet.preprocessing import frame_transform
from ..vehicle.keypoints import MIRRORED_KEYPOINTS
from ..vehicle.maps import MAP_SIZE, mirrored_maps
from ..vehicle.sample import Sample

# The mean colour: an erased patch is all but zero after normalisation.
_ERASED = np.array([124, 116, 104], dtype=np.uint8)
_ERASED_AREA = (0.02, 0.2)
_ERASED_ASPECT = (0.3, 3.3)
# Of the pose network's pictures.
_NO_MAPS = np.zeros((0, 0, 0), np.uint8)
_TURNED = 0.6
_BRIGHTNESS = 0.4
_GAIN = 0.25
_COARSEST = 0.2
_LARGEST_BLUR = 2.0
_LARGEST_NOISE = 12.0
_QUALITIES = (20, 95)


@dataclass(frozen=True)
class RandomAugmentation:
    """What is done to a training image, and how often.

    Attributes:
        crop: probability to cut out a random window; then ``zoom`` as large in the result.
        zoom: 288 / 256 in PAMTRI, which scales to 288 pixels and crops 256.
        flip: ``swap`` mirrors with probability 0.5 and exchanges left and right in keypoints,
            heatmaps and segments; ``paper`` mirrors, but keeps their order, as the published
            training did; ``none``.
        erase: probability to cover a rectangle (Zhong et al., Random Erasing, AAAI 2020).
        jitter: brightness and contrast change by up to this part; the hue, which the colour's
            label names, stays.
    """

    crop: float = 0.5
    zoom: float = 288 / 256
    flip: str = "swap"
    erase: float = 0.5
    jitter: float = 0.2

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Return a changed copy."""
        if rng.random() < self.crop:
            sample = random_crop(sample, self.zoom, rng)
        if self.flip != "none" and rng.random() < 0.5:
            sample = mirror(sample, swap=self.flip == "swap")
        if self.jitter:
            sample = replace(sample, pixels=jitter(sample.pixels, self.jitter, rng))
        if rng.random() < self.erase:
            sample = replace(sample, pixels=erase(sample.pixels, rng))
        return sample

    def for_epoch(
        self, seed: int, epoch: int, rank: int = 0
    ) -> Callable[[Sample, int, int], Sample]:
        """The pipeline's ``augment``: each use of an image in an epoch is changed differently.

        The random numbers depend on its place in the epoch and on the process (``rank``), not on
        the number of workers.
        """

        def augment(sample: Sample, index: int, place: int) -> Sample:
            return self(sample, np.random.default_rng((seed, epoch, index, rank, place)))

        return augment


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
        pixels = self._degraded(pixels, rng)
        height, width = pixels.shape[:2]
        return (
            pixels,
            keypoints,
            frame_transform(width, height, size, factor=factor, degrees=degrees),
        )

    def _degraded(self, pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The picture as another camera, lens and connection would deliver it."""
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


def mirror(sample: Sample, *, swap: bool = True) -> Sample:
    """Flip left to right; ``swap`` keeps what is called left on the vehicle's left."""
    keypoints = sample.keypoints.copy()
    keypoints[:, 0] = sample.pixels.shape[1] - 1 - keypoints[:, 0]
    maps = sample.maps[:, :, ::-1]
    if swap:
        keypoints = keypoints[MIRRORED_KEYPOINTS]
        maps = maps[mirrored_maps(len(maps))]
    return Sample(sample.pixels[:, ::-1], keypoints, maps)


def random_crop(sample: Sample, zoom: float, rng: np.random.Generator) -> Sample:
    """Cut out a window ``1 / zoom`` as high and wide, anywhere; maps stay 64x64."""
    height, width = sample.pixels.shape[:2]
    rows, columns = max(round(height / zoom), 1), max(round(width / zoom), 1)
    top = int(rng.integers(height - rows + 1))
    left = int(rng.integers(width - columns + 1))
    down = _window(top / height, rows / height)
    across = _window(left / width, columns / width)
    maps = np.rint(down @ sample.maps.astype(np.float32) @ across.T).astype(np.uint8)
    return Sample(
        sample.pixels[top : top + rows, left : left + columns],
        sample.keypoints - np.array([left, top, 0], dtype=sample.keypoints.dtype),
        maps,
    )


def jitter(pixels: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Scale brightness, then contrast around mid-grey, each by 1 +- ``strength``."""
    brightness, contrast = rng.uniform(1 - strength, 1 + strength, 2)
    values = (np.arange(256) * brightness - 127.5) * contrast + 127.5
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)[pixels]


def erase(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Cover a rectangle of 2 to 20 % of the image with the mean colour."""
    height, width = pixels.shape[:2]
    area = rng.uniform(*_ERASED_AREA) * height * width
    aspect = np.exp(rng.uniform(*np.log(_ERASED_ASPECT)))
    rows = min(round((area * aspect) ** 0.5), height)
    columns = min(round((area / aspect) ** 0.5), width)
    top = int(rng.integers(height - rows + 1))
    left = int(rng.integers(width - columns + 1))
    pixels = pixels.copy()
    pixels[top : top + rows, left : left + columns] = _ERASED
    return pixels


def _window(start: float, extent: float) -> np.ndarray:
    """Bilinear resize of one side of a map's window back to 64, as a matrix ``[64, 64]``."""
    centers = (start + (np.arange(MAP_SIZE) + 0.5) / MAP_SIZE * extent) * MAP_SIZE - 0.5
    distances = np.abs(np.clip(centers, 0, MAP_SIZE - 1)[:, None] - np.arange(MAP_SIZE))
    return np.maximum(1 - distances, 0).astype(np.float32)


def _coarser(pixels: np.ndarray, part: float) -> np.ndarray:
    height, width = pixels.shape[:2]
    small = max(round(width * part), 2), max(round(height * part), 2)
    coarse = cv2.resize(pixels, small, interpolation=cv2.INTER_AREA)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
