"""The network in PyTorch, with the names that NVlabs' PAMTRI files have. Needs torch."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn
from torch.nn import functional

from multitasknet import MultiTaskNetSpec


class DenseLayer(nn.Module):
    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, 128, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(128)
        self.conv2 = nn.Conv2d(128, 32, 3, padding=1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        bottleneck = self.conv1(functional.relu(self.norm1(x)))
        return torch.cat((x, self.conv2(functional.relu(self.norm2(bottleneck)))), 1)


def dense_block(inputs: int, layers: int) -> nn.Sequential:
    named = {f"denselayer{i + 1}": DenseLayer(inputs + 32 * i) for i in range(layers)}
    return nn.Sequential(OrderedDict(named))


def transition(inputs: int) -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(
            norm=nn.BatchNorm2d(inputs),
            relu=nn.ReLU(),
            conv=nn.Conv2d(inputs, inputs // 2, 1, bias=False),
            pool=nn.AvgPool2d(2, 2),
        )
    )


def backbone(channels: int) -> nn.Sequential:
    parts: OrderedDict[str, nn.Module] = OrderedDict(
        conv0=nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False),
        norm0=nn.BatchNorm2d(64),
        relu0=nn.ReLU(),
        pool0=nn.MaxPool2d(3, 2, padding=1),
    )
    features = 64
    for number, layers in enumerate((6, 12, 24, 16), start=1):
        parts[f"denseblock{number}"] = dense_block(features, layers)
        features += 32 * layers
        if number < 4:
            parts[f"transition{number}"] = transition(features)
            features //= 2
    parts["norm5"] = nn.BatchNorm2d(features)
    return nn.Sequential(parts)


class TorchNet(nn.Module):
    """Any variant and head, in inference mode, with values that keep activations finite."""

    def __init__(self, spec: MultiTaskNetSpec, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
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
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.uniform_(module.running_var, 0.5, 1.5)
                nn.init.normal_(module.bias, 0, 0.3)
                nn.init.normal_(module.running_mean, 0, 0.3)
        self.eval()

    def forward(self, x: torch.Tensor, p: torch.Tensor) -> tuple[torch.Tensor, ...]:
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
