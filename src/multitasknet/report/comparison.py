"""Estimated keypoints beside the true ones, drawn into a picture."""

from __future__ import annotations

import cv2
import numpy as np
from PIL import Image, ImageDraw

from ..vehicle.keypoints import SEEN_FROM
from .overlay import draw_overlay

SIDE = 480
_REACH, _SQUARE = SIDE / 55, SIDE / 92
# White in black can be seen on any ground.
_OUTLINED = (("black", 4), ("white", 2))


def draw_comparison(pixels: np.ndarray, estimate: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """A picture brought to 480 pixels, uint8 ``[H, W, 3]``, with both poses ``[36, 3]``.

    Estimates are as :func:`draw_overlay` draws them, true places rings, or squares where the
    keypoint is hidden; a line joins the two. A true place of (0, 0) is none.
    """
    height, width = pixels.shape[:2]
    scale = SIDE / max(height, width)
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    enlarged = cv2.resize(pixels, size, interpolation=cv2.INTER_LINEAR)
    stretch = np.array([size[0] / width, size[1] / height, 1])
    pairs = [
        (found, true)
        for found, true in zip(
            (estimate * stretch).tolist(), (truth * stretch).tolist(), strict=True
        )
        if true[2] >= SEEN_FROM or true[0] or true[1]
    ]
    picture = Image.fromarray(enlarged)
    draw = ImageDraw.Draw(picture)
    for color, width in _OUTLINED:
        for (x, y, _), (true_x, true_y, _) in pairs:
            draw.line((x, y, true_x, true_y), fill=color, width=width // 2)
    picture = draw_overlay(picture, estimate * stretch)
    draw = ImageDraw.Draw(picture)
    for color, width in _OUTLINED:
        for _, true in pairs:
            _draw_true(draw, true, color, width)
    return np.asarray(picture)


def _draw_true(draw: ImageDraw.ImageDraw, true: list[float], color: str, width: int) -> None:
    x, y, visibility = true
    visible = visibility >= SEEN_FROM
    reach = (_REACH if visible else _SQUARE) + width / 2
    shape = draw.ellipse if visible else draw.rectangle
    shape((x - reach, y - reach, x + reach, y + reach), outline=color, width=width)
