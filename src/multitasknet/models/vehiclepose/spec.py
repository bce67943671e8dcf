"""What a VehiclePose is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ...errors import CheckpointError
from ...vehicle.keypoints import NUM_KEYPOINTS
from ...vehicle.pose import PoseConvention
from ..base import Shapes

# Channels at strides 2, 4, 8, 16 and 32, residual blocks at all but the first, and the channels
# of the pyramid.
WIDTHS = (24, 48, 96, 160, 224)
BLOCKS = (2, 2, 2, 2)
FEATURES = 64
# Input pixels a map's cell.
STRIDE = 4
# Classes of yaw: 0 is seen from the front, a quarter of them on its left side.
DIRECTIONS = 16
_MARK = "heatmap_head.weight"


@dataclass(frozen=True)
class VehiclePoseSpec:
    """The architecture of a VehiclePose.

    Attributes:
        input_size: height and width that the weights were trained on; any multiples of 32 work.
        pose_convention: what its confidences mean.
    """

    network: ClassVar[str] = "vehiclepose"
    heatmaps: ClassVar[bool] = False
    segments: ClassVar[bool] = False
    uses_pose: ClassVar[bool] = False
    is_complete: ClassVar[bool] = True

    input_size: tuple[int, int] = (128, 128)
    pose_convention: PoseConvention = "visibility"

    def input_shapes(self, size: tuple[int, int]) -> dict[str, tuple[int, ...]]:
        """The inputs' names and shapes without the batch, in order, for a height and width."""
        return {"image": (3, *size)}

    def output_shapes(self, size: tuple[int, int]) -> dict[str, tuple[int, ...]]:
        """The outputs' names and shapes without the batch, in order, for a height and width."""
        return {
            "facing": (DIRECTIONS,),
            "visibility": (NUM_KEYPOINTS,),
            "heatmaps": (NUM_KEYPOINTS, size[0] // STRIDE, size[1] // STRIDE),
        }


def spec_from_shapes(shapes: Shapes, source: str) -> VehiclePoseSpec:
    """The spec of a checkpoint: names and shapes only confirm that it is one.

    Args:
        shapes: names as :class:`~.network.VehiclePose` has them.
        source: what to name in an error.

    Raises:
        CheckpointError: the names and shapes are no VehiclePose.
    """
    found = shapes.get(_MARK)
    if found is None:
        raise CheckpointError(
            f"{source}: no VehiclePose checkpoint: it has no {_MARK!r}; its {len(shapes)} entries "
            f"start with {', '.join(list(shapes)[:3])}. Understood are checkpoints of this network "
            f"and of examples/train_vehiclepose.py"
        )
    if tuple(found) != (NUM_KEYPOINTS, FEATURES, 1, 1):
        raise CheckpointError(
            f"{source}: {_MARK!r} is {list(found)}; expected "
            f"{[NUM_KEYPOINTS, FEATURES, 1, 1]}: a map for each keypoint of a vehicle"
        )
    return VehiclePoseSpec()
