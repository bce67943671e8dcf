"""The server under load, beside the predictor in a process of its own.

    python benchmarks/serve.py [--weights vehiclereid] [--callers 1 8 32] [--seconds 30]

Callers send the demo's queries to ``/api/predict``, one picture a request, and ask again as soon as
they are answered; before and after, ``Predictor.predict`` takes the same files. Writes serve.md
beside this file. The callers run on the same cores; run it on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import http.client
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
from tables import table

HERE = Path(__file__).resolve().parent
QUERIES = sorted((HERE.parent / "assets" / "demo" / "query").iterdir())
ALONE = """
import sys, time
from multitasknet import Predictor
weights, seconds, *files = sys.argv[1:]
predictor = Predictor(weights)
predictor.predict(files)
count, start = 0, time.perf_counter()
while time.perf_counter() - start < float(seconds):
    count += len(predictor.predict(files))
print(count / (time.perf_counter() - start))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", default="vehiclereid", help="of either network (vehiclereid)")
    parser.add_argument("--callers", nargs="+", type=int, default=[1, 8, 32])
    parser.add_argument("--seconds", type=int, default=30, help="of each row (30)")
    options = parser.parse_args()
    before = f"{os.getloadavg()[0]:.1f}", predictor_alone(options)
    with server(options.weights) as (port, process):
        load(port, 8, min(5, options.seconds))  # not counted
        rows = []
        for callers in options.callers:
            figures = load(port, callers, options.seconds)
            rows.append((callers, *figures, f"{process.memory_info().rss / 1e6:.0f}"))
    after = f"{os.getloadavg()[0]:.1f}", predictor_alone(options)
    loads, alone = (" and ".join(pair) for pair in zip(before, after, strict=True))
    text = (
        f"# The server under load\n\nWritten by `serve.py` with the weights {options.weights} on "
        f"{os.cpu_count()} cores, load average before and after {loads}. `Predictor.predict` "
        f"alone, before and after: {alone} images/s.\n\n"
        + table(("callers", "images/s", "p50, p95 ms", "MB"), rows)
    )
    (HERE / "serve.md").write_text(text + "\n")
    print(text)


def predictor_alone(options: argparse.Namespace) -> str:
    """Images/s of the queries' files, in batches, without a server."""
    command = [sys.executable, "-c", ALONE, options.weights, str(options.seconds / 2), *QUERIES]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return f"{float(done.stdout):.1f}"


@contextmanager
def server(weights: str) -> Iterator[tuple[int, psutil.Process]]:
    """The port and the process of a server that is ready."""
    command = [sys.executable, "-m", "multitasknet", "serve", "--port", "0", "--weights", weights]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = next(line for line in process.stdout if line.startswith("API"))
        yield int(address.split("127.0.0.1:")[1].split("/")[0]), psutil.Process(process.pid)
        process.terminate()


def load(port: int, callers: int, seconds: int) -> tuple[str, str]:
    """Images/s, and the median and the 95th percentile of the milliseconds of a request."""
    bodies = [path.read_bytes() for path in QUERIES]
    milliseconds: list[float] = []
    began = time.perf_counter()

    def call(turn: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        while (start := time.perf_counter()) < began + seconds:
            body = bodies[turn % len(bodies)]
            connection.request("POST", "/api/predict", body, {"Content-Type": "image/jpeg"})
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 200, answer.status
            milliseconds.append(1000 * (time.perf_counter() - start))
            turn += 1
        connection.close()

    with ThreadPoolExecutor(callers) as pool:
        list(pool.map(call, range(callers)))
    rate = len(milliseconds) / (time.perf_counter() - began)
    half, most = np.percentile(milliseconds, (50, 95))
    return f"{rate:.1f}", f"{half:.0f}, {most:.0f}"


if __name__ == "__main__":
    main()
