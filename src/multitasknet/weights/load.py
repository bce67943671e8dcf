"""Putting weights into a network, with an account of it, and writing them from one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mindspore
import numpy as np
from mindspore import Parameter, Tensor, nn
from mindspore.nn.utils import no_init_parameters

from ..errors import CheckpointError, OutputError
from ..files import replacing, writing
from ..models import find_network
from ..models.base import Network, Plan, Shapes
from ..vehicle.attributes import ClassMaps
from .read import Weights, cell_of, check_fit, read_weights
from .sidecar import Sidecar, write_sidecar

# What mixed precision wraps batch norms in.
_WRAPPER = "._backbone"


@dataclass(frozen=True)
class LoadReport:
    """What a load did, by parameter name.

    Attributes:
        source: the file.
        loaded: parameters of the network that the file's values went into.
        fresh: parameters that kept their initial values.
        left_out: entries of the file without use: optimizer state, classifiers not asked for.
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
    """Put a file's values into a network and report what went where.

    Args:
        network: a Cell of :func:`multitasknet.create_network`, also inside one of a training or
            of mixed precision; its ``load_report`` is set to the result.
        weights: a path, or what :func:`read_weights` returned.
        strict: refuse a file that lacks a parameter or has an entry that matches nothing; if
            False, these stay fresh or are left out. A wrong shape is always refused.
        fresh: classifiers that keep their initial values, such as ``("classifier_vid",)``.

    Raises:
        CheckpointError: the file does not fit, with all missing, unexpected and wrong-shaped
            names; or there is no network in the Cell. Nothing is changed then.
    """
    network = inner_network(network)
    if not isinstance(weights, Weights):
        weights = read_weights(weights)
    check_fit(weights, _shapes(network), strict=strict, fresh=fresh)
    parameters, arrays = named_parameters(network), weights.arrays
    loaded = tuple(name for name in parameters if name in arrays and cell_of(name) not in fresh)
    if not loaded:
        raise CheckpointError(f"{weights.path}: no entry is of {network.spec.network}")
    for name in loaded:
        parameters[name].set_data(Tensor(arrays[name].astype(np.float32, copy=False)))
    network.load_report = LoadReport(
        source=weights.path,
        loaded=loaded,
        fresh=tuple(name for name in parameters if name not in loaded),
        left_out=tuple(name for name in arrays if name not in parameters) + weights.left_out,
    )
    return network.load_report


def save_weights(
    network: nn.Cell,
    path: str | Path,
    *,
    class_maps: ClassMaps | None = None,
    metrics: Mapping[str, float] | None = None,
    origin: Mapping[str, Any] | None = None,
    leave_out: tuple[str, ...] = (),
) -> Path:
    """Write a network's weights under their published names, and a sidecar with what they mean.

    Both files appear whole or not at all.

    Args:
        network: a Cell of :func:`multitasknet.create_network`, whose ``spec`` has the class names
            and the input size; also inside one of a training or of mixed precision.
        path: the checkpoint, ``.ckpt``; the sidecar is ``.json`` beside it.
        class_maps: which raw id of the data each class is; default: by the names of the spec.
        metrics: what these weights reach on query and gallery, in percent.
        origin: how they came to be, as JSON can hold it.
        leave_out: how the names begin that are not written, such as ``("classifier_vid.",)``.

    Raises:
        CheckpointError: there is no network in the Cell.
        OutputError: the path does not end in ``.ckpt``, or one of the files cannot be written.
    """
    path, network = Path(path), inner_network(network)
    if path.suffix != ".ckpt":
        raise OutputError(f"{path}: expected a .ckpt file; multitasknet.convert writes others")
    spec, parameters = network.spec, named_parameters(network)
    entries = {name: parameters[name] for name in parameters if not name.startswith(leave_out)}
    sidecar = Sidecar(spec, class_maps or spec.class_maps, metrics or {}, origin or {})
    with replacing(path) as part:
        write_checkpoint(part, entries)
        write_sidecar(path, sidecar)
    return path


def write_checkpoint(path: Path, entries: Mapping[str, Tensor]) -> None:
    """Write MindSpore's format; OutputError if that fails."""
    named = [{"name": name, "data": value} for name, value in entries.items()]
    with replacing(path) as part, writing(path):
        mindspore.save_checkpoint(named, str(part))
        # MindSpore leaves it read-only, and a copy of it could not be overwritten.
        part.chmod(0o644)


def build(network: Network, plan: Plan, found: Weights | None) -> nn.Cell:
    """Build a Cell, in inference mode, and load what the plan takes from the file."""
    has_fresh = found is None or bool(plan.fresh)
    cell = network.build(plan.spec) if has_fresh else _without_values(network, plan.spec)
    cell.set_train(False)
    if found is not None and plan.arrays is not None:
        load_weights(cell, replace(found, arrays=plan.arrays), fresh=plan.fresh)
    return cell


def inner_network(cell: nn.Cell) -> nn.Cell:
    """The network of this package that a Cell is, or that lies inside it, else CheckpointError."""
    found = [one for _, one in cell.cells_and_names() if hasattr(one, "load_report")]
    if len(found) != 1:
        raise CheckpointError(
            f"{type(cell).__name__} holds {len(found) or 'no'} networks of this package; give the "
            f"one that create_network returned (mixed precision O1 and auto make another of it)"
        )
    return found[0]


def named_parameters(cell: nn.Cell) -> dict[str, Parameter]:
    """A network's parameters by published name, whatever a Cell around it has made of theirs."""
    return {name.replace(_WRAPPER, ""): one for name, one in cell.parameters_and_names()}


def source_sha256(cell: nn.Cell, report: LoadReport | None) -> str:
    """The sha256 of the file that a Cell's values are in; empty if they have changed since."""
    if report is None or report.fresh:
        return ""
    try:
        weights = read_weights(report.source)
    except CheckpointError:
        return ""
    unchanged = all(
        name in weights.arrays and np.array_equal(value.asnumpy(), weights.arrays[name])
        for name, value in named_parameters(cell).items()
    )
    return weights.sha256 if unchanged else ""


def frozen_copy(cell: nn.Cell) -> nn.Cell:
    """A Cell of the same values in inference mode, which later training does not reach."""
    cell = inner_network(cell)
    twin = _without_values(find_network(cell.spec.network), cell.spec)
    values = named_parameters(cell)
    for name, parameter in named_parameters(twin).items():
        parameter.set_data(Tensor(values[name].asnumpy().astype(np.float32, copy=False)))
    return twin.set_train(False)


def _without_values(network: Network, spec: Any) -> nn.Cell:
    """A Cell whose values are about to be set: not drawing initial ones halves the time."""
    with no_init_parameters():
        return network.build(spec)


def parameter_shapes(network: Network, spec: Any) -> Shapes:
    """Names and shapes of all parameters of such a network, moving statistics included."""
    return _shapes(_without_values(network, spec))


def _shapes(cell: nn.Cell) -> Shapes:
    return {name: tuple(values.shape) for name, values in named_parameters(cell).items()}
