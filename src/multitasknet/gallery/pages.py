"""Pages to look at: what was found for queries, and which crops were grouped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from ..errors import ImageError
from ..files import replacing
from ..images import Corners, open_picture, read_image
from ..report.charts import draw_map
from ..report.overlay import draw_agreement
from ..report.page import Panel, Shot, thumbnail, write_page
from .journeys import (
    Journey,
    Stop,
    check_places,
    origins_and_destinations,
    ways,
    write_csv,
    write_geojson,
)
from .rows import Hit

if TYPE_CHECKING:
    from ..inference.predictor import Prediction, Predictor
    from .comparing import Comparison
    from .gallery import Gallery
    from .linking import Groups

# Vehicles on a contact sheet, and crops of each.
_VEHICLES, _CROPS = 200, 24


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

    panels = [
        Panel(
            f"{query.source}{query.doubt}",
            (
                _shot(query.source, "query", "query"),
                *(_shot(hit.row.image, caption(hit), box=hit.row.box) for hit in hits),
            ),
        )
        for query, hits in zip(queries, found, strict=True)
    ]
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
    """Write a self-contained page with the crops of each vehicle, those with most crops first.

    Raises:
        OutputError: the page cannot be written.
    """
    counts = np.bincount(groups.vehicles)
    order = np.argsort(-counts, kind="stable")
    largest = [int(one) for one in order if counts[one] > 1]
    panels = []
    for vehicle in largest[:_VEHICLES]:
        places = np.flatnonzero(groups.vehicles == vehicle)
        boxes = groups.boxes or (None,) * len(groups.images)
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
    each row, ``.geojson`` the cameras as points and the ways as lines.

    Args:
        cameras: latitude and longitude of all of them, for a map; None for none.

    Raises:
        GalleryError: a camera's place is not among these.
        OutputError: the file cannot be written.
    """
    if path.suffix == ".csv":
        return write_csv(path, journeys)
    if path.suffix == ".geojson":
        return write_geojson(path, journeys, cameras or {})
    if cameras is not None:
        check_places(journeys, cameras)
    taken, whole = ways(journeys), origins_and_destinations(journeys)
    matrix = {f"to {end}": {start: "" for start, _ in whole} for _, end in whole}
    for (start, end), one in whole.items():
        matrix[f"to {end}"][start] = str(one.vehicles)
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
            name: {" → ".join(way): fact(one) for way, one in taken.items()}
            for name, fact in (
                ("vehicles", lambda one: one.vehicles),
                ("median", lambda one: _duration(one.median)),
                ("spread", lambda one: _duration(one.spread)),
            )
        },
    )


def _panel(journey: Journey) -> Panel:
    stops = journey.stops
    if not stops:
        shots = [
            _shot(row.image, row.camera or "camera unknown", box=row.box)
            for row in journey.rows[:_CROPS]
        ]
        return Panel(f"Vehicle {journey.vehicle}, times or cameras unknown", tuple(shots))
    way = " → ".join(stop.camera for stop in stops)
    title = f"Vehicle {journey.vehicle}, {stops[0].first:%Y-%m-%d}: {way}"
    return Panel(
        title,
        tuple(_shot(stop.rows[0].image, _passed(stop), box=stop.rows[0].box) for stop in stops),
    )


def _passed(stop: Stop) -> str:
    """A camera, when it saw the vehicle, and how long after the one before."""
    facts = [stop.camera, f"{stop.first:%H:%M:%S}"]
    if stop.seconds is not None:
        facts.append(f"{_duration(stop.seconds)} later")
    if len(stop.rows) > 1:
        facts.append(f"1 of {len(stop.rows)} pictures")
    return ", ".join(facts)


def _duration(seconds: float) -> str:
    """Seconds for people."""
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
