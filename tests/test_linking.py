"""Images as vehicles: mutual neighbours, one appearance per camera and time, and how good it is."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import stores
from hypothesis import given, settings
from hypothesis import strategies as st
from stores import PixelPredictor

from multitasknet.ranking.distances import nearest, squared_distances
from multitasknet.ranking.linking import link, link_by_looks, link_quality

NOON = datetime(2026, 11, 1, 12)


def neighbors_of(points: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    distances = squared_distances(points, points)
    near = np.stack([nearest(row, min(count, len(points))) for row in distances])
    return near, np.take_along_axis(distances, near, axis=1)


def grouped(points: list[float], cameras: list[int], times: list[float], **options: float) -> list:
    array = np.array(points, np.float32)[:, None]
    how = {"max_distance": 1.0} | options
    return link(*neighbors_of(array, 50), np.array(cameras), times, **how).tolist()


def test_mutual_neighbors_across_cameras_are_one_vehicle() -> None:
    assert grouped([0, 0.1, 5, 5.1, 9], [1, 2, 1, 2, 3], [0, 9, 0, 9, 20]) == [0, 0, 1, 1, 2]


def test_a_camera_sees_a_vehicle_once_in_a_window() -> None:
    points, cameras = [0, 0.1, 0.2], [1, 1, 2]
    assert grouped(points, cameras, [0, 0.5, 9], window=1) == [0, 1, 1]
    assert grouped(points, cameras, [0, 5, 9], window=1) == [0, 0, 0]
    assert grouped(points, cameras, [0, np.nan, 9], window=1) == [0, 0, 0]
    assert grouped(points, [-1, -1, -1], [0, 0, 0], window=1) == [0, 0, 0]


def test_pairs_that_are_not_mutual_or_too_far_are_none() -> None:
    # The second is the third's nearest of camera 1, but has a nearer one in camera 2.
    assert grouped([0, 0.3, 0.7], [2, 1, 2], [0, 9, 20], max_distance=0.3) == [0, 0, 1]
    assert grouped([0, 2], [1, 2], [0, 9]) == [0, 1]


def test_a_chain_of_vehicles_is_not_one() -> None:
    # Each is the next one's neighbour, 0.9 apart; the first and the last of three are 3.24 apart.
    points, cameras = [0, 0.9, 1.81, 2.73], [1, 2, 3, 4]
    assert grouped(points, cameras, [0, 9, 20, 30]) == [0, 0, 1, 1]
    # Neighbours that are not looked at say nothing against it, where all that are are near.
    array = np.array([0, 0.1, 0.2, 0.3], np.float32)[:, None]
    few = link(*neighbors_of(array, 3), np.array(cameras), [0, 9, 20, 30], max_distance=1.0)
    assert few.tolist() == [0, 0, 0, 0]


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=12))
def test_quality_is_what_counting_pairs_says(pairs: list[tuple[int, int]]) -> None:
    found, truth = np.array(pairs).T
    quality = link_quality(found, truth)
    first, second = np.triu_indices(len(found), k=1)
    together, same = found[first] == found[second], truth[first] == truth[second]
    assert quality.precision == pytest.approx((together & same).sum() / max(together.sum(), 1))
    assert quality.recall == pytest.approx((together & same).sum() / max(same.sum(), 1))
    assert 0 < quality.id_f1 <= 1
    assert link_quality(truth, truth).id_f1 == 1


def test_id_f1_matches_each_group_with_one_vehicle() -> None:
    assert link_quality([0, 0, 1, 1], [5, 5, 5, 6]).id_f1 == 0.75
    assert link_quality([0, 1, 2, 3], [5, 5, 5, 5]).id_f1 == 0.25


def city(vehicles: int, sightings: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Embeddings, vehicles, cameras, times: each vehicle before some cameras, one after another."""
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(vehicles, stores.WIDTH))
    truth = np.repeat(np.arange(vehicles), sightings)
    cameras = np.concatenate([rng.permutation(8)[:sightings] for _ in range(vehicles)])
    views = 0.3 * rng.normal(size=(8, stores.WIDTH))
    noise = 0.35 * rng.normal(size=(len(truth), stores.WIDTH))
    times = rng.uniform(0, 3600, vehicles)[truth] + 60 * np.tile(np.arange(sightings), vehicles)
    return (centers[truth] + views[cameras] + noise).astype(np.float32), truth, cameras, times


def test_linking_300_vehicles_beats_their_looks() -> None:
    embeddings, truth, cameras, times = city(300, 5)
    found = link(*neighbors_of(embeddings, 51), cameras, times, max_distance=16.0)
    quality = link_quality(found, truth)
    assert quality.precision >= 0.9 and quality.recall >= 0.5
    looks = link_by_looks([str(one % 10) for one in truth], [str(one % 7) for one in truth])
    assert link_quality(looks, truth).id_f1 < quality.id_f1


def test_a_store_knows_vehicles_and_their_journeys(tmp_path: Path) -> None:
    pytest.importorskip("lancedb")
    from multitasknet.retrieval.embedding import origin_of
    from multitasknet.retrieval.store import JOURNEYS, NewRow
    from multitasknet.retrieval.store_linking import link_store
    from multitasknet.retrieval.store_search import StoreGallery

    store = stores.open_store(tmp_path / "city.lance")
    predictor = PixelPredictor()
    told = [
        predictor.one(np.full((4, 4, 3), color, np.uint8), None)
        for color in ((250, 0, 0), (0, 250, 0), (248, 0, 0), (0, 0, 250), (249, 2, 0))
    ]
    rows = [
        NewRow(f"crop {n}", "a.png", f"c{n}", NOON - timedelta(hours=n), bytes(32), 4, 4, {})
        for n in range(5)
    ]
    store.commit(list(zip(rows, told, strict=True)), origin_of(predictor))
    gallery = StoreGallery(store)
    for _ in range(2):
        report = link_store(gallery, max_distance=0.1, progress=False)
        assert (report.rows, report.vehicles, report.linked) == (5, 1, 3)
    vehicles = {
        row["id"]: row["vehicle"]
        for batch in store.read(["id", "vehicle"])
        for row in batch.to_pylist()
    }
    assert [vehicles[f"crop {n}"] for n in range(5)] == [0, None, 0, None, 0]
    (journey,) = store.side_table(JOURNEYS).to_pylist()
    assert journey == {
        "vehicle": 0,
        "ids": ["crop 4", "crop 2", "crop 0"],
        "cameras": ["c4", "c2", "c0"],
        "times": [NOON - timedelta(hours=n) for n in (4, 2, 0)],
    }
    assert gallery.nearest(told[3].embedding[None], top=1)[0][0].row.id == "crop 3"
    assert store.count("vehicle = 0") == 3
    # What is removed is in no journey either.
    assert store.remove("id = 'crop 4'") == 1
    assert store.side_table(JOURNEYS) is None
