"""Devices by name and number, and the errors where MindSpore does not compute there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from multitasknet import device as device_module
from multitasknet.device import choose_device, parse_device
from multitasknet.errors import EngineError


@pytest.mark.parametrize(
    ("text", "device"),
    [
        ("cpu", ("CPU", None)),
        ("Ascend", ("Ascend", None)),
        ("ascend:7", ("Ascend", 7)),
        ("GPU:0", ("GPU", 0)),
    ],
)
def test_a_device_has_a_name_and_maybe_a_number(text: str, device: tuple[str, int | None]) -> None:
    assert parse_device(text) == device


@pytest.mark.parametrize("text", ["", "NPU", "Ascend:", "Ascend:-1", "Ascend:one", "CPU:0", ":1"])
def test_other_words_are_no_device(text: str) -> None:
    with pytest.raises(EngineError, match="expected CPU, Ascend or GPU"):
        parse_device(text)


def test_a_number_under_msrun_is_refused(monkeypatch) -> None:
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
    assert "set_env.sh" in record.message


@pytest.mark.parametrize(
    "command",
    [
        ["finetune", "--data", "nowhere", "--output", "run", "--device", "Ascend"],
        ["export", "--weights", "none", "--output", "a.onnx", "--device", "Ascend:1"],
    ],
)
def test_a_device_that_is_not_there_is_a_users_mistake(command, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "multitasknet", *command],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "MindSpore does not compute there (Unsupported device target Ascend" in done.stderr
    assert "set_env.sh" in done.stderr
