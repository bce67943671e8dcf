"""Estimated poses of whole data sets, kept beside the data, so that none is estimated twice."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..data.records import Split
from ..files import file_sha256
from ..hub.fetch import default_cache_dir
from ..images import read_image
from ..vehicle.keypoints import NUM_KEYPOINTS
from .pose_estimator import PoseEstimator
from .predictor import Predictor

logger = logging.getLogger(__name__)

STORE = "estimated_poses.sqlite"
_TABLE = """CREATE TABLE IF NOT EXISTS poses
(estimator TEXT, picture TEXT, keypoints BLOB, PRIMARY KEY (estimator, picture)) WITHOUT ROWID"""
_SECONDS_FOR_OTHERS = 60
_POSE_BYTES = NUM_KEYPOINTS * 3 * 4


def estimate_missing(
    split: Split,
    estimator: PoseEstimator | None,
    *,
    folder: Path | None = None,
    workers: int = 1,
    progress: bool = True,
) -> Split:
    """The split with keypoints for the records that have none.

    They are kept in ``estimated_poses.sqlite``, by the picture's content and all that makes the
    estimate; an interrupted call leaves those that it had, and the next one goes on behind them.

    Args:
        split: whose images.
        estimator: what finds them; None leaves the split as it is.
        folder: where they are kept, such as the data set's root; the cache if that is None or
            cannot be written.
        workers: threads that read and decode.
        progress: draw a progress bar on a terminal.

    Raises:
        ImageError: a picture cannot be read.
    """
    missing = [row for row, record in enumerate(split.records) if record.keypoints is None]
    if estimator is None or not missing:
        return split
    pictures = dict(zip(missing, _pictures(split, missing), strict=True))
    with closing(_open_store(folder)) as store:
        found = _find(store, estimator.origin, set(pictures.values()))
        rows = [row for row in missing if pictures[row] not in found]
        hidden = None if progress else True
        with tqdm(desc=f"pose {split.name}", total=len(rows), unit="image", disable=hidden) as bar:
            for batch in _batches(rows, estimator.batch_size):
                poses = estimator.estimate_pixels(_read(split, batch, workers))
                fresh = {
                    pictures[row]: pose.keypoints for row, pose in zip(batch, poses, strict=True)
                }
                _keep(store, estimator.origin, fresh)
                found |= fresh
                bar.update(len(batch))
    records = list(split.records)
    for row, picture in pictures.items():
        records[row] = replace(records[row], keypoints=found[picture], estimated=True)
    return replace(split, records=tuple(records))


def complete_poses(
    predictor: Predictor, split: Split, *, folder: Path | None = None, progress: bool = True
) -> Split:
    """:func:`estimate_missing` by the predictor's own estimator; what stays missing is logged."""
    predictor.warn_of_missing_pose([record.keypoints for record in split.records])
    return estimate_missing(split, predictor.pose_estimator, folder=folder, progress=progress)


def _pictures(split: Split, rows: Sequence[int]) -> Iterable[str]:
    """What tells the pictures of some rows apart: their contents."""
    return [file_sha256(split.records[row].image) for row in rows]


def _read(split: Split, rows: Sequence[int], workers: int) -> list[np.ndarray]:
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(read_image, (split.records[row].image for row in rows)))


def _batches(rows: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def _open_store(folder: Path | None) -> sqlite3.Connection:
    if folder is not None:
        try:
            return _connect(folder / STORE)
        except sqlite3.OperationalError as error:
            logger.info("%s: poses are kept in the cache instead (%s)", folder, error)
    cache = default_cache_dir()
    try:
        cache.mkdir(parents=True, exist_ok=True)
        return _connect(cache / STORE)
    except (OSError, sqlite3.OperationalError) as error:
        logger.warning("%s: estimated poses are not kept (%s)", cache, error)
        return _connect(":memory:")


def _connect(path: Path | str) -> sqlite3.Connection:
    """An open store that can be written; one that is damaged is begun anew."""
    store = sqlite3.connect(path, timeout=_SECONDS_FOR_OTHERS)
    try:
        with store:
            store.execute(_TABLE)
            # Finds out now whether it can be written.
            store.execute("DELETE FROM poses WHERE estimator IS NULL")
        (verdict,) = store.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise sqlite3.DatabaseError(verdict)
        return store
    except sqlite3.OperationalError:
        store.close()
        raise
    except sqlite3.DatabaseError as error:
        store.close()
        logger.warning("%s is damaged (%s); its poses are estimated again", path, error)
        Path(path).unlink()
        return _connect(path)


def _find(store: sqlite3.Connection, estimator: str, pictures: set[str]) -> dict[str, np.ndarray]:
    rows = store.execute("SELECT picture, keypoints FROM poses WHERE estimator = ?", (estimator,))
    shape = NUM_KEYPOINTS, 3
    return {
        picture: np.frombuffer(keypoints, np.float32).reshape(shape)
        for picture, keypoints in rows
        if picture in pictures and isinstance(keypoints, bytes) and len(keypoints) == _POSE_BYTES
    }


def _keep(store: sqlite3.Connection, estimator: str, poses: Mapping[str, np.ndarray]) -> None:
    with store:
        store.executemany(
            "INSERT OR REPLACE INTO poses VALUES (?, ?, ?)",
            [(estimator, picture, pose.tobytes()) for picture, pose in poses.items()],
        )
