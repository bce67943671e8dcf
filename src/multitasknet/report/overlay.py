"""Keypoints and surfaces of the vehicle drawn into pictures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from colorsys import hsv_to_rgb

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..vehicle.keypoints import (
    NUM_KEYPOINTS,
    SEEN_FROM,
    SKELETON,
    SURFACE_NAMES,
    SURFACES,
    visible_surfaces,
)

_LEFT, _RIGHT, _HIDDEN = (255, 214, 0), (0, 220, 255), (255, 60, 60)
_ACROSS = (255, 255, 255)
_LEAST_DOT = 0.25  # of a dot of full confidence
_FILL, _MOST = 70, 110  # opacity of a surface, of 255
_AGREES, _SEEN = (0, 230, 90), (255, 255, 255)
SIDE, _GAP, _TEXT = 480, 12, 15  # pixels
_RING, _SQUARE = SIDE / 55, SIDE / 92
# White in black can be seen on any ground.
_OUTLINED = (("black", 4), ("white", 2))


def draw_overlay(image: Image.Image, keypoints: np.ndarray) -> Image.Image:
    """A copy of a picture, RGB, with its keypoints ``[36, 3]``, skeleton and surfaces they show.

    Left keypoints are yellow, right ones blue, hidden ones (confidence below 0.5) red; the higher
    the confidence, the larger the dot. Lines join what is not hidden, white ones left and right.
    """
    overlay = Image.new("RGBA", image.size)
    draw = ImageDraw.Draw(overlay)
    for surface in visible_surfaces(keypoints):
        hue = surface / len(SURFACES)
        color = tuple(round(255 * value) for value in hsv_to_rgb(hue, 1, 1))
        _draw_surface(draw, keypoints, surface, color, _FILL)
    radius = max(image.size) / 110
    points = keypoints.tolist()
    colors = [
        _HIDDEN if confidence < SEEN_FROM else _LEFT if index < NUM_KEYPOINTS // 2 else _RIGHT
        for index, (_, _, confidence) in enumerate(points)
    ]
    for ends in SKELETON:
        first, second = (colors[end] for end in ends)
        if _HIDDEN not in (first, second):
            line = [tuple(points[end][:2]) for end in ends]
            color = first if first == second else _ACROSS
            draw.line(line, fill=(*color, 255), width=max(round(radius / 2), 1))
    for (x, y, confidence), color in zip(points, colors, strict=True):
        reach = radius * min(max(confidence, _LEAST_DOT), 1)
        draw.ellipse((x - reach, y - reach, x + reach, y + reach), fill=(*color, 255))
    return Image.alpha_composite(image.convert("RGBA"), overlay).convert("RGB")


def draw_comparison(pixels: np.ndarray, estimate: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """A picture brought to 480 pixels, uint8 ``[H, W, 3]``, with both poses ``[36, 3]``.

    Estimates are as :func:`draw_overlay` draws them, true places rings, or squares where the
    keypoint is hidden; a line joins the two. A true place of (0, 0) is none.
    """
    height, width = pixels.shape[:2]
    scale = SIDE / max(height, width)
    picture = Image.fromarray(pixels).resize(
        [max(round(width * scale), 1), max(round(height * scale), 1)]
    )
    stretch = np.array([picture.width / width, picture.height / height, 1])
    estimate, truth = estimate * stretch, truth * stretch
    known = (truth[:, 2] >= SEEN_FROM) | truth[:, :2].any(axis=1)
    draw = ImageDraw.Draw(picture)
    for color, thick in _OUTLINED:
        for found, true in zip(estimate[known], truth[known], strict=True):
            draw.line((*found[:2], *true[:2]), fill=color, width=thick // 2)
    picture = draw_overlay(picture, estimate)
    draw = ImageDraw.Draw(picture)
    for color, thick in _OUTLINED:
        for x, y, visibility in truth[known].tolist():
            visible = visibility >= SEEN_FROM
            reach = (_RING if visible else _SQUARE) + thick / 2
            shape = draw.ellipse if visible else draw.rectangle
            shape((x - reach, y - reach, x + reach, y + reach), outline=color, width=thick)
    return np.asarray(picture)


def draw_agreement(
    images: Sequence[Image.Image],
    poses: Sequence[np.ndarray],
    seen: Iterable[int],
    agreeing: Mapping[int, float],
) -> Image.Image:
    """Two crops beside each other, RGB, 480 pixels high, with the surfaces that both show.

    Args:
        images, poses: of the two, keypoints ``[36, 3]``.
        seen: the surfaces, outlined in white.
        agreeing: those to fill with green and to name: how much each contributes, above 0. The
            more, the less of the crop shines through.
    """
    most = max(agreeing.values(), default=1)
    sides = []
    for image, keypoints in zip(images, poses, strict=True):
        scale = SIDE / image.height
        picture = image.convert("RGB").resize((max(round(image.width * scale), 1), SIDE))
        places = np.column_stack([keypoints[:, :2] * scale, keypoints[:, 2]])
        overlay = Image.new("RGBA", picture.size)
        draw = ImageDraw.Draw(overlay)
        for surface in seen:
            _draw_surface(draw, places, surface, _SEEN, 0)
        for surface, share in sorted(agreeing.items(), key=lambda one: one[1]):
            _draw_surface(draw, places, surface, _AGREES, round(_MOST * share / most))
        for surface in agreeing:
            draw.text(
                tuple(places[SURFACES[surface], :2].mean(0).tolist()),
                SURFACE_NAMES[surface],
                font=ImageFont.load_default(_TEXT),
                anchor="mm",
                fill="white",
                stroke_width=2,
                stroke_fill="black",
            )
        drawn = Image.alpha_composite(picture.convert("RGBA"), overlay).convert("RGB")
        sides.append(np.asarray(drawn))
    gap = np.full((SIDE, _GAP, 3), 255, np.uint8)
    return Image.fromarray(np.hstack([sides[0], gap, sides[1]]))


def _draw_surface(
    draw: ImageDraw.ImageDraw,
    keypoints: np.ndarray,
    surface: int,
    color: tuple[int, ...],
    opacity: int,
) -> None:
    corners = [tuple(corner) for corner in keypoints[SURFACES[surface], :2].tolist()]
    draw.polygon(corners, fill=(*color, opacity), outline=(*color, 255))
