"""Poses of whole data sets: estimated once, kept beside the data, fed to every command."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import drawn
import numpy as np
import pytest

from multitasknet import PoseEstimator, read_dataset
from multitasknet.inference.kept_poses import STORE, estimate_missing


@pytest.fixture(scope="module")
def estimator(pose_checkpoint: Path) -> PoseEstimator:
    return PoseEstimator(pose_checkpoint, backend="mindspore", batch_size=3, size=(32, 32))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Drawn images in a layout without keypoints."""
    return drawn.veri(tmp_path / "veri", drawn.plan(2, 2, 2))


class Counting:
    """Counts what reaches an estimator."""

    def __init__(self, estimator: PoseEstimator, monkeypatch: pytest.MonkeyPatch, stop: int = 99):
        self.pictures = 0
        asked = estimator.estimate_pixels

        def count(pixels, **options):
            if self.pictures >= stop:
                raise KeyboardInterrupt
            self.pictures += len(pixels)
            return asked(pixels, **options)

        monkeypatch.setattr(estimator, "estimate_pixels", count)


def keypoints_of(split) -> np.ndarray:
    return np.stack([record.keypoints for record in split.records])


def test_no_picture_is_estimated_twice(root, estimator, monkeypatch) -> None:
    split = read_dataset(root).gallery
    with monkeypatch.context() as patch:
        counting = Counting(estimator, patch, stop=3)
        with pytest.raises(KeyboardInterrupt):
            estimate_missing(split, estimator, folder=root, progress=False)
        assert counting.pictures == 3
    counting = Counting(estimator, monkeypatch)
    filled = estimate_missing(split, estimator, folder=root, progress=False)
    assert counting.pictures == len(split) - 3
    assert all(record.estimated for record in filled.records)
    again = estimate_missing(split, estimator, folder=root, progress=False)
    assert counting.pictures == len(split) - 3
    np.testing.assert_array_equal(keypoints_of(again), keypoints_of(filled))
    # By content: a copy under another name is known, a changed picture is not.
    shutil.copy(split.records[0].image, split.records[1].image)
    changed = estimate_missing(split, estimator, folder=root, progress=False)
    assert counting.pictures == len(split) - 3
    np.testing.assert_array_equal(keypoints_of(changed)[1], keypoints_of(filled)[0])


def test_given_keypoints_stay_and_other_estimators_are_told_apart(
    tmp_path, estimator, pose_checkpoint
) -> None:
    root = drawn.pamtri(tmp_path / "pamtri", drawn.plan(2, 1, 1))
    split = read_dataset(root).train
    assert estimate_missing(split, estimator, folder=root) is split
    assert not (root / STORE).exists()
    other = PoseEstimator(
        pose_checkpoint, backend="mindspore", size=(32, 32), flip_test=False, decode="dark"
    )
    assert other.origin != estimator.origin


def test_a_damaged_store_is_begun_anew_and_one_that_cannot_be_written_replaced(
    root, estimator, tmp_path, monkeypatch, caplog
) -> None:
    split = read_dataset(root).query
    (root / STORE).write_bytes(b"no database" * 1000)
    first = estimate_missing(split, estimator, folder=root, progress=False)
    assert "is damaged" in caplog.text
    with sqlite3.connect(root / STORE) as store:
        assert store.execute("SELECT count(*) FROM poses").fetchone() == (len(split),)
    monkeypatch.setenv("MULTITASKNET_CACHE", str(tmp_path / "cache"))
    gone = estimate_missing(split, estimator, folder=tmp_path / "nowhere", progress=False)
    assert (tmp_path / "cache" / STORE).is_file()
    np.testing.assert_array_equal(keypoints_of(gone), keypoints_of(first))
