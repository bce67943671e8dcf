"""Where batches come from: images through the pipeline, or features computed once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from mindspore import Tensor

from ..data.pipeline import LABEL_COLUMNS, create_pipeline
from ..data.pipeline import Augmentation as Augment
from ..data.records import Split
from ..models.multitasknet.spec import NetworkSpec
from ..vehicle.attributes import ClassMaps
from .augmentation import RandomAugmentation


@dataclass(frozen=True, eq=False)
class Batch:
    """One batch.

    Attributes:
        inputs: what is called with: ``(x, p)``, or ``(features, p)``.
        labels: identity, color and type, int32 ``[N]``, -1 where unknown.
        indices: the images' positions in the split.
    """

    inputs: tuple[Tensor, ...]
    labels: tuple[Tensor, ...]
    indices: np.ndarray


@dataclass(frozen=True)
class Draw:
    """Which random numbers some batches get.

    Attributes:
        seed: of the training.
        epoch: from 0.
        rank: the process that trains on them.
        step: of the epoch, at which the first of the batches is trained on.
    """

    seed: int
    epoch: int
    rank: int = 0
    step: int = 0


class Source(Protocol):
    """Batches of one split."""

    @property
    def split(self) -> Split: ...

    def training(self, batches: np.ndarray, draw: Draw) -> Iterator[Batch]:
        """The given batches (rows of indices), changed at random as ``draw`` says."""

    def plain(self, size: int) -> Iterator[Batch]:
        """All images in order, unchanged, ``size`` at a time."""


@dataclass(frozen=True, eq=False)
class ImageSource:
    """Batches for the whole network, from image files or a pack."""

    split: Split
    spec: NetworkSpec
    class_maps: ClassMaps
    augmentation: RandomAugmentation
    workers: int = 1

    def training(self, batches: np.ndarray, draw: Draw) -> Iterator[Batch]:
        first = draw.step * batches.shape[1]
        augment = self.augmentation.for_epoch(draw.seed, draw.epoch, rank=draw.rank, first=first)
        return self.read(batches.shape[1], order=batches.reshape(-1), augment=augment)

    def plain(self, size: int) -> Iterator[Batch]:
        return self.read(size)

    def read(
        self,
        size: int,
        order: Sequence[int] | np.ndarray | None = None,
        augment: Augment | None = None,
    ) -> Iterator[Batch]:
        """Batches in any order, changed by any ``augment``."""
        pipeline = create_pipeline(
            self.split,
            self.spec,
            self.spec.input_size,
            batch_size=size,
            order=None if order is None else np.asarray(order).tolist(),
            class_maps=self.class_maps,
            augment=augment,
            workers=self.workers,
        )
        for row in pipeline.create_dict_iterator(num_epochs=1, output_numpy=True):
            yield Batch(
                inputs=(Tensor(row["image"]), Tensor(row["pose"])),
                labels=tuple(Tensor(row[name]) for name in LABEL_COLUMNS),
                indices=row["index"],
            )


@dataclass(frozen=True, eq=False)
class FeatureSource:
    """Batches for the head alone, from the features of a frozen backbone.

    Attributes:
        split: the images.
        features: float32 ``[views, N, 1024]``; view 0 is the plain image, 1 its mirror image.
        poses: float32 ``[views, N, 108]``.
        labels: int32 ``[3, N]``: identity, color, type.
    """

    split: Split
    features: np.ndarray
    poses: np.ndarray
    labels: np.ndarray

    def training(self, batches: np.ndarray, draw: Draw) -> Iterator[Batch]:
        for step, indices in enumerate(batches, start=draw.step):
            rng = np.random.default_rng((draw.seed, draw.epoch, draw.rank, step))
            yield self._batch(indices, rng.integers(len(self.features), size=len(indices)))

    def plain(self, size: int) -> Iterator[Batch]:
        for start in range(0, len(self.split), size):
            indices = np.arange(start, min(start + size, len(self.split)))
            yield self._batch(indices, np.zeros_like(indices))

    def _batch(self, indices: np.ndarray, views: np.ndarray) -> Batch:
        return Batch(
            inputs=(Tensor(self.features[views, indices]), Tensor(self.poses[views, indices])),
            labels=tuple(Tensor(column) for column in self.labels[:, indices]),
            indices=indices,
        )
