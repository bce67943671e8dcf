"""Changes of a picture that a training sees it with: uint8 ``[H, W, 3]`` in and out, RGB.

The order is that of the world, the lens and the camera: covered, relit, then :func:`retaken`.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np


def read_pixels(path: Path) -> np.ndarray:
    pixels = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if pixels is None:
        raise SystemExit(f"{path}: no picture; fetch or make it again")
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def covered(
    pixels: np.ndarray, points: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """With one or two boxes of one colour, or of another part of the picture, laid in it.

    And which of the points ``[N, 2]`` lie under them: bool ``[N]``.
    """
    pixels, hidden = pixels.copy(), np.zeros(len(points), bool)
    size = len(pixels)
    for _ in range(rng.integers(1, 3)):
        width, height = rng.integers(size // 16, size * 3 // 8, 2)
        left, top = rng.integers(-width // 2, size - width // 2), rng.integers(0, size - height)
        left, right = max(left, 0), min(left + width, size)
        if rng.random() < 0.5:
            pixels[top : top + height, left:right] = rng.integers(0, 256, 3)
        else:
            y, x = rng.integers(0, size - height), rng.integers(0, size - (right - left) + 1)
            part = pixels[y : y + height, x : x + right - left].copy()
            pixels[top : top + height, left:right] = part
        under = (points >= (left, top)) & (points < (right, top + height))
        hidden |= under.all(1)
    return pixels, hidden


def relit(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Brightness, contrast, gamma and the light's colour, by one table."""
    values = np.linspace(0, 1, 256)[:, None] ** np.exp(rng.normal(0, 0.25))
    gains = np.exp(rng.normal(0, 0.08, 3)) * np.exp(rng.normal(0, 0.2))
    values = (values - 0.5) * np.exp(rng.normal(0, 0.2)) + 0.5 + rng.normal(0, 0.06)
    table = np.clip(values * gains * 255, 0, 255).astype(np.uint8)
    return cv2.LUT(pixels, table[None])


def saturated(pixels: np.ndarray, share: float) -> np.ndarray:
    """With that share of its colour: 0 is gray, 1 as it is, above is more."""
    gray = cv2.cvtColor(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return cv2.addWeighted(pixels, share, gray, 1 - share, 0)


def retaken(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """As other cameras might have taken it: fewer pixels, blur, motion, noise, JPEG."""
    if rng.random() < 0.5:
        pixels = coarser(pixels, rng)
    if rng.random() < 0.3:
        pixels = cv2.GaussianBlur(pixels, (0, 0), rng.uniform(0.3, 1.6))
    if rng.random() < 0.15:
        pixels = smeared(pixels, rng)
    if rng.random() < 0.3:
        noise = rng.standard_normal(pixels.shape, np.float32) * rng.uniform(1, 12)
        pixels = cv2.add(pixels, noise, dtype=cv2.CV_8U)
    if rng.random() < 0.4:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(15, 92))]
        pixels = cv2.imdecode(cv2.imencode(".jpg", pixels, quality)[1], cv2.IMREAD_COLOR)
    return pixels


def coarser(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """As of a picture of a fraction of the pixels, enlarged."""
    size = len(pixels)
    small = max(round(size * np.exp(rng.uniform(np.log(0.2), np.log(0.9)))), 8)
    pixels = cv2.resize(pixels, (small, small), interpolation=cv2.INTER_AREA)
    how = cv2.INTER_LINEAR if rng.random() < 0.5 else cv2.INTER_CUBIC
    return cv2.resize(pixels, (size, size), interpolation=how)


def smeared(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Moved while the shutter was open."""
    length = int(rng.integers(3, 10))
    kernel = np.zeros((length, length), np.float32)
    middle, angle = (length - 1) / 2, rng.uniform(0, np.pi)
    reach = middle * np.array([np.cos(angle), np.sin(angle)])
    ends = [tuple(np.rint(middle + sign * reach).astype(int).tolist()) for sign in (-1, 1)]
    cv2.line(kernel, *ends, 1)
    return cv2.filter2D(pixels, -1, kernel / kernel.sum())
