"""Putting weights into a network, with an account of it."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from mindspore import Tensor, nn

from ..errors import CheckpointError
from ..files import file_sha256
from ..models import find_network
from ..models.base import Network, Plan, Shapes
from .read import Weights, cell_of, check_fit, read_weights


@dataclass(frozen=True)
class LoadReport:
    """What a load did, by parameter name.

    Attributes:
        source: the file.
        loaded: parameters of the network that the file's values went into.
        fresh: parameters that kept their initial values.
        left_out: entries of the file that the network has no use for: optimizer state, or
            classifiers that were not asked for.
    """

    source: Path
    loaded: tuple[str, ...]
    fresh: tuple[str, ...]
    left_out: tuple[str, ...]

    def __str__(self) -> str:
        fresh = f" ({', '.join(self.fresh)})" if 0 < len(self.fresh) <= 6 else ""
        return (
            f"{self.source.name}: {len(self.loaded)} loaded, {len(self.fresh)} fresh{fresh}, "
            f"{len(self.left_out)} left out"
        )


def load_weights(
    network: nn.Cell,
    weights: str | Path | Weights,
    *,
    strict: bool = True,
    fresh: tuple[str, ...] = (),
) -> LoadReport:
    """Put a file's values into a network and say what went where.

    Args:
        network: the Cell; its ``load_report`` is set to the result.
        weights: a path, or what :func:`read_weights` returned.
        strict: refuse a file that lacks a parameter, or has an entry that matches nothing. If
            False, such parameters stay fresh and such entries are left out; a wrong shape is
            refused all the same.
        fresh: classifiers that keep their initial values, such as ``("classifier_vid",)``.

    Raises:
        CheckpointError: the file does not fit; one message with all missing, unexpected and
            wrong-shaped names. The network is unchanged then.
    """
    if not isinstance(weights, Weights):
        weights = read_weights(weights)
    check_fit(weights, _shapes(network), strict=strict, fresh=fresh)
    parameters, arrays = network.parameters_dict(), weights.arrays
    loaded = tuple(name for name in parameters if name in arrays and cell_of(name) not in fresh)
    for name in loaded:
        parameters[name].set_data(Tensor(arrays[name].astype(np.float32, copy=False)))
    network.load_report = LoadReport(
        source=weights.path,
        loaded=loaded,
        fresh=tuple(name for name in parameters if name not in loaded),
        left_out=tuple(name for name in arrays if name not in parameters) + weights.training_state,
    )
    return network.load_report


def build(network: Network, plan: Plan, found: Weights | None) -> nn.Cell:
    """Build a Cell, in inference mode, and load what the plan takes from the file."""
    needs_values = found is None or bool(plan.fresh)
    cell = network.build(plan.spec) if needs_values else _without_values(network, plan.spec)
    cell.set_train(False)
    if found is not None and plan.arrays is not None:
        load_weights(cell, replace(found, arrays=plan.arrays), fresh=plan.fresh)
    return cell


def source_sha256(cell: nn.Cell, report: LoadReport | None) -> str:
    """The sha256 of the file that a Cell's values are in; empty if they have changed since."""
    if report is None or report.fresh:
        return ""
    try:
        arrays = read_weights(report.source).arrays
    except CheckpointError:
        return ""
    values = cell.parameters_dict()
    unchanged = all(np.array_equal(values[name].asnumpy(), arrays[name]) for name in values)
    return file_sha256(report.source) if unchanged else ""


def frozen_copy(cell: nn.Cell) -> nn.Cell:
    """A Cell of the same values in inference mode, which later training does not reach."""
    twin = _without_values(find_network(cell.spec.network), cell.spec)
    values = cell.parameters_dict()
    for name, parameter in twin.parameters_dict().items():
        parameter.set_data(Tensor(values[name].asnumpy()))
    return twin.set_train(False)


def _without_values(network: Network, spec: Any) -> nn.Cell:
    """A Cell whose values are about to be set: not drawing initial ones halves the time."""
    with _no_initial_values():
        return network.build(spec)


def _no_initial_values() -> AbstractContextManager[None]:
    """MindSpore's way to draw none; it may go after 2.9, and then they are drawn and replaced."""
    try:
        from mindspore.nn.utils import no_init_parameters
    except ImportError:
        return nullcontext()
    return no_init_parameters()


def parameter_shapes(network: Network, spec: Any) -> Shapes:
    """Names and shapes of all parameters of such a network, moving statistics included."""
    return _shapes(_without_values(network, spec))


def _shapes(cell: nn.Cell) -> Shapes:
    return {name: tuple(values.shape) for name, values in cell.parameters_dict().items()}
