"""Which camera took a picture."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

UNKNOWN_CAMERA = -1


def camera_name(camera_id: int) -> str:
    """A camera as galleries have it; empty if it is unknown."""
    return "" if camera_id == UNKNOWN_CAMERA else str(camera_id)


def same_camera(a: ArrayLike, b: ArrayLike) -> np.ndarray:
    """Whether two cameras (or arrays of them, elementwise) are one and the same known camera."""
    a, b = np.asarray(a), np.asarray(b)
    return (a == b) & (a != UNKNOWN_CAMERA)
