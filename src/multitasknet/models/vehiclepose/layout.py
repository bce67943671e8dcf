"""Parameter names: MindSpore's own, and those of the same network in PyTorch.

The two differ in how batch norms name their values, and in nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from ..torch_names import published_entries, torch_entries

# What each choice of ``freeze`` holds fixed: stem and first two or three stages, or all but pyramid
# and heads.
FROZEN: dict[str, tuple[str, ...]] = {
    "none": (),
    "stages": ("stem.", "stages.0.", "stages.1."),
    "blocks": ("stem.", "stages.0.", "stages.1.", "stages.2."),
    "backbone": ("stem.", "stages."),
}

_PREFIX = re.compile(r"^(?:module\.)+")
_MARK = re.compile(r"^(?:module\.)*heatmap_head\.")


def recognizes(names: Sequence[str]) -> bool:
    """Whether entries of these names are of this network, in either layout."""
    return any(_MARK.match(name) for name in names)


def to_published(
    entries: Mapping[str, np.ndarray],
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Bring a file's entries into MindSpore's layout, and name those left out: norms' counters.

    What is not understood keeps its name, for a strict load to refuse.
    """
    plain = {_PREFIX.sub("", name): array for name, array in entries.items()}
    counters = tuple(name for name in plain if name.endswith(".num_batches_tracked"))
    return published_entries(plain, str), counters


def to_torch(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Published names and values as the network of examples/train_vehiclepose.py has them."""
    return torch_entries(arrays, str)
