"""Optimizers whose groups do what they should: weight decay on weights, a slower backbone."""

from __future__ import annotations

from typing import Any

from mindspore import Parameter, nn

_MOMENTUM = 0.9

Prefixes = tuple[str, ...]


def freeze(network: nn.Cell, frozen: Prefixes) -> None:
    """Take parameters out of training; see :func:`set_training` for their norms."""
    for parameter in network.trainable_params():
        parameter.requires_grad = not parameter.name.startswith(frozen)


def set_training(network: nn.Cell, frozen: Prefixes = (), *, statistics: bool = True) -> None:
    """Put the network into training mode, frozen batch norms excepted.

    Args:
        network: any with 2-D batch norms.
        frozen: as in :func:`freeze`: norms of the frozen part use and keep their moving statistics.
        statistics: if False, all norms do so.
    """
    network.set_train(True)
    for name, cell in network.cells_and_names():
        if isinstance(cell, nn.BatchNorm2d):
            cell.set_train(statistics and not f"{name}.".startswith(frozen))


def create_optimizer(
    network: nn.Cell,
    *,
    kind: str = "adam",
    weight_decay: float = 5e-4,
    backbone: Prefixes = (),
    backbone_rate: float = 1.0,
) -> nn.Optimizer:
    """Build the optimizer of the trainable parameters.

    Its learning rates are relative, 1 and ``backbone_rate``: a :class:`.step.TrainingStep` takes
    them as that, and sets the real ones.

    Args:
        network: the network; frozen parameters are left out.
        kind: ``adam`` or ``sgd`` (momentum 0.9).
        weight_decay: L2 penalty on convolution and Dense weights; norms and biases have none.
        backbone: how the names of the backbone's parameters begin.
        backbone_rate: its learning rate as a part of the others'.
    """
    trainable = network.trainable_params()
    members: dict[tuple[bool, bool], list[Parameter]] = {}
    for parameter in trainable:
        name = parameter.name
        kinds = name.startswith(backbone), name.endswith(".weight")
        members.setdefault(kinds, []).append(parameter)
    groups: list[dict[str, Any]] = [
        {
            "params": parameters,
            # A rate of its own makes it a parameter that can be set without a new graph.
            "lr": backbone_rate if slow else 1.0,
            # The zero must be explicit: a group without an entry gets the optimizer's decay.
            "weight_decay": weight_decay if decays else 0.0,
        }
        for (slow, decays), parameters in sorted(members.items(), reverse=True)
    ]
    groups.append({"order_params": trainable})
    if kind == "sgd":
        return nn.Momentum(groups, learning_rate=1.0, momentum=_MOMENTUM)
    return nn.Adam(groups, learning_rate=1.0)


def moving_statistics(network: nn.Cell) -> list[Parameter]:
    """The batch norms' moving means and variances."""
    names = ("moving_mean", "moving_variance")
    return [parameter for parameter in network.get_parameters() if parameter.name.endswith(names)]
