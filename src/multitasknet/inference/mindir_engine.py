"""MindIR files: MindSpore's own graphs, loaded without the Python network."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import mindspore
import numpy as np
from mindspore import Tensor, nn

from ..errors import MultiTaskNetError
from ..files import file_sha256, reading
from .engine import MINDSPORE_TURN, run_in_batches
from .metadata import Metadata

_UNREADABLE = "it cannot be read as MindIR", "export it again"


class MindirError(MultiTaskNetError, ValueError):
    """A file that MindSpore does not load."""


class MindirEngine:
    """Runs a file of :func:`multitasknet.export`; threads take turns.

    Raises:
        MindirError: no MindIR file, or a damaged one.
        MetadataError: a file that this package did not export.
    """

    name = "mindir"

    def __init__(self, path: Path) -> None:
        self.metadata = Metadata.from_strings(_user_info(path), str(path))
        self.spec = self.metadata.spec
        self.precision = self.metadata.precision
        self.source = str(path)
        self._inputs = len(self.spec.input_shapes(self.spec.input_size))
        with reading(path, MindirError, *_UNREADABLE):
            self._cell = nn.GraphCell(mindspore.load(str(path)))

    @cached_property
    def weights_sha256(self) -> str:
        return self.metadata.weights_sha256 or file_sha256(Path(self.source))

    def run(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        return run_in_batches(self._run, inputs[: self._inputs], self.metadata.batch)

    def _run(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        with MINDSPORE_TURN:
            outputs = self._cell(*map(Tensor, inputs))
            outputs = outputs if isinstance(outputs, tuple) else (outputs,)
            return tuple(output.asnumpy() for output in outputs)


def write_mindir(path: Path, cell: nn.Cell, metadata: Metadata) -> None:
    """Write the network for inputs of ``spec.input_size``, with the metadata as user info."""
    shapes = metadata.spec.input_shapes(metadata.spec.input_size)

    def describe(model: Any) -> None:
        model.user_info.update(metadata.as_strings())
        renamed = {one.name: name for one, name in zip(model.graph.input, shapes, strict=True)}
        for one in model.graph.input:
            one.name = renamed[one.name]
        for node in model.graph.node:
            node.input[:] = [renamed.get(name, name) for name in node.input]

    inputs = [
        Tensor(shape=[metadata.batch, *shape], dtype=mindspore.float32) for shape in shapes.values()
    ]
    mindspore.export(cell, *inputs, file_name=str(path), file_format="MINDIR", custom_func=describe)


def _user_info(path: Path) -> dict[str, str]:
    from mindspore.train.mind_ir_pb2 import ModelProto

    with reading(path, MindirError, *_UNREADABLE):
        return dict(ModelProto.FromString(path.read_bytes()).user_info)
