"""OpenVINO beside ONNX Runtime, the precisions, and the rule that chooses between them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from multitasknet import MissingExtraError, Predictor, create_network, export, quantize
from multitasknet.cli import main
from multitasknet.inference import openvino_engine
from multitasknet.inference.choice import PrecisionError, choose
from multitasknet.inference.onnx_engine import OnnxEngine
from multitasknet.inference.onnx_model import OnnxError
from multitasknet.inference.opening import BackendError
from multitasknet.inference.openvino_engine import OpenVinoEngine, has_bfloat16
from multitasknet.runtime import usable_cores

ASSETS = Path(__file__).resolve().parents[1] / "assets"
SHIPPED = ASSETS / "multitasknet_synthetic.ckpt"
PICTURES = sorted((ASSETS / "demo").rglob("*.jpg"))[:24]
CAP = "ONEDNN_MAX_CPU_ISA"
SIZE = (64, 64)
PIXELS = list(np.random.default_rng(0).integers(0, 256, (8, 40, 40, 3), dtype=np.uint8))
CLOSE = 1e-4


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Path:
    network = create_network(weights=None, variant="rgb", num_ids=5)
    return export(tmp_path_factory.mktemp("onnx") / "model.onnx", network=network, size=SIZE).path


@pytest.fixture(scope="module")
def int8(exported, tmp_path_factory) -> Path:
    target = tmp_path_factory.mktemp("int8") / "int8.onnx"
    return quantize(target, Predictor(exported, backend="onnx"), PIXELS, min_cosine=0.5).path


@pytest.fixture(scope="module")
def inputs() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    image = rng.normal(size=(5, 3, *SIZE)).astype(np.float32)
    return image, rng.uniform(-0.5, 0.5, (5, 108)).astype(np.float32)


@pytest.fixture(scope="module")
def exact(exported, inputs) -> tuple[np.ndarray, ...]:
    return OnnxEngine(exported).run(*inputs)


def cosines(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return (one * other).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)


def assert_same(got: tuple[np.ndarray, ...], wanted: tuple[np.ndarray, ...]) -> None:
    for one, other in zip(got, wanted, strict=True):
        assert one.dtype == np.float32
        assert np.abs(one - other).max() <= CLOSE * np.abs(other).max()


@pytest.mark.parametrize(
    ("engine", "hint", "threads"),
    [*product((OnnxEngine, OpenVinoEngine), ("latency", "throughput"), (None, 3))],
)
def test_the_engines_give_the_same(exported, inputs, exact, engine, hint, threads) -> None:
    opened = engine(exported, hint=hint, threads=threads)
    assert (opened.threads, opened.precision) == (threads or usable_cores(), "float32")
    assert f"{engine.__name__}({exported}: float32, {hint}, " in repr(opened)
    assert_same(opened.run(*inputs), exact)
    assert_same(opened.run(*(one[:1] for one in inputs)), tuple(one[:1] for one in exact))


def test_openvino_runs_a_model_in_memory_and_an_int8_file(exported, int8, inputs, exact) -> None:
    assert_same(OpenVinoEngine(exported.read_bytes()).run(*inputs), exact)
    ours, theirs = OpenVinoEngine(int8), OnnxEngine(int8)
    assert ours.precision == "int8"
    assert ours.weights_sha256 == theirs.weights_sha256 != OnnxEngine(exported).weights_sha256
    assert cosines(ours.run(*inputs)[-1], theirs.run(*inputs)[-1]).min() > 0.99


@pytest.mark.parametrize("hint", ["latency", "throughput"])
def test_a_fixed_batch_is_filled_up(exported, inputs, exact, hint) -> None:
    engine = OpenVinoEngine(exported, hint=hint)
    engine.metadata = replace(engine.metadata, batch=2)
    assert_same(engine.run(*inputs), exact)


def test_the_compiled_network_is_kept_and_verified(
    exported, inputs, exact, tmp_path, monkeypatch, caplog
) -> None:
    made = []
    monkeypatch.setattr(openvino_engine, "keep", noting(openvino_engine.keep, made))
    for hint in ("latency", "throughput", "latency"):
        assert_same(OpenVinoEngine(exported, folder=tmp_path, hint=hint).run(*inputs), exact)
    assert sorted(made) == sorted(tmp_path.iterdir())
    assert len(made) == 2
    for kept in made:
        content = bytearray(kept.read_bytes())
        middle = len(content) // 2
        content[middle : middle + 65536] = bytes(65536)
        kept.write_bytes(content)
    assert_same(OpenVinoEngine(exported, folder=tmp_path).run(*inputs), exact)
    assert "is damaged; it is made again" in caplog.text
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    assert_same(OpenVinoEngine(exported, folder=in_the_way).run(*inputs), exact)
    assert "the compiled network is not kept" in caplog.text


def noting(function, results):
    def call(*arguments):
        results.append(function(*arguments))
        return results[-1]

    return call


BOTH = ("onnx", "openvino")


@pytest.mark.parametrize(
    ("precision", "stated", "facts", "chosen"),
    [
        (None, "float32", {}, ("onnx", False)),
        ("float32", "float32", {}, ("onnx", False)),
        ("auto", "float32", {}, ("openvino", True)),
        ("bfloat16", "float32", {}, ("openvino", True)),
        ("bfloat16", "float32", {"finds_keypoints": True}, ("openvino", True)),
        ("auto", "float32", {"finds_keypoints": True}, ("onnx", False)),
        ("auto", "float32", {"has_bfloat16": False}, ("onnx", False)),
        (None, "float32", {"runtimes": ("openvino",)}, ("openvino", False)),
        ("auto", "int8", {}, ("onnx", False)),
        ("auto", "float16", {}, ("onnx", False)),
        ("int8", "int8", {}, ("onnx", False)),
        ("int8", "int8", {"runtimes": ("openvino",)}, ("openvino", False)),
        (None, "int8", {"finds_keypoints": True}, ("openvino", False)),
        ("auto", "int8", {"finds_keypoints": True, "runtimes": ("onnx",)}, ("onnx", False)),
        ("int8", "float32", {}, "'multitasknet quantize'"),
        ("float32", "int8", {}, "give the weights"),
        ("bfloat16", "int8", {}, "it is int8, but the precision 'bfloat16'"),
        ("bfloat16", "float32", {"has_bfloat16": False}, "this processor does not compute in"),
        (
            "bfloat16",
            "float32",
            {"runtimes": ("onnx",), "has_bfloat16": False},
            r"pip install 'multitasknet\[openvino\]'",
        ),
    ],
)
def test_the_rule(precision, stated, facts, chosen) -> None:
    facts = {"finds_keypoints": False, "runtimes": BOTH, "has_bfloat16": True} | facts
    if isinstance(chosen, str):
        with pytest.raises(PrecisionError, match=chosen):
            choose(precision, stated=stated, **facts)
        return
    found = choose(precision, stated=stated, **facts)
    assert (found.runtime, found.bfloat16) == chosen
    assert found.reason


def test_predictors_say_and_note_what_runs_them(exported, int8, tmp_path) -> None:
    how = {"pose": "none", "cache_dir": tmp_path, "batch_size": 8}
    wanted = Predictor(exported, **how)
    assert (wanted.engine.name, wanted.engine.precision) == ("onnx", "float32")
    ours = Predictor(exported, backend="openvino", hint="throughput", **how)
    assert (ours.engine.name, ours.engine.precision) == ("openvino", "float32")
    # What is kept of one runtime's float32 serves the other's.
    assert ours.origin == wanted.origin
    assert_same((ours.embed(PIXELS),), (wanted.embed(PIXELS),))
    assert [path.parent.name for path in tmp_path.rglob("*.blob")] == ["openvino"]
    small = Predictor(int8, precision="int8", **how)
    assert small.origin.precision == "int8"
    auto = Predictor(exported, precision="auto", **how)
    assert auto.engine.precision == ("bfloat16" if has_bfloat16() else "float32")
    assert cosines(auto.embed(PIXELS), wanted.embed(PIXELS)).min() >= 0.999


def test_threads_share_openvino(exported, inputs, exact) -> None:
    engine = OpenVinoEngine(exported)
    with ThreadPoolExecutor(16) as pool:
        runs = [pool.submit(engine.run, *(one[k % 5 :][:1] for one in inputs)) for k in range(40)]
    for k, run in enumerate(runs):
        assert_same(run.result(), tuple(one[k % 5 :][:1] for one in exact))


@pytest.mark.parametrize(
    ("arguments", "error", "named"),
    [
        ({"precision": "float64"}, ValueError, "expected one of auto, float32, bfloat16, int8"),
        ({"hint": "speed"}, ValueError, "expected one of latency, throughput"),
        ({"precision": "int8"}, PrecisionError, "it is float32, .* 'multitasknet quantize'"),
        ({"precision": "bfloat16", "backend": "onnx"}, PrecisionError, "is for OpenVINO"),
        ({"backend": "openvino", "device": "Ascend"}, BackendError, "compute on the CPU"),
        ({"backend": "openvino", "fp16": True}, BackendError, "is for MindSpore's engine"),
        ({"backend": "openvino", "threads": 0}, OnnxError, "expected 1 to 1024"),
        ({"weights": None, "precision": "int8"}, PrecisionError, "MindSpore computes in float32"),
        ({"weights": None, "precision": "int8", "backend": "onnx"}, PrecisionError, "quantize"),
    ],
)
def test_wrong_arguments_are_named(exported, arguments, error, named) -> None:
    with pytest.raises(error, match=named):
        Predictor(**({"weights": exported, "pose": "none"} | arguments))


def test_what_is_no_network_is_named(tmp_path, exported, monkeypatch) -> None:
    (tmp_path / "torn.onnx").write_bytes(b"torn")
    for precision in (None, "auto"):
        with pytest.raises(OnnxError, match=r"torn\.onnx"):
            Predictor(tmp_path / "torn.onnx", backend="openvino", precision=precision)
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'multitasknet\[openvino\]'"):
        Predictor(exported, backend="openvino")


PREDICT = """
import sys, numpy
from pathlib import Path
from multitasknet import Predictor
from multitasknet.inference.openvino_engine import has_bfloat16
weights, backend, target, *pictures = sys.argv[1:]
for _ in range(2):  # compiled, and from the cache
    how = {"backend": backend, "pose": "none", "cache_dir": Path(target).parent}
    predictor = Predictor(weights, precision="auto", **how)
    numpy.save(target, predictor.embed(pictures))
print(has_bfloat16(), predictor.engine.name, predictor.engine.precision)
"""


def embedded(weights: Path, backend: str, folder: Path, *, isa: str | None) -> tuple[str, ...]:
    """Embed the demo's pictures in another process; whether it had bfloat16, and what it took."""
    environment = {name: value for name, value in os.environ.items() if name != CAP}
    if isa:
        environment[CAP] = isa
    arguments = [str(weights), backend, str(folder / "found.npy"), *map(str, PICTURES)]
    command = [sys.executable, "-c", PREDICT, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    wanted = Predictor(weights, backend="onnx", pose="none", cache_dir=folder).embed(PICTURES)
    assert cosines(np.load(folder / "found.npy"), wanted).min() >= 0.999
    return tuple(done.stdout.split())


@pytest.mark.parametrize(("backend", "name"), [("auto", "onnx"), ("openvino", "openvino")])
def test_without_the_instructions_auto_is_float32(exported, tmp_path, backend, name) -> None:
    assert embedded(exported, backend, tmp_path, isa="AVX2") == ("False", name, "float32")


def test_with_all_instructions_auto_stays_within_its_bound(tmp_path) -> None:
    has, *taken = embedded(SHIPPED, "auto", tmp_path, isa=None)
    assert taken == (["openvino", "bfloat16"] if has == "True" else ["onnx", "float32"])


def test_bfloat16_that_the_processor_does_not_have_is_no_silent_float32(exported) -> None:
    if has_bfloat16():
        pytest.skip("this processor computes in bfloat16")
    with pytest.raises(OnnxError, match="does not compute it in bfloat16"):
        OpenVinoEngine(exported, bfloat16=True)


def test_the_command_takes_a_precision(exported, tmp_path, capsys) -> None:
    photo = str(ASSETS / "example.jpg")
    how = ["--weights", str(exported), "--pose", "none", "--cache-dir", str(tmp_path)]
    options = ["--backend", "openvino", "--precision", "float32", "--optimize-for", "throughput"]
    assert main(["predict", photo, *how, *options]) == 0
    assert "run by openvino, float32" in capsys.readouterr().out
    assert main(["predict", photo, *how, "--precision", "int8"]) == 2
    assert "'multitasknet quantize'" in capsys.readouterr().err


def test_without_onnx_runtime_auto_is_openvino(checkpoint, tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    engine = Predictor(checkpoint, cache_dir=tmp_path, pose="none").engine
    assert (engine.name, engine.source) == ("openvino", str(checkpoint))
    assert {path.parent.name for path in tmp_path.rglob("*.*")} == {"onnx", "openvino"}


def test_the_command_says_what_each_precision_costs(exported, int8, tmp_path, capsys) -> None:
    how = ["--weights", str(exported), "--pose", "none", "--cache-dir", str(tmp_path)]
    command = ["precision", str(ASSETS / "example.jpg"), *how, "--int8", str(int8)]
    assert main(command) == 0
    header, first, *_, last, note = capsys.readouterr().out.splitlines()
    assert header.split()[:2] == ["engine", "images/s"]
    assert first.split()[:2] == ["float32", "onnx"]
    assert first.split()[3:] == ["1.00000", "1.00000", "100.00%", "100.00%", "0.00%"]
    assert last.split()[:2] == ["int8", "onnx"]
    assert "with those of float32" in note
    assert main([*command, "--json"]) == 0
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (said[0]["precision"], said[-1]["precision"]) == ("float32", "int8")
    assert 0.9 < said[-1]["least_cosine"] <= said[-1]["embedding_cosine"] < 1
    assert said[-1]["images_per_second"] > 0
