"""Charts as inline SVG, told apart by marks and hatches and not by colour alone."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from typing import Any

_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_DASHES = ("-", "--", "-.", ":")
_HATCHES = ("", "////", "....", "xxxx")


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
            _legend(axes, len(series))

    return _chart(draw, x_label, y_label, y_limits)


def bar_chart(
    series: Mapping[str, Sequence[float]],
    names: Sequence[str],
    *,
    y_label: str,
    y_limits: tuple[float, float] | None = None,
) -> Any:
    """Bars beside each other under each name, NaN as none, as inline SVG."""

    def draw(axes: Any) -> None:
        width = 0.8 / len(series)
        bars = zip(series.items(), cycle(_HATCHES), strict=False)
        for place, ((name, values), hatch) in enumerate(bars):
            left = [one - 0.4 + width * (place + 0.5) for one in range(len(names))]
            axes.bar(left, values, width, label=name, hatch=hatch, edgecolor="white")
        turned = {"rotation": 30, "ha": "right"} if len(names) > 4 else {}
        axes.set_xticks(range(len(names)), names, **turned)
        _legend(axes, len(series))

    return _chart(draw, "", y_label, y_limits)


def _legend(axes: Any, columns: int) -> None:
    """Above the axes, where it hides no line."""
    axes.figure.legend(frameon=False, loc="outside upper center", ncols=columns)


def _chart(
    draw: Callable[[Any], None],
    x_label: str,
    y_label: str,
    y_limits: tuple[float, float] | None,
) -> Any:
    from markupsafe import Markup
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    # Text stays text, and the same lines give the same bytes.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "multitasknet"}):
        figure = Figure(figsize=(6, 3.6), layout="constrained")
        axes = figure.add_subplot()
        draw(axes)
        axes.set(xlabel=x_label, ylabel=y_label)
        axes.grid(alpha=0.3)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        if y_limits:
            axes.set_ylim(*y_limits)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    return Markup(svg[svg.index("<svg") :])
