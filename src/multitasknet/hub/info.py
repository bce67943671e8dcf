"""What a card or a weights file holds, without building the network."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..weights.read import check_values, read_weights
from .card import ModelCard
from .fetch import cached_path, find_asset


@dataclass(frozen=True)
class WeightsInfo:
    """A weights file: its architecture and its size.

    Attributes:
        path, sha256: the file.
        spec: the architecture that its names and shapes state, and its sidecar where it has one.
        tensors: entries that belong to the network.
        values: numbers in them, moving statistics included.
        left_out: the names of further entries, of an optimizer or a training loop.
    """

    path: Path
    sha256: str
    spec: Any
    tensors: int
    values: int
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class CardInfo:
    """A card, and whether its asset is at hand.

    Attributes:
        card: the card.
        path: where its asset is, shipped or in the cache, or would be in the cache.
        weights: what the copy there holds, None if there is none with the right sha256.
    """

    card: ModelCard
    path: Path
    weights: WeightsInfo | None

    @property
    def verified(self) -> bool:
        return self.weights is not None


def describe_weights(path: str | Path) -> WeightsInfo:
    """Say what a weights file holds.

    Raises:
        CheckpointError: as :func:`multitasknet.read_weights`, or values that are NaN, infinite or
            no floats.
    """
    weights = read_weights(path)
    check_values(weights)
    return WeightsInfo(
        path=weights.path,
        sha256=weights.sha256,
        spec=weights.spec,
        tensors=len(weights.arrays),
        values=sum(math.prod(shape) for shape in weights.shapes.values()),
        left_out=weights.left_out,
    )


def describe_card(card: ModelCard, cache_dir: str | Path | None = None) -> CardInfo:
    """Say whether the card's asset is at hand, and what it holds; downloads nothing."""
    found = find_asset(card.asset, cache_dir)
    path = found or cached_path(card.asset, cache_dir)
    return CardInfo(card, path, describe_weights(found) if found else None)
