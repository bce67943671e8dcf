"""Passes over an exported ONNX graph; each serves every network, and none changes what it gives.

Exact but for rounding: a batch norm after a convolution or a Dense layer becomes part of it; one
that stands alone becomes a convolution of one channel each, which INT8 knows and CPUs run as fast;
a 1x1 convolution changes places with the mean that follows it, and runs on a quarter of the pixels;
a resize to a constant size becomes one by a constant factor, so that height and width stay free.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import onnx
import onnx.version_converter

# Names and dimensions; one that is a name is dynamic.
Ends: TypeAlias = Mapping[str, Sequence[int | str]]
# The oldest that has INT8 a channel; runtimes of 2020 read it.
_OPSET, _IR_VERSION = 13, 7


def simplify(model: Any) -> Any:
    """The model with fewer and cheaper operators."""
    # Before the passes, which leave the graph without its constants until it is written back.
    shapes = inferred_shapes(model)
    graph = _Graph(model.graph)
    graph.unwrap_norms()
    graph.fold_norms()
    graph.pool_before_pointwise()
    graph.resize_by_factor(shapes)
    graph.write_back()
    model = onnx.version_converter.convert_version(model, _OPSET)
    model.ir_version = _IR_VERSION
    return model


def name_ends(model: Any, inputs: Ends, outputs: Ends) -> None:
    """Give inputs and outputs, in order, these names and dimensions."""
    graph = model.graph
    graph.name = "network"
    model.producer_name = "multitasknet"
    renamed: dict[str, str] = {}
    for ends, wanted in ((graph.input, inputs), (graph.output, outputs)):
        found = [one.name for one in ends][: len(wanted)]
        renamed |= dict(zip(found, wanted, strict=True))
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        node.output[:] = [renamed.get(name, name) for name in node.output]
    set_ends(graph, inputs, outputs)


def set_ends(graph: Any, inputs: Ends, outputs: Ends) -> None:
    """Set a graph's inputs and outputs, and drop the nodes that no output needs."""
    for ends, wanted in ((graph.input, inputs), (graph.output, outputs)):
        del ends[:]
        ends.extend(
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, list(shape))
            for name, shape in wanted.items()
        )
    needed, kept = set(outputs), []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            kept.append(node)
    constants = [one for one in graph.initializer if one.name in needed]
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(reversed(kept))
    graph.initializer.extend(constants)


def inferred_shapes(model: Any) -> dict[str, list[int]]:
    """The shapes of what is between inputs and outputs, by name; 0 for a dynamic dimension."""
    values = onnx.shape_inference.infer_shapes(model).graph.value_info
    return {one.name: [d.dim_value for d in one.type.tensor_type.shape.dim] for one in values}


class _Graph:
    """A graph's nodes and constants, and who makes and uses what."""

    def __init__(self, graph: Any) -> None:
        self._graph = graph
        self.nodes = list(graph.node)
        self.constants = {one.name: onnx.numpy_helper.to_array(one) for one in graph.initializer}

    def unwrap_norms(self) -> None:
        """Take away the reshapes, to one batch size, between a Dense layer's rows and a norm."""
        makers, takers = self._makers(), {name: one for one in self.nodes for name in one.input}
        dropped: set[int] = set()
        for norm in self.nodes:
            if norm.op_type != "BatchNormalization":
                continue
            before, after = makers.get(norm.input[0]), takers.get(norm.output[0])
            if before and after and before.op_type == after.op_type == "Reshape":
                norm.input[0], norm.output[0] = before.input[0], after.output[0]
                dropped |= {id(before), id(after)}
        self.nodes = [node for node in self.nodes if id(node) not in dropped]

    def fold_norms(self) -> None:
        makers, uses = self._makers(), self._uses()
        kept = []
        for node in self.nodes:
            if node.op_type != "BatchNormalization":
                kept.append(node)
                continue
            maker = makers.get(node.input[0])
            if maker is not None and self._is_bare(maker) and uses[node.input[0]] == 1:
                self._into_maker(maker, node)
            else:
                kept.append(self._as_depthwise(node))
        self.nodes = kept

    def pool_before_pointwise(self) -> None:
        makers = self._makers()
        for position, pool in enumerate(self.nodes):
            conv = makers.get(pool.input[0]) if pool.op_type == "AveragePool" else None
            if conv is None or not self._is_pointwise(conv):
                continue
            between = pool.input[0]
            pool.input[0], conv.output[0] = conv.input[0], pool.output[0]
            pool.output[0] = conv.input[0] = between
            before = self.nodes.index(conv)
            self.nodes[before], self.nodes[position] = pool, conv

    def resize_by_factor(self, shapes: Mapping[str, Sequence[int]]) -> None:
        """``shapes`` are those of the values in the graph, for the inputs it was exported with."""
        makers = self._makers()
        for node in self.nodes:
            if node.op_type != "Resize" or len(node.input) < 4:
                continue
            source, sizes = node.input[0], attributes(makers[node.input[3]])["value"]
            wanted = onnx.numpy_helper.to_array(sizes).astype(np.float32)
            scales = f"{node.output[0]}.scales"
            self.constants[scales] = wanted / np.array(shapes[source], np.float32)
            node.input[:] = [source, "", scales]
        uses = self._uses()
        self.nodes = [n for n in self.nodes if n.op_type != "Constant" or uses[n.output[0]]]

    def write_back(self) -> None:
        used = {name for node in self.nodes for name in node.input}
        del self._graph.node[:], self._graph.initializer[:]
        self._graph.node.extend(self.nodes)
        self._graph.initializer.extend(
            onnx.numpy_helper.from_array(np.ascontiguousarray(value), name)
            for name, value in self.constants.items()
            if name in used
        )
        # MindSpore's older writers list the constants among the inputs as well.
        inputs = [one for one in self._graph.input if one.name not in self.constants]
        del self._graph.input[:]
        self._graph.input.extend(inputs)

    def _makers(self) -> dict[str, Any]:
        return {name: node for node in self.nodes for name in node.output}

    def _uses(self) -> Counter[str]:
        ends = [one.name for one in self._graph.output]
        return Counter([*(name for node in self.nodes for name in node.input), *ends])

    def _affine(self, norm: Any) -> tuple[np.ndarray, np.ndarray]:
        """A norm's scale and shift, float64 ``[C]`` each, to be rounded once."""
        gamma, beta, mean, variance = (
            self.constants[name].astype(np.float64) for name in norm.input[1:]
        )
        scale = gamma / np.sqrt(variance + attributes(norm)["epsilon"])
        return scale, beta - mean * scale

    def _into_maker(self, maker: Any, norm: Any) -> None:
        scale, shift = self._affine(norm)
        weight = self.constants[maker.input[1]]
        weight = weight * scale.reshape(-1, *[1] * (weight.ndim - 1))
        maker.input[1:] = self._new(norm, weight, shift)
        maker.output[0] = norm.output[0]

    def _as_depthwise(self, norm: Any) -> Any:
        scale, shift = self._affine(norm)
        constants = self._new(norm, scale[:, None, None, None], shift)
        return onnx.helper.make_node(
            "Conv",
            [norm.input[0], *constants],
            [norm.output[0]],
            norm.name,
            kernel_shape=[1, 1],
            group=len(scale),
        )

    def _new(self, norm: Any, weight: np.ndarray, bias: np.ndarray) -> tuple[str, str]:
        names = f"{norm.output[0]}.weight", f"{norm.output[0]}.bias"
        for name, value in zip(names, (weight, bias), strict=True):
            self.constants[name] = value.astype(np.float32)
        return names

    def _is_bare(self, node: Any) -> bool:
        """Whether it is a convolution or a Dense layer without bias; both list outputs first."""
        layer = node.op_type in ("Conv", "Gemm") and len(node.input) == 2
        return layer and node.input[1] in self.constants

    def _is_pointwise(self, node: Any) -> bool:
        return node.op_type == "Conv" and self.constants[node.input[1]].shape[2:] == (1, 1)


def attributes(node: Any) -> dict[str, Any]:
    """A node's attributes by name."""
    return {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}


def open_at(model: Any, names: Iterable[str]) -> Any:
    """An ONNX Runtime session of the model whose outputs are these tensors."""
    import onnxruntime

    opened = onnx.ModelProto()
    opened.CopyFrom(model)
    del opened.graph.output[:]
    opened.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    return onnxruntime.InferenceSession(
        opened.SerializeToString(), providers=["CPUExecutionProvider"]
    )
