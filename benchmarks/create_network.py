"""Cost of ``create_network`` over a bare ``import mindspore``, and images/s of the Cell.

    python benchmarks/create_network.py

Makes a checkpoint in the published layout, puts it into a cache of its own, and times whole
processes in turn (A B A B ...). Nothing is downloaded.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BARE = "import mindspore"
CREATE = """
import mindspore
import hub_conf
network = hub_conf.create_network(card={card!r}, cache_dir={cache!r}, offline=True)
assert len(network.load_report.loaded) == 616
"""
ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5, help="counted runs of each process (5)")
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as folder:
        card = _fill_cache(Path(folder))
        print_costs(CREATE.format(card=str(card), cache=folder), runs)
    print_speed(runs)


def print_costs(create: str, runs: int) -> None:
    figures: dict[str, list[tuple[float, float]]] = {"bare import": [], "create_network": []}
    for run in range(runs + 1):
        for name, code in (("bare import", BARE), ("create_network", create)):
            cost = _run(code)
            if run:  # the first of each warms the disk cache
                figures[name].append(cost)
    medians = {
        name: [statistics.median(column) for column in zip(*costs, strict=True)]
        for name, costs in figures.items()
    }
    for name, (seconds, megabytes) in medians.items():
        print(f"{name:15} {seconds:6.2f} s {megabytes:7.0f} MB peak")
    more = [b - a for a, b in zip(*medians.values(), strict=True)]
    print(f"{'difference':15} {more[0]:6.2f} s {more[1]:7.0f} MB  (goal: 1.5 s, 300 MB)")


def print_speed(runs: int) -> None:
    import mindspore
    import numpy as np

    from multitasknet import create_network

    network = create_network(weights=None)
    modes = {"eager": mindspore.PYNATIVE_MODE, "graph": mindspore.GRAPH_MODE}
    for name, mode in modes.items():
        mindspore.set_context(mode=mode)
        for batch in (1, 8, 32):
            x = mindspore.Tensor(np.zeros((batch, 16, 256, 256), np.float32))
            p = mindspore.Tensor(np.zeros((batch, 108), np.float32))
            times = []
            for _ in range(runs + 2):
                start = time.perf_counter()
                network(x, p)[-1].asnumpy()
                times.append(time.perf_counter() - start)
            rate = batch / statistics.median(times[2:])
            print(f"{name}, batch {batch:2}: {rate:6.1f} images/s")


def _run(code: str) -> tuple[float, float]:
    """Wall seconds and peak memory in MB of a whole process."""
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    if status:
        raise SystemExit(f"the process failed:\n{code}")
    unit = 1 if sys.platform == "darwin" else 1024
    return seconds, usage.ru_maxrss * unit / 1e6


def _fill_cache(folder: Path) -> Path:
    import mindspore

    from multitasknet import create_network, load_card
    from multitasknet.hub.card import default_card_path

    asset = load_card(default_card_path()).asset
    path = folder / asset.folder / asset.file_name
    path.parent.mkdir(parents=True)
    mindspore.save_checkpoint(create_network(weights=None), str(path))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    card = folder / "multitasknet_veri.md"
    card.write_text(re.sub(asset.sha256, digest, default_card_path().read_text()))
    return card


if __name__ == "__main__":
    main()
