"""Outputs that cannot be, and what disks and shells do: refused in words, before any work."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import stores
from PIL import Image

from multitasknet.cli import main
from multitasknet.data.layouts import read_dataset
from multitasknet.errors import EngineError, OutputError
from multitasknet.files import check_output, exclusive, replacing
from multitasknet.models.base import check_memory
from multitasknet.models.multitasknet.spec import MultiTaskNetSpec
from multitasknet.ranking.strangers import StrangerRates
from multitasknet.report.page import Panel, Shot, thumbnail, write_page
from multitasknet.weights.convert import convert

PHOTO = Path(__file__).resolve().parents[1] / "assets" / "example.jpg"
RANDOM = ["--weights", "none"]
# Data sets


def csv_data(root: Path, image: str) -> Path:
    root.mkdir(parents=True)
    for split in ("train", "query", "gallery"):
        (root / f"{split}.csv").write_text(f"image,vehicle_id\n{image},1\n")
    return root


def test_pictures_may_lie_anywhere(tmp_path: Path) -> None:
    """Such as behind a link to another disk."""
    (tmp_path / "disk").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "disk" / "x.png")
    for name, image in (("up", "../disk/x.png"), ("absolute", str(tmp_path / "disk" / "x.png"))):
        assert len(read_dataset(csv_data(tmp_path / name, image)).train) == 1
    linked = csv_data(tmp_path / "linked", "crops/x.png")
    (linked / "crops").symlink_to(tmp_path / "disk")
    assert len(read_dataset(linked).train) == 1


# Outputs


def test_an_output_is_checked_before_any_work(tmp_path: Path) -> None:
    file, link = tmp_path / "file", tmp_path / "link"
    file.write_text("keep")
    link.symlink_to(file)
    for target, options, named in (
        (link, {"inputs": [file]}, "is what is read as"),
        (file, {"folder": True}, "expected a folder"),
        (tmp_path, {}, "expected a file"),
        (file / "below" / "x", {}, "cannot be written"),
        (Path("/proc/x/s.png"), {}, "/proc.*cannot be written"),
    ):
        with pytest.raises(OutputError, match=named):
            check_output(target, **options)
    check_output(tmp_path / "no" / "x")
    check_output(tmp_path / "new", folder=True)
    check_output(file)
    assert file.read_text() == "keep"
    assert sorted(tmp_path.iterdir()) == [file, link]


@pytest.mark.parametrize(
    "command",
    [
        ["convert", "{w}", "{w}"],
        ["search", *RANDOM, "--gallery", "{d}", "--query", "{p}", "--output", "{p}"],
        ["search", *RANDOM, "--gallery", "{d}", "--query", "{p}", "--output", "/proc/x/s.html"],
        ["synthesize", "--output", "{d}/data", "--vehicles", "100000000"],
        ["synthesize", "--output", "{d}/data", "--images", "100000000"],
        ["synthesize", "--output", "{d}/data", "--cameras", "100000000"],
    ],
)
def test_an_output_that_cannot_be_is_refused_and_nothing_is_lost(command, tmp_path, capsys) -> None:
    photo, weights = tmp_path / "q.jpg", tmp_path / "w.ckpt"
    photo.write_bytes(PHOTO.read_bytes())
    weights.write_bytes(b"weights")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    given = [part.format(d=tmp_path, p=photo, w=weights) for part in command]
    start = time.process_time()
    assert main(given) == 2
    assert time.process_time() - start < 20
    assert "Traceback" not in capsys.readouterr().err
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_second_process_is_refused_a_folder_in_use(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from multitasknet.files import *\n"
        "with exclusive(Path(sys.argv[1]), Path(sys.argv[1], '.lock')): pass"
    )
    other = [sys.executable, "-c", code, str(tmp_path)]
    with exclusive(tmp_path, tmp_path / ".lock"):
        refused = subprocess.run(other, capture_output=True, text=True)
    assert "another process is writing it" in refused.stderr
    assert subprocess.run(other).returncode == 0
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_is_no_text_is_an_error_of_the_output(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="not UTF-8"), replacing(tmp_path / "x.csv") as part:
        part.write_text("a\udcff.jpg", encoding="utf-8")
    assert list(tmp_path.iterdir()) == []


# Command lines


def test_without_a_home_folder_the_remedy_is_named(monkeypatch, capsys) -> None:
    def no_such_user(_: int) -> None:
        raise KeyError

    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", no_such_user)
    assert main(["download"]) == 2
    assert "give the path in full (of the cache by MULTITASKNET_CACHE)" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [
        ["info", "--weights", "~nosuchuser/w.ckpt"],
        ["info", "--weights", f"{'x' * 300}.md"],
        ["search", *RANDOM, "--gallery", "x" * 300, "--query", str(PHOTO)],
        ["group", "x" * 300, "--output", "groups"],
        ["predict", str(PHOTO), *RANDOM, "--size", "32000"],
    ],
)
def test_odd_arguments_are_one_line_and_exit_code_2(command, capsys) -> None:
    assert main(command) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert error[-1].startswith("multitasknet: error: ")
    assert all(line.startswith("multitasknet: ") for line in error)


def test_a_batch_beyond_the_memory_is_refused_with_the_numbers() -> None:
    with pytest.raises(EngineError, match=r"a batch of 8 at 32000x32000 .* [\d,.]+ GB"):
        check_memory(MultiTaskNetSpec(), (32000, 32000), 8)
    check_memory(MultiTaskNetSpec(), (256, 256), 8)


def test_names_that_the_terminal_cannot_show_are_printed(tmp_path: Path) -> None:
    root = os.fsencode(csv_data(tmp_path / "data", "a.png"))[:-4] + b"\xe9\xff"
    (tmp_path / "data").rename(os.fsdecode(root))
    command = [sys.executable, "-m", "multitasknet", "check-data", os.fsdecode(root)]
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert (done.returncode, "a.png does not exist" in done.stderr) == (2, True)


def page(path: Path, caption: str, title: str) -> Path:
    shot = Shot(thumbnail(np.zeros((8, 8, 3), np.uint8)), "\udcff", caption, "query")
    panels = [Panel("a\udce9", (shot,))]
    rates = StrangerRates((), (), (), 0, False, "few rows")
    facts = {"queries": 1, "gallery": 1, "weights": "w", "random": False}
    facts |= {"rates": rates, "calibration": None}
    return write_page(path, "search.html", title=title, panels=panels, **facts)


def test_the_search_page_names_files_of_any_bytes(tmp_path: Path) -> None:
    assert "caf\\udce9.jpg" in page(tmp_path / "x.html", "caf\udce9.jpg", "t").read_text()


# A full disk, as a limit on the size of files


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def large_table(target: Path, _: Path) -> None:
    gallery = stores.open_gallery(width=1024)
    embeddings = np.random.default_rng(0).normal(size=(99, 1024))
    rows = [stores.row(f"{n}", n, embedding=one) for n, one in enumerate(embeddings)]
    gallery.merge(rows, insert=True)
    with files_of_at_most(1 << 16):
        gallery.export(target)


def large_weights(target: Path, checkpoint: Path) -> None:
    with files_of_at_most(1 << 20):
        convert(checkpoint, target)


def large_page(target: Path, _: Path) -> None:
    with files_of_at_most(1 << 10):
        page(target, "x.jpg", "t" * 10_000)


@pytest.mark.parametrize(
    ("write", "name"),
    [
        (large_table, "rows.parquet"),
        (large_weights, "w.ckpt"),
        (large_weights, "w.safetensors"),
        (large_page, "page.html"),
    ],
)
def test_a_full_disk_is_one_error_and_leaves_nothing(write, name, tmp_path, checkpoint) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        write(tmp_path / name, checkpoint)
    assert [path.name for path in tmp_path.iterdir() if path.name != "data"] == []
