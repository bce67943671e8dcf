"""Poses of whole splits, for what takes them all at once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from ..data.records import Split
from .pose import PoseEstimator
from .predictor import Predictor


def estimate_missing(
    split: Split,
    estimator: PoseEstimator | None,
    *,
    folder: Path | None = None,
    workers: int = 1,
    progress: bool = True,
) -> Split:
    """The split with keypoints for the records that have none; None leaves it as it is.

    Raises:
        ImageError: a picture cannot be read.
    """
    missing = [row for row, record in enumerate(split.records) if record.keypoints is None]
    if estimator is None or not missing:
        return split
    records = list(split.records)
    hidden = None if progress else True
    shots = estimator.stream(records[row] for row in missing)
    with tqdm(desc=f"pose {split.name}", total=len(missing), unit="image", disable=hidden) as bar:
        for row, shot in zip(missing, shots, strict=True):
            records[row] = replace(records[row], keypoints=shot.pose.keypoints, estimated=True)
            bar.update()
    return replace(split, records=tuple(records))


def complete_poses(
    predictor: Predictor, split: Split, *, folder: Path | None = None, progress: bool = True
) -> Split:
    """:func:`estimate_missing` by the predictor's own estimator."""
    return estimate_missing(split, predictor.pose_estimator, progress=progress)
