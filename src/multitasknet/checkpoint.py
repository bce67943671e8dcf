"""Reading weights from files and putting them into a network, with an account of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mindspore import Tensor, load_checkpoint, nn

from .errors import MultiTaskNetError

SUFFIXES = (".ckpt", ".safetensors")

_ROOTS = r"(?:base|fc|fc_vid|fc_vcolor|fc_vtype|classifier_vid|classifier_vcolor|classifier_vtype)"
_PREFIX = re.compile(r"^(?:network\.)+")
# Optimizers keep one tensor a weight under its name: moment1.network.base.conv0.weight.
_OPTIMIZER_SLOT = re.compile(rf"^(?!network\.)\w+\.(?:network\.)*{_ROOTS}\.")
_CLASSIFIERS = ("classifier_vid", "classifier_vcolor", "classifier_vtype")
# What a network without classifiers has no use for.
_TOP = (*_CLASSIFIERS, "fc_vcolor", "fc_vtype")


class CheckpointError(MultiTaskNetError, ValueError):
    """Weights that cannot be read or do not fit; names the file, the entries and the remedy."""


@dataclass(frozen=True, eq=False)
class Weights:
    """The network's part of a checkpoint.

    Attributes:
        path: the file.
        arrays: name, as the published checkpoint has it (no prefix), to values.
        training_state: entries of the file that belong to an optimizer or training loop.
    """

    path: Path
    arrays: Mapping[str, np.ndarray]
    training_state: tuple[str, ...] = ()

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: array.shape for name, array in self.arrays.items()}


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


def read_weights(path: str | Path) -> Weights:
    """Read a ``.ckpt`` or ``.safetensors`` file.

    Raises:
        CheckpointError: no such file, another format, or a damaged file.
    """
    path = Path(path).expanduser()
    if path.suffix not in SUFFIXES:
        raise CheckpointError(
            f"{path}: expected a file that ends in {' or '.join(SUFFIXES)}, got {path.suffix!r}"
        )
    if not path.is_file():
        raise CheckpointError(f"{path}: there is no such file; give the path of a checkpoint")
    skipped: list[str] = []
    try:
        entries = _read_entries(path, skipped)
    # MindSpore and safetensors report damage in many ways, from ValueError to RuntimeError.
    except Exception as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise CheckpointError(
            f"{path}: the checkpoint cannot be read ({reason}); it is damaged or no "
            f"{path.suffix} file, fetch or save it again"
        ) from error
    arrays = {}
    for name, array in entries.items():
        if _OPTIMIZER_SLOT.match(name) or (array.size <= 1 and not _is_ours(name)):
            skipped.append(name)
        else:
            arrays[_PREFIX.sub("", name)] = array
    return Weights(path, arrays, tuple(skipped))


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
    parameters = {parameter.name: parameter for parameter in network.get_parameters()}
    kept = {name for name in parameters if name.partition(".")[0] in fresh}
    arrays = weights.arrays
    missing = [name for name in parameters if name not in arrays and name not in kept]
    unused = [name for name in arrays if name not in parameters]
    unexpected = [name for name in unused if name.partition(".")[0] not in _TOP]
    misshapen = [
        f"{name} {list(arrays[name].shape)}, expected {list(parameter.shape)}"
        for name, parameter in parameters.items()
        if name in arrays and name not in kept and arrays[name].shape != tuple(parameter.shape)
    ]
    if misshapen or (strict and (missing or unexpected)):
        raise CheckpointError(_misfit(weights.path, missing, unexpected, misshapen))
    loaded = [name for name in parameters if name in arrays and name not in kept]
    for name in loaded:
        parameters[name].set_data(Tensor(arrays[name].astype(np.float32, copy=False)))
    report = LoadReport(
        source=weights.path,
        loaded=tuple(loaded),
        fresh=tuple(name for name in parameters if name in kept or name in missing),
        left_out=tuple(unused) + weights.training_state,
    )
    network.load_report = report
    return report


def _read_entries(path: Path, skipped: list[str]) -> dict[str, np.ndarray]:
    if path.suffix == ".safetensors":
        from safetensors.numpy import load_file

        return load_file(path)

    def wanted(name: str) -> bool:
        # Two thirds of a file saved in training are optimizer state: do not even read it.
        if not _OPTIMIZER_SLOT.match(name):
            return True
        skipped.append(name)
        return False

    entries = load_checkpoint(str(path), choice_func=wanted)
    return {name: parameter.asnumpy() for name, parameter in entries.items()}


def _is_ours(name: str) -> bool:
    return re.match(rf"^(?:network\.)*{_ROOTS}\.", name) is not None


def _misfit(path: Path, missing: list[str], unexpected: list[str], misshapen: list[str]) -> str:
    parts = [
        f"{len(names)} {kind}: {', '.join(names[:6])}{', ...' if len(names) > 6 else ''}"
        for kind, names in (
            ("missing", missing),
            ("unexpected", unexpected),
            ("of another shape", misshapen),
        )
        if names
    ]
    return (
        f"{path}: the weights do not fit the network. {'; '.join(parts)}. Use a checkpoint of "
        f"this architecture, or load_weights(..., strict=False) to load what fits by name"
    )
