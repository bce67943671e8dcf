"""The networks in PyTorch, named as NVlabs' files name them. Needs torch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

from multitasknet import MultiTaskNetSpec

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(Path(__file__).resolve().parents[1] / "examples")
    from train_multitasknet import backbone

# On a busy machine its threads mostly wait for each other.
torch.set_num_threads(1)


def randomized(network: nn.Module) -> nn.Module:
    """In inference mode, with statistics that keep activations finite and are not a new norm's."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.3, 0.7)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.3)
            nn.init.normal_(module.running_mean, 0, 0.3)
    return network.eval()


class TorchNet(nn.Module):
    """MultiTaskNet, with any variant and head."""

    def __init__(self, spec: MultiTaskNetSpec) -> None:
        super().__init__()
        self.keypoint_aware, self.multi_task = spec.keypoint_aware, spec.multi_task
        self.base = backbone(spec.channels)
        if spec.multi_task:
            self.fc_vid = nn.Linear(spec.head_inputs, 1024)
            self.fc_vcolor = nn.Linear(spec.head_inputs, 512)
            self.fc_vtype = nn.Linear(spec.head_inputs, 512)
            self.classifier_vcolor = nn.Linear(512, spec.num_colors)
            self.classifier_vtype = nn.Linear(512, spec.num_types)
        elif spec.keypoint_aware:
            self.fc = nn.Linear(spec.head_inputs, 1024)
        self.classifier_vid = nn.Linear(1024, spec.num_ids)

    def forward(self, x: torch.Tensor, p: torch.Tensor | None = None) -> tuple[torch.Tensor, ...]:
        features = self.base(x).mean((2, 3))
        if self.keypoint_aware:
            features = torch.cat((features, p), 1)
        if not self.multi_task:
            embedding = self._branch("fc", features) if self.keypoint_aware else features
            return self.classifier_vid(embedding), embedding
        embedding = self._branch("fc_vid", features)
        return (
            self.classifier_vid(embedding),
            self.classifier_vcolor(self._branch("fc_vcolor", features)),
            self.classifier_vtype(self._branch("fc_vtype", features)),
            embedding,
        )

    def _branch(self, name: str, features: torch.Tensor) -> torch.Tensor:
        return functional.leaky_relu(getattr(self, name)(features), 0.01)


# PoseEstNet: HRNet-W32 with 36 joints, written from the published description alone.

CHANNELS = (32, 64, 128, 256)
BLOCKS = 4
MODULES = {2: 1, 3: 4, 4: 3}


def conv_norm(inputs: int, outputs: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return [conv, nn.BatchNorm2d(outputs)]


def reduce(inputs: int, outputs: int, stride: int = 2) -> nn.Sequential:
    return nn.Sequential(*conv_norm(inputs, outputs, 3, stride), nn.ReLU())


class BasicBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv_norm(channels, channels, 3)
        self.conv2, self.bn2 = conv_norm(channels, channels, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(x + self.bn2(self.conv2(y)))


class Bottleneck(nn.Module):
    def __init__(self, inputs: int, planes: int) -> None:
        super().__init__()
        outputs = 4 * planes
        self.conv1, self.bn1 = conv_norm(inputs, planes, 1)
        self.conv2, self.bn2 = conv_norm(planes, planes, 3)
        self.conv3, self.bn3 = conv_norm(planes, outputs, 1)
        self.downsample = None
        if inputs != outputs:
            self.downsample = nn.Sequential(*conv_norm(inputs, outputs, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        y = torch.relu(self.bn1(self.conv1(x)))
        y = torch.relu(self.bn2(self.conv2(y)))
        return torch.relu(shortcut + self.bn3(self.conv3(y)))


def fuse_layer(source: int, target: int) -> nn.Module | None:
    """From branch ``source`` to branch ``target``; None where they are the same."""
    inputs, outputs = CHANNELS[source], CHANNELS[target]
    if source == target:
        return None
    if source > target:
        grow = nn.Upsample(scale_factor=2 ** (source - target), mode="nearest")
        return nn.Sequential(*conv_norm(inputs, outputs, 1), grow)
    keep = [reduce(inputs, inputs) for _ in range(target - source - 1)]
    return nn.Sequential(*keep, nn.Sequential(*conv_norm(inputs, outputs, 3, 2)))


class HighResolutionModule(nn.Module):
    def __init__(self, branches: int, outputs: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(*(BasicBlock(channels) for _ in range(BLOCKS)))
            for channels in CHANNELS[:branches]
        )
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList([fuse_layer(source, target) for source in range(branches)])
            for target in range(outputs)
        )

    def forward(self, xs: list[torch.Tensor]) -> list[torch.Tensor]:
        ys = [branch(x) for branch, x in zip(self.branches, xs, strict=True)]
        return [
            torch.relu(sum(y if fuse is None else fuse(y) for fuse, y in zip(row, ys, strict=True)))
            for row in self.fuse_layers
        ]


def stage(branches: int, outputs: int) -> nn.Sequential:
    """Modules of one stage; only the last may give fewer outputs than it has branches."""
    counts = [branches] * (MODULES[branches] - 1) + [outputs]
    return nn.Sequential(*(HighResolutionModule(branches, count) for count in counts))


class PoseHighResolutionNet(nn.Module):
    """``[N, 3, H, W]`` to ``[N, 36, H / 4, W / 4]``."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv_norm(3, 64, 3, 2)
        self.conv2, self.bn2 = conv_norm(64, 64, 3, 2)
        self.layer1 = nn.Sequential(*(Bottleneck(64 if i == 0 else 256, 64) for i in range(BLOCKS)))
        self.transition1 = nn.ModuleList([reduce(256, 32, 1), nn.Sequential(reduce(256, 64))])
        self.stage2 = stage(2, 2)
        self.transition2 = nn.ModuleList([None, None, nn.Sequential(reduce(64, 128))])
        self.stage3 = stage(3, 3)
        self.transition3 = nn.ModuleList([None, None, None, nn.Sequential(reduce(128, 256))])
        self.stage4 = stage(4, 1)
        self.final_layer = nn.Conv2d(32, 36, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.bn1(self.conv1(x)))
        x = torch.relu(self.bn2(self.conv2(x)))
        x = self.layer1(x)
        xs = self.stage2([layer(x) for layer in self.transition1])
        xs = self.stage3([*xs, self.transition2[-1](xs[-1])])
        xs = self.stage4([*xs, self.transition3[-1](xs[-1])])
        return self.final_layer(xs[0])
