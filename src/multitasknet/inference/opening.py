"""Which engine runs which weights."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..device import ASCEND_NODE, Device, choose_device
from ..errors import MultiTaskNetError
from ..files import expand, file_sha256, find_kept, keep
from ..hub.create_network import create_from
from ..hub.fetch import default_cache_dir
from ..hub.source import WeightsSource
from ..models import DEFAULT_NETWORK, find_network
from ..weights.read import check_network, read_complete_weights, read_weights
from ..weights.sidecar import sidecar_path
from .choice import OnnxHow, PrecisionError, installed_runtimes
from .engine import BACKENDS, HINTS, PRECISIONS, Backend, Engine, Hint, Precision
from .metadata import Metadata

logger = logging.getLogger(__name__)

# In the names of cached files: raise it whenever the same weights give another graph.
_GRAPH_VERSION = 2
EXPORTED = (".onnx", ".mindir")


class BackendError(MultiTaskNetError, ValueError):
    """A backend that does not run the given file."""


def open_engine(
    source: WeightsSource,
    name: str | Sequence[str] = DEFAULT_NETWORK,
    *,
    backend: Backend = "auto",
    network: Any = None,
    threads: int | None = None,
    device: str | None = None,
    batch: int | None = None,
    fp16: bool = False,
    precision: Precision | None = None,
    hint: Hint = "latency",
    **options: Any,
) -> Engine:
    """Open the engine for weights as :class:`multitasknet.Predictor` takes them.

    Args:
        source: which weights.
        name: the network that they must be of, or several; random weights are the first's, and
            a card is that of the first that has one.
        backend: what is to run them.
        network: a Cell to run instead.
        threads: where ONNX Runtime or OpenVINO computes; default is one a usable core.
        device: where MindSpore is to compute, see :func:`.device.choose_device`.
        batch: inputs at a time, all that MindSpore compiles for where it computes on no CPU.
        fp16: compute in float16; for MindSpore.
        precision: to compute in, see :func:`.choice.choose`; default is the file's own.
        hint: what ONNX Runtime and OpenVINO are to be good at, see :class:`.onnx_model.OnnxModel`.
        options: of :func:`multitasknet.create_network`, such as ``variant``.

    Raises:
        BackendError: the backend does not run such a file, or not on that device.
        PrecisionError: the precision is not to be had.
        DeviceError: as ``choose_device`` raises it.
        CheckpointError: the weights are another network's.
        ValueError: no such backend, or the weights are not what the options ask for.
    """
    _check_word("backend", backend, BACKENDS)
    _check_word("precision", precision or "auto", PRECISIONS)
    _check_word("hint", hint, HINTS)
    names = (name,) if isinstance(name, str) else tuple(name)
    cache = default_cache_dir() if source.cache_dir is None else expand(source.cache_dir)
    how = OnnxHow(backend, precision, threads, hint, cache)
    if network is not None:
        check_network(network.spec.network, names, "the network that is given")
    elif source.suffix in EXPORTED:
        exported = _open_exported(expand(str(source.weights)), how, device, fp16)
        check_network(exported.spec.network, names, exported.source)
        return _as_asked(exported, options)
    in_memory = network is not None or source.weights is None
    runtime = None if in_memory and precision != "bfloat16" else cpu_runtime(device)
    if backend == "mindspore" or (backend == "auto" and runtime is None):
        from mindspore import get_context

        from .mindspore_engine import MindSporeEngine

        if precision not in (None, "auto", "float32") or (precision and fp16):
            raise PrecisionError(
                f"precision is {precision!r}, but MindSpore computes in float32, or in float16 "
                f"with fp16; leave it out, or choose the backend 'onnx' or 'openvino'"
            )
        choose_device(device)
        on_cpu = get_context("device_target") == "CPU"
        cell = network or _create(source, names, options)
        return MindSporeEngine(cell, batch=None if on_cpu else batch, fp16=fp16)

    _check_cpu(device, fp16)
    chosen = how.choose("float32", names[0], "the network" if in_memory else str(source.weights))
    if in_memory:
        cell = network or _create(source, names, options)
        return how.open(_model_of(cell, Metadata(cell.spec)), chosen, str(cell.load_report or ""))
    path = source.fetch(*names)
    assert path is not None
    engine = how.open(_cached_model(path, names, cache), chosen, str(path))
    check_network(engine.spec.network, names, engine.source)
    return _as_asked(engine, options)


def network_in(path: Path) -> str:
    """The name of the network that a file of weights or an exported one holds; errors as above."""
    if path.suffix in EXPORTED:
        return _open_exported(expand(path), OnnxHow()).spec.network
    return read_weights(path).network.name


def _create(source: WeightsSource, names: tuple[str, ...], options: dict[str, Any]) -> Any:
    """The Cell; which network's, a file says."""
    path = source.fetch(*names)
    name = names[0] if path is None else _owner(path, names)
    return create_from(source if path is None else replace(source, weights=path), name, **options)


def _owner(path: Path, names: tuple[str, ...]) -> str:
    """The network that a file is read as; one that it is not of is found out by that."""
    if len(names) == 1:
        return names[0]
    found = read_weights(path)
    check_network(found.spec.network, names, str(path))
    return found.network.name


def cpu_runtime(device: str | None) -> Backend | None:
    """What is best installed to run ONNX files, if the CPU is what there is to compute on."""
    runtimes = installed_runtimes()
    if not runtimes:
        return None
    if device is not None:
        on_cpu = Device.parse(device).target == "CPU"
    elif "mindspore" in sys.modules:
        on_cpu = sys.modules["mindspore"].get_context("device_target") == "CPU"
    else:
        on_cpu = not ASCEND_NODE.exists()
    return runtimes[0] if on_cpu else None


def _check_word(what: str, word: object, words: Sequence[str]) -> None:
    if word not in words:
        raise ValueError(f"{what} is {word!r}; expected one of {', '.join(words)}")


def _check_cpu(device: str | None, fp16: bool) -> None:
    """BackendError if the CPU, and ONNX files on it, is not where or how it is to be computed."""
    if device is not None and Device.parse(device).target != "CPU":
        raise BackendError(
            f"device is {device!r}, but ONNX Runtime and OpenVINO compute on the CPU here; give "
            f"weights, or a .mindir file, and the backend 'mindspore' or 'auto'"
        )
    if fp16:
        raise BackendError(
            "fp16 is for MindSpore's engine; leave it out, or choose the backend 'mindspore'"
        )


def _open_exported(
    path: Path, how: OnnxHow, device: str | None = None, fp16: bool = False
) -> Engine:
    if path.suffix == ".onnx" and how.backend != "mindspore":
        _check_cpu(device, fp16)
        return how.open_file(path)
    if path.suffix == ".mindir" and how.backend in ("auto", "mindspore"):
        from ..runtime import guard_cpu
        from .mindir_engine import MindirEngine

        if fp16:
            raise BackendError(f"{path}: it is computed as it was exported; leave fp16 out")
        choose_device(device)
        guard_cpu()
        engine = MindirEngine(path)
        if how.precision not in (None, "auto", engine.precision):
            raise PrecisionError(
                f"{path}: it is computed as it was exported, in {engine.precision}; leave "
                f"precision out"
            )
        return engine
    raise BackendError(
        f"{path}: the backend {how.backend!r} does not run {path.suffix} files; use 'auto'"
    )


def _as_asked(engine: Engine, options: dict[str, Any]) -> Engine:
    """The engine, if its network is what the options ask for; else a ValueError."""
    for name, wanted in options.items():
        found = getattr(engine.spec, name, None)
        if wanted is not None and str(wanted) != str(found):
            raise BackendError(
                f"{name} is {str(wanted)!r}, but {engine.source} holds the {name} {str(found)!r}; "
                f"leave {name} out, or give weights of that {name}"
            )
    return engine


def _model_of(cell: Any, metadata: Metadata) -> bytes:
    from .onnx_file import build_onnx

    return build_onnx(cell, metadata).SerializeToString()


def _cached_model(path: Path, names: tuple[str, ...], cache: Path) -> Path | bytes:
    """The weights as an ONNX file in the cache, written the first time and verified after.

    Its name holds the hashes of weights and sidecar. If the cache cannot be written, the content
    is returned.
    """
    folder = cache / "onnx"
    sha256 = file_sha256(path) if path.is_file() else ""
    sidecar = sidecar_path(path)
    named = file_sha256(sidecar)[:16] if sidecar.is_file() else "plain"
    key = f"{sha256}-{named}-v{_GRAPH_VERSION}"
    try:
        found = find_kept(folder, key, ".onnx")
    except OSError:
        found = None
    if found is not None:
        return found
    name = _owner(path, names)
    spec = read_complete_weights(path, find_network(name)).spec
    logger.info("%s: bringing it into an ONNX file, once", path)
    cell = create_from(WeightsSource(path), name)
    content = _model_of(cell, Metadata(spec, sha256))
    try:
        return keep(folder, key, ".onnx", content)
    except OSError as error:
        logger.warning("%s: the exported network is not kept (%s)", folder, error)
        return content
