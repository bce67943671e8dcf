"""Things between the camera and the vehicle, mostly at the picture's border and out of focus."""

from __future__ import annotations

import cv2
import numpy as np

from .camera import Size
from .chance import Rng, pick
from .light import Light
from .sprites import draw_sprite
from .textures import clouds

_SHARE = {False: 0.12, True: 0.3}  # of the pictures, for the real prior and the training one

Layer = tuple[np.ndarray, np.ndarray]


def draw_foreground(rng: Rng, size: Size, light: Light, *, wide: bool) -> Layer | None:
    """Draw what stands before the vehicle, if anything does; ``wide`` more often, as in training.

    Returns:
        Radiance ``[h, w, 3]`` and cover ``[h, w]`` 0 to 1, both float32; on most pictures nothing.
    """
    if rng.random() > _SHARE[wide]:
        return None
    painters, odds = zip(*_KINDS, strict=True)
    albedo, cover = painters[int(rng.choice(len(_KINDS), p=odds))](rng, size)
    width = max(size) / 256
    blur = rng.uniform(0.3, 2.2) * width
    cover = cv2.GaussianBlur(cover, (0, 0), blur)
    albedo = cv2.GaussianBlur(albedo, (0, 0), blur)
    shown = 0.6 * light.sky + 0.4 * light.sun * max(float(light.direction[2]), 0.2)
    return cv2.transform(albedo, np.diag(shown)), np.clip(cover, 0, 1)


def _blank(size: Size, tone: float) -> Layer:
    width, height = size
    albedo = np.full((height, width, 3), tone, dtype=np.float32)
    return albedo, np.zeros((height, width), dtype=np.float32)


def _foliage(rng: Rng, size: Size) -> Layer:
    """Twigs with leaves that reach in from the top or a corner."""
    scale, (width, height) = max(size) / 256, size
    green = np.array([0.07, 0.095, 0.042]) * rng.uniform(0.6, 1.5)
    albedo, cover = _blank(size, 0.0)
    albedo += green.astype(np.float32)
    start = np.array([rng.choice([0.0, rng.uniform(0, 1), 1.0]) * width, 0.0])
    if rng.random() < 0.2:
        start[1] = height  # a bush below
    inward = np.array([width / 2, height * rng.uniform(0.2, 0.6)]) - start
    inward = inward / np.linalg.norm(inward)
    for _ in range(rng.integers(3, 9)):
        root = start + rng.normal(0, 26, 2) * scale
        heading = np.arctan2(inward[1], inward[0]) + rng.normal(0, 0.6)
        reach = rng.uniform(15, 75) * scale
        tip = root + reach * np.array([np.cos(heading), np.sin(heading)])
        ends = np.rint([root, tip]).astype(int).tolist()
        cv2.line(cover, ends[0], ends[1], [1.0], 1)
        count = int(rng.integers(8, 26))
        along = rng.uniform(0, 1, count)[:, None]
        spots = root + along * (tip - root) + rng.normal(0, 5.5, (count, 2)) * scale
        tones = np.exp(rng.normal(0, 0.45, count))
        axes = rng.uniform([2.5, 1.2], [6.5, 3.2], (count, 2)) * scale
        turns = np.degrees(heading) + rng.normal(0, 45, count)
        for spot, tone, axis, turn in zip(spots, tones, axes, turns, strict=True):
            box = (spot.tolist(), (2 * axis).tolist(), float(turn))
            cv2.ellipse(albedo, box, (green * tone).tolist(), -1)
            cv2.ellipse(cover, box, [1.0], -1)
    return albedo, cover


def _pole(rng: Rng, size: Size) -> Layer:
    width, height = size
    albedo, cover = _blank(size, rng.uniform(0.06, 0.35))
    x, thick = _at_border(rng) * width, rng.uniform(0.02, 0.07) * width
    lean = rng.normal(0, 0.02) * width
    quad = [[x, -2], [x + thick, -2], [x + thick + lean, height + 2], [x + lean, height + 2]]
    cv2.fillPoly(cover, [np.rint(quad).astype(np.int32)], [1.0])
    across = (np.arange(width, dtype=np.float32) - x - thick / 2) / thick
    albedo *= np.clip(1.1 - 1.2 * np.abs(across - 0.15), 0.4, 1.2)[None, :, None]
    return albedo, cover


def _cables(rng: Rng, size: Size) -> Layer:
    width, height = size
    albedo, cover = _blank(size, rng.uniform(0.01, 0.08))
    x = np.linspace(-2, width + 2, 24)
    left, right = rng.uniform(-0.1, 0.6, 2) * height
    for _ in range(rng.integers(1, 4)):
        left, right = left + rng.normal(0, 0.08 * height), right + rng.normal(0, 0.08 * height)
        share = x / width
        y = left + (right - left) * share + 0.1 * height * share * (1 - share)
        path = np.rint(np.column_stack([x, y])).astype(np.int32)
        cv2.polylines(cover, [path], False, [rng.uniform(0.6, 1)], 1)
    return albedo, cover


def _rail(rng: Rng, size: Size) -> Layer:
    """A fence along the lower border."""
    width, height = size
    albedo, cover = _blank(size, rng.uniform(0.12, 0.55))
    slope = rng.normal(0, 0.12)
    top, thick = rng.uniform(0.82, 0.94) * height, max(1, round(0.014 * height))
    ends = [(-2, round(top)), (width + 2, round(top + slope * width))]
    cv2.line(cover, ends[0], ends[1], [1.0], thick)
    if rng.random() < 0.7:
        step = rng.uniform(0.05, 0.13) * width
        for x in np.arange(rng.uniform(0, step), width, step):
            cv2.line(
                cover, (round(x), round(top + slope * x)), (round(x), height + 2), [1.0], thick
            )
    return albedo, cover


def _passer(rng: Rng, size: Size) -> Layer:
    """A part of a vehicle or of a rider, cut by the border."""
    width, height = size
    kind = pick(rng, ("car", "rider", "van", "walker"), (0.4, 0.35, 0.15, 0.1))
    figure = draw_sprite(rng, kind)
    tall = rng.uniform(0.55, 1.1) * height
    wide = tall * figure.extent[0] / figure.extent[1]
    picture = cv2.resize(figure.levels[0], (max(round(wide), 2), max(round(tall), 2)))
    shown = rng.uniform(0.12, 0.3) * min(wide, width)
    left = -wide + shown if rng.random() < 0.5 else width - shown
    top = height - tall * rng.uniform(0.3, 0.8)
    shift = np.array([[1, 0, left], [0, 1, top]])
    layer = cv2.warpAffine(picture, shift, size)
    cover = layer[..., 3]
    shade = 1 + 0.15 * clouds(rng, (64, 64), (4, 4))
    albedo = layer[..., :3] / np.maximum(cover, 0.05)[..., None]
    return albedo * cv2.resize(shade, size)[..., None], np.ascontiguousarray(cover)


def _sign(rng: Rng, size: Size) -> Layer:
    """A corner of a traffic sign's back or of a board."""
    width, height = size
    albedo, cover = _blank(size, rng.uniform(0.08, 0.4))
    albedo *= np.exp(rng.normal(0, 0.12, 3)).astype(np.float32)
    center = (round(float(rng.choice([-0.02, 1.02])) * width), round(rng.uniform(0, 0.5) * height))
    half = (rng.uniform(0.12, 0.3) * width, rng.uniform(0.1, 0.25) * height)
    if rng.random() < 0.4:
        cv2.ellipse(cover, (center, (half[0], half[0]), 0.0), [1.0], -1)
        return albedo, cover
    box = cv2.boxPoints((center, (half[0], 2 * half[1]), float(rng.normal(0, 3))))
    cv2.fillPoly(cover, [np.rint(box).astype(np.int32)], [1.0])
    return albedo, cover


def _at_border(rng: Rng) -> float:
    """A share of the width, near the left or the right border on most."""
    if rng.random() < 0.15:
        return rng.uniform(0.2, 0.8)
    return float(rng.choice([rng.uniform(-0.03, 0.1), rng.uniform(0.88, 1.0)]))


# What there is, and how often.
_KINDS = (
    (_foliage, 0.42),
    (_pole, 0.12),
    (_cables, 0.1),
    (_rail, 0.1),
    (_passer, 0.2),
    (_sign, 0.06),
)
