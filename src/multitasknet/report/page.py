"""Self-contained HTML pages, filled from templates, with the pictures inside."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ..files import replacing
from ..images import encode_jpeg

_SIDE = 160


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


def thumbnail(pixels: np.ndarray, side: int = _SIDE) -> str:
    """A JPEG of an image, uint8 ``[H, W, 3]``, at most ``side`` long, as a data URI."""
    height, width = pixels.shape[:2]
    scale = min(side / max(height, width), 1)
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    return f"data:image/jpeg;base64,{base64.b64encode(encode_jpeg(small, 80)).decode()}"


def write_page(path: str | Path, template: str, **content: Any) -> Path:
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
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8", errors="backslashreplace")
    return path
