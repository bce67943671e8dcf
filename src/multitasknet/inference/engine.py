"""What runs a network: each engine takes arrays and gives arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any, Literal, Protocol, get_args

import numpy as np

Backend = Literal["auto", "mindspore", "onnx", "openvino"]
BACKENDS: tuple[str, ...] = get_args(Backend)
Precision = Literal["auto", "float32", "bfloat16", "int8"]
PRECISIONS: tuple[str, ...] = get_args(Precision)
Hint = Literal["latency", "throughput"]
HINTS: tuple[str, ...] = get_args(Hint)

# MindSpore's kernels do not bear several threads of one process: its engines take turns.
MINDSPORE_TURN = Lock()

Run = Callable[..., tuple[np.ndarray, ...]]


class Engine(Protocol):
    """One way to run a network; safe to share between threads.

    Attributes:
        name: ``mindspore``, ``onnx``, ``openvino`` or ``mindir``.
        spec: the architecture.
        source: where the weights came from, for people; empty if they are random.
        precision: ``float32``, ``bfloat16``, ``float16`` or ``int8``.
    """

    name: str
    spec: Any
    source: str
    precision: str

    @property
    def weights_sha256(self) -> str:
        """Of the weights file whose values these are; of what is run, if they are no file's."""

    def run(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        """From float32 inputs, as ``spec.input_shapes`` names them, to ``spec.output_shapes``.

        Inputs beyond those that the network takes are passed over.
        """


def run_in_batches(
    run: Run, inputs: Sequence[np.ndarray], batch: int | None
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
