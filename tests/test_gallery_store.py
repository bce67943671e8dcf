"""A gallery store: what is added is there once, and what is removed is gone for good."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
import stores
from stores import PixelPredictor

from multitasknet.files import OutputError
from multitasknet.interruption import Interrupted
from multitasknet.retrieval import adding
from multitasknet.retrieval.adding import (
    ManifestError,
    add_pictures,
    entries_of,
    read_manifest,
    stored_entries,
)
from multitasknet.retrieval.embedding import origin_of
from multitasknet.retrieval.index import GalleryIndex
from multitasknet.retrieval.store import GalleryStore, StoreError

pytest.importorskip("lancedb")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return stores.draw(tmp_path_factory.mktemp("crops"), 40)


@pytest.fixture
def store(tmp_path: Path) -> GalleryStore:
    return stores.open_store(tmp_path / "city.lance")


def add(store: GalleryStore, paths: list[Path], **options: object) -> adding.AddReport:
    predictor = options.pop("predictor", PixelPredictor())
    return add_pictures(store, predictor, entries_of(paths), progress=False, **options)


def rows(store: GalleryStore, where: str | None = None, *columns: str) -> list[dict]:
    names = columns or store.columns
    return [row for batch in store.read(names, where) for row in batch.to_pylist()]


def write_manifest(path: Path, lines: list[dict]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, lines[0])
        writer.writeheader()
        writer.writerows(lines)
    return path


def test_rows_hold_what_the_network_says(store: GalleryStore, pictures: list[Path]) -> None:
    predictor = PixelPredictor()
    report = add(store, pictures, predictor=predictor)
    assert (report.added, report.unchanged, report.broken) == (40, 0, {})
    found = {row["image"]: row for row in rows(store)}
    row = found[str(pictures[3])]
    from multitasknet.images import read_image

    expected = predictor.one(read_image(pictures[3]), None)
    np.testing.assert_allclose(row["embedding"], expected.embedding, rtol=1e-3, atol=1e-3)
    assert (row["color"], row["width"], row["height"]) == (expected.color, 6, 4)
    assert (row["pose_origin"], len(row["keypoints"])) == ("neutral", 108)
    assert row["color_probabilities"][store.color_names.index(row["color"])] == 1
    assert store.origins() == {origin_of(predictor): 40}


def test_only_what_is_new_or_changed_is_embedded(store: GalleryStore, tmp_path: Path) -> None:
    paths = stores.draw(tmp_path / "crops", 12)
    add(store, paths)
    again = PixelPredictor()
    assert add(store, [tmp_path / "crops"], predictor=again).unchanged == 12
    assert again.embedded == 0
    paths[5].write_bytes(stores.draw(tmp_path / "other", 1, seed=9)[0].read_bytes())
    more = stores.draw(tmp_path / "crops", 3, seed=1)
    report = add(store, [*paths, *more], predictor=again)
    assert (report.added, report.unchanged, again.embedded, len(store)) == (4, 11, 4, 15)


def test_broken_pictures_are_named_and_left_out(
    store: GalleryStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # Tests that run side by side hand on what was logged, and fail on such a name.
    caplog.set_level("ERROR", "multitasknet.retrieval.adding")
    paths = stores.draw(tmp_path / "crops", 3)
    paths[1].write_bytes(b"no picture")
    odd = tmp_path / "crops" / "a\udcff.png"
    paths[0].rename(odd)
    report = add(store, [*paths[1:], odd, tmp_path / "nowhere.png"])
    assert report.added == len(store) == 1
    assert len(report.broken) == 3
    assert "UTF-8" in report.broken[str(odd)]


def test_an_interruption_keeps_what_was_embedded(
    store: GalleryStore, pictures: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from contextlib import contextmanager

    seen = PixelPredictor()

    @contextmanager
    def soon() -> Iterator[object]:
        yield lambda: seen.embedded >= 16

    with monkeypatch.context() as patch:
        patch.setattr(adding, "stop_request", soon)
        with pytest.raises(Interrupted, match="goes on behind them"):
            add(store, pictures, predictor=seen)
    done = len(store)
    assert 16 <= done < 40
    report = add(store, pictures)
    assert (report.unchanged, report.added, len(store)) == (done, 40 - done, 40)


def test_what_was_committed_stays_when_the_disk_is_full(
    store: GalleryStore, pictures: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    add(store, pictures[:8])

    def full(*_: object, **__: object) -> None:
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(type(store), "_arrow_rows", full)
        patch.setattr(type(store.table), "merge_insert", full)
        with pytest.raises((OutputError, OSError), match="No space"):
            add(store, pictures)
    assert len(store) == 8


def test_rows_of_other_weights_are_refused_until_they_are_embedded_again(
    store: GalleryStore, pictures: list[Path]
) -> None:
    add(store, pictures[:6])
    other = PixelPredictor(weights="cd" * 32)
    with pytest.raises(StoreError, match="--reembed"):
        add(store, pictures[6:], predictor=other)
    entries = stored_entries(store, origin_of(other))
    report = add_pictures(store, other, entries, reembed=True, progress=False)
    assert report.added == 6
    assert store.origins() == {origin_of(other): 6}
    assert not stored_entries(store, origin_of(other))
    store.check_origin(origin_of(other))


def test_a_manifest_brings_cameras_times_and_columns(
    store: GalleryStore, pictures: list[Path]
) -> None:
    lines = [
        {
            "image": path.name,
            "id": f"crop-{number}",
            "camera": f"{number % 4:03}",
            "time": f"2026-11-01T08:00:{number:02}Z",
            "lane": number % 2,
        }
        for number, path in enumerate(pictures)
    ]
    entries = read_manifest(write_manifest(pictures[0].parent / "m.csv", lines))
    add_pictures(store, PixelPredictor(), entries, progress=False)
    (row,) = rows(store, "id = 'crop-5'", "camera", "time", "lane", "image")
    assert row == {
        "camera": "001",
        "time": datetime(2026, 11, 1, 8, 0, 5),
        "lane": 1,
        "image": str(pictures[5]),
    }
    assert store.count("time > '2026-11-01 08:00:30' and lane = 1") == 5
    # Corrections need no embedding, and what is not given again stays.
    lines[5] |= {"camera": "9"}
    again = PixelPredictor()
    entries = read_manifest(write_manifest(pictures[0].parent / "m.csv", lines[5:6]))
    report = add_pictures(store, again, entries, progress=False)
    assert (report.unchanged, again.embedded) == (1, 0)
    assert rows(store, "camera in (9)", "id", "lane") == [{"id": "crop-5", "lane": 1}]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": "nowhere.png"}, r"1 pictures are missing: .*nowhere\.png"),
        ({"id": "0"}, "1 ids stand there twice: 0"),
        ({"time": "noon"}, "row 2.*'noon' is no time"),
        ({"image": ""}, "row 2 has no image"),
    ],
)
def test_a_faulty_manifest_is_refused_whole(
    pictures: list[Path], tmp_path: Path, change: dict, message: str
) -> None:
    lines = [{"id": str(n), "image": str(pictures[n]), "time": "2026-11-01"} for n in range(3)]
    lines[1] |= change
    with pytest.raises(ManifestError, match=message):
        read_manifest(write_manifest(tmp_path / "m.csv", lines))


def test_a_manifest_may_not_take_the_stores_own_columns(tmp_path: Path) -> None:
    path = write_manifest(tmp_path / "m.csv", [{"image": "a.png", "embedding": 1}])
    with pytest.raises(ManifestError, match="embedding is a column of the store"):
        read_manifest(path)
    path.write_bytes(b"\x00\xff")
    with pytest.raises(ManifestError):
        read_manifest(path)


def test_what_is_removed_is_nowhere_afterwards(
    store: GalleryStore, pictures: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    add(store, pictures)
    store.compact()
    (row,) = rows(store, f"image = '{pictures[7]}'")
    traces = [np.array(row["embedding"], np.float16).tobytes(), row["fingerprint"]]

    def holding() -> list[Path]:
        files = [one for one in Path(store.path).rglob("*") if one.is_file()]
        return [one for one in files if any(trace in one.read_bytes() for trace in traces)]

    def full(*_: object) -> None:
        raise OSError("No space left on device")

    assert holding()
    with monkeypatch.context() as patch:
        patch.setattr(store, "_optimize", full)
        with pytest.raises(OutputError, match="No space"):
            store.remove(f"id = '{row['id']}'")
    assert holding() and len(store) == 39
    # The same call finishes what was interrupted.
    assert store.remove(f"id = '{row['id']}'") == 0
    assert holding() == []
    (row,) = rows(store, f"image = '{pictures[8]}' and camera = ''")
    traces[:] = [np.array(row["embedding"], np.float16).tobytes(), row["fingerprint"]]
    assert holding()
    assert store.remove(f"id = '{row['id']}'") == 1
    assert holding() == []
    assert len(store.table.list_versions()) == 1
    assert len(store) == 38
    assert not rows(store, f"id = '{row['id']}'")
    assert store.remove("id = 'nobody'") == 0


def test_export_gives_parquet_and_an_index(
    store: GalleryStore, pictures: list[Path], tmp_path: Path
) -> None:
    import pyarrow.parquet

    add(store, pictures)
    assert store.export(tmp_path / "rows.parquet", "color = 'red'") == store.count("color = 'red'")
    table = pyarrow.parquet.read_table(tmp_path / "rows.parquet")
    assert set(table["color"].to_pylist()) == {"red"}
    assert store.export(tmp_path / "all.npz") == 40
    index = GalleryIndex.load(tmp_path / "all.npz", origin_of(PixelPredictor()))
    assert index.embeddings.shape == (40, stores.WIDTH)
    with pytest.raises(StoreError, match="ends in"):
        store.export(tmp_path / "rows.txt")


def test_conditions_that_are_none_name_the_columns(store: GalleryStore) -> None:
    for where in ("nope = 3", "camera ==== 3", "camera", "time > 'noon'", "color = 3", "("):
        with pytest.raises(StoreError, match="columns id, image, camera"):
            store.count(where)


def test_stores_that_are_none_are_refused(tmp_path: Path, store: GalleryStore) -> None:
    with pytest.raises(StoreError, match="gallery add"):
        GalleryStore(tmp_path / "nowhere.lance")
    with pytest.raises(StoreError, match=r"ends in \.lance"):
        stores.open_store(tmp_path / "city")
    (tmp_path / "file.lance").write_text("x")
    with pytest.raises((StoreError, OutputError)):
        GalleryStore(tmp_path / "file.lance")
    for path in Path(store.path).rglob("*.manifest"):
        path.write_bytes(b"damaged")
    with pytest.raises(StoreError, match="damaged"):
        GalleryStore(store.path)
