"""An ONNX file of this package, whatever runtime runs it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path

import numpy as np

from ..errors import MultiTaskNetError, import_extra
from ..files import reading
from ..runtime import usable_cores
from .engine import Hint, run_in_batches
from .metadata import Metadata

_MOST_THREADS = 1024


class OnnxError(MultiTaskNetError, ValueError):
    """A file that a runtime does not take, or a number of threads that makes no sense."""


class OnnxModel:
    """A file of :func:`multitasknet.export`; a runtime's engine opens it and says how it runs.

    Args:
        model: the file's path, or its content.
        source: what to call the weights; default is the path, and nothing for a model in memory.
        threads: default is one for each core that this process may use.
        hint: ``latency``: all threads work at one batch; ``throughput``: the pictures of a batch
            are shared out among streams, which run abreast.

    Raises:
        OnnxError: no such number of threads.
    """

    name: str
    # Runs abreast: an engine sets it for the hint ``throughput``.
    streams = 1

    def __init__(
        self, model: str | Path | bytes, source: str, threads: int | None, hint: Hint
    ) -> None:
        if threads is not None and not 1 <= threads <= _MOST_THREADS:
            raise OnnxError(f"threads is {threads}; expected 1 to {_MOST_THREADS}")
        self._model = model
        self.source = source or ("" if isinstance(model, bytes) else str(model))
        self.threads = threads or usable_cores()
        self.hint = hint

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.source or 'in memory'}: {self.precision}, {self.hint}, "
            f"{self.threads} threads)"
        )

    @property
    def _named(self) -> str:
        return self.source or "the model"

    def _take(
        self, strings: Mapping[str, str], ends: Mapping[str, Sequence[int | str | None]]
    ) -> None:
        """Take over what the file says of itself, with the shapes of its inputs and outputs.

        Raises:
            MetadataError: a file that this package did not export.
            OnnxError: the shapes are others than the metadata state.
        """
        self.metadata = Metadata.from_strings(strings, self._named)
        self.spec = self.metadata.spec
        self.precision = self.metadata.precision
        size = self.spec.input_size
        for name, stated in (self.spec.input_shapes(size) | self.spec.output_shapes(size)).items():
            found = tuple(ends.get(name, ()))
            # Dimensions that may vary are no numbers.
            shape = [
                n if isinstance(n, int) else m for n, m in zip(found[1:], stated, strict=False)
            ]
            if tuple(shape) != stated:
                raise OnnxError(
                    f"{self._named}: its metadata state {name} {list(stated)}, but the network has "
                    f"{list(found)}; export it again"
                )

    @cached_property
    def weights_sha256(self) -> str:
        # What INT8 gives depends on the pictures that it was calibrated on as well.
        if self.metadata.weights_sha256 and self.metadata.precision != "int8":
            return self.metadata.weights_sha256
        return hashlib.sha256(self.content()).hexdigest()

    def run(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        pieces = min(self.streams, len(inputs[0]))
        if pieces <= 1 or self.metadata.batch is not None:
            return run_in_batches(self._run, inputs, self.metadata.batch)
        shared = [np.array_split(one, pieces) for one in inputs]
        parts = self._pool.map(self._run, *shared)
        return tuple(map(np.concatenate, zip(*parts, strict=True)))

    def _run(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        raise NotImplementedError

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self.streams)

    @property
    def input_names(self) -> tuple[str, ...]:
        return tuple(self.spec.input_shapes(self.spec.input_size))

    @property
    def output_names(self) -> tuple[str, ...]:
        return tuple(self.spec.output_shapes(self.spec.input_size))

    def content(self) -> bytes:
        """The model as it was opened."""
        return self._model if isinstance(self._model, bytes) else Path(self._model).read_bytes()


def read_metadata(path: Path) -> Metadata:
    """What an ONNX file says of itself; OnnxError, MetadataError."""
    onnx = import_extra("onnx", "onnx")
    with reading(path, OnnxError, "it is no ONNX file", "export it again"):
        model = onnx.load_from_string(path.read_bytes())
    return Metadata.from_strings({one.key: one.value for one in model.metadata_props}, str(path))
