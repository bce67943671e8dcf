"""MindSpore, on the Cell itself."""

from __future__ import annotations

import hashlib
from collections import Counter
from functools import cached_property
from typing import Any

import mindspore
import numpy as np
from mindspore import Tensor, nn

from ..weights.loading import frozen_copy, source_sha256
from .engine import MINDSPORE_TURN

# Compiling a graph takes seconds, once an input shape, and saves a quarter of each run.
_RUNS_BEFORE_COMPILING = 20


class MindSporeEngine:
    """Runs a network of :func:`multitasknet.create_network` with the weights that it has now."""

    name = "mindspore"
    precision = "float32"

    def __init__(self, cell: Any) -> None:
        self.spec = cell.spec
        self.source = str(cell.load_report or "")
        self._report = cell.load_report
        self._cell = frozen_copy(cell)
        self._compiled = mindspore.jit(self._cell.construct)
        self._runs: Counter[tuple[int, ...]] = Counter()

    @cached_property
    def weights_sha256(self) -> str:
        return source_sha256(self._cell, self._report) or _values_sha256(self._cell)

    def run(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        with MINDSPORE_TURN:
            self._runs[inputs[0].shape] += 1
            often = self._runs[inputs[0].shape] > _RUNS_BEFORE_COMPILING
            outputs = (self._compiled if often else self._cell)(*map(Tensor, inputs))
            outputs = outputs if isinstance(outputs, tuple) else (outputs,)
            return tuple(output.asnumpy() for output in outputs)


def _values_sha256(cell: nn.Cell) -> str:
    """Of a Cell's values, by name."""
    digest = hashlib.sha256()
    for parameter in cell.get_parameters():
        digest.update(parameter.name.encode())
        digest.update(parameter.asnumpy().tobytes())
    return digest.hexdigest()
