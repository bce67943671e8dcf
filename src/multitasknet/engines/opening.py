"""Which engine runs which weights."""

from __future__ import annotations

import logging
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from ..card import ModelCard
from ..download import default_cache_dir, file_sha256
from ..errors import MultiTaskNetError
from ..files import replacing
from ..hub import VariantError, create_network, weights_path
from ..serving.metadata import Metadata
from ..spec import Variant
from . import BACKENDS, Backend, Engine

if TYPE_CHECKING:
    from ..network import MultiTaskNet

logger = logging.getLogger(__name__)

# In the names of cached files: raise it whenever the same weights give another graph.
_GRAPH_VERSION = 1
# Where an Ascend accelerator shows itself, for which MindSpore is the right engine.
_ASCEND_DEVICE = Path("/dev/davinci_manager")


class BackendError(MultiTaskNetError, ValueError):
    """A backend that does not run the given file."""


def open_engine(
    weights: str | Path | None,
    *,
    backend: Backend = "auto",
    network: MultiTaskNet | None = None,
    card: str | Path | ModelCard | None = None,
    variant: str | None = None,
    cache_dir: str | Path | None = None,
    offline: bool = False,
    progress: bool = True,
) -> Engine:
    """Open the engine for weights as :class:`multitasknet.Predictor` takes them."""
    if backend not in BACKENDS:
        raise ValueError(f"backend is {backend!r}; expected one of {', '.join(BACKENDS)}")
    suffix = Path(weights).suffix if isinstance(weights, str | Path) else ""
    if network is None and suffix in (".onnx", ".mindir"):
        return _with_variant(_exported(Path(weights).expanduser(), backend), variant)
    in_memory = network is not None or weights is None
    if backend == "mindspore" or (backend == "auto" and (in_memory or not _onnx_is_best())):
        from .mindspore_engine import MindSporeEngine

        return MindSporeEngine(
            network
            or create_network(
                weights=weights,
                card=card,
                variant=variant,
                cache_dir=cache_dir,
                offline=offline,
                progress=progress,
            )
        )

    from .onnx_engine import OnnxEngine

    if in_memory:
        network = network or create_network(weights=None, variant=variant)
        return OnnxEngine(_model_of(network), source=str(network.load_report or ""))
    path = weights_path(weights, card, cache_dir, offline, progress)
    engine = OnnxEngine(_cached_model(path, cache_dir), source=str(path))
    return _with_variant(engine, variant)


def _onnx_is_best() -> bool:
    """Whether ONNX Runtime is installed and the CPU is what there is to compute on."""
    if find_spec("onnxruntime") is None or find_spec("onnx") is None:
        return False
    if "mindspore" in sys.modules:
        return sys.modules["mindspore"].get_context("device_target") == "CPU"
    return not _ASCEND_DEVICE.exists()


def _exported(path: Path, backend: str) -> Engine:
    if path.suffix == ".onnx" and backend != "mindspore":
        from .onnx_engine import OnnxEngine

        return OnnxEngine(path)
    if path.suffix == ".mindir" and backend != "onnx":
        from ..runtime import guard_cpu
        from .mindir_engine import MindirEngine

        guard_cpu()
        return MindirEngine(path)
    raise BackendError(
        f"{path}: the backend {backend!r} does not run {path.suffix} files; use 'auto'"
    )


def _with_variant(engine: Engine, variant: str | None) -> Engine:
    if variant is not None and Variant.parse(variant) is not engine.spec.variant:
        raise VariantError(
            f"variant is {variant!r}, but {engine.source} holds the variant "
            f"{engine.spec.variant.value!r}; leave variant out, or give weights of that variant"
        )
    return engine


def _model_of(network: MultiTaskNet) -> bytes:
    from ..serving.onnx_graph import build_onnx

    arrays = {parameter.name: parameter.asnumpy() for parameter in network.get_parameters()}
    return build_onnx(arrays, Metadata(network.spec)).SerializeToString()


def _cached_model(path: Path, cache_dir: str | Path | None) -> Path | bytes:
    """The weights as an ONNX file in the cache, written the first time; needs no MindSpore.

    Its name holds the weights' sha256. If the cache cannot be written, the content is returned.
    """
    from ..weights.reading import read_whole_network

    sha256 = file_sha256(path) if path.is_file() else ""
    root = default_cache_dir() if cache_dir is None else Path(cache_dir).expanduser()
    cached = root / "onnx" / f"{sha256}-v{_GRAPH_VERSION}.onnx"
    if cached.is_file():
        return cached

    from ..serving.onnx_graph import build_onnx

    found = read_whole_network(path)
    content = build_onnx(found.arrays, Metadata(found.spec, sha256)).SerializeToString()
    try:
        cached.parent.mkdir(parents=True, exist_ok=True)
        with replacing(cached) as part:
            part.write_bytes(content)
    except OSError as error:
        logger.warning("%s: the exported network is not kept (%s)", cached, error)
        return content
    return cached
