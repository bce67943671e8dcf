"""ONNX Runtime on the CPU; imports no MindSpore."""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path

import numpy as np

from ..errors import MultiTaskNetError, import_extra
from ..files import reading
from ..runtime import usable_cores
from .engine import run_in_batches
from .metadata import Metadata

_MOST_THREADS = 1024


class OnnxError(MultiTaskNetError, ValueError):
    """A file that ONNX Runtime does not take."""


class OnnxEngine:
    """Runs a file of :func:`multitasknet.export`; any number of threads may.

    Args:
        model: the file's path, or its content.
        source: what to call the weights; default is the path, and nothing for a model in memory.
        threads: of one run; default is one for each core that this process may use.

    Raises:
        OnnxError: no ONNX file, or none that this runtime can run.
        MetadataError: a file that this package did not export.
        MissingExtraError: ONNX Runtime is not installed.
    """

    name = "onnx"

    def __init__(
        self, model: str | Path | bytes, *, source: str = "", threads: int | None = None
    ) -> None:
        runtime = import_extra("onnxruntime", "onnx")
        self._model = model
        self.source = source or ("" if isinstance(model, bytes) else str(model))
        named = self.source or "the model"
        if threads is not None and not 1 <= threads <= _MOST_THREADS:
            raise OnnxError(f"threads is {threads}; expected 1 to {_MOST_THREADS}")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads or usable_cores()
        # Threads that spin between runs would take the cores from decoding the next batch.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        with reading(named, OnnxError, "ONNX Runtime cannot run it", "export it again"):
            self._session = runtime.InferenceSession(
                model if isinstance(model, bytes) else str(model),
                options,
                providers=["CPUExecutionProvider"],
            )
        strings = self._session.get_modelmeta().custom_metadata_map
        self.metadata = Metadata.from_strings(strings, named)
        self.spec = self.metadata.spec
        self.precision = self.metadata.precision
        self._check_ends(named)

    @cached_property
    def weights_sha256(self) -> str:
        # What INT8 gives depends on the pictures that it was calibrated on as well.
        if self.metadata.weights_sha256 and self.precision != "int8":
            return self.metadata.weights_sha256
        return hashlib.sha256(self.content()).hexdigest()

    def run(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        return run_in_batches(self._run, inputs, self.metadata.batch)

    def _run(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        named = dict(zip(self.input_names, inputs, strict=False))
        return tuple(self._session.run(list(self.output_names), named))

    def _check_ends(self, named: str) -> None:
        """OnnxError unless inputs and outputs are those that the metadata state."""
        ends = (*self._session.get_inputs(), *self._session.get_outputs())
        found = {end.name: tuple(end.shape) for end in ends}
        size = self.spec.input_size
        for name, stated in (self.spec.input_shapes(size) | self.spec.output_shapes(size)).items():
            # Dimensions that may vary have names.
            shape = [
                n if isinstance(n, int) else m
                for n, m in zip(found.get(name, ())[1:], stated, strict=False)
            ]
            if tuple(shape) != stated:
                raise OnnxError(
                    f"{named}: its metadata state {name} {list(stated)}, but the network has "
                    f"{list(found.get(name, ()))}; export it again"
                )

    @property
    def input_names(self) -> tuple[str, ...]:
        return tuple(self.spec.input_shapes(self.spec.input_size))

    @property
    def output_names(self) -> tuple[str, ...]:
        return tuple(self.spec.output_shapes(self.spec.input_size))

    def content(self) -> bytes:
        """The model as it was opened."""
        return self._model if isinstance(self._model, bytes) else Path(self._model).read_bytes()
