"""From a picture and its pose to the network's inputs, as the weights were trained on them."""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np

from ...images import ImageInput, read_image, resize, write_planes
from ...vehicle.keypoints import pose_or_zeros
from ...vehicle.maps import draw_maps
from ...vehicle.sample import Sample
from ..base import Variant, check_size
from .spec import POSE_SIZE

# The means of the colours' own.
MAP_MEAN = 0.449
MAP_STD = 0.226

_NORMALIZED_MAP = ((np.arange(256) / 255 - MAP_MEAN) / MAP_STD).astype(np.float32)


def preprocess(
    image: ImageInput,
    keypoints: np.ndarray | None = None,
    variant: str | Variant = "segment",
    size: int | tuple[int, int] = 256,
) -> tuple[np.ndarray, np.ndarray]:
    """Make the network's inputs from one vehicle crop.

    Args:
        image: a path, a Pillow image, or a uint8 array ``[H, W, 3]`` in RGB order.
        keypoints: ``[36, 3]`` of x, y (pixels of the given image) and confidence. None is a pose
            of zeros: no confidence, no segments, no heatmaps.
        variant: ``rgb``, ``segment``, ``heatmap`` or ``heatmap+segment``.
        size: side of the result, or its height and width, multiples of 32.

    Returns:
        ``x``, float32 ``[C, height, width]`` (C = 3, 16, 39 or 52: RGB, heatmaps, segments), and
        ``p``, float32 ``[108]``.
    """
    variant = Variant(variant)
    height, width = check_size(size)
    pixels = read_image(image)
    pose = pose_or_zeros(keypoints)
    maps = draw_maps(
        pose,
        heatmaps=variant.heatmaps,
        segments=variant.segments,
        height=pixels.shape[0],
        width=pixels.shape[1],
    )
    x = np.empty((variant.channels, height, width), dtype=np.float32)
    p = np.empty(POSE_SIZE, dtype=np.float32)
    write_inputs(Sample(pixels, pose, maps), {"image": x, "pose": p})
    return x, p


def write_inputs(sample: Sample, out: Mapping[str, np.ndarray]) -> None:
    """Write a sample's inputs into float32 arrays of ``spec.input_shapes(size)``.

    Picture and maps are resized and rounded as upstream did: maps to the picture's size first.
    """
    x = out["image"]
    size = x.shape[1], x.shape[2]
    write_planes(resize(sample.pixels, size), x[:3])
    original = sample.pixels.shape[0], sample.pixels.shape[1]
    for stored, channel in zip(sample.maps, x[3:], strict=True):
        if not stored.any():
            channel.fill(_NORMALIZED_MAP[0])
        else:
            cv2.LUT(resize(resize(stored, original), size), _NORMALIZED_MAP, dst=channel)
    if "pose" in out:
        out["pose"][:] = pose_vector(sample.keypoints, width=original[1], height=original[0])


def pose_vector(keypoints: np.ndarray, width: int, height: int) -> np.ndarray:
    """The network's input ``p``: float32 ``[108]`` of (x / W - 0.5, y / H - 0.5, conf - 0.5).

    ``width`` and ``height`` are those of the image that x and y are pixels of.
    """
    scale = np.array([width, height, 1], dtype=np.float32)
    return (keypoints / scale - np.float32(0.5)).astype(np.float32).reshape(-1)
