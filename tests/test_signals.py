"""Signals to real processes: commands x moments x signals, by what they leave behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import drawn
import psutil
import pytest

PHOTO = Path(__file__).resolve().parents[1] / "assets" / "example.jpg"
RANDOM = ["--weights", "none"]
SMALL = [*RANDOM, "--size", "32"]
COMMANDS = {
    "info": ["info"],
    "predict": ["predict", str(PHOTO), *SMALL, "--backend", "mindspore"],
    "predict-onnx": ["predict", str(PHOTO), *SMALL, "--backend", "onnx"],
    "pose": ["pose", str(PHOTO), "--weights", "none", "--output", "{out}/pose.csv"],
    "export": ["export", "--weights", "none", "--size", "32", "--output", "{out}/x.onnx"],
    "search": ["search", *RANDOM, "--gallery", "{data}/image_test", "--query", str(PHOTO)],
    "evaluate": ["evaluate", *SMALL, "--data", "{data}", "--output", "{out}/evaluation"],
    "synthesize": ["synthesize", "--output", "{out}/drawn", "--workers", "2"],
    "finetune": [
        *["finetune", "--data", "{data}", "--output", "{out}/run", "--weights", "none"],
        *["--size", "32", "--batch-size", "4", "--instances", "2", "--epochs", "2"],
    ],
}
# Shares of the time that the command takes.
MOMENTS = (0.1, 0.25, 0.4, 0.55, 0.7, 0.85)
SIGNALS = (signal.SIGINT, signal.SIGTERM)
SAMPLE = [("predict", signal.SIGINT), ("export", signal.SIGTERM), ("evaluate", signal.SIGTERM)]


@dataclass(frozen=True)
class Ended:
    """A process that has ended.

    Attributes:
        code: its exit code.
        said: its lines on stderr.
        seconds: it took in all.
    """

    code: int
    said: list[str]
    seconds: float


class Bench:
    """Runs commands on a small data set, with a home and scratch folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.out, self.scratch = folder / "out", folder / "scratch"
        self.data = drawn.pamtri(folder / "data", drawn.plan(vehicles=4))
        for made in (self.out, self.scratch, folder / "home"):
            made.mkdir()
        self.environment = os.environ | {"HOME": str(folder / "home"), "TMPDIR": str(self.scratch)}
        self.durations: dict[str, float] = {}

    def start(self, name: str) -> subprocess.Popen[str]:
        arguments = [part.format(out=self.out, data=self.data) for part in COMMANDS[name]]
        return subprocess.Popen(
            [sys.executable, "-m", "multitasknet", *arguments],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment,
            start_new_session=True,
            # A background job ignores it, and its children inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def duration(self, name: str) -> float:
        """Seconds that the command takes if it is left alone."""
        if name not in self.durations:
            self.durations[name] = self.end(self.start(name)).seconds
            self.clear()
        return self.durations[name]

    def end(
        self, process: subprocess.Popen[str], after: float = 0.0, number: int | None = None
    ) -> Ended:
        """Wait, send the signal, and wait for the end."""
        start = time.monotonic()
        if number is not None:
            with_deadline(lambda: is_armed(process), 60)
            time.sleep(after)
            if process.poll() is None:
                process.send_signal(number)
        try:
            _, said = process.communicate(timeout=300)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        lines = [line for line in re.split("[\r\n]+", said) if line.strip()]
        return Ended(process.returncode, lines, time.monotonic() - start)

    def left_behind(self) -> list[Path]:
        """Scratch folders and files that were begun."""
        hidden = [path for path in self.out.rglob(".*") if not path.name.endswith(".lock")]
        return [*self.scratch.iterdir(), *hidden]

    def clear(self) -> None:
        for path in sorted(self.out.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()


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


def children(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    yield Bench(tmp_path_factory.mktemp("signals"))


def check(bench: Bench, name: str, number: int, after: float) -> None:
    ended = bench.end(bench.start(name), after, number)
    # It may be done by then.
    assert ended.code in (128 + number, 0), ended
    if ended.code > 0:
        own = [line for line in ended.said if line.startswith("multitasknet: ")]
        assert [line for line in own if "interrupted" in line or "goes on" in line], ended
    assert not [line for line in ended.said if "Traceback" in line or "Error" in line], ended
    assert bench.left_behind() == []
    bench.clear()


@pytest.mark.parametrize(("name", "number"), SAMPLE)
@pytest.mark.parametrize("after", [0.0, 2.5])
def test_a_signal_ends_a_command_in_one_line(bench: Bench, name, number, after) -> None:
    check(bench, name, number, after)


@pytest.mark.slow
@pytest.mark.deep
@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_signal_at_any_moment(bench: Bench, name: str, number: int, moment: float) -> None:
    check(bench, name, number, moment * bench.duration(name))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_worker_processes_end_with_their_parent(bench: Bench, number: int) -> None:
    process = bench.start("synthesize")
    images = bench.out.glob
    with_deadline(lambda: bool(list(images(".drawn.*/data/image_train/*.jpg"))), 120)
    workers = children(process)
    assert workers
    process.send_signal(number)
    # The reader of its streams sees their end too: no worker holds them.
    process.communicate(timeout=120)
    assert process.returncode == (143 if number == signal.SIGTERM else -9)
    _, alive = psutil.wait_procs(workers, timeout=30)
    assert not alive
    if number == signal.SIGTERM:
        assert bench.left_behind() == []
    bench.clear()


def test_a_third_signal_ends_a_command_that_does_not(tmp_path: Path) -> None:
    (tmp_path / "stubborn.py").write_text(
        "import time\n"
        "import multitasknet.cli as cli\n"
        "from multitasknet.__main__ import main\n"
        "def stay():\n"
        "    while True:\n"
        "        try:\n"
        "            print('at work', flush=True)\n"
        "            time.sleep(60)\n"
        "        except KeyboardInterrupt: pass\n"
        "cli.main = stay\n"
        "main()\n"
    )
    command = [sys.executable, str(tmp_path / "stubborn.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"at work\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == b"at work\n"
        for _ in range(2):
            process.send_signal(signal.SIGINT)
            time.sleep(0.5)
        assert process.wait(timeout=30) == 143
