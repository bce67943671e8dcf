"""OpenVINO on the CPU; imports no MindSpore."""

from __future__ import annotations

import hashlib
import json
import logging
from io import BytesIO
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np

from ..errors import OutputError, import_extra
from ..files import find_kept, keep, reading
from ..runtime import cap_leaves_bfloat16
from .engine import Hint
from .onnx_model import OnnxError, OnnxModel

logger = logging.getLogger(__name__)


class OpenVinoEngine(OnnxModel):
    """Runs a file of :func:`multitasknet.export`; any number of threads may.

    Args:
        model, source, threads, hint: as in :class:`.onnx_model.OnnxModel`; how many streams are
            best for ``throughput`` OpenVINO says.
        bfloat16: compute a float32 file in bfloat16, where :func:`has_bfloat16`.
        folder: where the compiled network is kept, verified each time it is read; OpenVINO's own
            cache is not (2026.4 takes one with 64 KB of zeros in it). None keeps nothing.

    Raises:
        OnnxError: no ONNX file, none that this runtime can run, or not in that precision.
        MetadataError: a file that this package did not export.
        MissingExtraError: OpenVINO is not installed.
    """

    name = "openvino"

    def __init__(
        self,
        model: str | Path | bytes,
        *,
        source: str = "",
        threads: int | None = None,
        hint: Hint = "latency",
        bfloat16: bool = False,
        folder: Path | None = None,
    ) -> None:
        openvino = import_extra("openvino", "openvino")
        super().__init__(model, source, threads, hint)
        core = openvino.Core()
        settings = {
            "PERFORMANCE_HINT": hint.upper(),
            "INFERENCE_NUM_THREADS": self.threads,
            # Left to itself, OpenVINO takes bfloat16 where the processor has AMX.
            "INFERENCE_PRECISION_HINT": "bf16" if bfloat16 else "f32",
            # The pose network's threads would wait on the same cores, and so would other processes.
            "ENABLE_CPU_PINNING": False,
        }
        with reading(self._named, OnnxError, "OpenVINO cannot run it", "export it again"):
            graph = core.read_model(model if isinstance(model, bytes) else str(model))
        key = ["framework"]  # where OpenVINO puts an ONNX file's own metadata
        strings = graph.get_rt_info(key).value if graph.has_rt_info(key) else {}
        self._take(strings, {end.any_name: _shape(end) for end in (*graph.inputs, *graph.outputs)})
        if bfloat16:
            if self.precision != "float32":
                raise OnnxError(
                    f"{self._named} is {self.precision}; expected a float32 file to run in "
                    f"bfloat16: export it again, or leave the precision out"
                )
            if not has_bfloat16():
                raise OnnxError(f"{self._named}: this processor does not compute it in bfloat16")
            self.precision = "bfloat16"
        with reading(self._named, OnnxError, "OpenVINO cannot run it", "export it again"):
            self._compiled = self._compile(core, graph, settings, folder)
        self.streams = self._compiled.get_property("NUM_STREAMS")
        # One a run at a time; as many as runs were ever abreast.
        self._idle: SimpleQueue[Any] = SimpleQueue()

    def _run(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        try:
            request = self._idle.get_nowait()
        except Empty:
            request = self._compiled.create_infer_request()
        outputs = request.infer(dict(zip(self.input_names, inputs, strict=False)))
        self._idle.put(request)
        return tuple(outputs[name] for name in self.output_names)

    def _compile(self, core: Any, graph: Any, settings: dict[str, Any], folder: Path | None) -> Any:
        """The compiled network, kept for this processor, OpenVINO and settings."""
        if folder is None:
            return core.compile_model(graph, "CPU", settings)
        facts = [settings, core.get_versions("CPU")["CPU"].build_number, *processor(core)]
        made_for = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
        key = f"{hashlib.sha256(self.content()).hexdigest()}-{made_for}"
        try:
            found = find_kept(folder, key, ".blob")
            if found is not None:
                return core.import_model(found.read_bytes(), "CPU", settings)
        except (OSError, RuntimeError) as error:
            logger.info("%s: compiled anew (%s)", self._named, error)
        compiled = core.compile_model(graph, "CPU", settings)
        content = BytesIO()
        compiled.export_model(content)
        try:
            keep(folder, key, ".blob", content.getvalue())
        except OutputError as error:
            logger.warning("%s: the compiled network is not kept (%s)", folder, error)
        return compiled


def processor(core: Any) -> tuple[str, list[str]]:
    """The processor's name, and what OpenVINO can compute in on it."""
    capabilities = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return core.get_property("CPU", "FULL_DEVICE_NAME"), sorted(capabilities)


def has_bfloat16() -> bool:
    """Whether the processor computes in bfloat16 (AVX512-BF16 or AMX), as OpenVINO finds it.

    OpenVINO does not look at a cap that keeps its oneDNN from it, and fails then (2026.4.1).
    """
    found = processor(import_extra("openvino", "openvino").Core())[1]
    return "BF16" in found and cap_leaves_bfloat16()


def _shape(end: Any) -> list[int | None]:
    return [None if one.is_dynamic else one.get_length() for one in end.partial_shape]
