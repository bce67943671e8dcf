"""Images/s, latency and memory of every engine beside PyTorch's modes, on the same topology.

    python benchmarks/serving.py [--networks NAME ...] [--batches 1 8 32] [--rounds 5]

Each engine lives in a process of its own, and only MindSpore's is held to AVX2; they run in turn
(A B C A B C ...), one at a time, so that what disturbs the machine disturbs all. Writes serving.md
beside this file after each network. Weights are random; nothing is downloaded.
Needs the extras [openvino] and [torch].
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from tables import table

HERE = Path(__file__).resolve().parent
NETWORKS = ("multitasknet", "poseestnet", "vehiclepose")
SIDE = 256
SECONDS = 1  # of a turn at least
PAUSE = 0.3  # before a turn: the threads of the engine before may spin for a while
Run = Callable[..., Any]
CPU_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_bf16", "amx_int8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", default=NETWORKS, choices=NETWORKS)
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8, 32])
    parser.add_argument("--rounds", type=int, default=5, help="counted turns of each engine (5)")
    parser.add_argument("--engines", nargs="+", default=list(ENGINES), choices=ENGINES)
    options = parser.parse_args()
    text = (
        f"# Serving\n\nWritten by `serving.py` on: {processor()}. {SIDE}x{SIDE}. images/s: the "
        "median of the rounds (least to most); ms: a batch's, p50 and p95; MB: peak memory.\n"
    )
    with tempfile.TemporaryDirectory() as parent:
        for network in options.networks:
            folder = Path(parent, network)
            with own_process() as pool:
                pool.submit(prepare, folder).result()
            load = os.getloadavg()[0]
            tables = report(side_by_side(folder, options), options)
            text += (
                f"\n## {network}\n\nLoad average before and after: {load:.1f} and "
                f"{os.getloadavg()[0]:.1f}.\n\n{tables}\n"
            )
            HERE.joinpath("serving.md").write_text(text)
    print(text)


def processor() -> str:
    """The processor's name, cores that this process may use, and instruction sets that matter."""
    from multitasknet.runtime import usable_cores

    text = Path("/proc/cpuinfo").read_text()
    name = text.partition("model name")[2].partition("\n")[0].strip("\t :")
    flags = ", ".join(flag for flag in CPU_FLAGS if f" {flag} " in text)
    return f"{name}, {usable_cores()} cores, {flags}"


def own_process() -> ProcessPoolExecutor:
    """A fresh process: no engine's threads and memory stay in the others' way."""
    return ProcessPoolExecutor(1, get_context("spawn"))


# The engines: each takes the folder of ``prepare`` and gives what runs a batch. A network's folder
# has its name.


def torch_network(network: str) -> Any:
    """The network in PyTorch, with random weights."""
    import torch

    sys.path[:0] = [str(HERE.parent / "tests"), str(HERE.parent / "examples")]
    built: Any
    if network == "multitasknet":
        from torch_networks import TorchNet, randomized

        from multitasknet import MultiTaskNetSpec
        from multitasknet.models.multitasknet.spec import Variant

        built = randomized(TorchNet(MultiTaskNetSpec(Variant.SEGMENT, stem_pool="symmetric")))
    elif network == "poseestnet":
        from torch_networks import PoseHighResolutionNet, randomized

        built = randomized(PoseHighResolutionNet())
    else:
        from train_vehiclepose import VehiclePose

        built = VehiclePose()
    torch.set_num_threads(len(os.sched_getaffinity(0)))  # one of the modules takes one thread
    return built.eval()


def ours(folder: Path, backend: str, precision: str, aim: str) -> Run:
    from multitasknet import create_network
    from multitasknet.inference.engines import EngineOptions, open_engine

    if backend == "mindspore":
        source = create_network(folder.name, weights=folder / "weights.ckpt")
    elif precision == "int8":
        source = folder / "int8.onnx"
    else:
        source = next((folder / "onnx").glob("*.onnx"))
    return open_engine(source, EngineOptions(backend, precision, optimize_for=aim)).run


def torch_mode(
    folder: Path, *, last: bool = True, compiled: bool = False, bf16: bool = False
) -> Run:
    # Its compiling workers would start in the others' turns.
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
    import torch

    from multitasknet.inference.engines import has_bfloat16

    if bf16 and not has_bfloat16():
        raise RuntimeError("the processor has no bfloat16")  # emulated, a seventh of the speed
    network = torch_network(folder.name)
    network.load_state_dict(torch.load(folder / "state.pth", weights_only=True))
    layout = torch.channels_last if last else torch.contiguous_format
    network = network.to(memory_format=layout)
    if compiled:
        network = torch.compile(network, dynamic=False)

    def run(image: np.ndarray, *rest: np.ndarray) -> Any:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            image = torch.from_numpy(image).contiguous(memory_format=layout)
            return network(image, *map(torch.from_numpy, rest))

    return run


ENGINES: dict[str, Callable[[Path], Run]] = {
    "float32 ours, MindSpore": partial(
        ours, backend="mindspore", precision="float32", aim="latency"
    ),
    **{
        f"{precision} ours, {name}{', throughput' if aim == 'throughput' else ''}": partial(
            ours, backend=backend, precision=precision, aim=aim
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
}
# Title, what is compared with what: the fastest of the engines whose names start so.
RATIOS = (
    ("float32: ours / PyTorch", "float32 ours", "float32 PyTorch"),
    ("bfloat16: ours / PyTorch", "bfloat16 ours", "bfloat16 PyTorch"),
    ("INT8, ours / PyTorch's bfloat16", "int8 ours", "bfloat16 PyTorch"),
    ("INT8, ours / PyTorch's float32", "int8 ours", "float32 PyTorch"),
)


def prepare(folder: Path) -> None:
    """Write the same random weights in every engine's format."""
    import torch

    from multitasknet import PoseEstimator, Predictor, convert, quantize

    folder.mkdir()
    built = torch_network(folder.name)
    torch.save(built.state_dict(), folder / "state.pth")
    weights = convert(folder / "state.pth", folder / "weights.ckpt")
    opener = partial(Predictor, pose="none") if folder.name == NETWORKS[0] else PoseEstimator
    opened = opener(weights, backend="onnx", cache_dir=folder, size=(SIDE, SIDE))
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 256, (128, 128, 3), dtype=np.uint8) for _ in range(12)]
    quantize(folder / "int8.onnx", opened, noise, min_cosine=-1)


def inputs(network: str, batch: int) -> list[np.ndarray]:
    """What an engine is given: an image, and the pose where it is taken."""
    rng = np.random.default_rng(batch)
    if network != NETWORKS[0]:
        return [rng.normal(size=(batch, 3, SIDE, SIDE)).astype(np.float32)]
    image = rng.normal(size=(batch, 16, SIDE, SIDE)).astype(np.float32)
    return [image, rng.uniform(-0.5, 0.5, (batch, 108)).astype(np.float32)]


# What is measured: by batch size and engine, images/s of each turn, milliseconds, and megabytes.
Turns = dict[tuple[int, str], list[tuple[list[float], float]]]


def side_by_side(folder: Path, options: argparse.Namespace) -> Turns:
    """Each engine's turns with each batch size: seconds of its calls, and peak megabytes."""
    pools, turns = {name: own_process() for name in options.engines}, Turns()
    for batch in options.batches:
        for number in range(options.rounds + 1):
            for name, pool in list(pools.items()):
                seconds = SECONDS if number else 0  # the first compiles, and warms up
                try:
                    found = pool.submit(turn, name, folder, batch, seconds).result()
                # A rival that this machine cannot run is named, and the others go on.
                except Exception as error:
                    print(f"{folder.name}: {name} is left out: {error!r:.200}", file=sys.stderr)
                    pools.pop(name).shutdown()
                    continue
                if number:
                    turns.setdefault((batch, name), []).append(found)
    for pool in pools.values():
        pool.shutdown()
    return turns


@cache
def opened(name: str, folder: Path) -> Run:
    """This process's engine."""
    return ENGINES[name](folder)


def turn(name: str, folder: Path, batch: int, seconds: float) -> tuple[list[float], float]:
    """Run an engine for a while; the seconds of each call, and the process's peak megabytes."""
    run, arrays, times = opened(name, folder), inputs(folder.name, batch), list[float]()
    time.sleep(PAUSE)
    run(*arrays)  # not counted: caches are the other engines', and threads asleep
    while not times or sum(times) < seconds:
        start = time.perf_counter()
        run(*arrays)
        times.append(time.perf_counter() - start)
    return times, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def report(turns: Turns, options: argparse.Namespace) -> str:
    """Markdown tables of the figures, and of ratios."""
    rows = defaultdict[str, list[str]](list)
    rates = {
        key: [key[0] / np.mean(times) for times, _ in of_turns] for key, of_turns in turns.items()
    }
    for name in options.engines:
        for batch in options.batches:
            if (batch, name) not in turns:
                rows[name] += ["-"] * 3
                continue
            found, peaks = rates[batch, name], [peak for _, peak in turns[batch, name]]
            calls = [1000 * call for times, _ in turns[batch, name] for call in times]
            half, most = np.percentile(calls, (50, 95))
            rows[name] += [
                f"{np.median(found):.1f} ({min(found):.1f}-{max(found):.1f})",
                f"{half:.0f}, {most:.0f}",
                f"{max(peaks):.0f}",
            ]

    def best(start: str, batch: int) -> float:
        """Images/s of the fastest engine whose name starts so."""
        names = [name for at, name in rates if at == batch and name.startswith(start)]
        return max((float(np.median(rates[batch, name])) for name in names), default=np.nan)

    ratios = [
        (title, *(f"{best(one, batch) / best(other, batch):.2f}" for batch in options.batches))
        for title, one, other in RATIOS
    ]
    heads = (head for batch in options.batches for head in (f"{batch}: images/s", "ms", "MB"))
    figures = table(("engine", *heads), [(name, *cells) for name, cells in rows.items()])
    return f"{figures}\n\n{table(('ratio', *options.batches), ratios)}"


if __name__ == "__main__":
    main()
