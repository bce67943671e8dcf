"""The page of an evaluation: metrics, curves, confusions, and what the ranking looks like."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..images import read_image
from ..ranking.distances import nearest, squared_distances
from ..ranking.metrics import RankingResult
from ..report.charts import line_chart
from ..report.page import Panel, Shot, thumbnail, write_page
from ..vehicle.cameras import same_camera
from .figures import part_columns
from .results import RANDOM, CardMetrics, Evaluation

_TOP = 10
_EACH = 3


def write_evaluation_report(
    evaluation: Evaluation,
    path: str | Path,
    *,
    card: CardMetrics | None = None,
) -> Path:
    """Write a self-contained page of the results.

    ``card`` are the metrics that the weights' card states, to print beside these.
    """
    rankings = {"plain": evaluation.ranking}
    if evaluation.reranked:
        rankings["re-ranked"] = evaluation.reranked
    return write_page(
        path,
        "evaluation.html",
        title="MultiTaskNet evaluation",
        evaluation=evaluation,
        settings=evaluation.settings,
        tables={title: part_columns(parts) for title, parts in evaluation.breakdown.items()},
        random=evaluation.settings.get("weights") == RANDOM,
        card=card,
        cmc=_cmc_chart(rankings),
        panels=retrieval_panels(evaluation),
    )


def retrieval_panels(evaluation: Evaluation, *, each: int = _EACH, top: int = _TOP) -> list[Panel]:
    """The best, median and worst queries by average precision, ``each`` of them, with results."""
    chosen = best_median_worst(evaluation.ranking.average_precisions, each)
    return [_panel(name, query, evaluation, top) for query, name in chosen.items()]


def best_median_worst(values: np.ndarray, each: int = _EACH) -> dict[int, str]:
    """Places of the largest, middle and least values, ``each`` of them, and which they are.

    NaN is left out; a place comes once.
    """
    valid = np.flatnonzero(~np.isnan(values))
    ranked = valid[np.argsort(-values[valid], kind="stable")]
    middle = max(len(ranked) // 2 - each // 2, 0)
    groups = {
        "Best": ranked[:each],
        "Median": ranked[middle : middle + each],
        "Worst": ranked[-each:],
    }
    # The groups of a few overlap.
    chosen: dict[int, str] = {}
    for name, places in groups.items():
        for place in places.tolist():
            chosen.setdefault(place, name)
    return chosen


def _panel(name: str, query: int, evaluation: Evaluation, top: int) -> Panel:
    dataset = evaluation.dataset
    record, gallery = dataset.query.records[query], dataset.gallery
    same_vehicle = gallery.vehicle_ids == record.vehicle_id
    left_out = same_vehicle & same_camera(record.camera_id, gallery.camera_ids)
    kept = np.flatnonzero(~left_out)
    distances = squared_distances(
        evaluation.query.embeddings[[query]], evaluation.gallery.embeddings[kept]
    )[0]
    order = nearest(distances, min(top, len(kept)))
    shown = kept[order].tolist()
    shots = [Shot(thumbnail(read_image(record.image)), "query", str(record.image), "query")]
    for position, distance in zip(shown, distances[order], strict=True):
        verdict = "match" if same_vehicle[position] else "miss"
        image = gallery.records[position].image
        shots.append(Shot(thumbnail(read_image(image)), f"{distance:.3g}", str(image), verdict))
    precision = evaluation.ranking.average_precisions[query]
    camera = f", camera {record.camera_id}" if record.camera_id >= 0 else ""
    title = f"{name}: vehicle {record.vehicle_id}{camera}, AP {100 * precision:.1f} %"
    return Panel(title, tuple(shots))


def _cmc_chart(rankings: Mapping[str, RankingResult]) -> object:
    """The cumulative matching characteristic of each ranking as inline SVG."""
    return line_chart(
        {name: list(enumerate(100 * one.cmc, start=1)) for name, one in rankings.items()},
        x_label="k",
        y_label="Rank-k, percent",
        y_limits=(0, 102),
    )
