"""Where batches come from: any source of them, and the one that reads images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from mindspore import Tensor

from ..data.pipeline import LABEL_COLUMNS, create_pipeline, read_rows
from ..data.pipeline import Augmentation as Augment
from ..data.records import Split
from ..models.definition import Spec
from ..vehicle.attributes import ClassMaps
from .augmentation import RandomAugmentation


@dataclass(frozen=True, eq=False)
class Batch:
    """One batch.

    Attributes:
        inputs: what is called with, in the network's order.
        labels: what its loss takes behind the outputs, in its order.
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
    """Batches of image files or a pack, for the network of ``spec`` at its input size.

    The labels are identity, color and type, int32 ``[N]``, -1 where unknown.
    """

    split: Split
    spec: Spec
    class_maps: ClassMaps
    augmentation: RandomAugmentation
    workers: int = 1

    def training(self, batches: np.ndarray, draw: Draw) -> Iterator[Batch]:
        first = draw.step * batches.shape[1]
        augment = self.augmentation.for_epoch(draw.seed, draw.epoch, rank=draw.rank, first=first)
        return self.read(batches.shape[1], batches.reshape(-1).tolist(), augment)

    def plain(self, size: int) -> Iterator[Batch]:
        return self.read(size)

    def read(
        self, size: int, order: Sequence[int] | None = None, augment: Augment | None = None
    ) -> Iterator[Batch]:
        """Batches in any order, changed by any ``augment``."""
        pipeline = create_pipeline(
            self.split,
            self.spec,
            self.spec.input_size,
            batch_size=size,
            order=order,
            class_maps=self.class_maps,
            augment=augment,
            workers=self.workers,
        )
        inputs = self.spec.input_shapes(self.spec.input_size)
        rows = pipeline.create_dict_iterator(num_epochs=1, output_numpy=True)
        for row in read_rows(rows, self.split):
            yield Batch(
                inputs=tuple(Tensor(row[name]) for name in inputs),
                labels=tuple(Tensor(row[name]) for name in LABEL_COLUMNS),
                indices=row["index"],
            )
