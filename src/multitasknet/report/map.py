"""A plain map of cameras, and of how many went from one to another, as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping
from html import escape
from typing import Any

_WIDTH, _HEIGHT, _MARGIN, _DOT = 800, 480, 60, 7
_WIDEST = 8


def draw_map(places: Mapping[str, tuple[float, float]], ways: Mapping[tuple[str, str], int]) -> Any:
    """Cameras, north up, and curves as wide as many vehicles took them, as inline SVG.

    Args:
        places: latitude and longitude in degrees, by name.
        ways: vehicles from one camera to another.
    """
    from markupsafe import Markup

    points, height = _project(places)
    most = max(ways.values(), default=1)
    parts = []
    for (start, end), count in ways.items():
        (x, y), (to_x, to_y) = points[start], points[end]
        length = math.hypot(to_x - x, to_y - y) or 1
        along, across = (to_x - x) / length, (to_y - y) / length
        # Bent to the right, so that both directions are seen, and short of the arrow's point.
        bend = 0.15 * length
        middle = (x + to_x) / 2 - bend * across, (y + to_y) / 2 + bend * along
        tip = to_x - 2 * _DOT * along, to_y - 2 * _DOT * across
        line = f"M{x:.1f} {y:.1f}Q{middle[0]:.1f} {middle[1]:.1f} {tip[0]:.1f} {tip[1]:.1f}"
        text = (x + to_x) / 2 - bend * across / 2, (y + to_y) / 2 + bend * along / 2
        parts.append(
            f'<g><title>{escape(start)} to {escape(end)}: {count}</title><path d="{line}" '
            f'stroke-width="{max(_WIDEST * count / most, 1.5):.1f}"/>'
            f'<text class="count" x="{text[0]:.1f}" y="{text[1]:.1f}">{count}</text></g>'
        )
    for name, (x, y) in points.items():
        parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{_DOT}"/>'
            f'<text x="{x:.1f}" y="{y - 2 * _DOT:.1f}">{escape(name)}</text>'
        )
    return Markup(
        f'<svg class="map" viewBox="0 0 {_WIDTH} {height:.0f}" role="img" '
        f'aria-label="Map of {len(points)} cameras and the ways between them">'
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="6" refY="4" markerWidth="14" '
        'markerHeight="14" markerUnits="userSpaceOnUse" orient="auto">'
        '<path d="M0 0L8 4L0 8z"/></marker></defs>' + "".join(parts) + "</svg>"
    )


def _project(
    places: Mapping[str, tuple[float, float]],
) -> tuple[dict[str, tuple[float, float]], float]:
    """Points in a picture as wide as the map, and its height."""
    middle = sum(latitude for latitude, _ in places.values()) / max(len(places), 1)
    narrow = math.cos(math.radians(middle))
    flat = {name: (longitude * narrow, -latitude) for name, (latitude, longitude) in places.items()}
    (left, right), (top, bottom) = (
        (min(side, default=0), max(side, default=0))
        for side in ([point[axis] for point in flat.values()] for axis in (0, 1))
    )
    room = _WIDTH - 2 * _MARGIN, _HEIGHT - 2 * _MARGIN
    scale = min(room[0] / max(right - left, 1e-9), room[1] / max(bottom - top, 1e-9))
    indent = (_WIDTH - (right - left) * scale) / 2
    points = {
        name: ((x - left) * scale + indent, (y - top) * scale + _MARGIN)
        for name, (x, y) in flat.items()
    }
    return points, (bottom - top) * scale + 2 * _MARGIN
