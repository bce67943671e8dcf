"""The parts of a training: samplers, augmentation, losses, one step, frozen parts, rates, state."""

from __future__ import annotations

import colorsys
import math

import mindspore
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mindspore import Tensor, nn
from small import small_networks
from toy_network import NETWORK, ToySpec

from multitasknet import MultiTaskNet, MultiTaskNetSpec
from multitasknet.data.records import Split
from multitasknet.errors import TrainingError
from multitasknet.models.multitasknet.definition import MultiTaskNetDefinition
from multitasknet.models.multitasknet.network import DenseLayer
from multitasknet.training.augmentation import augment, erase, jitter, mirror, random_crop
from multitasknet.training.batches import Draw, FeatureSource, IdentitySampler, ShuffledSampler
from multitasknet.training.losses import MultiTaskLoss, batch_hard_triplet, cross_entropy
from multitasknet.training.settings import IdentitySettings, Settings
from multitasknet.training.step import (
    TrainingStep,
    create_optimizer,
    freeze,
    rate_at,
    reestimate_statistics,
    set_training,
)
from multitasknet.vehicle.keypoints import visible_surfaces
from multitasknet.vehicle.maps import draw_heatmaps, draw_segments
from multitasknet.vehicle.sample import Sample

# Samplers


COUNTS = st.lists(st.integers(1, 12), min_size=4, max_size=12)


def identities(counts: list[int]) -> np.ndarray:
    """Vehicles of the given numbers of images, in mixed order and with gaps in their ids."""
    ids = np.repeat(7 * np.arange(len(counts)) + 3, counts)
    return np.random.default_rng(0).permutation(ids)


@given(COUNTS, st.integers(2, 4), st.integers(2, 5), st.integers(0, 50), st.integers(1, 3))
def test_every_batch_has_p_vehicles_and_k_images_of_each(
    counts, vehicles, images, epoch, devices
) -> None:
    ids = identities(counts)
    sampler = IdentitySampler(ids, vehicles=vehicles, images=images, devices=devices)
    for device in range(devices):
        batches = sampler.epoch(epoch, device)
        assert batches.shape == (sampler.batches_per_epoch, vehicles * images)
        again = IdentitySampler(ids, vehicles=vehicles, images=images, devices=devices)
        np.testing.assert_array_equal(again.epoch(epoch, device), batches)
        for batch in batches:
            groups = ids[batch].reshape(vehicles, images)
            assert (groups == groups[:, :1]).all()
            assert len(set(groups[:, 0])) == vehicles
        if devices == 1:  # within a vehicle no image is used twice more than another
            uses = np.bincount(batches.reshape(-1), minlength=len(ids))
            assert all(np.ptp(uses[ids == vehicle]) <= 1 for vehicle in set(ids))


@pytest.mark.parametrize("counts", [[8] * 8, [5, 7, 9, 3, 12, 6, 10, 4]])
def test_over_many_epochs_all_images_are_used_equally(counts) -> None:
    ids = identities(counts)
    sampler = IdentitySampler(ids, vehicles=4, images=4)
    epochs = 500
    uses = np.zeros(len(ids))
    for epoch in range(epochs):
        np.add.at(uses, sampler.epoch(epoch).reshape(-1), 1)
    expected = sampler.batches_per_epoch * 16 / len(ids)
    np.testing.assert_allclose(uses / epochs, expected, atol=0.2)


def test_a_vehicle_with_most_of_the_images_is_capped_not_repeated_in_a_batch() -> None:
    ids = np.repeat([1, 2, 3, 4], [100, 4, 4, 4])
    batches = IdentitySampler(ids, vehicles=2, images=4).epoch(0)
    assert len(batches) == 3
    assert all(len(set(ids[batch])) == 2 for batch in batches)


def test_another_seed_or_epoch_gives_other_batches() -> None:
    ids = identities([6] * 8)
    first, other = (IdentitySampler(ids, vehicles=4, images=2, seed=seed) for seed in (5, 6))
    assert not np.array_equal(first.epoch(3), first.epoch(4))
    assert not np.array_equal(first.epoch(3), other.epoch(3))


def test_devices_share_an_epoch_without_overlap() -> None:
    ids = identities([8] * 8)
    alone = IdentitySampler(ids, vehicles=4, images=2)
    shared = IdentitySampler(ids, vehicles=4, images=2, devices=2)
    parts = [shared.epoch(1, device) for device in range(2)]
    np.testing.assert_array_equal(np.stack(parts, 1).reshape(-1, 8), alone.epoch(1))


def test_too_few_vehicles_are_refused_with_both_numbers() -> None:
    with pytest.raises(TrainingError, match=r"takes 8 vehicles, but the data have 3"):
        IdentitySampler([1, 1, 2, 2, 3, 3], vehicles=8, images=4)


def test_shuffled_batches_use_every_image_once_and_the_same_for_an_epoch() -> None:
    samplers = [ShuffledSampler(23, 4, seed=3, devices=devices) for devices in (1, 2)]
    assert [sampler.batches_per_epoch for sampler in samplers] == [5, 2]
    for epoch in range(3):
        alone, shared = samplers[0].epoch(epoch), [samplers[1].epoch(epoch, one) for one in (0, 1)]
        assert (alone.shape, shared[0].shape, shared[1].shape) == ((5, 4), (2, 4), (2, 4))
        assert len(np.unique(alone)) == 20
        assert len(np.unique(shared)) == 16
        np.testing.assert_array_equal(samplers[0].epoch(epoch), alone)
        assert not np.array_equal(samplers[0].epoch(epoch + 1), alone)
    with pytest.raises(TrainingError, match=r"2 batches of 4 images .* the data have 7"):
        ShuffledSampler(7, 4, devices=2)


# Augmentation


HEIGHT, WIDTH = 90, 120


def sample(seed: int = 0, maps: int = 49) -> Sample:
    rng = np.random.default_rng(seed)
    keypoints = rng.uniform(0, 90, (36, 3)).astype(np.float32)
    keypoints[:, 2] = rng.uniform(0, 1, 36)
    return Sample(
        rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8),
        keypoints,
        rng.integers(0, 256, (maps, 64, 64), dtype=np.uint8),
    )


def same(a: Sample, b: Sample) -> bool:
    return (
        np.array_equal(a.pixels, b.pixels)
        and np.allclose(a.keypoints, b.keypoints, atol=1e-4)
        and np.array_equal(a.maps, b.maps)
    )


@given(st.integers(0, 1000), st.sampled_from([0, 13, 36, 49]), st.booleans())
def test_mirroring_twice_changes_nothing(seed, maps, swap) -> None:
    once = mirror(sample(seed, maps), swap=swap)
    assert same(mirror(once, swap=swap), sample(seed, maps))


@pytest.mark.parametrize("swap", [True, False])
def test_mirroring_exchanges_left_and_right_everywhere_but_as_in_the_paper(swap) -> None:
    before = sample()
    after = mirror(before, swap=swap)
    other = 21 if swap else 3
    np.testing.assert_allclose(after.keypoints[3, 0], WIDTH - 1 - before.keypoints[other, 0])
    np.testing.assert_array_equal(after.keypoints[3, 1:], before.keypoints[other, 1:])
    surfaces = [3, 4, 5, 0, 1, 2, *range(6, 13)] if swap else range(13)
    maps = [other, *(36 + one for one in surfaces)]
    for ours, theirs in zip([3, *range(36, 49)], maps, strict=True):
        np.testing.assert_array_equal(after.maps[ours], before.maps[theirs][:, ::-1])


def test_a_mirrored_segment_is_the_segment_of_mirrored_keypoints() -> None:
    keypoints = np.zeros((36, 3), dtype=np.float32)
    keypoints[[15, 16, 34, 33]] = [(20, 10, 1), (60, 12, 1), (58, 40, 1), (24, 44, 1)]
    assert visible_surfaces(keypoints) == [11]
    after = mirror(Sample(np.zeros((64, 64, 3), np.uint8), keypoints, np.zeros((0, 64, 64))))
    drawn = draw_segments(keypoints, width=64, height=64)[11]
    mirrored = draw_segments(after.keypoints, 64, 64)[11]
    # OpenCV rounds a slanted edge to one side.
    assert (mirrored != drawn[:, ::-1]).mean() < 0.002


def test_a_crop_moves_keypoints_and_heatmaps_together() -> None:
    keypoints = np.full((36, 3), (60, 45, 1), dtype=np.float32)
    before = Sample(
        np.zeros((HEIGHT, WIDTH, 3), np.uint8), keypoints, draw_heatmaps(keypoints, WIDTH, HEIGHT)
    )
    # The loader stretches maps onto the picture; there, the peak lies at this pixel.
    row, column = np.unravel_index(before.maps[0].argmax(), (64, 64))
    stretched = (np.array([column, row]) + 0.5) * (WIDTH, HEIGHT) / 64
    for seed in range(8):
        after = random_crop(before, 1.5, np.random.default_rng(seed))
        assert after.pixels.shape == (60, 80, 3)
        moved = before.keypoints[0, :2] - after.keypoints[0, :2]
        expected = (stretched - moved) * 64 / (80, 60) - 0.5
        row, column = np.unravel_index(after.maps[0].argmax(), (64, 64))
        assert abs(np.array([column, row]) - expected).max() < 1.5


def test_jitter_keeps_the_hue() -> None:
    rng = np.random.default_rng(0)
    color = np.array([[[150, 60, 90]]], dtype=np.uint8)
    hue = colorsys.rgb_to_hsv(*color[0, 0] / 255)[0]
    for _ in range(20):
        changed = jitter(color, 0.2, rng)
        assert colorsys.rgb_to_hsv(*changed[0, 0] / 255)[0] == pytest.approx(hue, abs=0.01)


def test_erasing_covers_a_fifth_at_most_and_spares_the_original() -> None:
    pixels = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)
    for seed in range(20):
        covered = (erase(pixels, np.random.default_rng(seed)) > 0).all(axis=2).mean()
        assert 0.01 < covered < 0.21
    assert not pixels.any()


def test_an_images_changes_depend_on_seed_epoch_process_image_and_place_alone() -> None:
    def changed(*draw: int, index: int = 3, place: int = 4) -> Sample:
        return augment(sample(), IdentitySettings(), Draw(*draw).generator(index, place))

    first = changed(1, 2)
    assert same(changed(1, 2), first)
    others = [changed(*one) for one in ((0, 2), (1, 1), (1, 2, 1))]
    others += [changed(1, 2, index=4), changed(1, 2, place=5)]
    assert not any(same(one, first) for one in others)


def test_features_are_mirrored_differently_in_every_epoch_and_process() -> None:
    features = np.arange(2 * 4 * 1024, dtype=np.float32).reshape(2, 4, 1024)
    poses, labels = np.zeros((2, 4, 108), np.float32), np.zeros((3, 4), np.int32)
    source = FeatureSource(Split("train"), (features, poses), labels)
    batches = np.array([[0, 0, 0, 0]] * 8)

    def views(epoch: int = 0, rank: int = 0) -> list[list[bool]]:
        used = source.read(batches, Draw(0, epoch, rank))
        return [(batch.inputs[0].asnumpy()[:, 0] > 0).tolist() for batch in used]

    assert any(len(set(batch)) == 2 for batch in views())
    assert views() == views()
    assert views() not in (views(epoch=1), views(rank=1))


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


@pytest.mark.parametrize("margin", [0.3, None])
def test_triplets_match_the_definition(margin) -> None:
    rng = np.random.default_rng(0)
    # Also without other vehicles, and without a second image of any.
    for labels in (*rng.integers(0, 4, (5, 12)), np.ones(12), np.arange(12)):
        embeddings = rng.normal(size=(12, 6)).astype(np.float32)
        identities = labels.astype(np.int32)
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


# Steps


class Small(nn.Cell):
    """A network small enough to work out by hand: one weight, one bias, in and off the backbone."""

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


def test_a_step_follows_the_gradient_and_the_backbone_follows_more_slowly() -> None:
    network, step = small_step(backbone_rate=0.5)
    step.set_rate(0.01)
    # The output is 3, its square's slope 6; both weights see 6 x 3, both biases 6.
    result = step(*batch(3))
    assert (result.total, result.updated) == (pytest.approx(9), True)
    assert result.gradient_norm == pytest.approx(np.sqrt(2 * 18**2 + 2 * 6**2))
    assert values(network) == {
        "base.weight": pytest.approx(1 - 0.005 * 18),
        "base.bias": pytest.approx(-0.005 * 6),
        "fc_vid.weight": pytest.approx(1 - 0.01 * 18),
        "fc_vid.bias": pytest.approx(-0.01 * 6),
    }


def test_the_rate_can_change_from_step_to_step() -> None:
    network, step = small_step()
    for rate, weight in ((0.0, 1), (0.01, 1 - 0.01 * 1.9 * 18)):
        step.set_rate(rate)
        step(*batch(3))
        # The first step moves nothing, but leaves its momentum of 0.9.
        assert values(network)["fc_vid.weight"] == pytest.approx(weight)


def test_a_large_gradient_is_scaled_down_to_the_clip() -> None:
    network, step = small_step(clip=1.0)
    step.set_rate(1.0)
    before = np.array(list(values(network).values()))
    step(*batch(3))
    after = np.array(list(values(network).values()))
    assert np.linalg.norm(after - before) == pytest.approx(1.0, rel=1e-5)


def test_an_overflow_skips_the_step_and_halves_the_scale(monkeypatch) -> None:
    (plain, plain_step), (network, step) = small_step(), small_step(scaled=True)
    for one in (plain_step, step):
        one.set_rate(0.01)
        assert one(*batch(3)).updated
    after, scale = values(network), float(step.scaler.scale_value.asnumpy())
    assert after == pytest.approx(values(plain), rel=1e-5)
    # The loss is finite, its gradient times the scale is not.
    result = step(*batch(1e18))
    assert np.isfinite(result.total)
    assert not result.updated
    # 910A has no infinity: the device alone tells.
    monkeypatch.setattr("multitasknet.training.step.all_finite", lambda _: Tensor(False))
    result = step(*batch(3))
    assert np.isfinite(result.gradient_norm)
    assert not result.updated
    assert values(network) == after
    assert float(step.scaler.scale_value.asnumpy()) == scale / 4


def test_an_overflow_at_the_smallest_scale_is_hopeless() -> None:
    _, step = small_step(scaled=True)
    step.set_rate(0.01)
    results = [step(*batch(1e19)) for _ in range(15)]
    assert [result.is_hopeless for result in results] == [False] * 14 + [True]


def test_a_frozen_part_keeps_weights_and_statistics() -> None:
    """Of stages and backbone whole trainings show it, in test_finetune.py and test_adapt.py."""
    with small_networks():
        network = MultiTaskNet(MultiTaskNetSpec(num_ids=3))
    frozen = MultiTaskNetDefinition.frozen["blocks"]
    freeze(network, frozen)
    set_training(network, frozen)
    learning = [parameter.name for parameter in network.trainable_params()]
    learning += [
        f"{name}."
        for name, cell in network.cells_and_names()
        if isinstance(cell, nn.BatchNorm2d) and cell.training
    ]
    assert not [
        name for name in learning if name.startswith(("base.denseblock3.", "base.transition3."))
    ]
    assert [name for name in learning if name.startswith("base.denseblock4.")]
    set_training(network, frozen, statistics=False)
    assert not network.base.norm5.training


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
    rng = np.random.default_rng(0)
    pictures = rng.uniform(size=(12, 3, 8, 8)).astype(np.float32) * np.linspace(0.5, 3, 12)[
        :, None, None, None
    ].astype(np.float32)
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
