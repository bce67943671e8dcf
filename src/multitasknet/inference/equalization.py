"""Features of one scale, so that eight bits suit all channels of what is concatenated.

A dense block's features lie in one tensor, which INT8 gives one step. Where each consumer begins
with a factor a channel (a norm), a channel's scale is free: it is divided out of the convolution
that makes the channel, and goes into that factor. Outputs stay what they were. After Nagel et al.,
Data-Free Quantization Through Weight Equalization and Bias Correction, ICCV 2019, section 4.1.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

import numpy as np
import onnx

from .graph import attributes, inferred_shapes, open_at

# And from which of their channels on they take what is scaled.
Norms: TypeAlias = "list[tuple[Any, int]]"
# What leaves a channel's positive factor a factor (a pad's value is 0 or without end).
_KEEPS_SCALE = ("Relu", "MaxPool", "AveragePool", "Pad")
_LEAST = 1e-6


def equalize(model: Any, batches: Iterable[dict[str, np.ndarray]]) -> int:
    """Give all channels of concatenated features the same reach on these inputs by name, in place.

    How many convolutions of the float32 ``ModelProto`` were scaled; 0 leaves it as it is.
    """
    graph = _Graph(model)
    features = list(graph.features())
    if features:
        ranges = _ranges(model, {tensor for _, tensor, _ in features}, batches)
        for maker, tensor, norms in features:
            graph.scale(maker, norms, np.maximum(ranges[tensor], _LEAST))
    return len(features)


class _Graph:
    """Who takes what, and the shape of each tensor."""

    def __init__(self, model: Any) -> None:
        self.nodes = model.graph.node
        self.weights = {one.name: one for one in model.graph.initializer}
        self.shapes = inferred_shapes(model)
        self.consumers: dict[str, list[Any]] = defaultdict(list)
        for node in self.nodes:
            for name in node.input:
                self.consumers[name].append(node)

    def features(self) -> Iterator[tuple[Any, str, Norms]]:
        """Convolutions whose channels are concatenated and go to norms alone, the name of these
        channels where they are concatenated, and the norms."""
        for node in self.nodes:
            if node.op_type != "Conv" or self._is_norm(node):
                continue
            tensor = node.output[0]
            takers = self.consumers[tensor]
            while len(takers) == 1 and takers[0].op_type in _KEEPS_SCALE:
                tensor = takers[0].output[0]
                takers = self.consumers[tensor]
            is_joined = any(taker.op_type == "Concat" for taker in takers)
            if is_joined and (norms := self._norms(tensor, 0)):
                yield node, tensor, norms

    def scale(self, maker: Any, norms: Norms, ranges: np.ndarray) -> None:
        """Divide the maker's channels by their ranges, and multiply the norms' by them."""
        for name in maker.input[1:]:
            values = self._values(name)
            self._write(name, values / ranges.reshape(-1, *[1] * (values.ndim - 1)))
        for norm, start in norms:
            values = self._values(norm.input[1]).copy()
            values[start : start + len(ranges)] *= ranges[:, None, None, None]
            self._write(norm.input[1], values)

    def _norms(self, tensor: str, start: int) -> Norms | None:
        """The norms that take it, its channels from ``start`` on; None if anything else does."""
        found: Norms = []
        for taker in self.consumers[tensor]:
            if self._is_norm(taker):
                found.append((taker, start))
                continue
            before = list(taker.input)[: list(taker.input).index(tensor)]
            is_joined = taker.op_type == "Concat" and attributes(taker)["axis"] == 1
            if not is_joined or not all(name in self.shapes for name in before):
                return None
            place = start + sum(self.shapes[name][1] for name in before)
            further = self._norms(taker.output[0], place)
            if further is None:
                return None
            found += further
        return found

    def _is_norm(self, node: Any) -> bool:
        """A factor a channel, and nothing between them."""
        if node.op_type != "Conv" or node.input[1] not in self.weights:
            return False
        dims = list(self.weights[node.input[1]].dims)
        return dims == [attributes(node).get("group", 1), 1, 1, 1]

    def _values(self, name: str) -> np.ndarray:
        values: np.ndarray = onnx.numpy_helper.to_array(self.weights[name])
        return values

    def _write(self, name: str, values: np.ndarray) -> None:
        made = onnx.numpy_helper.from_array(values.astype(np.float32), name)
        self.weights[name].CopyFrom(made)


def _ranges(
    model: Any, tensors: set[str], batches: Iterable[dict[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """How far each channel of these tensors reaches, float64 ``[C]``.

    The geometric mean of its largest absolute value, from which INT8's step is, and its deviation,
    by which the norm divides that step.
    """
    names = sorted(tensors)
    session = open_at(model, names)
    seen: dict[str, list[tuple[np.ndarray, ...]]] = defaultdict(list)
    for batch in batches:
        for name, values in zip(names, session.run(names, batch), strict=True):
            spread = values.astype(np.float64)
            seen[name].append(
                (np.abs(spread).max((0, 2, 3)), spread.mean((0, 2, 3)), (spread**2).mean((0, 2, 3)))
            )
    found = {}
    for name, of_batches in seen.items():
        largest, means, squares = map(np.stack, zip(*of_batches, strict=True))
        variance = squares.mean(0) - means.mean(0) ** 2
        found[name] = np.sqrt(largest.max(0) * np.sqrt(np.maximum(variance, 0)))
    return found
