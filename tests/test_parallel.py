"""Two processes against one."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import drawn
import numpy as np
import pytest
from two_processes import gradients

from multitasknet import finetune, read_weights
from multitasknet.errors import TrainingError
from multitasknet.training.parallel import Devices


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def train_in_two(tmp_path: Path) -> None:
    data = drawn.pamtri(tmp_path / "data", drawn.plan(6, 2, 2))
    here = Path(__file__).parent
    # msrun starts what is called python there.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    subprocess.run(
        [
            Path(sys.executable).with_name("msrun"),
            "--worker_num=2",
            "--local_worker_num=2",
            f"--master_port={free_port()}",
            f"--log_dir={tmp_path / 'log'}",
            "--join=True",
            here / "two_processes.py",
            data,
            tmp_path,
        ],
        check=True,
        cwd=tmp_path,
        env={**os.environ, "PATH": path, "PYTHONPATH": os.pathsep.join(sys.path)},
        timeout=600,
        capture_output=True,
    )


@pytest.mark.slow
def test_two_processes_train_and_resume_as_one_and_the_first_alone_writes(tmp_path) -> None:
    train_in_two(tmp_path)
    expected = gradients(Devices())
    metrics = []
    for rank in range(2):
        with np.load(tmp_path / f"gradients_{rank}.npz") as found:
            assert set(found) == set(expected)
            for name, value in expected.items():
                difference = np.abs(found[name] - value).max()
                assert difference <= 1e-5 * np.abs(value).max(), name
        process = json.loads((tmp_path / f"process_{rank}.json").read_text())
        assert process["is_first"] == (rank == 0)
        metrics.append(process["metrics"])
    assert metrics[0] == metrics[1]
    history = json.loads((tmp_path / "straight" / "history.json").read_text())
    assert metrics[0] == [history["before"], *(record["metrics"] for record in history["epochs"])]
    straight, resumed = (
        read_weights(tmp_path / run / "last.ckpt").arrays for run in ("straight", "resumed")
    )
    assert straight.keys() == resumed.keys()
    for name, value in straight.items():
        # Sums over the processes may come in any order.
        np.testing.assert_allclose(resumed[name], value, rtol=1e-5, atol=1e-7, err_msg=name)


def test_one_of_several_processes_that_cannot_be_joined_does_not_train(
    tmp_path, monkeypatch
) -> None:
    monkeypatch.setenv("RANK_SIZE", "8")
    with pytest.raises(TrainingError, match="start them by msrun"):
        finetune(tmp_path, tmp_path / "run")
    assert not (tmp_path / "run").exists()
