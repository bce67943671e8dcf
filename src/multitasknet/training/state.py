"""A training's whole state in one checkpoint, so that it goes on as if it had not stopped."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import mindspore
import numpy as np
from mindspore import Parameter, Tensor, nn

from ..errors import CheckpointError
from ..files import replacing, writing
from .step import TrainingStep

# Scalars: what reads a checkpoint takes them for training state and leaves them out.
_SCALARS = {"epoch": "epoch"} | {name: f"epoch_{name}" for name in ("step", "skipped", "seconds")}
_SUM = "epoch_sum_"


@dataclass(frozen=True)
class Progress:
    """How far a training has come.

    Attributes:
        epoch: finished epochs.
        step: finished steps of the epoch in hand.
        skipped: those of them without an update.
        seconds: their time.
        sums: of the losses over those steps, float32.
    """

    epoch: int = 0
    step: int = 0
    skipped: int = 0
    seconds: float = 0.0
    sums: Mapping[str, np.float32] = field(default_factory=dict)


def save_network(path: Path, network: nn.Cell, names: Container[str] | None = None) -> None:
    """Write the weights alone, all or those of these names, in the published layout."""
    parameters = network.parameters_dict().items()
    _save(path, {name: one for name, one in parameters if names is None or name in names})


def save_state(path: Path, network: nn.Cell, step: TrainingStep, progress: Progress) -> None:
    """Write weights, optimizer and progress; the random numbers follow from seed and epoch."""
    scalars = {entry: getattr(progress, name) for name, entry in _SCALARS.items()}
    scalars |= {f"{_SUM}{name}": value for name, value in progress.sums.items()}
    entries = {
        name: Tensor(np.int32(value) if isinstance(value, int) else np.float32(value))
        for name, value in scalars.items()
    }
    _save(path, _parameters(network, step) | entries)


def load_state(path: Path, network: nn.Cell, step: TrainingStep) -> Progress:
    """Put back what :func:`save_state` wrote; CheckpointError if it is not that."""
    try:
        stored = mindspore.load_checkpoint(str(path))
    # MindSpore reports a missing or damaged file in several ways.
    except Exception as error:
        raise CheckpointError(
            f"{path}: the training's state cannot be read; give the output folder of an earlier "
            f"run, or start anew without resuming"
        ) from error
    parameters = _parameters(network, step)
    missing = [name for name in (*parameters, *_SCALARS.values()) if name not in stored]
    if missing:
        raise CheckpointError(
            f"{path}: {len(missing)} entries of the training's state are missing, such as "
            f"{missing[0]!r}; the file is no state of this training"
        )
    values = {name: parameter.asnumpy() for name, parameter in stored.items()}
    for name, parameter in parameters.items():
        parameter.set_data(Tensor(values[name]))
    sums = {
        name.removeprefix(_SUM): np.float32(value)
        for name, value in values.items()
        if name.startswith(_SUM)
    }
    return Progress(**{name: values[entry].item() for name, entry in _SCALARS.items()}, sums=sums)


def _parameters(network: nn.Cell, step: TrainingStep) -> dict[str, Parameter]:
    return {parameter.name: parameter for parameter in (*network.get_parameters(), *step.state)}


def _save(path: Path, entries: Mapping[str, Tensor]) -> None:
    with replacing(path) as temporary, writing(path):
        named = [{"name": name, "data": value} for name, value in entries.items()]
        mindspore.save_checkpoint(named, str(temporary))
        # MindSpore leaves it read-only, and a copy of it could not be overwritten.
        temporary.chmod(0o644)
