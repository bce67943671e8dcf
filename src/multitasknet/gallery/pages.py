"""Pages and files to look at: what was found, which crops were grouped, journeys."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ..errors import GalleryError, ImageError
from ..files import replacing
from ..images import Corners, open_picture, read_image
from ..report.charts import draw_map
from ..report.overlay import draw_agreement
from ..report.page import Panel, Shot, thumbnail, write_page
from .journeys import Journey, Stop, origins_and_destinations, ways
from .rows import Hit

if TYPE_CHECKING:
    from ..inference.predictor import Prediction, Predictor
    from .comparing import Comparison
    from .gallery import Gallery
    from .linking import Groups

# Vehicles on a contact sheet, and crops of each.
_VEHICLES, _CROPS = 200, 24
_CSV = (
    *("vehicle", "stop", "camera", "first", "last", "seconds", "track", "color", "type"),
    *("image", "id"),
)


def write_search_page(
    path: str | Path,
    queries: Sequence[Prediction],
    found: Sequence[Sequence[Hit]],
    gallery: Gallery,
    predictor: Predictor,
) -> Path:
    """Write a self-contained page with each query and its nearest rows; OutputError."""

    def caption(hit: Hit) -> str:
        facts = [f"{hit.distance:.3g}"]
        if hit.rate is not None:
            facts.append(f"{hit.rate.words} strangers as near")
        if hit.probability is not None:
            facts.append(f"same vehicle {100 * hit.probability:.0f} %")
        return ", ".join(facts)

    panels = []
    for query, hits in zip(queries, found, strict=True):
        shots = [_shot(hit.row.image, caption(hit), box=hit.row.box) for hit in hits]
        first = _shot(query.source, "query", "query")
        panels.append(Panel(f"{query.source}{query.doubt}", (first, *shots)))
    return write_page(
        path,
        "search.html",
        title="MultiTaskNet search",
        panels=panels,
        queries=len(queries),
        gallery=len(gallery),
        weights=predictor.engine.source,
        rates=gallery.rates,
        calibration=predictor.calibration,
        random=not predictor.engine.source,
    )


def write_contact_sheet(path: str | Path, groups: Groups) -> Path:
    """Write a self-contained page with the crops of each vehicle, most crops first; OutputError."""
    counts = np.bincount(groups.vehicles)
    largest = [one for one in np.argsort(-counts, kind="stable").tolist() if counts[one] > 1]
    boxes = groups.boxes or (None,) * len(groups.images)
    panels = []
    for vehicle in largest[:_VEHICLES]:
        places = np.flatnonzero(groups.vehicles == vehicle).tolist()
        shots = tuple(
            _shot(groups.images[place], groups.images[place].name, box=boxes[place])
            for place in places[:_CROPS]
        )
        more = f", of which {_CROPS} are shown" if len(places) > _CROPS else ""
        panels.append(Panel(f"vehicle {vehicle}: {len(places)} crops{more}", shots))
    return write_page(
        path,
        "groups.html",
        title="MultiTaskNet groups",
        panels=panels,
        crops=len(groups.vehicles),
        vehicles=len(largest),
        alone=int((counts == 1).sum()),
        max_distance=groups.max_distance,
        random=False,
    )


def draw_comparison(path: Path, images: Sequence[Path], compared: Comparison) -> Path:
    """Draw two images with the surfaces that agree, as PNG; OutputError."""
    parts = compared.parts
    seen = [surface for surface, part in enumerate(parts) if part.seen_in_both]
    drawn = draw_agreement(
        [Image.fromarray(read_image(image)) for image in images],
        [one.pose.keypoints for one in (compared.first, compared.second)],
        seen,
        {surface: parts[surface].contribution or 0 for surface in seen if parts[surface].agrees},
    )
    with replacing(path) as part:
        drawn.save(part, "PNG")
    return path


def write_journeys(
    path: Path,
    journeys: Sequence[Journey],
    cameras: Mapping[str, tuple[float, float]] | None = None,
) -> Path:
    """Write journeys in the order given, as the path's suffix says.

    ``.html`` is a self-contained page with each vehicle's way and pictures, ``.csv`` has a line for
    each row, ``.geojson`` the cameras as points and the ways as lines between them (RFC 7946).
    Cameras have latitude and longitude; None for a page without a map. GalleryError if one is
    missing; OutputError.
    """
    if path.suffix == ".csv":
        return _write_csv(path, journeys)
    if cameras is not None or path.suffix == ".geojson":
        _check_places(journeys, cameras or {})
    if path.suffix == ".geojson":
        features = _features(journeys, cameras or {})
        with replacing(path) as part:
            part.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
        return path
    taken, whole = ways(journeys), origins_and_destinations(journeys)
    matrix = {f"to {end}": {start: "" for start, _ in whole} for _, end in whole}
    for (start, end), one in whole.items():
        matrix[f"to {end}"][start] = str(one.vehicles)
    named = {" → ".join(way): one for way, one in taken.items()}
    return write_page(
        path,
        "journeys.html",
        title="MultiTaskNet journeys",
        panels=[_panel(one) for one in journeys[:_VEHICLES]],
        vehicles=len(journeys),
        travelled=sum(len(one.stops) > 1 for one in journeys),
        map=cameras and draw_map(cameras, {way: one.vehicles for way, one in taken.items()}),
        whole=matrix,
        taken={
            "vehicles": {way: one.vehicles for way, one in named.items()},
            "median": {way: _duration(one.median) for way, one in named.items()},
            "spread": {way: _duration(one.spread) for way, one in named.items()},
        },
    )


def _write_csv(path: Path, journeys: Iterable[Journey]) -> Path:
    with replacing(path) as part, part.open("w", encoding="utf-8", newline="") as file:
        lines = csv.DictWriter(file, _CSV, extrasaction="ignore")
        lines.writeheader()
        for journey in journeys:
            stops = {
                row.id: {"stop": number, "seconds": stop.seconds}
                for number, stop in enumerate(journey.stops, start=1)
                for row in stop.rows
            }
            lines.writerows(vars(row) | stops.get(row.id, {}) for row in journey.rows)
    return path


def _features(
    journeys: Sequence[Journey], cameras: Mapping[str, tuple[float, float]]
) -> list[dict[str, Any]]:
    """Cameras as points, longitude first, and journeys of several cameras as lines."""
    found = [_feature("Point", cameras[name][::-1], camera=name) for name in sorted(cameras)]
    for one in journeys:
        if len(one.stops) > 1:
            line = _feature(
                "LineString",
                [cameras[stop.camera][::-1] for stop in one.stops],
                vehicle=one.vehicle,
                cameras=[stop.camera for stop in one.stops],
                first=[stop.first.isoformat() for stop in one.stops],
                last=[stop.last.isoformat() for stop in one.stops],
            )
            found.append(line)
    return found


def _feature(kind: str, where: Sequence[Any], **facts: Any) -> dict[str, Any]:
    geometry = {"type": kind, "coordinates": where}
    return {"type": "Feature", "geometry": geometry, "properties": facts}


def _check_places(journeys: Iterable[Journey], cameras: Mapping[str, object]) -> None:
    for camera in sorted({stop.camera for one in journeys for stop in one.stops}):
        if camera not in cameras:
            raise GalleryError(
                f"camera {camera!r} is not among {', '.join(cameras) or 'the cameras given'}; add "
                f"its place"
            )


def _panel(journey: Journey) -> Panel:
    title, shown = "times or cameras unknown", journey.rows[:_CROPS]
    captions = [row.camera or "camera unknown" for row in shown]
    if stops := journey.stops:
        title = f"{stops[0].first:%Y-%m-%d}: {' → '.join(stop.camera for stop in stops)}"
        shown, captions = tuple(stop.rows[0] for stop in stops), list(map(_passed, stops))
    both = zip(shown, captions, strict=True)
    shots = tuple(_shot(row.image, caption, box=row.box) for row, caption in both)
    return Panel(f"Vehicle {journey.vehicle}, {title}", shots)


def _passed(stop: Stop) -> str:
    facts = [stop.camera, f"{stop.first:%H:%M:%S}"]
    if stop.seconds is not None:
        facts.append(f"{_duration(stop.seconds)} later")
    if len(stop.rows) > 1:
        facts.append(f"1 of {len(stop.rows)} pictures")
    return ", ".join(facts)


def _duration(seconds: float) -> str:
    if abs(seconds) < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if abs(seconds) < 7200 else f"{seconds / 3600:.1f} h"


def _shot(
    image: str | Path, caption: str, verdict: str = "", *, box: Corners | None = None
) -> Shot:
    try:
        pixels, _ = open_picture(image, box=box).decode()
    except ImageError:
        # A row may outlive its picture.
        pixels, caption = np.full((60, 80, 3), 200, np.uint8), f"{caption}, picture not found"
    return Shot(thumbnail(pixels), caption, str(image), verdict)
