"""The examples run as they stand, with public names alone."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import drawn
import numpy as np
import pytest

from multitasknet import create_network, read_weights

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def test_examples_use_public_names_only() -> None:
    # The shipped weights' training makes inputs and rankings by the package's own functions.
    for example in set(EXAMPLES.glob("*.py")) - {EXAMPLES / "train_multitasknet.py"}:
        imported = re.findall(r"^(?:from|import) (multitasknet\S*)", example.read_text(), re.M)
        assert set(imported) <= {"multitasknet"}


def test_the_finetuning_example_trains_given_weights(tmp_path) -> None:
    import mindspore

    root = drawn.pamtri(tmp_path / "data", drawn.plan(2, 2, 2))
    start = tmp_path / "start.ckpt"
    mindspore.save_checkpoint(create_network(weights=None, num_ids=7), str(start))
    command = [sys.executable, str(EXAMPLES / "finetune.py"), "--data", str(root), "--size", "32"]
    # Two whole batches of three, and two images that fill none.
    command += ["--weights", str(start), "--batch-size", "3", "--output", str(tmp_path / "t.ckpt")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "start.ckpt: " in done.stdout
    assert done.stdout.count("loss is") == 2
    tuned, before = read_weights(tmp_path / "t.ckpt"), read_weights(start)
    assert tuned.spec.num_ids == 2
    name = "base.conv0.weight"
    assert not np.array_equal(tuned.arrays[name], before.arrays[name])


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
