"""The page of an evaluation: metrics, curves, confusions, and what the ranking looks like."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..data.pipeline import read_images
from ..data.records import VehicleDataset
from ..ranking.distances import nearest, squared_distances
from ..ranking.metrics import RankingResult
from ..report.charts import line_chart
from ..report.page import Panel, Shot, write_page
from ..report.pictures import thumbnail
from ..vehicle.cameras import same_camera
from .results import RANDOM, Evaluation

_TOP = 10
_EACH = 3


def write_evaluation_report(
    evaluation: Evaluation,
    dataset: VehicleDataset,
    path: str | Path,
    *,
    title: str = "MultiTaskNet evaluation",
    published: Mapping[str, float] | None = None,
) -> Path:
    """Write ``report.html``, self-contained.

    Args:
        evaluation: the results on ``dataset``.
        dataset: where the pictures come from.
        path: the file.
        title: the page's heading.
        published: metrics to print beside these, such as the card's.
    """
    rankings = {"plain": evaluation.ranking}
    if evaluation.reranked:
        rankings["re-ranked"] = evaluation.reranked
    return write_page(
        path,
        "evaluation.html",
        title=title,
        settings=evaluation.settings,
        random=evaluation.settings.get("weights") == RANDOM,
        ranking=evaluation.ranking,
        metrics=evaluation.metrics,
        reranked=evaluation.reranked_metrics,
        card=dict(published or {}),
        cmc=cmc_chart(rankings),
        color=evaluation.color,
        type=evaluation.type,
        panels=retrieval_panels(evaluation, dataset),
    )


def retrieval_panels(
    evaluation: Evaluation, dataset: VehicleDataset, *, each: int = _EACH, top: int = _TOP
) -> list[Panel]:
    """The best, median and worst queries by average precision, ``each`` of them, with results."""
    precisions = evaluation.ranking.average_precisions
    valid = np.flatnonzero(~np.isnan(precisions))
    ranked = valid[np.argsort(-precisions[valid], kind="stable")]
    middle = max(len(ranked) // 2 - each // 2, 0)
    groups = {
        "Best": ranked[:each],
        "Median": ranked[middle : middle + each],
        "Worst": ranked[-each:],
    }
    seen: set[int] = set()
    panels = []
    for name, queries in groups.items():
        for query in queries.tolist():
            if query not in seen:
                seen.add(query)
                panels.append(_panel(name, query, evaluation, dataset, top))
    return panels


def _panel(
    name: str, query: int, evaluation: Evaluation, dataset: VehicleDataset, top: int
) -> Panel:
    record = dataset.query.records[query]
    gallery_ids, gallery_cameras = dataset.gallery.vehicle_ids, dataset.gallery.camera_ids
    same_vehicle = gallery_ids == record.vehicle_id
    kept = np.flatnonzero(~(same_vehicle & same_camera(record.camera_id, gallery_cameras)))
    distances = squared_distances(
        evaluation.query.embeddings[[query]], evaluation.gallery.embeddings[kept]
    )[0]
    order = nearest(distances, min(top, len(kept)))
    shown = kept[order]
    (query_pixels,) = read_images(dataset.query, [query])
    shots = [Shot(thumbnail(query_pixels), "query", str(record.image), "query")]
    for position, pixels, distance in zip(
        shown, read_images(dataset.gallery, shown.tolist()), distances[order], strict=True
    ):
        verdict = "match" if same_vehicle[position] else "miss"
        found = dataset.gallery.records[position]
        shots.append(Shot(thumbnail(pixels), f"{distance:.3g}", str(found.image), verdict))
    precision = evaluation.ranking.average_precisions[query]
    camera = f", camera {record.camera_id}" if record.camera_id >= 0 else ""
    title = f"{name}: vehicle {record.vehicle_id}{camera}, AP {100 * precision:.1f} %"
    return Panel(title, tuple(shots))


def cmc_chart(rankings: Mapping[str, RankingResult], *, top: int | None = None) -> object:
    """The curves of some rankings by name, up to rank ``top``."""
    return line_chart(
        {name: list(enumerate(100 * one.cmc[:top], start=1)) for name, one in rankings.items()},
        x_label="k",
        y_label="Rank-k, percent",
        y_limits=(0, 102),
    )
