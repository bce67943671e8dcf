"""The examples run as they stand, with public names alone."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import drawn
import numpy as np
import pytest

from multitasknet import (
    COLORS,
    ClassMaps,
    Predictor,
    create_network,
    read_dataset,
    read_weights,
    save_weights,
)

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def test_examples_use_public_names_only() -> None:
    # The shipped weights' trainings make inputs and rankings by the package's own functions.
    training = {EXAMPLES / f"{name}.py" for name in ("identity_training", "train_multitasknet")}
    for example in set(EXAMPLES.glob("*.py")) - training:
        imported = re.findall(r"^(?:from|import) (multitasknet\S*)", example.read_text(), re.M)
        assert set(imported) <= {"multitasknet"}


@pytest.fixture(scope="module")
def start(tmp_path_factory) -> Path:
    """Weights with a colour fewer than are published, and class names that say which."""
    network = create_network(weights=None, num_ids=7, num_colors=9)
    names = COLORS[1:]
    network.spec = replace(network.spec, color_names=names, input_size=(32, 32))
    return save_weights(network, tmp_path_factory.mktemp("start") / "start.ckpt")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return drawn.pamtri(tmp_path_factory.mktemp("data"), drawn.plan(2, 2, 2))


def test_the_finetuning_example_keeps_the_heads_and_their_names(start, data, tmp_path) -> None:
    tuned = tmp_path / "tuned.ckpt"
    command = [sys.executable, str(EXAMPLES / "finetune.py"), "--data", str(data), "--size", "32"]
    # Two whole batches of three, and two images that fill none.
    command += ["--weights", str(start), "--batch-size", "3", "--output", str(tuned)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "start.ckpt: " in done.stdout
    assert done.stdout.count("loss is") == 2
    before, after = read_weights(start), read_weights(tuned)
    assert after.arrays.keys() == before.arrays.keys()
    assert not np.array_equal(after.arrays["base.conv0.weight"], before.arrays["base.conv0.weight"])
    assert (after.spec.num_ids, after.spec.input_size) == (2, (32, 32))
    assert after.spec.color_names == COLORS[1:]
    head = "classifier_vcolor.weight"
    np.testing.assert_allclose(after.arrays[head], before.arrays[head], atol=1e-3)
    network = create_network(weights=tuned)
    assert network.load_report.fresh == network.load_report.left_out == ()
    predictor = Predictor(tuned, pose="none", backend="mindspore")
    assert predictor.size == (32, 32)
    image = next((data / "image_query").iterdir())
    (found,) = predictor.predict([image])
    assert found.color in COLORS[1:]


def test_the_example_takes_the_datas_heads_if_it_is_told_to(start, data, monkeypatch) -> None:
    monkeypatch.syspath_prepend(EXAMPLES)
    found = ClassMaps.of(read_dataset(data, ["train"]).train.records)
    network, classes = import_module("finetune").create_network(start, found, new_heads=True)
    assert network.spec.color_names == ("orange", "red")
    assert classes == found


@pytest.mark.slow
def test_the_tour_runs_from_its_first_cell_to_its_last(tmp_path, monkeypatch) -> None:
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("MULTITASKNET_CACHE", str(tmp_path / "cache"))
    tour = nbformat.read(EXAMPLES / "tour.ipynb", as_version=4)
    nbclient.NotebookClient(tour, timeout=600).execute(cwd=tmp_path)
    pictures = [
        one
        for cell in tour.cells
        for one in cell.get("outputs", ())
        if "image/png" in one.get("data", {})
    ]
    assert len(pictures) == 3
    found = "".join(one.get("text", "") for one in tour.cells[7].outputs)
    assert found.count(".jpg") == 5
