"""What a VehicleReID is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from ...vehicle.attributes import COLORS, TYPES
from ...vehicle.pose import PoseConvention
from ..embedding import EmbeddingSpec

STEM, FEATURES, EMBEDDING_SIZE = 32, 1280, 512


class Stage(NamedTuple):
    """Blocks of one shape, of which the first has the stride and the change of channels."""

    expansion: int
    kernel: int
    stride: int
    outputs: int
    blocks: int


# EfficientNet-Lite0's.
STAGES = (
    Stage(1, 3, 1, 16, 1),
    Stage(6, 3, 2, 24, 2),
    Stage(6, 5, 2, 40, 2),
    Stage(6, 3, 2, 80, 3),
    Stage(6, 5, 1, 112, 3),
    Stage(6, 5, 2, 192, 4),
    Stage(6, 3, 1, 320, 1),
)


@dataclass(frozen=True)
class VehicleReIDSpec(EmbeddingSpec):
    """The architecture of a VehicleReID, at any input size; embeddings are compared by angle."""

    network: ClassVar[str] = "vehiclereid"

    input_size: tuple[int, int] = (192, 192)
    pose_convention: PoseConvention = "visibility"
    num_ids: int = 0
    color_names: tuple[str, ...] = COLORS
    type_names: tuple[str, ...] = TYPES

    def output_shapes(self, size: tuple[int, int]) -> dict[str, tuple[int, ...]]:
        return self.logit_shapes() | {"embedding": (EMBEDDING_SIZE,)}
