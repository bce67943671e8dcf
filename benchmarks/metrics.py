"""Time and peak memory of the metrics at the size of VeRi (1,678 queries, 11,579 images).

    python benchmarks/metrics.py

Each figure comes from processes of its own, in turn (A B A B ...): seconds around the call alone,
memory over that of a process that only loads the same inputs. The embeddings are random clusters.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from multitasknet.ranking.distances import distance_blocks, squared_distances
from multitasknet.ranking.metrics import evaluate_embeddings, evaluate_ranking
from multitasknet.ranking.reranking import rerank
from multitasknet.ranking.threshold import roc_of_embeddings
from multitasknet.retrieval.index import EmbeddingOrigin, GalleryIndex

QUERIES, GALLERY, VEHICLES, CAMERAS, COLUMNS = 1_678, 11_579, 200, 20, 1_024
LABELS = ("query_ids", "gallery_ids", "query_cameras", "gallery_cameras")
EMBEDDINGS = ("queries", "gallery")
Figure = float | None


def plain_ranking(
    distances: np.ndarray,
    query_ids: np.ndarray,
    gallery_ids: np.ndarray,
    query_cameras: np.ndarray,
    gallery_cameras: np.ndarray,
) -> float:
    """mAP from a full argsort, every step on the whole matrix."""
    order = np.argsort(distances, axis=1, kind="stable")
    same_vehicle = gallery_ids[order] == query_ids[:, None]
    same_camera = gallery_cameras[order] == query_cameras[:, None]
    kept = ~(same_vehicle & same_camera & (query_cameras[:, None] != -1))
    matches = same_vehicle & kept
    precisions = np.cumsum(matches, axis=1) / np.maximum(np.cumsum(kept, axis=1), 1)
    counts = matches.sum(axis=1)
    valid = counts > 0
    return float(((precisions * matches).sum(axis=1)[valid] / counts[valid]).mean())


def plain_embeddings(queries: np.ndarray, gallery: np.ndarray, *labels: np.ndarray) -> float:
    return plain_ranking(squared_distances(queries, gallery), *labels)


def distances_alone(queries: np.ndarray, gallery: np.ndarray, *_: np.ndarray) -> None:
    for _ in distance_blocks(queries, gallery):
        pass


def search(queries: np.ndarray, gallery: np.ndarray, *_: np.ndarray) -> None:
    names = tuple(map(str, range(len(gallery))))
    GalleryIndex(names, gallery, EmbeddingOrigin("", "rgb", (256, 256))).search(queries)


def roc(_: np.ndarray, gallery: np.ndarray, *labels: np.ndarray) -> None:
    roc_of_embeddings(gallery, labels[1], labels[3])


def reranked(queries: np.ndarray, gallery: np.ndarray, *labels: np.ndarray) -> float:
    return evaluate_ranking(rerank(queries, gallery), *labels).mAP


MEASURED: dict[str, tuple[tuple[str, ...], Callable[..., Figure]]] = {
    "evaluate_ranking": (("distances",), lambda *inputs: evaluate_ranking(*inputs).mAP),
    "plain NumPy": (("distances",), plain_ranking),
    "evaluate_ranking, ties": (("rounded",), lambda *inputs: evaluate_ranking(*inputs).mAP),
    "plain NumPy, ties": (("rounded",), plain_ranking),
    "evaluate_embeddings": (EMBEDDINGS, lambda *inputs: evaluate_embeddings(*inputs).mAP),
    "its distances alone": (EMBEDDINGS, distances_alone),
    "plain NumPy, embeddings": (EMBEDDINGS, plain_embeddings),
    "GalleryIndex.search": (EMBEDDINGS, search),
    "roc_of_embeddings": (EMBEDDINGS, roc),
    "rerank and evaluate": (EMBEDDINGS, reranked),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5, help="runs of each process (5)")
    parser.add_argument("--in-process", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.in_process:
        return run_here(*options.in_process)
    with tempfile.TemporaryDirectory() as folder:
        # In a process of its own, so that this one stays small: its children start at its size.
        subprocess.run([sys.executable, __file__, "--in-process", "write", "", folder], check=True)
        print_figures(folder, options.runs)
    return None


def print_figures(folder: str, runs: int) -> None:
    figures: dict[str, list[tuple[float, float, str]]] = {name: [] for name in MEASURED}
    for _ in range(runs):
        for name in MEASURED:
            _, loaded, _ = measure("load", name, folder)
            seconds, peak, value = measure("call", name, folder)
            figures[name].append((seconds, peak - loaded, value))
    for name, rows in figures.items():
        seconds, megabytes = (statistics.median(row[column] for row in rows) for column in (0, 1))
        values = {row[2] for row in rows} - {"None"}
        print(f"{name:24} {seconds:6.2f} s {megabytes:6.0f} MB  {' '.join(values)}")
    print("last column: mAP; goal of evaluate_*: 1.5 s (besides the distances), 600 MB")


def measure(action: str, name: str, folder: str) -> tuple[float, float, str]:
    """Seconds of the call, peak memory of the process in MB, and what the call returned."""
    command = [sys.executable, __file__, "--in-process", action, name, folder]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{name}: the process failed")
    unit = 1 if sys.platform == "darwin" else 1024
    seconds, value = output.split()
    return float(seconds), usage.ru_maxrss * unit / 1e6, value


def run_here(action: str, name: str, folder: str) -> None:
    if action == "write":
        return write_inputs(Path(folder))
    inputs, function = MEASURED[name]
    arrays = [np.load(Path(folder, f"{key}.npy")) for key in (*inputs, *LABELS)]
    start = time.perf_counter()
    value = function(*arrays) if action == "call" else None
    print(time.perf_counter() - start, value)
    return None


def write_inputs(folder: Path) -> None:
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(VEHICLES, COLUMNS))
    arrays = {}
    for side, name, count in (("query", "queries", QUERIES), ("gallery", "gallery", GALLERY)):
        ids = rng.integers(0, VEHICLES, count)
        noise = rng.normal(scale=3, size=(count, COLUMNS))
        arrays[f"{side}_ids"] = ids
        arrays[f"{side}_cameras"] = rng.integers(0, CAMERAS, count)
        arrays[name] = (centers[ids] + noise).astype(np.float32)
    arrays["distances"] = squared_distances(arrays["queries"], arrays["gallery"])
    arrays["rounded"] = arrays["distances"].round(-2)
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)


if __name__ == "__main__":
    main()
