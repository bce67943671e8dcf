"""Eight-bit weights by what a layer's outputs lose, not each by the nearest step.

Where few weights make an output, as in depthwise convolutions, they are rounded together so that
the output changes least on given pictures (coordinate descent: Behdin et al., QuantEase, 2023).
Everywhere the bias takes what the mean of an output is shifted by (Nagel et al., Data-Free
Quantization Through Weight Equalization and Bias Correction, ICCV 2019, section 4.2).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np
import onnx

from .graph import attributes, open_at

# Weights of an output up to which they are rounded together: of more, single errors even out.
_FEW = 64
_PLACES = 32  # of a picture where a layer's inputs are looked at
_SWEEPS = 3
_DAMPING, _LEAST = 0.01, 1e-6


def round_weights(
    model: Any,
    batches: Iterable[dict[str, np.ndarray]],
    *,
    levels: int,
    exact: Collection[str] = (),
) -> None:
    """Put the weights of convolutions and Dense layers on eight-bit steps, in place.

    A channel's largest weight stays as it is: a quantiser that takes the steps from it finds them.

    Args:
        model: an ONNX ``ModelProto``, float32; ``batches`` are its inputs by name.
        levels: steps from 0 to a channel's largest weight.
        exact: names of nodes that stay as they are.
    """
    constants = {one.name: one for one in model.graph.initializer}
    layers = [
        _Layer(node, constants)
        for node in model.graph.node
        if node.op_type in ("Conv", "Gemm")
        and node.input[1] in constants
        and node.name not in exact
    ]
    rng = np.random.default_rng(0)
    names = sorted({layer.node.input[0] for layer in layers})
    session = open_at(model, names)
    for batch in batches:
        for place in range(len(next(iter(batch.values())))):  # all inputs of one picture at a time
            picture = {name: values[place : place + 1] for name, values in batch.items()}
            inputs = dict(zip(names, session.run(names, picture), strict=True))
            for layer in layers:
                layer.see(inputs[layer.node.input[0]], rng)
    for layer in layers:
        weights, bias = layer.rounded(levels)
        if len(layer.node.input) == 2:
            layer.node.input.append(f"{layer.node.output[0]}.bias")
            constants[layer.node.input[2]] = model.graph.initializer.add()
        for name, values in zip(layer.node.input[1:], (weights, bias), strict=True):
            constants[name].CopyFrom(onnx.numpy_helper.from_array(values, name))


class _Layer:
    """A convolution or Dense layer: G groups of outputs, each made of K inputs, and what was seen
    of these."""

    def __init__(self, node: Any, constants: dict[str, Any]) -> None:
        self.node = node
        self._options = attributes(node)
        weights = onnx.numpy_helper.to_array(constants[node.input[1]]).astype(np.float64)
        bias = onnx.numpy_helper.to_array(constants[node.input[2]]) if len(node.input) > 2 else 0
        self._shape, self._bias = weights.shape, np.zeros(len(weights)) + bias
        groups = self._options.get("group", 1)
        self._rows = weights.reshape(groups, len(weights) // groups, -1)  # [G, O / G, K]
        self._is_small = self._rows.shape[2] <= _FEW
        self._seen = 0
        self._mean = np.zeros((groups, self._rows.shape[2]))
        self._products = np.zeros((*self._mean.shape, self._rows.shape[2]) if self._is_small else 0)

    def see(self, x: np.ndarray, rng: np.random.Generator) -> None:
        """Take in one picture's input, ``[1, C, H, W]`` or ``[1, C]``, at random places."""
        windows = self._windows(x, rng).astype(np.float64)
        self._seen += windows.shape[1]
        self._mean += windows.sum(axis=1)
        if self._is_small:
            self._products += windows.transpose(0, 2, 1) @ windows

    def rounded(self, levels: int) -> tuple[np.ndarray, np.ndarray]:
        """Weights and bias, float32."""
        reach = np.abs(self._rows).max(axis=2, keepdims=True)
        step = np.where(reach > 0, reach, 1) / levels
        mean = self._mean / self._seen
        steps = np.round(self._rows / step)
        if self._is_small:
            products = self._products / self._seen
            covariance = products - mean[:, :, None] * mean[:, None, :]
            # What hardly changes is left at the nearest steps, not to what is left of rounding.
            damping = _DAMPING * _diagonal_mean(covariance) + _LEAST * _diagonal_mean(products)
            covariance += damping * np.eye(mean.shape[1])
            steps = _descend(self._rows / step, steps, covariance, levels)
        rows = steps * step
        shift = ((rows - self._rows) @ mean[:, :, None]).reshape(-1)
        return rows.reshape(self._shape).astype(np.float32), (self._bias - shift).astype(np.float32)

    def _windows(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The inputs of one output at some places, ``[G, places, K]``."""
        if x.ndim == 2:
            return x[None]
        sides, strides = self._shape[2:], self._options.get("strides", [1, 1])
        before, after = self._padding(x.shape[2:], strides)
        padded = np.pad(x[0], ((0, 0), *zip(before, after, strict=True)))
        rows, columns = (
            stride * rng.integers(0, (side - k) // stride + 1, (_PLACES, 1)) + np.arange(k)
            for side, stride, k in zip(padded.shape[1:], strides, sides, strict=True)
        )
        chosen = padded[:, rows[:, :, None], columns[:, None]]  # [C, places, h, w]
        groups = len(self._mean)
        return (
            chosen.reshape(groups, -1, _PLACES, np.prod(sides))
            .transpose(0, 2, 1, 3)
            .reshape(groups, _PLACES, -1)
        )

    def _padding(self, size: Sequence[int], strides: Sequence[int]) -> tuple[list[int], list[int]]:
        """Of height and width, before and after; MindSpore's ``same`` pads more after."""
        if self._options.get("auto_pad") != b"SAME_UPPER":
            pads = self._options.get("pads", [0, 0, 0, 0])
            return pads[:2], pads[2:]
        totals = [
            max((-(-side // stride) - 1) * stride + k - side, 0)
            for side, stride, k in zip(size, strides, self._shape[2:], strict=True)
        ]
        return [one // 2 for one in totals], [one - one // 2 for one in totals]


def _descend(
    rows: np.ndarray, steps: np.ndarray, covariance: np.ndarray, levels: int
) -> np.ndarray:
    """Change the whole numbers ``steps`` in turn, so that they make of inputs what ``rows`` do.

    Args:
        rows, steps: ``[G, O / G, K]``, the exact weights in steps, and the nearest whole ones.
        covariance: of the inputs, ``[G, K, K]``.
        levels: the most that a step may be; what is as large already stays.
    """
    largest = np.abs(rows) > levels - 1e-6
    off = steps - rows
    for _ in range(_SWEEPS):
        for one in range(rows.shape[2]):
            own = covariance[:, None, one, one]
            others = (off @ covariance[:, :, one, None])[..., 0] - off[:, :, one] * own
            best = np.clip(np.round(rows[:, :, one] - others / own), -levels, levels)
            off[:, :, one] = np.where(largest[:, :, one], steps[:, :, one], best) - rows[:, :, one]
    return np.round(rows + off)


def _diagonal_mean(matrices: np.ndarray) -> np.ndarray:
    """Of each of ``[G, K, K]``, as ``[G, 1, 1]``; never 0."""
    means = np.einsum("gkk->g", matrices) / matrices.shape[1]
    return np.maximum(means, np.finfo(np.float32).tiny)[:, None, None]
