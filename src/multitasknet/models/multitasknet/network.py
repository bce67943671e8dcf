"""The network: a DenseNet-121 backbone, the pose vector, and identity, colour and type heads.

Names and shapes of all parameters are those of the published checkpoint. Source: Tang et al.,
PAMTRI, ICCV 2019, section 3.2; Huang et al., Densely Connected Convolutional Networks, CVPR 2017.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from ..layers import VehicleCell, conv, unit_length
from .spec import ATTRIBUTE_SIZE, EMBEDDING_SIZE, MultiTaskNetSpec

GROWTH = 32
BOTTLENECK = 4 * GROWTH
STEM_FEATURES = 64
BLOCKS = (6, 12, 24, 16)
_LEAK = 0.01
# One Tensor, or several: see the docstring of MultiTaskNet.
Outputs: TypeAlias = "Tensor | tuple[Tensor, ...]"


class DenseLayer(nn.Cell):
    """Norm, ReLU, 1x1 convolution to 128; norm, ReLU, 3x3 convolution to 32."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inputs)
        self.conv1 = conv(inputs, BOTTLENECK, 1)
        self.norm2 = nn.BatchNorm2d(BOTTLENECK)
        self.conv2 = conv(BOTTLENECK, GROWTH, 3)

    def construct(self, x: Tensor) -> Tensor:
        bottleneck = self.conv1(ops.relu(self.norm1(x)))
        return self.conv2(ops.relu(self.norm2(bottleneck)))


class DenseBlock(nn.Cell):
    """Layers that each see the outputs of all before them."""

    def __init__(self, inputs: int, layers: int) -> None:
        super().__init__()
        self.cell_list = nn.CellList([DenseLayer(inputs + i * GROWTH) for i in range(layers)])

    def construct(self, x: Tensor) -> Tensor:
        for layer in self.cell_list:
            x = ops.concat((x, layer(x)), 1)
        return x


class TransitionFeatures(nn.Cell):
    """Norm, ReLU, 1x1 convolution to half the channels, 2x2 mean."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(inputs)
        self.conv = conv(inputs, inputs // 2, 1)
        self.pool = nn.AvgPool2d(2, 2)

    def construct(self, x: Tensor) -> Tensor:
        return self.pool(self.conv(ops.relu(self.norm(x))))


class Transition(nn.Cell):
    """Keeps the level ``features`` that the published names have."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.features = TransitionFeatures(inputs)

    def construct(self, x: Tensor) -> Tensor:
        return self.features(x)


class SymmetricMaxPool(nn.Cell):
    """The stem's max pool as PyTorch has it, with the entry that marks it in saved files.

    Even heights and widths need no padding after, and zeros do before: what comes from a ReLU is
    never below.
    """

    def __init__(self) -> None:
        super().__init__()
        self.symmetric = Parameter(Tensor(np.ones(1, np.float32)), requires_grad=False)
        # Not nn.ZeroPad2d, which has no ONNX form.
        self.pad = ops.Pad(((0, 0), (0, 0), (1, 0), (1, 0)))
        self.pool = nn.MaxPool2d(3, 2, pad_mode="valid")

    def construct(self, x: Tensor) -> Tensor:
        return self.pool(self.pad(x))


class DenseNet121(nn.Cell):
    """The backbone: ``[N, C, H, W]`` to ``[N, 1024, H / 32, W / 32]``; no ReLU at its end."""

    def __init__(self, spec: MultiTaskNetSpec) -> None:
        super().__init__()
        self.conv0 = conv(spec.channels, STEM_FEATURES, 7, stride=2)
        self.norm0 = nn.BatchNorm2d(STEM_FEATURES)
        # It has to pad as it did where the weights were trained: "same" pads after, not before.
        is_symmetric = spec.stem_pool == "symmetric"
        self.pool0 = SymmetricMaxPool() if is_symmetric else nn.MaxPool2d(3, 2, pad_mode="same")
        features = STEM_FEATURES
        for number, layers in enumerate(BLOCKS, start=1):
            setattr(self, f"denseblock{number}", DenseBlock(features, layers))
            features += layers * GROWTH
            if number < len(BLOCKS):
                setattr(self, f"transition{number}", Transition(features))
                features //= 2
        self.norm5 = nn.BatchNorm2d(features)

    def construct(self, x: Tensor) -> Tensor:
        x = self.pool0(ops.relu(self.norm0(self.conv0(x))))
        x = self.transition1(self.denseblock1(x))
        x = self.transition2(self.denseblock2(x))
        x = self.transition3(self.denseblock3(x))
        return self.norm5(self.denseblock4(x))


class MultiTaskNet(VehicleCell):
    """Vehicle re-identification with colour and type.

    Inputs:
        - **x**: float32 ``[N, C, H, W]``, C = ``spec.channels``, H and W multiples of 32.
        - **p**: float32 ``[N, 108]``, the pose vector; not needed if not ``spec.keypoint_aware``.

    Outputs:
        By ``spec``: multi-task ``(id_logits [N, num_ids], color_logits [N, num_colors],
        type_logits [N, num_types], embedding [N, 1024])``, the first only if there are identities;
        single-task ``(id_logits, embedding)``; without classifiers ``embedding`` alone. With
        ``spec.distance`` ``cosine`` embeddings have the length 1, except in training.
    """

    spec: MultiTaskNetSpec

    def __init__(self, spec: MultiTaskNetSpec) -> None:
        super().__init__(spec)
        self.base = DenseNet121(spec)
        self.keypoint_aware = spec.keypoint_aware
        self.multi_task = spec.multi_task
        self.include_top = spec.include_top
        self.has_identities = spec.has_identities
        self.by_angle = spec.distance == "cosine"
        self.leaky_relu = nn.LeakyReLU(_LEAK)
        if spec.multi_task:
            self.fc_vid = nn.Dense(spec.head_inputs, EMBEDDING_SIZE)
        elif spec.keypoint_aware:
            self.fc = nn.Dense(spec.head_inputs, EMBEDDING_SIZE)
        if not spec.include_top:
            return
        if spec.multi_task:
            self.fc_vcolor = nn.Dense(spec.head_inputs, ATTRIBUTE_SIZE)
            self.fc_vtype = nn.Dense(spec.head_inputs, ATTRIBUTE_SIZE)
        if spec.has_identities:
            self.classifier_vid = nn.Dense(EMBEDDING_SIZE, spec.num_ids)
        if spec.multi_task:
            self.classifier_vcolor = nn.Dense(ATTRIBUTE_SIZE, spec.num_colors)
            self.classifier_vtype = nn.Dense(ATTRIBUTE_SIZE, spec.num_types)

    def construct(self, x: Tensor, p: Tensor | None = None) -> Outputs:
        return self.heads(self.features(x), p)

    def features(self, x: Tensor) -> Tensor:
        """The backbone's features, averaged over the image: ``[N, 1024]``."""
        return ops.mean(self.base(x), (2, 3))

    def heads(self, features: Tensor, p: Tensor | None = None) -> Outputs:
        """From pooled features ``[N, 1024]`` to the outputs."""
        if self.keypoint_aware:
            features = ops.concat((features, p), 1)
        identity = self.embed(features)
        embedding = self.normalized(identity)
        if not self.include_top:
            return embedding
        if not self.multi_task:
            return self.classifier_vid(identity), embedding
        color_logits = self.classifier_vcolor(self.leaky_relu(self.fc_vcolor(features)))
        type_logits = self.classifier_vtype(self.leaky_relu(self.fc_vtype(features)))
        if not self.has_identities:
            return color_logits, type_logits, embedding
        return self.classifier_vid(identity), color_logits, type_logits, embedding

    def embed(self, features: Tensor) -> Tensor:
        """The activated identity branch; without one, the pooled features themselves."""
        if self.multi_task:
            return self.leaky_relu(self.fc_vid(features))
        if self.keypoint_aware:
            return self.leaky_relu(self.fc(features))
        return features

    def normalized(self, embedding: Tensor) -> Tensor:
        """At length 1 where embeddings are compared by angle, and nothing is trained."""
        if self.training or not self.by_angle:
            return embedding
        return unit_length(embedding)
