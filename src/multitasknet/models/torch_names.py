"""How PyTorch names a batch norm's values, which is the same in every network."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

PUBLISHED_LEAVES = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}
_TORCH_LEAVES = {published: torch for torch, published in PUBLISHED_LEAVES.items()}


def torch_entries(
    arrays: Mapping[str, np.ndarray], rename: Callable[[str], str]
) -> dict[str, np.ndarray]:
    """Arrays by published name as a PyTorch network has them.

    ``rename`` brings all of a name but a norm's last part into PyTorch's form; the counters that
    PyTorch's norms have start at 0.
    """
    entries = {}
    for name, array in arrays.items():
        stem, _, leaf = rename(name).rpartition(".")
        entries[f"{stem}.{_TORCH_LEAVES.get(leaf, leaf)}"] = array
        if leaf == "moving_variance":
            entries[f"{stem}.num_batches_tracked"] = np.array(0, np.int64)
    return entries
