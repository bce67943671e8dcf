"""Images/s and peak memory of every engine beside PyTorch's modes, on the same topology.

    python benchmarks/serving.py [--variants segment rgb heatmap] [--batches 1 8 32] [--rounds 5]

Each engine lives in a process of its own, and only MindSpore's is held to AVX2; they run in turn
(A B C A B C ...), one at a time, so
that what disturbs the machine disturbs all. Then end to end from JPEG files, and a cold start.
Writes serving.json, serving.md and serving.svg beside this file. Weights are random; nothing is
downloaded. Needs the extras [onnx] and [torch], and matplotlib.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
PHOTO = ROOT / "assets" / "example.jpg"
Run = Callable[[np.ndarray, np.ndarray], Any]
COLD = """
import sys
from multitasknet import Predictor
Predictor({weights!r}, cache_dir={cache!r}, backend={backend!r}).predict([{photo!r}])
assert {backend!r} != "onnx" or "mindspore" not in sys.modules
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--variants", nargs="+", default=["segment", "rgb", "heatmap"])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8, 32])
    parser.add_argument("--rounds", type=int, default=5, help="counted runs of each (5)")
    parser.add_argument("--engines", nargs="+", default=list(ENGINES), choices=ENGINES)
    options = parser.parse_args()
    rows: list[dict] = []
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for variant in options.variants:
            files = prepare(Path(folder), variant)
            load = os.getloadavg()[0]
            rows += side_by_side(files, variant, options)
            figures = {
                "cpus": os.cpu_count(),
                "load": {**figures.get("load", {}), variant: [load, os.getloadavg()[0]]},
                "forward": rows,
                "end_to_end": end_to_end(files, options.rounds),
                "cold_start": cold_start(files, options.rounds),
            }
            (HERE / "serving.json").write_text(json.dumps(figures, indent=1) + "\n")
            (HERE / "serving.md").write_text(report(figures))
            draw(rows, HERE / "serving.svg")


# The engines: each takes the prepared files and gives what runs a batch.


def mindspore_cell(files: dict[str, str]) -> Run:
    from multitasknet import create_network
    from multitasknet.inference.mindspore_engine import MindSporeEngine

    return MindSporeEngine(create_network(weights=files["weights"])).run


def mindspore_compiled(files: dict[str, str]) -> Run:
    from multitasknet.inference import mindspore_engine

    mindspore_engine._RUNS_BEFORE_COMPILING = 0
    return mindspore_cell(files)


def onnx_engine(files: dict[str, str]) -> Run:
    from multitasknet.inference.onnx_engine import OnnxEngine

    return OnnxEngine(files["onnx"]).run


def onnx_int8(files: dict[str, str]) -> Run:
    from multitasknet.inference.onnx_engine import OnnxEngine

    return OnnxEngine(files["int8"]).run


def torch_eager(files: dict[str, str]) -> Run:
    import torch

    network = _torch_network(files)

    def run(x: np.ndarray, p: np.ndarray) -> Any:
        with torch.no_grad():
            return network(torch.from_numpy(x), torch.from_numpy(p))

    return run


def torch_channels_last(files: dict[str, str]) -> Run:
    import torch

    network = _torch_network(files).to(memory_format=torch.channels_last)

    def run(x: np.ndarray, p: np.ndarray) -> Any:
        with torch.no_grad():
            image = torch.from_numpy(x).contiguous(memory_format=torch.channels_last)
            return network(image, torch.from_numpy(p))

    return run


def torch_bfloat16(files: dict[str, str]) -> Run:
    import torch

    run = torch_channels_last(files)

    def in_bfloat16(x: np.ndarray, p: np.ndarray) -> Any:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return run(x, p)

    return in_bfloat16


def torch_compiled(files: dict[str, str]) -> Run:
    import torch

    network = torch.compile(_torch_network(files).to(memory_format=torch.channels_last))

    def run(x: np.ndarray, p: np.ndarray) -> Any:
        with torch.no_grad():
            image = torch.from_numpy(x).contiguous(memory_format=torch.channels_last)
            return network(image, torch.from_numpy(p))

    return run


def torch_export(files: dict[str, str]) -> Run:
    import onnxruntime

    session = onnxruntime.InferenceSession(files["torch_onnx"])
    return lambda x, p: session.run(None, {"x": x, "p": p})


ENGINES: dict[str, Callable[[dict[str, str]], Run]] = {
    "MindSpore, the Cell": mindspore_cell,
    "MindSpore, the Cell, graph": mindspore_compiled,
    "ONNX, ours": onnx_engine,
    "ONNX INT8, ours": onnx_int8,
    "PyTorch eager": torch_eager,
    "PyTorch channels-last": torch_channels_last,
    "PyTorch bfloat16": torch_bfloat16,
    "PyTorch compile": torch_compiled,
    "ONNX Runtime, PyTorch's export": torch_export,
}

RATIOS = (
    ("MindSpore, best mode / PyTorch, best mode (1)", "MindSpore", "PyTorch"),
    ("ONNX / PyTorch, best mode (1.5)", "ONNX, ours", "PyTorch"),
    ("ONNX / ONNX Runtime on PyTorch's export (1)", "ONNX, ours", "ONNX Runtime"),
    ("INT8 / ONNX (1.6)", "ONNX INT8, ours", "ONNX, ours"),
)


def prepare(folder: Path, variant: str) -> dict[str, str]:
    """The same random weights in every engine's format; in a process of its own."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_prepare, (folder / variant, variant))


def _prepare(folder: Path, variant: str) -> dict[str, str]:
    import torch

    from multitasknet import NetworkSpec, Predictor, convert, quantize
    from multitasknet.models.multitasknet.spec import Variant

    folder.mkdir()
    names = ("weights.pth", "weights.ckpt", "int8.onnx", "torch.onnx")
    state, weights, int8, torch_onnx = (folder / name for name in names)
    spec = NetworkSpec(Variant(variant), stem_pool="symmetric")
    torch.save(_torch_class()(spec).state_dict(), state)
    convert(state, weights)
    predictor = Predictor(weights, backend="onnx", cache_dir=folder)
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 256, (128, 128, 3), dtype=np.uint8) for _ in range(12)]
    quantize(int8, predictor, noise, min_cosine=0)
    files = {
        "variant": variant,
        "state": str(state),
        "weights": str(weights),
        "cache": str(folder),
        "onnx": str(next((folder / "onnx").glob("*.onnx"))),
        "int8": str(int8),
        "torch_onnx": str(torch_onnx),
    }
    torch.onnx.export(
        _torch_network(files),
        tuple(map(torch.from_numpy, inputs(variant, 2))),
        str(torch_onnx),
        input_names=["x", "p"],
        dynamic_axes={"x": {0: "batch"}, "p": {0: "batch"}},
        dynamo=False,
    )
    return files


def _torch_class() -> Any:
    sys.path.insert(0, str(ROOT / "tests"))
    from torch_network import TorchNet

    return TorchNet


def _torch_network(files: dict[str, str]) -> Any:
    import torch

    from multitasknet import NetworkSpec
    from multitasknet.models.multitasknet.spec import Variant

    network = _torch_class()(NetworkSpec(Variant(files["variant"])))
    network.load_state_dict(torch.load(files["state"], weights_only=True))
    return network


def inputs(variant: str, batch: int) -> tuple[np.ndarray, np.ndarray]:
    from multitasknet.models.multitasknet.spec import Variant

    rng = np.random.default_rng(batch)
    x = rng.normal(size=(batch, Variant(variant).channels, 256, 256)).astype(np.float32)
    return x, rng.uniform(-0.5, 0.5, (batch, 108)).astype(np.float32)


def side_by_side(files: dict[str, str], variant: str, options: argparse.Namespace) -> list[dict]:
    context = multiprocessing.get_context("spawn")
    workers: dict[str, Connection] = {}
    for name in options.engines:
        ours, theirs = context.Pipe()
        context.Process(target=_work, args=(name, files, theirs), daemon=True).start()
        workers[name] = ours
    rows = []
    for batch in options.batches:
        times: dict[str, list[float]] = {name: [] for name in workers}
        memory = {}
        for turn in range(options.rounds + 1):
            for name, worker in workers.items():
                worker.send(batch)
                seconds, memory[name] = worker.recv()
                if turn:  # the first compiles, and warms up
                    times[name].append(seconds)
        for name in workers:
            rate = batch / statistics.median(times[name])
            best = batch / min(times[name])
            rows.append(
                {
                    "variant": variant,
                    "batch": batch,
                    "engine": name,
                    "images_per_second": round(rate, 2),
                    "best": round(best, 2),
                    "peak_megabytes": round(memory[name]),
                }
            )
            print(
                f"{variant:8} batch {batch:2}  {name:31} {rate:7.1f} images/s "
                f"(best {best:6.1f}) {memory[name]:6.0f} MB",
                flush=True,
            )
    for worker in workers.values():
        worker.send(None)
    return rows


def _work(name: str, files: dict[str, str], parent: Connection) -> None:
    run = ENGINES[name](files)
    while batch := parent.recv():
        x, p = inputs(files["variant"], batch)
        start = time.perf_counter()
        run(x, p)
        parent.send((time.perf_counter() - start, _peak_megabytes()))


def _peak_megabytes() -> float:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def end_to_end(files: dict[str, str], rounds: int) -> dict[str, float]:
    """Images/s from JPEG files to predictions, with the last variant."""
    from multitasknet import Predictor

    predictors = {
        "MindSpore": Predictor(files["weights"], backend="mindspore"),
        "ONNX": Predictor(files["onnx"]),
        "ONNX INT8": Predictor(files["int8"]),
    }
    images = [PHOTO] * 32
    poses = [np.full((36, 3), 50, np.float32)] * len(images)
    times: dict[str, list[float]] = {name: [] for name in predictors}
    for turn in range(rounds + 1):
        for name, predictor in predictors.items():
            start = time.perf_counter()
            predictor.predict(images, poses)
            if turn:
                times[name].append(time.perf_counter() - start)
    rates = {name: round(len(images) / min(seconds), 1) for name, seconds in times.items()}
    for name, rate in rates.items():
        print(f"from JPEG files, {files['variant']}: {name:10} {rate:6.1f} images/s at best")
    return rates


def cold_start(files: dict[str, str], rounds: int) -> dict[str, float]:
    """Seconds of a whole process that predicts one image; the export is in the cache already."""
    medians = {}
    for backend in ("onnx", "mindspore"):
        code = COLD.format(
            weights=files["weights"], cache=files["cache"], photo=str(PHOTO), backend=backend
        )
        times = []
        for _ in range(rounds + 1):
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True, stderr=subprocess.DEVNULL)
            times.append(time.perf_counter() - start)
        medians[backend] = round(statistics.median(times[1:]), 2)
        print(f"cold start, {backend:9} {medians[backend]:5.2f} s")
    return medians


def report(figures: dict[str, Any]) -> str:
    """The figures as Markdown tables: images/s (peak MB), and the ratios that have goals."""
    rows = figures["forward"]
    columns = list(dict.fromkeys((row["variant"], row["batch"]) for row in rows))
    cells = {(row["engine"], row["variant"], row["batch"]): row for row in rows}
    names = [f"{variant}, {batch}" for variant, batch in columns]
    lines = [
        "# Serving: images/s (peak MB) by variant and batch",
        "",
        f"Written by `serving.py`; {figures['cpus']} cores. Best of the rounds (the medians are in "
        "`serving.json`), 256x256, float32 unless said. Load average before and after: "
        f"{figures['load']}.",
        "",
        "| engine | " + " | ".join(names) + " |",
        "| --- |" + " ---: |" * len(columns),
    ]
    for engine in dict.fromkeys(row["engine"] for row in rows):
        found = [cells[(engine, *column)] for column in columns]
        texts = [f"{row['best']:.1f} ({row['peak_megabytes']})" for row in found]
        lines.append(f"| {engine} | " + " | ".join(texts) + " |")
    lines += ["", "| ratio (goal) | " + " | ".join(names) + " |"]
    lines.append("| --- |" + " ---: |" * len(columns))
    for title, ours, theirs in RATIOS:
        ratios = [_best(cells, ours, column) / _best(cells, theirs, column) for column in columns]
        lines.append(f"| {title} | " + " | ".join(f"{ratio:.2f}" for ratio in ratios) + " |")
    for title, values in (("end_to_end", "images/s from JPEG files"), ("cold_start", "s")):
        texts = [f"{name} {value} {values}" for name, value in figures[title].items()]
        lines += ["", f"{title.replace('_', ' ').capitalize()}: {', '.join(texts)}."]
    return "\n".join(lines) + "\n"


def _best(cells: dict[tuple, dict], start: str, column: tuple[str, int]) -> float:
    """Images/s of the fastest engine whose name starts so."""
    return max(
        row["best"]
        for (engine, *place), row in cells.items()
        if engine.startswith(start) and tuple(place) == column
    )


def draw(rows: list[dict], path: Path) -> None:
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    variants = list(dict.fromkeys(row["variant"] for row in rows))
    batches = list(dict.fromkeys(row["batch"] for row in rows))
    engines = list(dict.fromkeys(row["engine"] for row in rows))
    figure, axes = pyplot.subplots(
        1, len(variants), figsize=(4 * len(variants) + 2, 4.5), sharey=True, squeeze=False
    )
    height = 0.8 / len(batches)
    for axis, variant in zip(axes[0], variants, strict=True):
        for index, batch in enumerate(batches):
            rates = {
                row["engine"]: row["best"]
                for row in rows
                if (row["variant"], row["batch"]) == (variant, batch)
            }
            places = np.arange(len(engines)) + index * height
            axis.barh(places, [rates[name] for name in engines], height, label=f"batch {batch}")
        axis.set_title(variant)
        axis.set_xlabel("images/s")
        axis.set_yticks(np.arange(len(engines)) + 0.4 - height / 2, engines)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0][0].invert_yaxis()
    axes[0][-1].legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path)


if __name__ == "__main__":
    main()
