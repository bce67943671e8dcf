"""MindSpore, on the Cell itself."""

from __future__ import annotations

import hashlib
from collections import Counter
from functools import cached_property
from typing import Any

import mindspore
import numpy as np
from mindspore import Tensor, nn

from ..weights.load import frozen_copy, source_sha256
from .engine import MINDSPORE_TURN, run_in_batches

# Compiling a graph takes seconds, once an input shape, and saves a quarter of each run on a CPU.
_RUNS_BEFORE_COMPILING = 20


class MindSporeEngine:
    """Runs a network of :func:`multitasknet.create_network` with the weights that it has now.

    Args:
        cell: the network.
        batch: the only batch size to run, compiled at once: for devices other than a CPU, which
            take long to compile and are slow without. Fewer inputs are filled up, more are split.
            None runs what it is given, and compiles what it is given often.
        fp16: compute in float16, all but batch norms.
    """

    name = "mindspore"

    def __init__(self, cell: Any, *, batch: int | None = None, fp16: bool = False) -> None:
        self.spec = cell.spec
        self.source = str(cell.load_report or "")
        self.precision = "float16" if fp16 else "float32"
        self._report = cell.load_report
        self._cell = frozen_copy(cell)
        if fp16:
            mindspore.amp.auto_mixed_precision(self._cell, "O2")
        self._batch = batch
        # Not the default, which is GE on the first Ascend series under MindSpore 2.7 and 2.8.
        self._compiled = mindspore.jit(self._cell.construct, backend="ms_backend")
        self._runs: Counter[tuple[int, ...]] = Counter()

    @cached_property
    def weights_sha256(self) -> str:
        return source_sha256(self._cell, self._report) or _values_sha256(self._cell)

    def run(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        return run_in_batches(self._run, inputs, self._batch)

    def _run(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        with MINDSPORE_TURN:
            self._runs[inputs[0].shape] += 1
            often = self._batch or self._runs[inputs[0].shape] > _RUNS_BEFORE_COMPILING
            outputs = (self._compiled if often else self._cell)(*map(Tensor, inputs))
            outputs = outputs if isinstance(outputs, tuple) else (outputs,)
            return tuple(output.asnumpy().astype(np.float32, copy=False) for output in outputs)


def _values_sha256(cell: nn.Cell) -> str:
    """Of a Cell's values, by name."""
    digest = hashlib.sha256()
    for parameter in cell.get_parameters():
        digest.update(parameter.name.encode())
        digest.update(parameter.asnumpy().tobytes())
    return digest.hexdigest()
