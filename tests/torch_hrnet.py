"""The pose network (HRNet-W32, 36 joints) in PyTorch, named as NVlabs' files name it. Needs torch.

Written from the published description alone, to judge the package: nothing of it is imported.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn

# On a busy machine its threads mostly wait for each other.
torch.set_num_threads(1)

JOINTS = 36
CHANNELS = (32, 64, 128, 256)
BLOCKS = 4
MODULES = {2: 1, 3: 4, 4: 3}
NESTED_HEAD = {
    "incre_modules": "head.0",
    "downsamp_modules": "head.1",
    "final_layer": "head.2",
    "classifier": "fc",
}


def conv3x3(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)


def conv1x1(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 1, bias=False)


def reduce(inputs: int, outputs: int, stride: int = 2, *, relu: bool = True) -> nn.Sequential:
    layers = [conv3x3(inputs, outputs, stride), nn.BatchNorm2d(outputs)]
    return nn.Sequential(*layers, *([nn.ReLU()] if relu else []))


class BasicBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv3x3(channels, channels), nn.BatchNorm2d(channels)
        self.conv2, self.bn2 = conv3x3(channels, channels), nn.BatchNorm2d(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(x + self.bn2(self.conv2(y)))


class Bottleneck(nn.Module):
    def __init__(self, inputs: int, planes: int) -> None:
        super().__init__()
        outputs = 4 * planes
        self.conv1, self.bn1 = conv1x1(inputs, planes), nn.BatchNorm2d(planes)
        self.conv2, self.bn2 = conv3x3(planes, planes), nn.BatchNorm2d(planes)
        self.conv3, self.bn3 = conv1x1(planes, outputs), nn.BatchNorm2d(outputs)
        self.downsample = (
            None
            if inputs == outputs
            else nn.Sequential(conv1x1(inputs, outputs), nn.BatchNorm2d(outputs))
        )

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
        return nn.Sequential(conv1x1(inputs, outputs), nn.BatchNorm2d(outputs), grow)
    keep = [reduce(inputs, inputs) for _ in range(target - source - 1)]
    return nn.Sequential(*keep, reduce(inputs, outputs, relu=False))


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
    last = MODULES[branches] - 1
    return nn.Sequential(
        *(HighResolutionModule(branches, branches) for _ in range(last)),
        HighResolutionModule(branches, outputs),
    )


class PoseHighResolutionNet(nn.Module):
    """``[N, 3, 256, 256]`` to ``[N, 36, 64, 64]``, in inference mode, with random weights."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv3x3(3, 64, 2), nn.BatchNorm2d(64)
        self.conv2, self.bn2 = conv3x3(64, 64, 2), nn.BatchNorm2d(64)
        self.layer1 = nn.Sequential(*(Bottleneck(64 if i == 0 else 256, 64) for i in range(BLOCKS)))
        self.transition1 = nn.ModuleList([reduce(256, 32, 1), nn.Sequential(reduce(256, 64))])
        self.stage2 = stage(2, 2)
        self.transition2 = nn.ModuleList([None, None, nn.Sequential(reduce(64, 128))])
        self.stage3 = stage(3, 3)
        self.transition3 = nn.ModuleList([None, None, None, nn.Sequential(reduce(128, 256))])
        self.stage4 = stage(4, 1)
        self.final_layer = nn.Conv2d(32, JOINTS, 1)
        fill_random(self, seed)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.bn1(self.conv1(x)))
        x = torch.relu(self.bn2(self.conv2(x)))
        x = self.layer1(x)
        xs = self.stage2([layer(x) for layer in self.transition1])
        xs = self.stage3([*xs, self.transition2[-1](xs[-1])])
        xs = self.stage4([*xs, self.transition3[-1](xs[-1])])
        return self.final_layer(xs[0])


def fill_random(network: nn.Module, seed: int) -> None:
    """Statistics that keep activations finite, and maps of about one; then inference mode."""
    draw = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=draw)
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.3, 0.7, generator=draw)
            nn.init.uniform_(module.running_var, 0.5, 1.5, generator=draw)
            nn.init.normal_(module.bias, 0, 0.3, generator=draw)
            nn.init.normal_(module.running_mean, 0, 0.3, generator=draw)
    network.eval()


class ClassificationHead(nn.Module):
    """What HRNet-W32 for ImageNet has beyond the shared parts."""

    def __init__(self) -> None:
        super().__init__()
        widths = [4 * channels for channels in CHANNELS]
        self.incre_modules = nn.ModuleList(
            nn.Sequential(Bottleneck(channels, channels)) for channels in CHANNELS
        )
        self.downsamp_modules = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(inputs, 2 * inputs, 3, stride=2, padding=1), nn.BatchNorm2d(2 * inputs)
            )
            for inputs in widths[:-1]
        )
        self.final_layer = nn.Sequential(nn.Conv2d(widths[-1], 2048, 1), nn.BatchNorm2d(2048))
        self.classifier = nn.Linear(2048, 1000)


def imagenet_state(
    model: PoseHighResolutionNet, *, nested: bool = False
) -> OrderedDict[str, torch.Tensor]:
    """``model``'s shared parts in a state dict of HRNet-W32 for ImageNet classification.

    It lacks the pose network's ``final_layer.weight`` and ``.bias``, and has a classification head
    with a ``final_layer.0`` and ``.1`` of its own, and the fuse layers to all four branches at the
    end of stage 4: the 1,956 names and shapes of timm's ``hrnet_w32``. ``nested`` names the head as
    ``hrnet_w32-36af842e.pth`` does, ``head.0.`` for ``incre_modules.`` (mmpose, issue 1054);
    ``head.1``, ``head.2`` and ``fc`` are assumed.
    """
    state = OrderedDict(
        (name, value)
        for name, value in model.state_dict().items()
        if not name.startswith("final_layer.")
    )
    last = HighResolutionModule(4, 4).fuse_layers.state_dict(prefix="stage4.2.fuse_layers.")
    state |= {name: value for name, value in last.items() if name not in state}
    for name, value in ClassificationHead().state_dict().items():
        part, _, rest = name.partition(".")
        state[f"{NESTED_HEAD[part] if nested else part}.{rest}"] = value
    return state
