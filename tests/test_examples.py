"""The examples run as they are, with public names alone."""

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


def test_the_finetuning_example_keeps_the_heads_and_their_names(tmp_path, monkeypatch) -> None:
    # Weights with a colour fewer than are published, and class names that say which.
    network = create_network(weights=None, num_ids=7, num_colors=9)
    network.spec = replace(network.spec, color_names=COLORS[1:], input_size=(32, 32))
    start, tuned = save_weights(network, tmp_path / "start.ckpt"), tmp_path / "tuned.ckpt"
    data = drawn.pamtri(tmp_path / "data", drawn.plan(2, 2, 2))
    command = [sys.executable, str(EXAMPLES / "finetune.py"), "--data", str(data), "--size", "32"]
    # Two whole batches of three, and two images that fill none.
    command += ["--weights", str(start), "--batch-size", "3", "--output", str(tuned)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("loss is") == 2
    before, after = read_weights(start), read_weights(tuned)
    assert after.arrays.keys() == before.arrays.keys()
    assert not np.array_equal(after.arrays["base.conv0.weight"], before.arrays["base.conv0.weight"])
    assert (after.spec.num_ids, after.spec.input_size) == (2, (32, 32))
    head = "classifier_vcolor.weight"
    np.testing.assert_allclose(after.arrays[head], before.arrays[head], atol=1e-3)
    (found,) = Predictor(tuned, pose="none").predict([next((data / "image_query").iterdir())])
    assert set(found.color_probabilities) == set(COLORS[1:])
    # Or it takes the data's heads.
    monkeypatch.syspath_prepend(EXAMPLES)
    classes = ClassMaps.of(read_dataset(data, ["train"]).train.records)
    network, names = import_module("finetune").create_network(start, classes, new_heads=True)
    assert network.spec.color_names == ("orange", "red") and names == classes


@pytest.mark.slow
def test_the_tour_runs_from_its_first_cell_to_its_last(tmp_path, monkeypatch) -> None:
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("MULTITASKNET_CACHE", str(tmp_path / "cache"))
    tour = nbformat.read(EXAMPLES / "tour.ipynb", as_version=4)
    nbclient.NotebookClient(tour, timeout=600).execute(cwd=tmp_path)
    shown = [one.get("data", {}) for cell in tour.cells for one in cell.get("outputs", ())]
    assert sum("image/png" in one for one in shown) == 3
    found = "".join(one.get("text", "") for one in tour.cells[7].outputs)
    assert found.count(".jpg") == 5
