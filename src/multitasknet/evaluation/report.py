"""The pages of evaluations: metrics, curves, confusions, and the best, median and worst images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..images import read_image
from ..ranking.distances import nearest, squared_distances
from ..ranking.metrics import RankingResult
from ..report.charts import line_chart
from ..report.overlay import SIDE, draw_comparison
from ..report.page import Panel, Shot, thumbnail, write_page
from ..vehicle.keypoint_metrics import calibration_error, published_thresholds
from .figures import part_columns
from .pose import AS_PUBLISHED, CALIBRATED_AT, PoseEvaluation
from .results import RANDOM, CardMetrics, Evaluation, data_name

_TOP = 10
_EACH = 3
_CURVE = np.arange(31) / 100
_PERCENT = (0, 102)


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
    first_draw = evaluation.ranking.average_precisions[: len(evaluation.draw.labels.query_ids)]
    chosen = best_median_worst(first_draw, each)
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
    draw, dataset = evaluation.draw, evaluation.dataset
    records = (*dataset.query.records, *dataset.gallery.records)
    places = np.arange(len(records))
    embeddings, place = evaluation.outputs.embeddings, places[draw.queries][query]
    gallery = places[draw.gallery][draw.labels.ranked(query)]
    distances = squared_distances(embeddings[[place]], embeddings[gallery])[0]
    shown, record = nearest(distances, top), records[place]
    shots = [Shot(thumbnail(read_image(record.image)), "query", str(record.image), "query")]
    for found, distance in zip(gallery[shown], distances[shown], strict=True):
        same, image = records[found].vehicle_id == record.vehicle_id, records[found].image
        verdict = "match" if same else "miss"
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
        y_limits=_PERCENT,
    )


def write_pose_report(
    evaluation: PoseEvaluation,
    path: str | Path,
    *,
    card: CardMetrics | None = None,
) -> Path:
    """Write a self-contained page of the results; OutputError.

    ``card`` are the figures that the weights' card states, to print beside these.
    """
    titles = {"group": "keypoint group", "type": "vehicle type", "octant": "yaw octant"}
    return write_page(
        path,
        "pose_evaluation.html",
        title="Keypoint evaluation",
        evaluation=evaluation,
        settings=evaluation.settings,
        data=data_name(evaluation.settings["data"]),
        random=evaluation.settings["weights"] == RANDOM,
        as_published=AS_PUBLISHED,
        published_thresholds=published_thresholds(len(evaluation.records)),
        card=card,
        calibrated_at=CALIBRATED_AT,
        calibration_error=calibration_error,
        pck=_pck_chart(evaluation),
        reliability=_reliability_chart(evaluation),
        tables={titles[kind]: parts for kind, parts in evaluation.parts.items()},
        panels=pose_panels(evaluation),
    )


def pose_panels(evaluation: PoseEvaluation, *, each: int = _EACH) -> list[Panel]:
    """The best, median and worst images by the mean distance of their visible keypoints."""
    distances = evaluation.errors.by_image()
    panels: dict[str, list[Shot]] = {}
    for place, name in best_median_worst(-distances, each).items():
        image = evaluation.records[place].image
        drawn = draw_comparison(
            read_image(image), evaluation.estimates[place], evaluation.truth[place]
        )
        caption = f"{100 * distances[place]:.1f} %: {image.name}"
        panels.setdefault(name, []).append(Shot(thumbnail(drawn, SIDE), caption, str(image)))
    return [Panel(name, tuple(shots)) for name, shots in panels.items()]


def _pck_chart(evaluation: PoseEvaluation) -> object:
    errors = evaluation.errors
    chosen = {"visible": errors.visible, "hidden": errors.hidden}
    return line_chart(
        {
            name: [(100 * one, 100 * errors.pck(one, keypoints)) for one in _CURVE]
            for name, keypoints in chosen.items()
            if keypoints.any()
        },
        x_label="distance, percent of the longer side",
        y_label="keypoints at most so far away, percent",
        y_limits=_PERCENT,
    )


def _reliability_chart(evaluation: PoseEvaluation) -> object:
    curves = {
        name: [(one.confidence, 100 * one.right) for one in bins]
        for name, bins in evaluation.calibration.items()
        if bins
    }
    return line_chart(
        {**curves, "as it should be": [(0, 0), (1, 100)]},
        x_label="confidence",
        y_label=f"keypoints within {CALIBRATED_AT:g}, percent",
        y_limits=_PERCENT,
    )
