"""Pictures of the data: keypoints and surfaces drawn in, and many samples on one sheet."""

from __future__ import annotations

from colorsys import hsv_to_rgb

import numpy as np
from PIL import Image, ImageDraw

from ..vehicle.keypoints import NUM_KEYPOINTS, SEEN_FROM, SKELETON, SURFACES, visible_surfaces

_LEFT, _RIGHT, _HIDDEN = (255, 214, 0), (0, 220, 255), (255, 60, 60)
_ACROSS = (255, 255, 255)
_LEAST_DOT = 0.25  # of a dot of full confidence
SHEET_COLUMNS = 6
_FILL = 70  # opacity of a surface, of 255


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
        corners = [tuple(corner) for corner in keypoints[SURFACES[surface], :2].tolist()]
        draw.polygon(corners, fill=(*color, _FILL), outline=(*color, 255))
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
