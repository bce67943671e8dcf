"""Parameter names: the published layout, and the ones that are brought into it.

The published layout is that of the Hub's checkpoint. PyTorch layouts are those of torchvision's
DenseNet-121 (``features.denseblock1.denselayer1.norm1.weight``, or ``norm.1.weight`` in older
files) and of NVlabs' PAMTRI (``base.`` in place of ``features.``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from ..definition import SpecError
from ..torch_names import PUBLISHED_LEAVES, torch_entries
from .spec import SYMMETRIC_POOL

BACKBONE = "base."
# What each choice of ``freeze`` holds fixed: the backbone, or its stem and two or three blocks.
_EARLY = tuple(
    f"{BACKBONE}{part}."
    for part in ("conv0", "norm0", "denseblock1", "transition1", "denseblock2", "transition2")
)
FROZEN: dict[str, tuple[str, ...]] = {
    "none": (),
    "stages": _EARLY,
    "blocks": (*_EARLY, f"{BACKBONE}denseblock3.", f"{BACKBONE}transition3."),
    "backbone": (BACKBONE,),
}
CLASSIFIERS = ("classifier_vid", "classifier_vcolor", "classifier_vtype")
# What a network without classifiers has no use for.
TOP = (*CLASSIFIERS, "fc_vcolor", "fc_vtype")
HEAD = (*TOP, "fc_vid", "fc")

_ROOTS = rf"(?:base|{'|'.join(HEAD)})"
_OURS = re.compile(rf"^(?:network\.)*{_ROOTS}\.")
# Without fc, which other networks have as well.
_MARK = re.compile(rf"^(?:network\.)*(?:base|fc_vid|{'|'.join(TOP)})\.")
_PREFIX = re.compile(r"^(?:network\.)+")
# Optimizers keep one tensor a weight under its name: moment1.network.base.conv0.weight.
_OPTIMIZER_SLOT = re.compile(rf"^(?!network\.)\w+\.(?:network\.)*{_ROOTS}\.")

_TORCH = re.compile(r"^(?:module\.)*(?:features|base)\..*\.denselayer1\.")
_TORCH_LEFT_OUT = re.compile(r"\.num_batches_tracked$|^classifier\.(?:weight|bias)$")


def to_published(
    entries: Mapping[str, np.ndarray],
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Bring a file's entries into the published layout.

    Returns:
        The arrays by published name, and the names of entries that only the file's own training
        had a use for. What is not understood keeps its name, for a strict load to refuse.
    """
    if any(_TORCH.match(name) for name in entries):
        return _from_torch(entries)
    arrays, left_out = {}, []
    for name, array in entries.items():
        if _OPTIMIZER_SLOT.match(name) or (array.size <= 1 and not _OURS.match(name)):
            left_out.append(name)
        else:
            arrays[_PREFIX.sub("", name)] = array
    return arrays, tuple(left_out)


def _from_torch(
    entries: Mapping[str, np.ndarray],
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    plain = {re.sub(r"^(?:module\.)+", "", name): name for name in entries}
    left_out = [name for name in plain if _TORCH_LEFT_OUT.search(name)]
    arrays = {
        _published_name(name): entries[stored]
        for name, stored in plain.items()
        if name not in left_out
    }
    arrays[SYMMETRIC_POOL] = np.ones(1, np.float32)
    return arrays, tuple(left_out)


def to_torch(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Published names and values as NVlabs' PyTorch network has them.

    Raises:
        SpecError: weights that were trained in MindSpore: PyTorch pads the stem's max pool on the
            other side, and would give other outputs.
    """
    if SYMMETRIC_POOL not in arrays:
        raise SpecError(
            f"the weights are none of PyTorch's: they lack {SYMMETRIC_POOL!r}, and were trained "
            f"with a stem that pads its max pool on the other side; keep them as .ckpt or "
            f".safetensors"
        )
    there = {name: array for name, array in arrays.items() if name != SYMMETRIC_POOL}
    return torch_entries(there, _torch_name)


def _torch_name(name: str) -> str:
    name = re.sub(r"\.cell_list\.(\d+)\.", lambda layer: f".denselayer{int(layer[1]) + 1}.", name)
    return name.replace(".features.", ".")


def _published_name(name: str) -> str:
    name = re.sub(r"^features\.", "base.", name)
    name = re.sub(r"\.denselayer(\d+)\.", lambda layer: f".cell_list.{int(layer[1]) - 1}.", name)
    name = re.sub(r"\.(norm|conv)\.([12])\.", r".\1\2.", name)
    name = re.sub(r"\.(transition\d)\.", r".\1.features.", name)
    stem, _, leaf = name.rpartition(".")
    if re.search(r"\.norm\d?$", stem):
        return f"{stem}.{PUBLISHED_LEAVES.get(leaf, leaf)}"
    return name


def recognizes(names: Sequence[str]) -> bool:
    """Whether entries of these names are of this network, in any layout."""
    return any(_MARK.match(name) or _TORCH.match(name) for name in names)


def is_backbone(names: Iterable[str]) -> bool:
    """Whether these are the backbone's parameters alone."""
    return all(name.startswith(BACKBONE) for name in names)
