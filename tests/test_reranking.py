"""k-reciprocal re-ranking, against the authors' steps in sets and loops."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multitasknet.ranking.reranking import rerank


def reference(
    queries: np.ndarray, gallery: np.ndarray, k1: int, k2: int, lambda_value: float
) -> list[list[float]]:
    """Zhong et al., the steps of their released code, on the pool of queries and gallery."""
    pool = [*queries.tolist(), *gallery.tolist()]
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

    count = len(queries)
    return [
        [(1 - lambda_value) * jaccard(p, g) + lambda_value * d[p][g] for g in images[count:]]
        for p in images[:count]
    ]


@settings(max_examples=100, deadline=None)
@given(
    st.integers(1, 5),
    st.integers(1, 14),
    st.integers(1, 20),
    st.integers(1, 8),
    st.sampled_from([0, 0.3, 1]),
    st.integers(1, 6),
    st.integers(0, 2**32 - 1),
)
def test_reranking_is_what_the_authors_code_says(
    queries: int, gallery: int, k1: int, k2: int, lambda_value: float, spread: int, seed: int
) -> None:
    # Whole numbers: exact distances, with duplicates and ties when the spread is small.
    rng = np.random.default_rng(seed)
    a, b = (rng.integers(-spread, spread + 1, (count, 2)) for count in (queries, gallery))
    rows = np.stack([*rerank(a, b, k1=k1, k2=k2, lambda_value=lambda_value)])
    assert (rows.shape, rows.dtype) == ((queries, gallery), np.float32)
    np.testing.assert_allclose(rows, reference(a, b, k1, k2, lambda_value), atol=1e-6)


def test_reranking_with_its_defaults_agrees_on_a_larger_pool() -> None:
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(8, 16))
    a, b = (centers[rng.integers(0, 8, n)] + rng.normal(size=(n, 16)) for n in (10, 110))
    np.testing.assert_allclose(np.stack([*rerank(a, b)]), reference(a, b, 20, 6, 0.3), atol=1e-6)


def test_distances_are_never_held_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=(count, 2)).astype("f4") for count in (1200, 1200))
    monkeypatch.setattr("multitasknet.ranking.distances._PAIRS", 50_000)
    tracemalloc.start()
    for _ in rerank(a, b, k1=3, k2=1):
        pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # All of them take 5.8 MB in float32.
    assert peak < 4e6


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"k1": 0}, "k1 is 0; expected an integer"),
        ({"k2": 2.5}, r"k2 is 2\.5"),
        ({"lambda_value": float("nan")}, "lambda_value is nan; expected a number from 0 to 1"),
        ({"gallery_embeddings": np.zeros((2, 3))}, r"\[1, 2\] and gallery_.* \[2, 3\]; expected"),
    ],
)
def test_what_cannot_be_ranked_is_refused_with_the_reason(options: dict, named: str) -> None:
    good = {"query_embeddings": np.zeros((1, 2)), "gallery_embeddings": np.zeros((2, 2))}
    with pytest.raises(ValueError, match=named):
        rerank(**good | options)
