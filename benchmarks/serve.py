"""The server under load, beside the bare engine.

    python benchmarks/serve.py [--sizes 64 128 256] [--callers 1 8 32] [--seconds 30]

Shipped weights, float32, keypoints given, one picture a request. For each input size the engine's
images/s at batches of 8 in its own process, before and after; between them callers that ask again
as soon as they are answered, from this process. Writes serve.md beside this file. Run it on a
machine that does nothing else: about 6 minutes.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image

HERE = Path(__file__).resolve().parent
QUERIES = sorted((HERE.parent / "assets" / "demo" / "query").iterdir())
BATCH = 8
BARE = """
import sys, time
import numpy as np
from multitasknet import Predictor
size, seconds, batch = map(int, sys.argv[1:])
predictor = Predictor("synthetic", pose="none", size=(size, size), batch_size=batch)
rng = np.random.default_rng(0)
shapes = predictor.spec.input_shapes(predictor.size).values()
inputs = [rng.random((batch, *shape), dtype=np.float32) for shape in shapes]
predictor.run(*inputs)
runs, start = 0, time.perf_counter()
while time.perf_counter() - start < seconds:
    predictor.run(*inputs)
    runs += 1
print(runs * batch / (time.perf_counter() - start))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", type=int, default=[64, 128, 256])
    parser.add_argument("--callers", nargs="+", type=int, default=[1, 8, 32])
    parser.add_argument("--seconds", type=int, default=30)
    options = parser.parse_args()
    before = os.getloadavg()[0]
    rows = [row for size in options.sizes for row in under_load(size, options)]
    text = report(rows, before, os.getloadavg()[0])
    (HERE / "serve.md").write_text(text)
    print(text)


def bare(size: int, seconds: int) -> float:
    """Images/s of the engine alone."""
    command = [sys.executable, "-c", BARE, *map(str, (size, seconds, BATCH))]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@contextmanager
def server(size: int) -> Iterator[tuple[int, psutil.Process]]:
    """The port and the process of a server that is ready."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "multitasknet", "serve", "--port", str(port)]
    command += ["--gallery", "demo", "--weights"]
    with (
        exported(size) as path,
        subprocess.Popen([*command, path], stdout=subprocess.PIPE, text=True) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("API"):
                break
        yield port, psutil.Process(process.pid)
        process.terminate()


@contextmanager
def exported(size: int) -> Iterator[str]:
    """A file of the shipped network for that input size, which the server then takes."""
    from multitasknet import export

    with tempfile.TemporaryDirectory() as folder:
        yield str(export(Path(folder) / "model.onnx", weights="synthetic", size=size).path)


def under_load(size: int, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A row for each number of callers."""
    quarter = max(options.seconds // 4, 5)
    first = bare(size, quarter)
    with server(size) as (port, process):
        load(port, BATCH, 5)
        rows = [
            {"callers": callers, **load(port, callers, options.seconds)}
            | {"memory": process.memory_info().rss / 1e6}
            for callers in options.callers
        ]
    last = bare(size, quarter)
    for row in rows:
        yield row | {"size": size, "bare": [first, last]}


def load(port: int, callers: int, seconds: int) -> dict[str, float]:
    """What callers who ask again at once get in that time."""
    bodies = [body_of(path) for path in QUERIES]
    latencies: list[float] = []
    end = time.perf_counter() + seconds

    def call(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        turn = number
        while (start := time.perf_counter()) < end:
            turn += 1
            content_type, body = bodies[turn % len(bodies)]
            connection.request("POST", "/api/predict", body, {"Content-Type": content_type})
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 200, answer.status
            latencies.append(time.perf_counter() - start)
        connection.close()

    start = time.perf_counter()
    with ThreadPoolExecutor(callers) as pool:
        list(pool.map(call, range(callers)))
    places = statistics.quantiles(latencies, n=20)
    return {
        "rate": len(latencies) / (time.perf_counter() - start),
        "p50": 1000 * statistics.median(latencies),
        "p95": 1000 * places[-1],
    }


def body_of(path: Path) -> tuple[str, bytes]:
    """The type and the bytes of a form with a picture and 36 keypoints."""
    with Image.open(path) as picture:
        width, height = picture.size
    keypoints = np.random.default_rng(0).uniform(0, 1, (36, 3)) * (width, height, 1)
    parts = {
        f'name="images"; filename="{path.name}"': path.read_bytes(),
        'name="keypoints"': json.dumps([keypoints.round(2).tolist()]).encode(),
    }
    body = b"".join(
        f"--cut\r\nContent-Disposition: form-data; {head}\r\n\r\n".encode() + content + b"\r\n"
        for head, content in parts.items()
    )
    return "multipart/form-data; boundary=cut", body + b"--cut--\r\n"


def report(rows: Sequence[dict[str, Any]], before: float, after: float) -> str:
    lines = [
        "# The server under load",
        "",
        f"Written by `serve.py`; {os.cpu_count()} cores, {platform.machine()}, load average before "
        f"and after {before:.2f} and {after:.2f}. Shipped weights, float32, poses given, one "
        "picture a request. The bare engine runs batches of 8 without reading pictures; the load "
        "generator runs on the same cores.",
        "",
        "| size | callers | images/s | bare engine, before and after | ratio | p50, p95 ms | MB |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        bare_ = ", ".join(f"{one:.1f}" for one in row["bare"])
        lines.append(
            f"| {row['size']} | {row['callers']} | {row['rate']:.1f} | {bare_} "
            f"| {row['rate'] / max(row['bare']):.2f} | {row['p50']:.0f}, {row['p95']:.0f} "
            f"| {row['memory']:.0f} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
