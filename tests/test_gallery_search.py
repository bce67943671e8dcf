"""Searching a store: exactly, under conditions, and by an index that says what it finds."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import stores
from hypothesis import given
from hypothesis import strategies as st
from stores import PixelPredictor

from multitasknet.ranking.distances import EmbeddingError, squared_distances
from multitasknet.retrieval.conditions import ConditionError, TravelTimes, filter_condition, typed
from multitasknet.retrieval.embedding import origin_of
from multitasknet.retrieval.gallery import Gallery, GalleryFilter, find_rows
from multitasknet.retrieval.store import GalleryStore, NewRow, StoreError
from multitasknet.retrieval.store_search import StoreGallery

pytest.importorskip("lancedb")

COUNT = 1500
NOON = datetime(2026, 11, 1, 12)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> GalleryStore:
    """1,500 rows of random colours: 5 cameras, a second apart, every tenth without a time."""
    store = stores.open_store(tmp_path_factory.mktemp("city") / "city.lance")
    commit(store, 0, COUNT)
    return store


def commit(store: GalleryStore, first: int, count: int) -> None:
    predictor = PixelPredictor()
    rows = []
    for number in range(first, first + count):
        color = np.random.default_rng(number).integers(0, 256, 3, np.uint8)
        time = NOON + timedelta(seconds=number) if number % 10 else None
        row = NewRow(f"it's {number}", f"/{number}.png", str(number % 5), time, bytes(32), 6, 4, {})
        rows.append((row, predictor.one(np.full((4, 6, 3), color), None)))
    store.commit(rows, origin_of(predictor))


@pytest.fixture(scope="module")
def gallery(store: GalleryStore) -> Gallery:
    return StoreGallery(store)


@pytest.mark.parametrize(
    "where",
    [
        None,
        GalleryFilter(cameras=("3", "4")),
        GalleryFilter(colors=("red",), not_before=NOON + timedelta(seconds=700)),
        GalleryFilter(not_after=NOON + timedelta(seconds=9), types=("yellow", "sedan")),
        GalleryFilter(cameras=("nowhere",)),
    ],
)
def test_search_is_exact_under_any_filter(tmp_path: Path, where: GalleryFilter | None) -> None:
    store = stores.open_store(tmp_path / "city.lance")
    commit(store, 690, 60)
    gallery = StoreGallery(store)
    ids = [f"it's {number}" for number in range(690, 750)]
    rows = [gallery.row(one) for one in ids]
    every = np.stack([gallery.embedding(one) for one in ids])
    queries = np.random.default_rng(1).normal(size=(3, stores.WIDTH)).astype(np.float32)
    distances = squared_distances(queries, every)[:, find_rows(rows, where)]
    found = gallery.nearest(queries, top=7, where=where)
    assert [[one.distance for one in hits] for hits in found] == np.sort(distances)[:, :7].tolist()


def test_a_row_is_found_by_its_own_embedding(gallery: Gallery) -> None:
    query = gallery.embedding("it's 17")
    ((hit, *others),) = gallery.nearest(query[None], top=9)
    assert (hit.row, hit.distance) == (gallery.row("it's 17"), 0)
    assert hit.row.time == NOON + timedelta(seconds=17)
    bound = others[2].distance
    (near,) = gallery.nearest(query[None], top=9, max_distance=bound)
    assert [one.distance for one in near] == [0, *(one.distance for one in others[:3])]
    with pytest.raises(KeyError):
        gallery.row("nobody")
    with pytest.raises(KeyError):
        gallery.embedding("nobody")
    with pytest.raises(EmbeddingError, match="as many columns"):
        gallery.nearest(np.zeros((1, 3)), top=1)


def test_facets_are_what_rows_have(gallery: Gallery) -> None:
    assert len(gallery) == COUNT
    assert gallery.facets.cameras == ("0", "1", "2", "3", "4")
    assert gallery.facets.colors == ("blue", "red")


def test_groups_have_the_nearest_row_of_each(store: GalleryStore) -> None:
    found = StoreGallery(store)
    query = found.embedding("it's 17")
    (hits,), _ = found.find(query[None], top=9, group_by="camera")
    best = [
        found.nearest(query[None], top=1, where=GalleryFilter(cameras=(camera,)))[0][0]
        for camera in found.facets.cameras
    ]
    assert hits == sorted(best, key=lambda one: one.distance)


def test_an_index_finds_what_it_was_measured_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("multitasknet.retrieval.store_search._PART", 64)
    store = stores.open_store(tmp_path / "city.lance")
    with pytest.raises(StoreError, match="exactly in no time"):
        StoreGallery(store).build_index()
    commit(store, 0, COUNT)
    gallery = StoreGallery(store, exact_below=100, recall=0.9)
    assert gallery.plan().exact
    measured = gallery.build_index(recall=0.9)
    assert measured[-1].recall >= 0.9 and measured == gallery.settings()
    how = gallery.plan()
    assert (how.exact, how.rows, how.recall) == (False, COUNT, measured[-1].recall)
    assert gallery.plan("camera = '3'").probes > how.probes
    (nobody,), among = gallery.find(np.zeros((1, stores.WIDTH)), top=3, where="id = 'nobody'")
    assert (nobody, among.rows) == ([], 0)
    queries = np.stack([gallery.embedding(f"it's {number}") for number in range(50)])
    near, _ = gallery.find(queries, top=10)
    exact, searched = gallery.find(queries, top=10, exact=True)
    assert searched.exact and searched.recall == 1
    shares = [
        len({one.row.id for one in a} & {one.row.id for one in b}) / 10
        for a, b in zip(near, exact, strict=True)
    ]
    assert np.mean(shares) >= 0.85
    # Rows are found before the index has them.
    commit(store, COUNT, 5)
    hits = gallery.nearest(gallery.embedding(f"it's {COUNT + 3}")[None], top=1)
    assert hits[0][0].row.id == f"it's {COUNT + 3}"
    store.compact()
    assert gallery.nearest(queries[:1], top=1)[0][0].row.id == "it's 0"
    # A recall that was not measured is exact.
    assert StoreGallery(store, exact_below=100, recall=1.01).plan().exact


def test_the_distance_at_a_false_match_rate(store: GalleryStore) -> None:
    few, many = (StoreGallery(store).false_match_distance(rate) for rate in (0.01, 0.1))
    assert 0 < few < many


@pytest.mark.parametrize(
    ("where", "meant"),
    [
        ("camera in (3, 4)", "camera in ('3', '4')"),
        ("camera = 3 and color = 'red'", "camera = '3' and color = 'red'"),
        ("time > '2026-11-01'", "time > timestamp '2026-11-01'"),
        ("time between 'a' and 'b'", "time between timestamp 'a' and timestamp 'b'"),
        ("id = 'camera = 3 and time > 4'", "id = 'camera = 3 and time > 4'"),
        ("note = 'it''s camera in (3)'", "note = 'it''s camera in (3)'"),
        ("my_camera = 3 or lifetime > '3'", "my_camera = 3 or lifetime > '3'"),
        ("time > timestamp '2026-11-01'", "time > timestamp '2026-11-01'"),
    ],
)
def test_conditions_compare_what_columns_hold(where: str, meant: str) -> None:
    assert typed(where) == meant


@given(st.text(max_size=40))
def test_text_in_quotes_is_left_alone(text: str) -> None:
    literal = "id = '" + text.replace("'", "''") + "'"
    assert typed(literal) == literal


def test_travel_times_say_where_a_vehicle_can_be(store: GalleryStore, tmp_path: Path) -> None:
    path = tmp_path / "times.csv"
    path.write_text("from,to,least,most\n1,2,10,20\n3,1,0,5\n1,1,50,60\n")
    times = TravelTimes.read(path)
    found = [
        row["id"]
        for batch in store.read(["id"], times.condition("1", NOON + timedelta(seconds=101)))
        for row in batch.to_pylist()
    ]
    seconds = {int(one.removeprefix("it's ")) for one in found}
    assert seconds == {
        *(one for one in (*range(81, 92), *range(111, 122)) if one % 5 == 2),
        *(one for one in range(96, 107) if one % 5 == 3),
        *(one for one in (*range(41, 52), *range(151, 162)) if one % 5 == 1),
    }
    assert store.count(times.condition("7", NOON)) == 0
    for faulty in ("", "from,to\n1,2\n", "from,to,least,most\n1,2,9,3\n", "from,to,least,most\n"):
        path.write_text(faulty)
        with pytest.raises(ConditionError, match=r"times\.csv"):
            TravelTimes.read(path)


def test_no_filter_is_no_condition() -> None:
    assert filter_condition(GalleryFilter()) is None
