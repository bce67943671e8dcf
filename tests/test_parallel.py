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

from multitasknet.training.parallel import Devices


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.slow
def test_two_processes_have_the_gradients_of_one_and_the_first_alone_writes(tmp_path) -> None:
    data = drawn.pamtri(tmp_path / "data", drawn.plan(6, 2, 3))
    here = Path(__file__).parent
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
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        timeout=300,
        capture_output=True,
    )
    expected = gradients(Devices())
    for rank in range(2):
        with np.load(tmp_path / f"gradients_{rank}.npz") as found:
            assert set(found) == set(expected)
            for name, value in expected.items():
                difference = np.abs(found[name] - value).max()
                assert difference <= 1e-5 * np.abs(value).max(), name
    assert (tmp_path / "rank_0.txt").read_text() == "True"
    assert (tmp_path / "rank_1.txt").read_text() == "False"
    history = json.loads((tmp_path / "run" / "history.json").read_text())
    assert [bool(record["metrics"]) for record in history["epochs"]] == [True, True]
    assert (tmp_path / "run" / "best.ckpt").is_file()
