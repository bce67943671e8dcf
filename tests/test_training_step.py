"""One step: groups of the optimizer, frozen parts, clipping, overflow, state."""

from __future__ import annotations

import mindspore
import numpy as np
import pytest
from mindspore import Tensor, nn
from small import small_networks
from toy_network import NETWORK, ToySpec

from multitasknet import MultiTaskNet, MultiTaskNetSpec
from multitasknet.models.multitasknet.definition import MultiTaskNetDefinition
from multitasknet.models.multitasknet.network import DenseLayer
from multitasknet.training.loop import load_state, save_state
from multitasknet.training.settings import Settings
from multitasknet.training.step import (
    TrainingStep,
    create_optimizer,
    freeze,
    rate_at,
    reestimate_statistics,
    set_training,
)


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


def test_the_state_holds_all_that_the_next_steps_need(tmp_path) -> None:
    network, step = small_step(scaled=True)
    step.set_rate(0.01)
    step(*batch(1))
    save_state(tmp_path / "last.ckpt", network, step, 2)
    assert (tmp_path / "last.ckpt").stat().st_mode & 0o600 == 0o600
    step(*batch(2))
    other, other_step = small_step(scaled=True)
    assert load_state(tmp_path / "last.ckpt", other, other_step) == 2
    other_step.set_rate(0.01)
    other_step(*batch(2))
    # Momentum makes the second step depend on the first.
    assert values(other) == values(network)


@pytest.mark.parametrize(
    ("choice", "still", "trained"),
    [
        ("none", (), "base.norm0."),
        ("stages", ("base.conv0.", "base.norm0.", "base.denseblock2."), "base.denseblock3."),
        ("blocks", ("base.denseblock3.", "base.transition3."), "base.denseblock4."),
        ("backbone", ("base.",), "fc_vid."),
    ],
)
def test_a_frozen_part_keeps_weights_and_statistics(choice, still, trained) -> None:
    with small_networks():
        network = MultiTaskNet(MultiTaskNetSpec(num_ids=3))
    frozen = MultiTaskNetDefinition.frozen[choice]
    freeze(network, frozen)
    set_training(network, frozen)
    learning = [parameter.name for parameter in network.trainable_params()]
    learning += [
        f"{name}."
        for name, cell in network.cells_and_names()
        if isinstance(cell, nn.BatchNorm2d) and cell.training
    ]
    assert not [name for name in learning if still and name.startswith(still)]
    assert [name for name in learning if name.startswith(trained)]
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
