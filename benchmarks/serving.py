"""Images/s, latency and memory of every engine beside PyTorch's modes, on the same topology.

    python benchmarks/serving.py [--networks multitasknet poseestnet vehiclepose] [--quick]
        [--batches 1 8 32] [--rounds 5] [--seconds 1]

Each engine lives in a process of its own, and only MindSpore's is held to AVX2; they run in turn
(A B C A B C ...), one at a time, so that what disturbs the machine disturbs all. Writes
serving.json and serving.md beside this file (or into --output) after each batch size. Weights are
random; nothing is downloaded. Needs the extras [openvino] and [torch].
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
SIDE = 256
# Before a turn, in seconds: the threads of the engine before may spin for a while.
PAUSE = 0.3
Files = dict[str, str]
Run = Callable[..., Any]
CPU_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_bf16", "amx_int8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=NETWORKS)
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8, 32])
    parser.add_argument("--rounds", type=int, default=5, help="counted turns of each engine (5)")
    parser.add_argument("--seconds", type=float, default=1, help="of a turn at least (1)")
    parser.add_argument("--engines", nargs="+", default=list(ENGINES), choices=ENGINES)
    parser.add_argument("--quick", action="store_true", help="a trial: a turn each, batch 1")
    parser.add_argument("--output", type=Path, default=HERE, metavar="DIR")
    options = parser.parse_args()
    if options.quick:
        options.batches, options.rounds, options.seconds = [1], 1, 0
    figures: dict[str, Any] = {"processor": processor(), "load": {}, "rows": []}
    with tempfile.TemporaryDirectory() as folder:
        for network in options.networks:
            files = in_a_process(prepare, Path(folder, network), network)
            load = os.getloadavg()[0]
            for rows in side_by_side(network, files, options):
                figures["rows"] += rows
                figures["load"][network] = [load, os.getloadavg()[0]]
                write(figures, options.output)


def processor() -> str:
    """The processor's name, cores that this process may use, and instruction sets that matter."""
    from multitasknet.runtime import usable_cores

    lines = Path("/proc/cpuinfo").read_text().splitlines()
    stated = dict(reversed([[part.strip() for part in x.split(":", 1)] for x in lines if ":" in x]))
    found = [flag for flag in CPU_FLAGS if flag in stated["flags"].split()]
    return f"{stated['model name']}, {usable_cores()} cores, {', '.join(found)}"


def in_a_process(work: Callable[..., Any], *arguments: Any) -> Any:
    """What a fresh process makes of it: no engine's threads and memory stay behind."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(work, arguments)


# The networks in PyTorch, with random weights.


def multitasknet() -> Any:
    from torch_network import TorchNet

    from multitasknet import MultiTaskNetSpec
    from multitasknet.models.multitasknet.spec import Variant

    return TorchNet(MultiTaskNetSpec(Variant.SEGMENT, stem_pool="symmetric"))


def poseestnet() -> Any:
    from torch_hrnet import PoseHighResolutionNet

    return PoseHighResolutionNet()


def vehiclepose() -> Any:
    from train_vehiclepose import VehiclePose

    return VehiclePose()


NETWORKS: dict[str, Callable[[], Any]] = {
    "multitasknet": multitasknet,
    "poseestnet": poseestnet,
    "vehiclepose": vehiclepose,
}


def torch_network(network: str, state: str = "") -> Any:
    import torch

    sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "examples")]
    built = NETWORKS[network]()
    torch.set_num_threads(len(os.sched_getaffinity(0)))  # one of the modules takes one thread
    if state:
        built.load_state_dict(torch.load(state, weights_only=True))
    return built.eval()


# The engines: each takes the prepared files and gives what runs a batch.


def ours(files: Files, *, file: str = "onnx", **how: Any) -> Run:
    from multitasknet.inference.engines import EngineOptions, open_engine

    return open_engine(Path(files[file]), EngineOptions(**how)).run


def ours_mindspore(files: Files) -> Run:
    from multitasknet import create_network
    from multitasknet.inference.engines import EngineOptions, open_engine

    cell = create_network(files["network"], weights=files["weights"])
    return open_engine(cell, EngineOptions("mindspore")).run


def torch_mode(
    files: Files, *, last: bool = True, compiled: bool = False, bf16: bool = False
) -> Run:
    # Its compiling workers would start in the others' turns.
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
    import torch

    from multitasknet.inference.engines import has_bfloat16

    if bf16 and not has_bfloat16():
        raise RuntimeError("the processor has no bfloat16")  # emulated, a seventh of the speed
    network = torch_network(files["network"], files["state"])
    layout = torch.channels_last if last else torch.contiguous_format
    network = network.to(memory_format=layout)
    if compiled:
        network = torch.compile(network, dynamic=False)

    def run(image: np.ndarray, *rest: np.ndarray) -> Any:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            image = torch.from_numpy(image).contiguous(memory_format=layout)
            return network(image, *map(torch.from_numpy, rest))

    return run


def onnxruntime_on_export(files: Files) -> Run:
    import onnxruntime

    session = onnxruntime.InferenceSession(files["torch_onnx"])
    names = [one.name for one in session.get_inputs()]
    return lambda *inputs: session.run(None, dict(zip(names, inputs, strict=True)))


def openvino_on_export(files: Files, *, precision: str) -> Run:
    import openvino

    how = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": precision}
    compiled = openvino.Core().compile_model(files["torch_onnx"], "CPU", how)
    if compiled.get_property("INFERENCE_PRECISION_HINT").to_string() != precision:
        raise RuntimeError("the processor has no bfloat16")
    request = compiled.create_infer_request()
    return lambda *inputs: request.infer(list(inputs))


ENGINES: dict[str, Callable[[Files], Run]] = {
    "float32 ours, MindSpore": ours_mindspore,
    **{
        f"{precision} ours, {name}{', throughput' if aim == 'throughput' else ''}": partial(
            ours,
            file="int8" if precision == "int8" else "onnx",
            backend=backend,
            precision=precision,
            optimize_for=aim,
        )
        for precision, name, backend in (
            ("float32", "ONNX Runtime", "onnx"),
            ("float32", "OpenVINO", "openvino"),
            ("bfloat16", "OpenVINO", "openvino"),
            ("int8", "ONNX Runtime", "onnx"),
            ("int8", "OpenVINO", "openvino"),
        )
        for aim in ("latency", "throughput")
    },
    "float32 PyTorch eager": partial(torch_mode, last=False),
    "float32 PyTorch channels-last": torch_mode,
    "float32 PyTorch compile": partial(torch_mode, compiled=True),
    "bfloat16 PyTorch channels-last": partial(torch_mode, bf16=True),
    "bfloat16 PyTorch compile": partial(torch_mode, bf16=True, compiled=True),
    "float32 export, ONNX Runtime": onnxruntime_on_export,
    "float32 export, OpenVINO": partial(openvino_on_export, precision="f32"),
    "bfloat16 export, OpenVINO": partial(openvino_on_export, precision="bf16"),
}
# Title, what is compared with what: the fastest of the engines whose names start so.
RATIOS = (
    ("float32: ours / PyTorch", "float32 ours", "float32 PyTorch"),
    ("bfloat16: ours / PyTorch", "bfloat16 ours", "bfloat16 PyTorch"),
    ("INT8, ours / PyTorch's bfloat16", "int8 ours", "bfloat16 PyTorch"),
    ("INT8, ours / PyTorch's float32", "int8 ours", "float32 PyTorch"),
    ("float32: ONNX Runtime, our file / PyTorch's", "float32 ours, ONNX", "float32 export, ONNX"),
    ("float32: OpenVINO, our file / PyTorch's", "float32 ours, OpenV", "float32 export, OpenV"),
    ("bfloat16: OpenVINO, our file / PyTorch's", "bfloat16 ours", "bfloat16 export"),
)


def prepare(folder: Path, network: str) -> Files:
    """The same random weights in every engine's format."""
    import torch

    from multitasknet import PoseEstimator, Predictor, convert, quantize

    folder.mkdir(parents=True)
    built = torch_network(network)
    names = {"state": "state.pth", "weights": "weights.ckpt", "torch_onnx": "torch.onnx"}
    files = {key: str(folder / name) for key, name in (names | {"int8": "int8.onnx"}).items()}
    torch.save(built.state_dict(), files["state"])
    convert(files["state"], files["weights"])
    how: dict[str, Any] = {"backend": "onnx", "cache_dir": folder, "size": (SIDE, SIDE)}
    opener = partial(Predictor, pose="none") if network == "multitasknet" else PoseEstimator
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 256, (128, 128, 3), dtype=np.uint8) for _ in range(12)]
    quantize(files["int8"], opener(files["weights"], **how), noise, min_cosine=-1)
    files["network"] = network
    files["onnx"] = str(next((folder / "onnx").glob("*.onnx")))
    example = inputs(network, 2)
    taken = ["x", "p"][: len(example)]
    torch.onnx.export(
        built,
        tuple(map(torch.from_numpy, example)),
        files["torch_onnx"],
        input_names=taken,
        dynamic_axes={name: {0: "batch"} for name in taken},
        dynamo=False,
    )
    return files


def inputs(network: str, batch: int) -> list[np.ndarray]:
    """As :func:`side_by_side` gives them to an engine: an image, and the pose where it is taken."""
    rng = np.random.default_rng(batch)
    of_identity = network == "multitasknet"
    image = rng.normal(size=(batch, 16 if of_identity else 3, SIDE, SIDE)).astype(np.float32)
    pose = rng.uniform(-0.5, 0.5, (batch, 108)).astype(np.float32)
    return [image, pose] if of_identity else [image]


def side_by_side(
    network: str, files: Files, options: argparse.Namespace
) -> Iterator[list[dict[str, Any]]]:
    """A batch size after the other: a row for each engine that runs it."""
    context = multiprocessing.get_context("spawn")
    workers: dict[str, Connection] = {}
    for name in options.engines:
        ours, theirs = context.Pipe()
        context.Process(target=_work, args=(name, files, theirs), daemon=True).start()
        theirs.close()
        workers[name] = ours
    for batch in options.batches:
        turns: dict[str, list[list[float]]] = {name: [] for name in workers}
        memory: dict[str, float] = {}
        for turn in range(options.rounds + 1):
            for name, worker in list(workers.items()):
                try:
                    worker.send((batch, options.seconds if turn else 0))
                    times, memory[name] = worker.recv()
                except (EOFError, OSError):
                    times = "its process ended"
                if isinstance(times, str):
                    print(f"{network}: {name} is left out: {times}", file=sys.stderr, flush=True)
                    del workers[name], turns[name]
                elif turn:  # the first compiles, and warms up
                    turns[name].append(times)
        rows = []
        for name, of_turns in turns.items():
            rates = [batch / statistics.mean(times) for times in of_turns]
            times = [1000 * seconds for times in of_turns for seconds in times]
            rows.append(
                {
                    "network": network,
                    "batch": batch,
                    "engine": name,
                    "images_per_second": statistics.median(rates),
                    "spread": [min(rates), max(rates)],
                    "p50_ms": float(np.percentile(times, 50)),
                    "p95_ms": float(np.percentile(times, 95)),
                    "peak_megabytes": memory[name],
                }
            )
            print(f"{network:13} batch {batch:2}  {name:38} {rows[-1]['images_per_second']:7.1f}/s")
        yield rows
    for worker in workers.values():
        worker.send(None)


def _work(name: str, files: Files, parent: Connection) -> None:
    """Answer each (batch, seconds) with the seconds of each call, or why there are none."""
    try:
        run = ENGINES[name](files)
    # A rival that this machine cannot run is named, and the others go on.
    except Exception as error:
        run = error
    while asked := parent.recv():
        batch, seconds = asked
        arrays, times = inputs(files["network"], batch), []
        try:
            if isinstance(run, Exception):
                raise run
            time.sleep(PAUSE)
            run(*arrays)  # not counted: caches are the other engines', and threads asleep
            while not times or sum(times) < seconds:
                start = time.perf_counter()
                run(*arrays)
                times.append(time.perf_counter() - start)
        except Exception as error:
            parent.send((repr(error)[:200], 0))
            return
        parent.send((times, _peak_megabytes()))


def _peak_megabytes() -> float:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def write(figures: dict[str, Any], folder: Path) -> None:
    (folder / "serving.json").write_text(json.dumps(figures, indent=1) + "\n")
    (folder / "serving.md").write_text(report(figures))


def report(figures: dict[str, Any]) -> str:
    """The figures as Markdown tables, and ratios."""
    rows = figures["rows"]
    lines = [
        "# Serving",
        "",
        f"Written by `serving.py` on: {figures['processor']}. {SIDE}x{SIDE}. images/s: the median "
        "of the rounds (least to most); ms: a batch's, p50 and p95; MB: the process's peak so far.",
    ]
    for network in dict.fromkeys(row["network"] for row in rows):
        cells = {(row["engine"], row["batch"]): row for row in rows if row["network"] == network}
        batches = sorted({batch for _, batch in cells})
        load = " and ".join(f"{value:.1f}" for value in figures["load"][network])
        lines += ["", f"## {network}", "", f"Load average before and after: {load}.", ""]
        heads = [f"{batch}: images/s | ms | MB" for batch in batches]
        lines.append(f"| engine | {' | '.join(heads)} |")
        lines.append("| --- |" + " ---: | ---: | ---: |" * len(batches))
        for engine in dict.fromkeys(engine for engine, _ in cells):
            found = [_cell(cells.get((engine, batch))) for batch in batches]
            lines.append(f"| {engine} | {' | '.join(found)} |")
        lines += ["", f"| ratio | {' | '.join(map(str, batches))} |"]
        lines.append("| --- |" + " ---: |" * len(batches))
        for title, *sides in RATIOS:
            ours, theirs = ([_best(cells, side, batch) for batch in batches] for side in sides)
            ratios = [f"{one / other:.2f}" for one, other in zip(ours, theirs, strict=True)]
            lines.append(f"| {title} | {' | '.join(ratios)} |")
    return "\n".join(lines) + "\n"


def _cell(row: dict[str, Any] | None) -> str:
    if row is None:
        return "- | - | -"
    least, most = row["spread"]
    return (
        f"{row['images_per_second']:.1f} ({least:.1f}-{most:.1f}) | "
        f"{row['p50_ms']:.0f}, {row['p95_ms']:.0f} | {row['peak_megabytes']:.0f}"
    )


def _best(cells: dict[tuple[str, int], dict[str, Any]], start: str, batch: int) -> float:
    """Images/s of the fastest engine whose name starts so."""
    rates = [
        row["images_per_second"]
        for (engine, at), row in cells.items()
        if engine.startswith(start) and at == batch
    ]
    return max(rates, default=float("nan"))


if __name__ == "__main__":
    main()
