"""The large networks with a layer where they have dozens: their names, compiled in seconds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from multitasknet.models.vehiclereid.spec import STAGES


@contextmanager
def small_networks() -> Iterator[None]:
    """MultiTaskNet with five dense layers, whose features are 1,024 all the same, and PoseEstNet
    with a block a branch and a module a stage; VehicleReID with two stages."""
    models = "multitasknet.models"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(f"{models}.multitasknet.network.BLOCKS", (2, 1, 1, 1))
        patch.setattr(f"{models}.multitasknet.network.GROWTH", 508)
        patch.setattr(f"{models}.poseestnet.network.BLOCKS", 1)
        patch.setattr(f"{models}.poseestnet.network.MODULES", {2: 1, 3: 1, 4: 1})
        patch.setattr(f"{models}.vehiclereid.network.STAGES", STAGES[:2])
        yield
