"""Images/s of ``synthesize``, whole runs with the start of the workers and the writing.

    python benchmarks/synthesize.py

The goal is 60 images/s at 256 pixels with two workers. Beside the wall clock stands the processor
time an image takes, which other work on the machine hardly changes.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

from vehiclesynth import synthesize

GOAL = 60


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vehicles", type=int, default=30, help="training vehicles (30)")
    vehicles = parser.parse_args().vehicles
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before the start")
    for workers, size, maps in ((1, 256, False), (2, 256, False), (2, 256, True), (2, 128, False)):
        wall, processor, images = measure(vehicles, workers, size, maps)
        print(
            f"{workers} workers, {size} pixels, {'with' if maps else 'no':4} map files: "
            f"{images / wall:5.1f} images/s, {1000 * processor / images:5.1f} ms of processor "
            f"time an image  (goal: {GOAL} images/s with 2 workers at 256 pixels)"
        )


def measure(vehicles: int, workers: int, size: int, maps: bool) -> tuple[float, float, int]:
    """Wall seconds, processor seconds and images of one run."""
    with tempfile.TemporaryDirectory() as folder:
        start, used = time.perf_counter(), _processor_seconds()
        data = synthesize(
            Path(folder) / "data",
            vehicles=vehicles,
            pixels=size,
            workers=workers,
            heatmaps=maps,
            segments=maps,
        )
        wall, processor = time.perf_counter() - start, _processor_seconds() - used
    return wall, processor, sum(data.images.values())


def _processor_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


if __name__ == "__main__":
    main()
