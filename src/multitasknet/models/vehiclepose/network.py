"""The network: a residual backbone, a pyramid from coarse to fine, and three heads."""

from __future__ import annotations

from mindspore import Tensor, nn, ops
from mindspore.common.initializer import Normal

from ...vehicle.keypoints import NUM_KEYPOINTS
from ...vehicle.quality import CONTENTS
from ..layers import ResidualBlock, Upsample, VehicleCell, conv_norm
from .spec import BLOCKS, DIRECTIONS, FEATURES, WIDTHS, VehiclePoseSpec

_HEAD_SIGMA = 0.01


def _conv_norm_relu(inputs: int, outputs: int, stride: int = 1) -> nn.SequentialCell:
    return nn.SequentialCell([*conv_norm(inputs, outputs, 3, stride), nn.ReLU()])


def _stage(inputs: int, outputs: int, blocks: int) -> nn.SequentialCell:
    """Blocks of which the first halves height and width."""
    return nn.SequentialCell(
        [
            ResidualBlock(inputs, outputs, stride=2),
            *(ResidualBlock(outputs, outputs) for _ in range(blocks - 1)),
        ]
    )


class VehiclePose(VehicleCell):
    """The keypoints of a vehicle, whether each is visible, and which way the vehicle faces;
    with a quality head also whether the picture shows one vehicle.

    Inputs:
        - **x**: float32 ``[N, 3, H, W]``, H and W multiples of 32, as the definition's
          ``write_inputs`` makes it.

    Outputs:
        All float32, no activation:

        - **facing** ``[N, 16]``: logits of a softmax over yaw in steps of 22.5 degrees, from 0,
          seen from the front, over 90, seen from its left side.
        - **visibility** ``[N, 36]``: logits of a sigmoid a keypoint.
        - **quality** ``[N, 4]``, if the spec has it: logits of a softmax over
          :data:`~multitasknet.vehicle.quality.CONTENTS`, from the means and maxima of the last two
          stages and of the pyramid's finest level.
        - **heatmaps** ``[N, 36, H / 4, W / 4]``: logits of a softmax over each map's cells.
    """

    spec: VehiclePoseSpec

    def __init__(self, spec: VehiclePoseSpec) -> None:
        super().__init__(spec)
        self.stem = _conv_norm_relu(3, WIDTHS[0], stride=2)
        pairs = zip(WIDTHS, WIDTHS[1:], BLOCKS, strict=False)
        self.stages = nn.CellList([_stage(*pair) for pair in pairs])
        self.laterals = nn.CellList(
            [nn.SequentialCell(conv_norm(width, FEATURES, 1)) for width in WIDTHS[1:]]
        )
        self.merges = nn.CellList([_conv_norm_relu(FEATURES, FEATURES) for _ in WIDTHS[1:]])
        self.upsample = Upsample(2)
        self.heatmap_head = nn.Conv2d(
            FEATURES,
            NUM_KEYPOINTS,
            1,
            has_bias=True,
            weight_init=Normal(_HEAD_SIGMA),
            bias_init="zeros",
        )
        self.visibility_head = nn.Dense(WIDTHS[-1], NUM_KEYPOINTS, Normal(_HEAD_SIGMA), "zeros")
        self.facing_head = nn.Dense(WIDTHS[-1], DIRECTIONS, Normal(_HEAD_SIGMA), "zeros")
        self.quality_head = None
        if spec.quality:
            pooled = 2 * (WIDTHS[-2] + WIDTHS[-1] + FEATURES)
            self.quality_head = nn.Dense(pooled, len(CONTENTS), Normal(_HEAD_SIGMA), "zeros")

    def construct(self, x: Tensor) -> tuple[Tensor, ...]:
        summary, pooled, y = self.features(x)
        facing, visibility = self.facing_head(summary), self.visibility_head(summary)
        if self.quality_head is None:
            return facing, visibility, self.heatmap_head(y)
        return facing, visibility, self.quality_head(pooled), self.heatmap_head(y)

    def features(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What the heads get: the last stage's mean ``[N, 224]``, what the quality head pools
        ``[N, 896]``, and the pyramid's finest level ``[N, 64, H / 4, W / 4]``."""
        x = self.stem(x)
        levels: tuple[Tensor, ...] = ()
        for stage in self.stages:
            x = stage(x)
            levels += (x,)
        summary = ops.mean(x, (2, 3))
        # From coarse to fine, by index: a slice of a list of cells would rename their parameters.
        y = self.merges[3](self.laterals[3](levels[3]))
        for index in (2, 1, 0):
            y = self.merges[index](self.laterals[index](levels[index]) + self.upsample(y))
        pooled = ops.concat(
            (
                *(ops.mean(levels[2], (2, 3)), ops.amax(levels[2], (2, 3))),
                *(summary, ops.amax(levels[3], (2, 3))),
                *(ops.mean(y, (2, 3)), ops.amax(y, (2, 3))),
            ),
            1,
        )
        return summary, pooled, y
