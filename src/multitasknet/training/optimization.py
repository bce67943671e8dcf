"""Optimizers whose groups do what they should: weight decay on weights, a slower backbone."""

from __future__ import annotations

from mindspore import Parameter, Tensor, nn, ops
from mindspore import dtype as mstype

BACKBONE = "base."
# What each choice of ``freeze`` holds fixed: PAMTRI's backbone, or its stem and first two blocks.
FROZEN = {
    "none": (),
    "stages": tuple(
        f"{BACKBONE}{part}."
        for part in (
            "conv0",
            "norm0",
            "denseblock1",
            "transition1",
            "denseblock2",
            "transition2",
        )
    ),
    "backbone": (BACKBONE,),
}
_MOMENTUM = 0.9


def freeze(network: nn.Cell, choice: str) -> None:
    """Take a part of the network out of training; see :func:`set_training` for its norms."""
    prefixes = FROZEN[choice]
    for parameter in network.trainable_params():
        parameter.requires_grad = not parameter.name.startswith(prefixes)


def set_training(network: nn.Cell, choice: str = "none", *, statistics: bool = True) -> None:
    """Put the network into training mode, frozen batch norms excepted.

    Args:
        network: a MultiTaskNet.
        choice: as in :func:`freeze`: norms of the frozen part use and keep their moving statistics.
        statistics: if False, all norms do so.
    """
    network.set_train(True)
    for name, cell in network.cells_and_names():
        if isinstance(cell, nn.BatchNorm2d):
            cell.set_train(statistics and not f"{name}.".startswith(FROZEN[choice]))


def create_optimizer(
    network: nn.Cell, *, kind: str = "adam", weight_decay: float = 5e-4
) -> nn.Optimizer:
    """Build the optimizer of the trainable parameters; :func:`set_rate` gives it its rate.

    Args:
        network: the network; frozen parameters are left out.
        kind: ``adam`` or ``sgd`` (momentum 0.9).
        weight_decay: L2 penalty on convolution and Dense weights; norms and biases have none.
    """
    trainable = network.trainable_params()
    groups = [
        {
            "params": [
                p for p in trainable if (_in_backbone(p), _decays(p)) == (in_backbone, decays)
            ],
            # A rate of its own makes it a parameter that can be set without a new graph.
            "lr": 0.0,
            # The zero must be explicit: a group without an entry gets the optimizer's decay.
            "weight_decay": weight_decay if decays else 0.0,
        }
        for in_backbone in (True, False)
        for decays in (True, False)
    ]
    groups = [group for group in groups if group["params"]]
    groups.append({"order_params": trainable})
    if kind == "sgd":
        return nn.Momentum(groups, learning_rate=0.0, momentum=_MOMENTUM)
    return nn.Adam(groups, learning_rate=0.0)


def set_rate(optimizer: nn.Optimizer, rate: float, backbone_rate: float = 1.0) -> None:
    """Set the learning rate of the next step; ``backbone_rate`` is the backbone's part of it."""
    owners = zip(optimizer.parameters, optimizer.learning_rate, strict=True)
    by_group = {current.name: (current, parameter) for parameter, current in owners}
    for current, parameter in by_group.values():
        value = rate * backbone_rate if _in_backbone(parameter) else rate
        # Not set_data: the compiled graph would keep the rate that it was compiled with.
        ops.assign(current, Tensor(value, mstype.float32))


def _in_backbone(parameter: Parameter) -> bool:
    return parameter.name.startswith(BACKBONE)


def _decays(parameter: Parameter) -> bool:
    return parameter.name.endswith(".weight")


def moving_statistics(network: nn.Cell) -> list[Parameter]:
    """The batch norms' moving means and variances."""
    names = ("moving_mean", "moving_variance")
    return [parameter for parameter in network.get_parameters() if parameter.name.endswith(names)]
