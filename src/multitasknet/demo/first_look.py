"""A photo understood and found in a gallery, from the shipped weights, on one page."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..data.labels import vehicle_in
from ..data.layouts import camera_in
from ..errors import MultiTaskNetError
from ..files import check_output, make_folder
from ..hub.card import SYNTHETIC, assets_folder
from ..images import find_images, read_image
from ..inference.predictor import Predictor
from ..models.multitasknet.decoding import Prediction
from ..report.overlay import draw_overlay
from ..report.page import Panel, Shot, thumbnail, write_page
from ..retrieval.search import Match, build_index

_TOP = 8
_SHOWN = 4
_LARGE = 420


class DemoError(MultiTaskNetError, ValueError):
    """A demo that cannot be run; says why."""


@dataclass(frozen=True, eq=False)
class FirstLook:
    """What a demo came to.

    Attributes:
        report: the page.
        predictions: of the photo, and behind it of the demo's other queries.
        found: the gallery's nearest images of each.
        gallery: images searched in.
        right: of the demo's own queries, how many have their vehicle in first place.
        seconds: it took, the page included.
    """

    report: Path
    predictions: Sequence[Prediction]
    found: Sequence[Sequence[Match]]
    gallery: int
    right: int
    seconds: float


def look(
    output: str | Path,
    *,
    photo: str | Path | None = None,
    weights: str | Path = SYNTHETIC,
    pose: str | Path = SYNTHETIC,
    progress: bool = True,
    **options: Any,
) -> FirstLook:
    """Find pose, colour and type of a photo, and vehicles in a small gallery, and report.

    The gallery and its queries are generated pictures that travel in the package: vehicles that the
    shipped weights were not trained on.

    Args:
        output: a new or empty folder.
        photo: a crop of one vehicle; default is one of the demo's own.
        weights, pose: of the two networks, as in :class:`multitasknet.Predictor`.
        progress: draw progress bars.
        options: more of the predictor's.

    Raises:
        DemoError: the folder is not empty.
        ImageError: the photo cannot be read.
    """
    start = time.monotonic()
    output = new_folder(output)
    own = find_images(assets_folder() / "demo" / "query")
    queries = own if photo is None else [Path(photo), *own]
    read_image(queries[0])
    predictor = Predictor(weights, pose=pose, progress=progress, **options)
    predictions = predictor.predict(queries)
    images = find_images(assets_folder() / "demo" / "gallery")
    make_folder(output)
    index = build_index(predictor, images, folder=output, progress=progress)
    embeddings = np.stack([one.embedding for one in predictions])
    found = [
        [Match(index.names[row], float(distance)) for distance, row in zip(*one, strict=True)]
        for one in zip(*index.search(embeddings, _TOP), strict=True)
    ]
    right = sum(
        is_same(query, matches[0])
        for query, matches in zip(queries, found, strict=True)
        if query in own
    )
    report = write_page(
        output / "report.html",
        "first_look.html",
        title="MultiTaskNet: a first look",
        photo=_photo(queries[0], predictions[0]),
        prediction=predictions[0],
        shown=_SHOWN,
        weights=predictor.engine.source,
        random=not predictor.engine.source,
        gallery=len(images),
        vehicles=len({vehicle_in(image.name) for image in images}),
        queries=len(own),
        right=right,
        panels=[_panel(*one) for one in zip(queries, predictions, found, strict=True)],
    )
    return FirstLook(report, predictions, found, len(images), right, time.monotonic() - start)


def new_folder(output: str | Path) -> Path:
    """The folder's path; DemoError if something is there already, OutputError."""
    output = Path(output)
    if output.is_file() or (output.is_dir() and any(output.iterdir())):
        raise DemoError(f"{output}: something is there already; give a new or empty folder")
    check_output(output, folder=True)
    return output


def is_same(query: Path, match: Match) -> bool:
    """Whether both names state the same vehicle."""
    return vehicle_in(query.name) == vehicle_in(Path(match.name).name) != 0


def _photo(path: Path, prediction: Prediction) -> str:
    """The photo with its pose, large."""
    pixels = read_image(path)
    scale = _LARGE / max(pixels.shape[:2])
    size = round(pixels.shape[1] * scale), round(pixels.shape[0] * scale)
    keypoints = prediction.pose.keypoints * np.array([scale, scale, 1])
    enlarged = Image.fromarray(pixels).resize(size)
    return thumbnail(np.asarray(draw_overlay(enlarged, keypoints)), _LARGE)


def _panel(query: Path, prediction: Prediction, matches: Sequence[Match]) -> Panel:
    shots = [Shot(thumbnail(read_image(query)), _said(query), str(query), "query")]
    for match in matches:
        path = Path(match.name)
        verdict = "" if not vehicle_in(query.name) else "match" if is_same(query, match) else "miss"
        caption = f"{_said(path)}, {match.distance:.3g}"
        shots.append(Shot(thumbnail(read_image(path)), caption, match.name, verdict))
    return Panel(f"{query.name}: {prediction.color} {prediction.type}", tuple(shots))


def _said(path: Path) -> str:
    camera = camera_in(path.name)
    return f"camera {camera}" if camera > 0 else "photo"
