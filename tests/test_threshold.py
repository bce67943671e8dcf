"""From labelled pairs to a threshold."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multitasknet.errors import DataError
from multitasknet.ranking.threshold import Roc, roc_of_embeddings, threshold_at

DISTANCES = st.lists(st.integers(0, 9), min_size=1, max_size=20).map(np.array)


def roc_of(same: np.ndarray, different: np.ndarray) -> Roc:
    return Roc.of(same, [different[:7], different[7:]])


@settings(max_examples=300, deadline=None)
@given(DISTANCES, DISTANCES, st.floats(0.001, 1))
def test_a_threshold_has_the_most_true_matches_at_the_rate(
    same: np.ndarray, different: np.ndarray, wanted: float
) -> None:
    def rates(distance: float) -> tuple[float, float]:
        return (different <= distance).mean(), (same <= distance).mean()

    roc = roc_of(same, different)
    assert roc.distances.tolist() == sorted(set(same.tolist()))
    assert (roc.positives, roc.negatives) == (len(same), len(different))
    points = [*zip(roc.false_match_rates, roc.true_match_rates, strict=True)]
    assert points == [rates(distance) for distance in roc.distances]
    allowed = [true for false, true in map(rates, range(10)) if false <= wanted]
    try:
        threshold = threshold_at(roc, wanted)
    except DataError:
        assert wanted < 1 / len(different) or not any(allowed)
    else:
        assert rates(threshold.distance) == (threshold.false_match_rate, max(allowed))
        assert threshold.true_match_rate == max(allowed)
        assert threshold.false_match_rate <= wanted
        assert threshold.false_matches == (different <= threshold.distance).sum()


@pytest.mark.parametrize("count", [12, 600])
def test_embeddings_give_the_roc_of_all_their_pairs(count: int) -> None:
    rng = np.random.default_rng(count)
    embeddings = rng.integers(-3, 4, (count, 3))
    ids, cameras = rng.integers(0, 4, count), rng.integers(-1, 2, count)
    pairs: dict[bool, list[int]] = {True: [], False: []}
    for a, b in combinations(range(count), 2):
        if not (ids[a] == ids[b] and cameras[a] == cameras[b] != -1):
            distance = ((embeddings[a] - embeddings[b]) ** 2).sum()
            pairs[bool(ids[a] == ids[b])].append(distance)
    expected = roc_of(*map(np.array, pairs.values()))
    roc = roc_of_embeddings(embeddings, ids, cameras)
    assert vars(roc).keys() == vars(expected).keys()
    for name, value in vars(expected).items():
        np.testing.assert_array_equal(getattr(roc, name), value)


@pytest.mark.parametrize(
    ("same", "different", "rate", "named"),
    [
        ([0], range(1, 11), 0.001, "on 10 pairs .* give at least 1000, or ask for 1/10"),
        ([2], [0, 1, 3, 4], 0.25, r"at 2, the rate is 0\.5 already"),
        *(([1], [2], rate, "above 0, at most 1") for rate in (0, -0.1, 1.5, float("nan"))),
        ([1, 2], [], 1, "2 pairs of the same vehicle and 0 of different ones"),
        ([], [1, 2], 1, "0 pairs of the same vehicle and 2 of different ones"),
    ],
)
def test_what_cannot_be_measured_is_refused_with_the_reason(same, different, rate, named) -> None:
    with pytest.raises(ValueError, match=named):
        threshold_at(roc_of(np.array([*same]), np.array([*different])), rate)
