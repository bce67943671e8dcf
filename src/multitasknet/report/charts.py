"""Charts as inline SVG, told apart by marks and dashes and not by colour alone."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from typing import Any

_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_DASHES = ("-", "--", "-.", ":")
_WIDEST, _LEAST = 8, 1.5  # points
_BEND = 0.15  # of a way's length


def line_chart(
    series: Mapping[str, Sequence[tuple[float, float]]],
    *,
    x_label: str,
    y_label: str,
    y_limits: tuple[float, float] | None = None,
) -> Any:
    """Lines by name, each a sequence of (x, y), as inline SVG."""

    def draw(axes: Any) -> None:
        from matplotlib.ticker import MaxNLocator

        looks = zip(cycle(_MARKERS), cycle(_DASHES), strict=False)
        for (name, points), (marker, dash) in zip(series.items(), looks, strict=False):
            x, y = [x for x, _ in points], [y for _, y in points]
            axes.plot(x, y, dash, label=name, marker=marker, markersize=3.5)
        if all(float(x).is_integer() for points in series.values() for x, _ in points):
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        if len(series) > 1:
            # Above the axes, where it hides no line.
            axes.figure.legend(frameon=False, loc="outside upper center", ncols=len(series))
        axes.set(xlabel=x_label, ylabel=y_label)
        axes.grid(alpha=0.3)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        if y_limits:
            axes.set_ylim(*y_limits)

    return _chart(draw, (6, 3.6))


def draw_map(places: Mapping[str, tuple[float, float]], ways: Mapping[tuple[str, str], int]) -> Any:
    """Cameras, north up, and curves as wide as many vehicles took them, as inline SVG.

    Args:
        places: latitude and longitude in degrees, by name.
        ways: vehicles from one camera to another.
    """
    middle = sum(latitude for latitude, _ in places.values()) / max(len(places), 1)
    # A degree of longitude is shorter than one of latitude.
    narrow = math.cos(math.radians(middle))
    points = {name: (east * narrow, north) for name, (north, east) in places.items()}
    most = max(ways.values(), default=1)
    ground = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none"}
    text = {"ha": "center", "va": "center", "parse_math": False, "bbox": ground}

    def draw(axes: Any) -> None:
        for (start, end), count in ways.items():
            (x, y), (to_x, to_y) = points[start], points[end]
            width = max(_WIDEST * count / most, _LEAST)
            arrow = {
                "arrowstyle": "-|>",
                # Bent to the right, so that both directions are seen.
                "connectionstyle": f"arc3,rad={_BEND}",
                "linewidth": width,
                "mutation_scale": 12 + 2 * width,
                "color": "#7ba0da",
                "shrinkB": 8,
            }
            axes.annotate("", (to_x, to_y), (x, y), arrowprops=arrow)
            side = _BEND / 2 * (to_y - y), -_BEND / 2 * (to_x - x)
            half = (x + to_x) / 2 + side[0], (y + to_y) / 2 + side[1]
            axes.annotate(str(count), half, color="#174a96", **text)
        for name, place in points.items():
            axes.plot(*place, "o", color="#1d2530", markersize=9)
            axes.annotate(name, place, (0, 13), textcoords="offset points", **text)
        axes.set_aspect("equal", adjustable="datalim")
        axes.margins(0.15)
        axes.set_axis_off()

    return _chart(draw, (9, 5.4))


def _chart(draw: Callable[[Any], None], size: tuple[float, float]) -> Any:
    from markupsafe import Markup
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    # Text stays text, and the same lines give the same bytes.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "multitasknet"}):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure.add_subplot())
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    return Markup(svg[svg.index("<svg") :])
