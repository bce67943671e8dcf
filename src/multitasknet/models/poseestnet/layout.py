"""Parameter names: the published layout, and the ones that are brought into it.

The published layout is that of the Hub's checkpoint, under its prefix ``net.`` and beside Adam's
state. PyTorch layouts are those of NVlabs' PAMTRI (``state_dict``) and of HRNet-W32 on ImageNet,
whose classifier is left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from ..names import is_torch, published_entries, torch_entries

# What each choice of ``freeze`` holds fixed: all but the last layer, or stem and first stages.
_EARLY = ("conv1.", "bn1.", "conv2.", "bn2.", "layer1.", "transition1.", "stage2.")
_BLOCKS = (*_EARLY, "transition2.", "stage3.")
FROZEN: dict[str, tuple[str, ...]] = {
    "none": (),
    "stages": _EARLY,
    "blocks": _BLOCKS,
    "backbone": (*_BLOCKS, "transition3.", "stage4."),
}

ROOTS = (
    "conv1",
    "bn1",
    "conv2",
    "bn2",
    "layer1",
    "transition1",
    "transition2",
    "transition3",
    "stage2",
    "stage3",
    "stage4",
    "final_layer",
)
# What other networks that have a conv1 and a layer1 as well do not have.
MARK = r"stage4\.\d\.branches\."

# ImageNet's classifier, under the names of two collections, and the exchanges that it alone needs.
_TORCH_LEFT_OUT = re.compile(
    r"^(?:incre_modules|downsamp_modules|classifier|final_layer\.\d|head|fc)\."
    r"|^stage4\.2\.fuse_layers\.[123]\."
)
_TORCH_PARTS = ("downsample", "transition2.2", "transition3.3")
_PUBLISHED_PARTS = ("downSample", "transition2.0", "transition3.0")


def published_names(
    entries: Mapping[str, np.ndarray],
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """The network's entries by published name, and the names of those of ImageNet's classifier."""
    if not is_torch(entries):
        return dict(entries), ()
    left_out = tuple(name for name in entries if _TORCH_LEFT_OUT.search(name))
    kept = {name: array for name, array in entries.items() if name not in left_out}
    back = partial(_replaced, parts=_TORCH_PARTS, by=_PUBLISHED_PARTS)
    arrays, counters = published_entries(kept, back)
    return arrays, (*left_out, *counters)


def to_torch(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Published names and values as NVlabs' PyTorch network has them."""
    return torch_entries(arrays, partial(_replaced, parts=_PUBLISHED_PARTS, by=_TORCH_PARTS))


def _replaced(name: str, parts: Sequence[str], by: Sequence[str]) -> str:
    for part, other in zip(parts, by, strict=True):
        if f".{part}." in f".{name}":
            return name.replace(part, other, 1)
    return name
