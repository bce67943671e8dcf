"""How near strangers come, from rows without labels."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import stores
from hypothesis import given
from hypothesis import strategies as st

from multitasknet.errors import DataError
from multitasknet.gallery import index
from multitasknet.gallery.gallery import Gallery
from multitasknet.ranking.distances import squared_distances
from multitasknet.ranking.strangers import Moments, StrangerRates

SPREAD = (1 + np.arange(stores.WIDTH)) ** -1.3  # as embeddings are: a few directions count most


def crops(vehicles: int, each: int, seed: int = 0, noise: float = 0.6) -> tuple:
    """Embeddings and their vehicles."""
    rng = np.random.default_rng(seed)
    ids = np.repeat(np.arange(vehicles), each)
    shape = len(ids), stores.WIDTH
    rows = rng.normal(size=(vehicles, stores.WIDTH))[ids] + noise * rng.normal(size=shape)
    return (rows * SPREAD).astype(np.float32), ids


ROWS, IDS = crops(150, 4)
RATES = StrangerRates.of(ROWS)
STRANGERS = np.sort(squared_distances(ROWS, ROWS)[IDS[:, None] < IDS])


@given(st.lists(st.floats(0, 1e3), min_size=2, max_size=9).map(sorted))
def test_nearer_is_never_more_common_and_bounds_are_bounds(distances: list[float]) -> None:
    found = [RATES.rate(one) for one in distances]
    for near, far in pairwise(found):
        assert near.rate <= far.rate and near.upper <= far.upper
    assert all(1 / one.pairs <= one.rate <= one.upper <= 1 for one in found)
    assert {one.pairs for one in found} == {600 * 599 // 2}


@given(st.floats(1 / RATES.pairs, 1))
def test_a_distance_and_its_rate_belong_together(rate: float) -> None:
    assert RATES.rate(RATES.distance_at(rate)).rate == pytest.approx(rate, rel=1e-6)


def test_the_order_of_rows_does_not_matter() -> None:
    found = StrangerRates.of(ROWS[np.random.default_rng(0).permutation(len(ROWS))])
    np.testing.assert_allclose(found.rates, RATES.rates, rtol=1e-6)
    np.testing.assert_allclose(found.distances, RATES.distances, rtol=1e-5)
    np.testing.assert_allclose(found.uppers, RATES.uppers, rtol=1e-3)


@pytest.mark.parametrize(("vehicles", "each"), [(150, 4), (120, 8), (250, 1)])
def test_rates_are_those_of_strangers_within_a_factor_of_two(vehicles: int, each: int) -> None:
    rows, ids = crops(vehicles, each, seed=vehicles)
    strangers = np.sort(squared_distances(rows, rows)[ids[:, None] < ids])
    rates = StrangerRates.of(rows)
    for rate in (0.1, 0.01, 0.001):
        found = rates.rate(float(strangers[int(rate * len(strangers))]))
        assert rate / 2 < found.rate < 2 * rate and found.upper > rate


def test_pairs_of_one_time_are_strangers_if_they_look_so() -> None:
    rows, ids = crops(1000, 1, seed=3)
    moments, cameras = np.arange(1000) // 25, np.arange(1000) % 25
    apart = np.sort(squared_distances(rows, rows)[ids[:, None] < ids])
    found = StrangerRates.of(ROWS, Moments(rows, moments, cameras))
    assert found.at_one_time and found.pairs == 40 * 300
    for rate in (0.1, 0.01, 0.001):
        near = float(apart[int(rate * len(apart))])
        assert rate / 2 < found.rate(near).rate < 2 * rate
    # Cameras that see one place at one time, or clocks that differ: the same vehicle twice.
    both = rows.reshape(40, 25, -1)
    both[:, 12:24] = both[:, :12] + 0.01
    assert StrangerRates.of(ROWS, Moments(rows, moments, cameras)) == RATES
    assert StrangerRates.of(ROWS, Moments(rows, moments, moments)) == RATES  # of one camera each


def test_without_enough_rows_or_vehicles_no_rate_is_stated(
    caplog: pytest.LogCaptureFixture,
) -> None:
    few = StrangerRates.of(ROWS[:9])
    assert few.rate(0.1) is None and "9 rows" in few.about
    with pytest.raises(DataError, match="9 rows; rates of strangers take 200 or more; give a"):
        few.distance_at(0.01)
    # Such as a camera's black frames, among others.
    for same in (120, 300):
        alike = ROWS[:300].copy()
        alike[:same] = 1
        found = StrangerRates.of(alike)
        assert found.rate(0.1) is None and "alike" in found.about and not found.distances
    some = StrangerRates.of(ROWS[::20])
    assert some.rate(0.1) is None and "30 rows" in some.about
    assert 0 < some.distance_at(0.01) < some.distance_at(0.1) and "a rough one" in caplog.text
    few_vehicles = StrangerRates.of(crops(10, 30, noise=0.1)[0])
    assert few_vehicles.rate(0.1) is None and "too few vehicles" in few_vehicles.about
    with pytest.raises(DataError, match=r"cannot be known from 179,700 pairs .* ask for"):
        RATES.distance_at(1e-9)
    for pairs in (179_700, 185_000, 100, 96_000):  # what it says can be asked for
        rates = replace(RATES, pairs=pairs)
        with pytest.raises(DataError) as error:
            rates.distance_at(1e-9)
        assert rates.distance_at(float(str(error.value).split("ask for ")[1].split()[0])) > 0


def test_people_read_how_many_pairs_and_what_they_rest_on() -> None:
    text = RATES.rate(RATES.distance_at(1 / 12_345)).sentence
    assert text.startswith("1 in 12,000 pairs of strangers in this gallery is as near (180,000 ")
    assert RATES.rate(0).words == "1 in 180,000 or fewer"
    assert "179,700 pairs of crops at random" in RATES.about
    assert StrangerRates.from_json(json.loads(json.dumps(asdict(RATES)))) == RATES


# A gallery


def add(gallery: Gallery, rows: np.ndarray, start: int = 0, **more: list) -> None:
    gallery.merge(
        [
            stores.row(
                f"{start + n}", n, embedding=one, **{name: of[n] for name, of in more.items()}
            )
            for n, one in enumerate(rows)
        ],
        insert=True,
    )


def test_a_gallery_keeps_its_rates_until_it_has_changed(tmp_path: Path) -> None:
    gallery = stores.open_gallery(tmp_path / "city.lance")
    add(gallery, ROWS)
    index.keep_rates(gallery)
    kept = Gallery(tmp_path / "city.lance").rates
    assert kept == gallery.rates and not kept.doubt
    add(gallery, ROWS[:50], start=1000)
    assert gallery.rates == kept
    add(gallery, ROWS[:50] + 0.1, start=2000)
    assert gallery.rates != kept and gallery.rates.pairs > kept.pairs
    gallery.remove("id > '5'")
    removed = Gallery(tmp_path / "city.lance")
    assert index.kept_rates(removed) is None
    assert removed.rates.pairs == len(removed) * (len(removed) - 1) / 2


def test_a_gallery_with_times_takes_pairs_of_one_moment() -> None:
    gallery = stores.open_gallery()
    rows, _ = crops(1000, 1, seed=3)
    noon = datetime(2026, 11, 1, 12)
    times = [noon + timedelta(minutes=n // 25, seconds=n % 2) for n in range(1000)]
    add(gallery, rows, time=times, camera=[f"c{n % 25}" for n in range(1000)])
    assert gallery.rates.at_one_time and gallery.rates.pairs == 40 * 300
    hits = gallery.search(rows[:2], top=3)
    assert all(hit.rate == gallery.rates.rate(hit.distance) for one in hits for hit in one)
