"""From a picture to the network's input, as the weights were trained on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import cv2
import numpy as np

from ...images import write_planes
from ...vehicle.sample import Sample

# How much larger the frame is than the picture. A detector's box holds nearly all keypoints; the
# rest of the frame is one cell on each side, so that those on the border have neighbours.
FRAME = 1.05


class Placement(NamedTuple):
    """Where a picture lies in the input, in pixels: in its middle, so that a mirror changes
    nothing."""

    width: int
    height: int
    left: int
    top: int


def placement(width: int, height: int, size: tuple[int, int]) -> Placement:
    """Where a picture of that width and height lies in an input of ``size`` (height, width)."""
    scale = min(size[0] / height, size[1] / width) / FRAME
    # Even, as the input's sides are; less than half a pixel from the aspect that it has.
    inner_width, inner_height = (max(2 * round(side * scale / 2), 2) for side in (width, height))
    left, top = (size[1] - inner_width) // 2, (size[0] - inner_height) // 2
    return Placement(inner_width, inner_height, left, top)


def write_inputs(sample: Sample, out: Mapping[str, np.ndarray]) -> None:
    """Write a sample's picture into a float32 array ``[3, height, width]``; mean colour around."""
    planes = out["image"]
    height, width = sample.pixels.shape[:2]
    at = placement(width, height, (planes.shape[1], planes.shape[2]))
    fitted = cv2.resize(sample.pixels, (at.width, at.height), interpolation=cv2.INTER_AREA)
    planes[:] = 0
    write_planes(fitted, planes[:, at.top : at.top + at.height, at.left : at.left + at.width])
