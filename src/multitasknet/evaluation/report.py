"""The pages of evaluations: metrics, curves, confusions, and the best, median and worst images."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..images import read_image
from ..ranking.distances import nearest, squared_distances
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
    evaluation: Evaluation, path: str | Path, *, card: CardMetrics | None = None
) -> Path:
    """Write a self-contained page of the results; OutputError.

    ``card`` are the metrics that the weights' card states, to print beside these.
    """
    curves = {
        name: list(enumerate(100 * one.cmc, start=1)) for name, one in evaluation.rankings.items()
    }
    return write_page(
        path,
        "evaluation.html",
        title="MultiTaskNet evaluation",
        evaluation=evaluation,
        settings=evaluation.settings,
        tables={title: part_columns(parts) for title, parts in evaluation.breakdown.items()},
        random=evaluation.settings.get("weights") == RANDOM,
        card=card,
        cmc=line_chart(curves, x_label="k", y_label="Rank-k, percent", y_limits=_PERCENT),
        panels=retrieval_panels(evaluation),
    )


def retrieval_panels(evaluation: Evaluation, *, each: int = _EACH) -> list[Panel]:
    """The best, median and worst queries by average precision, ``each`` of them, with results."""
    first_draw = evaluation.ranking.average_precisions[: len(evaluation.draw.labels.query_ids)]
    chosen = best_median_worst(first_draw, each)
    return [_panel(name, query, evaluation) for query, name in chosen.items()]


def best_median_worst(values: np.ndarray, each: int = _EACH) -> dict[int, str]:
    """Places of the largest, middle and least values, ``each`` of them, and which they are.

    NaN is left out; a place comes once, though the groups of a few overlap.
    """
    valid = np.flatnonzero(~np.isnan(values))
    ranked = valid[np.argsort(-values[valid], kind="stable")].tolist()
    middle = max(len(ranked) // 2 - each // 2, 0)
    groups = {
        "Best": ranked[:each],
        "Median": ranked[middle : middle + each],
        "Worst": ranked[-each:],
    }
    chosen: dict[int, str] = {}
    for name, places in groups.items():
        chosen |= {place: name for place in places if place not in chosen}
    return chosen


def _panel(name: str, query: int, evaluation: Evaluation) -> Panel:
    draw, records = evaluation.draw, evaluation.dataset.held_out.records
    places, embeddings = np.arange(len(records)), evaluation.outputs.embeddings
    place = places[draw.queries][query]
    gallery = places[draw.gallery][draw.labels.ranked(query)]
    distances = squared_distances(embeddings[[place]], embeddings[gallery])[0]
    shown, record = nearest(distances, _TOP), records[place]
    shots = [Shot(thumbnail(read_image(record.image)), "query", str(record.image), "query")]
    for found, distance in zip(gallery[shown], distances[shown], strict=True):
        image = records[found].image
        verdict = "match" if records[found].vehicle_id == record.vehicle_id else "miss"
        shots.append(Shot(thumbnail(read_image(image)), f"{distance:.3g}", str(image), verdict))
    precision = evaluation.ranking.average_precisions[query]
    camera = f", camera {record.camera_id}" if record.camera_id >= 0 else ""
    title = f"{name}: vehicle {record.vehicle_id}{camera}, AP {100 * precision:.1f} %"
    return Panel(title, tuple(shots))


def write_pose_report(
    evaluation: PoseEvaluation, path: str | Path, *, card: CardMetrics | None = None
) -> Path:
    """Write a self-contained page of the results; OutputError.

    ``card`` are the figures that the weights' card states, to print beside these.
    """
    errors = evaluation.errors
    shares = {
        name: [(100 * one, 100 * errors.pck(one, keypoints)) for one in _CURVE]
        for name, keypoints in evaluation.kinds.items()
        if keypoints.any()
    }
    reliability = {
        name: [(one.confidence, 100 * one.right) for one in bins]
        for name, bins in evaluation.calibration.items()
        if bins
    }
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
        pck=line_chart(
            shares,
            x_label="distance, percent of the longer side",
            y_label="keypoints at most so far away, percent",
            y_limits=_PERCENT,
        ),
        reliability=line_chart(
            {**reliability, "as it should be": [(0, 0), (1, 100)]},
            x_label="confidence",
            y_label=f"keypoints within {CALIBRATED_AT:g}, percent",
            y_limits=_PERCENT,
        ),
        tables={titles[kind]: parts for kind, parts in evaluation.parts.items()},
        panels=pose_panels(evaluation),
    )


def pose_panels(evaluation: PoseEvaluation, *, each: int = _EACH) -> list[Panel]:
    """The best, median and worst images by the mean distance of their visible keypoints."""
    distances = evaluation.errors.by_image()
    panels: dict[str, list[Shot]] = {}
    for place, name in best_median_worst(-distances, each).items():
        image = evaluation.records[place].image
        estimate, truth = evaluation.estimates[place], evaluation.truth[place]
        drawn = thumbnail(draw_comparison(read_image(image), estimate, truth), SIDE)
        caption = f"{100 * distances[place]:.1f} %: {image.name}"
        panels.setdefault(name, []).append(Shot(drawn, caption, str(image)))
    return [Panel(name, tuple(shots)) for name, shots in panels.items()]
