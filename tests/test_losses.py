"""The losses against hand-computed values, their definition in NumPy, and finite differences."""

from __future__ import annotations

import math

import mindspore
import numpy as np
import pytest
from mindspore import Tensor

from multitasknet.training.losses import MultiTaskLoss, batch_hard_triplet, cross_entropy


def ids(*values: int) -> Tensor:
    return Tensor(np.array(values, dtype=np.int32))


def defined_triplet(embeddings: np.ndarray, identities: np.ndarray, margin: float | None) -> float:
    """The definition, one image at a time."""
    total = 0.0
    for index, (anchor, identity) in enumerate(zip(embeddings, identities, strict=True)):
        distances = np.sqrt(((embeddings - anchor) ** 2).sum(axis=1))
        same = identities == identity
        others = same & (np.arange(len(identities)) != index)
        if others.any() and not same.all():
            excess = distances[others].max() - distances[~same].min()
            total += math.log1p(math.exp(excess)) if margin is None else max(excess + margin, 0)
    return total / len(embeddings)


def test_smoothing_mixes_the_target_with_all_classes() -> None:
    logits = Tensor(np.log([[0.7, 0.2, 0.1]]).astype(np.float32))
    expected = -0.9 * math.log(0.7) - 0.1 * (math.log(0.7) + math.log(0.2) + math.log(0.1)) / 3
    assert float(cross_entropy(logits, ids(0), 0.1)) == pytest.approx(expected, rel=1e-5)


def test_an_unknown_class_adds_nothing_and_has_no_gradient() -> None:
    logits = Tensor(np.random.default_rng(0).normal(size=(2, 4)).astype(np.float32))
    alone = float(cross_entropy(logits[:1], ids(2)))
    assert float(cross_entropy(logits, ids(2, -1))) == pytest.approx(alone / 2, rel=1e-6)
    assert float(cross_entropy(logits, ids(-1, -1), 0.1)) == 0
    gradient = mindspore.grad(cross_entropy)(logits, ids(2, -1), 0.1).asnumpy()
    assert np.abs(gradient[0]).max() > 0
    assert not gradient[1].any()


def test_triplets_worked_out_by_hand() -> None:
    # On a line: vehicle 1 at 0 and 1, vehicle 2 at 1.5 and 3. Excesses 1 - 1.5, 1 - 0.5,
    # 1.5 - 0.5, 1.5 - 2; plus 0.3 and cut at 0: 0, 0.8, 1.3, 0, mean 0.525.
    embeddings = Tensor(np.array([[0, 0], [1, 0], [1.5, 0], [3, 0]], dtype=np.float32))
    loss = batch_hard_triplet(embeddings, ids(1, 1, 2, 2), 0.3)
    assert float(loss) == pytest.approx(0.525, rel=1e-5)


@pytest.mark.parametrize("margin", [0.3, None])
def test_triplets_match_the_definition(margin) -> None:
    rng = np.random.default_rng(0)
    for _ in range(5):
        embeddings = rng.normal(size=(12, 6)).astype(np.float32)
        identities = rng.integers(0, 4, 12).astype(np.int32)
        loss = batch_hard_triplet(Tensor(embeddings), Tensor(identities), margin)
        assert float(loss) == pytest.approx(
            defined_triplet(embeddings, identities, margin), rel=1e-4, abs=1e-6
        )


@pytest.mark.parametrize("margin", [0.3, None])
def test_the_triplets_gradient_agrees_with_finite_differences(margin) -> None:
    rng = np.random.default_rng(1)
    embeddings = rng.normal(size=(8, 3)).astype(np.float32)
    identities = np.repeat(np.arange(4), 2).astype(np.int32)
    gradient = mindspore.grad(batch_hard_triplet)(Tensor(embeddings), Tensor(identities), margin)
    wide, expected = embeddings.astype(np.float64), np.empty(embeddings.shape)
    for position in np.ndindex(embeddings.shape):
        step = np.zeros(embeddings.shape)
        step[position] = 1e-5
        up, down = (defined_triplet(wide + one, identities, margin) for one in (step, -step))
        expected[position] = (up - down) / 2e-5
    np.testing.assert_allclose(gradient.asnumpy(), expected, atol=1e-4)
    same = mindspore.grad(batch_hard_triplet)(Tensor(np.ones((4, 8), np.float32)), ids(1, 1, 2, 2))
    assert np.isfinite(same.asnumpy()).all(), "embeddings that coincide"


def test_half_precision_neither_overflows_nor_loses_near_embeddings() -> None:
    # Squares of 300 overflow float16, and 300 + 0.25 is its next number.
    embeddings = np.full((4, 64), 300, dtype=np.float16)
    embeddings[1, 0] += 0.25
    embeddings[2:, 1] += 2
    loss = batch_hard_triplet(Tensor(embeddings), ids(1, 1, 2, 2), 0.3)
    wide = embeddings.astype(np.float64)
    expected = defined_triplet(wide, np.array([1, 1, 2, 2]), 0.3)
    assert float(loss) == pytest.approx(expected, abs=1e-5)


def test_a_batch_without_other_vehicles_or_other_images_adds_nothing() -> None:
    embeddings = Tensor(np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32))
    assert float(batch_hard_triplet(embeddings, ids(1, 1, 1))) == 0
    assert float(batch_hard_triplet(embeddings, ids(1, 2, 3))) == 0


def test_the_total_is_the_weighted_sum_of_its_parts() -> None:
    rng = np.random.default_rng(0)
    outputs = tuple(
        Tensor(rng.normal(size=(4, width)).astype(np.float32)) for width in (5, 10, 9, 16)
    )
    labels = (ids(0, 0, 1, 1), ids(3, 3, -1, -1), ids(2, 2, 0, -1))
    weights = (1.0, 0.5, 0.125, 0.25)
    total, parts = MultiTaskLoss(weights)(outputs, *labels)
    assert float(total) == pytest.approx(float(parts.asnumpy() @ [1.0, 0.5, 0.125, 0.25]), rel=1e-6)
    single_task, parts = MultiTaskLoss(weights)((outputs[0], outputs[3]), *labels)
    assert parts.shape == (2,)
    assert float(single_task) < float(total)
