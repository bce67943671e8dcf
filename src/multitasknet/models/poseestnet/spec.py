"""What a PoseEstNet is, as read off a checkpoint's names and shapes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ...errors import CheckpointError
from ...vehicle.keypoints import NUM_KEYPOINTS
from ...vehicle.pose import PoseConvention
from ..base import Shapes

# Channels of the four branches: HRNet-W32.
WIDTHS = (32, 64, 128, 256)
# Input pixels a map's cell.
STRIDE = 4
FINAL_BIAS = "final_layer.bias"
_FIRST_BRANCH = "stage2.0.branches.0.0.conv1.weight"


@dataclass(frozen=True)
class PoseEstNetSpec:
    """The architecture of a PoseEstNet.

    Attributes:
        include_top: whether there is the last layer; without, the outputs are its 32 inputs.
        final_bias: whether the last layer has a bias: NVlabs' weights have one, published ones not.
        input_size: height and width that the weights were trained on; any multiples of 32 work.
        pose_convention: what its confidences mean.
    """

    network: ClassVar[str] = "poseestnet"
    heatmaps: ClassVar[bool] = False
    segments: ClassVar[bool] = False
    uses_pose: ClassVar[bool] = False

    include_top: bool = True
    final_bias: bool = False
    input_size: tuple[int, int] = (256, 256)
    pose_convention: PoseConvention = "published"

    @property
    def is_complete(self) -> bool:
        """Whether there is a last layer, whose random values would mean nothing."""
        return self.include_top

    def input_shapes(self, size: tuple[int, int]) -> dict[str, tuple[int, ...]]:
        """The inputs' names and shapes without the batch, in order, for a height and width."""
        return {"image": (3, *size)}

    def output_shapes(self, size: tuple[int, int]) -> dict[str, tuple[int, ...]]:
        """The outputs' names and shapes without the batch, in order, for a height and width."""
        maps = size[0] // STRIDE, size[1] // STRIDE
        if self.include_top:
            return {"heatmaps": (NUM_KEYPOINTS, *maps)}
        return {"features": (WIDTHS[0], *maps)}


def spec_from_shapes(shapes: Shapes, source: str) -> PoseEstNetSpec:
    """Read the architecture off parameter names and shapes.

    Args:
        shapes: names as in the published checkpoint, without prefix.
        source: what to name in an error.

    Raises:
        CheckpointError: the names and shapes are no PoseEstNet.
    """
    branch, last = shapes.get(_FIRST_BRANCH), shapes.get("final_layer.weight")
    if branch is None:
        raise CheckpointError(
            f"{source}: no PoseEstNet checkpoint: it has no {_FIRST_BRANCH!r}; its {len(shapes)} "
            f"entries start with {', '.join(list(shapes)[:3])}. Understood are checkpoints of this "
            f"network, of NVlabs' PAMTRI and of HRNet-W32 on ImageNet"
        )
    if branch[0] != WIDTHS[0]:
        raise CheckpointError(f"{source}: an HRNet of width {branch[0]}; expected {WIDTHS[0]}")
    if last is not None and last[0] != NUM_KEYPOINTS:
        raise CheckpointError(
            f"{source}: 'final_layer.weight' gives {last[0]} keypoints; expected the "
            f"{NUM_KEYPOINTS} of a vehicle. Remove final_layer to use the rest as a backbone"
        )
    return PoseEstNetSpec(include_top=last is not None, final_bias=FINAL_BIAS in shapes)
