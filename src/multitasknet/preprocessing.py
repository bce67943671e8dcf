"""From an image and its keypoints to the network's inputs, as the weights were trained on them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TypeAlias

import numpy as np
from PIL import ExifTags, Image, ImageOps

from .errors import MultiTaskNetError
from .keypoints import (
    MAP_SIZE,
    NUM_KEYPOINTS,
    SURFACES,
    check_keypoints,
    heatmaps,
    pose_vector,
    segment,
    visible_surfaces,
)
from .spec import Variant, check_size

ImageInput: TypeAlias = "str | Path | Image.Image | np.ndarray"

RGB_MEAN = (0.485, 0.456, 0.406)
RGB_STD = (0.229, 0.224, 0.225)
MAP_MEAN = 0.449
MAP_STD = 0.226
_ROWS = 16


class ImageError(MultiTaskNetError, ValueError):
    """An image that cannot be read or has the wrong shape."""


def preprocess(
    image: ImageInput,
    keypoints: np.ndarray | None = None,
    variant: str | Variant = "segment",
    size: tuple[int, int] = (256, 256),
) -> tuple[np.ndarray, np.ndarray]:
    """Make the network's inputs from one vehicle crop.

    Args:
        image: a path, a Pillow image, or a uint8 array ``[H, W, 3]`` in RGB order.
        keypoints: ``[36, 3]`` of x, y (pixels of the given image) and confidence. None is a pose
            of zeros: no confidence, no segments, no heatmaps.
        variant: ``rgb``, ``segment``, ``heatmap`` or ``heatmap+segment``.
        size: height and width of the result, multiples of 32.

    Returns:
        ``x``, float32 ``[C, height, width]`` (C = 3, 16, 39 or 52: RGB, heatmaps, segments), and
        ``p``, float32 ``[108]``.

    Raises:
        ImageError: the image cannot be read, or is no RGB image.
        ValueError: unknown variant, bad size, or keypoints of another shape.
    """
    variant = Variant.parse(variant)
    height, width = check_size(size)
    pixels = read_image(image)
    pose = pose_or_zeros(keypoints)
    maps = draw_maps(pose, variant, original=pixels.shape[:2])
    x = assemble(pixels, maps, size=(height, width))
    return x, pose_vector(pose, width=pixels.shape[1], height=pixels.shape[0])


def pose_or_zeros(keypoints: np.ndarray | None) -> np.ndarray:
    """The pose as float32 ``[36, 3]``; zeros, that is no confidence, where there is none."""
    if keypoints is None:
        return np.zeros((NUM_KEYPOINTS, 3), dtype=np.float32)
    return check_keypoints(keypoints)


def read_image(image: ImageInput) -> np.ndarray:
    """Return uint8 ``[H, W, 3]`` in RGB order; ImageError if that cannot be had.

    A file or Pillow image is turned as its EXIF orientation says, as OpenCV does.
    """
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            raise ImageError(
                f"the image array is {image.dtype} {list(image.shape)}; "
                f"expected uint8 [H, W, 3] in RGB order"
            )
        return image
    if isinstance(image, Image.Image):
        return _upright_rgb(image)
    if not isinstance(image, str | Path):
        raise TypeError(
            f"an image must be a path, a Pillow image or an array, not {type(image).__name__}"
        )
    try:
        with Image.open(image) as file:
            return _upright_rgb(file)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else str(error)
        raise ImageError(
            f"{image}: the image cannot be read ({reason}); expected a JPEG, PNG or other picture"
        ) from error


def _upright_rgb(image: Image.Image) -> np.ndarray:
    # Both conversions copy; most images need neither.
    if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
        image = ImageOps.exif_transpose(image)
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def draw_maps(keypoints: np.ndarray, variant: Variant, original: tuple[int, int]) -> np.ndarray:
    """Draw the variant's pose maps for an image of ``original`` height and width.

    Returns:
        uint8 ``[C - 3, 64, 64]``: the form in which PAMTRI stores heatmaps, then segments.
    """
    height, width = original
    maps = np.zeros((variant.channels - 3, MAP_SIZE, MAP_SIZE), dtype=np.uint8)
    if variant.heatmaps:
        maps[:NUM_KEYPOINTS] = heatmaps(keypoints, width=width, height=height)
    if variant.segments:
        for surface in visible_surfaces(keypoints):
            drawn = segment(keypoints, surface, width=width, height=height)
            small = resize_bilinear(drawn[..., None], (MAP_SIZE, MAP_SIZE))[..., 0]
            maps[surface - len(SURFACES)] = np.rint(small)
    return maps


def assemble(
    pixels: np.ndarray,
    maps: np.ndarray,
    size: tuple[int, int],
    *,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Resize and normalise an image and its maps into float32 ``[3 + maps, height, width]``.

    Args:
        pixels: uint8 ``[H, W, 3]``.
        maps: uint8 ``[M, h, w]``, brought to the image's size first, then to ``size``.
        size: height and width of the result.
        out: where to write the result; a slice of a batch saves a copy of up to 14 MB an image.
    """
    x = np.empty((3 + len(maps), *size), dtype=np.float32) if out is None else out
    scale = (1 / (255 * np.array(RGB_STD))).astype(np.float32)
    offset = (np.array(RGB_MEAN) / np.array(RGB_STD)).astype(np.float32)
    for rows, block in _resized_rows(pixels, size):
        block *= scale
        block -= offset
        x[:3, rows] = block.transpose(2, 0, 1)
    _resize_maps(maps, original=pixels.shape[:2], out=x[3:])
    return x


def resize_bilinear(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bilinear resize without antialiasing, half-pixel centres: OpenCV's INTER_LINEAR, unrounded.

    Args:
        pixels: ``[H, W, C]``.
        size: new height and width.

    Returns:
        float32 ``[height, width, C]`` on the scale of the input.
    """
    resized = np.empty((*size, pixels.shape[2]), dtype=np.float32)
    for rows, block in _resized_rows(pixels, size):
        resized[rows] = block
    return resized


def _resized_rows(pixels: np.ndarray, size: tuple[int, int]) -> Iterator[tuple[slice, np.ndarray]]:
    """The resized image a few rows at a time: what stays in the processor's cache is fast."""
    top, bottom, down = _neighbours(pixels.shape[0], size[0])
    left, right, across = _neighbours(pixels.shape[1], size[1])
    down, across = down[:, None, None], across[:, None]
    for start in range(0, size[0], _ROWS):
        rows = slice(start, start + _ROWS)
        block = _between(pixels.take(top[rows], 0), pixels.take(bottom[rows], 0), down[rows])
        yield rows, _between(block.take(left, 1), block.take(right, 1), across)


def _between(first: np.ndarray, second: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Linear interpolation, float32, in as few passes over memory as NumPy allows."""
    first, second = first.astype(np.float32, copy=False), second.astype(np.float32, copy=False)
    second -= first
    second *= weight
    second += first
    return second


def _neighbours(source: int, target: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each target pixel the two source pixels it lies between, and the second one's weight."""
    centers = (np.arange(target) + 0.5) * (source / target) - 0.5
    first = np.floor(centers).astype(int)
    weights = (centers - first).astype(np.float32)
    return np.clip(first, 0, source - 1), np.clip(first + 1, 0, source - 1), weights


@dataclass(frozen=True, eq=False)
class _MapResize:
    """Both resizes of a stored map along one axis, to the image and on to the network.

    Attributes:
        weights: float32 ``[target, stored]``.
        first, last: the range of target pixels that each stored pixel reaches.
    """

    weights: np.ndarray
    first: np.ndarray
    last: np.ndarray

    def reach(self, used: np.ndarray) -> tuple[slice, slice]:
        """The slice of stored pixels from the first used one to the last, and of their targets."""
        start, stop = used[0], used[-1]
        return slice(start, stop + 1), slice(self.first[start], self.last[stop] + 1)


def _resize_maps(maps: np.ndarray, original: tuple[int, int], out: np.ndarray) -> None:
    """Resize and normalise maps into ``out``; only the part of a map that is not zero costs."""
    out.fill(-MAP_MEAN / MAP_STD)
    if not len(maps):
        return
    down = _map_resize(maps.shape[1], original[0], out.shape[1])
    across = _map_resize(maps.shape[2], original[1], out.shape[2])
    used_rows, used_columns = maps.any(axis=2), maps.any(axis=1)
    for index in np.flatnonzero(used_rows.any(axis=1)):
        rows, target_rows = down.reach(np.flatnonzero(used_rows[index]))
        columns, target_columns = across.reach(np.flatnonzero(used_columns[index]))
        block = maps[index, rows, columns] * np.float32(1 / (255 * MAP_STD))
        resized = down.weights[target_rows, rows] @ block
        resized = resized @ across.weights[target_columns, columns].T
        out[index, target_rows, target_columns] += resized


@lru_cache(maxsize=256)
def _map_resize(stored: int, original: int, target: int) -> _MapResize:
    identity = np.eye(stored, dtype=np.float32)[..., None]
    at_original = resize_bilinear(identity, (original, stored))
    weights = resize_bilinear(at_original, (target, stored))[..., 0]
    reached = weights > 0
    # A stored pixel that no target samples reaches an empty range.
    last = np.where(reached.any(axis=0), target - 1 - reached[::-1].argmax(axis=0), -1)
    first = np.where(reached.any(axis=0), reached.argmax(axis=0), target)
    return _MapResize(
        weights,
        first=np.minimum.accumulate(first[::-1])[::-1],
        last=np.maximum.accumulate(last),
    )
