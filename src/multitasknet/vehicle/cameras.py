"""Which camera took a picture."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

UNKNOWN_CAMERA = -1


def same_camera(a: ArrayLike, b: ArrayLike) -> np.ndarray:
    """Whether two cameras (or arrays of them, elementwise) are one and the same known camera."""
    a, b = np.asarray(a), np.asarray(b)
    return (a == b) & (a != UNKNOWN_CAMERA)
