"""Where batches come from: pictures, or the features that a frozen backbone makes of them."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol

import mindspore.dataset as ds
import numpy as np
from mindspore import Tensor, nn
from tqdm import tqdm

from ..data.records import Split
from ..data.samples import LABEL_COLUMNS, Augmentation, read_batches
from ..models.base import Spec
from ..vehicle.attributes import ClassMaps
from ..vehicle.sample import Sample
from .augmentation import augment, mirror
from .settings import IdentitySettings

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Batch:
    """One batch.

    Attributes:
        inputs: what the network is called with, in its order.
        labels: what its loss takes after the outputs, in its order.
        indices: the images' positions in the split.
    """

    inputs: tuple[Tensor, ...]
    labels: tuple[Tensor, ...]
    indices: np.ndarray


class Draw(NamedTuple):
    """What the random numbers of an epoch follow from: the training's seed, epoch, process."""

    seed: int
    epoch: int
    rank: int = 0

    def generator(self, index: int, place: int) -> np.random.Generator:
        """The random numbers of an image, by its index in the split and its place in the epoch;
        the number of workers makes no difference."""
        return np.random.default_rng((self.seed, self.epoch, index, self.rank, place))


class Source(Protocol):
    """Batches of one split."""

    @property
    def split(self) -> Split: ...

    def training(self, batches: np.ndarray, draw: Draw) -> Iterator[Batch]:
        """The given batches (rows of indices), changed at random by ``draw``."""

    def plain(self, size: int) -> Iterator[Batch]:
        """All images in order, unchanged, ``size`` at a time."""


def in_order(images: int, size: int) -> list[np.ndarray]:
    """The indices of all images, ``size`` at a time."""
    return [np.arange(start, min(start + size, images)) for start in range(0, images, size)]


@dataclass(frozen=True, eq=False)
class ImageSource:
    """Batches of image files, for the network of ``spec`` at its input size.

    The labels are identity, color and type, int32 ``[N]``, -1 where unknown.
    """

    split: Split
    spec: Spec
    class_maps: ClassMaps
    settings: IdentitySettings
    workers: int = 1

    def training(self, batches: np.ndarray, draw: Draw) -> Iterator[Batch]:
        def changed(sample: Sample, index: int, place: int) -> Sample:
            return augment(sample, self.settings, draw.generator(index, place))

        return self.read(batches.shape[1], batches.reshape(-1).tolist(), changed)

    def plain(self, size: int) -> Iterator[Batch]:
        return self.read(size)

    def read(
        self, size: int, order: Sequence[int] | None = None, change: Augmentation | None = None
    ) -> Iterator[Batch]:
        """Batches in any order, changed by any function."""
        rows = read_batches(
            self.split,
            self.spec,
            self.spec.input_size,
            batch_size=size,
            order=order,
            class_maps=self.class_maps,
            augment=change,
            workers=self.workers,
        )
        inputs = self.spec.input_shapes(self.spec.input_size)
        for row in rows:
            yield Batch(
                inputs=tuple(Tensor(row[name]) for name in inputs),
                labels=tuple(Tensor(row[name]) for name in LABEL_COLUMNS),
                indices=row["index"],
            )


@dataclass(frozen=True, eq=False)
class FeatureSource:
    """Batches for the heads alone, from the features of a frozen backbone.

    Attributes:
        split: the images.
        inputs: of the heads: features, float32 ``[views, N, F]``, and for a keypoint-aware
            network poses, ``[views, N, 108]``. View 0 is the plain image, 1 its mirror image.
        labels: int32 ``[3, N]``: identity, color, type.
    """

    split: Split
    inputs: tuple[np.ndarray, ...]
    labels: np.ndarray

    @classmethod
    def of(
        cls, network: nn.Cell, images: ImageSource, *, mirrored: bool, show: bool
    ) -> FeatureSource:
        """Compute them in inference mode; ``mirrored``: of each image's mirror image as well."""
        logger.info("computing the backbone's features of %d images", len(images.split))
        network.set_train(False)
        settings = images.settings
        views: list[Augmentation | None] = [None]
        if mirrored and settings.flip != "none":
            views.append(lambda sample, *_: mirror(sample, swap=settings.flip == "swap"))
        total = len(views) * len(images.split)
        hidden = None if show else True
        with tqdm(total=total, desc="features", unit="image", disable=hidden) as bar:
            passes = [
                _features(network, images.read(settings.batch_size, change=view), bar)
                for view in views
            ]
        *inputs, labels = zip(*passes, strict=True)
        return cls(images.split, tuple(map(np.stack, inputs)), labels[0].T)

    def training(self, batches: np.ndarray, draw: Draw) -> Iterator[Batch]:
        for step, indices in enumerate(batches):
            rng = np.random.default_rng((*draw, step))
            yield self._batch(indices, rng.integers(len(self.inputs[0]), size=len(indices)))

    def plain(self, size: int) -> Iterator[Batch]:
        for indices in in_order(len(self.split), size):
            yield self._batch(indices, np.zeros_like(indices))

    def _batch(self, indices: np.ndarray, views: np.ndarray) -> Batch:
        return Batch(
            inputs=tuple(Tensor(one[views, indices]) for one in self.inputs),
            labels=tuple(Tensor(column) for column in self.labels[:, indices]),
            indices=indices,
        )


def _features(network: nn.Cell, batches: Iterator[Batch], bar: tqdm) -> list[np.ndarray]:
    """Features, the other inputs, and labels ``[N, 3]``, of all images."""
    rows = []
    for batch in batches:
        image, *others = batch.inputs
        features = network.features(image).asnumpy().astype(np.float32)
        labels = np.stack([one.asnumpy() for one in batch.labels], axis=1)
        rows.append([features, *(one.asnumpy() for one in others), labels])
        bar.update(len(batch.indices))
    return [np.concatenate(column) for column in zip(*rows, strict=True)]


def create_pipeline(
    split: Split, spec: Spec, size: tuple[int, int], *, batch_size: int, **options: Any
) -> ds.Dataset:
    """One pass over a split as a dataset, for MindSpore's ``Model.train``.

    Args:
        split, spec, size, batch_size: as in :func:`.data.samples.read_batches`.
        options: its others: ``order``, ``class_maps``, ``augment``, ``workers``,
            ``drop_remainder``.

    Returns:
        A dataset whose columns are what that function yields.
    """
    order = options.get("order")
    whole, rest = divmod(len(split) if order is None else len(order), batch_size)
    batches = whole + bool(rest and not options.get("drop_remainder"))
    labels = LABEL_COLUMNS if options.get("class_maps") else ()
    read = partial(read_batches, split, spec, size, batch_size=batch_size, **options)
    columns = [*spec.input_shapes(size), "index", *labels]
    return ds.GeneratorDataset(_Rows(read, batches), columns, shuffle=False)


@dataclass(frozen=True, eq=False)
class _Rows:
    """Each pass over it reads the batches again."""

    read: partial[Iterator[dict[str, np.ndarray]]]
    batches: int

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[tuple[np.ndarray, ...]]:
        return (tuple(row.values()) for row in self.read())
