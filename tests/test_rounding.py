"""Weights on coarse steps: what layers give on the pictures that the steps were chosen on."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from multitasknet.inference.rounding import open_at, round_weights

LEVELS = 7


def network(**padding: Any) -> Any:
    """A depthwise convolution, one of 1x1 without bias, and a Dense layer."""
    rng = np.random.default_rng(0)
    weights = {
        "each": rng.normal(size=(8, 1, 3, 3)) * np.geomspace(0.1, 10, 8).reshape(8, 1, 1, 1),
        "each_bias": rng.normal(size=8),
        "mixing": rng.normal(size=(70, 8, 1, 1)),
        "dense": rng.normal(size=(5, 70)),
        "dense_bias": rng.normal(size=5),
    }
    nodes = [
        helper.make_node("Conv", ["x", "each", "each_bias"], ["a"], "a", group=8, **padding),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "mixing"], ["c"], "c"),
        helper.make_node("GlobalAveragePool", ["c"], ["d"]),
        helper.make_node("Flatten", ["d"], ["e"]),
        helper.make_node("Gemm", ["e", "dense", "dense_bias"], ["y"], "y", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 8, 9, 9])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 5])],
        [numpy_helper.from_array(v.astype(np.float32), name) for name, v in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def weights_of(model: Any) -> dict[str, np.ndarray]:
    return {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}


def rounded_to_nearest(model: Any) -> Any:
    nearest = onnx.ModelProto()
    nearest.CopyFrom(model)
    for one in nearest.graph.initializer:
        values = numpy_helper.to_array(one)
        if values.ndim > 1:
            step = np.abs(values).max(tuple(range(1, values.ndim)), keepdims=True) / LEVELS
            one.CopyFrom(numpy_helper.from_array(np.round(values / step) * step, one.name))
    return nearest


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    """Smooth and not about 0, as features are."""
    rough = np.random.default_rng(1).normal(1, 1, (60, 8, 11, 11)).astype(np.float32)
    return sum(rough[:, :, y : y + 9, x : x + 9] for y in range(3) for x in range(3)) / 9


@pytest.mark.parametrize(
    "padding",
    [
        {"pads": [1, 1, 1, 1], "strides": [2, 2]},
        {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
        {"auto_pad": "SAME_LOWER", "strides": [2, 2]},
        {"dilations": [2, 2]},
    ],
    ids=str,
)
def test_outputs_lose_less_than_by_the_nearest_steps(padding, pictures) -> None:
    model, places = network(**padding), ["a", "c", "y"]
    before, nearest = (
        open_at(one, places).run(places, {"x": pictures})
        for one in (model, rounded_to_nearest(model))
    )
    round_weights(model, [{"x": pictures[:30]}, {"x": pictures[30:]}], levels=LEVELS)
    after = open_at(model, places).run(places, {"x": pictures})

    for exact, ours, theirs in zip(before, after, nearest, strict=True):
        assert np.square(ours - exact).mean() < 0.5 * np.square(theirs - exact).mean()
    # Each channel's mean stays, as far as random places show it.
    shift, usual = (np.abs((one[0] - before[0]).mean((0, 2, 3))) for one in (after, nearest))
    assert shift.mean() < 0.2 * usual.mean()


def test_weights_are_on_the_steps_that_a_quantiser_takes_from_the_largest(pictures) -> None:
    model = network()
    before = weights_of(model)
    round_weights(model, [{"x": pictures}], levels=LEVELS, exact=["y"])
    after = weights_of(model)

    for name in ("each", "mixing"):
        axes = tuple(range(1, before[name].ndim))
        largest = np.abs(before[name]).max(axes, keepdims=True)
        np.testing.assert_allclose(np.abs(after[name]).max(axes, keepdims=True), largest, 1e-6)
        steps = after[name] / (largest / LEVELS)
        np.testing.assert_allclose(steps, steps.round(), atol=1e-4)
    for name in ("dense", "dense_bias"):
        np.testing.assert_array_equal(after[name], before[name])


def test_what_hardly_changes_on_the_pictures_is_rounded_to_the_nearest_steps(pictures) -> None:
    nearest = weights_of(rounded_to_nearest(network()))["each"]
    for spread, is_nearest in ((1, False), (1e-5, True)):
        model = network()
        round_weights(model, [{"x": 6 + spread * pictures}], levels=LEVELS)
        assert np.allclose(weights_of(model)["each"], nearest, atol=1e-5) == is_nearest
