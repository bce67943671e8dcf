"""The parts of a training: sampler, augmentation, losses, one step, rates, statistics."""

from __future__ import annotations

import math

import mindspore
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mindspore import Tensor, nn
from toy_network import NETWORK, ToySpec

from multitasknet.errors import TrainingError
from multitasknet.models.multitasknet.network import DenseLayer
from multitasknet.training.augmentation import mirror, random_crop
from multitasknet.training.batches import IdentitySampler, ShuffledSampler
from multitasknet.training.losses import batch_hard_triplet, cross_entropy
from multitasknet.training.settings import Settings
from multitasknet.training.step import (
    TrainingStep,
    create_optimizer,
    rate_at,
    reestimate_statistics,
)
from multitasknet.vehicle.maps import draw_heatmaps
from multitasknet.vehicle.sample import Sample

# Samplers


COUNTS = st.lists(st.integers(1, 12), min_size=4, max_size=12)


@given(COUNTS, st.integers(2, 4), st.integers(2, 5), st.integers(0, 50), st.integers(1, 3))
def test_every_batch_has_p_vehicles_and_k_images_of_each(
    counts, vehicles, images, epoch, devices
) -> None:
    # In mixed order, and with gaps.
    ids = np.random.default_rng(0).permutation(np.repeat(7 * np.arange(len(counts)) + 3, counts))
    sampler = IdentitySampler(ids, vehicles=vehicles, images=images, devices=devices)
    parts = [sampler.epoch(epoch, device) for device in range(devices)]
    for batches in parts:
        assert batches.shape == (sampler.batches_per_epoch, vehicles * images)
        for batch in batches:
            groups = ids[batch].reshape(vehicles, images)
            assert (groups == groups[:, :1]).all()
            assert len(set(groups[:, 0])) == vehicles
    # Within a vehicle no image is used twice more than another.
    uses = np.bincount(np.concatenate(parts).reshape(-1), minlength=len(ids))
    assert all(np.ptp(uses[ids == vehicle]) <= 1 for vehicle in set(ids))


@pytest.mark.parametrize("devices", [1, 2])
def test_shuffled_batches_use_every_image_once_an_epoch(devices) -> None:
    sampler = ShuffledSampler(35, 4, devices=devices)
    parts = [sampler.epoch(3, device) for device in range(devices)]
    assert len(np.unique(parts)) == 32 and {one.shape for one in parts} == {(8 // devices, 4)}
    assert not np.array_equal(sampler.epoch(4), parts[0])
    with pytest.raises(TrainingError, match=rf"{devices} batches of 64 images .* data have 35"):
        ShuffledSampler(35, 64, devices=devices)


# Augmentation


HEIGHT, WIDTH = 90, 120


@pytest.mark.parametrize("swap", [True, False])
def test_mirroring_exchanges_left_and_right_everywhere_but_as_in_the_paper(swap) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    keypoints = rng.uniform(0, 90, (36, 3)).astype(np.float32)
    before = Sample(pixels, keypoints, rng.integers(0, 256, (49, 64, 64), dtype=np.uint8))
    after = mirror(before, swap=swap)
    other = 21 if swap else 3
    np.testing.assert_allclose(after.keypoints[3, 0], WIDTH - 1 - before.keypoints[other, 0])
    np.testing.assert_array_equal(after.keypoints[3, 1:], before.keypoints[other, 1:])
    surfaces = [3, 4, 5, 0, 1, 2, *range(6, 13)] if swap else range(13)
    maps = [other, *(36 + one for one in surfaces)]
    for ours, theirs in zip([3, *range(36, 49)], maps, strict=True):
        np.testing.assert_array_equal(after.maps[ours], before.maps[theirs][:, ::-1])


def test_a_crop_moves_keypoints_and_heatmaps_together() -> None:
    keypoints = np.full((36, 3), (60, 45, 1), dtype=np.float32)
    maps = draw_heatmaps(keypoints, WIDTH, HEIGHT)
    before = Sample(np.zeros((HEIGHT, WIDTH, 3), np.uint8), keypoints, maps)
    # The loader stretches maps onto the picture; there, the peak lies at this pixel.
    row, column = np.unravel_index(maps[0].argmax(), (64, 64))
    stretched = (np.array([column, row]) + 0.5) * (WIDTH, HEIGHT) / 64
    for seed in range(8):
        after = random_crop(before, 1.5, np.random.default_rng(seed))
        assert after.pixels.shape == (60, 80, 3)
        moved = before.keypoints[0, :2] - after.keypoints[0, :2]
        expected = (stretched - moved) * 64 / (80, 60) - 0.5
        row, column = np.unravel_index(after.maps[0].argmax(), (64, 64))
        assert abs(np.array([column, row]) - expected).max() < 1.5


# Losses


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


def test_cross_entropy_is_smoothed_and_leaves_unknown_classes_out() -> None:
    logits = Tensor(np.log([[0.7, 0.2, 0.1], [0.3, 0.3, 0.4]]).astype(np.float32))
    expected = -0.9 * math.log(0.7) - 0.1 * (math.log(0.7) + math.log(0.2) + math.log(0.1)) / 3
    assert float(cross_entropy(logits[:1], ids(0), 0.1)) == pytest.approx(expected, rel=1e-5)
    assert float(cross_entropy(logits, ids(0, -1), 0.1)) == pytest.approx(expected / 2, rel=1e-5)
    gradient = mindspore.grad(cross_entropy)(logits, ids(0, -1), 0.1).asnumpy()
    assert np.abs(gradient[0]).max() > 0 and not gradient[1].any()


@pytest.mark.parametrize("margin", [0.3, None])
def test_triplets_match_the_definition(margin) -> None:
    rng = np.random.default_rng(0)
    # Also without other vehicles, and without a second image of any.
    for labels in (*rng.integers(0, 4, (5, 12)), np.ones(12), np.arange(12)):
        embeddings = rng.normal(size=(12, 6)).astype(np.float32)
        loss = batch_hard_triplet(Tensor(embeddings), Tensor(labels.astype(np.int32)), margin)
        expected = defined_triplet(embeddings, labels, margin)
        assert float(loss) == pytest.approx(expected, rel=1e-4, abs=1e-6)
    # The sum of their squares overflows float16.
    half = np.full((4, 64), 40, dtype=np.float16)
    half[1, 0] += 0.25
    half[2:, 1] += 0.5
    expected = defined_triplet(half.astype(np.float64), np.array([1, 1, 2, 2]), margin)
    loss = batch_hard_triplet(Tensor(half), ids(1, 1, 2, 2), margin)
    assert float(loss) == pytest.approx(expected, abs=1e-5)


# Steps


class Small(nn.Cell):
    """One weight and one bias, in and off the backbone: worked out by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.base = nn.Dense(1, 1, weight_init="ones", bias_init="zeros")
        self.fc_vid = nn.Dense(1, 1, weight_init="ones", bias_init="zeros")

    def construct(self, x, p):
        return self.fc_vid(self.base(x)) + 0 * p


class Squared(nn.Cell):
    def construct(self, outputs, identity, color, type):
        loss = (outputs * outputs).sum()
        return loss, mindspore.ops.stack((loss, loss))


def values(network: nn.Cell) -> dict[str, float]:
    return {parameter.name: parameter.asnumpy().item() for parameter in network.get_parameters()}


def batch(value: float) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    column = Tensor(np.array([[value]], dtype=np.float32))
    return (column, column), (column, column, column)


def small_step(backbone_rate: float = 1.0, **options) -> tuple[Small, TrainingStep]:
    network = Small()
    settings = Settings(optimizer="sgd", weight_decay=0.0, backbone_rate=backbone_rate)
    optimizer = create_optimizer(network, settings)
    return network, TrainingStep(network, Squared(), optimizer, **{"clip": 1e9, **options})


def test_weight_decay_acts_on_weights_and_on_nothing_else() -> None:
    network = DenseLayer(4)
    optimizer = create_optimizer(network, Settings(optimizer="sgd", weight_decay=0.5))
    TrainingStep(network, Squared(), optimizer, clip=1e9).set_rate(0.1)
    before = {parameter.name: parameter.asnumpy().copy() for parameter in optimizer.parameters}
    optimizer(tuple(mindspore.ops.zeros_like(parameter) for parameter in optimizer.parameters))
    shrunk = {
        parameter.name: parameter.asnumpy() / before[parameter.name]
        for parameter in optimizer.parameters
        if before[parameter.name].any()
    }
    assert set(shrunk) == {"norm1.gamma", "conv1.weight", "norm2.gamma", "conv2.weight"}
    for name, ratio in shrunk.items():
        np.testing.assert_allclose(ratio, 0.95 if name.endswith(".weight") else 1, rtol=1e-5)


def test_a_step_follows_the_clipped_gradient_and_the_backbone_follows_more_slowly() -> None:
    network, step = small_step(backbone_rate=0.5)
    step.set_rate(0.01)
    # The output is 3, its square's slope 6; both weights see 6 x 3, both biases 6.
    result = step(*batch(3))
    assert (result.total, result.updated) == (pytest.approx(9), True)
    assert values(network) == {
        "base.weight": pytest.approx(1 - 0.005 * 18),
        "base.bias": pytest.approx(-0.005 * 6),
        "fc_vid.weight": pytest.approx(1 - 0.01 * 18),
        "fc_vid.bias": pytest.approx(-0.01 * 6),
    }
    network, step = small_step(clip=1.0)
    step.set_rate(0.0)
    step(*batch(3))
    step.set_rate(1.0)
    before = np.array(list(values(network).values()))
    step(*batch(3))
    after = np.array(list(values(network).values()))
    # The first step moved nothing, but left its momentum of 0.9.
    assert np.linalg.norm(after - before) == pytest.approx(1.9, rel=1e-5)


def test_an_overflow_skips_the_step_until_no_smaller_scale_is_left(monkeypatch) -> None:
    (plain, plain_step), (network, step) = small_step(), small_step(scaled=True)
    for one in (plain_step, step):
        one.set_rate(0.01)
        assert one(*batch(3)).updated
    after = values(network)
    assert after == pytest.approx(values(plain), rel=1e-5)
    # 910A has no infinity: the device alone tells.
    with monkeypatch.context() as patch:
        patch.setattr("multitasknet.training.step.all_finite", lambda _: Tensor(False))
        assert not step(*batch(3)).updated
    # The scale began at 2 to the 14th.
    results = [step(*batch(1e19)) for _ in range(14)]
    assert [result.is_hopeless for result in results] == [False] * 13 + [True]
    assert values(network) == after


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        # 1e-3 x (0.01 + 0.99 x epoch / 2) up to epoch 2.
        ((1e-3, 10, "constant", 2.0), {0: 1e-5, 1: 5.05e-4, 2: 1e-3, 9.9: 1e-3}),
        # PAMTRI's: a tenth at 30 and again at 60.
        ((3e-4, 90, "steps", 0.0), {0: 3e-4, 29.99: 3e-4, 30: 3e-5, 59.99: 3e-5, 60: 3e-6}),
        # Half way down the cosine lies the mean of the rate and its hundredth.
        ((1.0, 8, "cosine", 0.0), {0: 1.0, 2: 0.8550178, 4: 0.505, 6: 0.1549822}),
        ((2.0, 6, "cosine", 2.0), {1: 1.01, 2: 2.0, 4: 1.01}),
    ],
)
def test_the_rate_is_as_worked_out_by_hand(settings, expected) -> None:
    lr, epochs, schedule, warmup = settings
    asked = Settings(
        lr=lr, epochs=epochs, schedule=schedule, warmup=warmup, milestones=(30.0, 60.0)
    )
    for epoch, rate in expected.items():
        assert rate_at(asked, epoch) == pytest.approx(rate, rel=1e-6)


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_statistics_move_to_those_of_all_pictures(share: float) -> None:
    mindspore.set_seed(0)
    network = NETWORK.build(ToySpec())
    scales = np.linspace(0.5, 3, 12).reshape(-1, 1, 1, 1)
    pictures = (scales * np.random.default_rng(0).uniform(size=(12, 3, 8, 8))).astype(np.float32)
    weights = network.toyconv.weight.asnumpy().copy()
    batches = ((Tensor(pictures[start : start + 4]),) for start in (0, 4, 8))
    reestimate_statistics(network, batches, share=share)
    seen = network.toyconv(Tensor(pictures)).asnumpy()
    norm = network.toynorm
    # Fresh ones are 0 and 1. MindSpore's variances are of samples, as torch's: n - 1.
    mean, variance = share * seen.mean((0, 2, 3)), 1 - share + share * seen.var((0, 2, 3))
    np.testing.assert_allclose(norm.moving_mean.asnumpy(), mean, rtol=1e-4)
    np.testing.assert_allclose(norm.moving_variance.asnumpy(), variance, rtol=1e-2)
    np.testing.assert_array_equal(network.toyconv.weight.asnumpy(), weights)
    assert not network.training
