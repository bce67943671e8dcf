"""What a distance means: how near strangers come, without labels, and a measured probability."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import drawn
import numpy as np
import pytest
import stores
from conftest import ASSETS
from hypothesis import given, settings
from hypothesis import strategies as st

from multitasknet import Calibration, Predictor, read_dataset
from multitasknet.cli import main
from multitasknet.errors import DataError
from multitasknet.evaluation.run import calibrate
from multitasknet.gallery.gallery import Gallery
from multitasknet.ranking.calibration import LabelledHits
from multitasknet.ranking.distances import squared_distances
from multitasknet.ranking.metrics import Labels
from multitasknet.ranking.strangers import Moments, StrangerRates
from multitasknet.weights.read import read_weights
from multitasknet.weights.sidecar import Sidecar, write_sidecar

SPREAD = (1 + np.arange(stores.WIDTH)) ** -1.3  # as embeddings are: a few directions count most


def crops(vehicles: int, each: int, seed: int = 0, noise: float = 0.6) -> tuple:
    """Embeddings, and the distances of pairs of strangers."""
    rng = np.random.default_rng(seed)
    ids = np.repeat(np.arange(vehicles), each)
    rows = rng.normal(size=(vehicles, stores.WIDTH))[ids]
    rows = ((rows + noise * rng.normal(size=rows.shape)) * SPREAD).astype(np.float32)
    return rows, np.sort(squared_distances(rows, rows)[ids[:, None] < ids])


ROWS, _ = crops(150, 4)
RATES = StrangerRates.of(ROWS)


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


@pytest.mark.parametrize(("vehicles", "each"), [(150, 4), (120, 8), (250, 1)])
def test_rates_are_those_of_strangers_within_a_factor_of_two(vehicles: int, each: int) -> None:
    rows, strangers = crops(vehicles, each, seed=vehicles)
    rates = StrangerRates.of(rows)
    for rate in (0.1, 0.01, 0.001):
        found = rates.rate(float(strangers[int(rate * len(strangers))]))
        assert rate / 2 < found.rate < 2 * rate and found.upper > rate
    again = StrangerRates.of(rows[::-1])
    np.testing.assert_allclose(again.distances, rates.distances, rtol=1e-5)
    np.testing.assert_allclose(again.uppers, rates.uppers, rtol=1e-3)


def test_pairs_of_one_time_are_strangers_if_they_look_so() -> None:
    rows, apart = crops(1000, 1, seed=3)
    moments, cameras = np.arange(1000) // 25, np.arange(1000) % 25
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


def test_without_enough_rows_or_vehicles_no_rate_is_stated(caplog) -> None:
    alike = ROWS[:300].copy()  # such as a camera's black frames, among others
    alike[:120] = 1
    some = StrangerRates.of(ROWS[::20])
    for rates, why in (
        (StrangerRates.of(ROWS[:9]), "9 rows; rates of strangers take 200 or more"),
        (StrangerRates.of(alike), "too many of its rows are alike"),
        (some, "30 rows"),
        (StrangerRates.of(crops(10, 30, noise=0.1)[0]), "too few vehicles"),
    ):
        assert rates.rate(0.1) is None and why in rates.about
    with pytest.raises(DataError, match="9 rows; rates of strangers take 200 or more; give a"):
        StrangerRates.of(ROWS[:9]).distance_at(0.01)
    assert 0 < some.distance_at(0.01) < some.distance_at(0.1) and "a rough one" in caplog.text
    for pairs in (179_700, 185_000, 100, 96_000):  # what it says can be asked for
        rates = replace(RATES, pairs=pairs)
        with pytest.raises(DataError, match=f"cannot be known from {pairs:,} pairs") as error:
            rates.distance_at(1e-9)
        assert rates.distance_at(float(str(error.value).split("ask for ")[1].split()[0])) > 0


def test_people_read_how_many_pairs_and_what_they_rest_on() -> None:
    text = RATES.rate(RATES.distance_at(1 / 12_345)).sentence
    assert text.startswith("1 in 12,000 pairs of strangers in this gallery is as near (180,000 ")
    assert RATES.rate(0).words == "1 in 180,000 or fewer"
    assert "179,700 pairs of crops at random" in RATES.about


# A gallery


def rows_of(embeddings: np.ndarray, start: int = 0) -> list[dict]:
    return [stores.row(f"{start + n}", n, embedding=one) for n, one in enumerate(embeddings)]


def test_a_gallery_keeps_its_rates_until_it_has_changed(tmp_path: Path) -> None:
    gallery = stores.open_gallery(tmp_path / "city.lance")
    gallery.merge(rows_of(ROWS), insert=True)
    gallery.add(stores.PixelPredictor(), [], progress=False)  # which measures and keeps them
    kept = gallery.rates
    gallery.merge(rows_of(ROWS[:50], 1000), insert=True)
    assert not kept.doubt and kept == gallery.rates == Gallery(gallery.path).rates
    gallery.merge(rows_of(ROWS[:50] + 0.1, 2000), insert=True)
    assert gallery.rates.pairs > kept.pairs
    gallery.remove("id > '5'")
    removed = Gallery(gallery.path)
    assert removed.rates.pairs == len(removed) * (len(removed) - 1) / 2


def test_a_gallery_with_times_takes_pairs_of_one_moment() -> None:
    embeddings, _ = crops(1000, 1, seed=3)
    rows, noon = rows_of(embeddings), datetime(2026, 11, 1, 12)
    for n, row in enumerate(rows):
        row |= {"time": noon + timedelta(minutes=n // 25, seconds=n % 2), "camera": f"c{n % 25}"}
    gallery = stores.filled(*rows)
    assert gallery.rates.at_one_time and gallery.rates.pairs == 40 * 300
    (hits,) = gallery.search(embeddings[:1], top=3)
    assert all(hit.rate == gallery.rates.rate(hit.distance) for hit in hits)


# Probabilities

NUMBERS = st.floats(-9, 9)
SOME = Calibration(
    (1.0, -5.0, -0.5), 12.0, 4900, 100, "crops", "ab" * 32, (64, 64), "none", "float32"
)


@settings(max_examples=100, deadline=None)
@given(NUMBERS, st.floats(-9, -0.01), NUMBERS, st.floats(0.01, 100), st.integers(1, 10**6))
def test_nearer_rows_are_never_less_likely_and_larger_galleries_make_hits_less_so(
    base: float, slope: float, bend: float, scale: float, rows: int
) -> None:
    calibration = replace(SOME, coefficients=(base, slope, bend))
    distances = np.linspace(0.01, 3, 50) * scale
    found = calibration.probability(distances, scale, rows)
    assert (np.diff(found) <= 1e-12).all() and ((found >= 0) & (found <= 0.99)).all()
    assert (calibration.probability(distances, scale, 10 * rows) <= found).all()
    # In other units nothing changes.
    np.testing.assert_allclose(calibration.probability(7 * distances, 7 * scale, rows), found)
    assert Calibration.from_json(json.loads(json.dumps(asdict(calibration)))) == calibration


def test_probabilities_are_shares_of_the_hits() -> None:
    rng = np.random.default_rng(0)
    rho, rank = rng.uniform(-2, 0, 50_000), rng.integers(0, 24, 50_000)
    log_odds = 1 - 5 * rho - 0.5 * rho**2 + np.log(0.01 / 0.99)
    same = rng.random(len(rho)) < 1 / (1 + np.exp(-log_odds))
    hits = LabelledHits(rho, same, rank, vehicle_rows=20, rows=2000, vehicles=50)
    found = replace(SOME, coefficients=hits.coefficients(), vehicle_rows=20.0)
    places = np.linspace(-2, 0, 20)
    expected = replace(SOME, vehicle_rows=20.0).probability(np.exp(places), 1.0, 2000)
    np.testing.assert_allclose(found.probability(np.exp(places), 1.0, 2000), expected, atol=0.04)
    for wrong in (np.zeros_like(same), np.ones_like(same)):
        with pytest.raises(DataError, match="takes right and wrong ones"):
            replace(hits, same=wrong).coefficients()


def test_probabilities_fall_also_if_all_right_hits_lie_at_0() -> None:
    rng = np.random.default_rng(0)
    pictures = rng.normal(size=(60, 8))
    ids = np.arange(60)
    labels = Labels(ids, ids, np.zeros(60), np.ones(60))
    hits = LabelledHits.of(pictures, pictures, labels)
    found = replace(SOME, coefficients=hits.coefficients(), vehicle_rows=hits.vehicle_rows)
    shares = found.probability([0, 1, 2, 4, 8], 4.0, 60)
    assert shares[0] > 0.9 and shares[1] < 0.5 and (np.diff(shares) <= 0).all()


@pytest.mark.parametrize("own_camera", [False, True])
def test_hits_are_the_nearest_rows_by_the_protocols_rule_of_cameras(own_camera: bool) -> None:
    rng = np.random.default_rng(0)
    query, gallery = rng.normal(size=(5, 8)), rng.normal(size=(60, 8))
    ids, cameras = np.arange(60) % 6, np.arange(60) % 4
    labels = Labels(ids[:5], ids, cameras[:5], cameras, own_camera)
    found = LabelledHits.of(query, gallery, labels)
    assert found.vehicle_rows == 10 and found.vehicles == 5 and len(found.rho) == 5 * 24
    for number in range(5):
        far = ((query[number] - gallery) ** 2).sum(axis=1)
        kept = ~((ids == number) & (cameras == cameras[number])) | own_camera
        first = np.argsort(np.where(kept, far, np.inf))[:24]
        part = slice(24 * number, 24 * number + 24)
        rho = np.log(far[first] / np.quantile(far, 0.05))
        np.testing.assert_allclose(found.rho[part], rho, rtol=1e-4, atol=1e-6)
        np.testing.assert_array_equal(found.same[part], ids[first] == number)


def test_shipped_weights_promise_nothing_and_damage_is_found() -> None:
    for sidecar in ASSETS.glob("*.json"):
        assert "calibration" not in json.loads(sidecar.read_text())
    for damage in ({"coefficients": [1.0, 2.0, float("nan")]}, {"vehicle_rows": 0}):
        with pytest.raises(ValueError, match=next(iter(damage))):
            Calibration.from_json(asdict(SOME) | damage)
    for damage in ({"weights": None}, {"hits": "x"}, {"input_size": [160]}):
        with pytest.raises((TypeError, ValueError)):
            Calibration.from_json(asdict(SOME) | damage)


class Posed(stores.PixelPredictor):
    """Embeds crops with a pose otherwise."""

    def one(self, pixels: np.ndarray, keypoints: np.ndarray | None = None):
        return super().one(pixels if keypoints is None else pixels[::-1] // 2, keypoints)


def test_poses_are_those_of_a_search_whatever_the_data_states(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = drawn.pamtri(tmp_path / "data", drawn.plan(2, 4, 2))
    dataset = read_dataset(root, ["query", "gallery"])
    one, other = Posed(), stores.PixelPredictor()
    first = calibrate(one, dataset, progress=False)
    assert first == calibrate(other, dataset, progress=False) and first.hits == 8 * 14
    # Weights that are nobody's are measured, and nothing is kept.
    monkeypatch.setattr("multitasknet.cli.evaluate.make_predictor", lambda _: one)
    assert main(["calibrate", "--data", str(root), "--json", "--vehicle-rows", "3"]) == 0
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert (found["sidecar"], found["vehicle_rows"], found["hits"]) == (None, 3, first.hits)
    assert "not kept: random weights" in printed.err


def test_what_calibrate_saves_compare_and_search_read(tmp_path, capsys, caplog) -> None:
    root = drawn.pamtri(tmp_path / "data", drawn.plan(2, 4, 2))
    weights = Path(shutil.copy(ASSETS / "vehiclereid_synthetic.ckpt", tmp_path / "own.ckpt"))
    spec = replace(read_weights(weights).spec, input_size=(32, 32))
    write_sidecar(weights, Sidecar(spec, spec.class_maps))
    network = ["--weights", str(weights)]
    images = [str(one) for one in sorted((root / "image_test").iterdir())[:2]]
    gallery = ["--gallery", str(root / "image_test")]
    assert main(["calibrate", "--data", str(root), *network]) == 0
    assert "own.json" in capsys.readouterr().out
    assert main(["compare", *images, *gallery, *network, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert 0 < result["probability"] < 1 and result["distance"] >= 0
    search = ["search", *gallery, "--query", images[0], *network]
    assert main([*search, "--output", str(tmp_path / "found.html")]) == 0
    printed = capsys.readouterr().out
    assert printed.count("same vehicle ") == 10 and "measured on data" in printed
    assert "No rates of strangers: 16 rows" in printed
    assert "measured on data" in (tmp_path / "found.html").read_text()
    measured = Predictor(weights).calibration
    assert Predictor(weights, size=64).calibration is None
    assert "its calibration is of 32 x 32 and poses not used, and this is 64 x 64" in caplog.text
    exported = tmp_path / "own.onnx"
    assert main(["export", "--output", str(exported), *network]) == 0
    assert Predictor(exported).calibration == measured is not None
    side = weights.with_suffix(".json")
    side.write_text(side.read_text().replace(measured.weights, "ab" * 32))
    assert Predictor(weights).calibration is None
    assert "its calibration is of the weights abababababab" in caplog.text
