"""Figures with intervals, and the ranking by kinds of match, against slow and plain ways."""

from __future__ import annotations

import numpy as np
import pytest

from multitasknet.evaluation.figures import Figure, kinds_of_matches, parts_of
from multitasknet.ranking.metrics import evaluate_ranking

NAN = float("nan")
QUERIES = 40
RNG = np.random.default_rng(0)
# Vehicles before three cameras, a fourth that is unknown; queries first.
IDS = np.concatenate([RNG.integers(0, 15, QUERIES), RNG.integers(0, 14, 200), [99]])
CAMERAS = RNG.choice([1, 2, 3, -1], len(IDS))
EMBEDDINGS = RNG.normal(size=(100, 8))[IDS] + RNG.normal(size=(len(IDS), 8))
DISTANCES = ((EMBEDDINGS[:QUERIES, None] - EMBEDDINGS[QUERIES:]) ** 2).sum(axis=2)
RANKING = evaluate_ranking(
    DISTANCES, *(half for column in (IDS, CAMERAS) for half in np.split(column, [QUERIES]))
)


def test_intervals_are_those_of_drawing_vehicles_again_and_again() -> None:
    rng = np.random.default_rng(1)
    vehicles = np.repeat(np.arange(25), rng.integers(1, 9, 25))
    values = np.clip(rng.uniform(size=25)[vehicles] + 0.2 * rng.normal(size=len(vehicles)), 0, 1)
    values[::10] = NAN
    of_vehicle = [values[(vehicles == one) & ~np.isnan(values)] for one in range(25)]
    drawn = [
        100 * np.concatenate([of_vehicle[one] for one in rng.integers(0, 25, 25)]).mean()
        for _ in range(4000)
    ]
    found = Figure.of(values, vehicles)
    assert found.value == pytest.approx(100 * np.nanmean(values))
    assert found.count == np.count_nonzero(~np.isnan(values))
    expected = np.quantile(drawn, (0.025, 0.975))
    assert np.abs(np.array([found.low, found.high]) - expected).max() < 0.06 * np.ptp(expected)
    # Images of one vehicle are no images of 25 others.
    alone = Figure.of(values, np.arange(len(values)))
    assert found.high - found.low > 1.3 * (alone.high - alone.low)
    few = Figure.of(np.ones(900), np.arange(900) % 9)
    assert few.value == 100 and np.isnan([few.low, few.high]).all()


@pytest.mark.parametrize(
    ("figure", "shown"),
    [
        (Figure(31.843, 29.52, 34.18, 408), ("32", "30 to 34")),
        (Figure(31.843, 31.52, 32.18, 4080), ("31.8", "31.5 to 32.2")),
        (Figure(31.843, 31.822, 31.861, 40800), ("31.84", "31.82 to 31.86")),
        # Forty queries, all of them right, do not show a hundredth.
        (Figure(100.0, 100.0, 100.0, 40), ("100", "100 to 100")),
        (Figure(66.667, NAN, NAN, 5000), ("67", "")),
        (Figure.of(np.array([NAN]), np.array([1])), ("", "")),
    ],
)
def test_figures_show_no_more_than_their_interval_allows(figure, shown) -> None:
    assert (str(figure), figure.interval) == shown


def test_a_part_is_the_ranking_without_the_other_matches() -> None:
    kinds = np.random.default_rng(2).integers(0, 3, len(RANKING.queries))
    kinds[RANKING.queries < 4] = 0
    parts = parts_of(RANKING, ("a", "b", "c", "empty"), kinds)
    assert list(parts) == ["a", "b", "c"]
    for kind, part in enumerate(parts.values()):
        precisions, hits = [], []
        for query, vehicle in enumerate(IDS[:QUERIES]):
            own = RANKING.images[(RANKING.queries == query) & (kinds == kind)]
            kept = np.sort(np.concatenate([np.flatnonzero(IDS[QUERIES:] != vehicle), own]))
            order = kept[np.argsort(DISTANCES[query, kept], kind="stable")]
            ranks = np.flatnonzero(np.isin(order, own)) + 1
            if len(ranks):
                precisions.append(np.mean(np.arange(1, len(ranks) + 1) / ranks))
                hits.append(ranks[0] == 1)
        assert part.queries == len(precisions)
        assert part.figures["mAP"].value == pytest.approx(100 * np.mean(precisions))
        assert part.figures["Rank-1"].value == pytest.approx(100 * np.mean(hits))
    whole = parts_of(RANKING, ("all",), np.zeros_like(kinds))["all"]
    assert whole.queries == RANKING.valid_queries
    assert whole.figures["mAP"].value == pytest.approx(100 * RANKING.mAP)


def test_every_match_is_of_one_kind_that_its_images_have() -> None:
    octants = np.random.default_rng(3).integers(-1, 8, len(IDS))
    sides = np.linspace(80, 840, len(IDS))  # of queries to 207
    facts = {"octant": octants, "short side": sides, "quality": sides / 240}
    found = kinds_of_matches(RANKING, CAMERAS, facts, QUERIES)
    assert list(found) == ["camera pair", "view", "size", "quality"]
    kinds = {title: [names[one] for one in places] for title, (names, places) in found.items()}
    ends = ["front", "front", "side", "rear", "rear", "rear", "side", "front", None]
    for number, pair in enumerate(zip(RANKING.queries, QUERIES + RANKING.images, strict=True)):
        assert kinds["quality"][number].endswith("doubted") == (sides[pair[0]] < 120)
        assert (kinds["size"][number] == "below 100 px") == (sides[pair[0]] < 100)
        a, b = sorted(CAMERAS[one] for one in pair)
        assert kinds["camera pair"][number] == ("unknown camera" if a == -1 else f"{a} and {b}")
        one, other = (ends[octants[place]] for place in pair)
        if one is None or other is None:
            expected = "view unclear"
        elif "side" in (one, other):
            expected = "side"
        else:
            expected = "same end" if one == other else "other end"
        assert kinds["view"][number] == expected


def test_the_commonest_camera_pairs_are_named_and_the_others_are_one() -> None:
    ids, cameras = np.arange(30) % 2, np.arange(30) // 2
    ranking = evaluate_ranking(np.zeros((30, 30)), ids, ids, cameras, cameras)
    names, kinds = kinds_of_matches(ranking, np.tile(cameras, 2), {}, 30)["camera pair"]
    assert len(names) == 12 and names[10:] == ("95 other pairs", "unknown camera")
    assert np.bincount(kinds).tolist() == [4] * 10 + [4 * 95]
