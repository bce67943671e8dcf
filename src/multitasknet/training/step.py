"""One training step: what is trained, how fast, and the update if all gradients are finite."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import mindspore
import numpy as np
from mindspore import Parameter, Tensor, log, nn, ops
from mindspore import dtype as mstype
from mindspore.amp import DynamicLossScaler, all_finite

from ..models import find_network
from ..weights.load import named_parameters
from .parallel import ALONE, Devices
from .settings import Settings

_MOMENTUM = 0.9
_LEAST, _STEP = 0.01, 0.1
_SCALE_WINDOW = 1000
_FIRST_SCALE = 2.0**14
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
_STATISTICS = ("moving_mean", "moving_variance")
# MindSpore's remarks on its own optimizer and on code that a new network must compile again.
_REMARKS = ("is deprecated from version", "has been compiled again")


def rate_at(settings: Settings, epoch: float) -> float:
    """The learning rate at a point in time, in epochs since the start.

    After the warm-up, in which it rises linearly from a hundredth, a half cosine down to one
    (Loshchilov and Hutter, SGDR, 2017, without restarts), or as ``schedule`` says.
    """
    rate, warmup = settings.lr, settings.warmup
    if epoch < warmup:
        return rate * (_LEAST + (1 - _LEAST) * epoch / warmup)
    if settings.schedule == "steps":
        return rate * _STEP ** sum(epoch >= at for at in settings.milestones)
    if settings.schedule == "constant":
        return rate
    done = (epoch - warmup) / max(settings.epochs - warmup, 1e-9)
    return rate * (_LEAST + (1 - _LEAST) * (1 + math.cos(math.pi * done)) / 2)


def freeze(network: nn.Cell, frozen: tuple[str, ...]) -> None:
    """Take the parameters whose names begin so out of training; :func:`set_training` does norms."""
    for name, parameter in named_parameters(network).items():
        if name.startswith(frozen):
            parameter.requires_grad = False


def set_training(
    network: nn.Cell, frozen: tuple[str, ...] = (), *, statistics: bool = True
) -> None:
    """Put the network into training mode, except for the batch norms of the frozen part.

    These use and keep their moving statistics; without ``statistics`` all norms do so.
    """
    network.set_train(True)
    for name, cell in network.cells_and_names():
        if isinstance(cell, _NORMS):
            cell.set_train(statistics and not f"{name}.".startswith(frozen))


def create_optimizer(network: nn.Cell, settings: Settings) -> nn.Optimizer:
    """The optimizer of the trainable parameters; norms and biases do not decay.

    Its rates are relative, 1 and the backbone's part; :class:`TrainingStep` sets real ones.
    """
    backbone = find_network(settings.network).frozen["backbone"]
    trainable = {name: one for name, one in named_parameters(network).items() if one.requires_grad}
    members: dict[tuple[bool, bool], list[Parameter]] = {}
    for name, parameter in trainable.items():
        kinds = name.startswith(backbone), name.endswith(".weight")
        members.setdefault(kinds, []).append(parameter)
    groups: list[dict[str, Any]] = [
        {
            "params": parameters,
            # A group's rate is a parameter that can be set without a new graph.
            "lr": settings.backbone_rate if slow else 1.0,
            # The zero must be explicit: a group without an entry gets the optimizer's decay.
            "weight_decay": settings.weight_decay if decays else 0.0,
        }
        for (slow, decays), parameters in sorted(members.items(), reverse=True)
    ]
    groups.append({"order_params": list(trainable.values())})
    if settings.optimizer == "sgd":
        return nn.Momentum(groups, learning_rate=1.0, momentum=_MOMENTUM)
    with without_remarks():
        return nn.Adam(groups, learning_rate=1.0)


@contextmanager
def without_remarks() -> Iterator[None]:
    """Keep MindSpore's remarks on its own code from the log: a user can do nothing about them."""

    def is_for_users(record: logging.LogRecord) -> bool:
        return not any(remark in record.getMessage() for remark in _REMARKS)

    logger = log._get_logger()
    logger.addFilter(is_for_users)
    try:
        yield
    finally:
        logger.removeFilter(is_for_users)


@dataclass(frozen=True)
class StepResult:
    """What one step did."""

    total: float  # the loss
    parts: np.ndarray  # float32, its unweighted parts
    updated: bool  # whether the weights changed; they do not if a gradient is not finite
    is_hopeless: bool  # it is not finite, and no smaller scale of the loss is left to try


class TrainingStep:
    """Trains on batches; forward, backward and clipping are one graph, compiled for each shape.

    Args:
        forward: a network in training mode, or a part of one, called with a batch's inputs.
        loss: Cell of the outputs and then the labels; returns the total, a float32 scalar, and the
            unweighted parts, float32 ``[L]``.
        optimizer: see :func:`create_optimizer`.
        clip: largest norm of all gradients together; larger ones are scaled down to it.
        scaled: scale the loss, for mixed precision: the scale falls when a step overflows.
        devices: gradients are averaged over them, and an overflow on one skips the step on all.
    """

    def __init__(
        self,
        forward: Callable,
        loss: nn.Cell,
        optimizer: nn.Optimizer,
        *,
        clip: float,
        scaled: bool = False,
        devices: Devices = ALONE,
    ) -> None:
        self._forward, self._loss, self._clip = forward, loss, clip
        self._optimizer, self._devices = optimizer, devices
        rates = {rate.name: rate for rate in optimizer.learning_rate}
        self._rates = [(rate, float(rate.asnumpy())) for rate in rates.values()]
        self.scaler = DynamicLossScaler(_FIRST_SCALE, 2, _SCALE_WINDOW) if scaled else None
        self._compiled = cache(self._compile)

    def __call__(self, inputs: tuple[Tensor, ...], labels: tuple[Tensor, ...]) -> StepResult:
        """Train on one batch."""
        report, gradients = self.gradients(inputs, labels)
        # The one point where the host waits for the device.
        total, norm, *parts = report.asnumpy().tolist()
        overflowed, is_hopeless = not math.isfinite(norm), False
        if self.scaler:
            # The first Ascend series (910A) has no infinity: what overflows becomes the largest
            # number, the norm stays finite, and only the device's own flag shows it.
            overflowed = self._devices.any(overflowed or not all_finite(gradients))
        if not overflowed:
            self._optimizer(gradients)
        else:
            is_hopeless = not self.scaler or float(self.scaler.scale_value.asnumpy()) <= 1
        if self.scaler:
            self.scaler.adjust(Tensor(not overflowed))
        return StepResult(total, np.array(parts, np.float32), not overflowed, is_hopeless)

    @property
    def state(self) -> list[Parameter]:
        """What a resumed training needs beside the weights."""
        weights = {parameter.name for parameter in self._optimizer.parameters}
        state = [p for p in self._optimizer.get_parameters() if p.name not in weights]
        return [*state, self.scaler.scale_value, self.scaler.counter] if self.scaler else state

    def set_rate(self, rate: float) -> None:
        """Set the learning rate of the next step; the backbone gets its part of it."""
        for current, part in self._rates:
            # Not set_data: the compiled graph would keep the rate that it was compiled with.
            ops.assign(current, Tensor(rate * part, mstype.float32))

    def gradients(
        self, inputs: tuple[Tensor, ...], labels: tuple[Tensor, ...]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """What one step follows, averaged over the devices.

        The loss, the norm of all gradients together and the loss's parts, float32 ``[2 + L]``; and
        the gradients of all weights, clipped, of no use if the norm is not finite.
        """
        scale = self.scaler.scale_value.value() if self.scaler else Tensor(1.0, mstype.float32)
        return self._compiled(len(inputs))(*inputs, *labels, scale)

    def _compile(self, inputs: int) -> Callable[..., Any]:
        """The graph that takes so many inputs, the labels and the loss's scale."""
        forward, loss, clip = self._forward, self._loss, self._clip
        weights = self._optimizer.parameters
        reducer = self._devices.reducer(weights)

        # Tensors one by one: those inside a tuple count as constants, a new graph for every batch.
        def scaled_loss(*tensors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            total, parts = loss(forward(*tensors[:inputs]), *tensors[inputs:-1])
            return total * tensors[-1], total, parts

        differentiate = mindspore.value_and_grad(scaled_loss, None, weights, has_aux=True)
        # Over the gradients; a loop would be compiled into a graph of its own for each of them.
        each, bound = ops.HyperMap(), ops.Partial()

        def step(*tensors: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
            (_, total, parts), gradients = differentiate(*tensors)
            gradients = each(bound(_scaled, 1 / tensors[-1]), gradients)
            if reducer is not None:
                gradients = reducer(gradients)
            norm = ops.sqrt(ops.addn(each(_square_sum, gradients)))
            factor = ops.minimum(clip / norm, Tensor(1.0, mstype.float32))
            clipped = each(bound(_scaled, factor), gradients)
            figures = ops.stack((total.astype(mstype.float32), norm))
            return ops.concat((figures, parts.astype(mstype.float32))), clipped

        # Not the default, which is GE on the first Ascend series under MindSpore 2.7 and 2.8.
        return mindspore.jit(step, backend="ms_backend", jit_level="O0")


def _scaled(factor: Tensor, gradient: Tensor) -> Tensor:
    return gradient * factor.astype(gradient.dtype)


def _square_sum(gradient: Tensor) -> Tensor:
    return ops.square(gradient.astype(mstype.float32)).sum()


def moving_statistics(network: nn.Cell) -> list[Parameter]:
    """The batch norms' moving means and variances."""
    return [one for one in network.get_parameters() if one.name.endswith(_STATISTICS)]


def reestimate_statistics(
    network: nn.Cell, batches: Iterable[tuple[Tensor, ...]], *, share: float = 1.0
) -> None:
    """Move the statistics of all batch norms to those of the given pictures.

    Each layer's mean and variance are those of all batches together, which have one size; what
    comes into it is normalised by each batch, as in training. No weight changes; the network is
    left in inference mode. Sources: Li et al., Revisiting Batch Normalization For Practical Domain
    Adaptation, 2016; for a share between, Schneider et al., Improving robustness against common
    corruptions by covariate shift adaptation, NeurIPS 2020.

    Args:
        batches: the network's inputs, in its order; at least one.
        share: 0..1, of the way from the statistics that it has.
    """
    norms = [cell for _, cell in network.cells_and_names() if isinstance(cell, _NORMS)]
    before, sums = [_statistics(norm) for norm in norms], [np.zeros(()) for _ in norms]
    count = 0
    network.set_train(True)
    for inputs in batches:
        # From zero, a step leaves the batch's own values times the momentum.
        for norm, own in zip(norms, before, strict=True):
            _set_statistics(norm, np.zeros_like(own))
        network(*inputs)
        for place, norm in enumerate(norms):
            mean, variance = _statistics(norm) / norm.momentum
            sums[place] = sums[place] + np.stack((mean, variance + mean**2))
        count += 1
    for norm, own, (mean, square) in zip(norms, before, (one / count for one in sums), strict=True):
        _set_statistics(norm, (1 - share) * own + share * np.stack((mean, square - mean**2)))
    network.set_train(False)


def _statistics(norm: nn.Cell) -> np.ndarray:
    """Mean and variance, float64 ``[2, C]``."""
    return np.stack([getattr(norm, name).asnumpy().astype(np.float64) for name in _STATISTICS])


def _set_statistics(norm: nn.Cell, values: np.ndarray) -> None:
    for name, row in zip(_STATISTICS, values, strict=True):
        getattr(norm, name).set_data(Tensor(row.astype(np.float32)))
