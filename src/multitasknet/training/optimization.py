"""What is trained and how fast: frozen parts, parameter groups, learning rates, statistics."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from mindspore import Parameter, Tensor, log, nn

from ..models import find_network
from ..weights.load import named_parameters
from .settings import Settings

_MOMENTUM = 0.9
_LEAST, _STEP = 0.01, 0.1
# MindSpore's remarks on its own optimizer and on code that a new network must compile again.
_REMARKS = ("is deprecated from version", "has been compiled again")

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)

Prefixes = tuple[str, ...]


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


def freeze(network: nn.Cell, frozen: Prefixes) -> None:
    """Take parameters out of training; see :func:`set_training` for their norms."""
    for name, parameter in named_parameters(network).items():
        if name.startswith(frozen):
            parameter.requires_grad = False


def set_training(network: nn.Cell, frozen: Prefixes = (), *, statistics: bool = True) -> None:
    """Put the network into training mode, frozen batch norms excepted.

    Args:
        network: any with batch norms.
        frozen: as in :func:`freeze`: norms of the frozen part use and keep their moving statistics.
        statistics: if False, all norms do so.
    """
    network.set_train(True)
    for name, cell in network.cells_and_names():
        if isinstance(cell, _NORMS):
            cell.set_train(statistics and not f"{name}.".startswith(frozen))


def create_optimizer(network: nn.Cell, settings: Settings) -> nn.Optimizer:
    """Build the optimizer of the trainable parameters.

    Its learning rates are relative, 1 and the backbone's part; :class:`.step.TrainingStep` sets the
    real ones. Only the weights of convolution and Dense layers decay, norms and biases do not.
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

    # Made at its first use, under a name that holds the process's number.
    logger = log._get_logger()
    logger.addFilter(is_for_users)
    try:
        yield
    finally:
        logger.removeFilter(is_for_users)


def moving_statistics(network: nn.Cell) -> list[Parameter]:
    """The batch norms' moving means and variances."""
    names = ("moving_mean", "moving_variance")
    return [parameter for parameter in network.get_parameters() if parameter.name.endswith(names)]


def reestimate_statistics(
    network: nn.Cell, batches: Iterable[tuple[Tensor, ...]], *, share: float = 1.0
) -> None:
    """Move the statistics of all batch norms to those of the given pictures.

    Each layer's mean and variance are those of all batches together, which have one size; what
    comes into it is normalised by each batch, as in training. No weight changes. Sources: Li et
    al., Revisiting Batch Normalization For Practical Domain Adaptation, 2016; for a share between,
    Schneider et al., Improving robustness against common corruptions by covariate shift
    adaptation, NeurIPS 2020.

    Args:
        network: any with batch norms; it is left in inference mode.
        batches: what it is called with, in its inputs' order; at least one.
        share: 0..1, of the way from the statistics that it has.
    """
    norms = [cell for _, cell in network.cells_and_names() if isinstance(cell, _NORMS)]
    before = [_statistics(norm) for norm in norms]
    moments = [np.zeros((2, len(norm.moving_mean)), np.float64) for norm in norms]
    count = 0
    network.set_train(True)
    for inputs in batches:
        # From zero, a step leaves the batch's own values times the momentum.
        for norm in norms:
            _set_statistics(norm, np.zeros((2, len(norm.moving_mean))))
        network(*inputs)
        for norm, sums in zip(norms, moments, strict=True):
            mean, variance = _statistics(norm) / norm.momentum
            sums += mean, variance + mean**2
        count += 1
    for norm, own, sums in zip(norms, before, moments, strict=True):
        mean, square = sums / count
        _set_statistics(norm, (1 - share) * own + share * np.stack((mean, square - mean**2)))
    network.set_train(False)


def _statistics(norm: nn.Cell) -> np.ndarray:
    """Mean and variance, float64 ``[2, C]``."""
    kept = norm.moving_mean, norm.moving_variance
    return np.stack([one.asnumpy().astype(np.float64) for one in kept])


def _set_statistics(norm: nn.Cell, values: np.ndarray) -> None:
    for parameter, row in zip((norm.moving_mean, norm.moving_variance), values, strict=True):
        parameter.set_data(Tensor(row.astype(np.float32)))
