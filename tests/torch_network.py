"""The network in PyTorch, with the names that NVlabs' PAMTRI files have. Needs torch."""

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
