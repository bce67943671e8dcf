"""Features of one scale, so that eight bits suit all channels of what is concatenated.

A dense block's features lie in one tensor, which INT8 gives one step. Where each consumer begins
with a factor a channel (a norm), a channel's scale is free: it is divided out of the convolution
that makes the channel, and goes into that factor. Outputs stay what they were. After Nagel et al.,
Data-Free Quantization Through Weight Equalization and Bias Correction, ICCV 2019, section 4.1.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

# What leaves a channel's positive factor a factor (a pad's value is 0 or without end).
_KEEPS_SCALE = ("Relu", "MaxPool", "AveragePool", "Pad")
_LEAST = 1e-6


def equalize(model: Any, batches: Iterable[dict[str, np.ndarray]]) -> int:
    """Give all channels of concatenated features the same reach on these inputs, in place.

    Args:
        model: an ONNX ``ModelProto``, float32.
        batches: inputs by name.

    Returns:
        How many convolutions were scaled; 0 leaves the model as it is.
    """
    graph = _Graph(model.graph)
    features = list(graph.features())
    if not features:
        return 0
    ranges = _ranges(model, {one.tensor for one in features}, batches)
    for feature in features:
        graph.scale(feature, np.maximum(ranges[feature.tensor], _LEAST))
    return len(features)


@dataclass(frozen=True)
class _Feature:
    """A convolution's channels on their way to norms.

    Attributes:
        maker: the convolution.
        tensor: its channels as they enter a concatenation.
        norms: what takes them, and from which of its channels on.
    """

    maker: Any
    tensor: str
    norms: tuple[tuple[Any, int], ...]


class _Graph:
    """Who takes what, and how many channels each tensor has between convolutions."""

    def __init__(self, graph: Any) -> None:
        self.nodes = graph.node
        self.weights = {one.name: one for one in graph.initializer}
        self.consumers: dict[str, list[Any]] = defaultdict(list)
        self.channels: dict[str, int] = {}
        for node in graph.node:
            for name in node.input:
                self.consumers[name].append(node)
            known = [self.channels.get(name) for name in node.input]
            if node.op_type == "Conv" and node.input[1] in self.weights:
                self.channels[node.output[0]] = self.weights[node.input[1]].dims[0]
            elif node.op_type in _KEEPS_SCALE and known[0]:
                self.channels[node.output[0]] = known[0]
            elif node.op_type == "Concat" and _attribute(node, "axis", 0) == 1 and all(known):
                self.channels[node.output[0]] = sum(filter(None, known))

    def features(self) -> Iterator[_Feature]:
        """Of all convolutions whose channels are concatenated, and go to norms alone."""
        for node in self.nodes:
            if node.op_type != "Conv" or node.output[0] not in self.channels or self._is_norm(node):
                continue
            tensor = node.output[0]
            takers = self.consumers[tensor]
            while len(takers) == 1 and takers[0].op_type in _KEEPS_SCALE:
                tensor = takers[0].output[0]
                takers = self.consumers[tensor]
            if any(taker.op_type == "Concat" for taker in takers):
                norms = self._norms(tensor, 0)
                if norms:
                    yield _Feature(node, tensor, tuple(norms))

    def scale(self, feature: _Feature, ranges: np.ndarray) -> None:
        """Divide the maker's channels by their ranges, and multiply the norms' by them."""
        for name in feature.maker.input[1:]:
            values = self._values(name)
            self._write(name, values / ranges.reshape(-1, *[1] * (values.ndim - 1)))
        for norm, start in feature.norms:
            values = self._values(norm.input[1]).copy()
            values[start : start + len(ranges)] *= ranges[:, None, None, None]
            self._write(norm.input[1], values)

    def _norms(self, tensor: str, start: int) -> list[tuple[Any, int]] | None:
        """The norms that take it, its channels from ``start`` on; None if anything else does."""
        found: list[tuple[Any, int]] = []
        for taker in self.consumers[tensor]:
            if self._is_norm(taker):
                found.append((taker, start))
                continue
            if taker.op_type != "Concat" or taker.output[0] not in self.channels:
                return None
            before = list(taker.input)[: list(taker.input).index(tensor)]
            place = start + sum(self.channels[name] for name in before)
            further = self._norms(taker.output[0], place)
            if further is None:
                return None
            found += further
        return found

    def _is_norm(self, node: Any) -> bool:
        """A factor a channel, and nothing between them."""
        if node.op_type != "Conv" or node.output[0] not in self.channels:
            return False
        dims = list(self.weights[node.input[1]].dims)
        return dims == [_attribute(node, "group", 1), 1, 1, 1]

    def _values(self, name: str) -> np.ndarray:
        values: np.ndarray = onnx.numpy_helper.to_array(self.weights[name])
        return values

    def _write(self, name: str, values: np.ndarray) -> None:
        made = onnx.numpy_helper.from_array(values.astype(np.float32), name)
        self.weights[name].CopyFrom(made)


def _attribute(node: Any, name: str, default: int) -> int:
    return next((one.i for one in node.attribute if one.name == name), default)


def _ranges(
    model: Any, tensors: set[str], batches: Iterable[dict[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """How far each channel of these tensors reaches, float64 ``[C]``.

    The geometric mean of its largest absolute value, from which INT8's step is, and its deviation,
    by which the norm divides that step.
    """
    import onnxruntime

    names = sorted(tensors)
    open_model = onnx.ModelProto()
    open_model.CopyFrom(model)
    del open_model.graph.output[:]
    open_model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    session = onnxruntime.InferenceSession(
        open_model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
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
