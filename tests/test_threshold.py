"""From labelled pairs to a threshold."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multitasknet.errors import DataError
from multitasknet.ranking.threshold import (
    roc_of_embeddings,
    roc_of_pairs,
    threshold_at,
)

PAIRS = st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=2, max_size=40)


def has_both(pairs: list[tuple[int, bool]]) -> bool:
    return len({same for _, same in pairs}) == 2


@settings(max_examples=300, deadline=None)
@given(PAIRS.filter(has_both))
def test_a_roc_counts_the_pairs_at_most_so_far_apart(pairs: list[tuple[int, bool]]) -> None:
    roc = roc_of_pairs(*map(np.array, zip(*pairs, strict=True)))
    same = [distance for distance, is_same in pairs if is_same]
    different = [distance for distance, is_same in pairs if not is_same]
    assert roc.distances.tolist() == sorted(set(same))
    assert (roc.positives, roc.negatives) == (len(same), len(different))
    for threshold, false_rate, true_rate in zip(
        roc.distances, roc.false_match_rates, roc.true_match_rates, strict=True
    ):
        assert true_rate == sum(distance <= threshold for distance in same) / len(same)
        assert false_rate == sum(distance <= threshold for distance in different) / len(different)


@settings(max_examples=300, deadline=None)
@given(PAIRS.filter(has_both), st.floats(0.001, 1))
def test_a_threshold_has_the_most_true_matches_at_the_rate(
    pairs: list[tuple[int, bool]], wanted: float
) -> None:
    distances, same = map(np.array, zip(*pairs, strict=True))

    def rates(threshold: float) -> tuple[float, float]:
        within = distances <= threshold
        return within[~same].mean(), within[same].mean()

    allowed = [true for false, true in map(rates, np.unique(distances)) if false <= wanted]
    try:
        threshold = threshold_at(roc_of_pairs(distances, same), wanted)
    except DataError:
        assert wanted < 1 / (~same).sum() or not any(allowed)
    else:
        assert rates(threshold.distance) == (
            threshold.false_match_rate,
            threshold.true_match_rate,
        )
        assert threshold.false_match_rate <= wanted
        assert threshold.true_match_rate == max(allowed)
        assert threshold.false_matches == (distances[~same] <= threshold.distance).sum()


@pytest.mark.parametrize("with_cameras", [False, True])
@pytest.mark.parametrize("count", [12, 600])
def test_embeddings_give_the_roc_of_all_their_pairs(count: int, with_cameras: bool) -> None:
    rng = np.random.default_rng(count)
    embeddings = rng.integers(-3, 4, (count, 3))
    ids = rng.integers(0, 4, count)
    cameras = rng.integers(-1, 2, count)
    pairs = [
        (((embeddings[a] - embeddings[b]) ** 2).sum(), ids[a] == ids[b])
        for a, b in combinations(range(count), 2)
        if not (with_cameras and ids[a] == ids[b] and cameras[a] == cameras[b] != -1)
    ]
    expected = roc_of_pairs(*map(np.array, zip(*pairs, strict=True)))
    roc = roc_of_embeddings(embeddings, ids, cameras if with_cameras else None)
    assert (roc.positives, roc.negatives) == (expected.positives, expected.negatives)
    np.testing.assert_array_equal(roc.distances, expected.distances)
    np.testing.assert_array_equal(roc.false_match_rates, expected.false_match_rates)
    np.testing.assert_array_equal(roc.true_match_rates, expected.true_match_rates)


def test_a_rate_below_one_in_the_pairs_is_refused_with_the_number_it_takes() -> None:
    roc = roc_of_pairs(np.arange(11.0), np.array([True] + [False] * 10))
    assert threshold_at(roc, 0.1).distance == 0
    with pytest.raises(DataError) as refused:
        threshold_at(roc, 0.001)
    assert "on 10 pairs of different vehicles; give at least 1000, or ask for 1/10" in str(
        refused.value
    )


def test_a_rate_at_which_nothing_matches_is_refused() -> None:
    roc = roc_of_pairs(np.arange(5.0), np.array([False, False, True, False, False]))
    with pytest.raises(DataError, match=r"at 2, the rate is 0\.5 already"):
        threshold_at(roc, 0.25)


@pytest.mark.parametrize(
    ("distances", "same", "named"),
    [
        ([1.0, 2.0], [True, True], "2 pairs of the same vehicle and 0 of different ones"),
        ([1.0, 2.0], [False, False], "0 pairs of the same vehicle and 2 of different ones"),
        ([1.0, np.nan], [False, True], r"distances has NaN at \[1\]"),
        ([1.0], [False, True], r"same_vehicle is bool \[2\]; expected bool \[1\]"),
        ([1.0, 2.0], [0, 1], r"same_vehicle is int64 \[2\]; expected bool"),
        ([], [], r"distances is float64 \[0\]"),
    ],
)
def test_bad_pairs_are_named(distances: list[float], same: list[Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        roc_of_pairs(distances, same)


@pytest.mark.parametrize("rate", [0, -0.1, 1.5, float("nan")])
def test_a_rate_out_of_range_is_refused(rate: float) -> None:
    roc = roc_of_pairs([1.0, 2.0], [True, False])
    with pytest.raises(ValueError, match="expected a number above 0, at most 1"):
        threshold_at(roc, rate)
