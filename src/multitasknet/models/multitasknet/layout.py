"""Parameter names: the published layout, and the ones that are brought into it.

The published layout is that of the Hub's checkpoint. PyTorch layouts are those of torchvision's
DenseNet-121 (``features.denseblock1.denselayer1.norm1.weight``, or ``norm.1.weight`` in older
files) and of NVlabs' PAMTRI (``base.`` in place of ``features.``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import numpy as np

from ...errors import CheckpointError
from ..names import is_torch, published_entries, torch_entries
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

ROOTS = ("base", "features", *HEAD)
# Without fc, which other networks have as well; features are torchvision's.
MARK = (
    r"(?:base|features)\.(?:conv0|norm0|norm5|denseblock\d)\.|"
    rf"(?:fc_vid|{'|'.join(TOP)})\."
)
# ImageNet's classifier, in torchvision's files.
_TORCH_LEFT_OUT = re.compile(r"classifier\.(?:weight|bias)")


def published_names(
    entries: Mapping[str, np.ndarray],
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """The network's entries by published name, and the names of those of ImageNet's classifier."""
    if not is_torch(entries):
        return dict(entries), ()
    left_out = tuple(name for name in entries if _TORCH_LEFT_OUT.fullmatch(name))
    kept = {name: array for name, array in entries.items() if name not in left_out}
    arrays, counters = published_entries(kept, _published_name)
    return {**arrays, SYMMETRIC_POOL: np.ones(1, np.float32)}, (*left_out, *counters)


def to_torch(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Published names and values as NVlabs' PyTorch network has them.

    Raises:
        CheckpointError: weights that were trained in MindSpore: PyTorch pads the stem's max pool
            on the other side, and would give other outputs.
    """
    if SYMMETRIC_POOL not in arrays:
        raise CheckpointError(
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
    return re.sub(r"\.(transition\d)\.", r".\1.features.", name)


def is_backbone(names: Iterable[str]) -> bool:
    """Whether these are the backbone's parameters alone."""
    return all(name.startswith(BACKBONE) for name in names)
