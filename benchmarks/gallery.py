"""A gallery of a million rows: bytes, index, search, removing, adding.

    python benchmarks/gallery.py --folder DIR [--rows 1000000] [--parts vectors write ...]

Each part is a process of its own; those after ``vectors`` work on its files. What was measured is
written to ``gallery.md``. The vectors are resampled from embeddings of the shipped network on
generated vehicles: vehicles from the spread of their means, pictures from the residuals of all,
cameras as shifts.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from tables import table

from multitasknet import COLORS, TYPES, Gallery, Predictor, find_images, read_dataset
from multitasknet.gallery.store import origin_text, table_schema
from multitasknet.gallery.store import vectors as read_vectors
from multitasknet.inference.prediction import EmbeddingOrigin
from multitasknet.ranking.distances import squared_distances
from vehiclesynth import synthesize

CAMERAS, TOP, QUERIES, BATCH, VEHICLES = 200, 10, 200, 10_000, 300
# Rows that a condition keeps, of 1,000.
SHARES = (1000, 100, 10, 1)
STORE = "city.lance"
# What was measured, the figure, and the goal.
Rows = list[tuple[str, str, str]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="for some 9 GB of files")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    rows: Rows = []
    for part in options.parts:
        start = time.perf_counter()
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            rows += pool.submit(PARTS[part], options).result()
        seconds, load = time.perf_counter() - start, os.getloadavg()[0]
        print(f"{part}: {seconds:.0f} s, load average {load:.1f}", flush=True)
        Path(__file__).with_suffix(".md").write_text(
            f"# A gallery of {options.rows:,} rows\n\nWritten by `gallery.py`; {os.cpu_count()} "
            "cores. The vectors are resampled from embeddings of the shipped network on generated "
            f"vehicles.\n\n{table(('what', 'measured', 'goal'), rows)}\n"
        )


def peak_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def vectors(options: argparse.Namespace) -> Rows:
    """Resample the embeddings of generated vehicles, float16, and held-out queries."""
    root = options.folder / "vehicles"
    if not root.is_dir():
        how = {"images": 8, "cameras": 6, "prior": "real", "workers": 2}
        synthesize(root, vehicles=10, test_vehicles=VEHICLES, **how)
    data = read_dataset(root, ["query", "gallery"])
    records = [*data.query.records, *data.gallery.records]
    found = Predictor("synthetic", batch_size=32, pose="none").embed(
        [one.image for one in records], [one.keypoints for one in records]
    )
    ids = np.array([one.vehicle_id for one in records])
    means = np.stack([found[ids == one].mean(axis=0) for one in np.unique(ids)])
    residuals = found - means[np.searchsorted(np.unique(ids), ids)]
    rng = np.random.default_rng(0)
    spread = np.linalg.svd(means - means.mean(axis=0), full_matrices=False)
    scales = spread[1] / np.sqrt(len(means))
    shifts = 0.3 * residuals[rng.integers(0, len(residuals), CAMERAS)]
    sizes = rng.integers(10, 51, options.rows // 10)
    sizes = sizes[: np.searchsorted(np.cumsum(sizes), options.rows) + 1]
    vehicles = np.repeat(np.arange(len(sizes)), sizes)[: options.rows]
    centers = means.mean(axis=0) + (rng.normal(size=(len(sizes), len(scales))) * scales) @ spread[2]
    cameras = rng.integers(0, CAMERAS, options.rows)
    np.save(options.folder / "cameras.npy", cameras)

    def pictures(of: np.ndarray, seen_by: np.ndarray) -> np.ndarray:
        one, other = (residuals[rng.integers(0, len(residuals), len(of))] for _ in range(2))
        mix = rng.uniform(0, 1, (len(of), 1))
        noise = (mix * one + (1 - mix) * other) / np.sqrt(mix**2 + (1 - mix) ** 2)
        return centers[of] + noise + shifts[seen_by]

    shape = (options.rows, found.shape[1])
    file = np.lib.format.open_memmap(options.folder / "rows.npy", "w+", np.float16, shape)
    for start in range(0, options.rows, BATCH):
        part = slice(start, start + BATCH)
        file[part] = pictures(vehicles[part], cameras[part])
    file.flush()
    asked = rng.integers(0, len(sizes), QUERIES)
    np.save(options.folder / "queries.npy", pictures(asked, rng.integers(0, CAMERAS, QUERIES)))
    return []


def batches(options: argparse.Namespace, gallery: Any) -> Iterator[Any]:
    """Whole rows as a real gallery has them, but for random poses, colours and types."""
    schema = gallery.table.schema
    rows = np.load(options.folder / "rows.npy", mmap_mode="r")
    cameras = np.load(options.folder / "cameras.npy")
    origin = origin_text(EmbeddingOrigin("0" * 64, "segment", (256, 256)))
    rng = np.random.default_rng(1)
    for start in range(0, len(rows), BATCH):
        numbers = range(start, min(start + BATCH, len(rows)))
        count = len(numbers)
        names = [f"/data/crops/c{cameras[n]:03}/{n // 1000:05}/{n:08}.jpg" for n in numbers]
        colors, types = (rng.dirichlet(np.full(k, 0.3), count) for k in (10, 9))
        values: dict[str, Any] = {
            "id": names,
            "image": names,
            "camera": [f"c{cameras[n]:03}" for n in numbers],
            "time": (1_793_491_200_000_000 + rng.integers(0, 30 * 86_400_000_000, count)),
            "width": rng.integers(60, 400, count),
            "height": rng.integers(60, 300, count),
            "pose_origin": ["estimated"] * count,
            "pose_confidence": rng.uniform(0, 1, count),
            "keypoints": rng.uniform(0, 300, (count, 108)),
            "color": [gallery.color_names[one] for one in colors.argmax(axis=1)],
            "color_probability": colors.max(axis=1),
            "color_probabilities": colors,
            "type": [gallery.type_names[one] for one in types.argmax(axis=1)],
            "type_probability": types.max(axis=1),
            "type_probabilities": types,
            "vehicle": [None] * count,
            "embedding": rows[start : start + count],
            "sha256": [rng.bytes(32) for _ in numbers],
            "origin": [origin] * count,
            "share": rng.integers(0, 1000, count),
        }
        arrays = []
        for field in schema:
            one = values.get(field.name)
            if one is None:
                arrays.append(pa.nulls(count, field.type))
            elif isinstance(one, np.ndarray) and one.ndim == 2:
                flat = pa.array(np.ascontiguousarray(one, np.float16).ravel())
                arrays.append(pa.FixedSizeListArray.from_arrays(flat, one.shape[1]))
            else:
                arrays.append(pa.array(one).cast(field.type))
        yield pa.Table.from_arrays(arrays, schema=schema)


def write(options: argparse.Namespace) -> Rows:
    """All columns of all rows, then compaction."""
    shutil.rmtree(options.folder / STORE, ignore_errors=True)
    width = np.load(options.folder / "rows.npy", mmap_mode="r").shape[1]
    gallery = Gallery(options.folder / STORE, table_schema(width, COLORS, TYPES))
    gallery.table.add_columns([pa.field("share", pa.int32())])
    start = time.perf_counter()
    for batch in batches(options, gallery):
        gallery.table.add(batch)
    rate = options.rows / (time.perf_counter() - start)
    gallery.compact()
    gallery.remove("false")  # no row, but the versions that compacting keeps for an hour
    return [
        ("all columns, compacted", f"{gallery.size() / 1e9:.2f} GB", "2.8 GB"),
        ("writing rows that are computed", f"{rate:,.0f} rows/s", ""),
    ]


def index(options: argparse.Namespace) -> Rows:
    """The index, and what it measured of itself."""
    gallery = Gallery(options.folder / STORE)
    start = time.perf_counter()
    tried = gallery.build_index()
    minutes = (time.perf_counter() - start) / 60
    gallery.compact()
    gallery.remove("false")
    took = f"{minutes:.1f} minutes, {peak_gb():.1f} GB of memory"
    recalls = ", ".join(f"{one.recall:.3f} by {one.probes}" for one in tried)
    return [
        ("building and measuring the index", took, "15 minutes, 4 GB"),
        ("all columns and indexes", f"{gallery.size() / 1e9:.2f} GB", ""),
        ("recall of the 10 nearest, as it measured itself, by probes", recalls, "0.95"),
    ]


def search(options: argparse.Namespace) -> Rows:
    """Recall and time of the index, with conditions, beside exact search."""
    gallery = Gallery(options.folder / STORE)
    queries = np.load(options.folder / "queries.npy").astype(np.float32)
    truth = nearest_by_share(gallery, queries)
    measured: Rows = []
    for share in SHARES:
        where = None if share == 1000 else f"share < {share}"
        gallery.search(queries[:5], top=TOP, where=where)
        found, times = timed(gallery, queries, where=where)
        shares = [
            sum(hit.distance <= bound * (1 + 1e-5) for hit in hits) / TOP
            for hits, bound in zip(found, truth[share], strict=True)
        ]
        figure = f"recall@10 {np.mean(shares):.3f}, {times}"
        goal = f"0.95, p95 {50 if where is None else 150} ms"
        measured.append((f"search among {share / 10:g} % of rows", figure, goal))
    _, times = timed(gallery, queries[:20], exact=True)
    return [*measured, ("search, each row compared", times, "")]


def nearest_by_share(gallery: Any, queries: np.ndarray) -> dict[int, np.ndarray]:
    """How far the 10th nearest is, exactly, by the share that a condition keeps."""
    kept = {share: np.empty((len(queries), 0)) for share in SHARES}
    for batch in gallery.read(["embedding", "share"]):
        far = squared_distances(queries, read_vectors(batch["embedding"]))
        shares = batch["share"].to_numpy()
        for share, best in kept.items():
            both = np.concatenate([best, far[:, shares < share]], axis=1)
            kept[share] = np.sort(both, axis=1)[:, :TOP]
    return {share: best[:, -1] for share, best in kept.items()}


def timed(gallery: Any, queries: np.ndarray, **options: Any) -> tuple[list[Any], str]:
    """The hits of each query, and the times of searches one by one."""
    found, seconds = [], []
    for query in queries:
        start = time.perf_counter()
        found += gallery.search(query[None], top=TOP, **options)
        seconds.append(time.perf_counter() - start)
    half, most = np.percentile(seconds, (50, 95))
    return found, f"p50 {1000 * half:.0f} ms, p95 {1000 * most:.0f} ms"


def removing(options: argparse.Namespace) -> Rows:
    """A thousandth of the rows; the others are written again."""
    gallery = Gallery(options.folder / STORE)
    start = time.perf_counter()
    count = gallery.remove("share = 0")
    took = f"{time.perf_counter() - start:.0f} s, {peak_gb():.1f} GB of memory"
    return [(f"removing {count:,} rows for good", took, "")]


def adding(options: argparse.Namespace) -> Rows:
    """Rows/s of adding beside the engine alone, on the same pictures, in turn."""
    images = find_images(options.folder / "vehicles")[:300]
    predictor = Predictor("synthetic", batch_size=32)
    predictor.predict(images[:64])
    rates = []
    for turn in range(3):
        start = time.perf_counter()
        predictor.predict(images)
        middle = time.perf_counter()
        path = options.folder / f"added{turn}.lance"
        shutil.rmtree(path, ignore_errors=True)
        Gallery.create(path, predictor).add(predictor, images, progress=False)
        end = time.perf_counter()
        rates.append((len(images) / (middle - start), len(images) / (end - middle)))
    engine, added = np.median(rates, axis=0)
    figure = f"{added / engine:.2f} ({added:.0f} of {engine:.0f} crops/s)"
    return [("adding crops, of the engine alone", figure, "0.9")]


PARTS: dict[str, Callable[[argparse.Namespace], Rows]] = {
    part.__name__: part for part in (vectors, write, index, search, removing, adding)
}

if __name__ == "__main__":
    main()
