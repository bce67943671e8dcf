"""Predictions and the command line, on the photo that the project ships."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from pathlib import Path

import numpy as np
import pytest
from conftest import ASSETS, PHOTO
from PIL import Image

from multitasknet import (
    EmbeddingOrigin,
    ImageError,
    Predictor,
    create_network,
    picture_of,
    preprocess,
    read_labels,
)
from multitasknet.cli import main
from multitasknet.data.records import Record
from multitasknet.data.samples import batch_inputs, load_sample
from multitasknet.images import encode_jpeg
from multitasknet.vehicle.maps import draw_maps

LABELS = ASSETS / "example.csv"
POSE = read_labels(LABELS)[PHOTO.name].keypoints
pytestmark = pytest.mark.usefixtures("small")


@pytest.fixture(scope="module")
def predictor(small_checkpoint: Path) -> Predictor:
    return Predictor(small_checkpoint, batch_size=2, size=(64, 64), backend="mindspore")


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
    picture = picture_of(PHOTO.read_bytes(), "upload")
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
        (["predict", "nowhere.jpg", "--weights", "none"], "nowhere.jpg"),
        (["predict", str(PHOTO), "--weights", "nowhere.ckpt"], "nowhere.ckpt"),
        (["predict", str(PHOTO), "--labels", "nowhere.csv"], "nowhere.csv"),
        (["info", "--weights", str(PHOTO)], "example.jpg"),
        (["info", "--weights", "none"], "random weights hold nothing to print"),
        (["hub-install", "--version", "../9"], "'../9'"),
        (["hub-install", "--hub-dir", str(PHOTO)], "cannot be installed there"),
    ],
)
def test_a_users_mistake_is_one_message_and_exit_code_2(capsys, arguments, named) -> None:
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("multitasknet: error: ") and named in error
