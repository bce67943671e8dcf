"""Where batches come from: any source of them, and the one that reads images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import mindspore
import numpy as np
from mindspore import Tensor
from mindspore import dtype as mstype

from ..data.pipeline import LABEL_COLUMNS, create_pipeline, read_rows, rows_of
from ..data.pipeline import Augmentation as Augment
from ..data.records import Split
from ..models.base import Spec
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

    def plain(self, size: int, order: np.ndarray | None = None) -> Iterator[Batch]:
        """All images, or those of ``order``, unchanged, ``size`` at a time."""


@dataclass(frozen=True, eq=False)
class PixelScale:
    """Normalises on the device, whither a quarter of the bytes travel then.

    Attributes:
        factor, shift: float32 ``[C, 1, 1]``, from pixels to the network's input.
    """

    factor: Tensor
    shift: Tensor

    @classmethod
    def for_device(cls, mean: np.ndarray, std: np.ndarray) -> PixelScale | None:
        """For ``[C]`` of pixels / 255; None where a CPU trains, which has nothing to gain."""
        if mindspore.get_context("device_target") == "CPU":
            return None
        return cls.of(mean, std)

    @classmethod
    def of(cls, mean: np.ndarray, std: np.ndarray) -> PixelScale:
        """For ``[C]`` of pixels / 255."""
        columns = (one.astype(np.float32)[:, None, None] for one in (1 / (255 * std), -mean / std))
        return cls(*map(Tensor, columns))

    def __call__(self, pixels: np.ndarray) -> Tensor:
        """From uint8 ``[N, C, H, W]`` to float32."""
        return Tensor(pixels).astype(mstype.float32) * self.factor + self.shift


@dataclass(frozen=True, eq=False)
class ImageSource:
    """Batches of image files, for the network of ``spec`` at its input size.

    The labels are identity, color and type, int32 ``[N]``, -1 where unknown.

    Attributes:
        scale: normalises the images; None has that done with their preparation.
    """

    split: Split
    spec: Spec
    class_maps: ClassMaps
    augmentation: RandomAugmentation
    workers: int = 1
    scale: PixelScale | None = None

    def training(self, batches: np.ndarray, draw: Draw) -> Iterator[Batch]:
        first = draw.step * batches.shape[1]
        augment = self.augmentation.for_epoch(draw.seed, draw.epoch, rank=draw.rank, first=first)
        return self.read(batches.shape[1], batches.reshape(-1).tolist(), augment)

    def plain(self, size: int, order: np.ndarray | None = None) -> Iterator[Batch]:
        return self.read(size, None if order is None else order.tolist())

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
            raw=self.scale is not None,
        )
        image, *others = self.spec.input_shapes(self.spec.input_size)
        to_input = self.scale or Tensor
        for row in read_rows(rows_of(pipeline), self.split):
            yield Batch(
                inputs=(to_input(row[image]), *(Tensor(row[name]) for name in others)),
                labels=tuple(Tensor(row[name]) for name in LABEL_COLUMNS),
                indices=row["index"],
            )
