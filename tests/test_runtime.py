"""What this process may use of the processor, and that the guard leaves nothing behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from multitasknet import runtime
from multitasknet.runtime import (
    cap_leaves_bfloat16,
    free_memory,
    guard_cpu,
    has_cpu_feature,
    sums_int8_exactly,
    usable_cores,
    usable_workers,
)


@pytest.mark.parametrize(
    ("content", "cores"),
    [("max 100000", 8), ("150000 100000", 2), ("50000 100000", 1), ("odd", 8), (None, 8)],
)
def test_a_control_groups_quota_counts(tmp_path, monkeypatch, content, cores) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(8), raising=False)
    monkeypatch.setattr(runtime, "_QUOTA", tmp_path / "cpu.max")
    if content:
        (tmp_path / "cpu.max").write_text(content)
    assert usable_cores() == cores


def test_the_memory_left_is_at_most_that_of_the_system() -> None:
    assert 0 <= free_memory() <= 1.1 * psutil.virtual_memory().available


def test_workers_are_few_and_processes_of_msrun_share_the_cores(monkeypatch) -> None:
    for cores, processes, workers in ((192, 8, 8), (24, 8, 3), (4, 1, 4), (4, 8, 1)):
        monkeypatch.setattr("multitasknet.runtime.usable_cores", lambda cores=cores: cores)
        monkeypatch.setenv("MS_WORKER_NUM", str(processes))
        assert usable_workers() == workers
    monkeypatch.setenv("MSRUN_CPU_LIST", "[0-23]")
    assert usable_workers() == 4, "each is bound to cores of its own"


def test_affinity_counts() -> None:
    code = "import os; os.sched_setaffinity(0, {0}); from multitasknet.runtime import usable_cores"
    command = [sys.executable, "-c", f"{code}; print(usable_cores())"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)


@pytest.mark.parametrize(
    ("cap", "bfloat16", "int8"),
    [
        ("", True, True),
        ("avx2", False, False),
        ("AVX512_CORE_VNNI", False, True),
        ("AVX512_CORE_BF16", True, True),
    ],
)
def test_a_cap_on_instructions_takes_precisions_away(
    monkeypatch, cap: str, bfloat16: bool, int8: bool
) -> None:
    monkeypatch.setattr("multitasknet.runtime.has_cpu_feature", lambda name: True)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", cap)
    assert (cap_leaves_bfloat16(), sums_int8_exactly()) == (bfloat16, int8)


@pytest.mark.parametrize(
    ("facts", "needed"),
    [
        ({}, True),
        ({"version": "2.8.0"}, False),
        ({"version": "3.0.0rc1"}, True),
        ({"device": "Ascend"}, False),
        ({"avx512": False}, False),
        ({"chosen": "AVX512_CORE"}, False),
    ],
)
def test_the_cpu_guard_decides_by_version_device_and_cpu(facts, needed, monkeypatch) -> None:
    facts = {"version": "2.10.0", "device": "CPU", "avx512": True, "chosen": None} | facts
    monkeypatch.setattr("mindspore.__version__", facts["version"])
    monkeypatch.setattr("mindspore.get_context", lambda _: facts["device"])
    monkeypatch.setattr(runtime, "has_cpu_feature", lambda _: facts["avx512"])
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA")
    if facts["chosen"]:
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", facts["chosen"])
    limited: list[Path] = []
    monkeypatch.setattr(runtime, "_limit_onednn", limited.append)
    guard_cpu()
    assert bool(limited) is needed


GUARD = """
import logging, os, sys
os.environ.pop("ONEDNN_MAX_CPU_ISA", None)
logging.basicConfig(level=logging.INFO, format="%(message)s")
import mindspore, numpy
from multitasknet.runtime import guard_cpu
if sys.argv[1] == "late":
    x, w = (mindspore.Tensor(numpy.ones((8, 8, n, n), numpy.float32)) for n in (8, 3))
    mindspore.ops.Conv2D(8, 3)(x, w).asnumpy()
for _ in range(2):
    guard_cpu()
assert "ONEDNN_MAX_CPU_ISA" not in os.environ
if sys.argv[1] == "early":
    from multitasknet import create_network
    create_network(weights=None, variant="rgb", num_ids=2)
    mindspore.set_device("CPU")  # no operator ran
"""


@pytest.mark.skipif(not has_cpu_feature("AVX512F"), reason="this processor has no AVX-512")
@pytest.mark.parametrize(
    ("when", "said"),
    [
        ("early", "MindSpore's oneDNN is limited to AVX2, which is faster here"),
        (
            "late",
            "MindSpore has computed with AVX-512 already, which is slow; set "
            "ONEDNN_MAX_CPU_ISA=AVX2 before it",
        ),
    ],
)
def test_the_guard_says_once_what_is_true(when: str, said: str) -> None:
    """It runs no operator and leaves no variable, and does not claim what it cannot do."""
    done = subprocess.run([sys.executable, "-c", GUARD, when], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stderr.splitlines() if "AVX" in line] == [said]
