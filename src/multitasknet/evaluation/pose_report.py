"""The page of a pose evaluation: metrics, curves, and what the keypoints look like."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..images import read_image
from ..report.charts import line_chart
from ..report.overlay import SIDE, draw_comparison
from ..report.page import Panel, Shot, thumbnail, write_page
from ..vehicle.keypoint_metrics import THRESHOLDS, calibration_error, published_thresholds
from .pose import AS_PUBLISHED, CALIBRATED_AT, PoseEvaluation
from .report import best_median_worst
from .results import RANDOM, CardMetrics, data_name

_EACH = 3
_CURVE = np.arange(31) / 100
_PERCENT = (0, 102)


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
        thresholds=THRESHOLDS,
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
