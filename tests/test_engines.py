"""ONNX Runtime, OpenVINO and MindSpore against the Cell; exported and INT8 files; what is kept."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import mindspore
import numpy as np
import onnx
import pytest
from conftest import ASSETS, PHOTO, save_pose_weights
from PIL import Image
from safetensors.numpy import save_file

from multitasknet import (
    CheckpointError,
    EngineError,
    MissingExtraError,
    MultiTaskNet,
    MultiTaskNetError,
    MultiTaskNetSpec,
    PoseEstimator,
    Predictor,
    QuantizationReport,
    create_network,
    export,
    quantize,
    read_labels,
    read_weights,
)
from multitasknet.cli import main
from multitasknet.files import file_sha256
from multitasknet.inference import conversion, engines
from multitasknet.inference import export as exporting
from multitasknet.inference.engines import EngineOptions, MindSporeEngine, open_engine
from multitasknet.inference.export import largest_difference
from multitasknet.models.multitasknet.spec import Variant
from multitasknet.vehicle.attributes import ClassMaps
from multitasknet.weights.sidecar import Sidecar, write_sidecar

SMALL = (64, 64)
pytestmark = pytest.mark.usefixtures("small")
POSE = read_labels(ASSETS / "example.csv")[PHOTO.name].keypoints


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


@pytest.fixture(scope="module")
def network(small_checkpoint: Path) -> MultiTaskNet:
    return create_network(weights=small_checkpoint)


@pytest.fixture(scope="module")
def exported(network: MultiTaskNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(tmp_path_factory.mktemp("onnx") / "model.onnx", network=network, size=SMALL).path


@pytest.fixture(scope="module")
def crops() -> list[np.ndarray]:
    """Different parts of the photo."""
    photo = np.asarray(Image.open(PHOTO).convert("RGB"))
    return [np.ascontiguousarray(photo[3 * i :, 2 * i :]) for i in range(8)]


@pytest.fixture(scope="module")
def int8(exported: Path, crops, tmp_path_factory: pytest.TempPathFactory) -> QuantizationReport:
    target = tmp_path_factory.mktemp("int8") / "int8.onnx"
    return quantize(target, Predictor(exported, batch_size=3), crops)


@pytest.fixture(scope="module")
def wanted(network: MultiTaskNet) -> np.ndarray:
    """The Cell's embedding of the photo."""
    return Predictor(network=network, size=SMALL, pose="none").embed([PHOTO])


def cosines(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return (one * other).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)


def assert_same(one: np.ndarray, other: np.ndarray) -> None:
    assert one.dtype == np.float32
    assert np.abs(one - other).max() <= 1e-4 * np.abs(other).max()


def run_python(code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own, which can import what the tests share."""
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=os.environ | {"PYTHONPATH": path} | environment,
        capture_output=True,
        text=True,
    )


# The engines


NO_CLASSES: dict[str, Any] = {"color_names": (), "type_names": ()}
SPECS = [  # each value with each other one
    MultiTaskNetSpec(Variant.RGB, True, True, 5, distance="cosine"),
    MultiTaskNetSpec(Variant.RGB, True, False, 5, include_top=False, **NO_CLASSES),
    MultiTaskNetSpec(
        Variant.RGB, False, True, 5, include_top=False, stem_pool="symmetric", distance="cosine"
    ),
    MultiTaskNetSpec(Variant.RGB, False, False, 5, stem_pool="symmetric", **NO_CLASSES),
]


@pytest.mark.parametrize("spec", SPECS)
def test_the_engines_are_the_cell(spec: MultiTaskNetSpec) -> None:
    cell = lively(MultiTaskNet(spec))
    for backend in ("onnx", "openvino", "mindspore"):
        engine = open_engine(cell, EngineOptions(backend))
        assert (engine.name, engine.spec, engine.source) == (backend, spec, "")
        for size in ((64, 96), (96, 32)):
            assert largest_difference(engine.run, cell, replace(spec, input_size=size)) <= 1e-5
        inputs = [np.ones((3, *shape), np.float32) for shape in spec.input_shapes(size).values()]
        lengths = np.linalg.norm(engine.run(*inputs)[-1], axis=1)
        assert np.allclose(lengths, 1, atol=1e-5) == (spec.distance == "cosine")


def test_mindspore_fills_partial_batches_up_to_the_one_size_that_is_compiled(network) -> None:
    engine = MindSporeEngine(network, batch=3)
    spec = replace(network.spec, input_size=SMALL)
    assert largest_difference(engine.run, network, spec) <= 1e-4
    assert dict(engine._runs) == {(3, 16, *SMALL): 3}


@pytest.mark.parametrize(
    ("backend", "aim"),
    [
        ("mindspore", "latency"),
        ("onnx", "latency"),
        ("onnx", "throughput"),
        ("openvino", "throughput"),
    ],
)
def test_32_threads_share_a_predictor(backend, aim, exported, network, monkeypatch) -> None:
    # So that MindSpore's compiled and plain runs, and the change between them, are met.
    monkeypatch.setattr(engines, "_RUNS_BEFORE_COMPILING", 16)
    how = {"network": network} if backend == "mindspore" else {"weights": exported, "threads": 3}
    predictor = Predictor(**how, backend=backend, optimize_for=aim, size=32, pose="none")
    pixels = np.random.default_rng(0).integers(0, 256, (32, 40, 40, 3), dtype=np.uint8)
    with ThreadPoolExecutor(32) as pool:
        together = np.concatenate(list(pool.map(lambda one: predictor.embed([one]), pixels)))
    for wanted in (predictor, Predictor(network=network, size=32, pose="none")):
        assert_same(wanted.embed(list(pixels)), together)


def test_threads_may_meet_at_first_use(small_checkpoint, tmp_path) -> None:
    """Of an empty cache: each network is converted once, under a lock."""
    pose = save_pose_weights(tmp_path / "pose.ckpt")
    code = f"""
from concurrent.futures import ThreadPoolExecutor
from small import small_networks
from multitasknet import Predictor
def first(_):
    how = {{"pose": {str(pose)!r}, "cache_dir": {str(tmp_path)!r}, "size": 64}}
    assert Predictor({str(small_checkpoint)!r}, **how).embed([{str(PHOTO)!r}]).shape == (1, 1024)
with small_networks(), ThreadPoolExecutor(4) as pool:
    list(pool.map(first, range(4)))
"""
    done = run_python(code)
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(list((tmp_path / "onnx").iterdir())) == 2


def test_a_network_trained_further_is_not_what_a_predictor_runs(small_checkpoint) -> None:
    network = create_network(weights=small_checkpoint)
    engine = MindSporeEngine(network)
    sha256 = file_sha256(small_checkpoint)
    bias = network.classifier_vcolor.bias
    bias.set_data(bias + 1)
    assert (engine.weights_sha256, engine.source) == (sha256, str(network.load_report))
    for backend in ("mindspore", "onnx"):
        changed = open_engine(network, EngineOptions(backend))
        assert changed.weights_sha256 != sha256
        assert changed.source == f"changed since it was loaded from {small_checkpoint.name}"
    bias.set_data(bias + np.inf)
    with pytest.raises(EngineError, match="in float32 its outputs are not all finite"):
        Predictor(network=network, size=SMALL, pose="none").embed([PHOTO])


# What opens them


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"backend": "tensorrt"}, "expected one of auto, onnx, openvino, mindspore"),
        ({"device": "Ascend", "backend": "openvino"}, "compute on the CPU here"),
        ({"precision": "int8"}, "it is float32, not int8; give a file of quantize"),
        ({"backend": "onnx", "precision": "bfloat16"}, "needs OpenVINO; choose the backend 'open"),
        ({"backend": "mindspore"}, "MindSpore does not run .onnx files"),
        ({"weights": None, "precision": "int8"}, "MindSpore computes in float32"),
        ({"weights": "nowhere.onnx"}, r"nowhere\.onnx: it cannot be read \(No such file"),
        ({"weights": "nowhere.ckpt"}, r"nowhere\.ckpt: there is no such file"),
    ],
)
def test_wrong_arguments_are_named(exported, arguments, named) -> None:
    with pytest.raises(ValueError, match=named):
        Predictor(**({"weights": exported, "pose": "none"} | arguments))


def test_what_cannot_be_run_is_named(
    tmp_path, exported, int8, small_checkpoint, monkeypatch
) -> None:
    model = onnx.load(exported)
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "other.onnx")
    (tmp_path / "torn.onnx").write_bytes(b"torn")
    for backend in ("onnx", "openvino"):
        for name, named in (("other", "no metadata of multitasknet"), ("torn", "cannot run it")):
            with pytest.raises(EngineError, match=named):
                open_engine(tmp_path / f"{name}.onnx", EngineOptions(backend))
    with pytest.raises(EngineError, match="it is int8, not float32; give a float32 file"):
        open_engine(int8.path, EngineOptions(precision="float32"))
    arrays = read_weights(small_checkpoint).arrays
    backbone = {name: value for name, value in arrays.items() if name.startswith("base.")}
    save_file(backbone, tmp_path / "backbone.safetensors")
    with pytest.raises(CheckpointError, match="holds no classifiers"):
        Predictor(tmp_path / "backbone.safetensors", cache_dir=tmp_path)
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingExtraError, match=r"pip install '\.\[openvino\]'"):
        open_engine(exported, EngineOptions("openvino"))


def test_networks_in_memory_run_on_any_engine(network, small_checkpoint, wanted) -> None:
    mixed = mindspore.amp.auto_mixed_precision(create_network(weights=small_checkpoint), "O2")
    for cell, backend in ((network, "onnx"), (network, "openvino"), (mixed, "mindspore")):
        assert_same(Predictor(network=cell, backend=backend, size=SMALL).embed([PHOTO]), wanted)
    with pytest.raises(CheckpointError, match="holds no networks of this package"):
        Predictor(network=mindspore.nn.Dense(2, 2))


EMBED = """
import sys, numpy
from multitasknet import Predictor
from multitasknet.inference.engines import has_bfloat16
weights, target, *pictures = sys.argv[1:]
predictor = Predictor(weights, precision="bfloat16" if has_bfloat16() else None, pose="none")
numpy.save(target, predictor.embed(pictures))
print(has_bfloat16(), predictor.engine.name, predictor.engine.precision)
"""


def test_bfloat16_stays_near_float32_and_is_never_silently_float32(tmp_path, exported) -> None:
    """On shipped weights and crops, where the processor has it and no cap takes it away."""
    weights, crops = ASSETS / "vehiclereid_synthetic.ckpt", sorted(ASSETS.rglob("demo/*/*.jpg"))
    arguments = [str(weights), str(tmp_path / "found.npy"), *map(str, crops[:16])]
    done = run_python(EMBED, *arguments, ONEDNN_MAX_CPU_ISA="")
    assert done.returncode == 0, done.stderr
    has, *taken = done.stdout.split()
    assert taken == (["openvino", "bfloat16"] if has == "True" else ["onnx", "float32"])
    wanted = Predictor(weights, pose="none").embed(crops[:16])
    near = cosines(np.load(tmp_path / "found.npy"), wanted)
    assert near.mean() >= 0.999 and near.min() >= 0.99
    with pytest.raises(EngineError, match="does not compute in bfloat16"):  # by this cap
        assert os.environ["ONEDNN_MAX_CPU_ISA"] == "AVX2"
        open_engine(exported, EngineOptions(precision="bfloat16"))


# What is exported


def test_an_onnx_file_alone_is_enough(exported, network, small_checkpoint) -> None:
    model = onnx.load(exported)
    onnx.checker.check_model(model, full_check=True)
    shapes = {
        one.name: [dim.dim_param or dim.dim_value for dim in one.type.tensor_type.shape.dim]
        for one in (*model.graph.input, *model.graph.output)
    }
    assert shapes["image"] == ["batch", 16, "height", "width"]
    assert list(shapes) == [
        *("image", "pose", "id_logits", "color_logits", "type_logits", "embedding")
    ]
    stated = json.loads({entry.key: entry.value for entry in model.metadata_props}["multitasknet"])
    assert stated["spec"]["variant"] == "segment"
    assert stated["normalization"]["rgb"]["mean"] == [0.485, 0.456, 0.406]
    assert stated["weights_sha256"] == file_sha256(small_checkpoint)
    alone, cell = Predictor(exported, batch_size=2), Predictor(network=network, size=SMALL)
    assert (alone.size, alone.engine.name) == (SMALL, "onnx")
    (one, *_), (other, *_) = (each.predict([PHOTO] * 3, [POSE] * 3) for each in (alone, cell))
    assert (one.color, one.type) == (other.color, other.type)
    scale = np.abs(other.embedding).max()
    assert np.abs(one.embedding - other.embedding).max() <= 1e-4 * scale


def test_a_file_of_one_batch_size_and_mindir_give_the_same(tmp_path, network) -> None:
    fixed = export(tmp_path / "fixed.onnx", network=network, size=SMALL, fixed_batch=3)
    assert (fixed.metadata.batch, fixed.bytes) == (3, fixed.path.stat().st_size)
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


def test_an_export_that_differs_is_an_error_and_leaves_no_file(
    tmp_path, network, monkeypatch
) -> None:
    monkeypatch.setattr(exporting, "TOLERANCE", 1e-12)
    with pytest.raises(EngineError, match=r"differ from the network's by .* the file is not kept"):
        export(tmp_path / "model.onnx", network=network, size=32)
    assert list(tmp_path.iterdir()) == []


def test_the_weights_say_which_network_is_exported(tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setattr("multitasknet.hub.card.PACKAGE", ASSETS.parent)
    target, file = tmp_path / "model.onnx", ASSETS / "vehiclepose_synthetic.ckpt"
    assert export(target, weights="vehiclepose", size=64).metadata.spec.network == "vehiclepose"
    with pytest.raises(MultiTaskNetError, match="expected multitasknet, but it is vehiclepose"):
        export(target, weights="vehiclepose", name="multitasknet")
    assert main(["export", "--output", str(target), "--weights", str(file), "--size", "64"]) == 0
    printed = capsys.readouterr().out
    assert f"{target.stat().st_size / 1e6:.1f} MB" in printed
    assert "at most from the Cell, on 8 inputs" in printed
    assert main(["pose", str(PHOTO), "--weights", str(target)]) == 0
    for bad in ("model.zip", "model.onnx/below.onnx"):
        assert main(["export", "--output", str(tmp_path / bad), "--weights", "none"]) == 2
        assert bad in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


# INT8


def test_int8_says_what_it_costs_and_predicts(int8, exported, crops) -> None:
    assert (int8.calibrated_on, int8.compared_on, int8.shift) == (6, 2, None)
    assert 0.99 <= int8.cosine < 1
    assert 0.9 < int8.least_cosine <= int8.cosine
    assert min(int8.images_per_second) > 0
    assert int8.path.stat().st_size < exported.stat().st_size / 3
    predictors = [
        Predictor(int8.path, backend=one, precision="int8") for one in ("onnx", "openvino")
    ]
    ours, openvinos, theirs = (
        one.predict(crops)[6:] for one in (*predictors, Predictor(exported, batch_size=3))
    )
    agreeing = [one.color == other.color for one, other in zip(ours, theirs, strict=True)]
    assert int8.color_agreement == pytest.approx(np.mean(agreeing))
    ours, openvinos, theirs = (
        np.stack([p.embedding for p in some]) for some in (ours, openvinos, theirs)
    )
    assert cosines(ours, theirs).mean() == pytest.approx(int8.cosine, abs=2e-3)
    assert cosines(ours, openvinos).min() > 0.99


def test_embeddings_of_an_int8_file_are_of_that_file(int8, exported, tmp_path) -> None:
    """It depends on the pictures that it was calibrated on."""
    own = Path(shutil.copy(int8.path, tmp_path / "own.onnx"))
    predictor = Predictor(own)
    shutil.copy(exported, own)  # what has replaced it since does not run
    assert predictor.origin.weights_sha256 == file_sha256(int8.path)
    assert predictor.origin == Predictor(int8.path, backend="openvino").origin
    assert Predictor(exported, backend="openvino").origin == Predictor(exported).origin


def test_what_is_made_of_a_file_is_made_of_the_bytes_that_were_read(exported, tmp_path) -> None:
    copy = Path(shutil.copy(exported, tmp_path / "copy.onnx"))
    engine = open_engine(copy)
    copy.write_bytes(b"another network, exported meanwhile")
    assert engine.load() == exported.read_bytes()


def test_int8_of_a_pose_network_says_how_far_keypoints_move(tmp_path, crops) -> None:
    estimator = PoseEstimator(ASSETS / "vehiclepose_synthetic.ckpt", size=SMALL, batch_size=4)
    report = quantize(tmp_path / "int8.onnx", estimator, crops, min_cosine=0)
    small = PoseEstimator(tmp_path / "int8.onnx")
    assert small.size == SMALL  # what it was calibrated at
    moved, exact = (
        np.stack([pose.keypoints for pose in one.estimate(crops[6:])]) for one in (small, estimator)
    )
    sides = np.array([max(image.shape) for image in crops[6:]])
    shift = np.linalg.norm((moved - exact)[..., :2], axis=2) / sides[:, None]
    assert report.shift == pytest.approx(shift.mean(), rel=1e-4)
    assert (report.color_agreement, report.type_agreement) == (None, None)


def test_int8_that_costs_too_much_or_cannot_be_made_is_refused(
    exported, network, tmp_path, crops
) -> None:
    exact, target = Predictor(exported), tmp_path / "int8.onnx"
    before = exported.read_bytes()
    for output, runner, count, named in (
        (target, exact, 2, "mean cosine with float32 is"),
        (target, exact, 1, "1 images; expected at least 2"),
        (tmp_path / "int8.mindir", exact, 2, "ends in .onnx"),
        (target, Predictor(network=network), 2, "backend='onnx'"),
        (exported, exact, 2, "is what is read as"),
    ):
        with pytest.raises(MultiTaskNetError, match=named):
            quantize(output, runner, crops[:count], min_cosine=1.5)
    assert list(tmp_path.iterdir()) == [] and exported.read_bytes() == before


def test_the_command_quantizes_with_a_folder(exported, tmp_path, capsys) -> None:
    (tmp_path / "crops").mkdir()
    for name in "ab":
        shutil.copy(PHOTO, tmp_path / "crops" / f"{name}.jpg")
    command = ["quantize", str(tmp_path / "crops"), "--weights", str(exported)]
    assert main([*command, "--output", str(tmp_path / "int8.onnx")]) == 0
    printed = capsys.readouterr().out
    assert "calibrated on  1 images" in printed and "the same for" in printed


# What is kept


def test_weights_are_converted_once(small_checkpoint, wanted, tmp_path) -> None:
    kept, empty = tmp_path / "kept", tmp_path / "empty"
    empty.mkdir()
    Predictor(small_checkpoint, cache_dir=kept)
    (converted,) = (kept / "onnx").iterdir()
    before = converted.read_bytes()
    code = f"""
import sys
from multitasknet import Predictor
predictor = Predictor({str(small_checkpoint)!r}, size=64, pose="none", cache_dir={str(kept)!r})
assert predictor.embed([{str(PHOTO)!r}]).shape == (1, 1024)
assert not {{"mindspore", "torch", "onnx", "safetensors", "yaml"}} & set(sys.modules)
"""
    done = run_python(code, TMPDIR=str(empty))
    assert done.returncode == 0, done.stderr
    # ONNX Runtime keeps the number of its session there when it reports to its maker.
    assert list(empty.iterdir()) == []
    predictor = Predictor(small_checkpoint, size=SMALL, cache_dir=kept)
    assert (predictor.engine.name, predictor.engine.source) == ("onnx", str(small_checkpoint))
    assert predictor.engine.weights_sha256 == file_sha256(small_checkpoint)
    assert_same(predictor.embed([PHOTO]), wanted)
    assert [path.read_bytes() for path in (kept / "onnx").iterdir()] == [before]


def test_a_changed_sidecar_arrives_through_the_cache(small_checkpoint, tmp_path) -> None:
    weights = Path(shutil.copy(small_checkpoint, tmp_path / "own.ckpt"))
    spec = read_weights(weights).spec
    ids = ClassMaps(tuple(range(spec.num_ids)), tuple(range(1, 11)), tuple(range(1, 10)))
    for first in ("vermilion", "ochre"):
        names = (first, *spec.color_names[1:])
        named = replace(spec, color_names=names, input_size=(64, 32))
        write_sidecar(weights, Sidecar(named, ids))
        predictor = Predictor(weights, cache_dir=tmp_path / "cache")
        assert (predictor.spec.color_names[0], predictor.size) == (first, (64, 32))


def test_a_cache_that_cannot_be_used_fails_no_command(tmp_path, monkeypatch, caplog) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr(Path, "write_bytes", full)
    for folder in (tmp_path / "file", tmp_path / "full"):
        conversion.keep(folder, "key", b"content")
        assert f"{folder}: the network is not kept" in caplog.text
        assert conversion.find_kept(folder, "key") is None
    assert list((tmp_path / "full").iterdir()) == []


def test_what_is_damaged_in_the_cache_is_made_again(tmp_path, caplog) -> None:
    conversion.keep(tmp_path, "key", b"content")
    (path,) = tmp_path.iterdir()
    path.write_bytes(b"contenT")
    assert conversion.find_kept(tmp_path, "key") is None
    assert f"{path} is damaged" in caplog.text and not path.exists()


def test_a_cache_is_bounded_and_loses_what_was_used_least_recently(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(conversion, "MOST_BYTES", 300)
    for age, key in enumerate(("a", "b", "c")):
        conversion.keep(tmp_path, key, key.encode() * 100)
        (path,) = tmp_path.glob(f"{key}-*")
        os.utime(path, (age, age))
    assert conversion.find_kept(tmp_path, "a") == b"a" * 100  # used: now the newest
    conversion.keep(tmp_path, "d", b"d" * 100)
    assert {key for key in "abcd" if conversion.find_kept(tmp_path, key)} == {"a", "c", "d"}
    conversion.keep(tmp_path, "e", b"e" * 400)
    assert conversion.find_kept(tmp_path, "e")


def test_mindspores_exporters_are_given_plain_paths(tmp_path, monkeypatch, network) -> None:
    odd = tmp_path / "my ünits+"
    odd.mkdir()
    monkeypatch.setattr(conversion.tempfile, "tempdir", str(odd))
    for name in ("model a.mindir", "model+b.onnx"):
        assert export(odd / name, network=network, size=32).difference <= 1e-4
    assert sorted(path.name for path in odd.iterdir()) == ["model a.mindir", "model+b.onnx"]
