"""A store: what is removed is gone for good, readers outlive writers, and recall is measured."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.csv
import pyarrow.parquet
import pytest
import stores

from multitasknet.errors import GalleryError
from multitasknet.gallery import index as index_module
from multitasknet.gallery.gallery import Gallery


@pytest.fixture
def gallery(tmp_path: Path) -> Gallery:
    """40 rows whose ids nothing else in the store resembles."""
    made = stores.open_gallery(tmp_path / "city.lance")
    made.store.merge([stores.row(f"secret-{n:02}", n) for n in range(40)], insert=True)
    return made


def holding(gallery: Gallery, *traces: bytes) -> list[Path]:
    files = [one for one in Path(gallery.store.path).rglob("*") if one.is_file()]
    return [one for one in files if any(trace in one.read_bytes() for trace in traces)]


def traces_of(gallery: Gallery, id: str) -> list[bytes]:
    (row,) = gallery.store.rows(["embedding", "sha256"], f"id = '{id}'")
    return [id.encode(), np.array(row["embedding"], np.float16).tobytes(), row["sha256"]]


@pytest.mark.parametrize("compacted", [False, True])
def test_what_is_removed_is_nowhere_afterwards(gallery: Gallery, compacted: bool) -> None:
    if compacted:
        gallery.compact()
    traces = traces_of(gallery, "secret-07")
    assert holding(gallery, *traces)
    assert gallery.remove("id = 'secret-07' and camera = ''") == 1
    assert holding(gallery, *traces) == []
    gallery.compact()
    assert holding(gallery, *traces) == []
    assert len(gallery.store.table.list_versions()) == 1
    assert len(gallery) == 39 and not gallery.store.count("id = 'secret-07'")
    assert gallery.remove("id = 'nobody'") == 0


def test_the_same_call_finishes_a_removal_that_was_interrupted(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    traces = traces_of(gallery, "secret-07")

    def full(*_: object) -> None:
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(gallery.store, "_optimize", full)
        with pytest.raises(OSError, match="No space"):
            gallery.remove("id = 'secret-07'")
    assert holding(gallery, *traces) and len(gallery) == 39
    assert gallery.remove("id = 'secret-07'") == 0
    assert holding(gallery, *traces) == []


def test_linking_while_rows_are_removed_brings_none_back(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    traces = traces_of(gallery, "secret-07")
    merge = gallery.store.merge_table

    def removed_meanwhile(*arguments: object, **options: object) -> None:
        monkeypatch.setattr(gallery.store, "merge_table", merge)
        gallery.remove("id = 'secret-07'")
        merge(*arguments, **options)

    monkeypatch.setattr(gallery.store, "merge_table", removed_meanwhile)
    gallery.link(max_distance=1000, progress=False)
    assert gallery.store.count("vehicle is not null") == len(gallery) == 39
    gallery.remove("id = 'nobody'")
    assert holding(gallery, *traces) == []


def test_export_gives_parquet_and_csv(gallery: Gallery, tmp_path: Path) -> None:
    kept = gallery.store.count("color = 'red'")
    assert gallery.export(tmp_path / "rows.parquet", "color = 'red'") == kept
    table = pyarrow.parquet.read_table(tmp_path / "rows.parquet")
    assert set(table["color"].to_pylist()) == {"red"} and "embedding" in table.column_names
    assert gallery.export(tmp_path / "rows.csv") == 40
    table = pyarrow.csv.read_csv(tmp_path / "rows.csv")
    assert table["id"].to_pylist() == [f"secret-{n:02}" for n in range(40)]
    assert not {"embedding", "sha256"} & set(table.column_names)
    with pytest.raises(GalleryError, match="ends in"):
        gallery.export(tmp_path / "rows.txt")
    with pytest.raises(GalleryError, match="no row"):
        gallery.export(tmp_path / "rows.csv", "id = 'nobody'")


def busy(gallery: Gallery, work: Callable[[], object]) -> None:
    """Search and read in a thread, while this one works."""
    failures: list[Exception] = []
    done = threading.Event()

    def read() -> None:
        reader = Gallery(gallery.store.path)
        try:
            while not done.is_set():
                reader.search(np.zeros((1, stores.WIDTH)), top=3, where="color = 'red'")
                reader.row("secret-00")
        except Exception as error:
            failures.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    try:
        for _ in range(8):
            work()
    finally:
        done.set()
        thread.join()
    assert not failures


def test_readers_outlive_compaction_and_removal(gallery: Gallery) -> None:
    counted = iter(range(100, 200))

    def work() -> None:
        row = stores.row(f"late-{next(counted)}", 1)
        gallery.store.merge([row], insert=True)
        gallery.compact()
        gallery.remove(f"id = '{row['id']}'")

    busy(gallery, work)


def test_a_long_read_goes_on_while_the_store_is_compacted(gallery: Gallery) -> None:
    for n in range(40, 60):
        gallery.store.merge([stores.row(f"secret-{n}", n)], insert=True)
    batches = gallery.store.read(["id", "embedding"], rows=1)
    read = next(batches).num_rows
    gallery.compact()
    assert read + sum(batch.num_rows for batch in batches) == 60


def test_a_long_read_is_whole_or_fails_while_rows_are_removed(gallery: Gallery) -> None:
    for n in range(40, 60):
        gallery.store.merge([stores.row(f"secret-{n}", n)], insert=True)
    batches = gallery.store.read(["id", "embedding"], "color <> ''", rows=1)
    read = [next(batches).num_rows]
    gallery.remove("id >= 'secret-30'")
    try:
        read += [batch.num_rows for batch in batches]
    except GalleryError as error:
        # The condition is not to blame.
        assert "if rows were removed meanwhile, try again" in str(error)
    else:
        assert sum(read) == 60


def test_an_index_states_the_recall_that_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_module, "_PART", 64)
    store = stores.open_gallery(tmp_path / "city.lance").store
    gallery = Gallery(store, exact_below=100, recall=0.9)
    with pytest.raises(GalleryError, match="exactly in no time"):
        gallery.build_index()
    store.merge([stores.row(f"{n}", n) for n in range(1500)], insert=True)
    assert gallery.plan().setting is None
    measured = gallery.build_index(recall=0.9)
    setting = gallery.plan().setting
    assert setting == measured[-1] and setting.recall >= 0.9
    assert gallery.plan("color = 'red' and id < '2'").setting.probes > setting.probes
    queries = np.stack([gallery.embedding(str(number)) for number in range(50)])
    found, exact = (gallery.search(queries, top=10, exact=exact) for exact in (False, True))
    shares = [
        len({one.row.id for one in a} & {one.row.id for one in b}) / 10
        for a, b in zip(found, exact, strict=True)
    ]
    assert np.mean(shares) >= 0.85
    # New rows are found beside the index, and leave what was measured of it.
    store.merge([stores.row(f"new {n}", 5000 + n) for n in range(700)], insert=True)
    assert gallery.search(gallery.embedding("new 3")[None], top=1)[0][0].row.id == "new 3"
    assert gallery.plan().setting == setting
    # Once they are in it, nothing is stated until it was measured again.
    store.compact()
    assert gallery.plan().setting is None and not index_module.measured(store)
    gallery.compact()
    assert [one.rows for one in index_module.measured(store)][-1] == 2200
    with monkeypatch.context() as patch:
        patch.setattr(index_module, "measure", lambda *_: [])
        gallery.build_index()
    assert gallery.plan().setting is None
    # A recall that was not reached is exact.
    gallery.build_index(recall=0.5)
    assert Gallery(store, exact_below=100, recall=1.01).plan().setting is None


WRITER = """
import sys
import stores
gallery = stores.open_gallery(sys.argv[1])
for first in range(0, 20, 5):
    gallery.store.merge([stores.row(f"{n}", n) for n in range(first, first + 5)], insert=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["", "file://"])
def test_writers_of_the_same_rows_write_them_once(tmp_path: Path, scheme: str) -> None:
    place = f"{scheme}{tmp_path}/city.lance"
    stores.open_gallery(place)
    paths = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    running = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, place], env=os.environ | {"PYTHONPATH": paths}
        )
        for _ in range(4)
    ]
    assert [process.wait() for process in running] == [0] * 4
    assert len(Gallery(place)) == 20
