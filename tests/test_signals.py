"""Signals to real processes, by what they leave behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from served import until_true


def heed_sigint() -> None:
    """A background job ignores it, and its children inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def start(folder: Path, *command: str) -> subprocess.Popen[str]:
    """A command in a folder, with a home and a scratch folder of its own."""
    own = {"HOME": folder / "home", "TMPDIR": folder / "scratch"}
    for made in own.values():
        made.mkdir()
    return subprocess.Popen(
        [sys.executable, "-m", "multitasknet", *command],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {name: str(made) for name, made in own.items()},
        preexec_fn=heed_sigint,
    )


def begun(folder: Path) -> list[Path]:
    """Scratch folders and files of a command that is not done."""
    hidden = [path for path in folder.glob(".*") if path.suffix != ".lock"]
    return [*(folder / "scratch").iterdir(), *hidden]


def test_a_signal_ends_a_command_that_uses_mindspore_in_one_line(tmp_path: Path) -> None:
    random = ["--weights", "none", "--size", "32"]
    process = start(tmp_path, "export", *random, "--output", "x.onnx")
    until_true(lambda: begun(tmp_path))
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 143, said
    assert "multitasknet: interrupted" in said
    assert "Traceback" not in said and "Error" not in said
    assert begun(tmp_path) == []


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)]
)
def test_worker_processes_end_with_their_parent(tmp_path: Path, number: int, code: int) -> None:
    process = start(tmp_path, "synthesize", "--output", "drawn")
    until_true(lambda: list(tmp_path.glob(".drawn.*/data/image_train/*.jpg")), 120)
    workers = psutil.Process(process.pid).children(recursive=True)
    assert workers
    process.send_signal(number)
    # The reader of its streams sees their end too: no worker holds them.
    process.communicate(timeout=120)
    assert process.returncode == code
    _, alive = psutil.wait_procs(workers, timeout=30)
    assert not alive
    assert number == signal.SIGKILL or begun(tmp_path) == []


STUBBORN = """
import time
import multitasknet.cli as cli
from multitasknet.__main__ import main
def stay():
    while True:
        try:
            print("at work", flush=True)
            time.sleep(60)
        except KeyboardInterrupt: pass
cli.main = stay
main()
"""


def test_a_third_signal_ends_a_command_that_does_not() -> None:
    command = [sys.executable, "-c", STUBBORN]
    with subprocess.Popen(command, stdout=subprocess.PIPE, preexec_fn=heed_sigint) as process:
        assert process.stdout.readline() == b"at work\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == b"at work\n"
        for _ in range(2):
            process.send_signal(signal.SIGINT)
            time.sleep(0.2)
        assert process.wait(timeout=30) == 143
