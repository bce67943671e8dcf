"""kill -9 while a store is added to, compacted and indexed; and two processes that add at once."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import gallery_writer
import pytest
import stores

from multitasknet.gallery.gallery import Gallery


def start(path: Path, first: int, log: Path) -> subprocess.Popen:
    with log.open("w") as file:
        line = [sys.executable, gallery_writer.__file__, str(path), str(first)]
        return subprocess.Popen(line, stdout=file, stderr=subprocess.STDOUT)


def wait_for(log: Path, text: str, process: subprocess.Popen) -> None:
    for _ in range(6000):
        if text in log.read_text().split():
            return
        assert process.poll() is None, log.read_text()
        time.sleep(0.02)
    raise AssertionError(f"no {text!r} in {log.read_text()}")


def batches_in(log: Path) -> set[int]:
    return {int(line) for line in log.read_text().splitlines() if line.isdigit()}


def check(path: Path, committed: set[int]) -> list[int]:
    """The stored numbers, after it was seen that all that was committed is there, and once."""
    gallery = Gallery(path)
    ids = [int(row["id"]) for row in gallery.store.rows(["id"])]
    assert len(ids) == len(set(ids)) == len(gallery)
    wanted = {start + n for start in committed for n in range(gallery_writer.BATCH)}
    assert wanted <= set(ids)
    # A batch is there as a whole, or not at all.
    assert not len(ids) % gallery_writer.BATCH
    if ids:
        hit = gallery.search(gallery.embedding(str(ids[-1]))[None], top=1)[0][0]
        assert hit.distance == 0
    return ids


@pytest.mark.slow
@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.deep)])
def test_kills_lose_no_committed_row_and_double_none(tmp_path: Path, kills: int) -> None:
    path, log = tmp_path / "city.lance", tmp_path / "log"
    stores.open_gallery(path)
    chance, committed, first = random.Random(kills), set(), 0
    for _ in range(kills):
        process = start(path, first, log)
        wait_for(log, "ready", process)
        time.sleep(chance.uniform(0.05, 4))
        process.kill()
        process.wait()
        committed |= batches_in(log)
        # The next one goes on with the last batch, which may be there.
        first = max(committed, default=0)
        check(path, committed)
    assert committed


@pytest.mark.slow
def test_two_processes_may_add_the_same_rows_at_once(tmp_path: Path) -> None:
    path, logs = tmp_path / "city.lance", [tmp_path / "a", tmp_path / "b"]
    stores.open_gallery(path)
    running = [start(path, 0, log) for log in logs]
    for process, log in zip(running, logs, strict=True):
        wait_for(log, "250", process)
    for process in running:
        process.kill()
        process.wait()
    assert check(path, batches_in(logs[0]) | batches_in(logs[1]))
