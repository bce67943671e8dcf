"""The server under load, and under malformed requests.

    python benchmarks/serve.py [--sizes 64 128 256] [--callers 8 32] [--seconds 60]
        [--malformed 1000]

Shipped weights, float32, keypoints given, one picture a request to /api/embed. For each input size
the bare engine's images/s at batches of 8 in a process of its own, before and after; between them
callers that ask again as soon as they are answered, from this process, whose share of the cores is
said. Then requests that are broken in every way, and whether the answer to a good one is still what
it was. Writes serve.json and serve.md beside this file; downloads nothing. Run it on a machine that
does nothing else: about 11 minutes.
"""

from __future__ import annotations

import argparse
import http.client
import io
import json
import os
import platform
import random
import socket
import statistics
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image

HERE = Path(__file__).resolve().parent
QUERIES = sorted((HERE.parent / "assets" / "demo" / "query").iterdir())
BATCH = 8
# Promised: the server is loading, or has too much to do.
PROMISED = 503
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
    parser.add_argument("--callers", nargs="+", type=int, default=[8, 32])
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--malformed", type=int, default=1000)
    options = parser.parse_args()
    before = os.getloadavg()[0]
    rows = [row for size in options.sizes for row in under_load(size, options)]
    figures = {
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "load": [before, os.getloadavg()[0]],
        "under load": rows,
        "malformed": malformed(options.malformed) if options.malformed else {},
    }
    (HERE / "serve.json").write_text(json.dumps(figures, indent=1) + "\n")
    (HERE / "serve.md").write_text(report(figures))
    print(report(figures))


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
    command += ["--size", str(size), "--batch-size", str(BATCH)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("API"):
                break
        yield port, psutil.Process(process.pid)
        process.terminate()


def under_load(size: int, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A row for each number of callers."""
    quarter = max(options.seconds // 4, 5)
    first = bare(size, quarter)
    rows = []
    with server(size) as (port, process):
        load(port, process, BATCH, 5)
        for callers in options.callers:
            rows.append({"size": size, **load(port, process, callers, options.seconds)})
    last = bare(size, quarter)
    for row in rows:
        yield row | {"bare": [first, last], "ratio": row["images/s"] / max(first, last)}


def load(port: int, process: psutil.Process, callers: int, seconds: int) -> dict[str, Any]:
    """What callers who ask again at once get in that time."""
    bodies = [embed_body(path) for path in QUERIES]
    latencies: list[float] = []
    failures: Counter[int] = Counter()
    memory: list[float] = []
    end = time.perf_counter() + seconds

    def call(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        turn = number
        while (start := time.perf_counter()) < end:
            turn += 1
            content_type, body = bodies[turn % len(bodies)]
            connection.request("POST", "/api/embed", body, {"Content-Type": content_type})
            answer = connection.getresponse()
            answer.read()
            if answer.status == 200:
                latencies.append(time.perf_counter() - start)
            else:
                failures[answer.status] += 1
        connection.close()

    own, start = psutil.Process().cpu_times(), time.perf_counter()
    threads = [threading.Thread(target=call, args=(number,)) for number in range(callers)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        memory.append(process.memory_info().rss / 1e6)
        time.sleep(0.5)
    wall, after = time.perf_counter() - start, psutil.Process().cpu_times()
    spent = after.user + after.system - own.user - own.system
    places = statistics.quantiles(latencies, n=20)
    tenth = max(len(memory) // 10, 1)
    return {
        "callers": callers,
        "images/s": len(latencies) / wall,
        "p50 ms": 1000 * statistics.median(latencies),
        "p95 ms": 1000 * places[-1],
        "generator's share": spent / wall / (os.cpu_count() or 1),
        "failures": dict(failures),
        "MB": [statistics.mean(memory[:tenth]), max(memory), statistics.mean(memory[-tenth:])],
    }


def embed_body(path: Path) -> tuple[str, bytes]:
    """A form with a picture and 36 keypoints."""
    with Image.open(path) as picture:
        width, height = picture.size
    rng = np.random.default_rng(0)
    keypoints = rng.uniform(0, 1, (36, 3)) * (width, height, 1)
    parts = {
        f'name="images"; filename="{path.name}"': path.read_bytes(),
        'name="keypoints"': json.dumps([keypoints.round(2).tolist()]).encode(),
    }
    return form(parts)


def form(parts: dict[str, bytes]) -> tuple[str, bytes]:
    """A multipart body and its type."""
    body = b"".join(
        f"--cut\r\nContent-Disposition: form-data; {head}\r\n\r\n".encode() + content + b"\r\n"
        for head, content in parts.items()
    )
    return "multipart/form-data; boundary=cut", body + b"--cut--\r\n"


def malformed(count: int) -> dict[str, Any]:
    """How many broken requests were answered how, and whether a good one still is as before."""
    rng = random.Random(0)
    kinds = broken_requests(rng)
    answers: Counter[str] = Counter()
    with server(64) as (port, process):
        good = QUERIES[0]
        expected = embedding(port, good)
        memory = [process.memory_info().rss / 1e6]
        for number in range(count):
            name = list(kinds)[number % len(kinds)]
            answers[f"{name}: {answered(port, kinds[name]())}"] += 1
        memory.append(process.memory_info().rss / 1e6)
        same = np.allclose(embedding(port, good), expected, atol=1e-4)
    unpromised = sum(
        times
        for said, times in answers.items()
        if (status := said.rpartition(" ")[2]).startswith("5") and status != str(PROMISED)
    )
    return {
        "requests": count,
        "unpromised 5xx": unpromised,
        "right afterwards": bool(same),
        "MB": memory,
        "answers": dict(sorted(answers.items())),
    }


def embedding(port: int, path: Path) -> list[float]:
    content_type, body = embed_body(path)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("POST", "/api/embed", body, {"Content-Type": content_type})
    values: list[float] = json.loads(connection.getresponse().read())["embeddings"][0]
    return values


def broken_requests(rng: random.Random) -> dict[str, Any]:
    """Makers of requests, as the bytes that go out, by what is wrong with them."""
    picture = QUERIES[0].read_bytes()

    def post(path: str, content_type: str, body: bytes, length: int | None = None) -> bytes:
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {content_type}\r\n"
        stated = len(body) if length is None else length
        return f"{head}Content-Length: {stated}\r\n\r\n".encode() + body

    def file(content: bytes) -> bytes:
        return post("/api/predict", *form({'name="images"; filename="a.jpg"': content}))

    def of_json(value: Any, path: str = "/api/search") -> bytes:
        return post(path, "application/json", json.dumps(value).encode())

    def bomb(side: int) -> bytes:
        def chunk(kind: bytes, content: bytes) -> bytes:
            check = struct.pack(">I", zlib.crc32(kind + content))
            return struct.pack(">I", len(content)) + kind + content + check

        head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
        rows = zlib.compress(bytes(1 + side) * side) if side < 4000 else zlib.compress(b"")
        chunks = (chunk(b"IHDR", head), chunk(b"IDAT", rows), chunk(b"IEND", b""))
        return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)

    def gif() -> bytes:
        kept = io.BytesIO()
        Image.new("P", (9, 9)).save(kept, "GIF")
        return kept.getvalue()

    wrong = [None, -1, "x", [], {}, [[]], 1e300, True, "9" * 4000]
    fields = ["images", "ids", "names", "keypoints", "top", "max_distance", "cameras", "not_after"]
    paths = [
        "/gallery/../../etc/passwd",
        "/gallery/%2e%2e/%2e%2e/etc/passwd",
        "/static/..%2fapp.py",
    ]
    infer = "/v2/models/multitasknet/infer"
    return {
        "wrong type": lambda: of_json({rng.choice(fields): rng.choice(wrong)}),
        "truncated JPEG": lambda: file(picture[: rng.randrange(len(picture))]),
        "noise in a JPEG": lambda: file(picture[:300] + rng.randbytes(900) + picture[1200:]),
        "15 megapixels in 15 KB, allowed": lambda: file(bomb(3900)),
        "pixel bomb": lambda: file(bomb(60_000)),
        "another format": lambda: file(gif()),
        "100 MB stated": lambda: post("/api/predict", "application/json", b"", 100 << 20),
        "100 MB sent": lambda: post("/api/predict", "application/json", bytes(100 << 20)),
        "path": lambda: f"GET {rng.choice(paths)} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode(),
        "an id that is a path": lambda: of_json({"ids": ["../../etc/passwd"]}),
        "bad base64": lambda: of_json({"images": [rng.choice(["*", "a", "====", "\x00"])]}),
        "bad JSON": lambda: post("/api/embed", "application/json", rng.randbytes(99)),
        "deep JSON": lambda: post("/api/embed", "application/json", b"[" * 100_000),
        "bad form": lambda: post("/api/embed", "multipart/form-data; boundary=x", b"--x\r\n\r\n"),
        "no HTTP": lambda: rng.randbytes(200) + b"\r\n\r\n",
        "disconnect": lambda: post("/api/predict", "application/json", b"{", 5000),
        "bad tensor": lambda: of_json({"inputs": [{"name": "image", "shape": [-1]}]}, infer),
    }


def answered(port: int, request: bytes) -> str:
    """The status of the answer to some bytes; ``closed`` without one."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        try:
            connection.sendall(request)
            if request.endswith(b"\r\n\r\n{"):
                return "gone"
        except OSError:
            pass  # refused while it is being sent: the answer is there all the same
        try:
            line = connection.recv(100).split(b"\r\n")[0].split(b" ")
        except OSError:
            return "closed"
        return line[1].decode() if len(line) > 1 else "closed"


def report(figures: dict[str, Any]) -> str:
    lines = [
        "# The server under load",
        "",
        f"Written by `serve.py`; {figures['machine']}, load average before and after "
        f"{figures['load'][0]:.2f} and {figures['load'][1]:.2f}. Shipped weights, float32, poses "
        "given, one picture a request. The bare engine runs batches of 8 without reading pictures; "
        "the load generator takes its share of the same cores.",
        "",
        "| size | callers | images/s | bare engine | ratio (goal 0.9) | p50, p95 ms | generator's "
        "share of the cores | MB at the start, peak, end |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in figures["under load"]:
        bare_ = ", ".join(f"{one:.1f}" for one in row["bare"])
        memory = ", ".join(f"{one:.0f}" for one in row["MB"])
        share = row["generator's share"]
        lines.append(
            f"| {row['size']} | {row['callers']} | {row['images/s']:.1f} | {bare_} "
            f"| {row['ratio']:.2f} | {row['p50 ms']:.0f}, {row['p95 ms']:.0f} "
            f"| {share:.0%} | {memory} |"
        )
    broken = figures["malformed"]
    if broken:
        lines += [
            "",
            f"{broken['requests']} malformed requests: {broken['unpromised 5xx']} answered with a "
            f"5xx that is not promised; the server answers "
            f"{'as before' if broken['right afterwards'] else 'WRONGLY'} afterwards; "
            f"{broken['MB'][0]:.0f} MB before, {broken['MB'][1]:.0f} MB after.",
            "",
            "| request: answer | times |",
            "| --- | ---: |",
        ]
        lines += [f"| {said} | {times} |" for said, times in broken["answers"].items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
