"""Exported and quantised files against the Cell, and what they cost."""

from __future__ import annotations

import json
from pathlib import Path

import mindspore
import numpy as np
import onnx
import pytest
from conftest import ASSETS, PHOTO
from mindspore import nn
from PIL import Image

from multitasknet import (
    EngineError,
    MultiTaskNet,
    MultiTaskNetError,
    PoseEstimator,
    Predictor,
    create_network,
    export,
    quantize,
    read_labels,
)
from multitasknet.cli import main
from multitasknet.files import file_sha256
from multitasknet.inference import export as exporting
from multitasknet.inference.engines import open_engine
from multitasknet.inference.export import largest_difference, tolerance
from multitasknet.weights.load import frozen_copy

POSE = read_labels(ASSETS / "example.csv")[PHOTO.name].keypoints
SMALL = (64, 64)
pytestmark = pytest.mark.usefixtures("small")


@pytest.fixture(scope="module")
def network(small_checkpoint: Path) -> MultiTaskNet:
    return create_network(weights=small_checkpoint)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, network: MultiTaskNet) -> Path:
    return export(tmp_path_factory.mktemp("onnx") / "model.onnx", network=network, size=64).path


def crops(count: int) -> list[np.ndarray]:
    """Different parts of the photo."""
    photo = np.asarray(Image.open(PHOTO).convert("RGB"))
    return [np.ascontiguousarray(photo[3 * i :, 2 * i :]) for i in range(count)]


def test_an_onnx_file_alone_is_enough(exported, network, small_checkpoint) -> None:
    model = onnx.load(exported)
    onnx.checker.check_model(model, full_check=True)
    inputs = {
        one.name: [dim.dim_param or dim.dim_value for dim in one.type.tensor_type.shape.dim]
        for one in model.graph.input
    }
    assert inputs == {"image": ["batch", 16, "height", "width"], "pose": ["batch", 108]}
    outputs = ["id_logits", "color_logits", "type_logits", "embedding"]
    assert [one.name for one in model.graph.output] == outputs
    stated = json.loads({entry.key: entry.value for entry in model.metadata_props}["multitasknet"])
    assert stated["spec"]["variant"] == "segment"
    assert stated["spec"]["type_names"][0] == "sedan"
    assert stated["normalization"]["rgb"]["mean"] == [0.485, 0.456, 0.406]
    assert stated["weights_sha256"] == file_sha256(small_checkpoint)
    alone = Predictor(exported, batch_size=2)
    assert (alone.size, alone.engine.name) == (SMALL, "onnx")
    cell = Predictor(network=network, size=SMALL)
    for one, other in zip(
        alone.predict([PHOTO] * 3, [POSE] * 3), cell.predict([PHOTO] * 3, [POSE] * 3), strict=True
    ):
        assert (one.color, one.type) == (other.color, other.type)
        scale = np.abs(other.embedding).max()
        assert np.abs(one.embedding - other.embedding).max() <= 1e-4 * scale


def test_a_file_of_one_batch_size_and_mindir_give_the_same(tmp_path, network) -> None:
    fixed = export(tmp_path / "fixed.onnx", network=network, size=SMALL, fixed_batch=3)
    assert fixed.metadata.batch == 3
    assert fixed.bytes == fixed.path.stat().st_size
    poses = [POSE, None, POSE, None]
    got = Predictor(fixed.path, pose="none").embed([PHOTO] * 4, poses)
    wanted = Predictor(network=network, size=SMALL, pose="none").embed([PHOTO] * 4, poses)
    assert np.abs(got - wanted).max() <= 1e-4 * np.abs(wanted).max()
    for batch in (None, 3):
        report = export(tmp_path / "m.mindir", network=network, size=32, fixed_batch=batch)
        assert report.difference <= 1e-4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fixed.onnx", "m.mindir"]


def test_an_export_leaves_the_network_as_it_was(small_checkpoint, tmp_path) -> None:
    network = create_network(weights=small_checkpoint).set_train(True)
    network.fc_vid.set_train(False)
    modes = {name: cell.training for name, cell in network.cells_and_names()}
    for name in ("model.onnx", "model.mindir"):
        export(tmp_path / name, network=network, size=32)
        assert {name: cell.training for name, cell in network.cells_and_names()} == modes
    # Its statistics move: what it was exported from trains on.
    mean = next(one for one in network.get_parameters() if one.name.endswith("moving_mean"))
    before = mean.asnumpy().copy()
    network(*(mindspore.ops.ones((2, *s)) for s in network.spec.input_shapes((32, 32)).values()))
    assert np.abs(mean.asnumpy() - before).max() > 0


def hf32(array: np.ndarray) -> np.ndarray:
    """Float32 rounded to 11 bits of mantissa, as Ascend's convolutions take it."""
    return ((np.ascontiguousarray(array).view(np.uint32) + 0x800) & 0xFFFFF000).view(np.float32)


def test_an_export_may_differ_from_a_devices_cell_by_what_hf32_rounds(
    network, exported, monkeypatch
) -> None:
    engine, twin = open_engine(exported), frozen_copy(network)
    for _, cell in twin.cells_and_names():
        if isinstance(cell, nn.Conv2d):
            cell.weight.set_data(mindspore.Tensor(hf32(cell.weight.asnumpy())))
            cell.register_forward_pre_hook(
                lambda _, inputs: (mindspore.Tensor(hf32(inputs[0].asnumpy())),)
            )
    difference = largest_difference(engine.run, twin, engine.spec)
    on_cpu = tolerance()
    monkeypatch.setattr(mindspore, "get_context", lambda _: "Ascend")
    assert on_cpu < difference < tolerance()


def test_an_export_that_differs_is_an_error_and_leaves_no_file(
    tmp_path, network, monkeypatch
) -> None:
    monkeypatch.setattr(exporting, "TOLERANCE", 1e-12)
    with pytest.raises(EngineError, match=r"differ from the network's by .* the file is not kept"):
        export(tmp_path / "model.onnx", network=network, size=32)
    assert list(tmp_path.iterdir()) == []


def test_the_weights_say_which_network_is_exported(tmp_path, monkeypatch) -> None:
    """Python's default name made this an error, where the command took them."""
    monkeypatch.setattr("multitasknet.hub.card.PACKAGE", ASSETS.parent)
    for source in ("vehiclepose", ASSETS / "vehiclepose_synthetic.ckpt"):
        report = export(tmp_path / "model.onnx", weights=source, size=64)
        assert report.metadata.spec.network == "vehiclepose"
    with pytest.raises(MultiTaskNetError, match="expected multitasknet, but it is vehiclepose"):
        export(tmp_path / "model.onnx", weights="vehiclepose", name="multitasknet")


def test_the_commands_export_and_predict(tmp_path, small_checkpoint, capsys) -> None:
    target = tmp_path / "model.onnx"
    options = ["--weights", str(small_checkpoint), "--size", "32"]
    assert main(["export", "--output", str(target), *options]) == 0
    printed = capsys.readouterr().out
    assert f"{target.stat().st_size / 1e6:.1f} MB" in printed
    assert "at most from the Cell, on 8 inputs" in printed
    assert main(["predict", str(PHOTO), "--weights", str(target)]) == 0
    assert "engine     onnx, float32" in capsys.readouterr().out
    for bad in ("model.zip", "model.onnx/below.onnx"):
        assert main(["export", "--output", str(tmp_path / bad), "--weights", "none"]) == 2
        assert bad in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


# INT8


def test_int8_says_what_it_costs_and_predicts(exported, tmp_path) -> None:
    exact = Predictor(exported, batch_size=3)
    report = quantize(tmp_path / "int8.onnx", exact, crops(8))
    assert (report.calibrated_on, report.compared_on) == (6, 2)
    assert 0.99 <= report.cosine < 1
    assert 0.9 < report.least_cosine <= report.cosine
    assert min(report.images_per_second) > 0
    assert report.path.stat().st_size < exported.stat().st_size / 3
    small = Predictor(report.path)
    assert small.engine.precision == "int8"
    ours, theirs = (one.predict(crops(8))[6:] for one in (small, exact))
    agreeing = [one.color == other.color for one, other in zip(ours, theirs, strict=True)]
    assert report.color_agreement == pytest.approx(np.mean(agreeing))
    one, other = (np.stack([p.embedding for p in some]) for some in (ours, theirs))
    cosines = (one * other).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)
    assert cosines.mean() == pytest.approx(report.cosine, abs=2e-3)
    assert report.shift is None


def test_int8_of_a_pose_network_says_how_far_keypoints_move(tmp_path) -> None:
    estimator = PoseEstimator(ASSETS / "vehiclepose_synthetic.ckpt", size=SMALL, batch_size=4)
    images = crops(8)
    report = quantize(tmp_path / "int8.onnx", estimator, images, min_cosine=0)
    assert 0.5 < report.cosine <= 1
    small = PoseEstimator(tmp_path / "int8.onnx")
    assert small.size == SMALL  # what it was calibrated at
    moved, exact = (
        np.stack([pose.keypoints for pose in one.estimate(images[6:])])
        for one in (small, estimator)
    )
    sides = np.array([max(image.shape) for image in images[6:]])
    shift = np.linalg.norm((moved - exact)[..., :2], axis=2) / sides[:, None]
    assert report.shift == pytest.approx(shift.mean(), rel=1e-4)
    assert (report.color_agreement, report.type_agreement) == (None, None)


def test_int8_that_costs_too_much_or_cannot_be_made_is_refused(exported, network, tmp_path) -> None:
    exact, target = Predictor(exported), tmp_path / "int8.onnx"
    for arguments, named in (
        ((target, exact, crops(2)), "mean cosine with float32 is"),
        ((target, exact, crops(1)), "1 images; expected at least 2"),
        ((tmp_path / "int8.mindir", exact, crops(2)), "ends in .onnx"),
        ((target, Predictor(network=network), crops(2)), "backend='onnx'"),
    ):
        with pytest.raises(EngineError, match=named):
            quantize(*arguments, min_cosine=1.5)
    assert list(tmp_path.iterdir()) == []
    before = exported.read_bytes()
    with pytest.raises(MultiTaskNetError, match="is what is read as"):
        quantize(exported, exact, crops(2))
    assert exported.read_bytes() == before


def test_the_command_quantizes_with_a_folder(exported, tmp_path, capsys) -> None:
    (tmp_path / "crops").mkdir()
    for index, crop in enumerate(crops(4)):
        Image.fromarray(crop).save(tmp_path / "crops" / f"{index}.png")
    command = ["quantize", str(tmp_path / "crops"), "--weights", str(exported)]
    assert main([*command, "--output", str(tmp_path / "int8.onnx")]) == 0
    printed = capsys.readouterr().out
    assert "calibrated on  3 images" in printed
    assert "the same for" in printed
    assert "(the network alone)" in printed
