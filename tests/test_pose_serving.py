"""The pose network by ONNX Runtime: one command from a bare JPEG, INT8, and no MindSpore."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from multitasknet import PoseEstimator, PoseQuantizationReport, quantize
from multitasknet.cli import main
from multitasknet.data.labels import read_labels

ASSETS = Path(__file__).resolve().parents[1] / "assets"
PHOTO = ASSETS / "example.jpg"
GIVEN = read_labels(ASSETS / "example.csv")[PHOTO.name].keypoints


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def estimator(pose_checkpoint: Path, cache: Path) -> PoseEstimator:
    return PoseEstimator(pose_checkpoint, cache_dir=cache, size=(64, 64), batch_size=4)


def crops(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (40 + i, 60, 3), dtype=np.uint8) for i in range(count)]


def test_predict_on_a_bare_jpeg_goes_through_both_networks(
    checkpoint: Path, pose_checkpoint: Path, estimator: PoseEstimator, cache: Path, capsys
) -> None:
    assert estimator.engine.name == "onnx"
    how = ["--pose", pose_checkpoint, "--cache-dir", cache, "--size", 64]
    command = ["predict", PHOTO, "--weights", checkpoint, *how]
    assert main([*map(str, command), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["pose"]["origin"] == "estimated"
    assert printed["pose_given"] is False
    assert np.shape(printed["pose"]["keypoints"]) == (36, 3)
    assert main([*map(str, command)]) == 0
    assert "36 keypoints, estimated, mean confidence" in capsys.readouterr().out
    # Later calls import no MindSpore.
    code = f"""
import sys
from multitasknet import Predictor
predictor = Predictor({str(checkpoint)!r}, pose={str(pose_checkpoint)!r}, cache_dir={str(cache)!r})
(prediction,) = predictor.predict([{str(PHOTO)!r}])
assert prediction.pose.origin == "estimated"
assert "mindspore" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_int8_says_how_far_keypoints_move(estimator: PoseEstimator, tmp_path: Path) -> None:
    images = crops(8)
    truth = [pose.keypoints for pose in estimator.estimate(images)]
    report = quantize(tmp_path / "int8.onnx", estimator, images, truth, min_cosine=0)
    assert isinstance(report, PoseQuantizationReport)
    assert (report.calibrated_on, report.compared_on) == (6, 2)
    assert 0.5 < report.map_cosine <= 1
    assert report.pck is not None
    # Float32 is its own truth here, where confidences say that a keypoint is visible.
    assert report.pck[0] == 1
    assert report.pck[1] <= 1
    assert PoseEstimator(tmp_path / "int8.onnx").engine.name == "openvino"
    # The report is ONNX Runtime's.
    small = PoseEstimator(tmp_path / "int8.onnx", size=(64, 64), backend="onnx")
    assert small.engine.precision == "int8"
    moved = small.estimate(images[6:])
    exact = estimator.estimate(images[6:])
    sides = np.array([60.0, 60.0])
    shift = np.mean(
        [
            np.linalg.norm((a.keypoints - b.keypoints)[:, :2], axis=1) / side
            for a, b, side in zip(moved, exact, sides, strict=True)
        ]
    )
    assert report.shift == pytest.approx(shift, rel=1e-4)
