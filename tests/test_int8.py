"""What INT8 does to a graph first: features of one scale, and weights on steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from multitasknet.inference.equalization import equalize
from multitasknet.inference.graph import open_at
from multitasknet.inference.rounding import round_weights

LEVELS = 7
Shapes = Mapping[str, Sequence[int | str]]


def model_of(nodes: list[Any], weights: dict[str, Any], inputs: Shapes, outputs: Shapes) -> Any:
    ends = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, one) for name, one in of.items()]
        for of in (inputs, outputs)
    ]
    values = [numpy_helper.from_array(v.astype(np.float32), name) for name, v in weights.items()]
    graph = helper.make_graph(nodes, "network", *ends, values)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def run(model: Any, names: list[str], x: np.ndarray) -> list[np.ndarray]:
    return open_at(model, names).run(names, {"x": x})


# Features of one scale


@pytest.fixture(scope="module")
def noise() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(16, 3, 8, 8)).astype(np.float32)


def dense_block(*, summed: bool = False) -> Any:
    """Two layers' features, of widely different scales, that norms and convolutions take.

    ``summed``: the second layer's go into a sum too, which no factor leaves as it is.
    """
    rng = np.random.default_rng(0)
    scales = np.geomspace(0.01, 100, 6)
    weights = {
        "first": rng.normal(size=(6, 3, 3, 3)) * scales[:, None, None, None],
        "first_bias": rng.normal(size=6) * scales,
        "norm1": rng.uniform(0.5, 2, (6, 1, 1, 1)) / scales[:, None, None, None],
        "second": rng.normal(size=(4, 6, 1, 1)) * scales[:4, None, None, None],
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
    outputs: dict[str, list[int | str]] = {"y": ["n", 2, 4, 4]}
    if summed:
        nodes.append(helper.make_node("Neg", ["f"], ["z"]))
        outputs["z"] = ["n", 4, 4, 4]
    return model_of(nodes, weights, {"x": ["n", 3, 8, 8]}, outputs)


@pytest.mark.parametrize("summed", [False, True])
def test_concatenated_channels_get_one_scale_and_outputs_stay(noise, summed: bool) -> None:
    model = dense_block(summed=summed)
    names = ["y", "z"] if summed else ["y"]
    before = run(model, names, noise)
    assert equalize(model, [{"x": noise[:8]}, {"x": noise[8:]}]) == (1 if summed else 2)
    for one, other in zip(run(model, names, noise), before, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4 * np.abs(other).max())
    (features,) = run(model, ["g"], noise)
    reach = np.sqrt(np.abs(features).max((0, 2, 3)) * features.std((0, 2, 3)))
    np.testing.assert_allclose(reach[: 6 if summed else 10], 1, rtol=1e-2)


# Weights on steps


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    """Smooth and not about 0, as features are."""
    rough = np.random.default_rng(1).normal(1, 1, (60, 8, 11, 11)).astype(np.float32)
    return sum(rough[:, :, y : y + 9, x : x + 9] for y in range(3) for x in range(3)) / 9


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
    return model_of(nodes, weights, {"x": ["n", 8, 9, 9]}, {"y": ["n", 5]})


def weights_of(model: Any) -> dict[str, np.ndarray]:
    return {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}


def step_of(values: np.ndarray) -> np.ndarray:
    """A step of each channel, which its largest weight is 7 of."""
    return np.abs(values).max(tuple(range(1, values.ndim)), keepdims=True) / LEVELS


def rounded_to_nearest(model: Any) -> Any:
    nearest = onnx.ModelProto()
    nearest.CopyFrom(model)
    for one in nearest.graph.initializer:
        values = numpy_helper.to_array(one)
        if values.ndim > 1:
            step = step_of(values)
            one.CopyFrom(numpy_helper.from_array(np.round(values / step) * step, one.name))
    return nearest


@pytest.mark.parametrize(
    "padding",
    [{"pads": [1, 1, 1, 1], "strides": [2, 2]}, {"auto_pad": "SAME_UPPER", "strides": [2, 2]}, {}],
    ids=str,
)
def test_outputs_lose_less_than_by_the_nearest_steps(padding, pictures) -> None:
    model, places = network(**padding), ["a", "c", "y"]
    weights, nearest_model = weights_of(model), rounded_to_nearest(model)
    before, nearest = (run(one, places, pictures) for one in (model, nearest_model))
    round_weights(model, [{"x": pictures[:30]}, {"x": pictures[30:]}], levels=LEVELS)
    after = run(model, places, pictures)
    for exact, ours, theirs in zip(before, after, nearest, strict=True):
        assert np.square(ours - exact).mean() < 0.5 * np.square(theirs - exact).mean()
    # Each channel's mean stays, as far as random places show it.
    shift, usual = (np.abs((one[0] - before[0]).mean((0, 2, 3))) for one in (after, nearest))
    assert shift.mean() < 0.2 * usual.mean()
    # A quantiser takes the steps from the largest weight, and finds these.
    for name in ("each", "mixing"):
        rounded, step = weights_of(model)[name], step_of(weights[name])
        np.testing.assert_allclose(step_of(rounded), step, 1e-6)
        np.testing.assert_allclose(rounded / step, np.round(rounded / step), atol=1e-4)


def test_what_hardly_changes_is_rounded_to_the_nearest_steps_and_some_stays(pictures) -> None:
    nearest = weights_of(rounded_to_nearest(network()))["each"]
    for spread, is_nearest in ((1, False), (1e-5, True)):
        model = network()
        round_weights(model, [{"x": 6 + spread * pictures}], levels=LEVELS, exact=["y"])
        assert np.allclose(weights_of(model)["each"], nearest, atol=1e-5) == is_nearest
        np.testing.assert_array_equal(weights_of(model)["dense"], weights_of(network())["dense"])
