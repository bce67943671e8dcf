"""ONNX Runtime on the CPU; imports no MindSpore."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import import_extra
from ..files import reading
from .engine import Hint
from .onnx_model import OnnxError, OnnxModel

_SILENT = "ORT_DISABLE_TELEMETRY"


class OnnxEngine(OnnxModel):
    """Runs a file of :func:`multitasknet.export`; any number of threads may.

    Arguments as in :class:`.onnx_model.OnnxModel`; for ``throughput`` a thread is a stream.

    Raises:
        OnnxError: no ONNX file, or none that this runtime can run.
        MetadataError: a file that this package did not export.
        MissingExtraError: ONNX Runtime is not installed.
    """

    name = "onnx"

    def __init__(
        self,
        model: str | Path | bytes,
        *,
        source: str = "",
        threads: int | None = None,
        hint: Hint = "latency",
    ) -> None:
        runtime = import_runtime()
        super().__init__(model, source, threads, hint)
        if hint == "throughput":
            self.streams = self.threads
        options = runtime.SessionOptions()
        options.intra_op_num_threads = self.threads // self.streams
        # Spinning threads wait less within a run; after it they would take the cores from decoding.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        with reading(self._named, OnnxError, "ONNX Runtime cannot run it", "export it again"):
            self._session = runtime.InferenceSession(
                model if isinstance(model, bytes) else str(model),
                options,
                providers=["CPUExecutionProvider"],
            )
        ends = (*self._session.get_inputs(), *self._session.get_outputs())
        strings = self._session.get_modelmeta().custom_metadata_map
        self._take(strings, {end.name: end.shape for end in ends})

    def _run(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        named = dict(zip(self.input_names, inputs, strict=False))
        return tuple(self._session.run(list(self.output_names), named))


def import_runtime() -> Any:
    """ONNX Runtime; it begins to report to its maker when it is imported, unless it is told not to.

    Raises:
        MissingExtraError: it is not installed.
    """
    if _SILENT in os.environ:
        return import_extra("onnxruntime", "onnx")
    os.environ[_SILENT] = "1"
    try:
        return import_extra("onnxruntime", "onnx")
    finally:
        del os.environ[_SILENT]
