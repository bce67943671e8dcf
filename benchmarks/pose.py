"""PoseEstNet by every engine beside PyTorch, and each part of the way from a JPEG to an identity.

    python benchmarks/pose.py [--batches 1 8] [--rounds 5] [--size 256] [--weights FILE --data ROOT]

Each engine lives in a process of its own; they run in turn (A B C A B C ...), one at a time, so
that what disturbs the machine disturbs all. Weights are random unless a file is given; then INT8 is
calibrated on that data set's training images, and its PCK and float32's are measured on the rest.
Writes pose.json and pose.md beside this file. Nothing is downloaded. Needs the extras [onnx] and
[torch].
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
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
Run = Callable[[np.ndarray], Any]
CALIBRATION = 60


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--rounds", type=int, default=5, help="counted runs of each (5)")
    parser.add_argument("--size", type=int, default=256, help="side of the input (256)")
    parser.add_argument("--weights", type=Path, help="trained weights, for the cost of INT8")
    parser.add_argument("--data", type=Path, help="a data set with keypoints, for the same")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        files = in_a_process(prepare, Path(folder), options)
        figures = {
            "cpus": os.cpu_count(),
            "size": options.size,
            "weights": "random" if options.weights is None else options.weights.name,
            "load": [os.getloadavg()[0]],
            "forward": side_by_side(files, options),
            "parts": in_a_process(parts, files, options),
            "int8": files["int8_report"],
        }
        figures["load"].append(os.getloadavg()[0])
    (HERE / "pose.json").write_text(json.dumps(figures, indent=1) + "\n")
    (HERE / "pose.md").write_text(report(figures))
    print(report(figures))


def in_a_process(work: Callable[..., Any], *arguments: Any) -> Any:
    """What a fresh process makes of it: no engine's threads and memory stay behind."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(work, arguments)


# The engines: each takes the prepared files and gives what runs a batch.


def onnx_engine(files: dict[str, Any]) -> Run:
    from multitasknet.inference.onnx_engine import OnnxEngine

    return OnnxEngine(files["onnx"]).run


def onnx_int8(files: dict[str, Any]) -> Run:
    from multitasknet.inference.onnx_engine import OnnxEngine

    return OnnxEngine(files["int8"]).run


def torch_eager(files: dict[str, Any]) -> Run:
    import torch

    network = _torch_network(files)

    def run(x: np.ndarray) -> Any:
        with torch.inference_mode():
            return network(torch.from_numpy(x))

    return run


def torch_channels_last(files: dict[str, Any]) -> Run:
    import torch

    network = _torch_network(files).to(memory_format=torch.channels_last)

    def run(x: np.ndarray) -> Any:
        with torch.inference_mode():
            return network(torch.from_numpy(x).contiguous(memory_format=torch.channels_last))

    return run


def torch_frozen(files: dict[str, Any]) -> Run:
    import torch

    example = torch.from_numpy(inputs(files, 1))
    with torch.inference_mode():
        traced = torch.jit.freeze(torch.jit.trace(_torch_network(files), example))
        traced = torch.jit.optimize_for_inference(traced)

    def run(x: np.ndarray) -> Any:
        with torch.inference_mode():
            return traced(torch.from_numpy(x))

    return run


def torch_compiled(files: dict[str, Any]) -> Run:
    import torch

    network = torch.compile(_torch_network(files).to(memory_format=torch.channels_last))

    def run(x: np.ndarray) -> Any:
        with torch.inference_mode():
            return network(torch.from_numpy(x).contiguous(memory_format=torch.channels_last))

    return run


def torch_bfloat16(files: dict[str, Any]) -> Run:
    import torch

    run = torch_channels_last(files)

    def in_bfloat16(x: np.ndarray) -> Any:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return run(x)

    return in_bfloat16


def torch_export(files: dict[str, Any]) -> Run:
    import onnxruntime

    session = onnxruntime.InferenceSession(files["torch_onnx"])
    return lambda x: session.run(None, {"x": x})


ENGINES: dict[str, Callable[[dict[str, Any]], Run]] = {
    "ONNX, ours": onnx_engine,
    "ONNX INT8, ours": onnx_int8,
    "PyTorch eager": torch_eager,
    "PyTorch channels-last": torch_channels_last,
    "PyTorch frozen": torch_frozen,
    "PyTorch compile": torch_compiled,
    "bfloat16 PyTorch channels-last": torch_bfloat16,
    "ONNX Runtime, PyTorch's export": torch_export,
}
RATIOS = (
    ("ONNX / PyTorch float32, best mode (1)", "ONNX, ours", "PyTorch"),
    ("ONNX / PyTorch bfloat16", "ONNX, ours", "bfloat16"),
    ("ONNX / ONNX Runtime on PyTorch's export", "ONNX, ours", "ONNX Runtime"),
    ("INT8 / ONNX (2)", "ONNX INT8, ours", "ONNX, ours"),
)


def prepare(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """The same weights in every engine's format, and INT8 with what it costs."""
    import torch

    from multitasknet import PoseEstimator, convert, quantize

    files: dict[str, Any] = {"size": options.size, "folder": str(folder)}
    names = {"ckpt": "pose.ckpt", "state": "pose.pth", "int8": "int8.onnx", "torch_onnx": "t.onnx"}
    files |= {key: str(folder / name) for key, name in names.items()}
    if options.weights is None:
        torch.save({"state_dict": _torch_class()().state_dict()}, files["state"])
        convert(files["state"], files["ckpt"])
    else:
        convert(options.weights, files["ckpt"])
        convert(options.weights, files["state"])
    size = (options.size, options.size)
    estimator = PoseEstimator(files["ckpt"], backend="onnx", cache_dir=folder, size=size)
    images, truth = _calibration(options)
    cost = quantize(files["int8"], estimator, images, truth, min_cosine=0)
    files["int8_report"] = {
        "images": cost.compared_on,
        "map_cosine": cost.map_cosine,
        "shift": cost.shift,
        "pck": cost.pck if options.weights else None,
    }
    files["onnx"] = str(next((folder / "onnx").glob("*.onnx")))
    torch.onnx.export(
        _torch_network(files),
        (torch.from_numpy(inputs(files, 2)),),
        files["torch_onnx"],
        input_names=["x"],
        dynamic_axes={"x": {0: "batch"}},
        dynamo=False,
    )
    return files


def _calibration(options: argparse.Namespace) -> tuple[list[Any], list[Any] | None]:
    if options.data is None:
        rng = np.random.default_rng(0)
        return [rng.integers(0, 256, (128, 128, 3), dtype=np.uint8) for _ in range(12)], None
    from multitasknet import read_dataset

    dataset = read_dataset(options.data, check=False)
    learnt, unseen = dataset.train.records, dataset.gallery.records or dataset.query.records
    records = [*learnt[:: len(learnt) // CALIBRATION + 1]]
    # A quarter is what the cost is measured on.
    records += unseen[: max(len(records) // 3, 1)]
    return [record.image for record in records], [record.keypoints for record in records]


def _torch_class() -> Any:
    sys.path.insert(0, str(ROOT / "tests"))
    from torch_hrnet import PoseHighResolutionNet

    return PoseHighResolutionNet


def _torch_network(files: dict[str, Any]) -> Any:
    import torch

    network = _torch_class()()
    # The tests' module takes one thread.
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    state = torch.load(files["state"], weights_only=True)["state_dict"]
    network.load_state_dict(state, strict=False)
    if "final_layer.bias" not in state:
        torch.nn.init.zeros_(network.final_layer.bias)
    return network.eval()


def inputs(files: dict[str, Any], batch: int) -> np.ndarray:
    rng = np.random.default_rng(batch)
    return rng.normal(size=(batch, 3, files["size"], files["size"])).astype(np.float32)


def side_by_side(files: dict[str, Any], options: argparse.Namespace) -> list[dict[str, Any]]:
    context = multiprocessing.get_context("spawn")
    workers: dict[str, Connection] = {}
    for name in ENGINES:
        ours, theirs = context.Pipe()
        context.Process(target=_work, args=(name, files, theirs), daemon=True).start()
        workers[name] = ours
    rows = []
    for batch in options.batches:
        times: dict[str, list[float]] = {name: [] for name in workers}
        for turn in range(options.rounds + 1):
            for name, worker in list(workers.items()):
                worker.send(batch)
                seconds = worker.recv()
                if isinstance(seconds, str):
                    print(f"{name}: left out: {seconds}", file=sys.stderr)
                    del workers[name]
                elif turn:  # the first compiles, and warms up
                    times[name].append(seconds)
        for name in workers:
            rates = batch / statistics.median(times[name]), batch / min(times[name])
            rows.append({"batch": batch, "engine": name, "median": rates[0], "best": rates[1]})
            print(f"batch {batch}  {name:31} {rates[0]:6.2f} images/s (best {rates[1]:6.2f})")
    for worker in workers.values():
        worker.send(None)
    return rows


def _work(name: str, files: dict[str, Any], parent: Connection) -> None:
    run: Run | None = None
    while batch := parent.recv():
        try:
            run = run or ENGINES[name](files)
            x = inputs(files, batch)
            start = time.perf_counter()
            run(x)
            parent.send(time.perf_counter() - start)
        # A rival that this machine cannot run is named, and the others go on.
        except Exception as error:
            parent.send(repr(error)[:200])
            return


def parts(files: dict[str, Any], options: argparse.Namespace) -> dict[str, float]:
    """Milliseconds an image of each part from a JPEG to an identity, and of all together."""
    from multitasknet import PoseEstimator, Predictor, create_network, export
    from multitasknet.data.samples import batch_inputs, make_sample
    from multitasknet.images import read_image
    from multitasknet.models.poseestnet.decoding import find_peaks, keypoints_in_image, unmirrored

    size, count = (files["size"], files["size"]), max(options.batches)
    identity = Path(files["folder"], "identity.onnx")
    export(identity, network=create_network(weights=None))
    estimator = PoseEstimator(files["onnx"], size=size, batch_size=count)
    predictor = Predictor(identity, pose=estimator, batch_size=count)
    pixels = [read_image(PHOTO)] * count
    samples = [make_sample(one, None, estimator.spec) for one in pixels]
    (x,) = batch_inputs(samples, estimator.spec, size)
    (maps,) = estimator.run(x)
    height, width = pixels[0].shape[:2]
    poses = [pose.keypoints for pose in estimator.estimate_pixels(pixels)]
    posed = [
        make_sample(one, pose, predictor.spec) for one, pose in zip(pixels, poses, strict=True)
    ]
    inputs_of_identity = batch_inputs(posed, predictor.spec, predictor.size)

    def decode() -> None:
        averaged = (maps + unmirrored(maps)) * np.float32(0.5)
        for one in find_peaks(averaged):
            keypoints_in_image(one, width=width, height=height, size=size)

    def assemble() -> None:
        batch_inputs(
            [make_sample(a, b, predictor.spec) for a, b in zip(pixels, poses, strict=True)],
            predictor.spec,
            predictor.size,
        )

    work = {
        "decode the JPEG": lambda: [read_image(PHOTO) for _ in range(count)],
        "warp": lambda: batch_inputs(samples, estimator.spec, size),
        "pose network, both ways": lambda: (estimator.run(x), estimator.run(x)),
        "decode the maps": decode,
        "draw and assemble": assemble,
        "identity network": lambda: predictor.run(*inputs_of_identity),
        "all of it, overlapped": lambda: predictor.predict([PHOTO] * count),
    }
    times: dict[str, list[float]] = {name: [] for name in work}
    for turn in range(options.rounds + 1):
        for name, run in work.items():
            start = time.perf_counter()
            run()
            if turn:
                times[name].append(1000 * (time.perf_counter() - start) / count)
    return {name: statistics.median(values) for name, values in times.items()}


def report(figures: dict[str, Any]) -> str:
    """The figures as Markdown tables."""
    rows = figures["forward"]
    batches = list(dict.fromkeys(row["batch"] for row in rows))
    cells = {(row["engine"], row["batch"]): row["best"] for row in rows}
    size = figures["size"]
    lines = [
        "# PoseEstNet: images/s by batch",
        "",
        f"Written by `pose.py`; {figures['cpus']} cores, {size}x{size}, weights "
        f"{figures['weights']}. Best of the rounds (medians in `pose.json`). Load average before "
        f"and after: {figures['load'][0]:.1f}, {figures['load'][1]:.1f}.",
        "",
        "| engine | " + " | ".join(f"batch {batch}" for batch in batches) + " |",
        "| --- |" + " ---: |" * len(batches),
    ]
    for engine in dict.fromkeys(row["engine"] for row in rows):
        texts = [f"{cells[engine, batch]:.1f}" for batch in batches]
        lines.append(f"| {engine} | {' | '.join(texts)} |")
    for title, ours, theirs in RATIOS:
        texts = [f"{_best(cells, ours, b) / _best(cells, theirs, b):.2f}" for b in batches]
        lines.append(f"| {title} | {' | '.join(texts)} |")
    lines += ["", "| part, one batch of the largest | ms an image |", "| --- | ---: |"]
    lines += [f"| {name} | {value:.2f} |" for name, value in figures["parts"].items()]
    cost = figures["int8"]
    lines += [
        "",
        f"INT8 on {cost['images']} images: maps' cosine with float32 {cost['map_cosine']:.4f}, "
        f"keypoints moved by {cost['shift']:.2%} of the longer side on average"
        + (
            f"; PCK@0.05 {cost['pck'][0]:.2%} in float32, {cost['pck'][1]:.2%} in INT8."
            if cost["pck"]
            else "; random weights: no accuracy to lose."
        ),
    ]
    return "\n".join(lines) + "\n"


def _best(cells: dict[tuple[str, int], float], start: str, batch: int) -> float:
    """Images/s of the fastest engine whose name starts so."""
    found = (
        rate for (engine, at), rate in cells.items() if engine.startswith(start) and at == batch
    )
    return max(found, default=float("nan"))


if __name__ == "__main__":
    main()
