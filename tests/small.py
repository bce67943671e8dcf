"""The large networks with a layer where they have dozens: their names, compiled in seconds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def small_networks() -> Iterator[None]:
    """MultiTaskNet with five dense layers, whose features are 1,024 all the same, and PoseEstNet
    with a block a branch and a module a stage."""
    models = "multitasknet.models"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(f"{models}.multitasknet.network.BLOCKS", (2, 1, 1, 1))
        patch.setattr(f"{models}.multitasknet.network.GROWTH", 508)
        patch.setattr(f"{models}.poseestnet.network.BLOCKS", 1)
        patch.setattr(f"{models}.poseestnet.network.MODULES", {2: 1, 3: 1, 4: 1})
        yield
