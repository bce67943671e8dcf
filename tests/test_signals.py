"""Signals to real processes, by what they leave behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import drawn
import psutil
import pytest

PHOTO = Path(__file__).resolve().parents[1] / "assets" / "example.jpg"
SMALL = ["--weights", "none", "--size", "32"]
COMMANDS = {
    "predict": ["predict", str(PHOTO), *SMALL, "--backend", "mindspore"],
    "export": ["export", *SMALL, "--output", "{out}/x.onnx"],
    "evaluate": ["evaluate", *SMALL, "--data", "{data}", "--output", "{out}/evaluation"],
    "synthesize": ["synthesize", "--output", "{out}/drawn"],
}
# Each with the seconds after which the signal comes.
SAMPLE = [
    ("predict", signal.SIGINT, 0.0),
    ("export", signal.SIGTERM, 2.5),
    ("evaluate", signal.SIGTERM, 2.5),
]


def heed_sigint() -> None:
    """A background job ignores it, and its children inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Bench:
    """Runs commands on a small data set, with a home and scratch folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.out, self.scratch = folder / "out", folder / "scratch"
        self.data = drawn.pamtri(folder / "data", drawn.plan(vehicles=4))
        for made in (self.out, self.scratch, folder / "home"):
            made.mkdir()
        self.environment = os.environ | {"HOME": str(folder / "home"), "TMPDIR": str(self.scratch)}

    def start(self, name: str) -> subprocess.Popen[str]:
        arguments = [part.format(out=self.out, data=self.data) for part in COMMANDS[name]]
        return subprocess.Popen(
            [sys.executable, "-m", "multitasknet", *arguments],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment,
            preexec_fn=heed_sigint,
        )

    def left_behind(self) -> list[Path]:
        """Scratch folders and files that were begun."""
        hidden = [path for path in self.out.rglob(".*") if not path.name.endswith(".lock")]
        return [*self.scratch.iterdir(), *hidden]


def is_armed(process: subprocess.Popen[str]) -> bool:
    """Whether the process has come to the package's own code: it catches SIGTERM."""
    if process.poll() is not None:
        return True
    status = Path(f"/proc/{process.pid}/status").read_text()
    caught = int(re.search(r"SigCgt:\s*([0-9a-f]+)", status)[1], 16)
    return bool(caught >> (signal.SIGTERM - 1) & 1)


def with_deadline(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to it"
        time.sleep(0.01)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.mark.parametrize(("name", "number", "after"), SAMPLE)
def test_a_signal_ends_a_command_in_one_line(bench: Bench, name, number, after) -> None:
    process = bench.start(name)
    with_deadline(lambda: is_armed(process), 60)
    time.sleep(after)
    process.send_signal(number)
    _, said = process.communicate(timeout=300)
    # It may be done by then. With MindSpore a SIGINT was seen to arrive as SIGTERM.
    assert process.returncode in (128 + number, 128 + signal.SIGTERM, 0), said
    assert ("multitasknet: interrupted" in said) == (process.returncode > 0)
    assert "Traceback" not in said and "Error" not in said
    assert bench.left_behind() == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_worker_processes_end_with_their_parent(bench: Bench, number: int) -> None:
    process = bench.start("synthesize")
    images = bench.out.glob
    with_deadline(lambda: bool(list(images(".drawn.*/data/image_train/*.jpg"))), 120)
    workers = psutil.Process(process.pid).children(recursive=True)
    assert workers
    process.send_signal(number)
    # The reader of its streams sees their end too: no worker holds them.
    process.communicate(timeout=120)
    assert process.returncode == (143 if number == signal.SIGTERM else -9)
    _, alive = psutil.wait_procs(workers, timeout=30)
    assert not alive
    if number == signal.SIGTERM:
        assert bench.left_behind() == []


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
