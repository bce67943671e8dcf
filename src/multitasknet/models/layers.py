"""Cells that several networks are built of."""

from __future__ import annotations

from typing import Any

from mindspore import Tensor, nn, ops
from mindspore import dtype as mstype
from mindspore.common.initializer import HeNormal

# Keeps an embedding of zeros finite. Not a sum with it, which INT8 would round to 8 bits.
_TINY = 1e-12


class VehicleCell(nn.Cell):
    """A network of this package: built from a :class:`~multitasknet.models.base.Spec`, and with the
    :class:`~multitasknet.LoadReport` of the last load, or None."""

    def __init__(self, spec: Any) -> None:
        super().__init__()
        self.spec = spec
        self.load_report = None


def conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    """A convolution without bias that keeps height and width, but for the stride."""
    return nn.Conv2d(
        inputs,
        outputs,
        kernel,
        stride=stride,
        pad_mode="pad",
        padding=kernel // 2,
        has_bias=False,
        weight_init=HeNormal(),
    )


def conv_norm(inputs: int, outputs: int, kernel: int, stride: int = 1) -> list[nn.Cell]:
    """A convolution and its batch norm."""
    return [conv(inputs, outputs, kernel, stride), nn.BatchNorm2d(outputs)]


class ResidualBlock(nn.Cell):
    """Two 3x3 convolutions around which the input goes, by a 1x1 convolution if sizes differ."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = conv(inputs, outputs, 3, stride)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = conv(outputs, outputs, 3)
        self.bn2 = nn.BatchNorm2d(outputs)
        same = stride == 1 and inputs == outputs
        self.shortcut = (
            nn.Identity() if same else nn.SequentialCell(conv_norm(inputs, outputs, 1, stride))
        )

    def construct(self, x: Tensor) -> Tensor:
        y = ops.relu(self.bn1(self.conv1(x)))
        return ops.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class Upsample(nn.Cell):
    """Each pixel repeated ``factor`` times along both axes."""

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor

    def construct(self, x: Tensor) -> Tensor:
        size = x.shape[2] * self.factor, x.shape[3] * self.factor
        # Not ops.interpolate, which has no ONNX form.
        return ops.ResizeNearestNeighbor(size)(x)


def unit_length(embedding: Tensor) -> Tensor:
    """Each row divided by its length, float32."""
    embedding = embedding.astype(mstype.float32)
    length = ops.sqrt(ops.square(embedding).sum(1, keepdims=True))
    return embedding / ops.maximum(length, _TINY)
