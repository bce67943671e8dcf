"""The network for inference: fewer operations that give the same.

Exact but for rounding: a batch norm after a convolution becomes part of it; the trunk's last one,
which no ReLU follows, commutes with the mean and becomes part of the first Dense layers; a
transition's 1x1 convolution commutes with its 2x2 mean, and runs on a quarter of the pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..spec import BLOCKS, EMBEDDING_SIZE, NetworkSpec

_EPSILON = 1e-5


@dataclass(frozen=True, eq=False)
class Affine:
    """``y = x * scale + shift``, a channel at a time: float64 ``[C]`` each."""

    scale: np.ndarray
    shift: np.ndarray


@dataclass(frozen=True, eq=False)
class Linear:
    """A convolution ``[out, in, k, k]`` or Dense layer ``[out, in]``, and its bias ``[out]``."""

    weight: np.ndarray
    bias: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class FoldedLayer:
    """Norm, ReLU, 1x1 convolution, ReLU, 3x3 convolution without bias."""

    norm: Affine
    conv1: Linear
    conv2: Linear


@dataclass(frozen=True, eq=False)
class FoldedTransition:
    """Norm, ReLU, 2x2 mean, 1x1 convolution without bias."""

    norm: Affine
    conv: Linear


@dataclass(frozen=True, eq=False)
class FoldedNetwork:
    """All that inference needs.

    Attributes:
        spec: the architecture.
        stem: the first convolution; ReLU and max pool follow.
        blocks: the layers of the four dense blocks.
        transitions: what stands between them.
        features: what the pooled features still need where no Dense layer takes them, else None.
        head: the Dense layers by their published names.
    """

    spec: NetworkSpec
    stem: Linear
    blocks: tuple[tuple[FoldedLayer, ...], ...]
    transitions: tuple[FoldedTransition, ...]
    features: Affine | None
    head: Mapping[str, Linear]


def fold(spec: NetworkSpec, arrays: Mapping[str, np.ndarray]) -> FoldedNetwork:
    """Fold a network's arrays, by published name; they must be those of ``spec``.

    Products are float64, for their user to round once.
    """

    def norm(name: str) -> Affine:
        gamma, beta, mean, variance = (
            arrays[f"{name}.{leaf}"].astype(np.float64)
            for leaf in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        scale = gamma / np.sqrt(variance + _EPSILON)
        return Affine(scale, beta - mean * scale)

    def then_norm(conv: str, norm_name: str) -> Linear:
        affine = norm(norm_name)
        return Linear(arrays[f"{conv}.weight"] * affine.scale[:, None, None, None], affine.shift)

    blocks = tuple(
        tuple(
            FoldedLayer(
                norm(f"{name}.norm1"),
                then_norm(f"{name}.conv1", f"{name}.norm2"),
                Linear(arrays[f"{name}.conv2.weight"]),
            )
            for name in (f"base.denseblock{block}.cell_list.{i}" for i in range(layers))
        )
        for block, layers in enumerate(BLOCKS, start=1)
    )
    transitions = tuple(
        FoldedTransition(norm(f"{name}.norm"), Linear(arrays[f"{name}.conv.weight"]))
        for name in (f"base.transition{block}.features" for block in range(1, len(BLOCKS)))
    )
    last = norm("base.norm5")
    head = {
        name: Linear(arrays[f"{name}.weight"], arrays[f"{name}.bias"])
        for name in dict.fromkeys(name.partition(".")[0] for name in arrays)
        if name != "base"
    }
    branches = [name for name in head if name.startswith("fc")]
    folded = {name: _after_affine(head[name], last) for name in branches}
    return FoldedNetwork(
        spec=spec,
        stem=then_norm("base.conv0", "base.norm0"),
        blocks=blocks,
        transitions=transitions,
        features=None if branches else last,
        head=head | folded,
    )


def _after_affine(dense: Linear, affine: Affine) -> Linear:
    """One Dense layer for an affine map of its first 1024 columns, and itself."""
    weight = dense.weight.astype(np.float64)
    pooled = weight[:, :EMBEDDING_SIZE]
    rest = weight[:, EMBEDDING_SIZE:]
    bias = dense.bias + pooled @ affine.shift
    return Linear(np.concatenate((pooled * affine.scale, rest), axis=1), bias)
