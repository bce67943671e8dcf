"""What this process may use of the processor, the guard, and devices by name and number."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from multitasknet import device as device_module
from multitasknet import runtime
from multitasknet.cli import main
from multitasknet.device import choose_device, parse_device
from multitasknet.errors import EngineError
from multitasknet.runtime import (
    guard_cpu,
    has_cpu_feature,
    usable_cores,
)


@pytest.mark.parametrize(
    ("content", "cores"), [("max 100000", 8), ("150000 100000", 2), ("50000 100000", 1), (None, 8)]
)
def test_a_control_groups_quota_counts(tmp_path, monkeypatch, content, cores) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(8), raising=False)
    monkeypatch.setattr(runtime, "_QUOTA", tmp_path / "cpu.max")
    if content:
        (tmp_path / "cpu.max").write_text(content)
    assert usable_cores() == cores


@pytest.mark.parametrize(
    ("version", "device", "avx512", "chosen", "needed"),
    [
        ("2.10.0rc1", "CPU", True, "", True),
        ("2.8.0", "CPU", True, "", False),
        ("2.10.0", "Ascend", True, "", False),
        ("2.10.0", "CPU", False, "", False),
        ("2.10.0", "CPU", True, "AVX512_CORE", False),
    ],
)
def test_the_cpu_guard_decides_by_version_device_and_cpu(
    version, device, avx512, chosen, needed, monkeypatch
) -> None:
    monkeypatch.setattr("mindspore.__version__", version)
    monkeypatch.setattr("mindspore.get_context", lambda _: device)
    monkeypatch.setattr(runtime, "has_cpu_feature", lambda _: avx512)
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA")
    if chosen:
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", chosen)
    limited: list[object] = []
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
    ("when", "said"), [("early", "is limited to AVX2"), ("late", "with AVX-512 already")]
)
def test_the_guard_says_once_what_is_true(when: str, said: str) -> None:
    """It runs no operator and leaves no variable, and does not claim what it cannot do."""
    done = subprocess.run([sys.executable, "-c", GUARD, when], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "AVX" in line]
    assert said in line


def test_a_device_has_a_name_and_maybe_a_number(monkeypatch) -> None:
    assert parse_device("cpu") == ("CPU", None)
    assert parse_device("ascend:7") == ("Ascend", 7)
    for text in ("", "NPU", "Ascend:", "Ascend:-1", "Ascend:one", "CPU:0", ":1"):
        with pytest.raises(EngineError, match="expected CPU, Ascend or GPU"):
            parse_device(text)
    monkeypatch.setenv("MS_ROLE", "MS_WORKER")
    with pytest.raises(EngineError, match="ASCEND_RT_VISIBLE_DEVICES"):
        choose_device("Ascend:1")


def test_an_idle_accelerator_is_warned_of_once(tmp_path: Path, monkeypatch, caplog) -> None:
    import mindspore

    (mindspore.Tensor([1.0]) + 1).asnumpy()
    monkeypatch.setattr(device_module, "ASCEND_NODE", tmp_path / "davinci_manager")
    device_module._warn_of_idle_ascend.cache_clear()
    choose_device(None)
    (tmp_path / "davinci_manager").touch()
    choose_device("cpu")  # at any time, if MindSpore computes there
    assert not caplog.records
    for _ in range(2):
        choose_device(None)
    (record,) = caplog.records
    assert "computes on the CPU" in record.message


def test_a_device_that_is_not_there_is_a_users_mistake(tmp_path: Path, capsys) -> None:
    target = str(tmp_path / "a.onnx")
    for text in ("Ascend", "Ascend:1"):
        assert main(["export", "--weights", "none", "--output", target, "--device", text]) == 2
        error = capsys.readouterr().err
        assert "MindSpore does not compute there (Unsupported device target Ascend" in error
        assert "set_env.sh" in error
