"""Figures with intervals, and the ranking by kinds of match, against slow and plain ways."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from multitasknet.data.records import Record, Split, VehicleDataset
from multitasknet.evaluation.figures import Figure, breakdown, figures
from multitasknet.evaluation.kinds import kinds_of_matches
from multitasknet.ranking.metrics import RankingResult, evaluate_embeddings

NAN = float("nan")


def split(name: str, ids: np.ndarray, cameras: np.ndarray) -> Split:
    pairs = zip(ids.tolist(), cameras.tolist(), strict=True)
    return Split(name, tuple(Record(Path("x.jpg"), *pair) for pair in pairs))


@pytest.fixture(scope="module")
def data() -> tuple[VehicleDataset, np.ndarray, RankingResult]:
    """Vehicles before three cameras, a fourth that is unknown; distances; their ranking."""
    rng = np.random.default_rng(0)
    ids = (rng.integers(0, 15, 40), np.append(rng.integers(0, 14, 200), 99))
    cameras = tuple(rng.choice([1, 2, 3, -1], len(one)) for one in ids)
    own = rng.normal(size=(100, 8))
    query, gallery = (own[one] + rng.normal(size=(len(one), 8)) for one in ids)
    dataset = VehicleDataset(
        Path(), query=split("query", ids[0], cameras[0]), gallery=split("x", ids[1], cameras[1])
    )
    distances = ((query[:, None] - gallery) ** 2).sum(axis=2)
    return dataset, distances, evaluate_embeddings(query, gallery, *ids, *cameras)


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
    found = figures({"x": values}, vehicles)["x"]
    assert found.value == pytest.approx(100 * np.nanmean(values))
    assert found.count == np.count_nonzero(~np.isnan(values))
    expected = np.quantile(drawn, (0.025, 0.975))
    assert np.abs(np.array([found.low, found.high]) - expected).max() < 0.06 * np.ptp(expected)
    # Images of one vehicle are no images of 25 others.
    assert found.high - found.low > 1.3 * np.ptp(
        [
            getattr(figures({"x": values}, np.arange(len(values)))["x"], end)
            for end in ("low", "high")
        ]
    )


@pytest.mark.parametrize(
    ("figure", "shown"),
    [
        (Figure(31.843, 29.52, 34.18, 408), ("32", "30 to 34")),
        (Figure(31.843, 31.52, 32.18, 4080), ("31.8", "31.5 to 32.2")),
        (Figure(31.843, 31.822, 31.861, 40800), ("31.84", "31.82 to 31.86")),
        # Forty queries, all of them right, do not tell a hundredth.
        (Figure(100.0, 100.0, 100.0, 40), ("100", "100 to 100")),
        (Figure(66.667, NAN, NAN, 5000), ("67", "")),
        (Figure(NAN, NAN, NAN, 0), ("", "")),
    ],
)
def test_figures_show_no_more_than_their_interval_allows(figure, shown) -> None:
    assert (str(figure), figure.interval) == shown


def test_few_vehicles_have_no_interval() -> None:
    found = figures({"x": np.ones(900)}, np.arange(900) % 9)["x"]
    assert found.value == 100 and np.isnan([found.low, found.high]).all()


def test_a_part_is_the_ranking_without_the_other_matches(data) -> None:
    dataset, distances, ranking = data
    matches, gallery = ranking.matches, dataset.gallery.vehicle_ids
    kinds = np.random.default_rng(2).integers(0, 3, len(matches.queries))
    kinds[matches.queries < 4] = 0
    parts = breakdown(matches, ("a", "b", "c", "empty"), kinds)
    assert list(parts) == ["a", "b", "c"]
    for kind, part in enumerate(parts.values()):
        precisions, hits = [], []
        for query, vehicle in enumerate(dataset.query.vehicle_ids):
            own = matches.images[(matches.queries == query) & (kinds == kind)]
            kept = np.sort(np.concatenate([np.flatnonzero(gallery != vehicle), own]))
            order = kept[np.argsort(distances[query, kept], kind="stable")]
            ranks = np.flatnonzero(np.isin(order, own)) + 1
            if len(ranks):
                precisions.append(np.mean(np.arange(1, len(ranks) + 1) / ranks))
                hits.append(ranks[0] == 1)
        assert part.queries == len(precisions)
        assert part.figures["mAP"].value == pytest.approx(100 * np.mean(precisions))
        assert part.figures["Rank-1"].value == pytest.approx(100 * np.mean(hits))
    whole = breakdown(matches, ("all",), np.zeros_like(kinds))["all"]
    assert whole.queries == ranking.valid_queries
    assert whole.figures["mAP"].value == pytest.approx(100 * ranking.mAP)


def test_every_match_is_of_one_kind_that_its_images_have(data) -> None:
    dataset, _, ranking = data
    matches, rng = ranking.matches, np.random.default_rng(3)
    octants = [rng.integers(-1, 8, len(one)) for one in (dataset.query, dataset.gallery)]
    sides = np.linspace(80, 240, len(dataset.query))
    found = kinds_of_matches(
        matches,
        dataset,
        {"octant": octants[0], "short side": sides, "quality": sides / 240},
        {"octant": octants[1]},
    )
    assert list(found) == ["camera pair", "view", "size", "quality"]
    names, kinds = found["quality"]
    doubted = sides[matches.queries] < 120
    assert ([names[kind].endswith("doubted") for kind in kinds] == doubted).all()
    names, kinds = found["camera pair"]
    cameras = (
        dataset.query.camera_ids[matches.queries],
        dataset.gallery.camera_ids[matches.images],
    )
    for a, b, kind in zip(*cameras, kinds, strict=True):
        known = a != -1 and b != -1
        assert names[kind] == (f"{min(a, b)} and {max(a, b)}" if known else "unknown camera")
    names, kinds = found["view"]
    ends = ["front", "front", "side", "rear", "rear", "rear", "side", "front", None]
    pairs = octants[0][matches.queries], octants[1][matches.images]
    for a, b, kind in zip(*pairs, kinds, strict=True):
        one, other = ends[a], ends[b]
        if one is None or other is None:
            assert names[kind] == "view unclear"
        elif "side" in (one, other):
            assert names[kind] == "side"
        else:
            assert names[kind] == ("same end" if one == other else "other end")
    names, kinds = found["size"]
    parts = breakdown(matches, names, kinds)
    assert sum(part.queries for part in parts.values()) == ranking.valid_queries
    below = 100 * np.nanmean(matches.average_precisions[sides < 100])
    assert parts["below 100 px"].figures["mAP"].value == pytest.approx(below)


def test_the_commonest_camera_pairs_are_named_and_the_others_are_one() -> None:
    ids, cameras = np.arange(30) % 2, np.arange(30) // 2
    ranking = evaluate_embeddings(ids[:, None], ids[:, None], ids, ids, cameras, cameras)
    dataset = VehicleDataset(
        Path(), query=split("query", ids, cameras), gallery=split("x", ids, cameras)
    )
    names, kinds = kinds_of_matches(ranking.matches, dataset, {}, {})["camera pair"]
    assert len(names) == 12 and names[10:] == ("95 other pairs", "unknown camera")
    assert np.bincount(kinds).tolist() == [4] * 10 + [4 * 95]
