"""What a vehicle's skin looks like, drawn in metres: charts, and the atlas that they make up."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import ArrayLike

from .chance import Rng
from .lettering import glyphs

RGB = tuple[float, float, float]
Pair = tuple[float, float]  # a place, or from and to, in metres
_SHIFT = 4  # fractional bits of OpenCV's coordinates


@dataclass(frozen=True)
class Matter:
    """What a spot of the skin is made of."""

    color: RGB  # linear R, G, B that it scatters, 0..1
    # how much of a clear coat's mirror it has: 0 matt, 0.4 paint, 0.6 glass, 1 chrome
    coat: float = 0.0
    glass: float = 0.0  # 1 where one looks through into the dark
    glow: float = 0.0  # how strongly it shines by itself when its lamp is lit

    def tinted(self, factor: float) -> Matter:
        """The same in a lighter or darker shade."""
        red, green, blue = (min(value * factor, 1.0) for value in self.color)
        return Matter((red, green, blue), self.coat, self.glass, self.glow)


BLACK = Matter((0.015, 0.015, 0.016), 0.05)
RUBBER = Matter((0.028, 0.028, 0.029))
PLASTIC = Matter((0.030, 0.030, 0.032), 0.06)
SEAM = Matter((0.008, 0.008, 0.009))
CHROME = Matter((0.45, 0.46, 0.47), 1.0)
LENS = Matter((0.30, 0.31, 0.33), 0.6)
RED_LENS = Matter((0.30, 0.012, 0.012), 0.5)


class Chart:
    """A picture of a part of the skin; coordinates are metres, to the right and upwards.

    A flank's are x and z, a strip's y and the way from the front bumper over the roof.
    """

    def __init__(self, low: Pair, high: Pair, density: float, base: Matter) -> None:
        self.low, self.high, self.density = low, high, density
        width, height = (int(np.ceil((b - a) * density)) for a, b in zip(low, high, strict=True))
        self.look, self.kind = (_plain(value, (height, width)) for value in _coded(base))
        self.height = np.zeros((height, width), np.float32)
        self._start, self._scale = np.array([low[0], high[1]]), np.array([density, -density])

    def pixels(self, points: ArrayLike) -> np.ndarray:
        """Pixel positions ``[..., 2]`` of points ``[..., 2]`` in metres."""
        return (np.asarray(points) - self._start) * self._scale - 0.5

    def area(self, points: ArrayLike, matter: Matter) -> None:
        """Fill a polygon."""
        look, kind = _coded(matter)
        corners = _fixed(self.pixels(points))
        cv2.fillPoly(self.look, [corners], look, cv2.LINE_AA, _SHIFT)
        cv2.fillPoly(self.kind, [corners], kind, cv2.LINE_8, _SHIFT)

    def rect(self, x: Pair, y: Pair, matter: Matter) -> None:
        (x0, x1), (y0, y1) = x, y
        self.area([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], matter)

    def disc(self, center: Pair, radius: float | Pair, matter: Matter) -> None:
        """Fill a circle, or an ellipse of two radii."""
        angles = np.arange(24) * (np.pi / 12)
        circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
        self.area(center + np.multiply(radius, circle), matter)

    def line(
        self, points: ArrayLike, width: float, matter: Matter, *, closed: bool = False
    ) -> None:
        """A line of that width in metres, never thinner than three quarters of a pixel's weight."""
        look, kind = _coded(matter)
        thick = max(round(width * self.density), 1)
        corners = [_fixed(self.pixels(points))]
        cv2.polylines(self.look, corners, closed, look, thick, cv2.LINE_AA, _SHIFT)
        cv2.polylines(self.kind, corners, closed, kind, thick, cv2.LINE_8, _SHIFT)

    def ridge(self, points: ArrayLike, width: float, rise: float) -> None:
        """Raise (or sink) the surface along a line; only the light shows it."""
        thick = max(round(width * self.density), 1)
        corners = [_fixed(self.pixels(points))]
        cv2.polylines(self.height, corners, False, (rise,), thick, cv2.LINE_8, _SHIFT)

    def write(
        self,
        text: str,
        middle: Pair,
        tall: float,
        matter: Matter,
        *,
        widest: float = np.inf,
        turned: tuple[bool, bool] = (False, False),
    ) -> None:
        """Letters of that height in metres, made lower where they would be wider than ``widest``.

        ``turned`` exchanges left and right, and above and below, as the chart's place asks for.
        """
        ink = glyphs(text, max(round(tall * self.density), 3))
        wide = ink.shape[1] / self.density
        if wide > widest:
            ink = glyphs(text, max(round(tall * widest / wide * self.density), 3))
        ink = ink[:: -1 if turned[1] else 1, :: -1 if turned[0] else 1]
        rows, columns = ink.shape
        corner = self.pixels(middle) - [columns / 2, rows / 2]
        left, top = np.rint(corner).astype(int).tolist()
        first = max(top, 0), max(left, 0)
        last = min(top + rows, len(self.look)), min(left + columns, self.look.shape[1])
        if first[0] >= last[0] or first[1] >= last[1]:
            return
        spot = tuple(slice(*ends) for ends in zip(first, last, strict=True))
        share = ink[first[0] - top : last[0] - top, first[1] - left : last[1] - left, None]
        look, kind = _coded(matter)
        self.look[spot] = self.look[spot] * (1 - share) + np.array(look) * share + 0.5
        self.kind[spot] = np.where(share > 0.5, np.array(kind, np.uint8), self.kind[spot])

    def veil(self, corners: np.ndarray, matter: Matter, share: float) -> None:
        """Paint a rectangle ``[4, 2]`` over so that what is on it shows a little; not its coat."""
        x, y = np.rint(self.pixels(corners)).astype(int).T.clip(0)
        spot = self.look[y.min() : y.max(), x.min() : x.max(), :3]
        spot[:] = spot * (1 - share) + share * np.array(_coded(matter)[0][:3])

    def soften(self, x: Pair, y: Pair, width: float) -> None:
        """Blur a rectangle, as what is seen through glass."""
        ends = np.rint(self.pixels([(x[0], y[0]), (x[1], y[1])])).astype(int)
        (left, bottom), (right, top) = ends
        spot = self.look[max(top, 0) : bottom + 1, max(left, 0) : right + 1]
        if spot.size:
            spot[:] = cv2.GaussianBlur(spot, (0, 0), width * self.density)

    def stain(self, rng: Rng, strength: float, color: RGB, below: float) -> None:
        """Dirt that fades out towards the height ``below``."""
        rows, columns = self.height.shape
        coarse = rng.random((max(rows // 6, 2), max(columns // 6, 2)), np.float32)
        cloud = cv2.resize(coarse, (columns, rows), interpolation=cv2.INTER_LINEAR)
        z = self.high[1] - (np.arange(rows, dtype=np.float32) + 0.5) / self.density
        fade = np.clip((below - z) / max(below - self.low[1], 1e-3), 0, 1)[:, None]
        share = (strength * fade * (0.4 + 0.6 * cloud)).astype(np.float32)
        soil = _plain(_coded(Matter(color))[0], (rows, columns))
        soil[..., 3] = self.look[..., 3] // 5  # some of the coat still shines
        self.look = cv2.blendLinear(self.look, soil, 1 - share, share)

    def relief(self) -> np.ndarray:
        """``kind`` with the slopes of the relief in its last two channels, 128 where it is flat."""
        if not self.height.any():
            return self.kind
        height = cv2.GaussianBlur(self.height, (0, 0), 1.6)
        for channel, (dx, dy) in ((2, (1, 0)), (3, (0, 1))):
            # Of heights from -1 to 1, so that none is beyond a byte.
            slope = cv2.Sobel(height, cv2.CV_32F, dx, dy, ksize=3, scale=127 / 8, delta=128)
            cv2.insertChannel(slope.astype(np.uint8), self.kind, channel)
        return self.kind


@dataclass(frozen=True, eq=False)
class Atlas:
    """All charts in one picture."""

    look: np.ndarray  # uint8 ``[H, W, 4]``, R, G, B (square root of the linear value) and coat
    kind: np.ndarray  # uint8 ``[H, W, 4]``, glass, glow, slopes along x and y


def stack(charts: Sequence[Chart]) -> tuple[Atlas, list[np.ndarray]]:
    """One above the other; and where each begins: x, y."""
    width = max(chart.look.shape[1] for chart in charts)
    *tops, end = np.cumsum([0, *(len(chart.look) for chart in charts)]).tolist()
    atlas = Atlas(*(np.zeros((end, width, 4), np.uint8) for _ in range(2)))
    for chart, top in zip(charts, tops, strict=True):
        for whole, part in ((atlas.look, chart.look), (atlas.kind, chart.relief())):
            rows, columns = part.shape[:2]
            whole[top : top + rows, :columns] = part
            # A column more, as samples are taken between pixels.
            whole[top : top + rows, columns : columns + 1] = part[:, -1:]
    return atlas, [np.array([0.0, top]) for top in tops]


@lru_cache(maxsize=256)
def _coded(matter: Matter) -> tuple[tuple[int, ...], tuple[int, ...]]:
    look = [*(math.sqrt(max(value, 0)) for value in matter.color), matter.coat]
    return _bytes(look), (*_bytes([matter.glass, matter.glow]), 128, 128)


def _bytes(shares: Sequence[float]) -> tuple[int, ...]:
    return tuple(round(255 * min(float(share), 1.0)) for share in shares)


def _plain(value: tuple[int, ...], shape: tuple[int, int]) -> np.ndarray:
    """One value, four bytes, everywhere: uint8 ``[*shape, 4]``."""
    pixel = np.array(value, np.uint8).view(np.uint32)  # much faster than byte by byte
    return np.full(shape, pixel).view(np.uint8).reshape(*shape, 4)


def _fixed(pixels: np.ndarray) -> np.ndarray:
    return np.rint(pixels * (1 << _SHIFT)).astype(np.int32)
