"""Flat textured pieces of the world, warped into a picture."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from .camera import Camera, Size

_NEAREST = 0.5  # metres; nothing closer to the camera is painted
_SHIFT = 4  # polygons are filled at a sixteenth of a pixel


@dataclass(frozen=True, eq=False)
class Texture:
    """A flat picture that repeats, at full size and ever halved."""

    # float32 ``[h, w]``, ``[h, w, 3]`` or (the last channel is cover) ``[h, w, 4]``
    levels: tuple[np.ndarray, ...]
    extent: tuple[float, float]  # metres across and down

    @classmethod
    def of(cls, picture: np.ndarray, extent: tuple[float, float], depth: int = 4) -> Texture:
        """The texture that shows ``picture``, float32, over ``extent`` metres."""
        levels = [picture]
        while len(levels) < depth and min(levels[-1].shape[:2]) >= 16:
            rows, columns = levels[-1].shape[:2]
            half = (columns // 2, rows // 2)
            levels.append(cv2.resize(levels[-1], half, interpolation=cv2.INTER_AREA))
        return cls(tuple(levels), extent)

    def warped(self, plane: np.ndarray, size: Size, pixels_a_metre: float) -> np.ndarray:
        """The texture as it lies in a picture of width and height.

        ``plane`` ``[3, 3]`` leads from metres across and down the texture to pixels;
        ``pixels_a_metre`` tells how large things come out.
        """
        picture = self._level(pixels_a_metre)
        rows, columns = picture.shape[:2]
        texels = np.array([columns / self.extent[0], rows / self.extent[1], 1.0])
        back: np.ndarray = texels[:, None] * cv2.invert(plane)[1]
        x, y, depth = (back @ [size[0] / 2, size[1] / 2, 1]).tolist()
        if depth:  # whole periods, so that most of the picture needs no wrapping, which is slow
            shift = [columns * (x / depth // columns), rows * (y / depth // rows), 0]
            back = back - np.outer(shift, back[2])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return cv2.warpPerspective(picture, back, size, flags=flags, borderMode=cv2.BORDER_WRAP)

    def at(self, x: np.ndarray, y: np.ndarray, pixels_a_metre: float) -> np.ndarray:
        """The texture at places in metres across and down it, float32 ``[h, w]`` each."""
        picture = self._level(pixels_a_metre)
        # All within one period, as wrapping is slow.
        x, y = (part / np.float32(period) for part, period in zip((x, y), self.extent, strict=True))
        x, y = (part - np.floor(part) for part in (x, y))
        x, y = x * np.float32(picture.shape[1]), y * np.float32(picture.shape[0])
        return cv2.remap(picture, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)

    def _level(self, pixels_a_metre: float) -> np.ndarray:
        """The picture whose pixels are about as large as those of what it is painted on."""
        finest = self.levels[0].shape[1] / self.extent[0]
        level = int(math.log2(max(finest / pixels_a_metre, 1)) + 0.3)
        return self.levels[min(level, len(self.levels) - 1)]


def pixels_a_metre(camera: Camera, point: np.ndarray) -> float:
    """How large a thing at ``point`` comes out."""
    return float(camera.focal / max((point - camera.eye) @ camera.axes[2], 1.0))


def outline(camera: Camera, corners: np.ndarray, size: Size, margin: float = 64) -> np.ndarray:
    """What of a convex polygon ``[n, 3]`` is before the camera and in the picture: ``[m, 2]``."""
    points = ((corners - camera.eye) @ camera.to_pixels.T).tolist()
    width, height = size
    for side in (
        (0, 0, 1, -_NEAREST),
        (1, 0, margin, 0),
        (-1, 0, width + margin, 0),
        (0, 1, margin, 0),
        (0, -1, height + margin, 0),
    ):
        points = _cut(points, side)
        if not points:
            return np.zeros((0, 2))
    return np.array([(x / depth, y / depth) for x, y, depth in points])


def _cut(points: list[list[float]], side: tuple[float, float, float, float]) -> list[list[float]]:
    """The part of a convex polygon within a plane; in lists, which are faster here."""
    a, b, c, d = side
    inside = [a * x + b * y + c * z + d for x, y, z in points]
    if min(inside) >= 0:
        return points
    if max(inside) < 0:
        return []
    kept = []
    for index, here in enumerate(inside):
        there, after = inside[index - 1], points[index - 1]
        if (here >= 0) != (there >= 0):
            share = here / (here - there)
            kept.append([p + share * (q - p) for p, q in zip(points[index], after, strict=True)])
        if here >= 0:
            kept.append(points[index])
    return kept


def filled(polygons: list[np.ndarray], size: Size) -> np.ndarray:
    """Cover of polygons ``[n, 2]`` in pixels, their edges smooth: float32 ``[h, w]``."""
    mask = np.zeros(size[::-1], dtype=np.uint8)
    for polygon in polygons:
        points = np.rint(polygon * 2**_SHIFT).astype(np.int32)
        cv2.fillConvexPoly(mask, points, [255], cv2.LINE_AA, _SHIFT)
    return mask * np.float32(1 / 255)


def quads_in_view(camera: Camera, quads: np.ndarray, size: Size) -> list[np.ndarray]:
    """Those of small quadrilaterals ``[n, 4, 3]`` that show: ``[4, 2]`` pixels each."""
    seen = (quads - camera.eye) @ camera.axes.T
    before = (seen[..., 2] > _NEAREST).all(axis=1)
    seen = seen[before]
    pixels = camera.focal * seen[..., :2] / seen[..., 2:] + camera.center
    low, high = pixels.min(axis=1), pixels.max(axis=1)
    shown = ((high > 0) & (low < size) & (high - low < 4000)).all(axis=1)
    return list(pixels[shown])


def blend(canvas: np.ndarray, color: np.ndarray, cover: np.ndarray) -> None:
    """Lay ``color`` ``[h, w, 3]`` over a canvas where ``cover`` ``[h, w]`` says so."""
    share = cv2.merge([cover, cover, cover])
    canvas += cv2.multiply(cv2.subtract(color, canvas), share)


def window(polygon: np.ndarray, size: Size, margin: int = 0) -> tuple[slice, slice] | None:
    """The rows and columns of a picture that a polygon touches, if any."""
    if not len(polygon):
        return None
    spans = []
    for low, high, most in zip(
        polygon.min(axis=0).tolist(), polygon.max(axis=0).tolist(), size, strict=True
    ):
        start, stop = math.floor(low) - 1 - margin, math.ceil(high) + 2 + margin
        if stop <= 0 or start >= most:
            return None
        spans.append(slice(max(start, 0), min(stop, most)))
    return spans[1], spans[0]


def paint_flat(
    canvas: np.ndarray, polygon: np.ndarray, picture: np.ndarray, gain: np.ndarray
) -> None:
    """Paint a picture within a polygon ``[n, 2]`` in pixels, its colours times ``gain``.

    The picture is ``[h, w, 3]``, or with cover, by which its colours are multiplied, ``[h, w, 4]``.
    """
    cover = filled([polygon], (canvas.shape[1], canvas.shape[0]))
    factors = np.array([*gain, 1.0])[: picture.shape[2]]
    picture = cv2.transform(picture, np.diag(factors))
    if picture.shape[2] == 3:
        blend(canvas, picture, cover)
        return
    *color, own = cv2.split(picture)
    own *= cover
    canvas *= 1 - cv2.merge([own, own, own])
    canvas += cv2.multiply(cv2.merge(color), cv2.merge([cover, cover, cover]))


def paint_upright(
    canvas: np.ndarray,
    camera: Camera,
    texture: Texture,
    feet: np.ndarray,
    top: float,
    irradiance: np.ndarray,
) -> None:
    """Paint a texture that stands on the line between two points ``[2, 3]``, over a radiance.

    It begins at the first point, at the height ``top`` in metres; negative where it is seen
    mirrored in the ground.
    """
    size = (canvas.shape[1], canvas.shape[0])
    rise = np.array([0, 0, top])
    polygon = outline(camera, np.concatenate([feet, feet[::-1] + rise]), size, 1)
    where = window(polygon, size)
    if where is None:
        return
    across = feet[1] - feet[0]
    across = across / np.linalg.norm(across)
    down = np.array([0, 0, -np.sign(top)])
    # The homography from metres on the plane to pixels.
    plane = camera.to_pixels @ np.stack([across, down, feet[0] + rise - camera.eye], axis=1)
    near = feet[np.linalg.norm(feet - camera.eye, axis=1).argmin()]
    part, (left, above) = canvas[where], (where[1].start, where[0].start)
    shift = np.array([[1, 0, -left], [0, 1, -above], [0, 0, 1.0]])
    size = (part.shape[1], part.shape[0])
    picture = texture.warped(shift @ plane, size, pixels_a_metre(camera, near))
    paint_flat(part, polygon - [left, above], picture, irradiance)
