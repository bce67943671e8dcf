"""What this process may use of the processor, and that the guard leaves nothing behind."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from multitasknet import Predictor, create_network, export
from multitasknet.inference import onnx_engine
from multitasknet.inference.mindspore_engine import MindSporeEngine
from multitasknet.runtime import (
    cap_leaves_bfloat16,
    cores_of_quota,
    sums_int8_exactly,
    usable_cores,
    usable_workers,
    workers_for,
)

PHOTO = Path(__file__).resolve().parents[1] / "assets" / "example.jpg"


@pytest.mark.parametrize(
    ("content", "cores"),
    [("max 100000", None), ("150000 100000", 2), ("50000 100000", 1), ("odd", None)],
)
def test_a_control_groups_quota_counts(tmp_path: Path, content: str, cores: int | None) -> None:
    path = tmp_path / "cpu.max"
    path.write_text(content)
    assert cores_of_quota(path) == (cores or os.cpu_count())
    assert cores_of_quota(tmp_path / "nowhere") == os.cpu_count()


@pytest.mark.parametrize(
    ("cores", "processes", "workers"),
    [(192, 1, 8), (192, 8, 8), (16, 8, 2), (4, 1, 4), (4, 8, 1), (1, 1, 1)],
)
def test_workers_are_few_and_share_the_cores(cores: int, processes: int, workers: int) -> None:
    assert workers_for(cores, processes) == workers


def test_processes_of_msrun_share_the_cores_unless_they_are_bound(monkeypatch) -> None:
    monkeypatch.setattr("multitasknet.runtime.usable_cores", lambda: 24)
    monkeypatch.setenv("MS_WORKER_NUM", "8")
    assert usable_workers() == 3
    monkeypatch.setenv("MSRUN_CPU_LIST", "[0-23]")
    assert usable_workers() == 8


def test_affinity_counts() -> None:
    code = "import os; os.sched_setaffinity(0, {0}); from multitasknet.runtime import usable_cores"
    command = [sys.executable, "-c", f"{code}; print(usable_cores())"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)


@pytest.mark.parametrize(
    ("cap", "leaves"),
    [
        ("", True),
        ("ALL", True),
        ("avx2", False),
        ("AVX512_CORE_VNNI", False),
        ("AVX512_CORE_BF16", True),
        ("AVX512_CORE_AMX", True),
    ],
)
def test_a_cap_on_instructions_takes_bfloat16_away(monkeypatch, cap: str, leaves: bool) -> None:
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", cap)
    assert cap_leaves_bfloat16() is leaves


def test_int8_leaves_room_under_a_cap_without_vnni(monkeypatch) -> None:
    monkeypatch.setattr("multitasknet.runtime.has_cpu_feature", lambda name: True)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    for cap, exact in (("", True), ("AVX512_CORE_VNNI", True), ("AVX2", False)):
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", cap)
        assert sums_int8_exactly() is exact


def test_the_guard_takes_its_variable_back() -> None:
    code = """
import os
os.environ.pop("ONEDNN_MAX_CPU_ISA", None)
from multitasknet import create_network
create_network(weights=None, variant="rgb")
print(os.environ.get("ONEDNN_MAX_CPU_ISA"))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "None\n"


def in_threads(count: int, run) -> list:
    """What ``count`` threads that start together return, or raise."""
    results: list = [None] * count
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


@pytest.fixture(scope="module")
def network():
    return create_network(weights=None, variant="rgb", num_ids=5)


@pytest.mark.parametrize("kind", ["mindspore", "onnx", "mindir"])
def test_32_threads_share_a_predictor(tmp_path: Path, network, kind: str, monkeypatch) -> None:
    if kind == "mindir":
        path = export(tmp_path / "model.mindir", network=network, size=(32, 32)).path
        predictor = Predictor(path)
    else:
        # So that compiled and plain runs, and the change between them, are met.
        monkeypatch.setattr("multitasknet.inference.mindspore_engine._RUNS_BEFORE_COMPILING", 16)
        predictor = Predictor(network=network, backend=kind, size=(32, 32))
    pixels = np.random.default_rng(0).integers(0, 256, (32, 40, 40, 3), dtype=np.uint8)
    alone = predictor.embed(list(pixels))
    together = in_threads(32, lambda index: predictor.embed([pixels[index]]))
    for one in together:
        assert isinstance(one, np.ndarray), one
    np.testing.assert_allclose(np.concatenate(together), alone, rtol=1e-3, atol=1e-4)


def test_threads_reach_onnx_runtime(network, tmp_path, monkeypatch) -> None:
    path = export(tmp_path / "model.onnx", network=network, size=(32, 32)).path
    asked = []
    runtime = onnx_engine.import_runtime()
    session = runtime.InferenceSession

    def note(model, options, **more):
        asked.append(options.intra_op_num_threads)
        return session(model, options, **more)

    monkeypatch.setattr(runtime, "InferenceSession", note)
    for threads in (None, 1, 3):
        Predictor(path, threads=threads)
    assert asked == [usable_cores(), 1, 3]


def test_a_network_trained_further_is_not_what_a_predictor_runs(network) -> None:
    engine = MindSporeEngine(network)
    before = engine.weights_sha256
    bias = network.fc_vid.bias
    kept = bias.asnumpy().copy()
    bias.set_data(bias + 1)
    try:
        assert engine.weights_sha256 == before
        assert MindSporeEngine(network).weights_sha256 != before
    finally:
        bias.set_data(type(bias)(kept))
