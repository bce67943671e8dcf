"""What a VehiclePose is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ...vehicle.keypoints import NUM_KEYPOINTS
from ...vehicle.pose import PoseConvention
from ...vehicle.quality import CONTENTS
from ..base import Spec

# Channels at strides 2, 4, 8, 16 and 32, residual blocks at all but the first, and the channels
# of the pyramid.
WIDTHS = (24, 48, 96, 160, 224)
BLOCKS = (2, 2, 2, 2)
FEATURES = 64
# Input pixels a map's cell.
STRIDE = 4
# Classes of yaw: 0 is seen from the front, a quarter of them on its left side.
DIRECTIONS = 16


@dataclass(frozen=True)
class VehiclePoseSpec(Spec):
    """The architecture of a VehiclePose, at any input size; ``quality`` says whether it has the
    head that finds whether a picture shows one vehicle."""

    network: ClassVar[str] = "vehiclepose"

    input_size: tuple[int, int] = (128, 128)
    pose_convention: PoseConvention = "visibility"
    quality: bool = False

    def output_shapes(self, size: tuple[int, int]) -> dict[str, tuple[int, ...]]:
        quality = {"quality": (len(CONTENTS),)} if self.quality else {}
        return {
            "facing": (DIRECTIONS,),
            "visibility": (NUM_KEYPOINTS,),
            **quality,
            "heatmaps": (NUM_KEYPOINTS, size[0] // STRIDE, size[1] // STRIDE),
        }
