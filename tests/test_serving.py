"""Exported files and engines against the Cell, and what a missing or odd part says."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import mindspore
import numpy as np
import onnx
import pytest
from mindspore import nn
from PIL import Image
from safetensors.numpy import save_file

from multitasknet import (
    CheckpointError,
    ExportError,
    MissingExtraError,
    MultiTaskNet,
    MultiTaskNetSpec,
    Predictor,
    QuantizationError,
    create_network,
    export,
    preprocess,
    quantize,
    read_labels,
    read_weights,
)
from multitasknet.cli import main
from multitasknet.errors import OutputError
from multitasknet.files import file_sha256
from multitasknet.inference import export as exporting
from multitasknet.inference import mindspore_engine
from multitasknet.inference.export import largest_difference, tolerance
from multitasknet.inference.metadata import Metadata
from multitasknet.inference.mindspore_engine import MindSporeEngine
from multitasknet.inference.onnx_engine import OnnxEngine
from multitasknet.inference.onnx_file import build_onnx
from multitasknet.inference.opening import BackendError
from multitasknet.models.multitasknet.spec import Variant
from multitasknet.vehicle.attributes import ClassMaps
from multitasknet.weights.load import frozen_copy
from multitasknet.weights.sidecar import Sidecar, write_sidecar

ASSETS = Path(__file__).resolve().parents[1] / "assets"
PHOTO = ASSETS / "example.jpg"
POSE = read_labels(ASSETS / "example.csv")[PHOTO.name].keypoints
SMALL = (64, 64)
# keypoint_aware, multi_task, include_top, stem_pool: each value with each other one.
HEADS = [
    (True, True, True, "same"),
    (True, False, False, "same"),
    (False, True, False, "symmetric"),
    (False, False, True, "symmetric"),
    (False, False, False, "same"),
    (True, True, True, "symmetric"),
]


@pytest.fixture(scope="module")
def network(checkpoint) -> MultiTaskNet:
    return create_network(weights=checkpoint)


@pytest.fixture(scope="module")
def exported(tmp_path_factory, network) -> Path:
    return export(tmp_path_factory.mktemp("onnx") / "model.onnx", network=network, size=SMALL).path


def lively(network: MultiTaskNet) -> MultiTaskNet:
    """Give every norm values that would show if one were folded wrongly."""
    rng = np.random.default_rng(0)
    for parameter in network.get_parameters():
        if parameter.name.endswith(("gamma", "moving_variance")):
            value = rng.uniform(0.5, 1.5, parameter.shape)
        elif parameter.name.endswith(("beta", "moving_mean")):
            value = rng.normal(0, 0.3, parameter.shape)
        else:
            continue
        parameter.set_data(mindspore.Tensor(value.astype(np.float32)))
    return network.set_train(False)


@pytest.mark.parametrize(("keypoint_aware", "multi_task", "include_top", "stem_pool"), HEADS)
def test_the_engines_are_the_cell(keypoint_aware, multi_task, include_top, stem_pool) -> None:
    names = MultiTaskNetSpec() if multi_task else MultiTaskNetSpec(color_names=(), type_names=())
    spec = MultiTaskNetSpec(
        Variant.RGB,
        keypoint_aware,
        multi_task,
        5,
        names.color_names,
        names.type_names,
        include_top,
        input_size=(64, 96),
        stem_pool=stem_pool,
    )
    cell = lively(MultiTaskNet(spec))
    engine = OnnxEngine(build_onnx(cell, Metadata(spec)).SerializeToString())
    assert engine.spec == spec
    assert largest_difference(engine, cell, spec) <= 1e-5
    native = MindSporeEngine(cell)
    assert largest_difference(native, cell, spec) <= 1e-5


def test_the_compiled_network_is_the_same(network, monkeypatch) -> None:
    monkeypatch.setattr(mindspore_engine, "_RUNS_BEFORE_COMPILING", 1)
    engine = MindSporeEngine(network)
    x, p = (
        np.stack(parts) for parts in zip(preprocess(PHOTO, POSE, "segment", SMALL), strict=True)
    )
    for one, other in zip(engine.run(x, p), engine.run(x, p), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_an_onnx_file_alone_is_enough(exported, network, checkpoint) -> None:
    model = onnx.load(exported)
    onnx.checker.check_model(model, full_check=True)
    inputs = {
        one.name: [dim.dim_param or dim.dim_value for dim in one.type.tensor_type.shape.dim]
        for one in model.graph.input
    }
    assert inputs == {"image": ["batch", 16, "height", "width"], "pose": ["batch", 108]}
    assert [one.name for one in model.graph.output] == [
        "id_logits",
        "color_logits",
        "type_logits",
        "embedding",
    ]
    stated = json.loads({entry.key: entry.value for entry in model.metadata_props}["multitasknet"])
    assert stated["spec"]["variant"] == "segment"
    assert stated["spec"]["type_names"][0] == "sedan"
    assert stated["normalization"]["rgb"]["mean"] == [0.485, 0.456, 0.406]
    assert stated["weights_sha256"] == file_sha256(checkpoint)
    alone = Predictor(exported, batch_size=2)
    assert (alone.size, alone.engine.name) == (SMALL, "onnx")
    cell = Predictor(network=network, size=SMALL)
    for one, other in zip(
        alone.predict([PHOTO] * 3, [POSE] * 3), cell.predict([PHOTO] * 3, [POSE] * 3), strict=True
    ):
        assert (one.color, one.type) == (other.color, other.type)
        scale = np.abs(other.embedding).max()
        assert np.abs(one.embedding - other.embedding).max() <= 1e-4 * scale


@pytest.mark.parametrize("size", [(128, 256), (256, 256)])
def test_height_width_and_batch_are_dynamic(exported, network, size) -> None:
    engine = OnnxEngine(exported)
    assert engine.spec.input_size == SMALL
    rng = np.random.default_rng(1)
    x = rng.normal(size=(3, 16, *size)).astype(np.float32)
    p = rng.uniform(-0.5, 0.5, (3, 108)).astype(np.float32)
    wanted = [one.asnumpy() for one in network(mindspore.Tensor(x), mindspore.Tensor(p))]
    for got, other in zip(engine.run(x, p), wanted, strict=True):
        assert np.abs(got - other).max() <= 1e-4 * np.abs(other).max()


@pytest.mark.parametrize(
    ("name", "options"),
    [("fixed.onnx", {"fixed_batch": 3}), ("half.onnx", {"fp16": True}), ("model.mindir", {})],
)
def test_other_files_predict_the_same(tmp_path, network, name, options) -> None:
    report = export(tmp_path / name, network=network, size=SMALL, **options)
    tolerance = 1e-2 if "fp16" in options else 1e-4
    assert report.difference <= tolerance
    assert [path.name for path in tmp_path.iterdir()] == [name]
    poses = [POSE, None, POSE, None]
    got = Predictor(report.path).embed([PHOTO] * 4, poses)
    wanted = Predictor(network=network, size=SMALL).embed([PHOTO] * 4, poses)
    assert np.abs(got - wanted).max() <= tolerance * np.abs(wanted).max()


def hf32(array: np.ndarray) -> np.ndarray:
    """Float32 rounded to 11 bits of mantissa, as Ascend's convolutions take it."""
    return ((np.ascontiguousarray(array).view(np.uint32) + 0x800) & 0xFFFFF000).view(np.float32)


def test_an_export_may_differ_from_a_devices_cell_by_what_hf32_rounds(network, exported) -> None:
    engine, twin = OnnxEngine(exported), frozen_copy(network)
    for _, cell in twin.cells_and_names():
        if isinstance(cell, nn.Conv2d):
            cell.weight.set_data(mindspore.Tensor(hf32(cell.weight.asnumpy())))
            cell.register_forward_pre_hook(
                lambda _, inputs: (mindspore.Tensor(hf32(inputs[0].asnumpy())),)
            )
    difference = largest_difference(engine, twin, engine.spec)
    assert tolerance("float32", "CPU") < difference < tolerance("float32", "Ascend")
    assert tolerance("float16", "Ascend") == tolerance("float16", "CPU") == 1e-2


def test_an_export_that_differs_is_an_error_and_leaves_no_file(
    tmp_path, network, monkeypatch
) -> None:
    monkeypatch.setattr(exporting, "TOLERANCES", {"float32": 1e-12})
    with pytest.raises(ExportError, match=r"differ from the network's by .* the file is not kept"):
        export(tmp_path / "model.onnx", network=network, size=SMALL)
    assert list(tmp_path.iterdir()) == []


def test_partial_batches_are_filled_up_to_the_one_size_that_is_compiled(network) -> None:
    engine = MindSporeEngine(network, batch=4)
    x, p = (
        np.random.default_rng(0).normal(size=(5, *shape)).astype(np.float32)
        for shape in network.spec.input_shapes((32, 32)).values()
    )
    wanted = MindSporeEngine(network).run(x, p)
    for got in (
        engine.run(x, p),
        [
            np.concatenate(two)
            for two in zip(engine.run(x[:3], p[:3]), engine.run(x[3:], p[3:]), strict=True)
        ],
    ):
        for one, other in zip(got, wanted, strict=True):
            assert np.abs(one - other).max() <= 1e-5 * np.abs(other).max()
    assert dict(engine._runs) == {(4, 16, 32, 32): 4}


def test_half_precision_is_near_and_noted(network) -> None:
    predictor = Predictor(network=network, size=(32, 32), fp16=True)
    assert predictor.engine.precision == "float16"
    got = predictor.embed([PHOTO], [POSE])
    wanted = Predictor(network=network, size=(32, 32)).embed([PHOTO], [POSE])
    assert got.dtype == np.float32
    assert 0 < np.abs(got - wanted).max() <= 1e-2 * np.abs(wanted).max()


@pytest.mark.parametrize("option", [{"device": "Ascend"}, {"fp16": True}])
def test_onnx_runtime_takes_no_device_and_no_half_precision(exported, network, option) -> None:
    for how in ({"weights": exported}, {"network": network, "backend": "onnx"}):
        with pytest.raises(BackendError, match="'mindspore'"):
            Predictor(**how, **option)


@pytest.fixture(scope="module")
def wanted(network) -> np.ndarray:
    """What the Cell says of the photo."""
    return Predictor(network=network, size=SMALL).embed([PHOTO], [POSE])


def test_auto_is_onnx_runtime_exported_once_into_the_cache(checkpoint, tmp_path, wanted) -> None:
    predictor = Predictor(checkpoint, size=SMALL, cache_dir=tmp_path)
    assert predictor.engine.name == "onnx"
    (cached,) = (tmp_path / "onnx").iterdir()
    assert cached.name.startswith(file_sha256(checkpoint))
    before = cached.stat().st_mtime_ns
    again = Predictor(checkpoint, size=SMALL, cache_dir=tmp_path)
    assert cached.stat().st_mtime_ns == before
    for one in (predictor, again):
        got = one.embed([PHOTO], [POSE])
        assert np.abs(got - wanted).max() <= 1e-4 * np.abs(wanted).max()


def test_a_changed_sidecar_arrives_through_the_cache(checkpoint, tmp_path) -> None:
    weights = tmp_path / "own.ckpt"
    weights.write_bytes(checkpoint.read_bytes())
    spec = read_weights(weights).spec
    ids = ClassMaps(tuple(range(spec.num_ids)), tuple(range(1, 11)), tuple(range(1, 10)))
    for first in ("vermilion", "ochre"):
        names = (first, *spec.color_names[1:])
        named = replace(spec, color_names=names, input_size=(64, 32))
        write_sidecar(weights, Sidecar(named, ids))
        predictor = Predictor(weights, cache_dir=tmp_path / "cache")
        assert (predictor.spec.color_names[0], predictor.size) == (first, (64, 32))


@pytest.fixture(scope="module")
def kept(checkpoint, tmp_path_factory) -> Path:
    """A cache that holds the exported network."""
    folder = tmp_path_factory.mktemp("kept")
    Predictor(checkpoint, cache_dir=folder)
    return folder


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty"])
def test_a_damaged_file_in_the_cache_is_made_again(
    checkpoint, kept, tmp_path, wanted, damage, caplog
) -> None:
    cache = shutil.copytree(kept, tmp_path / "cache")
    (cached,) = (cache / "onnx").iterdir()
    content = bytearray(cached.read_bytes())
    if damage == "flipped":
        content[len(content) // 2 : len(content) // 2 + 65536] = bytes(65536)
    cached.write_bytes({"flipped": content, "cut": content[:1000], "empty": b""}[damage])
    got = Predictor(checkpoint, size=SMALL, cache_dir=cache).embed([PHOTO], [POSE])
    assert np.abs(got - wanted).max() <= 1e-4 * np.abs(wanted).max()
    assert "is damaged; it is made again" in caplog.text


def test_an_export_of_changed_weights_is_not_said_to_be_the_files(checkpoint, tmp_path) -> None:
    changed = create_network(weights=checkpoint)
    bias = changed.classifier_vcolor.bias
    bias.set_data(bias + 1)
    report = export(tmp_path / "changed.onnx", network=changed, size=SMALL)
    assert report.metadata.weights_sha256 == ""
    original = Predictor(checkpoint).engine.weights_sha256
    assert original == file_sha256(checkpoint)
    assert Predictor(report.path).engine.weights_sha256 != original


def test_a_cache_that_cannot_be_written_is_done_without(checkpoint, tmp_path, caplog) -> None:
    (tmp_path / "onnx").write_text("in the way")
    predictor = Predictor(checkpoint, size=SMALL, cache_dir=tmp_path, backend="onnx")
    assert predictor.embed([PHOTO], [POSE]).shape == (1, 1024)
    assert "is not kept" in caplog.text


def test_onnx_runtime_predicts_without_mindspore_and_leaves_nothing(checkpoint, tmp_path) -> None:
    code = f"""
import sys
from multitasknet import Predictor
predictor = Predictor({str(checkpoint)!r}, size=(64, 64), pose="none")
assert predictor.embed([{str(PHOTO)!r}]).shape == (1, 1024)
assert not {{"mindspore", "torch"}} & set(sys.modules)
"""
    Predictor(checkpoint)  # MindSpore writes the file, once
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"TMPDIR": str(tmp_path)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
    # ONNX Runtime keeps the number of its session there when it reports to its maker.
    assert list(tmp_path.iterdir()) == []


def test_networks_in_memory_run_on_either_engine(network) -> None:
    outputs = [
        Predictor(network=network, backend=backend, size=SMALL).embed([PHOTO], [POSE])
        for backend in ("mindspore", "onnx")
    ]
    np.testing.assert_allclose(*outputs, rtol=1e-3, atol=1e-4)
    fresh = Predictor(weights=None, variant="rgb", backend="onnx", size=SMALL)
    assert (fresh.spec.channels, fresh.engine.source) == (3, "")


@pytest.mark.parametrize("module", ["onnxruntime", "onnx"])
def test_without_the_extra_auto_is_mindspore_and_onnx_names_the_extra(
    checkpoint, exported, tmp_path, monkeypatch, module
) -> None:
    for missing in (module, "openvino"):
        monkeypatch.setitem(sys.modules, missing, None)
    for name in [
        name
        for name in sys.modules
        if name in ("multitasknet.inference.onnx_file", "multitasknet.inference.graph")
    ]:
        monkeypatch.delitem(sys.modules, name)
    assert Predictor(checkpoint, cache_dir=tmp_path).engine.name == "mindspore"
    with pytest.raises(MissingExtraError, match=r"pip install 'multitasknet\[onnx\]'"):
        Predictor(checkpoint, cache_dir=tmp_path, backend="onnx")


@pytest.mark.parametrize(
    ("arguments", "error", "named"),
    [
        ({"backend": "tensorrt"}, ValueError, "expected one of auto, mindspore, onnx"),
        ({"weights": "nowhere.onnx"}, ValueError, r"nowhere\.onnx"),
        ({"weights": "nowhere.mindir"}, ValueError, r"nowhere\.mindir"),
        ({"weights": "a.onnx", "backend": "mindspore"}, ValueError, "does not run .onnx files"),
        ({"weights": "a.mindir", "backend": "onnx"}, ValueError, "does not run .mindir files"),
        ({"weights": "nowhere.ckpt", "backend": "onnx"}, CheckpointError, "there is no such file"),
    ],
)
def test_wrong_arguments_are_named(arguments, error, named) -> None:
    with pytest.raises(error, match=named):
        Predictor(**arguments)


def test_a_contradicted_variant_names_both(checkpoint, exported, tmp_path) -> None:
    for weights in (checkpoint, exported):
        with pytest.raises(ValueError, match=r"variant is 'rgb'.*holds the variant 'segment'"):
            Predictor(weights, variant="rgb", backend="onnx", cache_dir=tmp_path)


def test_weights_without_classifiers_are_refused_by_the_engine(arrays, tmp_path) -> None:
    backbone = {name: value for name, value in arrays.items() if name.startswith("base.")}
    save_file(backbone, tmp_path / "backbone.safetensors")
    with pytest.raises(CheckpointError, match="holds no classifiers"):
        Predictor(tmp_path / "backbone.safetensors", backend="onnx", cache_dir=tmp_path)


def test_a_strangers_onnx_file_is_refused(tmp_path) -> None:
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    x, y = (onnx.helper.make_tensor_value_info(name, 1, [1]) for name in "xy")
    model = onnx.helper.make_model(
        onnx.helper.make_graph([node], "g", [x], [y]),
        opset_imports=[onnx.helper.make_opsetid("", 13)],
        ir_version=7,
    )
    onnx.save(model, tmp_path / "other.onnx")
    with pytest.raises(ValueError, match="no metadata of multitasknet"):
        Predictor(tmp_path / "other.onnx")
    (tmp_path / "torn.onnx").write_bytes(b"torn")
    with pytest.raises(ValueError, match="it is no ONNX file"):
        Predictor(tmp_path / "torn.onnx")
    with pytest.raises(ValueError, match="ONNX Runtime cannot run it"):
        Predictor(tmp_path / "torn.onnx", backend="onnx")


def test_the_commands_export_and_predict(tmp_path, checkpoint, capsys) -> None:
    target = tmp_path / "model.onnx"
    assert main(["export", "--output", str(target), "--weights", str(checkpoint)]) == 0
    assert "largest difference from the Cell on 8 inputs: " in capsys.readouterr().out
    assert main(["predict", str(PHOTO), "--weights", str(target)]) == 0
    assert "run by onnx" in capsys.readouterr().out
    options = ["--weights", str(checkpoint), "--size", "32", "--json"]
    assert main(["export", "--output", str(target), *options]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["path"], said["metadata"]["spec"]["input_size"]) == (str(target), [32, 32])
    assert said["difference"] < 1e-4
    for bad in ("model.zip", "nowhere/model.onnx"):
        command = ["export", "--output", str(tmp_path / bad), "--weights", "none"]
        assert main(command) == 2
        assert bad in capsys.readouterr().err
    command = ["export", "--output", str(tmp_path / "m.mindir"), "--fp16"]
    assert main(command) == 2
    assert "fp16 is for ONNX" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def crops(count: int) -> list[np.ndarray]:
    """Different parts of the photo."""
    photo = np.asarray(Image.open(PHOTO).convert("RGB"))
    return [np.ascontiguousarray(photo[3 * i :, 2 * i :]) for i in range(count)]


def test_int8_says_what_it_costs_and_predicts(exported, tmp_path) -> None:
    exact = Predictor(exported, batch_size=3)
    report = quantize(tmp_path / "int8.onnx", exact, crops(8))
    assert (report.calibrated_on, report.compared_on) == (6, 2)
    assert 0.99 <= report.embedding_cosine < 1
    assert 0.9 < report.least_cosine <= report.embedding_cosine
    assert report.path.stat().st_size < exported.stat().st_size / 3
    small = Predictor(report.path)
    assert small.engine.metadata.precision == "int8"
    one, other = (predictor.embed(crops(8))[6:] for predictor in (small, exact))
    colors, wanted = (
        [prediction.color for prediction in predictor.predict(crops(8))[6:]]
        for predictor in (small, exact)
    )
    agreeing = [ours == theirs for ours, theirs in zip(colors, wanted, strict=True)]
    assert report.color_agreement == pytest.approx(np.mean(agreeing))
    cosines = (one * other).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)
    assert cosines.mean() == pytest.approx(report.embedding_cosine, abs=2e-3)


def test_int8_that_costs_too_much_or_cannot_be_made_is_refused(exported, network, tmp_path) -> None:
    exact = Predictor(exported)
    target = tmp_path / "int8.onnx"
    for arguments, named in (
        ((target, exact, crops(2)), "mean cosine with float32 is"),
        ((target, exact, crops(1)), "1 images; expected at least 2"),
        ((tmp_path / "int8.mindir", exact, crops(2)), "ends in .onnx"),
        ((target, Predictor(network=network), crops(2)), "backend='onnx'"),
    ):
        with pytest.raises(QuantizationError, match=named):
            quantize(*arguments, min_cosine=1.5)
    assert list(tmp_path.iterdir()) == []


def test_the_weights_that_are_quantized_are_not_overwritten(exported) -> None:
    before = Path(exported).read_bytes()
    with pytest.raises(OutputError, match="is what is read as"):
        quantize(exported, Predictor(exported), crops(2))
    assert Path(exported).read_bytes() == before


def test_the_command_quantizes(exported, tmp_path, capsys) -> None:
    for index, crop in enumerate(crops(4)):
        Image.fromarray(crop).save(tmp_path / f"{index}.png")
    images = sorted(map(str, tmp_path.glob("*.png")))
    target = str(tmp_path / "int8.onnx")
    command = ["quantize", *images, "--weights", str(exported), "--output", target]
    assert main([*command, "--threads", "1"]) == 0
    printed = capsys.readouterr().out
    assert "calibrated on  3 images" in printed
    assert "the same for" in printed
