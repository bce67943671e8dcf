"""What runs a network: ONNX Runtime and OpenVINO on the CPU, MindSpore on any device.

:func:`open_engine` opens all of them; each takes arrays and gives arrays. Only MindSpore's engine
imports MindSpore.
"""

from __future__ import annotations

import hashlib
import os
import sys
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, ClassVar, Literal, TypeAlias, get_args

import numpy as np

from ..device import ASCEND_NODE, MINDSPORE_TURN, choose_device, parse_device
from ..errors import EngineError
from ..files import expand, reading
from ..hub.download import default_cache_dir
from ..runtime import import_openvino, is_capped, usable_cores
from ..weights.read import WeightsFile
from . import conversion
from .conversion import Metadata

Backend: TypeAlias = Literal["auto", "onnx", "openvino", "mindspore"]
Precision: TypeAlias = Literal["float32", "bfloat16", "int8"]
Aim: TypeAlias = Literal["latency", "throughput"]
BACKENDS: tuple[str, ...] = get_args(Backend)
PRECISIONS: tuple[str, ...] = get_args(Precision)

# Compiling a graph takes seconds, once an input shape, and saves a quarter of each run on a CPU.
_RUNS_BEFORE_COMPILING = 20


@dataclass(frozen=True)
class EngineOptions:
    """How a network is run; :class:`multitasknet.Predictor` says what each option means.

    EngineError for a word that is none of an option's.
    """

    backend: Backend = "auto"
    precision: Precision | None = None
    threads: int | None = None
    optimize_for: Aim = "latency"
    device: str | None = None
    batch_size: int | None = None

    def __post_init__(self) -> None:
        for name, words in (
            ("backend", BACKENDS),
            ("precision", (*PRECISIONS, None)),
            ("optimize_for", get_args(Aim)),
        ):
            if (word := getattr(self, name)) not in words:
                expected = ", ".join(filter(None, words))
                raise EngineError(f"{name} is {word!r}; expected one of {expected}")


def in_batches(
    run: Callable[..., tuple[np.ndarray, ...]], inputs: Sequence[np.ndarray], batch: int | None
) -> tuple[np.ndarray, ...]:
    """Run any number of inputs through a network that takes ``batch`` at a time, or any if None.

    The last batch is filled with inputs that are there already.
    """
    count = len(inputs[0])
    if batch in (None, count):
        return run(*inputs)
    order = np.resize(np.arange(count), -(-count // batch) * batch).reshape(-1, batch)
    runs = [run(*(one[rows] for one in inputs)) for rows in order]
    return tuple(np.concatenate(parts)[:count] for parts in zip(*runs, strict=True))


class Engine(ABC):
    """One way to run a network; safe to share between threads.

    Attributes:
        name: ``onnx``, ``openvino`` or ``mindspore``.
        spec: the architecture.
        source: where the weights came from, for people; empty if they are random.
        precision: ``float32``, ``bfloat16`` or ``int8``.
        weights_sha256: of the weights' file, or of what is run if they are no file's.
        input_names, output_names: in the spec's order.
        batch: the only batch size that it takes; None for any.
        streams: in how many runs side by side it takes a batch.
    """

    name: ClassVar[str]
    spec: Any
    source: str
    precision: str
    weights_sha256: str
    input_names: Sequence[str]
    output_names: Sequence[str]
    batch: int | None = None
    streams = 1

    def run(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        """From float32 inputs, as ``spec.input_shapes`` names them, to ``spec.output_shapes``.

        Any number of them; inputs beyond those that the network takes are ignored.

        Raises:
            EngineError: an output has values that are no finite numbers.
        """
        pieces = 1 if self.batch else min(self.streams, len(inputs[0]))
        if pieces > 1:
            shared = [np.array_split(one, pieces) for one in inputs]
            runs = self._pool.map(self._run, *shared)
            outputs = tuple(map(np.concatenate, zip(*runs, strict=True)))
        elif self.batch:
            outputs = in_batches(self._run, inputs, self.batch)
        else:
            outputs = self._run(*inputs)
        if not all(np.isfinite(one).all() for one in outputs):
            raise EngineError(
                f"{Path(self.source).name or 'the network'}: in {self.precision} its outputs are "
                f"not all finite; give other weights, or leave the precision out"
            )
        return outputs

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self.streams)

    @abstractmethod
    def _run(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        """One batch."""


class OnnxEngine(Engine):
    """What runs an ONNX file, whose bytes ``load`` reads, the same each time.

    EngineError for none of this package, none that the runtime can run, or another precision.
    """

    def __init__(self, source: str, load: Callable[[], bytes], options: EngineOptions) -> None:
        self.source, self.load = source, load
        named = source or "the network"
        with reading(named, EngineError, f"{self.name} cannot run it", "export it again"):
            content = load()
            strings = self._open(content, options.threads or usable_cores(), options)
        self.metadata = stated = Metadata.from_strings(strings, named)
        self.spec, self.batch = stated.spec, stated.batch
        self.precision = options.precision or stated.precision
        if stated.precision != self.precision.replace("bfloat16", "float32"):
            other = (
                "file of quantize" if self.precision == "int8" else "float32 file, or the weights"
            )
            raise EngineError(
                f"{named}: it is {stated.precision}, not {self.precision}; give a {other}"
            )
        self.weights_sha256 = stated.weights_sha256
        # An INT8 file depends on the pictures that it was calibrated on as well.
        if stated.precision == "int8" or not self.weights_sha256:
            self.weights_sha256 = hashlib.sha256(content).hexdigest()

    @abstractmethod
    def _open(self, content: bytes, threads: int, options: EngineOptions) -> Mapping[str, str]:
        """Open the file, and set the names of its ends; its metadata."""


class OnnxRuntimeEngine(OnnxEngine):
    """ONNX Runtime on the CPU; for ``throughput`` a thread is a stream."""

    name = "onnx"

    def _open(self, content: bytes, threads: int, options: EngineOptions) -> Mapping[str, str]:
        if options.precision == "bfloat16":
            raise EngineError("bfloat16 needs OpenVINO; choose the backend 'openvino' or 'auto'")
        # It reports to its maker from its import on unless this is set.
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        import onnxruntime

        if options.optimize_for == "throughput":
            self.streams = threads
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = threads // self.streams
        # Spinning threads wait less within a run; after it they would take the cores from decoding.
        settings.add_session_config_entry("session.force_spinning_stop", "1")
        self._session = onnxruntime.InferenceSession(
            content, settings, providers=["CPUExecutionProvider"]
        )
        self.input_names = [one.name for one in self._session.get_inputs()]
        self.output_names = [one.name for one in self._session.get_outputs()]
        strings: Mapping[str, str] = self._session.get_modelmeta().custom_metadata_map
        return strings

    def _run(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        named = dict(zip(self.input_names, inputs, strict=False))
        return tuple(self._session.run(self.output_names, named))


class OpenVinoEngine(OnnxEngine):
    """OpenVINO on the CPU; how many streams are best for ``throughput`` it decides itself."""

    name = "openvino"

    def _open(self, content: bytes, threads: int, options: EngineOptions) -> Mapping[str, str]:
        core = import_openvino().Core()
        in_bfloat16 = options.precision == "bfloat16"
        if in_bfloat16 and not has_bfloat16():
            raise EngineError(
                "this processor does not compute in bfloat16 (AVX512-BF16 or AMX); leave the "
                "precision out, or give an INT8 file of 'multitasknet quantize'"
            )
        graph = core.read_model(content)
        settings = {
            "PERFORMANCE_HINT": options.optimize_for.upper(),
            "INFERENCE_NUM_THREADS": threads,
            # Left to itself, OpenVINO takes bfloat16 where the processor has AMX.
            "INFERENCE_PRECISION_HINT": "bf16" if in_bfloat16 else "f32",
            # The pose network's threads would wait on the same cores, and so would other processes.
            "ENABLE_CPU_PINNING": False,
        }
        self._compiled = core.compile_model(graph, "CPU", settings)
        self.streams = self._compiled.get_property("NUM_STREAMS")
        self.input_names = [one.any_name for one in self._compiled.inputs]
        self.output_names = [one.any_name for one in self._compiled.outputs]
        # One a run at a time; as many as there ever were runs side by side.
        self._idle: SimpleQueue[Any] = SimpleQueue()
        key = ["framework"]  # where OpenVINO puts an ONNX file's own metadata
        strings: Mapping[str, str] = graph.get_rt_info(key).value if graph.has_rt_info(key) else {}
        return strings

    def _run(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        try:
            request = self._idle.get_nowait()
        except Empty:
            request = self._compiled.create_infer_request()
        outputs = request.infer(dict(zip(self.input_names, inputs, strict=False)))
        self._idle.put(request)
        return tuple(outputs[name] for name in self.output_names)


class MindSporeEngine(Engine):
    """MindSpore, on a copy of a Cell with the weights that it has now; threads take turns.

    Args:
        cell: the network.
        batch: the only batch size to run, compiled at once: for devices other than a CPU, which
            take long to compile and are slow without. None runs what it is given, and compiles
            what it is given often.
        file: the file that the Cell was made from just now; None finds out whether it still has
            the values of the file that it was loaded from.
    """

    name = "mindspore"
    precision = "float32"

    def __init__(
        self, cell: Any, *, batch: int | None = None, file: WeightsFile | None = None
    ) -> None:
        from mindspore import jit

        from ..weights.load import frozen_copy

        with MINDSPORE_TURN:
            self._cell = frozen_copy(cell)
        self.spec, self.batch = cell.spec, batch
        self.input_names = list(cell.spec.input_shapes(cell.spec.input_size))
        self.output_names = list(cell.spec.output_shapes(cell.spec.input_size))
        self.source, self.weights_sha256 = (str(file.path), file.sha256) if file else _named(cell)
        if not self.weights_sha256:
            digest = hashlib.sha256()
            for parameter in self._cell.get_parameters():
                digest.update(parameter.name.encode())
                digest.update(parameter.asnumpy().tobytes())
            self.weights_sha256 = digest.hexdigest()
        # Not the default, which is GE on the first Ascend series under MindSpore 2.7 and 2.8.
        self._compiled = jit(self._cell.construct, backend="ms_backend")
        self._runs: Counter[tuple[int, ...]] = Counter()

    def _run(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        with MINDSPORE_TURN:
            self._runs[inputs[0].shape] += 1
            often = self.batch or self._runs[inputs[0].shape] > _RUNS_BEFORE_COMPILING
            return conversion.call(self._compiled if often else self._cell, inputs)


def open_engine(
    model: Path | WeightsFile | Any,
    options: EngineOptions | None = None,
    cache_dir: str | Path | None = None,
) -> Engine:
    """Open a network.

    The backend ``auto`` is OpenVINO for bfloat16, else ONNX Runtime on a CPU and MindSpore on other
    devices and for a Cell. EngineError for a backend, precision or device that cannot run this.

    Args:
        model: an ``.onnx`` file of :func:`multitasknet.export` or :func:`multitasknet.quantize`;
            weights, which become an ONNX file in the cache once, by MindSpore; or a Cell.
        cache_dir: the cache; default is the user's.
    """
    options = options or EngineOptions()
    backend, precision, device = options.backend, options.precision, options.device
    if backend == "auto" and precision == "bfloat16":
        backend = "openvino"
    elif backend == "auto" and isinstance(model, Path):
        backend = "onnx"
    elif backend == "auto":
        backend = fastest_backend(device) if isinstance(model, WeightsFile) else "mindspore"
    if backend == "mindspore":
        if isinstance(model, Path):
            raise EngineError(f"{model}: MindSpore does not run .onnx files; use another backend")
        if precision not in (None, "float32"):
            raise EngineError(
                f"precision is {precision!r}, but MindSpore computes in float32; choose the "
                f"backend 'openvino' for bfloat16, or give a file of 'multitasknet quantize'"
            )
        choose_device(device)
        from mindspore import get_context

        batch = None if get_context("device_target") == "CPU" else options.batch_size
        if isinstance(model, WeightsFile):
            return MindSporeEngine(conversion.cell_of(model), batch=batch, file=model)
        return MindSporeEngine(model, batch=batch)
    if device is not None and parse_device(device)[0] != "CPU":
        raise EngineError(
            f"device is {device!r}, but ONNX Runtime and OpenVINO compute on the CPU here; give "
            f"weights, and the backend 'mindspore' or 'auto'"
        )
    engine = OnnxRuntimeEngine if backend == "onnx" else OpenVinoEngine
    if isinstance(model, Path):
        read = _read(model)
        return engine(str(model), lambda: read, options)
    if isinstance(model, WeightsFile):
        cache = default_cache_dir() if cache_dir is None else expand(cache_dir)
        # A copy each time: it keeps the bytes that it has read as long as it lives.
        return engine(str(model.path), lambda: conversion.onnx_of(replace(model), cache), options)
    source, sha256 = _named(model)
    content = conversion.to_onnx(model, Metadata(model.spec, sha256))
    return engine(source, lambda: content, options)


def _read(path: Path) -> bytes:
    with reading(path, EngineError, "it cannot be read", "give a file that exists"):
        return path.read_bytes()


def fastest_backend(device: str | None) -> Literal["onnx", "mindspore"]:
    """What runs float32 weights fastest: ONNX Runtime on a CPU, MindSpore on other devices.

    None for the device is the one that MindSpore would find.
    """
    if device is not None:
        on_cpu = parse_device(device)[0] == "CPU"
    elif "mindspore" in sys.modules:
        on_cpu = sys.modules["mindspore"].get_context("device_target") == "CPU"
    else:
        on_cpu = not ASCEND_NODE.exists()
    return "onnx" if on_cpu else "mindspore"


def has_bfloat16() -> bool:
    """Whether the processor computes in bfloat16 (AVX512-BF16 or AMX), as OpenVINO reports it.

    OpenVINO ignores a cap that keeps its oneDNN from it, and fails then (2026.4.1).
    """
    core = import_openvino().Core()
    return "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES") and not is_capped()


def _named(cell: Any) -> tuple[str, str]:
    """What to call a Cell's weights, and the sha256 of the file they are in; empty if none is."""
    from ..weights.load import source_sha256

    report = cell.load_report
    sha256 = source_sha256(cell, report)
    if report is None or sha256:
        return str(report or ""), sha256
    return f"changed since it was loaded from {report.source.name}", ""
