"""Ranking metrics, re-ranking, protocols and camera means, against plain references."""

from __future__ import annotations

import math
import tracemalloc
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import stores
from drawn_sets import vehicleid, vric
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from multitasknet import MultiTaskNetSpec, read_dataset
from multitasknet.data.records import Record, Split, VehicleDataset
from multitasknet.errors import DataError
from multitasknet.evaluation.embedding import Embeddings
from multitasknet.evaluation.results import Evaluation
from multitasknet.evaluation.run import caveats, evaluate_outputs
from multitasknet.ranking.centering import center_cameras
from multitasknet.ranking.distances import distance_blocks, squared_distances
from multitasknet.ranking.metrics import Labels, evaluate_ranking, rank_rows
from multitasknet.ranking.protocols import PROTOCOLS
from multitasknet.ranking.reranking import rerank

# Metrics


def ranks_of_matches(
    distances: np.ndarray,
    query_ids: np.ndarray,
    gallery_ids: np.ndarray,
    query_cameras: np.ndarray,
    gallery_cameras: np.ndarray,
    own_camera: bool = False,
) -> list[list[int]]:
    """Of each query; slow and plain."""
    found = []
    for q in range(len(query_ids)):
        ranks, rank = [], 0
        for g in sorted(range(len(gallery_ids)), key=lambda g: (distances[q, g], g)):
            same_vehicle = gallery_ids[g] == query_ids[q]
            own = gallery_cameras[g] == query_cameras[q] != -1
            if same_vehicle and own and not own_camera:
                continue
            rank += 1
            if same_vehicle:
                ranks.append(rank)
        found.append(ranks)
    return found


def check(result: Any, found: list[list[int]], most: int | None = None) -> None:
    valid, most = [ranks for ranks in found if ranks], most or 10**6
    precisions = [
        sum(n / rank for n, rank in enumerate(ranks, 1) if rank <= most) / min(len(ranks), most)
        for ranks in valid
    ]
    first = np.array([ranks[0] for ranks in valid])
    cmc = [np.mean(first <= k) for k in range(1, len(result.cmc) + 1)]
    np.testing.assert_array_equal(result.cmc, cmc)
    assert result.rank(len(cmc)) == cmc[-1]
    assert result.mAP == pytest.approx(np.mean(precisions), rel=1e-14)
    assert result.mINP == pytest.approx(np.mean([len(one) / one[-1] for one in valid]), rel=1e-14)
    assert result.valid_queries == len(valid)
    assert result.skipped_queries.tolist() == [q for q, ranks in enumerate(found) if not ranks]


@st.composite
def cases(draw: st.DrawFn) -> tuple[np.ndarray, ...]:
    """Few vehicles and cameras, so that all happens: no match, left-out images, no camera."""
    queries, gallery = draw(st.integers(1, 5)), draw(st.integers(1, 12))
    vehicles, cameras = st.integers(0, draw(st.integers(0, 3))), st.integers(-1, 2)
    # Between one value for all and hardly a tie; float32 has -0.0 and infinity as well.
    few = st.sampled_from([0.0, -0.0, 0.5, 1.0, np.inf])
    values = draw(st.sampled_from([few, st.floats(0, 1000, width=32)]))
    columns = (vehicles, queries), (vehicles, gallery), (cameras, queries), (cameras, gallery)
    labels = [draw(arrays(np.int64, count, elements=of)) for of, count in columns]
    return draw(arrays(np.float32, (queries, gallery), elements=values)), *labels


@settings(max_examples=400, deadline=None)
@given(cases(), st.integers(1, 20), st.booleans(), st.none() | st.integers(1, 20))
def test_the_metrics_are_what_the_definition_says(case, max_rank, own_camera, most) -> None:
    found = ranks_of_matches(*case, own_camera=own_camera)
    if any(found):
        check(evaluate_ranking(*case, max_rank, own_camera=own_camera, most=most), found, most)
        return
    with pytest.raises(DataError, match=f"none of the {len(case[1])} queries"):
        evaluate_ranking(*case, own_camera=own_camera)


GOOD = {
    "distances": np.zeros((2, 3), dtype=np.float32),
    "query_ids": [1, 2],
    "gallery_ids": [1, 2, 3],
    "query_cameras": [1, 1],
    "gallery_cameras": [2, 2, 2],
}
POOL = {"query_embeddings": np.zeros((1, 2)), "gallery_embeddings": np.zeros((2, 2))}


@pytest.mark.parametrize(
    ("call", "good", "change", "named"),
    [
        (evaluate_ranking, GOOD, {"distances": [[0, 1, 2], [0, np.nan, 2]]}, r"NaN at \[1, 1\]"),
        (evaluate_ranking, GOOD, {"distances": np.zeros((0, 3))}, r"distances is float64 \[0, 3\]"),
        (evaluate_ranking, GOOD, {"query_ids": [1, 2, 3]}, r"query_ids is int64 \[3\]; expected"),
        (evaluate_ranking, GOOD, {"max_rank": 0}, "max_rank is 0; expected an integer"),
        (rerank, POOL, {"lambda_value": float("nan")}, "lambda_value is nan; expected a number"),
        (rerank, POOL, {"gallery_embeddings": np.zeros((2, 3))}, r"\[2, 3\]; expected as many"),
        (rerank, POOL, {"gallery_embeddings": [[0, 0], [0, np.inf]]}, "NaN or infinity in row 1"),
    ],
)
def test_bad_arguments_are_named(call, good, change, named) -> None:
    with pytest.raises(ValueError, match=named):
        call(**good | change)


def test_distances_are_exact_where_float32_would_cancel() -> None:
    far = np.full((1, 1024), 100, dtype=np.float32)
    near = far.copy()
    near[0, 0] += 0.01
    exact = ((far.astype(np.float64) - near) ** 2).sum()
    assert squared_distances(far, near)[0, 0] == pytest.approx(exact, rel=1e-4)
    assert squared_distances(far, far)[0, 0] == 0


def test_a_large_gallery_ranks_in_blocks_as_all_of_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    # Small whole numbers: exact in any order of summation, and full of ties.
    rng = np.random.default_rng(0)
    queries, gallery = (rng.integers(-1, 2, (count, 64)).astype("f4") for count in (10, 20_000))
    ids = rng.integers(0, 50, 10), rng.integers(0, 50, 20_000)
    labels = *ids, rng.integers(-1, 4, 10), rng.integers(-1, 4, 20_000)
    monkeypatch.setattr("multitasknet.ranking.distances._COLUMNS", 1000)
    monkeypatch.setattr("multitasknet.ranking.distances._PAIRS", 40_000)
    tracemalloc.start()
    rows = chain.from_iterable(distance_blocks(queries, gallery))
    result = rank_rows(rows, Labels(*labels))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    distances = np.stack([((one - gallery) ** 2).sum(axis=1) for one in queries])
    check(result, ranks_of_matches(distances, *labels))
    # In float64 at once the gallery alone takes 10 MB.
    assert peak < 4e6


# Re-ranking


def reference(a: np.ndarray, b: np.ndarray, k1: int, k2: int, lambda_value: float) -> list:
    """Zhong et al., the steps of their released code, on the pool of queries and gallery."""
    pool = [*a.tolist(), *b.tolist()]
    images = range(len(pool))
    squared = [[sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) for b in pool] for a in pool]
    d = [[value / (max(row) or 1) for value in row] for row in squared]
    order = [sorted(images, key=lambda g: (g != p, squared[p][g], g)) for p in images]

    def reciprocal(p: int, k: int) -> set[int]:
        return {g for g in order[p][: k + 1] if p in order[g][: k + 1]}

    def expanded(p: int) -> set[int]:
        members = reciprocal(p, k1)
        halves = [reciprocal(q, int(np.around(k1 / 2))) for q in members]
        return members.union(*(half for half in halves if len(members & half) > 2 / 3 * len(half)))

    sets = [expanded(p) for p in images]
    v = [[math.exp(-d[p][g]) if g in sets[p] else 0 for g in images] for p in images]
    v = [[value / sum(row) for value in row] for row in v]
    v = [np.mean([v[g] for g in order[p][:k2]], axis=0) for p in images]

    def jaccard(p: int, g: int) -> float:
        return 1 - np.minimum(v[p], v[g]).sum() / np.maximum(v[p], v[g]).sum()

    return [
        [(1 - lambda_value) * jaccard(p, g) + lambda_value * d[p][g] for g in images[len(a) :]]
        for p in images[: len(a)]
    ]


@settings(max_examples=100, deadline=None)
@given(
    *(st.integers(1, most) for most in (5, 14, 20, 8, 6)),
    st.sampled_from([0, 0.3, 1]),
    st.integers(0, 2**32 - 1),
)
def test_reranking_is_what_the_authors_code_says(
    queries, gallery, k1, k2, spread, lambda_value, seed
) -> None:
    # Whole numbers: exact distances, with duplicates and ties when the spread is small.
    rng = np.random.default_rng(seed)
    a, b = (rng.integers(-spread, spread + 1, (count, 2)) for count in (queries, gallery))
    rows = np.stack([*rerank(a, b, k1=k1, k2=k2, lambda_value=lambda_value)])
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows, reference(a, b, k1, k2, lambda_value), atol=1e-6)


def test_reranking_never_holds_all_distances_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = np.random.default_rng(0).normal(size=(2, 1200, 2)).astype("f4")
    monkeypatch.setattr("multitasknet.ranking.distances._PAIRS", 50_000)
    tracemalloc.start()
    assert sum(len(row) for row in rerank(a, b, k1=3, k2=1)) == 1200 * 1200
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # All of them take 5.8 MB in float32.
    assert peak < 4e6


# Protocols


SPEC = MultiTaskNetSpec(multi_task=False)


def measured(protocol: str, query: list, gallery: list, spec=SPEC) -> Evaluation:
    """Images by vehicle, camera and embedding (and track)."""
    splits = [
        Split(name, tuple(Record(Path("x"), *row[:2], track=(*row, None)[3]) for row in rows))
        for name, rows in (("query", query), ("gallery", gallery))
    ]
    embeddings = np.array([np.atleast_1d(row[2]) for row in (*query, *gallery)], np.float32)
    none = np.full(len(embeddings), -1)
    dataset = VehicleDataset(Path("x"), Split("train"), *splits, protocol=protocol)
    return evaluate_outputs(spec, dataset, Embeddings(embeddings, none, none))


def test_vehicleid_draws_an_image_of_each_vehicle_and_gives_mean_and_deviation() -> None:
    # Vehicle 1 is at 0 and 6, vehicle 2 at 5 and 20, all under one camera. With 6 and 5 in the
    # gallery both queries rank their own second; with any other pair one does.
    images = [(1, 3, 0), (1, 3, 6), (2, 3, 5), (2, 3, 20)]
    found = measured("vehicleid", images[:1], images[1:])
    ids, cameras = np.array([1, 1, 2, 2]), np.full(4, 3)
    draws = PROTOCOLS["vehicleid"].drawn(ids, cameras, 1)
    galleries = [sorted(one.gallery.tolist()) for one in draws]
    assert len(galleries) == found.ranking.draws == 10
    assert len({tuple(one) for one in galleries}) > 2
    assert {(ids[first], ids[second]) for first, second in galleries} == {(1, 2)}
    precisions = [50 if one == [1, 2] else 75 for one in galleries]
    assert found.metrics["mAP"] == pytest.approx(np.mean(precisions))
    assert found.deviations["mAP"] == pytest.approx(np.std(precisions))
    assert found.ranking.rank(1) == pytest.approx(np.mean(precisions) / 50 - 1)
    assert (found.ranking.rank(2), found.ranking.valid_queries) == (1, 2)


def test_cityflow_counts_the_100_nearest_and_ranks_tracks_too() -> None:
    query, gallery = [(7, 1, 1)], [(7, 2, 2, 1), (7, 2, 8, 1), (8, 3, 4, 2)]
    found = measured("cityflow", query, gallery)
    assert found.metrics["mAP"] == pytest.approx(100 * (1 + 2 / 3) / 2)
    # The first track's mean is 5, the other's 4.
    assert found.rankings["by track"].mAP == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert list(measured("veri", query, gallery).rankings) == ["plain"]
    # 101 images of another vehicle are between the matches: the second does not count.
    far = [(7, 2, 1), *((8, 3, n) for n in range(2, 103)), (7, 2, 103)]
    assert measured("cityflow", [(7, 1, 0)], far).metrics["mAP"] == pytest.approx(50)


@pytest.mark.parametrize(("query", "ranks"), [(20, [2, 3]), (24, [1, 2])])
def test_track_means_are_compared_by_angle_as_embeddings_are(query, ranks) -> None:
    # Vehicle 7 at 90 and -30 degrees (mean 30), vehicle 8 at 14; the mean's length is a half.
    def at(degrees: float) -> tuple[float, float]:
        return np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))

    gallery = [(7, 2, at(90), 1), (7, 2, at(-30), 1), (8, 3, at(14), 2)]
    found = measured("cityflow", [(7, 1, at(query))], gallery, replace(SPEC, distance="cosine"))
    # 8 is 6 or 10 degrees from the query, 7's mean 10 or 6.
    assert found.rankings["by track"].ranks.tolist() == ranks


def test_what_makes_figures_not_comparable_is_said(tmp_path: Path) -> None:
    (stated,) = caveats(read_dataset(vric(tmp_path / "vric")), PROTOCOLS["veri"])
    assert stated.startswith("published figures are of 2,811 queries and 2,811 gallery images")
    dataset = read_dataset(vehicleid(tmp_path / "vehicleid"))
    assert caveats(dataset, PROTOCOLS["vehicleid"]) == []
    assert caveats(dataset, PROTOCOLS["veri"]) == [
        "the protocol of this data set is vehicleid",
        "where a camera is unknown, images of the query's own camera count",
    ]


# Camera means


def cast() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Embeddings of each vehicle before each camera, which adds its own; vehicles; cameras."""
    rng = np.random.default_rng(0)
    ids, cameras = np.repeat(np.arange(60), 4), np.tile(np.arange(4), 60)
    own = rng.normal(size=(60, stores.WIDTH))[ids]
    own += 0.4 * rng.normal(size=own.shape) + 3 * rng.normal(size=(4, stores.WIDTH))[cameras]
    return own, ids, cameras


def test_each_camera_loses_its_mean_and_small_and_unknown_ones_that_of_all() -> None:
    embeddings, _, cameras = cast()
    cameras = np.where((cameras == 3) & (np.arange(len(cameras)) > 150), 9, cameras)
    cameras[cameras == 2] = -1
    centered, mean = center_cameras(embeddings, cameras), embeddings.mean(axis=0)
    for one in (0, 1, -1, 3, 9):
        own = embeddings[cameras == one]
        left = own - (own.mean(axis=0) if one in (0, 1) else mean)
        # Unit length stays unit length, so distances are still those of angles.
        left *= np.linalg.norm(own, axis=1, keepdims=True) / np.linalg.norm(left, axis=1)[:, None]
        np.testing.assert_allclose(centered[cameras == one], left, rtol=1e-4, atol=1e-5)
    # A camera that saw one thing alone has nothing left, and no NaN.
    same = np.concatenate([np.ones((50, 3)), np.eye(3)])
    assert not center_cameras(same, np.array([1] * 50 + [-1] * 3))[:50].any()
    with pytest.raises(DataError, match=r"none of the cameras of 240 images took 50"):
        center_cameras(np.ones((240, 2)), np.arange(240) % 5)


def test_a_gallery_is_grouped_and_linked_without_its_cameras() -> None:
    embeddings, ids, cameras = cast()
    gallery, noon = stores.open_gallery(), datetime(2026, 11, 1, 12)
    rows = [
        stores.row(f"{n}", n, embedding=one, camera=f"c{camera}", time=noon + timedelta(minutes=n))
        for n, (one, camera) in enumerate(zip(embeddings, cameras, strict=True))
    ]
    gallery.merge(rows, insert=True)
    limit = gallery.centered_rates().distance_at(0.01)
    first, second = np.triu_indices(len(ids), k=1)
    for find in (gallery.group, lambda **how: gallery.link(**how, progress=False)):
        right = []
        for centered in (False, True):
            found = find(max_distance=limit, center_cameras=centered)
            vehicles = found.vehicles[np.argsort([int(path.stem) for path in found.images])]
            together = vehicles[first] == vehicles[second]
            right.append(int((together & (ids[first] == ids[second])).sum()))
        assert right[0] < 20 < 150 < right[1]
