"""Predictions and poses, in Python and by the commands, on the photo that the project ships."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import ASSETS, PHOTO, save_pose_weights
from PIL import Image

from multitasknet import (
    CheckpointError,
    EmbeddingOrigin,
    EngineError,
    ImageError,
    Picture,
    PoseEstimator,
    PoseEstNetSpec,
    Predictor,
    create_network,
    load_card,
    preprocess,
    read_labels,
)
from multitasknet.cli import main
from multitasknet.data.records import Record
from multitasknet.data.samples import batch_inputs, load_sample
from multitasknet.hub.download import asset_path
from multitasknet.images import encode_jpeg
from multitasknet.inference.pose import open_pose_estimator
from multitasknet.vehicle.attributes import ClassMaps
from multitasknet.vehicle.maps import draw_maps
from multitasknet.weights.sidecar import Sidecar, write_sidecar

LABELS = ASSETS / "example.csv"
POSE = read_labels(LABELS)[PHOTO.name].keypoints
MINDSPORE = {"backend": "mindspore", "batch_size": 2, "size": (64, 64)}
pytestmark = pytest.mark.usefixtures("small")


@pytest.fixture(scope="module")
def predictor(small_checkpoint: Path) -> Predictor:
    return Predictor(small_checkpoint, **MINDSPORE)


def test_a_prediction_is_what_the_network_says(predictor, small_checkpoint, caplog) -> None:
    import mindspore

    prediction, missing = predictor.predict([PHOTO, PHOTO], [POSE, None])
    x, p = preprocess(PHOTO, POSE, "segment", (64, 64))
    network = create_network(weights=small_checkpoint)
    _, colors, types, embedding = network(mindspore.Tensor(x[None]), mindspore.Tensor(p[None]))
    spec = predictor.spec
    assert prediction.color == spec.color_names[int(colors.asnumpy().argmax())]
    assert prediction.type == spec.type_names[int(types.asnumpy().argmax())]
    np.testing.assert_allclose(prediction.embedding, embedding.asnumpy()[0], rtol=1e-4, atol=1e-5)
    assert sum(prediction.color_probabilities.values()) == pytest.approx(1)
    assert prediction.color_probability == max(prediction.color_probabilities.values())
    assert next(iter(prediction.type_probabilities)) == prediction.type
    assert prediction.source == str(PHOTO)
    # A missing pose is said.
    assert [one.pose.origin for one in (prediction, missing)] == ["given", "neutral"]
    assert "1 of 2 images: no keypoints given: all confidences set to zero" in caplog.text
    sha256 = hashlib.sha256(small_checkpoint.read_bytes()).hexdigest()
    assert predictor.origin == EmbeddingOrigin(sha256, "segment", (64, 64), "float32", 2)


def test_batches_and_kinds_of_images_make_no_difference(predictor) -> None:
    image = Image.open(PHOTO).convert("RGB")
    other = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    together = predictor.embed([PHOTO, other, np.asarray(image), str(PHOTO), image])
    assert (together.shape, together.dtype) == ((5, 1024), np.float32)
    np.testing.assert_allclose(together[1:2], predictor.embed([other]), rtol=1e-3, atol=1e-4)
    for same in (2, 3, 4):
        np.testing.assert_allclose(together[same], together[0], rtol=1e-3, atol=1e-4)
    assert predictor.embed([]).shape == (0, 1024)


def test_a_stream_takes_any_iterable_and_leaves_out_what_cannot_be_read(
    predictor, tmp_path
) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    pixels = np.asarray(Image.open(PHOTO).convert("RGB"))
    picture = Picture("upload", PHOTO.read_bytes())
    given = [PHOTO, tmp_path / "bad.jpg", picture, tmp_path / "no.jpg", pixels]
    skipped: list[tuple[str, ImageError]] = []
    found = list(predictor.stream(iter(given), skip=lambda *one: skipped.append(one)))
    assert [one.index for one in found] == [0, 2, 4]
    assert [one.source for one in found] == [str(PHOTO), "upload", "image 4"]
    assert found[0].sha256 == found[1].sha256 == hashlib.sha256(PHOTO.read_bytes()).hexdigest()
    assert {(one.height, one.width) for one in found} == {pixels.shape[:2]}
    assert [name for name, _ in skipped] == [str(tmp_path / "bad.jpg"), str(tmp_path / "no.jpg")]
    # Taken as it goes: the first result needs no more than some batches.
    endless = predictor.stream(picture for _ in itertools.count())
    assert next(endless).source == "upload"
    endless.close()


def test_a_record_brings_its_keypoints_and_stored_maps(predictor, tmp_path) -> None:
    maps = draw_maps(POSE, heatmaps=False, segments=True, height=300, width=200)
    for row, one in enumerate(maps):
        (tmp_path / f"{row:02}.jpg").write_bytes(encode_jpeg(one, 95))
    plain = Record(PHOTO, 1, keypoints=POSE)
    stored = Record(PHOTO, 1, keypoints=POSE, segments=tmp_path)
    ours = predictor.embed([plain, stored, PHOTO], [None, None, POSE])
    samples = [load_sample(one, predictor.spec) for one in (plain, stored, plain)]
    *_, wanted = predictor.engine.run(*batch_inputs(samples, predictor.spec, predictor.size))
    np.testing.assert_allclose(ours, wanted, atol=1e-4)
    assert np.abs(wanted[0] - wanted[1]).max() > 1e-3


def test_networks_without_heads_give_embeddings_alone(small_checkpoint) -> None:
    network = create_network(weights=small_checkpoint, include_top=False)
    (prediction,) = Predictor(network=network, size=(32, 32)).predict([PHOTO])
    assert (prediction.color, prediction.embedding.shape) == (None, (1024,))


@pytest.mark.parametrize(
    ("arguments", "error", "named"),
    [
        (([PHOTO], []), ValueError, "shorter than"),
        (([PHOTO, "nowhere.jpg"],), ImageError, r"nowhere\.jpg"),
        (([PHOTO], [np.zeros((18, 3))]), ValueError, r"shape \(18, 3\)"),
        ((str(PHOTO),), TypeError, "images must be a list of images, not str"),
        (([3],), TypeError, "not int"),
    ],
)
def test_wrong_arguments_are_named(predictor, arguments, error, named) -> None:
    with pytest.raises(error, match=named):
        predictor.predict(*arguments)


def test_the_command_predicts_in_words_and_json(capsys, small_checkpoint) -> None:
    assert main(["predict", str(PHOTO), "--labels", str(LABELS), "--weights", "none"]) == 0
    printed = capsys.readouterr().out
    assert "random values, what follows means nothing" in printed
    assert "36 keypoints, given" in printed
    # Scores, not percentages of anything.
    assert "%" not in printed and re.search(r"colour +\w+ [01]\.\d\d, ", printed)
    how = ["--weights", str(small_checkpoint), "--json"]
    assert main(["predict", str(PHOTO), str(PHOTO), *how]) == 0
    predictions = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [len(one["embedding"]) for one in predictions] == [1024, 1024]
    assert predictions[0]["pose_given"] is False
    assert sum(predictions[0]["type_probabilities"].values()) == pytest.approx(1)


def test_a_folder_is_predicted_and_a_broken_file_does_not_stop_the_others(
    small_checkpoint, tmp_path, capsys
) -> None:
    folder = tmp_path / "crops"
    folder.mkdir()
    for name in ("b.png", "c.png"):
        Image.open(PHOTO).convert("RGB").resize((40, 40)).save(folder / name)
    for name in ("a.jpg", "._b.png"):
        (folder / name).write_bytes(b"no image")
    (tmp_path / "cam.mp4").write_bytes(b"")
    how = ["--weights", str(small_checkpoint), "--size", "64"]
    assert main(["predict", str(folder), str(tmp_path / "cam.mp4"), *how]) == 0
    captured = capsys.readouterr()
    named = [line for line in captured.out.splitlines() if line.startswith(str(folder))]
    assert named == [str(folder / "b.png"), str(folder / "c.png")]
    first, second = captured.err.splitlines()[-2:]
    assert first.startswith(f"multitasknet: {folder / 'a.jpg'}: the image cannot be read")
    assert "cam.mp4: the image cannot be read (it is a video; save its frames" in second
    assert main(["predict", str(folder / "a.jpg"), *how]) == 1


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["predict", "nowhere.jpg", "--weights", "none"], "nowhere.jpg does not exist"),
        (["predict", PHOTO, "--weights", "nowhere.ckpt"], "nowhere.ckpt"),
        (["predict", PHOTO, "--weights", "nowhere.onnx"], "nowhere.onnx: it cannot be read"),
        (["predict", PHOTO, "--labels", "nowhere.csv"], "nowhere.csv"),
        (
            ["pose", PHOTO, "--output", "poses.txt"],
            "poses.txt; expected a name in .csv or .json",
        ),
        (["pose", PHOTO, "copy", "--output", "a.csv"], "would both be called example.jpg"),
        (["pose", PHOTO, "--overlay", PHOTO.parent], "where the images are; give another folder"),
        (["pose", PHOTO, "--output", PHOTO / "a.csv"], "cannot be written"),
        (["info", "--weights", PHOTO], "example.jpg"),
        (["info", "--weights", "none"], "random weights hold nothing to print"),
        (["hub-install", "--version", "../9"], "'../9'"),
        (["hub-install", "--hub-dir", PHOTO], "cannot be installed there"),
    ],
)
def test_a_users_mistake_is_one_message_and_exit_code_2(
    capsys, arguments, named, tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "copy").mkdir()
    shutil.copy(PHOTO, tmp_path / "copy")
    assert main(list(map(str, arguments))) == 2
    error = capsys.readouterr().err
    assert error.startswith("multitasknet: error: ") and named in error
    assert [path.name for path in tmp_path.iterdir()] == ["copy"]


# Poses


@pytest.fixture(scope="module")
def pose_checkpoint(small: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_pose_weights(tmp_path_factory.mktemp("pose") / "pose.ckpt")


@pytest.fixture(scope="module")
def estimator(pose_checkpoint: Path) -> PoseEstimator:
    return PoseEstimator(pose_checkpoint, **MINDSPORE)


@pytest.fixture(scope="module")
def posed(small_checkpoint: Path, estimator: PoseEstimator) -> Predictor:
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
    estimator: PoseEstimator, posed: Predictor, tmp_path: Path
) -> None:
    image = Image.open(PHOTO).convert("RGB")
    large = image.resize((4 * image.width, 4 * image.height), Image.Resampling.BICUBIC)
    large.save(tmp_path / "large.jpg", quality=95)
    decoded = np.asarray(Image.open(tmp_path / "large.jpg"))
    files, arrays = ([one, PHOTO, one] for one in (tmp_path / "large.jpg", decoded))
    poses = [None, None, POSE]
    found, wanted = (posed.predict(images, poses) for images in (files, arrays))
    for ours, theirs in zip(found, wanted, strict=True):
        assert cosine(ours.embedding, theirs.embedding) > 0.999
    # Half a cell of the maps at most: these weights are random.
    cell = 1.25 * max(large.size) / 16
    for one in (found[0].pose, *estimator.estimate(files[:1])):
        moved = np.linalg.norm((one.keypoints - wanted[0].pose.keypoints)[:, :2], axis=1)
        assert np.median(moved) < cell / 2
    np.testing.assert_array_equal(found[2].pose.keypoints, POSE)


def test_missing_poses_are_estimated_and_given_ones_kept(
    posed: Predictor, estimator: PoseEstimator, caplog: pytest.LogCaptureFixture
) -> None:
    given, estimated = posed.predict([PHOTO, PHOTO], [POSE, None])
    assert [one.pose.origin for one in (given, estimated)] == ["given", "estimated"]
    np.testing.assert_array_equal(given.pose.keypoints, POSE)
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


# The command pose


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


def test_a_broken_image_is_named_and_left_out(quick: PoseEstimator, tmp_path: Path, capsys) -> None:
    broken, table = tmp_path / "broken.jpg", tmp_path / "a.csv"
    broken.write_bytes(PHOTO.read_bytes()[:2000])
    assert main(["pose", str(PHOTO), str(broken), "--output", str(table)]) == 0
    assert "broken.jpg: the image cannot be read" in capsys.readouterr().err
    assert list(read_labels(table)) == [PHOTO.name]
    before = table.read_bytes()
    assert main(["pose", str(broken), "--output", str(table)]) == 1
    assert table.read_bytes() == before
