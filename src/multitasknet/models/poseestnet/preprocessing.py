"""From a picture to the network's input, as the weights were trained on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np

from ...images import RGB_MEAN, RGB_STD
from ...vehicle.maps import FRAME
from ...vehicle.sample import Sample

# Raised whenever the same picture gives another input: what is kept is then made again.
PREPROCESSING = 1

_NORMALIZED = ((np.arange(256)[:, None] / 255 - np.array(RGB_MEAN)) / np.array(RGB_STD)).astype(
    np.float32
)


def frame_transform(width: int, height: int, size: tuple[int, int]) -> np.ndarray:
    """From pixels of the picture to pixels of the input: float64 ``[2, 3]``.

    The input shows a square of 1.25 times the picture's longer side around its centre (PAMTRI's
    data loader, on a box that is the picture).
    """
    scale = min(size) / (FRAME * max(width, height))
    return np.array(
        [
            [scale, 0, size[1] / 2 - scale * width / 2],
            [0, scale, size[0] / 2 - scale * height / 2],
        ]
    )


def write_inputs(sample: Sample, out: Mapping[str, np.ndarray]) -> None:
    """Write a sample's picture into a float32 array ``[3, height, width]``; black around it."""
    planes = out["image"]
    height, width = sample.pixels.shape[:2]
    size = planes.shape[1], planes.shape[2]
    framed = cv2.warpAffine(
        sample.pixels, frame_transform(width, height, size), size[::-1], flags=cv2.INTER_LINEAR
    )
    for color, channel in enumerate(cv2.split(framed)):
        cv2.LUT(channel, _NORMALIZED[:, color].copy(), dst=planes[color])


def normalization() -> dict[str, Any]:
    """How pixels become inputs, for readers of exported files."""
    return {
        "frame": f"a square of {FRAME} times the longer side around the centre, black outside",
        "scale": "pixels / 255, then (value - mean) / std",
        "rgb": {"mean": RGB_MEAN, "std": RGB_STD},
    }
