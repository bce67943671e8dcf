"""Batch norms that know other pictures than those that they were trained on."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from mindspore import Tensor, nn


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
        network: any with 2-D batch norms; it is left in inference mode.
        batches: what it is called with, in its inputs' order; at least one.
        share: 0..1, of the way from the statistics that it has.
    """
    norms = [cell for _, cell in network.cells_and_names() if isinstance(cell, nn.BatchNorm2d)]
    before = [_statistics(norm) for norm in norms]
    moments = [np.zeros((2, len(norm.moving_mean)), np.float64) for norm in norms]
    count = 0
    network.set_train(True)
    for inputs in batches:
        # From zero, a step leaves the batch's own values times the momentum.
        for norm in norms:
            norm.moving_mean.set_data(Tensor(np.zeros(norm.moving_mean.shape, np.float32)))
            norm.moving_variance.set_data(Tensor(np.zeros(norm.moving_mean.shape, np.float32)))
        network(*inputs)
        for norm, sums in zip(norms, moments, strict=True):
            mean, variance = _statistics(norm) / norm.momentum
            sums += mean, variance + mean**2
        count += 1
    for norm, own, sums in zip(norms, before, moments, strict=True):
        mean, square = sums / count
        mean, variance = (1 - share) * own + share * np.stack((mean, square - mean**2))
        norm.moving_mean.set_data(Tensor(mean.astype(np.float32)))
        norm.moving_variance.set_data(Tensor(variance.astype(np.float32)))
    network.set_train(False)


def _statistics(norm: nn.BatchNorm2d) -> np.ndarray:
    """Mean and variance, float64 ``[2, C]``."""
    kept = norm.moving_mean, norm.moving_variance
    return np.stack([one.asnumpy().astype(np.float64) for one in kept])
