"""From a picture to the network's input, as the weights were trained on it."""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np

from ...images import write_planes
from ...vehicle.maps import FRAME
from ...vehicle.sample import Sample


def frame_transform(
    width: int, height: int, size: tuple[int, int], *, factor: float = 1, degrees: float = 0
) -> np.ndarray:
    """From pixels of the picture to pixels of the input: float64 ``[2, 3]``.

    The input shows a square of 1.25 times the picture's longer side around its centre (PAMTRI's
    data loader, on a box that is the picture); in training one ``factor`` as large, turned.
    """
    scale = min(size) / (FRAME * max(width, height) * factor)
    cos, sin = scale * np.cos(np.radians(degrees)), scale * np.sin(np.radians(degrees))
    turn = np.array([[cos, sin], [-sin, cos]])
    middle = np.array([size[1] / 2, size[0] / 2]) - turn @ np.array([width / 2, height / 2])
    return np.column_stack((turn, middle))


def write_inputs(sample: Sample, out: Mapping[str, np.ndarray]) -> None:
    """Write a sample's picture into a float32 array ``[3, height, width]``; black around it."""
    planes = out["image"]
    height, width = sample.pixels.shape[:2]
    transform = frame_transform(width, height, (planes.shape[1], planes.shape[2]))
    write_framed(sample.pixels, transform, planes)


def write_framed(pixels: np.ndarray, transform: np.ndarray, planes: np.ndarray) -> None:
    """Write what :func:`frame_transform` frames of a picture, normalised, into such an array."""
    size = planes.shape[2], planes.shape[1]
    framed = cv2.warpAffine(pixels, transform, size, flags=cv2.INTER_LINEAR)
    write_planes(framed, planes)
