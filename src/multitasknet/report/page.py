"""Self-contained HTML pages, filled from templates."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..files import make_folder, replacing


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
    make_folder(path.parent)
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path
