"""Self-contained HTML reports: pages from templates, pictures and charts inside the file."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .files import make_folder, replacing

_THUMBNAIL = 160


@dataclass(frozen=True)
class Shot:
    """One picture in a panel.

    Attributes:
        image: a data URI, see :func:`thumbnail`.
        caption: the line below it.
        name: what shows under the pointer.
        verdict: ``query``, ``match``, ``miss`` or empty: the frame's colour.
    """

    image: str
    caption: str
    name: str = ""
    verdict: str = ""


@dataclass(frozen=True)
class Panel:
    """A titled row of pictures: a query and its nearest gallery images."""

    title: str
    shots: tuple[Shot, ...]


def write_report(path: str | Path, template: str, **content: Any) -> Path:
    """Fill a template of ``templates/`` and write the page, whole or not at all.

    Raises:
        OutputError: the file cannot be written.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    path = Path(path)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template(template).render(**content)
    make_folder(path.parent)
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


def thumbnail(pixels: np.ndarray, side: int = _THUMBNAIL) -> str:
    """A small JPEG of an image, uint8 ``[H, W, 3]``, as a data URI."""
    image = Image.fromarray(pixels)
    image.thumbnail((side, side))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def line_chart(
    series: Mapping[str, Sequence[tuple[float, float]]],
    *,
    x_label: str,
    y_label: str,
    y_limits: tuple[float, float] | None = None,
    x_log: bool = False,
) -> Any:
    """Lines by name, each a sequence of (x, y), as inline SVG."""
    from markupsafe import Markup
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    # Text stays text, and the same lines give the same bytes.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "multitasknet"}):
        figure = Figure(figsize=(6, 3.6), layout="constrained")
        axes = figure.add_subplot()
        for name, points in series.items():
            axes.plot(*zip(*points, strict=True), label=name, marker="o", markersize=3)
        axes.set(xlabel=x_label, ylabel=y_label)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        if y_limits:
            axes.set_ylim(*y_limits)
        if x_log:
            axes.set_xscale("log")
        if len(series) > 1:
            axes.legend(frameon=False)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    return Markup(svg[svg.index("<svg") :])
