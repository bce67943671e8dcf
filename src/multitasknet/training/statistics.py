"""Batch norms that know other pictures than those that they were trained on."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from mindspore import Tensor, nn


def reestimate_statistics(network: nn.Cell, batches: Iterable[tuple[Tensor, ...]]) -> None:
    """Set the moving statistics of all batch norms to those of the given pictures.

    Each layer's mean and variance are those of all batches together, which have one size; what
    comes into it is normalised by each batch, as in training. No weight changes. Source: Li et al.,
    Revisiting Batch Normalization For Practical Domain Adaptation, 2016.

    Args:
        network: any with 2-D batch norms; it is left in inference mode.
        batches: what it is called with, in its inputs' order; at least one.
    """
    norms = [cell for _, cell in network.cells_and_names() if isinstance(cell, nn.BatchNorm2d)]
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
            mean, variance = (
                one.asnumpy() / norm.momentum for one in (norm.moving_mean, norm.moving_variance)
            )
            sums += mean, variance + mean**2
        count += 1
    for norm, sums in zip(norms, moments, strict=True):
        mean, square = sums / count
        norm.moving_mean.set_data(Tensor(mean.astype(np.float32)))
        norm.moving_variance.set_data(Tensor((square - mean**2).astype(np.float32)))
    network.set_train(False)
