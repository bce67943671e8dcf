"""What a network is: input variant, heads and classes, as read off a checkpoint's shapes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal, TypeAlias, get_args

from ...vehicle.attributes import COLORS, TYPES
from ...vehicle.keypoints import NUM_KEYPOINTS
from ...vehicle.pose import PoseConvention
from ..base import Variant
from ..embedding import Distance, EmbeddingSpec

EMBEDDING_SIZE = 1024
ATTRIBUTE_SIZE = 512
POSE_SIZE = 3 * NUM_KEYPOINTS
# A separate entry, so that every file saved from such a network has it.
SYMMETRIC_POOL = "base.pool0.symmetric"
StemPool: TypeAlias = Literal["same", "symmetric"]
STEM_POOLS: tuple[str, ...] = get_args(StemPool)


@dataclass(frozen=True)
class MultiTaskNetSpec(EmbeddingSpec):
    """The architecture of a MultiTaskNet.

    Attributes:
        variant: which channels the input ``x`` has.
        keypoint_aware: whether the head takes the pose vector ``p``.
        multi_task: whether there are colour and type heads beside the identity's.
        num_ids, color_names, type_names: see :class:`..embedding.EmbeddingSpec`.
        include_top: whether there are classifiers; without, the output is the embedding.
        stem_pool: where the stem's max pool pads, which follows the weights' origin: ``same``
            (after, not before) for those trained in MindSpore, ``symmetric`` for PyTorch's.
        distance: ``cosine`` if embeddings are to be compared by angle: the network normalises them
            then, except in training.
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
    stem_pool: StemPool = "same"
    pose_convention: PoseConvention = "published"
    distance: Distance = "euclidean"

    @property
    def channels(self) -> int:
        """Channels of the input ``x``."""
        return self.variant.channels

    @property
    def uses_pose(self) -> bool:
        return self.keypoint_aware or self.variant is not Variant.RGB

    @property
    def is_complete(self) -> bool:
        return self.include_top

    @property
    def has_identities(self) -> bool:
        return self.include_top and self.num_ids > 0

    @property
    def has_attributes(self) -> bool:
        return self.include_top and self.multi_task

    @property
    def head_inputs(self) -> int:
        """Columns of the first Dense layers: pooled features, and the pose where it is used."""
        return EMBEDDING_SIZE + POSE_SIZE * self.keypoint_aware

    def unnormalized(self) -> MultiTaskNetSpec:
        return replace(self, distance="euclidean")

    def input_shapes(self, size: tuple[int, int]) -> dict[str, tuple[int, ...]]:
        image: dict[str, tuple[int, ...]] = {"image": (self.channels, *size)}
        return image | {"pose": (POSE_SIZE,)} if self.keypoint_aware else image

    def output_shapes(self, size: tuple[int, int]) -> dict[str, tuple[int, ...]]:
        return self.logit_shapes() | {"embedding": (EMBEDDING_SIZE,)}
