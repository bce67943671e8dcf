"""What INT8 does to a graph first: features of one scale, and weights on steps."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from multitasknet.inference.equalization import equalize
from multitasknet.inference.graph import open_at
from multitasknet.inference.rounding import round_weights

LEVELS = 7


def model_of(text: str, weights: dict[str, np.ndarray]) -> Any:
    """The graph in ONNX's own notation, with these weights; a node is called as its output."""
    model = parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> network {text}')
    model.graph.initializer.extend(
        numpy_helper.from_array(values.astype(np.float32), name) for name, values in weights.items()
    )
    for node in model.graph.node:
        node.name = node.output[0]
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
    outputs, more = (", float[n,4,4,4] z", "z = Neg (f)") if summed else ("", "")
    return model_of(
        f"""(float[n,3,8,8] x) => (float[n,2,4,4] y{outputs}) {{
            a = Conv <pads = [1, 1, 1, 1]> (x, first, first_bias)
            b = Relu (a)
            c = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (b)
            d = Conv <group = 6> (c, norm1)
            e = Relu (d)
            f = Conv (e, second)
            g = Concat <axis = 1> (c, f)
            h = Conv <group = 10> (g, norm2, norm2_bias)
            i = Relu (h)
            y = Conv (i, last)
            {more}
        }}""",
        weights,
    )


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


def network(padding: str = "") -> Any:
    """A depthwise convolution, one of 1x1 without bias, and a Dense layer."""
    rng = np.random.default_rng(0)
    weights = {
        "each": rng.normal(size=(8, 1, 3, 3)) * np.geomspace(0.1, 10, 8).reshape(8, 1, 1, 1),
        "each_bias": rng.normal(size=8),
        "mixing": rng.normal(size=(70, 8, 1, 1)),
        "dense": rng.normal(size=(5, 70)),
        "dense_bias": rng.normal(size=5),
    }
    return model_of(
        f"""(float[n,8,9,9] x) => (float[n,5] y) {{
            a = Conv <group = 8{padding}> (x, each, each_bias)
            b = Relu (a)
            c = Conv (b, mixing)
            d = GlobalAveragePool (c)
            e = Flatten (d)
            y = Gemm <transB = 1> (e, dense, dense_bias)
        }}""",
        weights,
    )


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
    ["", ", pads = [1, 1, 1, 1], strides = [2, 2]", ', auto_pad = "SAME_UPPER", strides = [2, 2]'],
)
def test_outputs_lose_less_than_by_the_nearest_steps(padding, pictures) -> None:
    model, places = network(padding), ["a", "c", "y"]
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
