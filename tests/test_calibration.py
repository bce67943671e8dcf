"""How likely hits are the same vehicle: measured, kept in the sidecar, read by what searches."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import drawn
import numpy as np
import pytest
import stores
from conftest import ASSETS
from hypothesis import given, settings
from hypothesis import strategies as st

from multitasknet import Calibration, Predictor, compare, read_dataset
from multitasknet.cli import main
from multitasknet.errors import DataError
from multitasknet.evaluation.run import calibrate
from multitasknet.ranking.calibration import LabelledHits
from multitasknet.ranking.metrics import Labels
from multitasknet.weights.read import read_weights
from multitasknet.weights.sidecar import Sidecar, write_sidecar

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
    gallery[3, 3] = np.nan
    with pytest.raises(DataError, match="gallery has NaN or infinity in row 3"):
        LabelledHits.of(query, gallery, labels)


@pytest.mark.parametrize(
    "damage",
    [
        {"coefficients": [1.0, 2.0]},
        {"coefficients": [1.0, 2.0, float("nan")]},
        {"vehicle_rows": 0},
        {"input_size": [64]},
        {"measured_on": " "},
    ],
)
def test_damage_is_found(damage: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(damage))):
        Calibration.from_json(asdict(SOME) | damage)


def test_people_read_what_it_was_measured_on_and_older_ones_are_none() -> None:
    assert SOME.origin == (
        "measured on crops, 4,900 hits of 100 vehicles; weights abababababab, 64 x 64, poses none, "
        "float32; 12 rows of one vehicle"
    )
    older = {"distances": [1.0], "probabilities": [0.5], "measured_on": "crops"}
    assert Calibration.from_json(older) is None and Calibration.from_json(None) is None


def test_shipped_weights_promise_nothing() -> None:
    for sidecar in ASSETS.glob("*.json"):
        assert "calibration" not in json.loads(sidecar.read_text())


class Posed(stores.PixelPredictor):
    """Embeds crops with a pose otherwise."""

    def one(self, pixels: np.ndarray, keypoints: np.ndarray | None = None):
        return super().one(pixels if keypoints is None else pixels[::-1] // 2, keypoints)


def test_poses_are_those_of_a_search_whatever_the_data_states(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = drawn.pamtri(tmp_path / "data", drawn.plan(2, 4, 2))
    predictors = Posed(), stores.PixelPredictor()
    dataset = read_dataset(root, ["query", "gallery"])
    first, second = (calibrate(one, dataset, progress=False) for one in predictors)
    assert first == second and first.hits == 8 * 14
    # Weights that are nobody's are measured, and nothing is kept.
    monkeypatch.setattr("multitasknet.cli.evaluate.make_predictor", lambda _: Posed())
    assert main(["calibrate", "--data", str(root), "--json", "--vehicle-rows", "3"]) == 0
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert (found["sidecar"], found["vehicle_rows"], found["hits"]) == (None, 3, first.hits)
    assert "not kept: random weights" in printed.err and "give --weights a" in printed.err


def test_what_calibrate_saves_compare_and_search_read(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    root = drawn.pamtri(tmp_path / "data", drawn.plan(2, 4, 2))
    weights = Path(shutil.copy(ASSETS / "vehiclereid_synthetic.ckpt", tmp_path / "own.ckpt"))
    spec = replace(read_weights(weights).spec, input_size=(32, 32))
    write_sidecar(weights, Sidecar(spec, spec.class_maps))
    network = ["--weights", str(weights)]
    images = [str(one) for one in sorted((root / "image_test").iterdir())[:2]]
    gallery = ["--gallery", str(root / "image_test")]

    assert main(["calibrate", "--data", str(root), *network]) == 0
    printed = capsys.readouterr().out
    assert "own.json" in printed and "coefficients" in printed
    assert main(["compare", *images, *gallery, *network, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert 0 < result["probability"] < 1 and result["distance"] >= 0
    assert result["first"]["image"] == images[0] and result["second"]["embedding"]
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


def test_compare_takes_pictures_in_memory() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    result = compare(stores.PixelPredictor(), picture, picture)
    assert result.distance == pytest.approx(0, abs=1e-6) and result.probability is None
