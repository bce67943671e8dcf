"""What runs a network: ONNX Runtime and OpenVINO on the CPU, MindSpore on any device.

:func:`open_engine` opens all of them; each takes arrays and gives arrays. Only MindSpore's engine
imports MindSpore.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sys
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from io import BytesIO
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, ClassVar, Literal, TypeAlias, get_args

import numpy as np

from ..device import ASCEND_NODE, MINDSPORE_TURN, Device, choose_device
from ..errors import EngineError, import_extra
from ..files import reading
from ..runtime import cap_leaves_bfloat16, usable_cores
from ..weights.read import WeightsFile
from . import cache
from .metadata import Metadata

logger = logging.getLogger(__name__)

Backend: TypeAlias = Literal["auto", "onnx", "openvino", "mindspore"]
Precision: TypeAlias = Literal["float32", "bfloat16", "int8"]
Aim: TypeAlias = Literal["latency", "throughput"]
BACKENDS: tuple[str, ...] = get_args(Backend)
PRECISIONS: tuple[str, ...] = get_args(Precision)
AIMS: tuple[str, ...] = get_args(Aim)

_MOST_THREADS = 1024
# Compiling a graph takes seconds, once an input shape, and saves a quarter of each run on a CPU.
_RUNS_BEFORE_COMPILING = 20


def in_batches(
    run: Callable[..., tuple[np.ndarray, ...]], inputs: Sequence[np.ndarray], batch: int | None
) -> tuple[np.ndarray, ...]:
    """Run any number of inputs through a network that takes ``batch`` at a time, or any if None.

    The last batch is filled with inputs that are there already.
    """
    count = len(inputs[0])
    if batch is None or batch == count:
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
        weights_sha256: of the weights file whose values these are; of what is run, if they are no
            file's.
        batch: the only batch size that it takes; None for any.
    """

    name: ClassVar[str]
    spec: Any
    source: str
    precision: str
    weights_sha256: str
    batch: int | None = None

    def run(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        """From float32 inputs, as ``spec.input_shapes`` names them, to ``spec.output_shapes``.

        Any number of them; inputs beyond those that the network takes are ignored.
        """
        return in_batches(self._run, inputs, self.batch)

    @abstractmethod
    def _run(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        """One batch."""


@dataclass(frozen=True)
class OnnxFile:
    """An ONNX file of :func:`multitasknet.export`, or what weights become in the cache.

    Attributes:
        source: what to call the weights; empty if they are random.
        load: reads the bytes, the same each time.
    """

    source: str
    load: Callable[[], bytes]


class OnnxEngine(Engine):
    """Runs an ONNX file; what the runtimes for it have in common.

    Args:
        file: the file.
        precision: ``bfloat16`` computes a float32 file in it; default is the file's own.
        threads: default is one for each core that this process may use.
        optimize_for: ``latency``: all threads work at one batch; ``throughput``: the pictures of a
            batch are shared out among streams, which run side by side.
        folder: where what a runtime compiles is kept; None keeps nothing.

    Raises:
        EngineError: no ONNX file of this package, none that the runtime can run, another
            precision, or no such number of threads.
    """

    def __init__(
        self,
        file: OnnxFile,
        *,
        precision: str | None = None,
        threads: int | None = None,
        optimize_for: str = "latency",
        folder: Path | None = None,
    ) -> None:
        if threads is not None and not 1 <= threads <= _MOST_THREADS:
            raise EngineError(f"threads is {threads}; expected 1 to {_MOST_THREADS}")
        self.file, self.source = file, file.source
        self.threads, self.optimize_for = threads or usable_cores(), optimize_for
        # Runs side by side.
        self.streams = 1
        named = file.source or "the network"
        content = file.load()
        with reading(named, EngineError, f"{self.name} cannot run it", "export it again"):
            strings, ends = self._open(content)
        self.metadata = Metadata.from_strings(strings, named)
        self.spec, self.batch = self.metadata.spec, self.metadata.batch
        self.precision = _precision_of(self.metadata, precision, self.name, named)
        self._check_ends(ends, named)
        # An INT8 file depends on the pictures that it was calibrated on as well.
        is_own = self.metadata.precision == "int8" or not self.metadata.weights_sha256
        self.weights_sha256 = (
            hashlib.sha256(content).hexdigest() if is_own else self.metadata.weights_sha256
        )
        with reading(named, EngineError, f"{self.name} cannot run it", "export it again"):
            self._compile(content, folder)
        self._pool = ThreadPoolExecutor(self.streams)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.source or 'in memory'}: {self.precision}, "
            f"{self.optimize_for}, {self.threads} threads)"
        )

    @property
    def input_names(self) -> tuple[str, ...]:
        return tuple(self.spec.input_shapes(self.spec.input_size))

    @property
    def output_names(self) -> tuple[str, ...]:
        return tuple(self.spec.output_shapes(self.spec.input_size))

    def run(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        pieces = min(self.streams, len(inputs[0]))
        if pieces <= 1 or self.batch is not None:
            return super().run(*inputs)
        shared = [np.array_split(one, pieces) for one in inputs]
        parts = self._pool.map(self._run, *shared)
        return tuple(map(np.concatenate, zip(*parts, strict=True)))

    @abstractmethod
    def _open(self, content: bytes) -> tuple[Mapping[str, str], Mapping[str, Sequence[Any]]]:
        """Read the file; its metadata, and the shapes of its inputs and outputs by name."""

    def _compile(self, content: bytes, folder: Path | None) -> None:
        """What is left to do when the metadata are known."""

    def _check_ends(self, ends: Mapping[str, Sequence[Any]], named: str) -> None:
        size = self.spec.input_size
        for name, stated in (self.spec.input_shapes(size) | self.spec.output_shapes(size)).items():
            found = tuple(ends.get(name, ()))
            # Dimensions that may vary are no numbers.
            shape = [
                n if isinstance(n, int) else m for n, m in zip(found[1:], stated, strict=False)
            ]
            if tuple(shape) != stated:
                raise EngineError(
                    f"{named}: its metadata state {name} {list(stated)}, but the network has "
                    f"{list(found)}; export it again"
                )


class OnnxRuntimeEngine(OnnxEngine):
    """ONNX Runtime on the CPU; for ``throughput`` a thread is a stream."""

    name = "onnx"

    def _open(self, content: bytes) -> tuple[Mapping[str, str], Mapping[str, Sequence[Any]]]:
        # It reports to its maker from its import on unless this is set.
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        import onnxruntime

        if self.optimize_for == "throughput":
            self.streams = self.threads
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads // self.streams
        # Spinning threads wait less within a run; after it they would take the cores from decoding.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        self._session = onnxruntime.InferenceSession(
            content, options, providers=["CPUExecutionProvider"]
        )
        ends = (*self._session.get_inputs(), *self._session.get_outputs())
        strings = self._session.get_modelmeta().custom_metadata_map
        return strings, {end.name: end.shape for end in ends}

    def _run(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        named = dict(zip(self.input_names, inputs, strict=False))
        return tuple(self._session.run(list(self.output_names), named))


class OpenVinoEngine(OnnxEngine):
    """OpenVINO on the CPU; how many streams are best for ``throughput`` it decides itself.

    What it compiles is kept and verified each time it is read; OpenVINO's own cache is not (2026.4
    takes one with 64 KB of zeros in it).
    """

    name = "openvino"

    def _open(self, content: bytes) -> tuple[Mapping[str, str], Mapping[str, Sequence[Any]]]:
        self._core = import_extra("openvino", "openvino").Core()
        self._graph = self._core.read_model(content)
        key = ["framework"]  # where OpenVINO puts an ONNX file's own metadata
        strings = self._graph.get_rt_info(key).value if self._graph.has_rt_info(key) else {}
        ends = (*self._graph.inputs, *self._graph.outputs)
        return strings, {end.any_name: _shape(end) for end in ends}

    def _compile(self, content: bytes, folder: Path | None) -> None:
        core, graph = self._core, self._graph
        del self._core, self._graph
        settings = {
            "PERFORMANCE_HINT": self.optimize_for.upper(),
            "INFERENCE_NUM_THREADS": self.threads,
            # Left to itself, OpenVINO takes bfloat16 where the processor has AMX.
            "INFERENCE_PRECISION_HINT": "bf16" if self.precision == "bfloat16" else "f32",
            # The pose network's threads would wait on the same cores, and so would other processes.
            "ENABLE_CPU_PINNING": False,
        }
        if folder is None:
            self._compiled = core.compile_model(graph, "CPU", settings)
        else:
            self._compiled = _kept_blob(core, graph, settings, content, folder / "openvino")
        self.streams = self._compiled.get_property("NUM_STREAMS")
        # One a run at a time; as many as there ever were runs side by side.
        self._idle: SimpleQueue[Any] = SimpleQueue()

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
        import mindspore

        from ..weights.load import frozen_copy, source_sha256

        with MINDSPORE_TURN:
            self._cell = frozen_copy(cell)
        self.spec, self.batch = cell.spec, batch
        sha256 = file.sha256 if file else source_sha256(cell, cell.load_report)
        self.source = str(file.path) if file else _named(cell.load_report, bool(sha256))
        self._sha256 = sha256
        self._tensor = mindspore.Tensor
        # Not the default, which is GE on the first Ascend series under MindSpore 2.7 and 2.8.
        self._compiled = mindspore.jit(self._cell.construct, backend="ms_backend")
        self._runs: Counter[tuple[int, ...]] = Counter()

    @cached_property
    def weights_sha256(self) -> str:  # type: ignore[override]
        if self._sha256:
            return self._sha256
        digest = hashlib.sha256()
        for parameter in self._cell.get_parameters():
            digest.update(parameter.name.encode())
            digest.update(parameter.asnumpy().tobytes())
        return digest.hexdigest()

    def _run(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        with MINDSPORE_TURN:
            self._runs[inputs[0].shape] += 1
            often = self.batch or self._runs[inputs[0].shape] > _RUNS_BEFORE_COMPILING
            outputs = (self._compiled if often else self._cell)(*map(self._tensor, inputs))
            outputs = outputs if isinstance(outputs, tuple) else (outputs,)
            return tuple(output.asnumpy() for output in outputs)


def open_engine(
    model: Path | WeightsFile | Any,
    *,
    backend: Backend = "auto",
    precision: Precision | None = None,
    threads: int | None = None,
    optimize_for: Aim = "latency",
    device: str | None = None,
    batch_size: int | None = None,
    folder: Path | None = None,
) -> Engine:
    """Open a network.

    Args:
        model: an ``.onnx`` file of :func:`multitasknet.export` or :func:`multitasknet.quantize`;
            weights, which become an ONNX file in ``folder`` once, by MindSpore; or a Cell.
        backend: what runs it; ``auto`` is OpenVINO for bfloat16, else ONNX Runtime on a CPU and
            MindSpore on other devices and for a Cell.
        precision: see :class:`multitasknet.Predictor`; default is the file's own.
        threads: of ONNX Runtime or OpenVINO; default is one for each usable core.
        optimize_for: ``latency`` of one batch, or ``throughput`` of large ones.
        device: where MindSpore computes, see :func:`.device.choose_device`.
        batch_size: inputs at a time, the only number that MindSpore compiles off the CPU.
        folder: the root of the cache; None keeps nothing.

    Raises:
        EngineError: a backend, precision or device that cannot run this model.
        CheckpointError: weights that cannot be read.
        MissingExtraError: OpenVINO is not installed.
    """
    for what, word, words in (
        ("backend", backend, BACKENDS),
        ("precision", precision or "float32", PRECISIONS),
        ("optimize_for", optimize_for, AIMS),
    ):
        if word not in words:
            raise EngineError(f"{what} is {word!r}; expected one of {', '.join(words)}")
    is_file, is_weights = isinstance(model, Path), isinstance(model, WeightsFile)
    if backend == "auto":
        chosen = "onnx" if is_file else fastest_backend(device) if is_weights else "mindspore"
        backend = "openvino" if precision == "bfloat16" else chosen
    if backend == "mindspore":
        if is_file:
            raise EngineError(f"{model}: MindSpore does not run .onnx files; use another backend")
        if precision not in (None, "float32"):
            raise EngineError(
                f"precision is {precision!r}, but MindSpore computes in float32; choose the "
                f"backend 'openvino' for bfloat16, or give a file of 'multitasknet quantize'"
            )
        return _open_mindspore(model, device, batch_size)
    if device is not None and Device.parse(device).target != "CPU":
        raise EngineError(
            f"device is {device!r}, but ONNX Runtime and OpenVINO compute on the CPU here; give "
            f"weights, and the backend 'mindspore' or 'auto'"
        )
    engine: type[OnnxEngine] = OnnxRuntimeEngine if backend == "onnx" else OpenVinoEngine
    return engine(
        _onnx_file(model, folder),
        precision=precision,
        threads=threads,
        optimize_for=optimize_for,
        folder=folder,
    )


def fastest_backend(device: str | None) -> Literal["onnx", "mindspore"]:
    """What runs float32 weights fastest: ONNX Runtime on a CPU, MindSpore on other devices.

    None for the device is the one that MindSpore would find.
    """
    if device is not None:
        on_cpu = Device.parse(device).target == "CPU"
    elif "mindspore" in sys.modules:
        on_cpu = sys.modules["mindspore"].get_context("device_target") == "CPU"
    else:
        on_cpu = not ASCEND_NODE.exists()
    return "onnx" if on_cpu else "mindspore"


def has_bfloat16() -> bool:
    """Whether the processor computes in bfloat16 (AVX512-BF16 or AMX), as OpenVINO reports it.

    OpenVINO ignores a cap that keeps its oneDNN from it, and fails then (2026.4.1).
    """
    core = import_extra("openvino", "openvino").Core()
    return "BF16" in _processor(core)[1] and cap_leaves_bfloat16()


def _onnx_file(model: Path | WeightsFile | Any, folder: Path | None) -> OnnxFile:
    if isinstance(model, Path):
        return OnnxFile(str(model), lambda: _read(model))
    from . import conversion

    if isinstance(model, WeightsFile):
        kept = folder and folder / "onnx"
        # A copy each time: it keeps the bytes that it has read.
        return OnnxFile(str(model.path), lambda: conversion.onnx_of(replace(model), kept))
    from ..weights.load import source_sha256

    report = model.load_report
    sha256 = source_sha256(model, report)
    content = conversion.to_onnx(model, Metadata(model.spec, sha256))
    return OnnxFile(_named(report, bool(sha256)), lambda: content)


def _open_mindspore(
    model: WeightsFile | Any, device: str | None, batch_size: int | None
) -> MindSporeEngine:
    choose_device(device)
    from mindspore import get_context

    batch = None if get_context("device_target") == "CPU" else batch_size
    if isinstance(model, WeightsFile):
        from .conversion import cell_of

        return MindSporeEngine(cell_of(model), batch=batch, file=model)
    return MindSporeEngine(model, batch=batch)


def _precision_of(metadata: Metadata, wanted: str | None, engine: str, named: str) -> str:
    """What a file is computed in; EngineError if that cannot be what is asked for."""
    stated = metadata.precision
    if wanted in (None, stated):
        return stated
    if wanted != "bfloat16" or stated != "float32":
        remedy = {
            "int8": "give a file of 'multitasknet quantize'",
            "bfloat16": "give the weights, or a float32 file",
        }.get(str(wanted), "give the weights, or a float32 file of 'multitasknet export'")
        raise EngineError(f"{named}: it is {stated}, not {wanted}; {remedy}")
    if engine != "openvino":
        raise EngineError("bfloat16 needs OpenVINO; choose the backend 'openvino' or 'auto'")
    if not has_bfloat16():
        raise EngineError(
            "this processor does not compute in bfloat16 (AVX512-BF16 or AMX); leave the precision "
            "out, or give an INT8 file of 'multitasknet quantize'"
        )
    return "bfloat16"


def _kept_blob(
    core: Any, graph: Any, settings: dict[str, Any], content: bytes, folder: Path
) -> Any:
    """The compiled network, kept for this file, processor, OpenVINO and settings."""
    facts = [settings, core.get_versions("CPU")["CPU"].build_number, *_processor(core)]
    made_for = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
    key = f"{hashlib.sha256(content).hexdigest()}-{made_for}"
    found = cache.find(folder, key, ".blob")
    if found is not None:
        try:
            return core.import_model(found, "CPU", settings)
        except RuntimeError as error:
            logger.info("%s: compiled again (%s)", folder, error)
    compiled = core.compile_model(graph, "CPU", settings)
    blob = BytesIO()
    compiled.export_model(blob)
    cache.keep(folder, key, ".blob", blob.getvalue())
    return compiled


def _processor(core: Any) -> tuple[str, list[str]]:
    """The processor's name, and what OpenVINO can compute in on it."""
    capabilities = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return core.get_property("CPU", "FULL_DEVICE_NAME"), sorted(capabilities)


def _shape(end: Any) -> list[int | None]:
    return [None if one.is_dynamic else one.get_length() for one in end.partial_shape]


def _named(report: Any, unchanged: bool) -> str:
    """Where a Cell's values come from; empty for those that no file was loaded into."""
    if report is None or unchanged:
        return str(report or "")
    return f"changed since it was loaded from {report.source.name}"


def _read(path: Path) -> bytes:
    with reading(path, EngineError, "it cannot be read", "give a file that exists"):
        return path.read_bytes()
