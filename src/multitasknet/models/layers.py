"""Cells that several networks are built of."""

from __future__ import annotations

from mindspore import Tensor, nn, ops
from mindspore import dtype as mstype
from mindspore.common.initializer import HeNormal

# Keeps an embedding of zeros finite. Not a sum with it, which INT8 would round to 8 bits.
_TINY = 1e-12


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
