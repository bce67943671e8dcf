"""kill -9 while a store is added to, compacted and indexed; and processes that add at once."""

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


def start(*arguments: object, output: int | None = None) -> subprocess.Popen:
    line = [sys.executable, gallery_writer.__file__, *map(str, arguments)]
    return subprocess.Popen(line, stdout=output, text=True)


def check(path: Path, committed: set[int]) -> None:
    """All that was committed is there, and once."""
    gallery = Gallery(path)
    ids = [int(row["id"]) for row in gallery.rows(["id"])]
    assert len(ids) == len(set(ids)) == len(gallery)
    assert {start + n for start in committed for n in range(gallery_writer.BATCH)} <= set(ids)
    # A batch is there as a whole, or not at all.
    assert not len(ids) % gallery_writer.BATCH
    if ids:
        hit = gallery.search(gallery.embedding(str(ids[-1]))[None], top=1)[0][0]
        assert hit.distance == 0


@pytest.mark.slow
@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.deep)])
def test_kills_lose_no_committed_row_and_double_none(tmp_path: Path, kills: int) -> None:
    path = tmp_path / "city.lance"
    stores.open_gallery(path)
    chance, committed = random.Random(kills), set[int]()
    for _ in range(kills):
        # The next one goes on with the last batch, which may be there.
        process = start(path, max(committed, default=0), output=subprocess.PIPE)
        assert process.stdout.readline() == "ready\n"
        time.sleep(chance.uniform(0.05, 4))
        process.kill()
        committed |= {int(line) for line in process.communicate()[0].splitlines()}
        check(path, committed)
    assert committed


@pytest.mark.slow
def test_writers_of_the_same_rows_write_them_once(tmp_path: Path) -> None:
    # A URL has no lock: two of these processes have one, two have not.
    place = str(tmp_path / "city.lance")
    stores.open_gallery(place)
    running = [start(one, 0, 4) for one in (place, place, f"file://{place}", f"file://{place}")]
    assert [process.wait() for process in running] == [0] * 4
    assert len(Gallery(place)) == 20
