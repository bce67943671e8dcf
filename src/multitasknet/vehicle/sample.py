"""One picture of a vehicle in memory, with its pose and its pose maps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Sample:
    """What augmentation changes, before it is brought to a network's size."""

    pixels: np.ndarray  # uint8 ``[H, W, 3]``, RGB
    keypoints: np.ndarray  # float32 ``[36, 3]`` of x, y (pixels) and confidence
    maps: np.ndarray  # uint8 ``[M, 64, 64]``: heatmaps, then segments, as far as a network has them
