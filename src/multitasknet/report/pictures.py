"""Pictures inside a page."""

from __future__ import annotations

import base64

import cv2
import numpy as np

from ..images import encode_jpeg

_SIDE = 160


def thumbnail(pixels: np.ndarray, side: int = _SIDE) -> str:
    """A small JPEG of an image, uint8 ``[H, W, 3]``, as a data URI."""
    height, width = pixels.shape[:2]
    scale = min(side / max(height, width), 1)
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    return f"data:image/jpeg;base64,{base64.b64encode(encode_jpeg(small, 80)).decode()}"
