"""Outputs that cannot be, and what disks and shells do: refused in words, before any work."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import stores
from conftest import PHOTO

from multitasknet.cli import main
from multitasknet.errors import OutputError
from multitasknet.files import exclusive
from multitasknet.report.page import Panel, Shot, thumbnail, write_page
from multitasknet.weights.convert import convert

RANDOM = ["--weights", "none"]


SEARCH = ["search", *RANDOM, "--gallery", "{d}", "--query", "{p}", "--output"]


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["convert", "{w}", "{w}"], "is what is read as"),
        ([*SEARCH, "{p}"], "is what is read as"),
        ([*SEARCH, "{d}"], "expected a file to write"),
        ([*SEARCH, "/proc/x/s.html"], "cannot be written"),
        (["group", "{d}", "--output", "{p}"], "expected a folder to write"),
        (
            ["synthesize", "--output", "{d}/data", "--vehicles", "100000000"],
            "vehicles is 100000000",
        ),
        (["synthesize", "--output", "{d}/data", "--images", "100000000"], "images is 100000000"),
        (["synthesize", "--output", "{d}/data", "--cameras", "100000000"], "cameras is 100000000"),
        (["info", "--weights", "~nosuchuser/w.ckpt"], "~nosuchuser"),
        (["info", "--weights", f"{'x' * 300}.md"], "too long"),
        (["group", "x" * 300, "--output", "{d}/groups"], "expected a store"),
        (["predict", "{p}", *RANDOM, "--size", "32000"], "a batch of"),
        (["gallery", "info", "{d}/none.lance"], "there is no gallery"),
        (["gallery", "add", "{d}/none.lance", "--reembed"], "there is no gallery"),
        (["compare", "{p}", "{p}", "--output", "{d}/c.jpg"], "expected a name that ends in .png"),
        ([*SEARCH[:-1], "--submission", "{d}/s.txt", "--json"], "give it alone"),
    ],
)
def test_what_cannot_be_is_one_line_and_exit_code_2_and_nothing_is_lost(
    command, said, tmp_path, capsys
) -> None:
    photo, weights = tmp_path / "q.jpg", tmp_path / "w.ckpt"
    photo.write_bytes(PHOTO.read_bytes())
    weights.write_bytes(b"weights")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert main([part.format(d=tmp_path, p=photo, w=weights) for part in command]) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert error[-1].startswith("multitasknet: error: ") and said in error[-1]
    assert all(line.startswith("multitasknet: ") for line in error)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_second_process_is_refused_a_folder_in_use(tmp_path: Path) -> None:
    lock, refused = tmp_path / ".lock", pytest.raises(OutputError, match="another process is")
    with exclusive(tmp_path, lock), refused, exclusive(tmp_path, lock):
        pass
    assert list(tmp_path.iterdir()) == []


def test_without_a_home_folder_the_remedy_is_named(monkeypatch, capsys) -> None:
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", Mock(side_effect=KeyError))  # no such user
    assert main(["download"]) == 2
    assert "give the path in full (of the cache by MULTITASKNET_CACHE)" in capsys.readouterr().err


def test_names_that_the_terminal_cannot_show_are_printed() -> None:
    command = [sys.executable, "-m", "multitasknet", "check-data", os.fsdecode(b"caf\xe9\xff")]
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 2 and "caf\\udce9\\udcff" in done.stderr


def page(path: Path, caption: str) -> Path:
    shot = Shot(thumbnail(np.zeros((8, 8, 3), np.uint8)), "\udcff", caption, "query")
    facts = {"crops": 1, "vehicles": 1, "alone": 0, "max_distance": 1.0, "random": False}
    return write_page(path, "groups.html", title="t", panels=[Panel("a", (shot,))], **facts)


def test_a_page_names_files_of_any_bytes(tmp_path: Path) -> None:
    assert "caf\\udce9.jpg" in page(tmp_path / "x.html", "caf\udce9.jpg").read_text()


@pytest.mark.parametrize("name", ["rows.parquet", "w.ckpt", "w.safetensors", "page.html"])
def test_a_full_disk_is_one_error_and_leaves_nothing(name, tmp_path, checkpoint) -> None:
    gallery = stores.open_gallery(width=1024)
    embeddings = np.random.default_rng(0).normal(size=(99, 1024))
    rows = [stores.row(f"{n}", n, embedding=one) for n, one in enumerate(embeddings)]
    gallery.merge(rows, insert=True)
    target = tmp_path / name

    def write() -> None:
        if name == "rows.parquet":
            gallery.export(target)
        elif name == "page.html":
            page(target, "x" * 10_000)
        else:
            convert(checkpoint, target)

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    # As if the disk were full.
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 10, before[1]))
    try:
        with pytest.raises(OutputError, match="cannot be written"):
            write()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path.name for path in tmp_path.iterdir() if path.name != "data"] == []
