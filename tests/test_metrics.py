"""Ranking metrics, against a reference that says the definition line by line."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from multitasknet.errors import DataError
from multitasknet.ranking.distances import nearest, squared_distances
from multitasknet.ranking.metrics import (
    RankingResult,
    evaluate_embeddings,
    evaluate_ranking,
)

Case = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def reference(
    distances: np.ndarray,
    query_ids: np.ndarray,
    gallery_ids: np.ndarray,
    query_cameras: np.ndarray,
    gallery_cameras: np.ndarray,
    max_rank: int,
    own_camera: bool = False,
    most: int = 10**6,
) -> dict[str, Any]:
    """CMC, mAP, mINP, skipped queries and average precisions; slow and plain."""
    ranks_of_matches = []
    for q in range(len(query_ids)):
        ranking = sorted(range(len(gallery_ids)), key=lambda g: (distances[q, g], g))
        ranks, rank = [], 0
        for g in ranking:
            same_vehicle = gallery_ids[g] == query_ids[q]
            own = gallery_cameras[g] == query_cameras[q] != -1
            if same_vehicle and own and not own_camera:
                continue
            rank += 1
            if same_vehicle:
                ranks.append(rank)
        ranks_of_matches.append(ranks)
    valid = [ranks for ranks in ranks_of_matches if ranks]
    precisions = [
        sum(n / rank for n, rank in enumerate(ranks, 1) if rank <= most) / min(len(ranks), most)
        if ranks
        else np.nan
        for ranks in ranks_of_matches
    ]
    return {
        "cmc": [np.mean([ranks[0] <= k for ranks in valid]) for k in range(1, max_rank + 1)],
        "mAP": np.nanmean(precisions),
        "mINP": np.mean([len(ranks) / ranks[-1] for ranks in valid]),
        "skipped": [q for q, ranks in enumerate(ranks_of_matches) if not ranks],
        "ap": precisions,
    }


def agrees(result: RankingResult, expected: dict[str, Any]) -> None:
    np.testing.assert_array_equal(result.cmc, expected["cmc"])
    np.testing.assert_array_equal(result.skipped_queries, expected["skipped"])
    np.testing.assert_allclose(result.average_precisions, expected["ap"], rtol=1e-14)
    assert result.mAP == pytest.approx(expected["mAP"], rel=1e-14)
    assert result.mINP == pytest.approx(expected["mINP"], rel=1e-14)
    assert result.valid_queries == len(expected["ap"]) - len(expected["skipped"])


@st.composite
def labels(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Few vehicles and cameras, so that all happens: no match, left-out images, no camera."""
    queries, gallery = draw(st.integers(1, 5)), draw(st.integers(1, 12))
    vehicles, cameras = st.integers(0, draw(st.integers(0, 3))), st.integers(-1, 2)
    return (
        draw(arrays(np.int64, queries, elements=vehicles)),
        draw(arrays(np.int64, gallery, elements=vehicles)),
        draw(arrays(np.int64, queries, elements=cameras)),
        draw(arrays(np.int64, gallery, elements=cameras)),
    )


@st.composite
def distance_cases(draw: st.DrawFn) -> Case:
    names = draw(labels())
    # Between one value for all and hardly a tie; float32 has -0.0 and infinity as well.
    few = st.sampled_from([0.0, -0.0, 0.5, 1.0, np.inf])
    many = st.floats(0, 1000, width=32)
    shape = (len(names[0]), len(names[1]))
    values = draw(st.sampled_from([few, many]))
    return draw(arrays(np.float32, shape, elements=values)), *names


def has_match(case: Case) -> bool:
    _, query_ids, gallery_ids, query_cameras, gallery_cameras = case
    same_camera = (gallery_cameras == query_cameras[:, None]) & (gallery_cameras != -1)
    return bool(((gallery_ids == query_ids[:, None]) & ~same_camera).any())


@settings(max_examples=1000, deadline=None)
@given(distance_cases().filter(has_match), st.integers(1, 20), st.booleans(), st.integers(1, 20))
def test_the_metrics_are_what_the_definition_says(
    case: Case, max_rank: int, own_camera: bool, most: int
) -> None:
    agrees(evaluate_ranking(*case, max_rank=max_rank), reference(*case, max_rank=max_rank))
    rules = {"max_rank": max_rank, "own_camera": own_camera, "most": most}
    agrees(evaluate_ranking(*case, **rules), reference(*case, **rules))


@settings(max_examples=100, deadline=None)
@given(distance_cases().filter(lambda case: not has_match(case)))
def test_without_any_match_there_is_nothing_to_evaluate(case: Case) -> None:
    with pytest.raises(DataError, match=f"none of the {len(case[1])} queries"):
        evaluate_ranking(*case)


@settings(max_examples=200, deadline=None)
@given(labels(), st.integers(0, 2**32 - 1))
def test_embeddings_rank_as_their_distances_do(names: tuple[np.ndarray, ...], seed: int) -> None:
    # Small whole numbers: exact in any order of summation, and full of ties.
    rng = np.random.default_rng(seed)
    queries, gallery = (rng.integers(-2, 3, (len(ids), 3)) for ids in names[:2])
    distances = ((queries[:, None] - gallery) ** 2).sum(axis=2)
    assume(has_match((distances, *names)))
    agrees(evaluate_embeddings(queries, gallery, *names), reference(distances, *names, max_rank=50))


@pytest.mark.parametrize("decimals", [0, 3, 16])
def test_a_large_gallery_agrees_with_the_reference(decimals: int) -> None:
    rng = np.random.default_rng(0)
    names = [rng.integers(0, 9, 20), rng.integers(0, 9, 2000)]
    names += [rng.integers(-1, 3, 20), rng.integers(-1, 3, 2000)]
    distances = rng.normal(size=(20, 2000)).round(decimals)
    agrees(evaluate_ranking(distances, *names), reference(distances, *names, max_rank=50))


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
        ({"distances": np.zeros(3)}, r"distances is float64 \[3\]; expected real numbers"),
        ({"distances": np.zeros((0, 3))}, r"distances is float64 \[0, 3\]"),
        ({"distances": [["a"]]}, r"distances is <U1 \[1, 1\]"),
        ({"query_ids": [1, 2, 3]}, r"query_ids is int64 \[3\]; expected integers \[2\]"),
        ({"gallery_ids": [1.0, 2.0, 3.0]}, r"gallery_ids is float64 \[3\]; expected integers"),
        ({"query_cameras": [[1, 1]]}, r"query_cameras is int64 \[1, 2\]"),
        ({"gallery_cameras": ["c1", "c2", "c3"]}, r"gallery_cameras is <U2 \[3\]"),
        ({"max_rank": 0}, "max_rank is 0; expected an integer of at least 1"),
        ({"gallery_ids": [7, 8, 9]}, "none of the 2 queries has a gallery image"),
    ],
)
def test_bad_arguments_are_named(change: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        evaluate_ranking(**GOOD | change)


@pytest.mark.parametrize(
    ("queries", "gallery", "named"),
    [
        (np.zeros((2, 5)), np.zeros((3, 4)), r"\[2, 5\] and gallery_embeddings \[3, 4\]; expected"),
        (np.zeros((2, 1)), [[0.0], [np.inf], [0.0]], "gallery_embeddings has NaN or inf.* row 1"),
        (np.zeros((0, 4)), np.zeros((3, 4)), r"query_embeddings is float64 \[0, 4\]"),
    ],
)
def test_bad_embeddings_are_named(queries: Any, gallery: Any, named: str) -> None:
    with pytest.raises(DataError, match=named):
        evaluate_embeddings(queries, gallery, *list(GOOD.values())[1:])


def test_distances_are_exact_where_float32_would_cancel() -> None:
    far = np.full((1, 1024), 100, dtype=np.float32)
    near = far.copy()
    near[0, 0] += 0.01
    exact = ((far.astype(np.float64) - near) ** 2).sum()
    assert squared_distances(far, near)[0, 0] == pytest.approx(exact, rel=1e-4)
    assert squared_distances(far, far)[0, 0] == 0


@settings(max_examples=300, deadline=None)
@given(arrays(np.float32, st.integers(1, 30), elements=st.integers(0, 4)), st.integers(1, 35))
def test_the_nearest_come_in_order_and_ties_by_index(distances: np.ndarray, count: int) -> None:
    expected = sorted(range(len(distances)), key=lambda index: (distances[index], index))[:count]
    assert nearest(distances, count).tolist() == expected


def test_a_large_gallery_is_evaluated_in_blocks_with_the_same_figures(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import tracemalloc

    rng = np.random.default_rng(0)
    queries, gallery = (rng.integers(-9, 9, (count, 64)).astype("f4") for count in (40, 30_000))
    ids = rng.integers(0, 50, 40), rng.integers(0, 50, 30_000)
    cameras = rng.integers(0, 4, 40), rng.integers(0, 4, 30_000)
    whole = evaluate_embeddings(queries, gallery, *ids, *cameras)
    monkeypatch.setattr("multitasknet.ranking.distances._COLUMNS", 1000)
    monkeypatch.setattr("multitasknet.ranking.distances._PAIRS", 100_000)
    tracemalloc.start()
    blocks = evaluate_embeddings(queries, gallery, *ids, *cameras)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (blocks.mAP, blocks.mINP) == (whole.mAP, whole.mINP)
    assert blocks.cmc.tolist() == whole.cmc.tolist()
    # In float64 at once the gallery alone takes 15 MB.
    assert peak < 5e6
