"""``demo``: a photo through both shipped networks and a search in a small gallery, on one page."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from .data.file_names import camera_in, vehicle_in
from .errors import OutputError
from .files import check_output
from .gallery.gallery import DEMO, open_gallery
from .gallery.rows import Hit
from .hub.card import SYNTHETIC, assets_folder
from .images import find_images, read_image
from .inference.prediction import Prediction
from .inference.predictor import Predictor
from .report.overlay import draw_overlay
from .report.page import Panel, Shot, thumbnail, write_page

_TOP = 8
_SHOWN = 4  # colours and types
_LARGE = 420  # pixels of the photo on the page


@dataclass(frozen=True, eq=False)
class Demo:
    """What a demo found.

    Attributes:
        report: the page.
        predictions: of the photo, if one was given, then of the demo's queries.
        found: the nearest rows of the gallery for each.
        gallery: rows searched in.
        right: of the demo's own queries, how many have their vehicle in first place.
        seconds: it took, with the page.
    """

    report: Path
    predictions: Sequence[Prediction]
    found: Sequence[Sequence[Hit]]
    gallery: int
    right: int
    seconds: float


def run_demo(output: str | Path, *, photo: str | Path | None = None) -> Demo:
    """Find pose, colour and type of a photo, and vehicles in a small gallery, and write a page.

    The gallery and its queries are generated pictures of the package: vehicles that the shipped
    weights were not trained on.

    Args:
        output: a new or empty folder.
        photo: a crop of one vehicle; default is one of the demo's own.

    Raises:
        OutputError: the folder is not empty or cannot be written.
        ImageError: the photo cannot be read.
    """
    start, output = time.monotonic(), Path(output)
    if output.is_dir() and any(output.iterdir()):
        raise OutputError(f"{output}: something is there already; give a new or empty folder")
    check_output(output, folder=True)
    own = find_images(assets_folder() / "demo" / "query")
    queries = own if photo is None else [Path(photo), *own]
    predictor = Predictor(SYNTHETIC, pose=SYNTHETIC)
    predictions = predictor.predict(queries)
    gallery = open_gallery(DEMO, predictor)
    crops = find_images(assets_folder() / "demo" / "gallery")
    found = gallery.search(np.stack([one.embedding for one in predictions]), top=_TOP)
    right = sum(
        _is_same(query, hits[0]) for query, hits in zip(queries, found, strict=True) if query in own
    )
    report = write_page(
        output / "report.html",
        "demo.html",
        title="MultiTaskNet: a first look",
        photo=_photo(queries[0], predictions[0]),
        prediction=predictions[0],
        shown=_SHOWN,
        weights=predictor.engine.source,
        random=False,
        gallery=len(gallery),
        vehicles=len({vehicle_in(crop.name) for crop in crops}),
        queries=len(own),
        right=right,
        panels=[_panel(*one) for one in zip(queries, predictions, found, strict=True)],
    )
    return Demo(report, predictions, found, len(gallery), right, time.monotonic() - start)


def _is_same(query: Path, hit: Hit) -> bool:
    return vehicle_in(query.name) == vehicle_in(hit.row.image.name) != 0


def _photo(path: Path, prediction: Prediction) -> str:
    """The photo with its pose, large."""
    pixels = read_image(path)
    scale = _LARGE / max(pixels.shape[:2])
    enlarged = Image.fromarray(pixels).resize([round(side * scale) for side in pixels.shape[1::-1]])
    keypoints = prediction.pose.keypoints * np.array([scale, scale, 1])
    return thumbnail(np.asarray(draw_overlay(enlarged, keypoints)), _LARGE)


def _panel(query: Path, prediction: Prediction, hits: Sequence[Hit]) -> Panel:
    shots = [Shot(thumbnail(read_image(query)), _caption(query), str(query), "query")]
    for hit in hits:
        path = hit.row.image
        verdict = "" if not vehicle_in(query.name) else "match" if _is_same(query, hit) else "miss"
        caption = f"{_caption(path)}, {hit.distance:.3g}"
        shots.append(Shot(thumbnail(read_image(path)), caption, str(path), verdict))
    return Panel(f"{query.name}: {prediction.color} {prediction.type}", tuple(shots))


def _caption(path: Path) -> str:
    camera = camera_in(path.name)
    return f"camera {camera}" if camera > 0 else "photo"
