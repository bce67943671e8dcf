"""What the checks compute: a network, inputs and batches that are the same on every machine."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import mindspore
import numpy as np
from mindspore import Tensor, nn, ops

from ..models.layers import conv
from ..models.multitasknet.network import DenseBlock, MultiTaskNet, Transition
from ..models.multitasknet.spec import POSE_SIZE, MultiTaskNetSpec, Variant
from ..training.losses import MultiTaskLoss
from ..training.optimization import create_optimizer, set_training
from ..training.parallel import Devices
from ..training.step import TrainingStep

BATCH = 8
STEPS = 20
_SIDE = 64
_VEHICLES, _COLORS, _TYPES = 4, 10, 9
_RATE = 1e-3


class Miniature(nn.Cell):
    """MultiTaskNet with two layers instead of 58: of each kind that it has, in seconds."""

    def __init__(self) -> None:
        super().__init__()
        self.conv0 = conv(3, 16, 7, stride=2)
        self.norm0 = nn.BatchNorm2d(16)
        self.pool0 = nn.MaxPool2d(3, 2, pad_mode="same")
        self.denseblock = DenseBlock(16, 2)
        self.transition = Transition(80)
        self.norm5 = nn.BatchNorm2d(40)
        self.fc = nn.Dense(40 + POSE_SIZE, 64)
        self.leaky_relu = nn.LeakyReLU(0.01)
        self.identity = nn.Dense(64, _VEHICLES)
        self.color = nn.Dense(64, _COLORS)
        self.type = nn.Dense(64, _TYPES)

    def construct(self, x: Tensor, p: Tensor) -> tuple[Tensor, ...]:
        x = self.pool0(ops.relu(self.norm0(self.conv0(x))))
        x = self.norm5(self.transition(self.denseblock(x)))
        embedding = self.leaky_relu(self.fc(ops.concat((ops.mean(x, (2, 3)), p), 1)))
        return self.identity(embedding), self.color(embedding), self.type(embedding), embedding


def with_fixed_values(network: nn.Cell) -> nn.Cell:
    """The network with values drawn from one seed, in inference mode."""
    rng = np.random.default_rng(0)
    for parameter in network.get_parameters():
        drawn = rng.random(parameter.shape, np.float32)
        if parameter.name.endswith(("gamma", "moving_variance")):
            values = drawn + 0.5
        else:
            values = (2 * drawn - 1) * np.sqrt(3 / max(np.prod(parameter.shape[1:]), 1))
        parameter.set_data(Tensor(values.astype(np.float32)))
    return network.set_train(False)


def full_network() -> nn.Cell:
    """MultiTaskNet itself, for the same inputs."""
    return MultiTaskNet(MultiTaskNetSpec(Variant.RGB, num_ids=_VEHICLES))


def outputs(*, fp16: bool = False) -> np.ndarray:
    """What the miniature makes of eight pictures of noise, all outputs: float32 ``[8, 87]``."""
    network = with_fixed_values(Miniature())
    if fp16:
        mindspore.amp.auto_mixed_precision(network, "O2")
    compiled = mindspore.jit(network.construct, backend="ms_backend")
    found = compiled(*map(Tensor, _inputs()))
    return np.concatenate([one.asnumpy().astype(np.float32) for one in found], axis=1)


@dataclass(frozen=True, eq=False)
class Trained:
    """A short training: each step's loss, and its seconds, of which the first compiles."""

    losses: np.ndarray
    seconds: np.ndarray


def train(network: nn.Cell, steps: int | None = None, *, mixed: bool = False) -> Trained:
    """Train a network from fixed values on one fixed batch, for 20 steps if nothing is said."""
    with_fixed_values(network)
    if mixed:
        mindspore.amp.auto_mixed_precision(network, "O2")
    set_training(network)
    optimizer = create_optimizer(network, kind="sgd")
    step = TrainingStep(network, MultiTaskLoss(), optimizer, clip=50.0, scaled=mixed)
    step.set_rate(_RATE)
    vehicles = Tensor(np.repeat(np.arange(_VEHICLES, dtype=np.int32), BATCH // _VEHICLES))
    inputs, labels = tuple(map(Tensor, _inputs())), (vehicles, vehicles, vehicles)
    losses, seconds = [], []
    for _ in range(steps or STEPS):
        started = time.perf_counter()
        losses.append(step(inputs, labels).total)
        seconds.append(time.perf_counter() - started)
    return Trained(np.array(losses), np.array(seconds))


@dataclass(frozen=True)
class Overflow:
    """A step whose gradient overflows: the loss's scale before and after, and what was updated."""

    before: float
    after: float
    updated: bool


def overflow() -> Overflow:
    """Force one: a slope of 8, times the first scale of 2**14, is more than float16 holds."""
    network = _Half()
    optimizer = create_optimizer(network, kind="sgd")
    step = TrainingStep(network, _Steep(), optimizer, clip=1.0, scaled=True)
    assert step.scaler is not None
    before = float(step.scaler.scale_value.asnumpy())
    one = Tensor(np.ones((1, 1), np.float32))
    updated = step((one,), (one,)).updated
    return Overflow(before, float(step.scaler.scale_value.asnumpy()), updated)


def gradients(devices: Devices) -> dict[str, np.ndarray]:
    """Of a small network, for this process's share of a batch, averaged over the processes."""
    network = nn.Conv2d(3, 4, 3, stride=2)
    with_fixed_values(network)
    optimizer = create_optimizer(network, kind="sgd")
    step = TrainingStep(network, _Squared(), optimizer, clip=1e9, devices=devices)
    rng = np.random.default_rng(2)
    arrays = rng.random((BATCH, 3, 16, 16), np.float32), rng.random((BATCH, 4, 8, 8), np.float32)
    x, wanted = (Tensor(array[devices.share(BATCH)]) for array in arrays)
    found = step.gradients((x,), (wanted,))[1]
    return {
        one.name: value.asnumpy() for one, value in zip(optimizer.parameters, found, strict=True)
    }


def write_gradients(folder: Path) -> None:
    """What each of several processes does: :func:`gradients`, into a file named by its rank."""
    devices = Devices.join()
    np.savez(folder / f"{devices.rank}.npz", **gradients(devices))


def _inputs() -> tuple[np.ndarray, ...]:
    """Eight pictures and poses of noise."""
    rng = np.random.default_rng(1)
    shapes = (BATCH, 3, _SIDE, _SIDE), (BATCH, POSE_SIZE)
    return tuple(rng.random(shape, np.float32) - np.float32(0.5) for shape in shapes)


class _Half(nn.Cell):
    """One weight, in float16 as mixed precision has it."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Dense(1, 1, weight_init="ones", has_bias=False).to_float(mindspore.float16)

    def construct(self, x: Tensor) -> Tensor:
        return self.dense(x)


class _Steep(nn.Cell):
    def construct(self, outputs: Tensor, _: Tensor) -> tuple[Tensor, Tensor]:
        loss = 8 * outputs.astype(mindspore.float32).sum()
        return loss, ops.stack((loss,))


class _Squared(nn.Cell):
    def construct(self, outputs: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        loss = ops.square(outputs - wanted).mean()
        return loss, ops.stack((loss,))
