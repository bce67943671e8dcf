"""What runs the network: each engine takes arrays and gives arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol, get_args

import numpy as np

from ..spec import NetworkSpec

Backend = Literal["auto", "mindspore", "onnx"]
BACKENDS: tuple[str, ...] = get_args(Backend)


class Engine(Protocol):
    """One way to run the network.

    Attributes:
        name: ``mindspore``, ``onnx`` or ``mindir``.
        spec: the architecture.
        source: where the weights came from, for people; empty if they are random.
        weights_sha256: of the weights file; where there is none, of the values themselves.
    """

    name: str
    spec: NetworkSpec
    source: str
    weights_sha256: str

    def run(self, x: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, ...]:
        """From float32 ``[N, C, H, W]`` and ``[N, 108]`` to the outputs of ``spec.outputs``."""
        ...


def run_in_batches(
    run: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, ...]],
    x: np.ndarray,
    p: np.ndarray,
    batch: int | None,
) -> tuple[np.ndarray, ...]:
    """Run any number of inputs through a network that takes ``batch`` at a time, or any if None.

    The last batch is filled with inputs that are there already.
    """
    count = len(x)
    if batch in (None, count):
        return run(x, p)
    order = np.resize(np.arange(count), -(-count // batch) * batch).reshape(-1, batch)
    runs = [run(x[rows], p[rows]) for rows in order]
    return tuple(np.concatenate(parts)[:count] for parts in zip(*runs, strict=True))
