"""The network against the manifest and against the definition, written out in NumPy."""

from __future__ import annotations

from dataclasses import replace

import mindspore
import numpy as np
import pytest

from multitasknet import MultiTaskNet, create_network, load_weights


@pytest.fixture(scope="module")
def network(checkpoint) -> MultiTaskNet:
    return create_network(weights=checkpoint)


def inputs(count: int, channels: int, height: int, width: int) -> tuple:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(count, channels, height, width)).astype(np.float32)
    p = rng.uniform(-0.5, 0.5, (count, 108)).astype(np.float32)
    return mindspore.Tensor(x), mindspore.Tensor(p)


def test_names_and_shapes_are_the_manifests_and_all_but_statistics_train(network, manifest) -> None:
    names = {parameter.name: tuple(parameter.shape) for parameter in network.get_parameters()}
    assert names == manifest and len(names) == 616
    trained = {parameter.name for parameter in network.trainable_params()}
    assert trained == {name for name in manifest if ".moving_" not in name} and len(trained) == 374


def test_gradients_reach_all_weights(checkpoint) -> None:
    network = create_network(weights=checkpoint).set_train(True)
    x, p = inputs(2, 16, 64, 64)

    def total(x, p):
        return sum(output.sum() for output in network(x, p))

    weights = mindspore.ParameterTuple(network.trainable_params())
    gradients = mindspore.grad(total, grad_position=None, weights=weights)(x, p)
    silent = [
        weight.name
        for weight, gradient in zip(weights, gradients, strict=True)
        if not np.abs(gradient.asnumpy()).max() > 0
    ]
    assert silent == []


@pytest.mark.parametrize("size", [(64, 64), (96, 32), (32, 160)])
def test_any_multiple_of_32_works(network, size) -> None:
    x, p = inputs(2, 16, *size)
    shapes = [output.shape for output in network(x, p)]
    assert shapes == [(2, 575), (2, 10), (2, 9), (2, 1024)]


def test_the_whole_network_follows_the_definition(network, arrays) -> None:
    x, p = inputs(1, 16, 64, 64)
    expected = reference(x.asnumpy(), p.asnumpy(), arrays)
    for output, wanted in zip(network(x, p), expected, strict=True):
        scale = np.abs(wanted).max()
        np.testing.assert_allclose(output.asnumpy() / scale, wanted / scale, atol=2e-5)


def test_by_angle_embeddings_have_length_1_except_in_training(network) -> None:
    features = inputs(3, 16, 32, 32)[0].reshape(3, -1)[:, :1024]
    _, pose = inputs(3, 16, 32, 32)
    twin = MultiTaskNet(replace(network.spec, distance="cosine"))
    load_weights(twin, network.load_report.source)
    plain = [output.asnumpy() for output in network.heads(features, pose)]
    for training in (True, False):
        twin.set_train(training)
        *logits, embedding = (output.asnumpy() for output in twin.heads(features, pose))
        for one, other in zip(logits, plain, strict=False):
            np.testing.assert_array_equal(one, other)
        lengths = 1 if training else np.linalg.norm(plain[-1], axis=1, keepdims=True)
        np.testing.assert_allclose(embedding, plain[-1] / lengths, rtol=1e-5)


def test_graph_mode_gives_the_same(network) -> None:
    x, p = inputs(1, 16, 32, 32)
    eager = [output.asnumpy() for output in network(x, p)]
    mode = mindspore.get_context("mode")
    mindspore.set_context(mode=mindspore.GRAPH_MODE)
    try:
        compiled = [output.asnumpy() for output in network(x, p)]
    finally:
        mindspore.set_context(mode=mode)
    for one, other in zip(eager, compiled, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)


# The definition, in float64


def reference(x: np.ndarray, p: np.ndarray, weights: dict[str, np.ndarray]) -> list[np.ndarray]:
    weights = {name: value.astype(np.float64) for name, value in weights.items()}

    def norm(name, x):
        scale = weights[f"{name}.gamma"] / np.sqrt(weights[f"{name}.moving_variance"] + 1e-5)
        shift = weights[f"{name}.beta"] - weights[f"{name}.moving_mean"] * scale
        return x * scale[:, None, None] + shift[:, None, None]

    def conv(name, x, stride=1):
        kernel = weights[f"{name}.weight"]
        size = kernel.shape[2]
        pad = size // 2
        x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
        windows = np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(2, 3))
        windows = windows[:, :, ::stride, ::stride]
        return np.einsum("nchwij,ocij->nohw", windows, kernel, optimize=True)

    def relu(x):
        return np.maximum(x, 0)

    def pool_same(x):
        # even sizes: one row and column after, none before
        x = np.pad(x, ((0, 0), (0, 0), (0, 1), (0, 1)), constant_values=-np.inf)
        windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(2, 3))
        return windows[:, :, ::2, ::2].max(axis=(4, 5))

    def mean_2x2(x):
        n, c, h, w = x.shape
        return x.reshape(n, c, h // 2, 2, w // 2, 2).mean(axis=(3, 5))

    def dense(name, x):
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def leaky(x):
        return np.where(x > 0, x, 0.01 * x)

    x = pool_same(relu(norm("base.norm0", conv("base.conv0", x.astype(np.float64), 2))))
    for block, layers in enumerate((6, 12, 24, 16), start=1):
        for layer in range(layers):
            name = f"base.denseblock{block}.cell_list.{layer}"
            new = conv(f"{name}.conv1", relu(norm(f"{name}.norm1", x)))
            new = conv(f"{name}.conv2", relu(norm(f"{name}.norm2", new)))
            x = np.concatenate((x, new), axis=1)
        if block < 4:
            name = f"base.transition{block}.features"
            x = mean_2x2(conv(f"{name}.conv", relu(norm(f"{name}.norm", x))))
    features = np.concatenate((norm("base.norm5", x).mean(axis=(2, 3)), p), axis=1)
    identity, color, kind = (
        leaky(dense(name, features)) for name in ("fc_vid", "fc_vcolor", "fc_vtype")
    )
    return [
        dense("classifier_vid", identity),
        dense("classifier_vcolor", color),
        dense("classifier_vtype", kind),
        identity,
    ]
