"""ONNX Runtime, OpenVINO and MindSpore against the Cell, what opens them, and what is kept."""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import mindspore
import numpy as np
import onnx
import pytest
from conftest import ASSETS, PHOTO, save_pose_weights
from safetensors.numpy import save_file

from multitasknet import (
    CheckpointError,
    EngineError,
    MissingExtraError,
    MultiTaskNet,
    MultiTaskNetSpec,
    Predictor,
    create_network,
    export,
    quantize,
    read_weights,
    save_weights,
)
from multitasknet.files import file_sha256
from multitasknet.inference import conversion, engines
from multitasknet.inference.engines import (
    EngineOptions,
    MindSporeEngine,
    has_bfloat16,
    open_engine,
)
from multitasknet.inference.export import largest_difference
from multitasknet.models.multitasknet.spec import Variant
from multitasknet.vehicle.attributes import ClassMaps
from multitasknet.weights.read import WeightsFile
from multitasknet.weights.sidecar import Sidecar, write_sidecar

SMALL = (64, 64)
pytestmark = pytest.mark.usefixtures("small")
PIXELS = list(np.random.default_rng(0).integers(0, 256, (8, 40, 40, 3), dtype=np.uint8))


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
def checkpoint(small: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "small.ckpt"
    save_weights(lively(create_network(weights=None, variant="rgb", num_ids=5)), path)
    return path


@pytest.fixture(scope="module")
def network(checkpoint: Path) -> MultiTaskNet:
    return create_network(weights=checkpoint)


@pytest.fixture(scope="module")
def exported(network: MultiTaskNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(tmp_path_factory.mktemp("onnx") / "model.onnx", network=network, size=SMALL).path


@pytest.fixture(scope="module")
def int8(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("int8") / "int8.onnx"
    return quantize(target, Predictor(exported), PIXELS, min_cosine=0.5).path


@pytest.fixture(scope="module")
def inputs() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    image = rng.normal(size=(5, 3, *SMALL)).astype(np.float32)
    return image, rng.uniform(-0.5, 0.5, (5, 108)).astype(np.float32)


@pytest.fixture(scope="module")
def exact(exported: Path, inputs) -> tuple[np.ndarray, ...]:
    return open_engine(exported).run(*inputs)


@pytest.fixture(scope="module")
def wanted(network: MultiTaskNet) -> np.ndarray:
    """The Cell's embedding of the photo."""
    return Predictor(network=network, size=SMALL, pose="none").embed([PHOTO])


@pytest.fixture(scope="module")
def kept(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that holds the converted network."""
    folder = tmp_path_factory.mktemp("kept")
    Predictor(checkpoint, cache_dir=folder)
    return folder


def cosines(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return (one * other).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)


def assert_same(got: tuple[np.ndarray, ...], wanted: tuple[np.ndarray, ...]) -> None:
    for one, other in zip(got, wanted, strict=True):
        assert one.dtype == np.float32
        assert np.abs(one - other).max() <= 1e-4 * np.abs(other).max()


def in_threads(count: int, run: Callable[[int], Any]) -> list[Any]:
    """What ``count`` threads that start together return, or raise."""
    results: list[Any] = [None] * count
    barrier = threading.Barrier(count)

    def call(index: int) -> None:
        barrier.wait()
        try:
            results[index] = run(index)
        except BaseException as error:
            results[index] = error

    threads = [threading.Thread(target=call, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


# The engines


@pytest.mark.parametrize(
    ("keypoint_aware", "multi_task", "include_top", "stem_pool", "distance"),
    [  # each value with each other one
        (True, True, True, "same", "cosine"),
        (True, False, False, "same", "euclidean"),
        (False, True, False, "symmetric", "cosine"),
        (False, False, True, "symmetric", "euclidean"),
    ],
)
def test_the_engines_are_the_cell(
    keypoint_aware, multi_task, include_top, stem_pool, distance
) -> None:
    names: dict[str, Any] = {} if multi_task else {"color_names": (), "type_names": ()}
    spec = MultiTaskNetSpec(
        Variant.RGB,
        keypoint_aware,
        multi_task,
        5,
        include_top=include_top,
        input_size=(64, 96),
        stem_pool=stem_pool,
        distance=distance,
        **names,
    )
    cell = lively(MultiTaskNet(spec))
    for backend in ("onnx", "openvino", "mindspore"):
        engine = open_engine(cell, EngineOptions(backend=backend))
        assert (engine.spec, engine.source) == (spec, "")
        for size in ((64, 96), (96, 32)):
            assert largest_difference(engine.run, cell, replace(spec, input_size=size)) <= 1e-5
        inputs = [np.ones((3, *shape), np.float32) for shape in spec.input_shapes(size).values()]
        lengths = np.linalg.norm(engine.run(*inputs)[-1], axis=1)
        assert np.allclose(lengths, 1, atol=1e-5) == (distance == "cosine")


@pytest.mark.parametrize(
    ("backend", "aim", "threads"),
    [*product(("onnx", "openvino"), ("latency", "throughput"), (None, 3))],
)
def test_threads_and_streams_change_nothing(exported, inputs, exact, backend, aim, threads) -> None:
    opened = open_engine(exported, EngineOptions(backend, None, threads, aim))
    assert opened.name == backend
    assert_same(opened.run(*inputs), exact)
    assert_same(opened.run(*(one[:1] for one in inputs)), tuple(one[:1] for one in exact))


def test_mindspore_fills_partial_batches_up_to_the_one_size_that_is_compiled(
    network, inputs, exact
) -> None:
    engine = MindSporeEngine(network, batch=4)
    assert_same(engine.run(*inputs), exact)
    assert dict(engine._runs) == {(4, 3, *SMALL): 2}


@pytest.mark.parametrize("backend", ["mindspore", "onnx", "openvino"])
def test_32_threads_share_a_predictor(backend: str, exported, network, monkeypatch) -> None:
    # So that MindSpore's compiled and plain runs, and the change between them, are met.
    monkeypatch.setattr(engines, "_RUNS_BEFORE_COMPILING", 16)
    source = {"network": network} if backend == "mindspore" else {"weights": exported}
    predictor = Predictor(**source, backend=backend, size=(32, 32), pose="none")
    pixels = np.random.default_rng(0).integers(0, 256, (32, 40, 40, 3), dtype=np.uint8)
    alone = predictor.embed(list(pixels))
    together = in_threads(32, lambda index: predictor.embed([pixels[index]]))
    for one in together:
        assert isinstance(one, np.ndarray), one
    np.testing.assert_allclose(np.concatenate(together), alone, rtol=1e-3, atol=1e-4)


def test_threads_may_meet_at_first_use(checkpoint, tmp_path) -> None:
    """Of an empty cache: each network is converted once, under a lock."""
    pose = save_pose_weights(tmp_path / "pose.ckpt")
    code = f"""
import sys, threading
from small import small_networks
from multitasknet import Predictor
failed = []
def first(index):
    try:
        how = {{"pose": {str(pose)!r}, "cache_dir": {str(tmp_path)!r}, "size": 64}}
        assert Predictor({str(checkpoint)!r}, **how).embed([{str(PHOTO)!r}]).shape == (1, 1024)
    except BaseException as error:
        failed.append(error)
threads = [threading.Thread(target=first, args=(index,)) for index in range(4)]
with small_networks():
    [one.start() for one in threads], [one.join() for one in threads]
sys.exit(str(failed) if failed else 0)
"""
    done = run_python(code)
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(list((tmp_path / "onnx").iterdir())) == 2


def run_python(code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own, which can import what the tests share."""
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=os.environ | {"PYTHONPATH": path} | environment,
        capture_output=True,
        text=True,
    )


def test_a_network_trained_further_is_not_what_a_predictor_runs(checkpoint) -> None:
    network = create_network(weights=checkpoint)
    engine = MindSporeEngine(network)
    sha256 = file_sha256(checkpoint)
    assert (engine.weights_sha256, engine.source) == (sha256, str(network.load_report))
    bias = network.classifier_vcolor.bias
    bias.set_data(bias + 1)
    assert engine.weights_sha256 == sha256
    for backend in ("mindspore", "onnx"):
        changed = open_engine(network, EngineOptions(backend))
        assert changed.weights_sha256 != sha256
        assert changed.source == f"changed since it was loaded from {checkpoint.name}"


# What opens them


def test_an_int8_file(int8, exported, inputs, tmp_path) -> None:
    ours, theirs = (open_engine(int8, EngineOptions(one, "int8")) for one in ("openvino", "auto"))
    assert (ours.precision, theirs.name) == ("int8", "onnx")
    assert ours.weights_sha256 == theirs.weights_sha256 == file_sha256(int8)
    assert cosines(ours.run(*inputs)[-1], theirs.run(*inputs)[-1]).min() > 0.99
    with pytest.raises(EngineError, match="it is int8, not float32; give a float32 file"):
        open_engine(int8, EngineOptions(precision="float32"))
    # What is compared is of one file: INT8 depends on the pictures that it was calibrated on.
    assert Predictor(int8).origin != Predictor(exported).origin
    assert Predictor(exported, backend="openvino").origin == Predictor(exported).origin
    # Of what runs, not of what has replaced it since.
    own = Path(shutil.copy(int8, tmp_path / "own.onnx"))
    predictor = Predictor(own)
    shutil.copy(exported, own)
    assert predictor.origin.weights_sha256 == file_sha256(int8)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"backend": "tensorrt"}, "expected one of auto, onnx, openvino, mindspore"),
        ({"precision": "float64"}, "expected one of float32, bfloat16, int8"),
        ({"optimize_for": "speed"}, "expected one of latency, throughput"),
        ({"device": "Ascend", "backend": "openvino"}, "compute on the CPU here"),
        ({"threads": 0}, "threads is 0; expected 1 to 1024"),
        ({"batch_size": 0}, "batch_size is 0; expected an integer of at least 1"),
        ({"precision": "int8"}, "it is float32, not int8; give a file of quantize"),
        ({"backend": "onnx", "precision": "bfloat16"}, "needs OpenVINO; choose the backend 'open"),
        ({"backend": "mindspore"}, "MindSpore does not run .onnx files"),
        ({"weights": None, "precision": "int8"}, "MindSpore computes in float32"),
        ({"weights": "nowhere.onnx"}, r"nowhere\.onnx: it cannot be read"),
        ({"weights": "nowhere.ckpt"}, r"nowhere\.ckpt: there is no such file"),
        ({"weights": "a.mindir"}, r"a\.mindir: MindIR files are for MindSpore Lite"),
    ],
)
def test_wrong_arguments_are_named(exported, arguments, named) -> None:
    with pytest.raises(ValueError, match=named):
        Predictor(**({"weights": exported, "pose": "none"} | arguments))


def test_what_is_no_network_of_this_package_is_named(tmp_path, exported, monkeypatch) -> None:
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    x, y = (onnx.helper.make_tensor_value_info(name, 1, [1]) for name in "xy")
    graph = onnx.helper.make_graph([node], "g", [x], [y])
    opset = [onnx.helper.make_opsetid("", 13)]
    model = onnx.helper.make_model(graph, opset_imports=opset, ir_version=7)
    onnx.save(model, tmp_path / "other.onnx")
    (tmp_path / "torn.onnx").write_bytes(b"torn")
    for backend in ("onnx", "openvino"):
        for name, named in (("other", "no metadata of multitasknet"), ("torn", "cannot run it")):
            with pytest.raises(EngineError, match=named):
                open_engine(tmp_path / f"{name}.onnx", EngineOptions(backend))
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingExtraError, match=r"pip install '\.\[openvino\]'"):
        open_engine(exported, EngineOptions("openvino"))


def test_networks_in_memory_run_on_any_engine(network, checkpoint, wanted) -> None:
    mixed = mindspore.amp.auto_mixed_precision(create_network(weights=checkpoint), "O2")
    for cell, backend in ((network, "onnx"), (network, "openvino"), (mixed, "mindspore")):
        got = Predictor(network=cell, backend=backend, size=SMALL).embed([PHOTO])
        assert_same((got,), (wanted,))
    fresh = Predictor(weights=None, backend="onnx", size=64)
    assert (fresh.spec.network, fresh.engine.source, fresh.size) == ("multitasknet", "", SMALL)
    with pytest.raises(CheckpointError, match="holds no networks of this package"):
        Predictor(network=mindspore.nn.Dense(2, 2))


@pytest.mark.parametrize("backend", ["mindspore", "onnx"])
def test_outputs_that_are_no_finite_numbers_are_refused(backend, checkpoint) -> None:
    network = create_network(weights=checkpoint)
    bias = network.classifier_vcolor.bias
    bias.set_data(bias + np.inf)
    predictor = Predictor(network=network, backend=backend, size=(32, 32), pose="none")
    with pytest.raises(EngineError, match="in float32 its outputs are not all finite"):
        predictor.embed([PHOTO])


def test_weights_without_classifiers_are_refused(checkpoint, tmp_path) -> None:
    arrays = read_weights(checkpoint).arrays
    backbone = {name: value for name, value in arrays.items() if name.startswith("base.")}
    save_file(backbone, tmp_path / "backbone.safetensors")
    for backend in ("onnx", "mindspore"):
        with pytest.raises(CheckpointError, match="holds no classifiers"):
            Predictor(tmp_path / "backbone.safetensors", backend=backend, cache_dir=tmp_path)


EMBED = """
import sys, numpy
from multitasknet import Predictor
from multitasknet.inference.engines import has_bfloat16
weights, target, *pictures = sys.argv[1:]
precision = "bfloat16" if has_bfloat16() else None
predictor = Predictor(weights, precision=precision, pose="none")
numpy.save(target, predictor.embed(pictures))
print(has_bfloat16(), predictor.engine.name, predictor.engine.precision)
"""


@pytest.mark.parametrize("cap", ["", "AVX2"])
def test_bfloat16_stays_near_float32_and_is_never_silently_float32(tmp_path, cap, exported) -> None:
    """On shipped weights and crops, where the processor has it, as OpenVINO finds it."""
    weights, crops = ASSETS / "vehiclereid_synthetic.ckpt", sorted(ASSETS.rglob("demo/*/*.jpg"))
    arguments = [str(weights), str(tmp_path / "found.npy"), *map(str, crops[:16])]
    done = run_python(EMBED, *arguments, ONEDNN_MAX_CPU_ISA=cap)
    assert done.returncode == 0, done.stderr
    has, *taken = done.stdout.split()
    assert taken == (["openvino", "bfloat16"] if has == "True" else ["onnx", "float32"])
    assert not cap or has == "False"
    wanted = Predictor(weights, pose="none").embed(crops[:16])
    near = cosines(np.load(tmp_path / "found.npy"), wanted)
    assert near.mean() >= 0.999 and near.min() >= 0.99
    if not has_bfloat16():
        with pytest.raises(EngineError, match="does not compute in bfloat16"):
            open_engine(exported, EngineOptions(precision="bfloat16"))


# What is kept


def test_weights_are_converted_once_into_the_cache(checkpoint, kept, wanted) -> None:
    (converted,) = (kept / "onnx").iterdir()
    assert converted.name.startswith(file_sha256(checkpoint))
    before = converted.read_bytes()
    predictor = Predictor(checkpoint, size=SMALL, cache_dir=kept)
    assert (predictor.engine.name, predictor.engine.source) == ("onnx", str(checkpoint))
    assert predictor.engine.weights_sha256 == file_sha256(checkpoint)
    assert_same((predictor.embed([PHOTO]),), (wanted,))
    assert [path.read_bytes() for path in (kept / "onnx").iterdir()] == [before]
    # Nor does the predictor keep the checkpoint's bytes.
    files = [one for one in gc.get_objects() if type(one) is WeightsFile]
    assert not any("contents" in vars(one) for one in files if one.path == checkpoint)


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


def test_a_cache_is_bounded_and_loses_what_was_used_least_recently(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(conversion, "MOST_BYTES", 300)
    for age, key in enumerate(("a", "b", "c")):
        conversion.keep(tmp_path, key, key.encode() * 100)
        (path,) = tmp_path.glob(f"{key}-*")
        os.utime(path, (age, age))
    (tmp_path / "other.blob").write_bytes(bytes(1000))
    assert conversion.find_kept(tmp_path, "a") == b"a" * 100  # used: now the newest
    conversion.keep(tmp_path, "d", b"d" * 100)
    assert {key for key in "abcd" if conversion.find_kept(tmp_path, key)} == {"a", "c", "d"}
    conversion.keep(tmp_path, "e", b"e" * 400)
    assert conversion.find_kept(tmp_path, "e")
    assert (tmp_path / "other.blob").exists()


def test_onnx_runtime_predicts_without_mindspore_and_leaves_nothing(
    checkpoint, kept, tmp_path
) -> None:
    code = f"""
import sys
from multitasknet import Predictor
predictor = Predictor({str(checkpoint)!r}, size=64, pose="none", cache_dir={str(kept)!r})
assert predictor.embed([{str(PHOTO)!r}]).shape == (1, 1024)
assert not {{"mindspore", "torch", "onnx", "safetensors", "yaml"}} & set(sys.modules)
"""
    done = run_python(code, TMPDIR=str(tmp_path))
    assert done.returncode == 0, done.stderr
    # ONNX Runtime keeps the number of its session there when it reports to its maker.
    assert list(tmp_path.iterdir()) == []


def test_mindspores_exporters_are_given_plain_paths(tmp_path, monkeypatch, network) -> None:
    odd = tmp_path / "my ünits+"
    odd.mkdir()
    monkeypatch.setattr(conversion.tempfile, "tempdir", str(odd))
    for name in ("model a.mindir", "model+b.onnx"):
        assert export(odd / name, network=network, size=32).difference <= 1e-4
    assert sorted(path.name for path in odd.iterdir()) == ["model a.mindir", "model+b.onnx"]
