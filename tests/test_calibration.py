"""How likely hits are the same vehicle: measured, kept in the sidecar, read by what searches."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import drawn
import numpy as np
import pytest
from conftest import ASSETS
from hypothesis import given, settings
from hypothesis import strategies as st

from multitasknet import Calibration, Predictor, compare
from multitasknet.cli import main
from multitasknet.errors import DataError
from multitasknet.ranking.calibration import LabelledHits
from multitasknet.weights.read import read_weights
from multitasknet.weights.sidecar import Sidecar, write_sidecar

NUMBERS = st.floats(-9, 9)
SOME = Calibration(
    (1.0, -5.0, -0.5), 12.0, 4900, 100, "crops", "ab" * 32, (64, 64), "none", "float32"
)


@settings(max_examples=300, deadline=None)
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
    labels = ids[:5], ids, cameras[:5], cameras
    found = LabelledHits.of(query, gallery, *labels, own_camera=own_camera)
    assert found.vehicle_rows == 10 and found.vehicles == 5 and len(found.rho) == 5 * 24
    for number in range(5):
        far = ((query[number] - gallery) ** 2).sum(axis=1)
        kept = ~((ids == number) & (cameras == cameras[number])) | own_camera
        first = np.argsort(np.where(kept, far, np.inf))[:24]
        part = slice(24 * number, 24 * number + 24)
        rho = np.log(far[first] / np.quantile(far, 0.05))
        np.testing.assert_allclose(found.rho[part], rho, rtol=1e-4, atol=1e-6)
        np.testing.assert_array_equal(found.same[part], ids[first] == number)


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
    with pytest.raises((ValueError, TypeError)):
        Calibration.from_json(asdict(SOME) | damage)


def test_people_read_what_it_was_measured_on_and_older_ones_are_none() -> None:
    assert SOME.origin == (
        "measured on crops, 4,900 hits of 100 vehicles; weights abababababab, 64 x 64, poses none, "
        "float32; 12 rows of one vehicle"
    )
    older = {"distances": [1.0], "probabilities": [0.5], "measured_on": "crops"}
    assert Calibration.from_json(older) is None and Calibration.from_json(None) is None


def test_shipped_weights_promise_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("multitasknet.hub.card.PACKAGE", ASSETS.parent)
    predictor = Predictor("synthetic", pose="none")
    assert predictor.calibration is None
    photo = str(ASSETS / "example.jpg")
    assert main(["compare", photo, photo, "--weights", "synthetic", "--pose", "none"]) == 0
    assert "%" not in capsys.readouterr().out


def test_what_calibrate_saves_compare_and_search_read(
    tmp_path: Path,
    checkpoint: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    root = drawn.pamtri(tmp_path / "data", drawn.plan(2, 4, 2))
    weights = Path(shutil.copy(checkpoint, tmp_path / "own.ckpt"))
    spec = replace(read_weights(weights).spec, input_size=(32, 32))
    write_sidecar(weights, Sidecar(spec, spec.class_maps))
    network = ["--weights", str(weights), "--pose", "none"]
    images = [str(one) for one in sorted((root / "image_test").iterdir())[:2]]

    gallery = ["--gallery", str(root / "image_test")]
    assert main(["compare", *images, *gallery, *network]) == 0
    assert "Not calibrated" in capsys.readouterr().out
    assert main(["calibrate", "--data", str(root), *network]) == 0
    printed = capsys.readouterr().out
    assert "own.json" in printed and "coefficients" in printed
    assert main(["compare", *images, *network, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["probability"] is None
    assert main(["compare", *images, *gallery, *network, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert 0 < result["probability"] < 1 and result["distance"] >= 0
    assert result["first"]["image"] == images[0] and len(result["second"]["embedding"]) == 1024
    search = ["search", *gallery, "--query", images[0], *network]
    assert main([*search, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    matches = found["matches"]
    assert found["measured_on"] == "data" and matches[0]["rate"] is None  # of so few rows
    assert matches[0]["probability"] >= matches[-1]["probability"] > 0
    assert main([*search, "--output", str(tmp_path / "found.html")]) == 0
    printed = capsys.readouterr().out
    assert printed.count("same vehicle ") == len(matches) and "measured on data" in printed
    assert "No rates of strangers: 16 rows" in printed
    assert "measured on data" in (tmp_path / "found.html").read_text()
    exported = tmp_path / "own.onnx"
    assert main(["export", "--output", str(exported), *network[:2]]) == 0
    capsys.readouterr()
    network[1] = str(exported)
    assert main(["compare", *images, *gallery, *network, "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["probability"] == pytest.approx(result["probability"], abs=1e-3)
    assert Predictor(weights, pose="none", size=64).calibration is None
    assert "its calibration is of 32 x 32 and poses none, and this is 64 x 64" in caplog.text


def test_only_weights_of_ones_own_are_calibrated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = drawn.pamtri(tmp_path / "data", drawn.plan(2, 4, 2))
    network = ["--weights", "none", "--json"]
    assert main(["calibrate", "--data", str(root), *network]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["sidecar"] is None
    assert "not kept: random weights" in printed.err and "give --weights a" in printed.err


def test_compare_takes_pictures_in_memory() -> None:
    predictor = Predictor(None, pose="none", size=(32, 32))
    picture = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    result = compare(predictor, picture, picture)
    assert result.distance == pytest.approx(0, abs=1e-6) and result.probability is None
