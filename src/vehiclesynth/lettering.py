"""Writing on vehicles: names, numbers, and their glyphs (Pillow's own font, Aileron, CC0)."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .chance import Rng

_PIXELS = 40  # of a capital's height and the space about it
_BEGINNINGS = "BCDFGHJKLMNPRSTVWXYZ"
_ENDINGS = ("A", "E", "I", "O", "U", "AI", "AN", "EN", "IN", "ON", "UNG", "ANG")


def draw_word(rng: Rng, syllables: int) -> str:
    """A name that nobody has."""
    first = rng.integers(len(_BEGINNINGS), size=syllables).tolist()
    last = rng.integers(len(_ENDINGS), size=syllables).tolist()
    return "".join(_BEGINNINGS[a] + _ENDINGS[b] for a, b in zip(first, last, strict=True))


def draw_number(rng: Rng, digits: int) -> str:
    return "".join(str(digit) for digit in rng.integers(0, 10, digits))


def glyphs(text: str, rows: int) -> np.ndarray:
    """How much ink covers each pixel of a line of writing: float32 ``[rows, w]``, 0..1."""
    large = _written(text)
    width = max(round(large.shape[1] * rows / large.shape[0]), 1)
    return cv2.resize(large, (width, rows), interpolation=cv2.INTER_AREA)


@lru_cache(maxsize=512)
def _written(text: str) -> np.ndarray:
    font = ImageFont.load_default(_PIXELS)
    left, top, right, bottom = (round(side) for side in font.getbbox(text, stroke_width=1))
    canvas = Image.new("L", (max(right - left, 1), max(bottom - top, 1)))
    ImageDraw.Draw(canvas).text((-left, -top), text, 255, font, stroke_width=1)
    return np.asarray(canvas, np.float32) / 255
