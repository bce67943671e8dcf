"""The network as an ONNX graph, built from its weights without MindSpore."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..errors import import_extra
from ..spec import POSE_SIZE
from .folding import Affine, FoldedLayer, FoldedNetwork, FoldedTransition, Linear, fold
from .metadata import Metadata

onnx = import_extra("onnx", "onnx")

# The oldest that has all operators used here as they are used; old runtimes read it.
_OPSET = 13
_IR_VERSION = 7
_LEAK = 0.01


def build_onnx(arrays: Mapping[str, np.ndarray], metadata: Metadata) -> onnx.ModelProto:
    """Build the model: inputs ``image`` and ``pose``, outputs as ``spec.outputs`` names them.

    Height and width are dynamic, and the batch too unless the metadata fix it. Inputs and outputs
    are float32 whatever the precision of weights and computation.

    Args:
        arrays: the network's parameters by published name.
        metadata: what the file says of itself; its ``precision`` is float32 or float16.
    """
    spec, batch = metadata.spec, metadata.batch or "batch"
    graph = _Graph(np.dtype(metadata.precision))
    outputs = _network(graph, fold(spec, arrays))
    shape = [batch, spec.channels, "height", "width"]
    inputs = [onnx.helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, shape)]
    if spec.keypoint_aware:
        shape = [batch, POSE_SIZE]
        inputs.append(onnx.helper.make_tensor_value_info("pose", onnx.TensorProto.FLOAT, shape))
    for name in spec.outputs:
        graph.add("Cast", outputs[name], output=name, to=onnx.TensorProto.FLOAT)
    model = onnx.helper.make_model(
        onnx.helper.make_graph(
            graph.nodes,
            "MultiTaskNet",
            inputs,
            [
                onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [batch, width])
                for name, width in spec.outputs.items()
            ],
            graph.initializers,
        ),
        producer_name="multitasknet",
        opset_imports=[onnx.helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
    )
    onnx.helper.set_model_props(model, metadata.as_strings())
    return model


class _Graph:
    """Nodes and initializers in the order in which they are made."""

    def __init__(self, dtype: np.dtype) -> None:
        self.dtype = dtype
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def add(self, operator: str, *inputs: str, output: str | None = None, **attributes) -> str:
        output = output or f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(onnx.helper.make_node(operator, inputs, [output], output, **attributes))
        return output

    def constant(self, name: str, value: np.ndarray) -> str:
        array = np.ascontiguousarray(value, self.dtype)
        self.initializers.append(onnx.numpy_helper.from_array(array, name))
        return name


def _network(graph: _Graph, network: FoldedNetwork) -> dict[str, str]:
    to = onnx.helper.np_dtype_to_tensor_dtype(graph.dtype)
    x = graph.add("Cast", "image", to=to)
    x = _conv(graph, "stem", x, network.stem, strides=[2, 2], pads=[3] * 4)
    x = graph.add("Relu", x)
    # Even sizes: "same" pads one row and column after, PyTorch's symmetric padding one before.
    pads = [0, 0, 1, 1] if network.spec.stem_pool == "same" else [1, 1, 0, 0]
    x = graph.add("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=pads)
    for block, layers in enumerate(network.blocks):
        for index, layer in enumerate(layers):
            x = graph.add("Concat", x, _layer(graph, f"block{block}.{index}", x, layer), axis=1)
        if block < len(network.transitions):
            x = _transition(graph, f"transition{block}", x, network.transitions[block])
    x = graph.add("Flatten", graph.add("GlobalAveragePool", x))
    if network.features is not None:
        scaled = graph.add("Mul", x, graph.constant("features.scale", network.features.scale))
        x = graph.add("Add", scaled, graph.constant("features.shift", network.features.shift))
    if network.spec.keypoint_aware:
        x = graph.add("Concat", x, graph.add("Cast", "pose", to=to), axis=1)
    return _head(graph, network, x)


def _layer(graph: _Graph, name: str, x: str, layer: FoldedLayer) -> str:
    x = graph.add("Relu", _affine(graph, f"{name}.norm", x, layer.norm))
    x = graph.add("Relu", _conv(graph, f"{name}.conv1", x, layer.conv1))
    return _conv(graph, f"{name}.conv2", x, layer.conv2, pads=[1] * 4)


def _transition(graph: _Graph, name: str, x: str, transition: FoldedTransition) -> str:
    x = graph.add("Relu", _affine(graph, f"{name}.norm", x, transition.norm))
    x = graph.add("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2])
    return _conv(graph, f"{name}.conv", x, transition.conv)


def _affine(graph: _Graph, name: str, x: str, affine: Affine) -> str:
    # As a convolution of one channel each: ONNX Runtime makes that of a batch norm on CPUs anyway,
    # and INT8 knows no batch norm.
    depthwise = Linear(affine.scale.reshape(-1, 1, 1, 1), affine.shift)
    return _conv(graph, name, x, depthwise, group=len(affine.scale))


def _conv(graph: _Graph, name: str, x: str, conv: Linear, **attributes) -> str:
    constants = [graph.constant(f"{name}.weight", conv.weight)]
    if conv.bias is not None:
        constants.append(graph.constant(f"{name}.bias", conv.bias))
    kernel = list(conv.weight.shape[2:])
    return graph.add("Conv", x, *constants, kernel_shape=kernel, **attributes)


def _head(graph: _Graph, network: FoldedNetwork, features: str) -> dict[str, str]:
    def dense(name: str, x: str) -> str:
        linear = network.head[name]
        weight = graph.constant(f"{name}.weight", linear.weight)
        return graph.add("Gemm", x, weight, graph.constant(f"{name}.bias", linear.bias), transB=1)

    def branch(name: str) -> str:
        return graph.add("LeakyRelu", dense(name, features), alpha=_LEAK)

    spec = network.spec
    identity = next((name for name in ("fc_vid", "fc") if name in network.head), None)
    outputs = {"embedding": branch(identity) if identity else features}
    if spec.include_top:
        outputs["id_logits"] = dense("classifier_vid", outputs["embedding"])
    if spec.include_top and spec.multi_task:
        outputs["color_logits"] = dense("classifier_vcolor", branch("fc_vcolor"))
        outputs["type_logits"] = dense("classifier_vtype", branch("fc_vtype"))
    return outputs
