"""What a network is: input variant, heads and classes, as read off a checkpoint's shapes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import ClassVar, Literal

from ...vehicle.attributes import COLORS, TYPES
from ...vehicle.keypoints import NUM_KEYPOINTS, count_maps
from ...vehicle.pose import PoseConvention
from ..embedding import Distance, EmbeddingSpec

EMBEDDING_SIZE = 1024
ATTRIBUTE_SIZE = 512
POSE_SIZE = 3 * NUM_KEYPOINTS
# A separate entry, so that every file saved from such a network has it.
SYMMETRIC_POOL = "base.pool0.symmetric"


class Variant(str, Enum):
    """Which maps follow the image's three channels."""

    RGB = "rgb"
    SEGMENT = "segment"
    HEATMAP = "heatmap"
    HEATMAP_SEGMENT = "heatmap+segment"

    @classmethod
    def _missing_(cls, value: object) -> Variant:
        if not isinstance(value, str):
            raise TypeError(f"variant must be a string, not {type(value).__name__}")
        raise ValueError(f"variant is {value!r}; expected one of {', '.join(VARIANTS)}")

    @property
    def heatmaps(self) -> bool:
        return self in (Variant.HEATMAP, Variant.HEATMAP_SEGMENT)

    @property
    def segments(self) -> bool:
        return self in (Variant.SEGMENT, Variant.HEATMAP_SEGMENT)

    @property
    def channels(self) -> int:
        return 3 + count_maps(heatmaps=self.heatmaps, segments=self.segments)

    def __str__(self) -> str:
        return self.value


VARIANTS = tuple(variant.value for variant in Variant)


@dataclass(frozen=True)
class MultiTaskNetSpec(EmbeddingSpec):
    """The architecture of a MultiTaskNet.

    Attributes:
        variant: which channels the input ``x`` has.
        keypoint_aware: whether the head takes the pose vector ``p``.
        multi_task: whether there are colour and type heads beside the identity's.
        num_ids: rows of the identity classifier; 0 where it was left out, which knows the
            training's vehicles and no others.
        color_names, type_names: class names by index; empty for a single-task network.
        include_top: whether there are classifiers; without, the output is the embedding.
        stem_pool: where the stem's max pool pads, which follows the weights' origin: ``same``
            (after, not before) for those trained in MindSpore, ``symmetric`` for PyTorch's.
        distance: ``cosine`` if embeddings are to be compared by angle: the network normalises them
            then, except in training, and squared Euclidean distances are 2 - 2 cos.
    """

    network: ClassVar[str] = "multitasknet"

    variant: Variant = Variant.SEGMENT
    keypoint_aware: bool = True
    multi_task: bool = True
    num_ids: int = 576
    color_names: tuple[str, ...] = COLORS
    type_names: tuple[str, ...] = TYPES
    include_top: bool = True
    input_size: tuple[int, int] = (256, 256)
    stem_pool: Literal["same", "symmetric"] = "same"
    pose_convention: PoseConvention = "published"
    distance: Distance = "euclidean"

    @property
    def channels(self) -> int:
        """Channels of the input ``x``."""
        return self.variant.channels

    @property
    def heatmaps(self) -> bool:
        return self.variant.heatmaps

    @property
    def segments(self) -> bool:
        return self.variant.segments

    @property
    def uses_pose(self) -> bool:
        return self.keypoint_aware or self.channels > 3

    @property
    def is_complete(self) -> bool:
        """Whether there are classifiers, whose random values would mean nothing."""
        return self.include_top

    @property
    def has_identities(self) -> bool:
        """Whether there are identity logits among the outputs."""
        return self.include_top and self.num_ids > 0

    @property
    def has_attributes(self) -> bool:
        """Whether there are colour and type among the outputs."""
        return self.multi_task and self.include_top

    @property
    def head_inputs(self) -> int:
        """Columns of the first Dense layers: pooled features, and the pose where it is used."""
        return EMBEDDING_SIZE + POSE_SIZE * self.keypoint_aware

    def unnormalized(self) -> MultiTaskNetSpec:
        return replace(self, distance="euclidean")

    def input_shapes(self, size: tuple[int, int]) -> dict[str, tuple[int, ...]]:
        shapes: dict[str, tuple[int, ...]] = {"image": (self.channels, *size)}
        return shapes | {"pose": (POSE_SIZE,)} if self.keypoint_aware else shapes

    def output_shapes(self, size: tuple[int, int]) -> dict[str, tuple[int, ...]]:
        return self.logit_shapes() | {"embedding": (EMBEDDING_SIZE,)}
