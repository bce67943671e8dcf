"""The network: HRNet-W32, four branches that keep their resolutions and exchange features.

Names and shapes of all parameters are those of the published checkpoint. Source: Sun et al., Deep
High-Resolution Representation Learning for Human Pose Estimation, CVPR 2019, section 3.
"""

from __future__ import annotations

from mindspore import Tensor, nn, ops
from mindspore.common.initializer import Normal

from ...vehicle.keypoints import NUM_KEYPOINTS
from ..layers import ResidualBlock, Upsample, VehicleCell, conv, conv_norm
from .spec import WIDTHS, PoseEstNetSpec

STEM_FEATURES = 64
BLOCKS = 4
# Modules of the stages, which have 2, 3 and 4 branches.
MODULES = {2: 1, 3: 4, 4: 3}
_FINAL_SIGMA = 0.001


def _down(inputs: int, outputs: int) -> nn.SequentialCell:
    return nn.SequentialCell([*conv_norm(inputs, outputs, 3, stride=2), nn.ReLU()])


class Bottleneck(nn.Cell):
    """1x1, 3x3 and 1x1 convolution to 256 features, around which the input goes."""

    def __init__(self, inputs: int, features: int = STEM_FEATURES) -> None:
        super().__init__()
        outputs = 4 * features
        self.conv1 = conv(inputs, features, 1)
        self.bn1 = nn.BatchNorm2d(features)
        self.conv2 = conv(features, features, 3)
        self.bn2 = nn.BatchNorm2d(features)
        self.conv3 = conv(features, outputs, 1)
        self.bn3 = nn.BatchNorm2d(outputs)
        same = inputs == outputs
        self.downSample = (
            nn.Identity() if same else nn.SequentialCell(conv_norm(inputs, outputs, 1))
        )

    def construct(self, x: Tensor) -> Tensor:
        y = ops.relu(self.bn1(self.conv1(x)))
        y = ops.relu(self.bn2(self.conv2(y)))
        return ops.relu(self.bn3(self.conv3(y)) + self.downSample(x))


class Module(nn.Cell):
    """Four blocks a branch, then each of the first ``outputs`` branches gets the sum of all."""

    def __init__(self, branches: int, outputs: int) -> None:
        super().__init__()
        self.count = branches
        self.branches = nn.CellList(
            [
                nn.SequentialCell([ResidualBlock(width, width) for _ in range(BLOCKS)])
                for width in WIDTHS[:branches]
            ]
        )
        self.fuse_layers = nn.CellList(
            [
                nn.CellList([_exchange(source, target) for source in range(branches)])
                for target in range(outputs)
            ]
        )

    def construct(self, xs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        ys: tuple[Tensor, ...] = ()
        for index in range(self.count):
            ys += (self.branches[index](xs[index]),)
        fused: tuple[Tensor, ...] = ()
        # By index: a slice of a list of cells would rename their parameters.
        for exchanges in self.fuse_layers:
            total = exchanges[0](ys[0])
            for index in range(1, self.count):
                total = total + exchanges[index](ys[index])
            fused += (ops.relu(total),)
        return fused


def _exchange(source: int, target: int) -> nn.Cell:
    """From one branch's resolution and width to another's."""
    inputs, outputs = WIDTHS[source], WIDTHS[target]
    if source == target:
        return nn.Identity()
    if source > target:
        factor = 2 ** (source - target)
        return nn.SequentialCell([*conv_norm(inputs, outputs, 1), Upsample(factor)])
    steps: list[nn.Cell] = [_down(inputs, inputs) for _ in range(target - source - 1)]
    return nn.SequentialCell([*steps, nn.SequentialCell(conv_norm(inputs, outputs, 3, stride=2))])


def _stage(branches: int) -> nn.CellList:
    """The modules of a stage; the last stage's last one gives the finest branch alone."""
    outputs = [branches] * MODULES[branches]
    if branches == len(WIDTHS):
        outputs[-1] = 1
    return nn.CellList([Module(branches, count) for count in outputs])


class PoseEstNet(VehicleCell):
    """The keypoints of a vehicle.

    Inputs:
        - **x**: float32 ``[N, 3, H, W]``, H and W multiples of 32, as the definition's
          ``write_inputs`` makes it.

    Outputs:
        float32 ``[N, 36, H / 4, W / 4]``: a map a keypoint, no activation; without the last layer
        the 32 features that it takes.
    """

    spec: PoseEstNetSpec

    def __init__(self, spec: PoseEstNetSpec) -> None:
        super().__init__(spec)
        self.include_top = spec.include_top
        self.conv1 = conv(3, STEM_FEATURES, 3, stride=2)
        self.bn1 = nn.BatchNorm2d(STEM_FEATURES)
        self.conv2 = conv(STEM_FEATURES, STEM_FEATURES, 3, stride=2)
        self.bn2 = nn.BatchNorm2d(STEM_FEATURES)
        wide = 4 * STEM_FEATURES
        self.layer1 = nn.SequentialCell(
            [Bottleneck(inputs) for inputs in (STEM_FEATURES, *[wide] * (BLOCKS - 1))]
        )
        first = nn.SequentialCell([*conv_norm(wide, WIDTHS[0], 3), nn.ReLU()])
        self.transition1 = nn.CellList([first, nn.SequentialCell([_down(wide, WIDTHS[1])])])
        self.stage2 = _stage(2)
        self.transition2 = nn.CellList([nn.SequentialCell([_down(WIDTHS[1], WIDTHS[2])])])
        self.stage3 = _stage(3)
        self.transition3 = nn.CellList([nn.SequentialCell([_down(WIDTHS[2], WIDTHS[3])])])
        self.stage4 = _stage(4)
        if spec.include_top:
            self.final_layer = nn.Conv2d(
                WIDTHS[0],
                NUM_KEYPOINTS,
                1,
                has_bias=spec.final_bias,
                weight_init=Normal(_FINAL_SIGMA),
                bias_init="zeros",
            )

    def construct(self, x: Tensor) -> Tensor:
        x = ops.relu(self.bn1(self.conv1(x)))
        x = self.layer1(ops.relu(self.bn2(self.conv2(x))))
        ys: tuple[Tensor, ...] = (self.transition1[0](x), self.transition1[1](x))
        for module in self.stage2:
            ys = module(ys)
        ys += (self.transition2[0](ys[-1]),)
        for module in self.stage3:
            ys = module(ys)
        ys += (self.transition3[0](ys[-1]),)
        for module in self.stage4:
            ys = module(ys)
        return self.final_layer(ys[0]) if self.include_top else ys[0]
