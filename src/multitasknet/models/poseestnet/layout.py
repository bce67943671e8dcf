"""Parameter names: the published layout, and the ones that are brought into it.

The published layout is that of the Hub's checkpoint, whose names carry the prefix ``net.`` and lie
beside Adam's state. PyTorch layouts are those of NVlabs' PAMTRI (``state_dict``, ``module.``) and
of HRNet-W32 on ImageNet, whose classifier is left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from ..torch_names import published_entries, torch_entries

# What each choice of ``freeze`` holds fixed: all but the last layer, or stem and first stages.
_EARLY = ("conv1.", "bn1.", "conv2.", "bn2.", "layer1.", "transition1.", "stage2.")
_BLOCKS = (*_EARLY, "transition2.", "stage3.")
FROZEN: dict[str, tuple[str, ...]] = {
    "none": (),
    "stages": _EARLY,
    "blocks": _BLOCKS,
    "backbone": (*_BLOCKS, "transition3.", "stage4."),
}

_ROOTS = r"(?:conv[12]|bn[12]|layer1|transition[123]|stage[234]|final_layer)"
_PREFIX = re.compile(r"^(?:net\.|network\.)+")
_OURS = re.compile(rf"^(?:net\.|network\.)*{_ROOTS}\.")
# What tells this network from others that have a conv1 and a layer1 as well.
_MARK = re.compile(r"^(?:module\.|net\.|network\.)*stage4\.\d\.branches\.")
_SLOT = re.compile(rf"^(?!net\.|network\.)\w+\.(?:net\.|network\.)*{_ROOTS}\.")
_SCHEDULE = "learning_rate"

_TORCH_PREFIX = re.compile(r"^(?:module\.)+")
# ImageNet's classifier, under the names of two collections, and the exchanges that it alone needs.
_TORCH_LEFT_OUT = re.compile(
    r"\.num_batches_tracked$"
    r"|^(?:incre_modules|downsamp_modules|classifier|final_layer\.\d|head|fc)\."
    r"|^stage4\.2\.fuse_layers\.[123]\."
)
_TORCH_PARTS = ("downsample", "transition2.2", "transition3.3")
_PUBLISHED_PARTS = ("downSample", "transition2.0", "transition3.0")


def recognizes(names: Sequence[str]) -> bool:
    """Whether entries of these names are of this network, in any layout."""
    return any(_MARK.match(name) for name in names)


def to_published(
    entries: Mapping[str, np.ndarray],
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Bring a file's entries into the published layout.

    Returns:
        The arrays by published name, and the names of entries that only the file's own training
        had a use for. What is not understood keeps its name, for a strict load to refuse.
    """
    if any(name.endswith(".running_mean") for name in entries):
        return _from_torch(entries)
    arrays, left_out = {}, []
    for name, array in entries.items():
        ours = _OURS.match(name)
        if not ours and (_SLOT.match(name) or array.size <= 1 or name == _SCHEDULE):
            left_out.append(name)
        else:
            arrays[_PREFIX.sub("", name)] = array
    return arrays, tuple(left_out)


def to_torch(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Published names and values as NVlabs' PyTorch network has them."""
    return torch_entries(arrays, lambda name: _replaced(name, _PUBLISHED_PARTS, _TORCH_PARTS))


def _from_torch(
    entries: Mapping[str, np.ndarray],
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    plain = {_TORCH_PREFIX.sub("", name): array for name, array in entries.items()}
    left_out = tuple(name for name in plain if _TORCH_LEFT_OUT.search(name))
    kept = {name: array for name, array in plain.items() if name not in left_out}
    renamed = published_entries(kept, lambda name: _replaced(name, _TORCH_PARTS, _PUBLISHED_PARTS))
    return renamed, left_out


def _replaced(name: str, parts: Sequence[str], by: Sequence[str]) -> str:
    for part, other in zip(parts, by, strict=True):
        if f".{part}." in f".{name}":
            return name.replace(part, other, 1)
    return name
