"""Features of one scale for INT8: what is scaled, and that nothing else changes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from multitasknet.inference.equalization import equalize

SCALES = np.geomspace(0.01, 100, 6).astype(np.float32)


def dense_block(*, summed: bool = False) -> Any:
    """Two layers' features, of widely different scales, that norms and convolutions take.

    ``summed``: the second layer's go into a sum too, which no factor leaves as it is.
    """
    rng = np.random.default_rng(0)
    weights = {
        "first": rng.normal(size=(6, 3, 3, 3)) * SCALES[:, None, None, None],
        "first_bias": rng.normal(size=6) * SCALES,
        "norm1": rng.uniform(0.5, 2, (6, 1, 1, 1)) / SCALES[:, None, None, None],
        "second": rng.normal(size=(4, 6, 1, 1)) * SCALES[:4, None, None, None],
        "norm2": rng.uniform(0.5, 2, (10, 1, 1, 1)),
        "norm2_bias": rng.normal(size=10),
        "last": rng.normal(size=(2, 10, 1, 1)),
    }
    nodes = [
        helper.make_node("Conv", ["x", "first", "first_bias"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("MaxPool", ["b"], ["c"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["c", "norm1"], ["d"], group=6),
        helper.make_node("Relu", ["d"], ["e"]),
        helper.make_node("Conv", ["e", "second"], ["f"]),
        helper.make_node("Concat", ["c", "f"], ["g"], axis=1),
        helper.make_node("Conv", ["g", "norm2", "norm2_bias"], ["h"], group=10),
        helper.make_node("Relu", ["h"], ["i"]),
        helper.make_node("Conv", ["i", "last"], ["y"]),
    ]
    outputs = {"y": ["n", 2, 4, 4]}
    if summed:
        nodes.append(helper.make_node("Neg", ["f"], ["z"]))
        outputs["z"] = ["n", 4, 4, 4]
    made = [(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()]
    graph = helper.make_graph(
        nodes,
        "block",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info(*one) for one in made],
        [numpy_helper.from_array(v.astype(np.float32), name) for name, v in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def run(model: Any, names: list[str] | None, x: np.ndarray) -> list[np.ndarray]:
    opened = onnx.ModelProto()
    opened.CopyFrom(model)
    for name in names or ():
        opened.graph.output.append(onnx.ValueInfoProto(name=name))
    session = onnxruntime.InferenceSession(opened.SerializeToString())
    return session.run(names, {"x": x})


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(16, 3, 8, 8)).astype(np.float32)


def test_concatenated_channels_get_one_scale_and_outputs_stay(pictures: np.ndarray) -> None:
    model = dense_block()
    (before,) = run(model, None, pictures)
    scaled = equalize(model, [{"x": pictures[:8]}, {"x": pictures[8:]}])

    assert scaled == 2
    (after,) = run(model, None, pictures)
    np.testing.assert_allclose(after, before, rtol=1e-3, atol=1e-4 * np.abs(before).max())
    (features,) = run(model, ["g"], pictures)
    reach = np.sqrt(np.abs(features).max((0, 2, 3)) * features.std((0, 2, 3)))
    np.testing.assert_allclose(reach, 1, rtol=1e-2)


def test_what_goes_elsewhere_too_keeps_its_scale(pictures: np.ndarray) -> None:
    model = dense_block(summed=True)
    before = run(model, None, pictures)

    assert equalize(model, [{"x": pictures}]) == 1
    after = run(model, None, pictures)
    for one, other in zip(after, before, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4 * np.abs(other).max())


def test_a_network_without_concatenated_features_is_left_alone(pictures: np.ndarray) -> None:
    model = dense_block()
    del model.graph.node[6:]
    model.graph.output[0].name = "f"
    content = model.SerializeToString()

    assert equalize(model, [{"x": pictures}]) == 0
    assert model.SerializeToString() == content
