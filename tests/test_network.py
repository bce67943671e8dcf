"""MultiTaskNet against the manifest of the published file; parity is in test_foreign_weights."""

from __future__ import annotations

from dataclasses import replace

import mindspore
import numpy as np
import pytest

from multitasknet import MultiTaskNet, create_network, load_weights


@pytest.fixture(scope="module")
def network(checkpoint) -> MultiTaskNet:
    return create_network(weights=checkpoint)


def inputs(height: int, width: int) -> tuple:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(2, 16, height, width)).astype(np.float32)
    p = rng.uniform(-0.5, 0.5, (2, 108)).astype(np.float32)
    return mindspore.Tensor(x), mindspore.Tensor(p)


def test_gradients_reach_all_weights(checkpoint) -> None:
    network = create_network(weights=checkpoint).set_train(True)

    def total(x, p):
        return sum(output.sum() for output in network(x, p))

    weights = mindspore.ParameterTuple(network.trainable_params())
    gradients = mindspore.grad(total, grad_position=None, weights=weights)(*inputs(64, 64))
    silent = [
        weight.name
        for weight, gradient in zip(weights, gradients, strict=True)
        if not np.abs(gradient.asnumpy()).max() > 0
    ]
    assert silent == []


def test_any_multiple_of_32_works_and_graph_mode_gives_the_same(network) -> None:
    for size in ((96, 32), (32, 160)):
        shapes = [output.shape for output in network(*inputs(*size))]
        assert shapes == [(2, 575), (2, 10), (2, 9), (2, 1024)]
    x, p = inputs(32, 32)
    eager = [output.asnumpy() for output in network(x, p)]
    mode = mindspore.get_context("mode")
    mindspore.set_context(mode=mindspore.GRAPH_MODE)
    try:
        compiled = [output.asnumpy() for output in network(x, p)]
    finally:
        mindspore.set_context(mode=mode)
    for one, other in zip(eager, compiled, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)


def test_by_angle_embeddings_have_length_1_except_in_training(network) -> None:
    x, pose = inputs(32, 32)
    features = x.reshape(2, -1)[:, :1024]
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
