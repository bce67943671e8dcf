"""Adding to a gallery: each picture once, and columns unchanged or refused beforehand."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import stores
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet
from stores import PixelPredictor

from multitasknet import Predictor
from multitasknet.data.boxes import Box
from multitasknet.data.records import Record
from multitasknet.errors import GalleryError, MultiTaskNetError
from multitasknet.gallery import adding
from multitasknet.gallery.adding import check_same_origin, ray_embedder
from multitasknet.gallery.entries import entries_of, entries_of_boxes, parse_cells, read_manifest
from multitasknet.gallery.gallery import Gallery
from multitasknet.gallery.journeys import pin
from multitasknet.gallery.rows import AddReport, Entry

OTHER = PixelPredictor(weights="cd" * 32)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return stores.draw(tmp_path_factory.mktemp("crops"), 40)


@pytest.fixture
def gallery(tmp_path: Path) -> Gallery:
    return stores.open_gallery(tmp_path / "city.lance")


def add(gallery: Gallery, entries: list, predictor: Any = None, **options: Any) -> AddReport:
    return gallery.add(predictor or PixelPredictor(), entries, progress=False, **options)


def manifest(folder: Path, text: str) -> list[Entry]:
    (folder / "m.csv").write_text(text, encoding="utf-8", errors="surrogatepass")
    return read_manifest(folder / "m.csv")


def test_only_what_is_new_or_changed_is_embedded(gallery: Gallery, tmp_path: Path) -> None:
    paths = stores.draw(tmp_path / "crops", 12)
    add(gallery, paths)
    again = PixelPredictor()
    (row,) = gallery.rows(gallery.columns, f"image = '{paths[3]}'")
    assert (row["pose_origin"], len(row["keypoints"])) == ("neutral", 108)
    assert row["color_probabilities"][gallery.color_names.index(row["color"])] == 1
    assert add(gallery, [tmp_path / "crops"], again).unchanged == 12 and again.embedded == 0
    paths[5].write_bytes(stores.draw(tmp_path / "other", 1, seed=9)[0].read_bytes())
    more = stores.draw(tmp_path / "crops", 3, seed=1)
    report = add(gallery, [*paths, *more], again)
    assert (report.added, report.unchanged, again.embedded, len(gallery)) == (4, 11, 4, 15)
    # Other keypoints make another embedding, the same ones do not.
    poses = [Record(path, 0, keypoints=np.full((36, 3), 0.3, np.float32)) for path in paths[:2]]
    entries = [Entry(str(one.image), one.image, record=one) for one in poses]
    assert [add(gallery, entries).added for _ in range(2)] == [2, 0]
    # Nor does their absence, once they were given.
    assert add(gallery, paths[:2]).unchanged == 2
    # Other weights embed with the same keypoints.
    assert add(gallery, gallery.stale(OTHER.origin), OTHER, reembed=True).added == 15
    assert gallery.count("pose_origin = 'given'") == 2


def test_a_folder_is_the_same_however_it_is_named(gallery, tmp_path, monkeypatch) -> None:
    stores.draw(tmp_path / "crops", 4)
    (tmp_path / "beside").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "crops")
    monkeypatch.chdir(tmp_path / "beside")
    for name in ("../crops", str(tmp_path / "crops"), "../link"):
        add(gallery, [Path(name)])
    assert len(gallery) == 4
    (tmp_path / "crops" / "loop.jpg").symlink_to("loop.jpg")
    assert len(add(gallery, [tmp_path / "crops"]).broken) == 1


def test_a_camera_in_a_name_is_taken_where_none_is_stated(gallery, tmp_path) -> None:
    folder = tmp_path / "crops"
    for path in stores.draw(folder, 2):
        path.rename(folder / f"0001_c00{path.stem[-1]}_{path.name}")
    first, second = sorted(folder.iterdir())
    add(gallery, [Entry(str(first), first, camera="north")])
    add(gallery, [folder])
    assert [gallery.row(str(one)).camera for one in (first, second)] == ["north", "1"]


def test_rows_that_stay_of_other_weights_are_named(gallery, tmp_path, caplog) -> None:
    paths = stores.draw(tmp_path, 4)
    add(gallery, paths)
    paths[3].unlink()
    stale = gallery.stale(OTHER.origin)
    # Poor ones are embedded as well: they are no new pictures.
    report = add(gallery, stale, OTHER, reembed=True, min_quality=1.1)
    assert (report.added, len(report.broken)) == (3, 1)
    assert "1 rows are still of other weights" in caplog.text


def test_of_two_writers_with_other_weights_one_is_refused(tmp_path) -> None:
    paths = stores.draw(tmp_path, 4)
    first, *others = (stores.open_gallery(tmp_path / "x.lance") for _ in range(3))
    with ThreadPoolExecutor() as pool, first.writing():
        jobs = [
            pool.submit(add, one, [path], what)
            for one, path, what in zip(others, paths, (PixelPredictor(), OTHER), strict=False)
        ]
        time.sleep(0.5)  # both have looked by then, and wait
    errors = [job.exception() for job in jobs]
    assert sum(isinstance(one, GalleryError) for one in errors) == 1 and len(first) == 1


def test_moved_pictures_keep_their_rows(gallery: Gallery, tmp_path: Path) -> None:
    stores.draw(tmp_path / "crops", 4)
    known = enumerate(entries_of([tmp_path / "crops"]))
    add(gallery, [Entry(one.id, one.image, f"c{n}", more={"lane": n}) for n, one in known])
    (tmp_path / "crops").rename(tmp_path / "archive")
    copies = stores.draw(tmp_path / "crops", 1)
    report = add(gallery, [tmp_path / "archive"])
    # The first one's old place holds the same picture still: a copy is a row of its own.
    assert (report.moved, report.unchanged, report.added) == (3, 3, 1)
    moved = list(gallery.rows(["id", "image", "camera"], "lane > 0"))
    assert sorted(row["camera"] for row in moved) == ["c1", "c2", "c3"]
    assert all(row["id"] == row["image"] and "archive" in row["id"] for row in moved)
    assert str(copies[0]) in stores.column(gallery, "id") and len(gallery) == 5
    # So the rows can be embedded again with other weights.
    report = add(gallery, gallery.stale(OTHER.origin), OTHER, reembed=True)
    assert (report.added, report.broken) == (5, {})
    # Frames take their boxes along, in one step.
    for folder in ("old", "new"):
        (tmp_path / "old").exists() and (tmp_path / "old").rename(tmp_path / "new")
        (path,) = stores.draw(tmp_path / folder, 1, seed=3)
        version = gallery.table.version
        report = add(gallery, entries_of_boxes([Box(path, (0.0, 0.0, 4.0, 3.0))]), OTHER)
    assert (report.moved, gallery.table.version) == (1, version + 1)
    assert len(gallery) == 6 and gallery.row(f"{path}#0,0,4,3").picture.shape == (3, 4)


def test_a_picture_that_changes_keeps_the_vehicle_that_a_hand_gave_it(gallery, tmp_path) -> None:
    a, _, c = paths = stores.draw(tmp_path, 3)
    add(gallery, paths)
    pin(gallery, [*map(str, paths)])
    c.write_bytes(stores.draw(tmp_path / "other", 1, seed=9)[0].read_bytes())
    add(gallery, paths)
    pin(gallery, [str(a)])
    first, second, third = (gallery.row(str(one)).vehicle for one in paths)
    assert first != second == third


def test_an_interruption_keeps_whole_batches(gallery, pictures, monkeypatch) -> None:
    monkeypatch.setattr(adding, "BATCH", 10)
    merge, calls = type(gallery.table).merge_insert, []

    def stopped(*arguments: object) -> Any:
        calls.append(arguments)
        return merge(*arguments) if len(calls) < 3 else stores.full()

    with monkeypatch.context() as patch:
        patch.setattr(type(gallery.table), "merge_insert", stopped)
        with pytest.raises(OSError, match=r"cannot be written \(No space"):
            add(gallery, pictures)
    assert len(gallery) == 20
    report = add(gallery, pictures)
    assert (report.unchanged, report.added, len(gallery)) == (20, 20, 40)


class Doubled(PixelPredictor):
    def one(self, *arguments: Any) -> Any:
        found = super().one(*arguments)
        found.embedding[:] *= 2
        return found


def test_rows_of_other_weights_are_refused_until_they_are_embedded_again(gallery, pictures) -> None:
    other = Doubled(weights="cd" * 32)
    add(gallery, pictures[:30])
    near = gallery.rates.distances[0]
    with pytest.raises(GalleryError, match=r"weights_sha256 abab.*--reembed"):
        add(gallery, pictures, other)
    assert gallery.origins() == {PixelPredictor().origin: 30}
    assert add(gallery, gallery.stale(other.origin), other, reembed=True).added == 30
    assert gallery.origins() == {other.origin: 30} and not gallery.stale(other.origin)
    assert gallery.rates.distances[0] == pytest.approx(4 * near, rel=0.05)


def test_a_manifest_brings_cameras_times_and_columns(gallery, pictures) -> None:
    folder = pictures[0].parent
    lines = [
        f"{one.name},crop-{n},{n % 4:03},2026-11-01T08:00:{n:02}Z,{n % 2}"
        for n, one in enumerate(pictures)
    ]
    lines[6] = lines[6].replace("2026-11-01T08:00:06Z", "1793520006.5")  # seconds since 1970
    add(gallery, manifest(folder, "\n".join(["image,id, camera,time,lane", *lines])))
    (row,) = gallery.rows(["camera", "time", "lane", "image"], "id = 'crop-5'")
    time = datetime(2026, 11, 1, 8, 0, 5)
    assert row == {"camera": "001", "time": time, "lane": 1, "image": str(pictures[5])}
    assert gallery.row("crop-6").time == datetime(2026, 11, 1, 8, 0, 6, 500_000)
    assert gallery.count("time > '2026-11-01 08:00:30' and lane = 1") == 5
    # Corrections need no embedding, and what is not given, or empty, stays.
    again = PixelPredictor()
    text = f"image;id;camera;lane\n{pictures[5].name};crop-5;9;\n{pictures[6].name};crop-6;;7\n"
    report = add(gallery, manifest(folder, text), again)
    assert (report.unchanged, again.embedded) == (2, 0)
    kept = gallery.rows(["id", "camera", "lane"], "id in ('crop-5', 'crop-6')")
    assert sorted(map(tuple, map(dict.values, kept))) == [("crop-5", "9", 1), ("crop-6", "002", 7)]


@pytest.mark.parametrize(
    ("first", "second", "stored"),
    [
        (["00123", "1E5"], [], ["00123", "1E5"]),
        (["1", "2"], ["0.5", "61.9"], [1.0, 2.0, 0.5, 61.9]),
        (["a", ""], ["7"], ["a", None, "7"]),
        (["", ""], ["7"], [None, None, 7]),
        (["9223372036854775808", "nan"], [], ["9223372036854775808", "nan"]),
    ],
)
def test_values_of_own_columns_are_not_changed(gallery, pictures, first, second, stored) -> None:
    numbered = list(enumerate([*first, *second]))
    for part in (numbered[: len(first)], numbered[len(first) :]):
        lines = [f"{pictures[n]},{n},{value}" for n, value in part]
        if lines:
            text = "\n".join(["image,id,own", *lines])
            add(gallery, manifest(pictures[0].parent, text))
    found = stores.column(gallery, "own")
    assert found == stored and list(map(type, found)) == list(map(type, stored))


@given(st.lists(st.integers().map(str) | st.floats().map(str) | st.text(), max_size=5))
def test_numbers_write_back_as_the_text_they_were(cells: list[str]) -> None:
    assert ["" if one is None else str(one) for one in parse_cells(cells)] == cells


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,id,lane\n{0},a,12\n{1},b,word\n", "column lane: .*int64 vs string"),
        ("image,id,_rowid\n{0},a,1\n", "'_rowid' cannot name a column"),
        ("image,id,a.b\n{0},a,1\n", "'a.b' cannot name a column"),
        ("image,id,LANE\n{0},a,1\n", "a column 'LANE' already"),
        ("image,id,embedding\n{0},a,1\n", "a column 'embedding' already"),
        ("image,id,\n{0},a,1\n", "'' cannot name a column"),
        ("image,lane,lane\n{0},1,2\n", "two columns are named 'lane'"),
        ("image,bbox\n{0},1\n", "'bbox' may be of either kind; give four"),
        ("image,x,y,w,h\n{0},0,0,.5,.5\n{1},0,0,9,9\n", "row 1: .* in shares .* row 2, .* pixels"),
        ("picture\n{0}\n", "no column is 'image'"),
        ("image,id\nnowhere.png,a\n", r"1 pictures are missing, such as .*nowhere\.png"),
        ("image,id\n{0},a\n{1},a\n", "1 ids occur twice, such as 'a'"),
        ("image,time\n{0},noon\n", "row 1.*'noon' is not a time"),
        ("image,id\n,a\n", "row 1: cannot be used .no image"),
        ("image,id\n{0},a,b\n", r"m\.csv:2: 3 cells; the header has 2"),
        ("image\n", "there are no rows"),
    ],
)
def test_what_cannot_be_stored_is_refused_before_anything_is_written(
    gallery, pictures, text, message
) -> None:
    add(gallery, manifest(pictures[0].parent, f"image,id,lane\n{pictures[0]},a,7\n"))
    version, columns = gallery.table.version, gallery.columns
    with pytest.raises(MultiTaskNetError, match=message):
        add(gallery, manifest(pictures[0].parent, text.format(*pictures)))
    assert (gallery.table.version, gallery.columns) == (version, columns)


def test_columns_are_widened_in_one_step_or_not_at_all(gallery, pictures, monkeypatch) -> None:
    add(gallery, [Entry("a", pictures[0], more={"lane": 7, "big": 1 << 60})])
    more = [Entry("b", pictures[1], more={"lane": 0.5, "plate": "X"})]
    for step in ("add", "add_columns"):
        with monkeypatch.context() as patch:
            patch.setattr(type(gallery.table), step, stores.full)
            with pytest.raises(OSError, match=r"cannot be written \(No space"):
                add(gallery, more)
        assert "plate" not in gallery.columns and stores.column(gallery, "lane") == [7]
    add(gallery, more)
    assert stores.column(gallery, "lane") == [7.0, 0.5]
    assert stores.column(gallery, "plate") == [None, "X"]
    with pytest.raises(GalleryError, match="column big: a stored number is too large"):
        add(gallery, [Entry("b", pictures[1], more={"big": 0.5})])
    assert stores.column(gallery, "big") == [1 << 60, None]


def test_tables_as_pandas_writes_them(gallery, pictures, tmp_path) -> None:
    names = list(map(str, pictures[:2]))
    entries = manifest(tmp_path, f",image, camera ,lane\n0,{names[0]},3.0,1\n1,{names[1]},,2\n")
    assert [(one.camera, one.more) for one in entries] == [("3", {"lane": 1}), ("", {"lane": 2})]
    times = "2026-11-01 08:00:00.123456789+00:00", "20261101", "1793520000"
    lines = [f"{names[0]},{n},{time}\n" for n, time in enumerate(times)]
    found = [one.time for one in manifest(tmp_path, f"image,id,time\n{''.join(lines)}")]
    eight = datetime(2026, 11, 1, 8)
    assert found == [eight.replace(microsecond=123456), datetime(2026, 11, 1), eight]
    with pytest.raises(GalleryError, match="'202611010830' is not a time"):
        manifest(tmp_path, f"image,time\n{names[0]},202611010830\n")
    moments = pa.array([1793520000_123456789, None], pa.timestamp("ns", tz="+02:00"))
    table = {
        "image": names,
        "camera": pa.array([3.0, float("nan")]),
        "time": moments,
        "seen": moments,
        "score": [0.5, float("nan")],
        "__index_level_0__": [0, 1],
    }
    parquet.write_table(pa.table(table), tmp_path / "m.parquet")
    entries = read_manifest(tmp_path / "m.parquet")
    assert [one.camera for one in entries] == ["3", ""]
    assert entries[0].time == datetime(2026, 11, 1, 8, 0, 0, 123456)
    add(gallery, entries)
    assert sorted(stores.column(gallery, "score"), key=str) == [0.5, None]
    assert entries[0].time in stores.column(gallery, "seen")


@pytest.mark.slow
def test_rows_are_what_predict_gives_by_ray_as_well(checkpoint: Path, tmp_path: Path) -> None:
    settings = {"weights": checkpoint, "size": (32, 32), "pose": "none", "backend": "mindspore"}
    predictor, paths = Predictor(**settings), stores.draw(tmp_path / "crops", 10)
    gallery, broken = Gallery.create(tmp_path / "real.lance", predictor), tmp_path / "nowhere.png"
    add(gallery, paths[:4], predictor)
    pytest.importorskip("ray")
    known = entries_of([*paths, broken])
    entries = [Entry(one.id, one.image, camera="7", more={"lane": 2}) for one in known]
    with ray_embedder(settings, predictor.origin) as embedder:
        report = add(gallery, entries, embedder)
    assert (report.added, report.unchanged, list(report.broken)) == (6, 4, [str(broken)])
    assert gallery.count("camera = '7' and lane = 2") == len(gallery) == 10
    found = [gallery.embedding(str(path)) for path in paths]
    np.testing.assert_allclose(found, predictor.embed(paths), rtol=2e-3, atol=2e-3)


def test_ray_with_other_weights_is_refused() -> None:
    with pytest.raises(GalleryError, match=r"Ray actor has another network \(weights_sha256"):
        check_same_origin([PixelPredictor().origin, OTHER.origin], PixelPredictor().origin)
