"""From distances to probabilities, measured, kept in the sidecar and read by what compares."""

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
from multitasknet.ranking.threshold import Roc
from multitasknet.weights.read import read_weights
from multitasknet.weights.sidecar import Sidecar, write_sidecar

DISTANCES = st.lists(st.integers(0, 9), min_size=1, max_size=20).map(np.array)
SOME = Calibration((1.0, 2.0), (0.9999, 0.2), 0.5, 1200, 34567, (64, 64), "crops")


def calibration_of(same: np.ndarray, different: np.ndarray, prior: float = 0.5) -> Calibration:
    return Calibration.of(Roc.of(same, [different]), (64, 64), measured_on="crops", prior=prior)


@settings(max_examples=300, deadline=None)
@given(DISTANCES, DISTANCES, st.floats(0.01, 0.99))
def test_nearer_pairs_are_never_less_likely(
    same: np.ndarray, different: np.ndarray, prior: float
) -> None:
    calibration = calibration_of(same, different, prior)
    probabilities = calibration.probability(np.linspace(0, 12, 50))
    assert (np.diff(probabilities) <= 0).all()
    assert ((probabilities > 0) & (probabilities <= 0.99)).all()
    stored = json.loads(json.dumps(asdict(calibration)))
    assert Calibration.from_json(stored) == calibration


@pytest.mark.parametrize("prior", [0.5, 0.1])
def test_probabilities_are_shares_of_the_pairs(prior: float) -> None:
    rng = np.random.default_rng(0)
    same, different = rng.normal(10, 3, 20_000).clip(0), rng.normal(16, 3, 50_000).clip(0)
    calibration = calibration_of(same, different, prior)
    places = np.arange(5, 20, 1.0)
    ratios = np.exp(((places - 16) ** 2 - (places - 10) ** 2) / 18) * prior / (1 - prior)
    np.testing.assert_allclose(calibration.probability(places), ratios / (1 + ratios), atol=0.06)
    assert len(calibration.distances) < 500


def test_it_falls_where_all_pairs_of_one_vehicle_are_equal() -> None:
    equal, apart = calibration_of(np.zeros(9), np.full(20, 3.0)).probability([0.0, 1.0])
    assert equal > 0.9 and apart < 0.1


@pytest.mark.parametrize(
    "damage",
    [
        {"distances": [2.0, 1.0], "probabilities": [0.9, 0.1]},
        {"probabilities": [0.1, 0.9]},
        {"probabilities": [float("nan"), 0.9]},
        {"distances": []},
        {"prior": 1},
        {"input_size": [64]},
        {"measured_on": " "},
    ],
)
def test_damage_is_found(damage: dict) -> None:
    with pytest.raises((ValueError, TypeError)):
        Calibration.from_json(asdict(SOME) | damage)


def test_people_read_what_it_was_measured_on_and_never_more_than_99_percent() -> None:
    measured = "(measured on crops, 1,200 pairs of one vehicle, 34,567 of two)"
    assert SOME.words(0) == f"same vehicle 99 % {measured}"
    assert SOME.words(2.5) == f"same vehicle 20 % {measured}"
    assert SOME.probability([0.0, 0.001]).max() == 0.99
    values = asdict(SOME)
    values.pop("measured_on")  # as the first release wrote them
    assert Calibration.from_json(values) is None and Calibration.from_json(None) is None


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
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = drawn.pamtri(tmp_path / "data", drawn.plan(2, 4, 2))
    weights = Path(shutil.copy(checkpoint, tmp_path / "own.ckpt"))
    spec = replace(read_weights(weights).spec, input_size=(32, 32))
    write_sidecar(weights, Sidecar(spec, spec.class_maps))
    network = ["--weights", str(weights), "--pose", "none"]
    images = [str(one) for one in sorted((root / "image_test").iterdir())[:2]]

    assert main(["compare", *images, *network]) == 0
    assert "not calibrated" in capsys.readouterr().out
    calibrate = ["calibrate", "--data", str(root), "--false-match-rate", "0.9", *network]
    assert main(calibrate) == 0
    printed = capsys.readouterr().out
    assert "own.json" in printed and "true-match rate" in printed
    assert main(["compare", *images, *network, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert 0 < result["probability"] < 1 and result["distance"] >= 0
    assert result["first"]["image"] == images[0] and len(result["second"]["embedding"]) == 1024
    search = ["search", "--gallery", str(root / "image_test"), "--query", images[0], "--json"]
    assert main([*search, *network]) == 0
    matches = json.loads(capsys.readouterr().out)["matches"]
    assert matches[0]["probability"] >= matches[-1]["probability"] > 0
    assert main(["compare", images[0], images[0], *network]) == 0
    printed = capsys.readouterr().out
    assert "same vehicle " in printed and "measured on data" in printed
    assert "calibrated" not in printed
    assert main([*search[:-1], *network, "--output", str(tmp_path / "found.html")]) == 0
    assert capsys.readouterr().out.count("measured on data") == len(matches)
    assert "measured on data" in (tmp_path / "found.html").read_text()
    exported = tmp_path / "own.onnx"
    assert main(["export", "--output", str(exported), *network[:2]]) == 0
    capsys.readouterr()
    assert main(["compare", *images, "--weights", str(exported), "--pose", "none", "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["probability"] == pytest.approx(result["probability"], abs=1e-3)
    assert Predictor(weights, pose="none", size=64).calibration is None


def test_only_weights_of_ones_own_are_calibrated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = drawn.pamtri(tmp_path / "data", drawn.plan(2, 4, 2))
    network = ["--weights", "none", "--false-match-rate", "0.9", "--json"]
    assert main(["calibrate", "--data", str(root), *network]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["sidecar"] is None
    assert "not kept: random weights" in printed.err and "give --weights a" in printed.err


def test_compare_takes_pictures_in_memory() -> None:
    predictor = Predictor(None, pose="none", size=(32, 32))
    picture = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    result = compare(predictor, picture, picture)
    assert result.distance == pytest.approx(0, abs=1e-6) and result.probability is None
