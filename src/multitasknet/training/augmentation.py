"""Random changes of an image and its pose together, for each of the networks."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from ..images import encode_jpeg
from ..models.poseestnet.preprocessing import frame_transform
from ..vehicle.keypoints import MIRRORED_KEYPOINTS
from ..vehicle.maps import MAP_SIZE, mirrored_maps
from ..vehicle.sample import Sample
from .settings import IdentitySettings, PoseSettings

# PAMTRI scales to 288 pixels and crops 256.
_ZOOM = 288 / 256
# The mean colour: an erased patch is all but zero after normalisation.
_ERASED = np.array([124, 116, 104], dtype=np.uint8)
_ERASED_AREA = (0.02, 0.2)
_ERASED_ASPECT = (0.3, 3.3)
# Of the pose network's pictures.
_NO_MAPS = np.zeros((0, 0, 0), np.uint8)
_SCALE, _ROTATION, _TURNED = 0.25, 30.0, 0.6
_BRIGHTNESS = 0.4
_GAIN = 0.25
_COARSEST = 0.2
_LARGEST_BLUR = 2.0
_LARGEST_NOISE = 12.0
_QUALITIES = (20, 95)


def augment(sample: Sample, settings: IdentitySettings, rng: np.random.Generator) -> Sample:
    """A changed copy: cropped, mirrored, lit otherwise, partly covered.

    The settings say how often, and how much: ``crop``, ``flip``, ``jitter``, ``erase``. A flip of
    ``swap`` exchanges left and right in keypoints, heatmaps and segments; ``paper`` keeps their
    order, as the published training did. The hue, which the colour's label names, stays.
    """
    if rng.random() < settings.crop:
        sample = random_crop(sample, _ZOOM, rng)
    if settings.flip != "none" and rng.random() < 0.5:
        sample = mirror(sample, swap=settings.flip == "swap")
    if settings.jitter:
        sample = replace(sample, pixels=jitter(sample.pixels, settings.jitter, rng))
    if rng.random() < settings.erase:
        sample = replace(sample, pixels=erase(sample.pixels, rng))
    return sample


def augment_pose(
    pixels: np.ndarray,
    keypoints: np.ndarray,
    size: tuple[int, int],
    settings: PoseSettings,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The changed picture and keypoints, and the transform into an input of ``size``.

    Frame and mirror are PAMTRI's: the frame's size is 1 plus 0.25 times a normal number, at most
    one spread away; with probability 0.6 it is turned by 30 degrees times a normal number, at most
    two spreads.
    """
    factor = 1 + _SCALE * np.clip(rng.normal(), -1, 1)
    turned = rng.random() < _TURNED
    degrees = _ROTATION * np.clip(rng.normal(), -2, 2) * turned
    if rng.random() < 0.5:
        flipped = mirror(Sample(pixels, keypoints, _NO_MAPS))
        pixels, keypoints = np.ascontiguousarray(flipped.pixels), flipped.keypoints
    if rng.random() < settings.cover:
        pixels = erase(pixels, rng)
    pixels = _degraded(pixels, settings, rng)
    height, width = pixels.shape[:2]
    transform = frame_transform(width, height, size, factor=factor, degrees=degrees)
    return pixels, keypoints, transform


def _degraded(pixels: np.ndarray, settings: PoseSettings, rng: np.random.Generator) -> np.ndarray:
    """The picture as another camera, lens and connection would deliver it."""
    if rng.random() < settings.appearance:
        pixels = jitter(pixels, _BRIGHTNESS, rng)
    if rng.random() < settings.appearance:
        gains = rng.uniform(1 - _GAIN, 1 + _GAIN, 3)
        pixels = np.clip(pixels * gains, 0, 255).astype(np.uint8)
    if rng.random() < settings.resolution:
        height, width = pixels.shape[:2]
        part = rng.uniform(_COARSEST, 1)
        small = max(round(width * part), 2), max(round(height * part), 2)
        coarse = cv2.resize(pixels, small, interpolation=cv2.INTER_AREA)
        pixels = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    if rng.random() < settings.appearance:
        pixels = cv2.GaussianBlur(pixels, (0, 0), rng.uniform(0.1, _LARGEST_BLUR))
    if rng.random() < settings.appearance:
        noise = rng.normal(0, rng.uniform(0, _LARGEST_NOISE), pixels.shape)
        pixels = np.clip(pixels + noise, 0, 255).astype(np.uint8)
    if rng.random() < settings.appearance:
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
