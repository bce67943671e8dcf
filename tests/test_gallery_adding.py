"""Adding to a gallery: each picture once, and columns unchanged or refused beforehand."""

from __future__ import annotations

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
from multitasknet.data.text import parse_time
from multitasknet.errors import GalleryError, MultiTaskNetError
from multitasknet.gallery import adding, index
from multitasknet.gallery.adding import check_same_origin, ray_embedder
from multitasknet.gallery.entries import entries_of, entries_of_boxes, parse_cells, read_manifest
from multitasknet.gallery.gallery import Gallery
from multitasknet.gallery.rows import AddReport, Entry

OTHER = PixelPredictor(weights="cd" * 32)
BY_ANGLE = PixelPredictor(spec=stores.PixelSpec(distance="cosine"))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return stores.draw(tmp_path_factory.mktemp("crops"), 40)


@pytest.fixture
def gallery(tmp_path: Path) -> Gallery:
    return stores.open_gallery(tmp_path / "city.lance")


def add(gallery: Gallery, entries: list, predictor: Any = None, **options: Any) -> AddReport:
    return gallery.add(predictor or PixelPredictor(), entries, progress=False, **options)


def manifest(path: Path, text: str) -> list[Entry]:
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    return read_manifest(path)


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
    assert gallery.count("pose_origin = 'given'") == 2
    # Other weights embed with the same keypoints.
    assert add(gallery, gallery.stale(OTHER.origin), OTHER, reembed=True).added == 15
    assert gallery.count("pose_origin = 'given'") == 2


def test_rates_are_measured_again_though_embedding_again_was_cut_short(
    gallery: Gallery, pictures: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    add(gallery, pictures)
    before = index.kept_rates(gallery)
    with monkeypatch.context() as patch:
        patch.setattr(index, "keep_rates", stores.full)
        with pytest.raises(OSError, match="No space"):
            add(gallery, gallery.stale(OTHER.origin), OTHER, reembed=True)
    assert before is not None and index.kept_rates(gallery) is None
    assert not gallery.stale(OTHER.origin)
    add(gallery, [], OTHER)
    assert index.kept_rates(gallery) is not None


def test_a_folder_is_the_same_however_it_is_named(
    gallery: Gallery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores.draw(tmp_path / "crops", 4)
    (tmp_path / "beside").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "crops")
    monkeypatch.chdir(tmp_path / "beside")
    for name in ("../crops", str(tmp_path / "crops"), "../link", "../beside/../link"):
        add(gallery, [Path(name)])
    assert len(gallery) == 4


def test_moved_pictures_keep_their_rows(gallery: Gallery, tmp_path: Path) -> None:
    stores.draw(tmp_path / "crops", 4)
    entries = [
        Entry(one.id, one.image, camera=f"c{n}", more={"lane": n})
        for n, one in enumerate(entries_of([tmp_path / "crops"]))
    ]
    add(gallery, entries)
    (tmp_path / "crops").rename(tmp_path / "archive")
    copies = stores.draw(tmp_path / "crops", 1)
    again = PixelPredictor()
    report = add(gallery, [tmp_path / "archive"], again)
    # The first one's old place holds the same picture still: a copy is a row of its own.
    assert (report.moved, report.unchanged, report.added, again.embedded) == (3, 3, 1, 1)
    moved = list(gallery.rows(["id", "image", "camera"], "lane > 0"))
    assert sorted(row["camera"] for row in moved) == ["c1", "c2", "c3"]
    assert all(row["id"] == row["image"] and "archive" in row["id"] for row in moved)
    assert str(copies[0]) in stores.column(gallery, "id") and len(gallery) == 5
    # So the rows can be embedded again with other weights.
    report = add(gallery, gallery.stale(OTHER.origin), OTHER, reembed=True)
    assert (report.added, report.broken) == (5, {})
    # Frames take their boxes along.
    box = (0.0, 0.0, 4.0, 3.0)
    for folder in ("old", "new"):
        (tmp_path / "old").exists() and (tmp_path / "old").rename(tmp_path / "new")
        (path,) = stores.draw(tmp_path / folder, 1, seed=3)
        report = add(gallery, entries_of_boxes([Box(path, box)]), OTHER)
    assert (report.moved, len(gallery)) == (1, 6)
    assert gallery.row(f"{path}#0,0,4,3").picture.shape == (3, 4)
    gallery.remove("box is not null")
    # A row with an id of its own only takes the new place.
    for folder in ("old", "new"):
        (path,) = stores.draw(tmp_path / folder, 1)
        add(gallery, manifest(tmp_path / "m.csv", f"id,image\na,{path}\n"), OTHER)
    assert gallery.row("a").image == path and len(gallery) == 6
    # A kill leaves the row at its old place or its new one, never at both.
    version = gallery.table.version
    gallery.rename({"a": ("b", "/b.png")})
    assert gallery.table.version == version + 1 and gallery.row("b").image == Path("/b.png")
    assert len(gallery) == 6 and not gallery.count("id = 'a'")


def test_broken_pictures_are_named_and_left_out(
    gallery: Gallery, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # Tests that run side by side pass on what was logged, and fail on such a name.
    caplog.set_level("ERROR", "multitasknet.gallery.adding")
    paths = stores.draw(tmp_path / "crops", 3)
    paths[1].write_bytes(b"no picture")
    odd = tmp_path / "crops" / "a\udcff.png"
    paths[0].rename(odd)
    assert add(gallery, [odd]).broken.keys() == {str(odd)}
    report = add(gallery, [*paths[1:], odd, tmp_path / "nowhere.png"])
    assert report.added == len(gallery) == 1 and len(report.broken) == 3
    assert "UTF-8" in report.broken[str(odd)]


def test_an_interruption_keeps_whole_batches(
    gallery: Gallery, pictures: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stopped(PixelPredictor):
        def stream(self, *arguments: object, **options: object) -> Any:
            for found in super().stream(*arguments, **options):
                if self.embedded == 25:
                    raise KeyboardInterrupt
                yield found

    monkeypatch.setattr(adding, "BATCH", 10)
    with pytest.raises(KeyboardInterrupt):
        add(gallery, pictures, Stopped())
    assert len(gallery) == 20
    with monkeypatch.context() as patch:
        patch.setattr(type(gallery.table), "merge_insert", stores.full)
        with pytest.raises(OSError, match=r"cannot be written \(No space"):
            add(gallery, pictures)
    report = add(gallery, pictures)
    assert (report.unchanged, report.added, len(gallery)) == (20, 20, 40)


@pytest.mark.parametrize(
    ("other", "named"),
    [(OTHER, "weights_sha256 abab"), (BY_ANGLE, "distance euclidean, not cosine")],
)
def test_rows_of_another_origin_are_refused_until_they_are_embedded_again(
    gallery: Gallery, pictures: list[Path], other: PixelPredictor, named: str
) -> None:
    add(gallery, pictures[:6])
    with pytest.raises(GalleryError, match=f"{named}.*--reembed"):
        add(gallery, pictures[6:], other)
    assert gallery.origins() == {PixelPredictor().origin: 6}
    assert add(gallery, gallery.stale(other.origin), other, reembed=True).added == 6
    assert gallery.origins() == {other.origin: 6} and not gallery.stale(other.origin)


def test_a_manifest_brings_cameras_times_and_columns(
    gallery: Gallery, pictures: list[Path]
) -> None:
    path = pictures[0].parent / "m.csv"
    lines = [
        f"{one.name},crop-{n},{n % 4:03},2026-11-01T08:00:{n:02}Z,{n % 2}"
        for n, one in enumerate(pictures)
    ]
    add(gallery, manifest(path, "\n".join(["image,id, camera,time,lane", *lines])))
    (row,) = gallery.rows(["camera", "time", "lane", "image"], "id = 'crop-5'")
    assert row == {
        "camera": "001",
        "time": datetime(2026, 11, 1, 8, 0, 5),
        "lane": 1,
        "image": str(pictures[5]),
    }
    assert gallery.count("time > '2026-11-01 08:00:30' and lane = 1") == 5
    # Corrections need no embedding, and what is not given, or empty, stays.
    again = PixelPredictor()
    text = f"image;id;camera;lane\n{pictures[5].name};crop-5;9;\n{pictures[6].name};crop-6;;7\n"
    report = add(gallery, manifest(path, text), again)
    assert (report.unchanged, again.embedded) == (2, 0)
    kept = gallery.rows(["id", "camera", "lane"], "id in ('crop-5', 'crop-6')")
    assert sorted(map(tuple, map(dict.values, kept))) == [("crop-5", "9", 1), ("crop-6", "002", 7)]


@pytest.mark.parametrize(
    ("first", "second", "stored"),
    [
        (["00123", "1E5"], [], ["00123", "1E5"]),
        (["NA", "TRUE"], [], ["NA", "TRUE"]),
        (["1", "61.9"], [], [1.0, 61.9]),
        (["1", "2"], ["0.5", "61.9"], [1.0, 2.0, 0.5, 61.9]),
        (["0.5", ""], ["3"], [0.5, None, 3.0]),
        (["a", ""], ["7"], ["a", None, "7"]),
        (["", ""], ["7"], [None, None, 7]),
        (["1", "NA"], [], ["1", "NA"]),
        (["9223372036854775808", "nan"], [], ["9223372036854775808", "nan"]),
    ],
)
def test_values_of_own_columns_are_not_changed(
    gallery: Gallery, pictures: list[Path], first: list, second: list, stored: list
) -> None:
    numbered = list(enumerate([*first, *second]))
    for part in (numbered[: len(first)], numbered[len(first) :]):
        if part:
            lines = [f"{pictures[n]},{n},{value}" for n, value in part]
            text = "\n".join(["image,id,own", *lines])
            add(gallery, manifest(pictures[0].parent / "m.csv", text))
    found = stores.column(gallery, "own")
    assert found == stored and list(map(type, found)) == list(map(type, stored))


@given(st.lists(st.integers().map(str) | st.floats().map(str) | st.text(), max_size=5))
def test_numbers_write_back_as_the_text_they_were(cells: list[str]) -> None:
    assert ["" if one is None else str(one) for one in parse_cells(cells)] == cells


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,id,lane\n{0},a,12\n{1},b,word\n", "column lane: .*int64 vs string"),
        ("image,id,lane\n{0},a,0.5\n{1},b,9007199254740993\n", "9007199254740993 is outside"),
        ("image,id,_rowid\n{0},a,1\n", "'_rowid' cannot name a column"),
        ("image,id,_distance\n{0},a,1\n", "'_distance' cannot name a column"),
        ("image,id,a.b\n{0},a,1\n", "'a.b' cannot name a column"),
        ("image,id,Lane,lane\n{0},a,1,2\n", "two columns 'lane'"),
        ("image,id,LANE\n{0},a,1\n", "two columns 'LANE'"),
        ("image,id,embedding\n{0},a,1\n", "'embedding' is a column of every gallery"),
        ("image,id,\n{0},a,1\n", "'' cannot name a column"),
        ("image,lane,lane\n{0},1,2\n", "two columns are named 'lane'"),
        ("image,bbox\n{0},1\n", "'bbox' may be of either kind; give four"),
        ("image,X,y,w,h\n{0},1,2,-3,4\n", "row 1: cannot be used .the box is X 1, y 2, w -3"),
        (
            "image,x,y,w,h\n{0},1,,3,4\n",
            "row 1: cannot be used .y is None; expected a finite number",
        ),
        ("image,x,y,w,h\n{0},0,0,.5,.5\n{1},0,0,9,9\n", "row 1: .* in shares .* row 2, .* pixels"),
        ("image,x1\n{0},1\n", "'x1' is a column of every gallery"),
        ("picture\n{0}\n", "no column is 'image'"),
        ("image,id\nnowhere.png,a\n", r"1 pictures are missing: .*nowhere\.png"),
        ("image,id\n{0},a\n{1},a\n", "1 ids occur twice, such as 'a'"),
        ("image,time\n{0},noon\n", "row 1.*'noon' is not a time"),
        ("image,id\n,a\n", "row 1 has no image"),
        ("image,id\n{0},a,b\n", r"m\.csv:2: 3 cells; the header has 2"),
        ("image\n", "there are no rows"),
        ("", "expected a CSV file"),
        ("image\n\ud8ff", "not text in UTF-8"),
    ],
)
def test_what_cannot_be_stored_is_refused_before_anything_is_written(
    gallery: Gallery, pictures: list[Path], text: str, message: str
) -> None:
    add(gallery, manifest(pictures[0].parent / "m.csv", f"image,id,lane\n{pictures[0]},a,7\n"))
    version, columns = gallery.table.version, gallery.columns
    with pytest.raises(MultiTaskNetError, match=message):
        add(gallery, manifest(pictures[0].parent / "m.csv", text.format(*pictures)))
    assert (gallery.table.version, gallery.columns) == (version, columns)


def test_columns_are_widened_in_one_step_or_not_at_all(
    gallery: Gallery, pictures: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    add(gallery, [Entry("a", pictures[0], more={"lane": 7, "big": 1 << 60})])
    more = [Entry("b", pictures[1], more={"lane": 0.5, "plate": "X"})]
    for step in ("add", "add_columns"):
        with monkeypatch.context() as patch:
            patch.setattr(type(gallery.table), step, stores.full)
            with pytest.raises(OSError, match=r"cannot be written \(No space"):
                add(gallery, more)
        assert "plate" not in gallery.columns and stores.column(gallery, "lane") == [7]
    add(gallery, more)
    assert stores.column(gallery, "lane") == [7.0, 0.5] and stores.column(gallery, "plate") == [
        None,
        "X",
    ]
    with pytest.raises(GalleryError, match="column big: a stored number is too large"):
        add(gallery, [Entry("b", pictures[1], more={"big": 0.5})])
    assert stores.column(gallery, "big") == [1 << 60, None]


def test_rows_that_another_process_adds_without_the_lock_are_not_lost_silently(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores.fill(gallery, range(3))
    read = gallery.read

    def written_meanwhile(*arguments: Any, **options: Any) -> Any:
        stores.fill(Gallery(gallery.path), [99])
        return read(*arguments, **options)

    monkeypatch.setattr(Gallery, "_is_remote", True)
    monkeypatch.setattr(gallery, "read", written_meanwhile)
    with pytest.raises(GalleryError, match="another process has added rows"):
        gallery.remove("id = '1'")


def test_tables_as_pandas_writes_them(
    gallery: Gallery, pictures: list[Path], tmp_path: Path
) -> None:
    names = list(map(str, pictures[:2]))
    text = f",image, camera ,lane\n0,{names[0]},3.0,1\n1,{names[1]},,2\n"
    entries = manifest(tmp_path / "m.csv", text)
    assert [one.camera for one in entries] == ["3", ""]
    assert [one.more for one in entries] == [{"lane": 1}, {"lane": 2}]
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


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2026-11-01", (2026, 11, 1)),
        ("2026-11-01 08:02", (2026, 11, 1, 8, 2)),
        ("2026-11-01T08:02:03.5", (2026, 11, 1, 8, 2, 3, 500000)),
        ("2026-11-01T08:02:03.123456789Z", (2026, 11, 1, 8, 2, 3, 123456)),
        ("2026-11-01 08:02+02:00", (2026, 11, 1, 6, 2)),
        ("2026-11-01 08:02:03 -0130", (2026, 11, 1, 9, 32, 3)),
        ("86400.5", (1970, 1, 2, 0, 0, 0, 500000)),
        (86400, (1970, 1, 2)),
    ],
)
def test_times_as_people_and_tools_write_them(text: object, time: tuple[int, ...]) -> None:
    assert parse_time(text) == datetime(*time)


def test_what_is_not_a_time() -> None:
    assert parse_time("") is None
    for text in ("noon", "2026-13-01", "1e400", "08:02"):
        with pytest.raises(ValueError, match="is not a time"):
            parse_time(text)


@pytest.mark.slow
def test_rows_are_what_predict_gives_by_ray_as_well(checkpoint: Path, tmp_path: Path) -> None:
    settings = {"weights": checkpoint, "size": (32, 32), "pose": "none", "backend": "mindspore"}
    predictor, paths = Predictor(**settings), stores.draw(tmp_path / "crops", 10)
    gallery, broken = Gallery.create(tmp_path / "real.lance", predictor), tmp_path / "nowhere.png"
    expected = predictor.embed(paths)

    def check(count: int) -> None:
        found = [gallery.embedding(str(path)) for path in paths[:count]]
        np.testing.assert_allclose(found, expected[:count], rtol=2e-3, atol=2e-3)

    add(gallery, paths[:4], predictor)
    check(4)
    pytest.importorskip("ray")
    known = entries_of([*paths, broken])
    entries = [Entry(one.id, one.image, camera="7", more={"lane": 2}) for one in known]
    with ray_embedder(settings, predictor.origin) as embedder:
        report = add(gallery, entries, embedder)
    assert (report.added, report.unchanged, list(report.broken)) == (6, 4, [str(broken)])
    assert gallery.count("camera = '7' and lane = 2") == len(gallery) == 10
    check(10)


def test_ray_with_other_weights_is_refused() -> None:
    with pytest.raises(GalleryError, match=r"Ray actor has another network \(weights_sha256"):
        check_same_origin([PixelPredictor().origin, OTHER.origin], PixelPredictor().origin)
