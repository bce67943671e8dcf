"""Ranking metrics, against a reference that says the definition line by line."""

from __future__ import annotations

import tracemalloc
from itertools import chain
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from multitasknet.errors import DataError
from multitasknet.ranking.distances import distance_blocks, nearest, squared_distances
from multitasknet.ranking.metrics import Labels, evaluate_ranking, rank_rows


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
        if ranks
        else np.nan
        for ranks in found
    ]
    first = [ranks[0] for ranks in valid]
    cmc = [np.mean(np.array(first) <= k) for k in range(1, len(result.cmc) + 1)]
    np.testing.assert_array_equal(result.cmc, cmc)
    np.testing.assert_allclose(result.average_precisions, precisions, rtol=1e-14)
    assert result.mAP == pytest.approx(np.nanmean(precisions), rel=1e-14)
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
def test_the_metrics_are_what_the_definition_says(
    case: tuple[np.ndarray, ...], max_rank: int, own_camera: bool, most: int | None
) -> None:
    found = ranks_of_matches(*case, own_camera=own_camera)
    if any(found):
        check(evaluate_ranking(*case, max_rank, own_camera=own_camera, most=most), found, most)
        return
    with pytest.raises(DataError, match=f"none of the {len(case[1])} queries"):
        evaluate_ranking(*case, own_camera=own_camera)


def test_a_hand_calculated_case() -> None:
    result = evaluate_ranking(
        # The nearest is left out (same vehicle, same camera); matches are then at ranks 2 and 3.
        distances=[[0.1, 0.2, 0.3, 0.4, 0.5], [0.1, 0.2, 0.3, 0.4, 0.5]],
        query_ids=[7, 9],
        gallery_ids=[7, 8, 7, 7, 8],
        query_cameras=[1, 1],
        gallery_cameras=[1, 1, 2, -1, 3],
        max_rank=3,
    )
    assert result.cmc.tolist() == [0, 1, 1]
    assert (result.rank(1), result.rank(3)) == (0, 1)
    assert result.mAP == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert result.mINP == pytest.approx(2 / 3)
    assert (result.valid_queries, result.skipped_queries.tolist()) == (1, [1])
    for k in (0, 4, -1):
        with pytest.raises(ValueError, match=f"k is {k}; expected 1 to 3"):
            result.rank(k)


GOOD = {
    "distances": np.zeros((2, 3), dtype=np.float32),
    "query_ids": [1, 2],
    "gallery_ids": [1, 2, 3],
    "query_cameras": [1, 1],
    "gallery_cameras": [2, 2, 2],
}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"distances": [[0, 1, 2], [0, np.nan, 2]]}, r"distances has NaN at \[1, 1\]"),
        ({"distances": np.zeros((0, 3))}, r"distances is float64 \[0, 3\]; expected real numbers"),
        ({"distances": [["a"]]}, r"distances is <U1 \[1, 1\]"),
        ({"query_ids": [1, 2, 3]}, r"query_ids is int64 \[3\]; expected integers \[2\]"),
        ({"gallery_ids": [1.0, 2.0, 3.0]}, r"gallery_ids is float64 \[3\]; expected integers"),
        ({"query_cameras": [[1, 1]]}, r"query_cameras is int64 \[1, 2\]"),
        ({"max_rank": 0}, "max_rank is 0; expected an integer of at least 1"),
    ],
)
def test_bad_arguments_are_named(change: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        evaluate_ranking(**GOOD | change)


@pytest.mark.parametrize(
    ("queries", "gallery", "named"),
    [
        (np.zeros((2, 5)), np.zeros((3, 4)), r"a is \[2, 5\] and b \[3, 4\]; expected as many"),
        (np.zeros((2, 1)), [[0.0], [np.inf], [0.0]], "b has NaN or infinity in row 1"),
        (np.zeros((0, 4)), np.zeros((3, 4)), r"a is float64 \[0, 4\]"),
    ],
)
def test_bad_embeddings_are_named(queries: Any, gallery: Any, named: str) -> None:
    with pytest.raises(DataError, match=named):
        squared_distances(queries, gallery)


def test_distances_are_exact_where_float32_would_cancel() -> None:
    far = np.full((1, 1024), 100, dtype=np.float32)
    near = far.copy()
    near[0, 0] += 0.01
    exact = ((far.astype(np.float64) - near) ** 2).sum()
    assert squared_distances(far, near)[0, 0] == pytest.approx(exact, rel=1e-4)
    assert squared_distances(far, far)[0, 0] == 0


@settings(max_examples=100, deadline=None)
@given(arrays(np.float32, st.integers(1, 30), elements=st.integers(0, 4)), st.integers(1, 35))
def test_the_nearest_come_in_order_and_ties_by_index(distances: np.ndarray, count: int) -> None:
    expected = sorted(range(len(distances)), key=lambda index: (distances[index], index))[:count]
    assert nearest(distances, count).tolist() == expected


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
