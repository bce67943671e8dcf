"""From a photo alone: the pose network's keypoints, and MultiTaskNet fed with them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import ASSETS, PHOTO, save_pose_weights
from PIL import Image

from multitasknet import (
    CheckpointError,
    EngineError,
    PoseEstimator,
    PoseEstNetSpec,
    Predictor,
    create_network,
    load_card,
    read_labels,
)
from multitasknet.cli import main
from multitasknet.hub.download import asset_path
from multitasknet.inference.pose import open_pose_estimator
from multitasknet.vehicle.attributes import ClassMaps
from multitasknet.weights.sidecar import Sidecar, write_sidecar

GIVEN = read_labels(ASSETS / "example.csv")[PHOTO.name].keypoints
MINDSPORE = {"backend": "mindspore", "batch_size": 2, "size": (64, 64)}
pytestmark = pytest.mark.usefixtures("small")


@pytest.fixture(scope="module")
def pose_checkpoint(small: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_pose_weights(tmp_path_factory.mktemp("pose") / "pose.ckpt")


@pytest.fixture(scope="module")
def estimator(pose_checkpoint: Path) -> PoseEstimator:
    return PoseEstimator(pose_checkpoint, **MINDSPORE)


@pytest.fixture(scope="module")
def predictor(small_checkpoint: Path, estimator: PoseEstimator) -> Predictor:
    return Predictor(small_checkpoint, pose=estimator, **MINDSPORE)


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def test_a_pose_is_in_pixels_of_the_image_whatever_its_kind(estimator: PoseEstimator) -> None:
    image = Image.open(PHOTO).convert("RGB")
    twice = image.resize((2 * image.width, 2 * image.height), Image.Resampling.NEAREST)
    poses = estimator.estimate([PHOTO, np.asarray(image), image, twice])
    first = poses[0]
    assert (first.origin, first.keypoints.dtype) == ("estimated", np.float32)
    assert first.confidence == pytest.approx(first.keypoints[:, 2].mean())
    for same in poses[1:3]:
        np.testing.assert_allclose(same.keypoints, first.keypoints, rtol=1e-3, atol=1e-2)
    # A cell of the 16x16 maps is a sixteenth of the frame; the picture's pixels are its own.
    moved = np.abs(poses[3].keypoints[:, :2] / 2 - first.keypoints[:, :2])
    assert np.median(moved) < 1.25 * max(image.size) / 16


def test_a_large_picture_is_read_reduced_and_its_pose_is_in_its_own_pixels(
    estimator: PoseEstimator, predictor: Predictor, tmp_path: Path
) -> None:
    image = Image.open(PHOTO).convert("RGB")
    large = image.resize((4 * image.width, 4 * image.height), Image.Resampling.BICUBIC)
    large.save(tmp_path / "large.jpg", quality=95)
    decoded = np.asarray(Image.open(tmp_path / "large.jpg"))
    files, arrays = ([one, PHOTO, one] for one in (tmp_path / "large.jpg", decoded))
    poses = [None, None, GIVEN]
    found, wanted = (predictor.predict(images, poses) for images in (files, arrays))
    for ours, theirs in zip(found, wanted, strict=True):
        assert cosine(ours.embedding, theirs.embedding) > 0.999
    # Half a cell of the maps at most: these weights are random.
    cell = 1.25 * max(large.size) / 16
    for one in (found[0].pose, *estimator.estimate(files[:1])):
        moved = np.linalg.norm((one.keypoints - wanted[0].pose.keypoints)[:, :2], axis=1)
        assert np.median(moved) < cell / 2
    np.testing.assert_array_equal(found[2].pose.keypoints, GIVEN)


def test_missing_poses_are_estimated_and_given_ones_kept(
    predictor: Predictor, estimator: PoseEstimator, caplog: pytest.LogCaptureFixture
) -> None:
    given, estimated = predictor.predict([PHOTO, PHOTO], [GIVEN, None])
    assert [one.pose.origin for one in (given, estimated)] == ["given", "estimated"]
    np.testing.assert_array_equal(given.pose.keypoints, GIVEN)
    (pose,) = estimator.estimate([PHOTO])
    np.testing.assert_allclose(estimated.pose.keypoints, pose.keypoints, rtol=1e-3, atol=1e-2)
    assert np.abs(given.embedding - estimated.embedding).max() > 1e-2
    assert "no keypoints" not in caplog.text


def test_auto_takes_the_pose_network_that_the_weights_were_trained_with(
    pose_checkpoint: Path, write_card, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assets = tmp_path / "assets"
    card = assets / "poseestnet_veir.md"
    write_card("http://127.0.0.1:1/pose.ckpt", pose_checkpoint.read_bytes(), path=card)
    place = asset_path(load_card(card).asset, tmp_path)
    place.parent.mkdir(parents=True)
    shutil.copy(pose_checkpoint, place)
    monkeypatch.setattr("multitasknet.hub.card.PACKAGE", tmp_path)

    def found(convention: str) -> tuple[str, str] | None:
        one = open_pose_estimator("auto", convention=convention, cache_dir=tmp_path)
        return one and (one.engine.source, one.pose_convention)

    assert found("published") == (str(place), "published")
    # Weights of the other convention do not take it, and there is none shipped yet.
    assert found("visibility") is None
    for one in ASSETS.glob("vehiclepose_synthetic.*"):
        shutil.copy(one, assets)
    shipped = str(assets / "vehiclepose_synthetic.ckpt")
    assert found("visibility") == (shipped, "visibility")
    # Where the published one is not in the cache, the shipped one gives what it would have given.
    place.unlink()
    assert found("published") == (shipped, "published")
    with pytest.raises(EngineError, match="expected auto, none, card, synthetic, or a file"):
        open_pose_estimator("crad")


def test_weights_of_the_other_network_are_refused_by_name(
    small_checkpoint: Path, pose_checkpoint: Path
) -> None:
    with pytest.raises(CheckpointError, match=r"expected .*poseestnet.* multitasknet"):
        PoseEstimator(small_checkpoint)
    with pytest.raises(CheckpointError, match=r"expected .*multitasknet.* poseestnet"):
        Predictor(pose_checkpoint, backend="mindspore")
    named = "the network: expected multitasknet or vehiclereid, but it is poseestnet"
    with pytest.raises(CheckpointError, match=named):
        Predictor(network=create_network("poseestnet", weights=None))


def test_a_pose_convention_travels_in_the_sidecar_and_a_wrong_one_is_said(
    pose_checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    weights = shutil.copy(pose_checkpoint, tmp_path / "own.ckpt")
    spec = PoseEstNetSpec(input_size=(32, 32), pose_convention="visibility")
    write_sidecar(weights, Sidecar(spec, ClassMaps((), (), ())))
    estimator = PoseEstimator(weights, backend="mindspore")
    assert (estimator.spec, estimator.size) == (spec, (32, 32))
    identity = create_network(weights=None)
    assert Predictor(network=identity, size=(32, 32), pose=estimator).pose_estimator
    assert "were trained on 'published'" in caplog.text


# The command


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, estimator: PoseEstimator) -> PoseEstimator:
    """Commands that share one estimator, which has been loaded."""
    monkeypatch.setattr("multitasknet.inference.pose.PoseEstimator", lambda *_, **__: estimator)
    return estimator


def test_the_command_sums_up_writes_and_draws(quick: PoseEstimator, tmp_path: Path, capsys) -> None:
    crops, table, overlays = (tmp_path / name for name in ("crops", "labels.csv", "drawn"))
    (crops / "cam1").mkdir(parents=True)
    small = Image.open(PHOTO).convert("RGB").resize((80, 60))
    small.save(crops / "cam1" / "7_small.png")
    shutil.copy(PHOTO, crops)
    assert main(["pose", str(crops), "--output", str(table), "--overlay", str(overlays)]) == 0
    lines = capsys.readouterr().out.splitlines()
    poses = quick.estimate([crops / "cam1" / "7_small.png", crops / PHOTO.name])
    seen = int((poses[1].keypoints[:, 2] >= 0.5).sum())
    confidence = f"mean confidence {poses[1].confidence:.2f}"
    assert lines[1] == f"{crops / PHOTO.name}: {confidence}, {seen} of 36 at or above 0.5"
    assert lines[2:] == [str(table), str(overlays)]
    rows = list(read_labels(table).values())
    named = [("cam1/7_small.png", 7), (PHOTO.name, 0)]
    assert [(row.image, row.vehicle_id) for row in rows] == named
    for row, pose in zip(rows, poses, strict=True):
        np.testing.assert_allclose(row.keypoints, pose.keypoints, rtol=1e-6, atol=6e-4)
    drawn = Image.open(overlays / "cam1" / "7_small.png")
    assert drawn.size == (80, 60) and not np.array_equal(drawn, small)


def test_json_is_a_line_an_image_and_coco_goes_by_its_ending(
    quick: PoseEstimator, tmp_path: Path, capsys
) -> None:
    coco = tmp_path / "poses.json"
    assert main(["pose", str(PHOTO), "--json", "--output", str(coco)]) == 0
    captured = capsys.readouterr()
    said = json.loads(captured.out)
    assert (said["image"], np.shape(said["keypoints"])) == (str(PHOTO), (36, 3))
    assert captured.err.splitlines()[-1] == str(coco)
    (about,) = json.loads(coco.read_text())["images"]
    assert (about["width"], about["height"]) == Image.open(PHOTO).size
    (row,) = read_labels(coco).values()
    np.testing.assert_allclose(row.keypoints, said["keypoints"], rtol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere.jpg"], "nowhere.jpg does not exist"),
        ([PHOTO, "--output", "poses.txt"], "--output is poses.txt; expected a name in .csv or"),
        ([PHOTO, "copy", "--output", "a.csv"], "would both be called example.jpg"),
        ([PHOTO, "--overlay", PHOTO.parent], "assets, where the images are; give another folder"),
        ([PHOTO, "--output", f"{PHOTO}/a.csv"], "cannot be written"),
    ],
)
def test_a_mistake_is_one_line(arguments, said: str, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "copy").mkdir()
    shutil.copy(PHOTO, tmp_path / "copy")
    assert main(["pose", *map(str, arguments)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("multitasknet: error: ") and error.count("\n") == 1
    assert said in error
    assert not list(tmp_path.glob("*.csv"))


def test_a_broken_image_is_named_and_left_out(quick: PoseEstimator, tmp_path: Path, capsys) -> None:
    broken, table = tmp_path / "broken.jpg", tmp_path / "a.csv"
    broken.write_bytes(PHOTO.read_bytes()[:2000])
    assert main(["pose", str(PHOTO), str(broken), "--output", str(table)]) == 0
    assert "broken.jpg: the image cannot be read" in capsys.readouterr().err
    assert list(read_labels(table)) == [PHOTO.name]
    before = table.read_bytes()
    assert main(["pose", str(broken), "--output", str(table)]) == 1
    assert table.read_bytes() == before
