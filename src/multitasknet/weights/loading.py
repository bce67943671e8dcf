"""Putting weights into a network, with an account of it."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from mindspore import Tensor, nn
from mindspore.common.initializer import Normal, initializer

from .reading import Weights, cell_of, check_fit, read_weights

logger = logging.getLogger(__name__)

_STEM = "base.conv0.weight"
_STEM_SIGMA = 0.02


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
    parameters = {parameter.name: parameter for parameter in network.get_parameters()}
    shapes = {name: tuple(parameter.shape) for name, parameter in parameters.items()}
    check_fit(weights, shapes, strict=strict, fresh=fresh)
    arrays = weights.arrays
    loaded = [name for name in parameters if name in arrays and cell_of(name) not in fresh]
    for name in loaded:
        parameters[name].set_data(Tensor(arrays[name].astype(np.float32, copy=False)))
    report = LoadReport(
        source=weights.path,
        loaded=tuple(loaded),
        fresh=tuple(name for name in parameters if name not in loaded),
        left_out=tuple(name for name in arrays if name not in parameters) + weights.training_state,
    )
    network.load_report = report
    return report


def widen_stem(weights: Weights, channels: int) -> Weights:
    """The same weights for an input of more channels: the further ones start at N(0, 0.02)."""
    stem = weights.arrays[_STEM]
    features, given, *kernel = stem.shape
    more = initializer(Normal(_STEM_SIGMA), (features, channels - given, *kernel)).init_data()
    logger.info("%s: %d channels beyond the file's %d are fresh", _STEM, channels - given, given)
    widened = np.concatenate((stem.astype(np.float32, copy=False), more.asnumpy()), axis=1)
    return replace(weights, arrays={**weights.arrays, _STEM: widened})
