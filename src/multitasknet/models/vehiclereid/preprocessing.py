"""From a picture to the network's input, as the weights were trained on it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ...images import resize, write_planes
from ...vehicle.sample import Sample


def write_inputs(sample: Sample, out: Mapping[str, np.ndarray]) -> None:
    """Write a sample's picture, resized, into a float32 array ``[3, height, width]``."""
    planes = out["image"]
    write_planes(resize(sample.pixels, (planes.shape[1], planes.shape[2])), planes)
