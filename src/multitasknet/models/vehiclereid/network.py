"""The network: EfficientNet-Lite0's body, a generalised mean, and heads."""

from __future__ import annotations

import numpy as np
from mindspore import Parameter, Tensor, nn, ops
from mindspore.common.initializer import HeNormal, Normal

from ..layers import VehicleCell, unit_length
from .spec import EMBEDDING_SIZE, FEATURES, STAGES, STEM, VehicleReIDSpec

# As the body's published weights were trained.
_EPSILON = 1e-3
_FIRST_POWER = 3.0
_LEAST = 1e-6
_HEAD_SIGMA = 0.01


class ConvNorm(nn.Cell):
    """A convolution and its norm; with a stride of 2 it pads one less before than after."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, group: int = 1
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            inputs,
            outputs,
            kernel,
            stride=stride,
            # Not four paddings, of which MindSpore 2.10 exports two in each other's place.
            pad_mode="same",
            group=group,
            has_bias=False,
            weight_init=HeNormal(),
        )
        self.norm = nn.BatchNorm2d(outputs, eps=_EPSILON)

    def construct(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))


class Block(nn.Cell):
    """More channels, a convolution of each alone, fewer channels; the input is added if it fits."""

    def __init__(
        self, inputs: int, outputs: int, *, expansion: int, kernel: int, stride: int
    ) -> None:
        super().__init__()
        width = inputs * expansion
        self.expand = ConvNorm(inputs, width) if expansion > 1 else None
        self.depthwise = ConvNorm(width, width, kernel, stride, group=width)
        self.project = ConvNorm(width, outputs)
        self.is_residual = stride == 1 and inputs == outputs

    def construct(self, x: Tensor) -> Tensor:
        y = x if self.expand is None else ops.relu6(self.expand(x))
        y = self.project(ops.relu6(self.depthwise(y)))
        return y + x if self.is_residual else y


class GeneralizedMean(nn.Cell):
    """Over height and width, the mean of powers p and the p-th root of it."""

    def __init__(self) -> None:
        super().__init__()
        self.p = Parameter(Tensor(np.array([_FIRST_POWER], np.float32)))
        # A number would make it a reciprocal, which has no ONNX form.
        self.one = Tensor(np.ones(1, np.float32))

    def construct(self, x: Tensor) -> Tensor:
        powers = ops.pow(ops.maximum(x, _LEAST), self.p)
        return ops.pow(ops.mean(powers, (2, 3)), self.one / self.p)


class VehicleReID(VehicleCell):
    """Vehicle re-identification with colour and type, from pictures alone.

    Inputs:
        - **x**: float32 ``[N, 3, H, W]``, H and W multiples of 32: RGB, normalised as ImageNet's.

    Outputs:
        ``(color_logits [N, num_colors], type_logits [N, num_types], embedding [N, 512])``, all
        float32, the embedding of length 1; before them ``id_logits [N, num_ids]`` if there are
        identities.
    """

    spec: VehicleReIDSpec

    def __init__(self, spec: VehicleReIDSpec) -> None:
        super().__init__(spec)
        self.stem = ConvNorm(3, STEM, 3, stride=2)
        blocks, width = [], STEM
        for expansion, kernel, stride, outputs, count in STAGES:
            for place in range(count):
                shape = {"expansion": expansion, "kernel": kernel, "stride": 1 if place else stride}
                blocks.append(Block(width, outputs, **shape))
                width = outputs
        self.blocks = nn.CellList(blocks)
        self.head = ConvNorm(width, FEATURES)
        self.pool = GeneralizedMean()
        self.embed = nn.Dense(FEATURES, EMBEDDING_SIZE, has_bias=False)
        self.neck = nn.BatchNorm1d(EMBEDDING_SIZE)
        self.color = nn.Dense(FEATURES, spec.num_colors, Normal(_HEAD_SIGMA), "zeros")
        self.type = nn.Dense(FEATURES, spec.num_types, Normal(_HEAD_SIGMA), "zeros")
        self.identity = None
        if spec.has_identities:
            sigma = Normal(_HEAD_SIGMA)
            self.identity = nn.Dense(EMBEDDING_SIZE, spec.num_ids, sigma, has_bias=False)

    def construct(self, x: Tensor) -> tuple[Tensor, ...]:
        return self.heads(self.features(x))

    def features(self, x: Tensor) -> Tensor:
        """What the heads get: ``[N, 1280]``."""
        x = ops.relu6(self.stem(x))
        for block in self.blocks:
            x = block(x)
        return self.pool(ops.relu6(self.head(x)))

    def heads(self, features: Tensor) -> tuple[Tensor, ...]:
        """From features to the outputs."""
        identity = self.neck(self.embed(features))
        outputs = self.color(features), self.type(features), unit_length(identity)
        return outputs if self.identity is None else (self.identity(identity), *outputs)
