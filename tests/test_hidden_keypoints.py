"""Where keypoints are placed that cannot be seen."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import mindspore
import numpy as np
import pytest
from conftest import PHOTO
from small import small_networks

from multitasknet import PoseEstimator, Predictor, create_network
from multitasknet.vehicle.pose import as_published


@pytest.fixture(scope="module")
def light(tmp_path_factory: pytest.TempPathFactory) -> Path:
    mindspore.set_seed(3)
    path = tmp_path_factory.mktemp("light") / "pose.ckpt"
    mindspore.save_checkpoint(create_network("vehiclepose", weights=None), str(path))
    return path


def estimator(weights: Path, **options) -> PoseEstimator:
    return PoseEstimator(weights, size=64, backend="mindspore", flip_test=False, **options)


def test_what_is_seen_stays_and_what_both_sides_hide_stays() -> None:
    pose = np.column_stack([np.arange(36), np.arange(36) + 100, np.full(36, 0.1)])
    pose[[0, 4], 2] = 0.9  # the right counterparts, 18 and 22, are hidden
    found = as_published(pose.astype(np.float32))
    np.testing.assert_allclose(found[18, :2], pose[18, :2] + 0.38 * (pose[0, :2] - pose[18, :2]))
    rest = np.setdiff1d(np.arange(36), [18, 22])
    np.testing.assert_array_equal(found[rest, :2], pose[rest, :2])
    assert (found[:, 2] >= 0.5).all() and found[0, 2] > found[18, 2]


def test_an_estimator_places_them_as_asked(light: Path, pose_checkpoint: Path) -> None:
    (true,) = estimator(light).estimate([PHOTO])
    (published,) = estimator(light, hidden="published").estimate([PHOTO])
    np.testing.assert_array_equal(published.keypoints, as_published(true.keypoints))
    with pytest.raises(ValueError, match="hidden is 'true', but these weights"):
        estimator(pose_checkpoint, hidden="true")


@pytest.mark.parametrize("convention", ["published", "visibility"])
def test_a_predictor_takes_what_its_weights_were_trained_on(light, convention, caplog) -> None:
    with small_networks(), caplog.at_level(logging.WARNING):
        network = create_network(weights=None)
        network.spec = replace(network.spec, pose_convention=convention, input_size=(64, 64))
        predictor = Predictor(network=network, pose=light)
        assert predictor.pose_estimator.pose_convention == convention
        assert "expect lower accuracy" not in caplog.text
        given = Predictor(network=network, pose=estimator(light))
        assert given.pose_estimator.pose_convention == "visibility"
    assert ("expect lower accuracy" in caplog.text) == (convention == "published")
