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


def published_entries(
    entries: Mapping[str, np.ndarray], rename: Callable[[str], str]
) -> dict[str, np.ndarray]:
    """Back from :func:`torch_entries`, without the counters; ``rename`` the other way round."""
    arrays = {}
    for name, array in entries.items():
        stem, _, leaf = name.rpartition(".")
        if leaf == "num_batches_tracked":
            continue
        is_norm = f"{stem}.running_mean" in entries
        arrays[rename(f"{stem}.{PUBLISHED_LEAVES[leaf] if is_norm else leaf}")] = array
    return arrays
