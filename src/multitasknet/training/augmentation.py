"""Random changes of an image and its pose together: crop, flip, erase, jitter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ..data.samples import Sample
from ..vehicle.keypoints import MIRRORED_KEYPOINTS
from ..vehicle.maps import MAP_SIZE, mirrored_maps
from .settings import FLIPS

# The mean colour: an erased patch is all but zero after normalisation.
_ERASED = np.array([124, 116, 104], dtype=np.uint8)
_ERASED_AREA = (0.02, 0.2)
_ERASED_ASPECT = (0.3, 3.3)


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
        jitter: brightness and contrast change by up to this part; the hue stays, it is what the
            colour's label says.
    """

    crop: float = 0.5
    zoom: float = 288 / 256
    flip: str = "swap"
    erase: float = 0.5
    jitter: float = 0.2

    def __post_init__(self) -> None:
        if self.flip not in FLIPS:
            raise ValueError(f"flip is {self.flip!r}; expected one of {', '.join(FLIPS)}")

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
        self, seed: int, epoch: int, *, rank: int = 0, first: int = 0
    ) -> Callable[[Sample, int, int], Sample]:
        """The pipeline's ``augment``: each use of an image in an epoch is changed anew.

        The random numbers depend on its place in the epoch, of which ``first`` is the first
        image's, on the process (``rank``), and not on the number of workers.
        """

        def augment(sample: Sample, index: int, place: int) -> Sample:
            return self(sample, np.random.default_rng((seed, epoch, index, rank, first + place)))

        return augment


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
