"""What a PoseEstNet is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ...vehicle.keypoints import NUM_KEYPOINTS
from ...vehicle.pose import PoseConvention
from ..base import Spec

# Channels of the four branches: HRNet-W32.
WIDTHS = (32, 64, 128, 256)
# Input pixels a map's cell.
STRIDE = 4


@dataclass(frozen=True)
class PoseEstNetSpec(Spec):
    """The architecture of a PoseEstNet.

    Attributes:
        include_top: whether there is the last layer; without, the outputs are its 32 inputs.
        final_bias: whether the last layer has a bias: NVlabs' weights have one, published ones not.
    """

    network: ClassVar[str] = "poseestnet"

    include_top: bool = True
    final_bias: bool = False
    input_size: tuple[int, int] = (256, 256)
    pose_convention: PoseConvention = "published"

    @property
    def is_complete(self) -> bool:
        return self.include_top

    def output_shapes(self, size: tuple[int, int]) -> dict[str, tuple[int, ...]]:
        maps = size[0] // STRIDE, size[1] // STRIDE
        if self.include_top:
            return {"heatmaps": (NUM_KEYPOINTS, *maps)}
        return {"features": (WIDTHS[0], *maps)}
