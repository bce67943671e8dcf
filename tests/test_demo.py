"""The demo."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ASSETS

from multitasknet.cli import main
from multitasknet.demo import run_demo
from multitasknet.errors import OutputError


@pytest.fixture(autouse=True)
def _shipped(_nothing_shipped: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("multitasknet.hub.card.PACKAGE", ASSETS.parent)


def test_a_photo_is_understood_and_vehicles_are_found_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("it goes online"))
    folder = tmp_path / "look"
    assert main(["demo", "--output", str(folder)]) == 0
    said = capsys.readouterr().out
    right = int(re.search(r"(\d+) of 12 queries found first", said)[1])
    # By chance one or two of them.
    assert right >= 6
    assert "36 keypoints, estimated" in said
    page = (folder / "report.html").read_text()
    assert not re.search(r"(src|href)=\"(?!data:|#)", page), "the page must stand alone"
    assert page.count("<meter") == 8
    assert page.count('<figure class="shot query">') == 12
    assert page.count('<figure class="shot match">') >= right
    assert not list(ASSETS.rglob("*.sqlite"))


def test_a_photo_of_ones_own_comes_first(tmp_path: Path) -> None:
    photo = shutil.copy(ASSETS / "example.jpg", tmp_path / "mine.jpg")
    result = run_demo(tmp_path / "look", photo=photo, progress=False)
    assert result.predictions[0].source == str(photo)
    assert result.predictions[0].pose.origin == "estimated"
    assert (len(result.predictions), result.gallery) == (13, 60)
    assert "mine.jpg" in result.report.read_text()
    with pytest.raises(OutputError, match="something is there already"):
        run_demo(tmp_path / "look")


@pytest.mark.parametrize(
    "command",
    [
        ["predict", str(ASSETS / "example.jpg"), "--backend", "mindspore"],
        ["gallery", "add", "g.lance", str(ASSETS / "demo" / "query")],
    ],
)
def test_a_command_prints_no_line_of_its_libraries(command: list[str], tmp_path: Path) -> None:
    variables = {k: v for k, v in os.environ.items() if k != "ONEDNN_MAX_CPU_ISA"}
    done = subprocess.run(
        [sys.executable, "-m", "multitasknet", *command],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=variables,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_mistakes_are_named(tmp_path: Path, capsys) -> None:
    (tmp_path / "note.txt").write_text("no picture")
    for words, said in (
        (["missing.jpg"], r"missing.jpg"),
        ([str(tmp_path / "note.txt")], r"note.txt"),
    ):
        assert main(["demo", *words, "--output", str(tmp_path / "look")]) == 2
        assert re.search(said, capsys.readouterr().err)
    assert not (tmp_path / "look").exists()
