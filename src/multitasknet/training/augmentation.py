"""Random changes of an image and its pose together: crop, flip, erase, jitter."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..keypoints import MAP_SIZE, NUM_KEYPOINTS, SURFACES

FLIPS = ("swap", "paper", "none")

_HALF = NUM_KEYPOINTS // 2
_SWAPPED_KEYPOINTS = np.roll(np.arange(NUM_KEYPOINTS), _HALF)
# Surfaces 0..2 are the left side, 3..5 the right; every other one is its own mirror image.
_SWAPPED_SURFACES = np.array([3, 4, 5, 0, 1, 2, *range(6, len(SURFACES))])
# The mean colour: an erased patch is all but zero after normalisation.
_ERASED = np.array([124, 116, 104], dtype=np.uint8)
_ERASED_AREA = (0.02, 0.2)
_ERASED_ASPECT = (0.3, 3.3)


@dataclass(frozen=True)
class Augmentation:
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

    def __call__(
        self,
        pixels: np.ndarray,
        keypoints: np.ndarray,
        maps: np.ndarray,
        rng: np.random.Generator,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Change one image; the arguments stay as they are.

        Args:
            pixels: uint8 ``[H, W, 3]``.
            keypoints: float32 ``[36, 3]``, x and y in pixels of the image.
            maps: uint8 ``[M, 64, 64]``: heatmaps, then segments, as the variant has them.
            rng: the image's own random numbers, so that neither the order of images nor the
                number of workers matters.
        """
        if rng.random() < self.crop:
            pixels, keypoints, maps = random_crop(pixels, keypoints, maps, self.zoom, rng)
        if self.flip != "none" and rng.random() < 0.5:
            pixels, keypoints, maps = mirror(pixels, keypoints, maps, swap=self.flip == "swap")
        if self.jitter:
            pixels = jitter(pixels, self.jitter, rng)
        if rng.random() < self.erase:
            pixels = erase(pixels, rng)
        return pixels, keypoints, maps


def mirror(
    pixels: np.ndarray, keypoints: np.ndarray, maps: np.ndarray, *, swap: bool = True
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Flip left to right; ``swap`` keeps what is called left on the vehicle's left."""
    mirrored = keypoints.copy()
    mirrored[:, 0] = pixels.shape[1] - 1 - mirrored[:, 0]
    maps = maps[:, :, ::-1]
    if swap:
        mirrored = mirrored[_SWAPPED_KEYPOINTS]
        maps = maps[_swapped_maps(len(maps))]
    return pixels[:, ::-1], mirrored, maps


def random_crop(
    pixels: np.ndarray,
    keypoints: np.ndarray,
    maps: np.ndarray,
    zoom: float,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cut out a window ``1 / zoom`` as high and wide, anywhere; maps stay 64x64."""
    height, width = pixels.shape[:2]
    rows, columns = max(round(height / zoom), 1), max(round(width / zoom), 1)
    top = int(rng.integers(height - rows + 1))
    left = int(rng.integers(width - columns + 1))
    shifted = keypoints - np.array([left, top, 0], dtype=keypoints.dtype)
    if len(maps):
        down = _window(top / height, rows / height)
        across = _window(left / width, columns / width)
        maps = np.rint(down @ maps.astype(np.float32) @ across.T).astype(np.uint8)
    return pixels[top : top + rows, left : left + columns], shifted, maps


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


def _swapped_maps(count: int) -> np.ndarray:
    """The order of mirrored maps: 36 heatmaps and 13 segments, either, both or none."""
    heatmaps = count // NUM_KEYPOINTS * NUM_KEYPOINTS
    return np.concatenate(
        [
            _SWAPPED_KEYPOINTS[:heatmaps],
            heatmaps + _SWAPPED_SURFACES[: count - heatmaps],
        ]
    )


def _window(start: float, extent: float) -> np.ndarray:
    """Bilinear resize of one side of a map's window back to 64, as a matrix ``[64, 64]``."""
    centers = (start + (np.arange(MAP_SIZE) + 0.5) / MAP_SIZE * extent) * MAP_SIZE - 0.5
    distances = np.abs(np.clip(centers, 0, MAP_SIZE - 1)[:, None] - np.arange(MAP_SIZE))
    return np.maximum(1 - distances, 0).astype(np.float32)
