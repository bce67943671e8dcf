"""What a traffic camera makes of the light: its lens, its exposure, its video and its pictures."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from .camera import Size
from .chance import Rng

_KEY = 0.185  # linear grey level of a picture's robust mean after a full exposure
_OF_CROP = 0.25  # the crop's weight in the exposure, beside the rest of the camera's view
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
_STEPS = 2048  # of the tone curve's table, over the square root of 0 to _MOST
_MOST = 8.0


@dataclass(frozen=True, eq=False)
class Optics:
    """One camera id's look."""

    cast: np.ndarray  # ``[3]``, gain of R, G and B
    bias: float  # exposure, a factor
    adaptation: float  # how much of the scene's brightness the exposure makes up for, 0 to 1
    lift: float  # grey level of black, 0 to 1
    knee: float  # grey level above which highlights are compressed, 0 to 1
    contrast: float  # slope in the middle
    saturation: float  # 1 keeps the scene's
    vignette: float  # how much darker the corners are
    haze: float  # share of veiling light
    bloom: float  # share of what lamps spread about themselves
    blur: float  # of focus, pixels of the sensor
    halo: float  # strength of the sharpening
    radius: float  # of the sharpening, pixels of the sensor
    noise: float  # standard deviation, grey levels, before the video codec smooths it
    quality: int  # of the JPEG
    barrel: float  # how much the lens bends lines; the share by which a picture's ends move inwards

    def bent(self, points: np.ndarray, size: Size) -> np.ndarray:
        """Where the lens puts the points ``[N, 2]`` of a picture of width and height."""
        center = (np.array(size) - 1) / 2
        flat = (points - center) / (max(size) / 2)
        found = flat
        for _ in range(8):
            found = flat / (1 + self.barrel * (found**2).sum(axis=1, keepdims=True))
        return center + max(size) / 2 * found

    @cached_property
    def tones(self) -> np.ndarray:
        """The tone curve: grey levels 0 to 255 of linear values, float32 ``[_STEPS]``."""
        linear = np.linspace(0, np.sqrt(_MOST), _STEPS) ** 2
        coded = np.where(linear < 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
        coded = 0.42 + self.contrast * (coded - 0.42)
        room = 1.0 - self.knee
        over = np.maximum(coded - self.knee, 0)
        coded = np.minimum(coded, self.knee) + room * over / (over + room)
        toe = 0.032  # a soft end of the shadows
        coded = toe * np.log1p(np.exp(np.clip(coded / toe, -50, 50)))
        return (255 * (self.lift + (1 - self.lift) * np.minimum(coded, 1))).astype(np.float32)


def draw_optics(rng: Rng, *, wide: bool) -> Optics:
    """Draw the look of one camera id; ``wide`` has wider ranges, and a poor JPEG of a third."""
    spread = 1.7 if wide else 1.0
    soft = rng.random() < (0.12 if wide else 0.08)  # out of focus
    poor = wide and rng.random() < 1 / 3
    return Optics(
        cast=np.exp(spread * rng.normal([-0.02, 0, 0.03], [0.03, 0.01, 0.04])).astype(np.float32),
        bias=float(np.exp(spread * rng.normal(0, 0.24))),
        adaptation=rng.uniform(0.55, 0.9),
        lift=float(np.clip(0.034 + spread * rng.normal(0, 0.012), 0, 0.12)),
        knee=rng.uniform(0.55, 0.75),
        contrast=float(np.clip(1.17 + spread * rng.normal(0, 0.11), 0.6, 1.6)),
        saturation=float(np.clip(1.45 + spread * rng.normal(0, 0.26), 0.2, 1.8)),
        vignette=rng.uniform(0.0, 0.15 * spread),
        haze=float(np.clip(rng.exponential(0.025 * spread), 0, 0.25)),
        bloom=rng.uniform(0.02, 0.1),
        blur=rng.uniform(1.1, 2.2 if not wide else 2.8)
        if soft
        else rng.uniform(0.25, 0.72 * spread),
        halo=rng.uniform(0.3, 2.2),
        radius=rng.uniform(0.8, 1.6),
        noise=float(np.exp(rng.normal(0.0, 0.45 * spread))),
        quality=int(rng.integers(30, 95)) if poor else 95,
        barrel=float(np.clip(spread * rng.normal(0, 0.012), -0.05, 0.05)),
    )


def develop(
    linear: np.ndarray,
    optics: Optics,
    rng: Rng,
    *,
    around: float,
    size: Size,
    scale: float = 1.0,
    motion: tuple[float, float] = (0.0, 0.0),
    play: float = 0.08,
) -> np.ndarray:
    """The camera's picture of a scene: uint8 ``[height, width, 3]``.

    Args:
        linear: radiance, float32 ``[h, w, 3]``, no finer than it must be.
        rng: noise, and the exposure's play.
        around: mean radiance of all that the camera sees, by which it exposes too.
        scale: the sensor saw the scene at this share of ``linear``'s size, up to 1.
        motion: x and y in pixels that things moved while the shutter was open.
        size: width and height that are wanted, enlarged from what the sensor saw.
        play: how much the exposure varies from picture to picture, standard deviation.
    """
    seen = _bent(linear, optics.barrel)
    if scale < 1:
        height, width = linear.shape[:2]
        small = (max(round(width * scale), 8), max(round(height * scale), 8))
        seen = cv2.resize(seen, small, interpolation=cv2.INTER_AREA)
    seen = seen * _exposure(seen, optics, around, rng.normal(0, play))
    seen = _spread(seen, optics, (motion[0] * scale, motion[1] * scale))
    picture = _video(_coded(seen, optics), optics, rng)
    return cv2.resize(picture, size, interpolation=cv2.INTER_CUBIC)


def encode(image: np.ndarray, quality: int) -> bytes:
    """A picture, uint8 ``[h, w, 3]``, as the bytes of a JPEG file, 4:2:0."""
    options = [cv2.IMWRITE_JPEG_QUALITY, quality]
    return cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)[1].tobytes()


def _bent(picture: np.ndarray, barrel: float) -> np.ndarray:
    """The picture through a lens that bends lines: see ``Optics.bent``."""
    height, width = picture.shape[:2]
    half = max(width, height) / 2
    x = (np.arange(width, dtype=np.float32) - (width - 1) / 2)[None]
    y = (np.arange(height, dtype=np.float32) - (height - 1) / 2)[:, None]
    stretch = 1 + np.float32(barrel / half**2) * (x * x + y * y)
    x, y = x * stretch + (width - 1) / 2, y * stretch + (height - 1) / 2
    return cv2.remap(picture, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _exposure(seen: np.ndarray, optics: Optics, around: float, play: float) -> np.ndarray:
    """Gains ``[h, w, 3]``: automatic exposure, colour cast, vignette."""
    sample = cv2.transform(np.ascontiguousarray(seen[::4, ::4]), _LUMA[None])
    crop = np.log(np.clip(sample, 0.002, 2.0)).mean()
    level = np.exp(_OF_CROP * crop + (1 - _OF_CROP) * np.log(max(around, 0.002)))
    gain = optics.bias * (_KEY / level) ** optics.adaptation * np.exp(play)
    down, across = (np.linspace(-1, 1, count, dtype=np.float32) for count in seen.shape[:2])
    falloff = 1 - np.float32(optics.vignette / 2) * (down[:, None] ** 2 + across[None] ** 2)
    return cv2.merge([falloff * channel for channel in np.float32(gain) * optics.cast])


def _spread(seen: np.ndarray, optics: Optics, motion: tuple[float, float]) -> np.ndarray:
    """Defocus, motion blur, the glare of lamps, and haze."""
    if optics.blur > 0.3:
        seen = cv2.GaussianBlur(seen, (0, 0), optics.blur)
    if np.hypot(*motion) > 1:
        seen = cv2.filter2D(seen, -1, _streak(motion))
    if seen.max() > 1:
        seen = seen + np.float32(4 * optics.bloom) * _glare(seen)
    if optics.haze > 0.005:
        veil = 0.35
        seen = seen * np.float32(1 - optics.haze) + np.float32(optics.haze * veil)
    return seen


def _glare(seen: np.ndarray) -> np.ndarray:
    """What is brighter than white, spread widely, for which a quarter of the size is enough."""
    height, width = seen.shape[:2]
    bright = np.clip(seen - 1, 0, _MOST)
    small = cv2.resize(bright, (-(-width // 4), -(-height // 4)), interpolation=cv2.INTER_AREA)
    spread = cv2.GaussianBlur(small, (0, 0), max(height / 96, 0.25))
    return cv2.resize(spread, (width, height))


def _streak(motion: tuple[float, float]) -> np.ndarray:
    """The kernel of a straight motion, float32 ``[n, n]`` of sum 1."""
    half = int(np.ceil(max(abs(motion[0]), abs(motion[1])) / 2))
    kernel = np.zeros((2 * half + 1, 2 * half + 1), dtype=np.float32)
    steps = np.linspace(-0.5, 0.5, 8 * half + 1)
    spots = half + steps[:, None] * motion
    low = np.floor(spots).astype(int)
    share = spots - low
    for dx in (0, 1):
        for dy in (0, 1):
            weight = np.abs(1 - dx - share[:, 0]) * np.abs(1 - dy - share[:, 1])
            x, y = np.minimum(low[:, 0] + dx, 2 * half), np.minimum(low[:, 1] + dy, 2 * half)
            np.add.at(kernel, (y, x), weight)
    return kernel / kernel.sum()


def _coded(seen: np.ndarray, optics: Optics) -> np.ndarray:
    """Tone curve, sRGB coding and saturation: float32 ``[h, w, 3]``, 0 to 255."""
    index = np.sqrt(np.clip(seen, 0, _MOST) * np.float32((_STEPS - 1) ** 2 / _MOST))
    coded = optics.tones.take(index.astype(np.uint16))
    luma = cv2.transform(coded, _LUMA[None])
    grey = cv2.merge([luma, luma, luma])
    return cv2.addWeighted(coded, optics.saturation, grey, 1 - optics.saturation, 0)


def _video(coded: np.ndarray, optics: Optics, rng: Rng) -> np.ndarray:
    """With noise, smoothed by the codec, and sharpening, both in brightness only: uint8."""
    luma = cv2.transform(coded, _LUMA[None])
    grain = rng.standard_normal(luma.shape, dtype=np.float32) * np.float32(optics.noise)
    noise = cv2.GaussianBlur(grain, (3, 3), 0.7)
    edges = np.clip(luma - cv2.GaussianBlur(luma, (0, 0), optics.radius), -40, 40)
    added = noise + np.float32(optics.halo) * edges
    return cv2.add(coded, cv2.merge([added, added, added]), dtype=cv2.CV_8U)
