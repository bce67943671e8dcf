"""What the camera makes of a picture."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from PIL import Image, ImageFilter

from .camera import Station


def through_lens(rng: np.random.Generator, picture: Image.Image, station: Station) -> Image.Image:
    """Blur, exposure, colour cast, vignette and noise of the camera."""
    radius = station.blur * max(picture.size) / 256 * rng.uniform(0.6, 1.4)
    pixels = np.asarray(picture.filter(ImageFilter.GaussianBlur(radius)), dtype=np.float32)
    gain = station.exposure * rng.uniform(0.9, 1.1) * np.array(station.cast, dtype=np.float32)
    pixels = (pixels - 118) * np.float32(station.contrast) + 118
    down, across = (np.linspace(-1, 1, count, dtype=np.float32) for count in pixels.shape[:2])
    falloff = 1 - np.float32(station.vignette / 2) * (down[:, None] ** 2 + across[None] ** 2)
    pixels *= (gain * falloff[..., None]).astype(np.float32)
    pixels += rng.standard_normal(pixels.shape, dtype=np.float32) * np.float32(station.noise)
    return to_image(pixels)


def to_image(pixels: np.ndarray) -> Image.Image:
    """Numbers of any range as an 8-bit picture."""
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def encode(picture: Image.Image, quality: int) -> bytes:
    """A picture as the bytes of a JPEG file."""
    buffer = BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()
