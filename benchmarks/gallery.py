"""A gallery store of a million rows: bytes, index, search, adding, linking, kills.

    python benchmarks/gallery.py --folder DIR [--rows 1000000] [--weights synthetic]

Each part is a process of its own, whose peak memory is reported with its seconds; ``--parts`` picks
some. What was measured is kept in ``gallery.json`` and written out as ``gallery.md``. A part that
is asked for again replaces what it measured before; the parts behind ``vectors`` build on its
files. The vectors are resampled from embeddings of the network on generated vehicles: vehicles from
the spread of their means, pictures from the residuals of all, cameras as shifts.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
CAMERAS, TOP, QUERIES, BATCH = 200, 10, 200, 10_000
# Rows that a condition keeps, of 1,000.
SHARES = (1000, 100, 10, 1)
STORE = "city.lance"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="for some 12 GB of files")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--vehicles", type=int, default=300, help="to generate")
    parser.add_argument("--weights", default="synthetic")
    parser.add_argument("--crops", type=int, default=2_000, help="to add by the network")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, default=HERE, help="for gallery.json and .md")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    if options.part:
        print(json.dumps(PARTS[options.part](options)))
        return
    kept = options.output / "gallery.json"
    measured = json.loads(kept.read_text()) if kept.is_file() else {}
    for part in options.parts:
        line = [sys.executable, __file__, *sys.argv[1:], "--part", part]
        start = time.perf_counter()
        done = subprocess.run(line, stdout=subprocess.PIPE, text=True, check=True)
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        measured[part] = json.loads(done.stdout.splitlines()[-1]) | {
            "part seconds": time.perf_counter() - start,
            "peak GB of the parts so far": peak / 1e6,
            "load average": os.getloadavg()[0],
        }
        kept.write_text(json.dumps(measured, indent=1))
        (options.output / "gallery.md").write_text(as_markdown(measured))
        print(part, json.dumps(measured[part]), flush=True)


def peak_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def vectors(options: argparse.Namespace) -> dict[str, Any]:
    """Resample the embeddings of generated vehicles, float16, and held-out queries."""
    from multitasknet import Predictor, read_dataset
    from vehiclesynth import synthesize

    root = options.folder / "vehicles"
    if not root.is_dir():
        how = {"images": 8, "cameras": 6, "prior": "real", "workers": 2}
        synthesize(root, vehicles=10, test_vehicles=options.vehicles, **how)
    data = read_dataset(root, ["query", "gallery"])
    records = [*data.query.records, *data.gallery.records]
    predictor = Predictor(options.weights, batch_size=32, pose="none")
    found = predictor.embed([one.image for one in records], [one.keypoints for one in records])
    ids, seen = np.array([(one.vehicle_id, one.camera_id) for one in records]).T
    np.savez(options.folder / "seeds.npz", embeddings=found, ids=ids, cameras=seen)
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
    np.savez(options.folder / "truth.npz", vehicles=vehicles, cameras=cameras)

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
    return {"vehicles": len(sizes), "rows": options.rows}


def batches(options: argparse.Namespace, store: Any) -> Iterator[Any]:
    """Whole rows as a real gallery has them, but for random poses."""
    import pyarrow as pa

    from multitasknet.gallery.columns import origin_text
    from multitasknet.inference.origin import EmbeddingOrigin

    schema = store.table.schema
    rows = np.load(options.folder / "rows.npy", mmap_mode="r")
    cameras = np.load(options.folder / "truth.npz")["cameras"]
    rng = np.random.default_rng(1)

    def halves(name: str, values: np.ndarray) -> Any:
        flat = pa.array(np.ascontiguousarray(values, np.float16).ravel())
        return pa.FixedSizeListArray.from_arrays(flat, schema.field(name).type.list_size)

    for start in range(0, len(rows), BATCH):
        count = min(BATCH, len(rows) - start)
        numbers = range(start, start + count)
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
            "keypoints": halves("keypoints", rng.uniform(0, 300, (count, 108))),
            "color": [store.color_names[one] for one in colors.argmax(axis=1)],
            "color_probability": colors.max(axis=1),
            "color_probabilities": halves("color_probabilities", colors),
            "type": [store.type_names[one] for one in types.argmax(axis=1)],
            "type_probability": types.max(axis=1),
            "type_probabilities": halves("type_probabilities", types),
            "vehicle": [None] * count,
            "embedding": halves("embedding", rows[start : start + count]),
            "sha256": [rng.bytes(32) for _ in numbers],
            "origin": [origin_text(EmbeddingOrigin("0" * 64, "segment", (256, 256)))] * count,
            "share": rng.integers(0, 1000, count),
        }
        arrays = []
        for field in schema:
            one = values[field.name]
            arrays.append(one if isinstance(one, pa.Array) else pa.array(one).cast(field.type))
        yield pa.Table.from_arrays(arrays, schema=schema)


def write(options: argparse.Namespace) -> dict[str, Any]:
    """All columns of all rows, then compaction."""
    import shutil

    import pyarrow as pa

    from multitasknet import COLORS, TYPES
    from multitasknet.gallery.columns import table_schema
    from multitasknet.gallery.store import Store

    shutil.rmtree(options.folder / STORE, ignore_errors=True)
    width = np.load(options.folder / "rows.npy", mmap_mode="r").shape[1]
    store = Store(options.folder / STORE, table_schema(width, COLORS, TYPES))
    store.table.add_columns([pa.field("share", pa.int32())])
    start = time.perf_counter()
    for batch in batches(options, store):
        store.table.add(batch)
    written = time.perf_counter() - start
    store.compact()
    seconds = time.perf_counter() - start - written
    return {
        "rows/s": options.rows / written, "GB": store.size() / 1e9, "compact s": seconds,
        "peak GB": peak_gb(),
    }  # fmt: skip


def index(options: argparse.Namespace) -> dict[str, Any]:
    """The index, and what it measured of itself."""
    from multitasknet.gallery.gallery import Gallery

    gallery = Gallery(options.folder / STORE)
    start = time.perf_counter()
    measured = gallery.build_index(0.95)
    seconds = time.perf_counter() - start
    gallery.compact()
    return {
        "minutes": seconds / 60, "peak GB": peak_gb(), "GB with index": gallery.store.size() / 1e9,
        "recall by probes": {one.probes: one.recall for one in measured},
    }  # fmt: skip


def search(options: argparse.Namespace) -> dict[str, Any]:
    """Recall and time of the index, with conditions, beside exact search."""
    from multitasknet.gallery.gallery import Gallery

    gallery = Gallery(options.folder / STORE)
    queries = np.load(options.folder / "queries.npy").astype(np.float32)
    truth = nearest_by_share(gallery, queries)
    told: dict[str, Any] = {}
    for share in SHARES:
        where = None if share == 1000 else f"share < {share}"
        gallery.search(queries[:5], top=TOP, where=where)
        found, seconds = timed(
            lambda one, where=where: gallery.search(one, top=TOP, where=where), queries
        )
        hits = [one[0] for one in found]
        shares = [
            sum(hit.distance <= bound * (1 + 1e-5) for hit in row) / TOP
            for row, bound in zip(hits, truth[share], strict=True)
        ]
        told[f"{share / 10:g} % of rows"] = {
            "recall": float(np.mean(shares)),
            **percentiles(seconds),
            "how": asdict(gallery.plan(where)),
        }  # fmt: skip
    _, seconds = timed(lambda one: gallery.search(one, top=TOP, exact=True), queries[:20])
    return told | {"exact": percentiles(seconds), "peak GB": peak_gb()}


def nearest_by_share(gallery: Any, queries: np.ndarray) -> dict[int, np.ndarray]:
    """How far the 10th nearest is, exactly, by the share that a condition keeps."""
    from multitasknet.gallery.columns import vectors as read
    from multitasknet.ranking.distances import squared_distances

    kept = {share: np.empty((len(queries), 0)) for share in SHARES}
    for batch in gallery.store.read(["embedding", "share"]):
        far = squared_distances(queries, read(batch["embedding"]))
        shares = batch["share"].to_numpy()
        for share, best in kept.items():
            both = np.concatenate([best, far[:, shares < share]], axis=1)
            kept[share] = np.sort(both, axis=1)[:, :TOP]
    return {share: best[:, -1] for share, best in kept.items()}


def adding(options: argparse.Namespace) -> dict[str, Any]:
    """Rows/s of adding beside the engine alone, on the same pictures, in turn."""
    import shutil

    from multitasknet import Predictor
    from multitasknet.gallery.gallery import Gallery

    images = sorted((options.folder / "vehicles").rglob("*.jpg"))[: options.crops]
    predictor = Predictor(options.weights, batch_size=32)
    predictor.predict(images[:64])
    rates: dict[str, list[float]] = {"engine": [], "adding": []}
    for turn in range(3):
        start = time.perf_counter()
        predictor.predict(images)
        rates["engine"].append(len(images) / (time.perf_counter() - start))
        path = options.folder / f"added{turn}.lance"
        shutil.rmtree(path, ignore_errors=True)
        start = time.perf_counter()
        Gallery.create(path, predictor).add(predictor, images, progress=False)
        rates["adding"].append(len(images) / (time.perf_counter() - start))
    ratio = float(np.median(rates["adding"]) / np.median(rates["engine"]))
    return rates | {"ratio": ratio, "peak GB": peak_gb()}


def ray(options: argparse.Namespace) -> dict[str, Any]:
    """Two actors of this machine, beside the plain run."""
    import shutil

    from multitasknet import Predictor
    from multitasknet.gallery.gallery import Gallery
    from multitasknet.gallery.ray import embed_with_ray

    images = sorted((options.folder / "vehicles").rglob("*.jpg"))[: options.crops]
    settings = {"weights": options.weights, "batch_size": 32, "threads": 1}
    predictor = Predictor(**settings)
    path = options.folder / "ray.lance"
    shutil.rmtree(path, ignore_errors=True)
    start = time.perf_counter()
    gallery = Gallery.create(path, predictor)
    with embed_with_ray(settings, predictor.origin, actors=2) as embed:
        gallery.add(predictor, images, embed=embed, progress=False)
    return {"rows/s": len(images) / (time.perf_counter() - start)}


def linking(options: argparse.Namespace) -> dict[str, Any]:
    """Groups of 300 generated vehicles by false-match rate, beside colour and type alone."""
    from multitasknet.gallery.linking import link
    from multitasknet.ranking.distances import nearest, squared_distances

    with np.load(options.folder / "seeds.npz") as seeds:
        found, ids, cameras = seeds["embeddings"], seeds["ids"], seeds["cameras"]
    distances = squared_distances(found, found)
    near = np.stack([nearest(row, 51) for row in distances])
    far = np.take_along_axis(distances, near, axis=1)
    different = np.sort(distances[ids[:, None] < ids])
    told: dict[str, Any] = {}
    places = cameras, np.full(len(ids), np.nan)
    for rate in (1e-5, 3e-5, 1e-4, 3e-4, 1e-3):
        limit = different[max(int(rate * len(different)) - 1, 0)]
        told[f"false-match rate {rate:g}"] = vars(
            link_quality(link(found, near, far, *places, max_distance=limit), ids)
        )
    looks = np.unique(looks_of(options), return_inverse=True)[1]
    return told | {"colour and type": vars(link_quality(looks, ids))}


def looks_of(options: argparse.Namespace) -> list[str]:
    """Colour and type of each crop."""
    from multitasknet import Predictor, read_dataset

    data = read_dataset(options.folder / "vehicles", ["query", "gallery"])
    predictor = Predictor(options.weights, batch_size=32, pose="none")
    found = predictor.stream([*data.query.records, *data.gallery.records])
    return [f"{one.color} {one.type}" for one in found]


@dataclass(frozen=True)
class LinkQuality:
    """How groups of images agree with the vehicles that they show.

    Attributes:
        precision, recall: of pairs of images in one group; 0 without any.
        id_f1: of images, under the best one-to-one matching of groups with vehicles (Ristani et
            al., "Performance Measures and a Data Set for Multi-Target, Multi-Camera Tracking",
            ECCVW 2016).
    """

    precision: float
    recall: float
    id_f1: float


def link_quality(groups: np.ndarray, vehicles: np.ndarray) -> LinkQuality:
    """Compare groups with the truth: integers ``[N]`` each."""
    from scipy.optimize import linear_sum_assignment

    found, truth = (np.unique(one, return_inverse=True)[1] for one in (groups, vehicles))
    shared = np.zeros((found.max() + 1, truth.max() + 1), dtype=np.int64)
    np.add.at(shared, (found, truth), 1)
    right, made, wanted = (
        _pairs(counts) for counts in (shared, shared.sum(axis=1), shared.sum(axis=0))
    )
    matched = shared[linear_sum_assignment(shared, maximize=True)].sum()
    return LinkQuality(
        precision=float(right / made) if made else 0.0,
        recall=float(right / wanted) if wanted else 0.0,
        id_f1=float(matched / len(found)),
    )


def _pairs(counts: np.ndarray) -> int:
    return int((counts * (counts - 1) // 2).sum())


def kills(options: argparse.Namespace) -> dict[str, Any]:
    """Twenty of them, at random moments of adding, compacting and indexing."""
    test = HERE.parent / "tests" / "test_gallery_kills.py"
    line = [sys.executable, "-m", "pytest", "-q", "-m", "deep", str(test)]
    done = subprocess.run(line, cwd=HERE.parent, capture_output=True, text=True)
    return {"passed": done.returncode == 0, "said": done.stdout.strip().splitlines()[-1]}


def evaluation(options: argparse.Namespace) -> dict[str, Any]:
    """mAP and CMC of 200 queries in the whole gallery, exactly."""
    from multitasknet.ranking.metrics import evaluate_embeddings

    rows = np.load(options.folder / "rows.npy").astype(np.float32)
    with np.load(options.folder / "truth.npz") as truth:
        vehicles, cameras = truth["vehicles"], truth["cameras"]
    chosen = np.random.default_rng(3).choice(len(rows), QUERIES, replace=False)
    before = peak_gb()
    start = time.perf_counter()
    result = evaluate_embeddings(
        rows[chosen], rows, vehicles[chosen], vehicles, cameras[chosen], cameras
    )
    return {
        "seconds": time.perf_counter() - start, "GB before": before, "peak GB": peak_gb(),
        "mAP": result.mAP,
    }  # fmt: skip


def timed(call: Callable[[np.ndarray], Any], queries: np.ndarray) -> tuple[list[Any], list[float]]:
    """What a call gives for each query, ``[1, D]``, and its seconds."""
    found, seconds = [], []
    for query in queries:
        start = time.perf_counter()
        found.append(call(query[None]))
        seconds.append(time.perf_counter() - start)
    return found, seconds


def percentiles(seconds: list[float]) -> dict[str, float]:
    return {f"p{p} ms": 1000 * float(np.percentile(seconds, p)) for p in (50, 95)}


def as_markdown(measured: dict[str, Any]) -> str:
    lines = [
        "# A gallery store of a million rows",
        "",
        f"Written by `gallery.py`; {os.cpu_count()} cores, each part in a process of its own. The "
        "vectors are resampled from embeddings of the network on generated vehicles; all details "
        "are in `gallery.json`.",
        "",
        "| what | measured | goal |",
        "| --- | --- | --- |",
    ]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in table_rows(measured)), ""])


def table_rows(measured: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """What was measured so far, with the goals of those that have one."""
    if facts := measured.get("write"):
        yield "all columns, compacted", f"{facts['GB']:.2f} GB", "2.8 GB"
        yield "writing rows that are computed", f"{facts['rows/s']:,.0f} rows/s", ""
    if facts := measured.get("index"):
        took = f"{facts['minutes']:.1f} minutes, {facts['peak GB']:.1f} GB of memory"
        yield "building and measuring the index", took, "15 minutes, 4 GB"
        yield "all columns and indexes", f"{facts['GB with index']:.2f} GB", ""
    searches = measured.get("search", {})
    for name, facts in searches.items():
        if name.endswith("rows"):
            goal = 50 if name.startswith("100 ") else 150
            found = f"recall@10 {facts['recall']:.3f}, {times(facts)}"
            yield f"search among {name}", found, f"0.95, p95 {goal} ms"
    if searches:
        yield "search, each row compared", times(searches["exact"]), ""
    if facts := measured.get("adding"):
        rates = (f"{np.median(facts[one]):.0f}" for one in ("adding", "engine"))
        shown = f"{facts['ratio']:.2f} ({' of '.join(rates)} crops/s)"
        yield "adding crops, of the engine alone", shown, "0.9"
    if facts := measured.get("ray"):
        yield "adding by Ray, two actors, its start included", f"{facts['rows/s']:.0f} crops/s", ""
    for name, facts in measured.get("linking", {}).items():
        if isinstance(facts, dict):
            quality = f"precision {facts['precision']:.2f}, recall {facts['recall']:.3f}"
            goal = "0.9 at 0.5" if "rate" in name else ""
            yield f"linking by {name}", f"{quality}, ID F1 {facts['id_f1']:.2f}", goal
    if facts := measured.get("kills"):
        yield "twenty kills", facts["said"], "no row lost, none twice"
    if facts := measured.get("evaluation"):
        more = facts["peak GB"] - facts["GB before"]
        took = f"{facts['seconds']:.0f} s, {more:.1f} GB over reading its input"
        yield f"mAP and CMC of {QUERIES} queries, exactly", took, "bounded memory"


def times(facts: dict[str, float]) -> str:
    return f"p50 {facts['p50 ms']:.0f} ms, p95 {facts['p95 ms']:.0f} ms"


PARTS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "vectors": vectors,
    "write": write,
    "index": index,
    "search": search,
    "adding": adding,
    "ray": ray,
    "linking": linking,
    "kills": kills,
    "evaluation": evaluation,
}

if __name__ == "__main__":
    main()
