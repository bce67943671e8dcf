"""Sources of random numbers, one for each purpose, and a choice from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

Rng = np.random.Generator
Item = TypeVar("Item")
# What a random stream is for; with the seed, these keep the streams apart.
FOR_PLAN, FOR_VEHICLE, FOR_CAMERA, FOR_PICTURE, FOR_SCENE, FOR_MODEL = range(6)


def stream(seed: int, *purpose: int) -> Rng:
    """A source of its own for each purpose and seed."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=purpose))


def pick(rng: Rng, options: Sequence[Item], shares: Sequence[float] | None = None) -> Item:
    """One of the options, all as often or by their shares."""
    return options[int(rng.choice(len(options), p=shares))]
