"""``info --system``: that a CPU passes, and that what is wrong is found."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import ASSETS

from multitasknet import system
from multitasknet.cli import main


@pytest.fixture(autouse=True)
def _shipped(_nothing_shipped: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("multitasknet.hub.card.PACKAGE", ASSETS.parent)


def test_a_cpu_computes_what_is_stored(capsys) -> None:
    assert main(["info", "--system", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    found = {row["name"]: row["found"] for row in rows if row["is_right"]}
    assert found["device"] == "CPU"
    for network in ("MultiTaskNet", "VehiclePose", "VehicleReID"):
        for backend in ("mindspore", "onnx", "openvino"):
            assert "off, at most 1e-03" in found[f"{network}, {backend}"]


def test_what_is_wrong_is_marked_and_the_rest_goes_on(tmp_path, capsys, monkeypatch) -> None:
    stored = json.loads(system.REFERENCE.read_text())
    (tmp_path / "wrong.json").write_text(
        json.dumps({"MultiTaskNet": [one[::-1] for one in stored["MultiTaskNet"]]})
    )
    monkeypatch.setattr(system, "REFERENCE", tmp_path / "wrong.json")
    monkeypatch.setattr(system, "_BACKENDS", {"onnx": "onnxruntime"})
    monkeypatch.setattr("multitasknet.device.ASCEND_NODE", tmp_path)
    assert main(["info", "--system"]) == 2
    captured = capsys.readouterr()
    assert "device                  WRONG: CPU, beside an idle Ascend" in captured.out
    assert "MultiTaskNet, onnx      WRONG: outputs" in captured.out
    assert "VehiclePose, onnx       WRONG: KeyError" in captured.out
    assert "4 of these are wrong" in captured.err


def test_canns_version_is_that_of_the_sourced_environment(tmp_path: Path) -> None:
    assert system.cann_version({"ASCEND_HOME_PATH": str(tmp_path)}) == ""
    (tmp_path / "compiler").mkdir()
    (tmp_path / "compiler" / "version.info").write_text("Version=8.5.0\nversion_dir=8.5\n")
    assert system.cann_version({"ASCEND_TOOLKIT_HOME": str(tmp_path)}) == "8.5.0"
