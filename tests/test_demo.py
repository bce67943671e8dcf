"""The demo, and ``info --system``: that a CPU passes, and that what is wrong is found."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from conftest import ASSETS

from multitasknet import system
from multitasknet.cli import main


@pytest.fixture(autouse=True)
def _shipped(_nothing_shipped: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("multitasknet.hub.card.PACKAGE", ASSETS.parent)


def test_a_photo_is_understood_and_vehicles_are_found_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("it goes online"))
    photo, folder = str(tmp_path / "mine.jpg"), tmp_path / "look"
    shutil.copy(ASSETS / "example.jpg", photo)
    assert main(["demo", photo, "--output", str(folder)]) == 0
    said = capsys.readouterr().out
    right = int(re.search(r"(\d+) of 12 queries found first", said)[1])
    # By chance one or two of them.
    assert right >= 6
    assert said.startswith(f"\n{photo}") and "36 keypoints, estimated" in said
    page = (folder / "report.html").read_text()
    assert not re.search(r"(src|href)=\"(?!data:|#)", page), "the page must stand alone"
    assert page.count('<figure class="shot query">') == 13
    assert page.count('<figure class="shot match">') >= right
    assert main(["demo", "--output", str(folder)]) == 2
    assert "something is there already" in capsys.readouterr().err
    (tmp_path / "note.txt").write_text("no picture")
    for name in ("missing.jpg", "note.txt"):
        assert main(["demo", str(tmp_path / name), "--output", str(tmp_path / "none")]) == 2
        assert name in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    "command",
    [
        ["predict", str(ASSETS / "example.jpg"), "--backend", "mindspore"],
        ["gallery", "add", "g.lance", str(ASSETS / "demo" / "query")],
    ],
)
def test_a_command_prints_no_line_of_its_libraries(command: list[str], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "multitasknet", *command],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={k: v for k, v in os.environ.items() if k != "ONEDNN_MAX_CPU_ISA"},
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_cpu_computes_what_is_stored(capsys) -> None:
    assert main(["info", "--system", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    found = {row["name"]: row["found"] for row in rows if row["is_right"]}
    assert found["device"] == "CPU"
    for network in ("MultiTaskNet", "VehiclePose", "VehicleReID"):
        for backend in ("mindspore", "onnx", *(["openvino"] if find_spec("openvino") else [])):
            assert "off, at most 1e-03" in found[f"{network}, {backend}"]


def test_what_is_wrong_is_marked_and_the_rest_goes_on(tmp_path, capsys, monkeypatch) -> None:
    stored = json.loads(system.REFERENCE.read_text())
    (tmp_path / "wrong.json").write_text(
        json.dumps({"MultiTaskNet": [one[::-1] for one in stored["MultiTaskNet"]]})
    )
    monkeypatch.setattr(system, "REFERENCE", tmp_path / "wrong.json")
    monkeypatch.setattr(system, "_BACKENDS", {"onnx": "onnxruntime"})
    monkeypatch.setattr("multitasknet.device.ASCEND_NODE", tmp_path)
    (tmp_path / "compiler").mkdir()
    (tmp_path / "compiler" / "version.info").write_text("Version=8.5.0\nversion_dir=8.5\n")
    monkeypatch.setenv("ASCEND_HOME_PATH", str(tmp_path))
    assert main(["info", "--system"]) == 2
    captured = capsys.readouterr()
    assert "CANN                    8.5.0" in captured.out
    assert "device                  WRONG: CPU, beside an idle Ascend" in captured.out
    assert "MultiTaskNet, onnx      WRONG: outputs" in captured.out
    assert "VehiclePose, onnx       WRONG: KeyError" in captured.out
    assert "4 of these are wrong" in captured.err
