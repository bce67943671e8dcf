"""The batches of an epoch: which images meet, and where these come from.

They are pictures, or the features that a frozen backbone makes of them.
"""

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
from ..errors import TrainingError
from ..models.base import Spec
from ..vehicle.attributes import ClassMaps
from .augmentation import augment, mirror
from .settings import IdentitySettings

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ShuffledSampler:
    """All images in a random order; those that fill no batch are left out of the epoch.

    Every device gets the same number of whole batches; TrainingError if there is none.
    """

    images: int
    batch_size: int
    seed: int = 0
    devices: int = 1

    def __post_init__(self) -> None:
        if not self.batches_per_epoch:
            raise TrainingError(
                f"{self.devices} batches of {self.batch_size} images are trained on at once, but "
                f"the data have {self.images}; use a smaller batch or more images"
            )

    @property
    def batches_per_epoch(self) -> int:
        """Of each device."""
        return self.images // (self.batch_size * self.devices)

    def epoch(self, epoch: int, device: int = 0) -> np.ndarray:
        """The batches of one epoch for one device, always the same: indices ``[batches, N]``."""
        order = np.random.default_rng((self.seed, epoch)).permutation(self.images)
        used = self.batches_per_epoch * self.devices * self.batch_size
        return order[:used].reshape(-1, self.batch_size)[device :: self.devices]


class IdentitySampler:
    """P x K batches: ``images`` of each of ``vehicles``; TrainingError if there are fewer vehicles.

    An epoch uses every image once on average: vehicles get batches in proportion to their number of
    images, and a vehicle's images take turns; with fewer than K some are repeated in its group.
    Which vehicles meet is drawn for every batch. The same seed and epoch always give the same
    batches, whole ones to each device, and all the same number. Source: Hermans et al., In Defense
    of the Triplet Loss, 2017, section 2 (the batches).
    """

    def __init__(
        self,
        identities: Sequence[int] | np.ndarray,
        *,
        vehicles: int,
        images: int,
        seed: int = 0,
        devices: int = 1,
    ) -> None:
        _, inverse, self._counts = np.unique(
            np.asarray(identities), return_inverse=True, return_counts=True
        )
        if len(self._counts) < vehicles:
            raise TrainingError(
                f"a batch takes {vehicles} vehicles, but the data have {len(self._counts)}; "
                f"use a smaller batch_size, or more instances of each"
            )
        self._images = np.split(np.argsort(inverse, kind="stable"), np.cumsum(self._counts)[:-1])
        self._vehicles, self._group = vehicles, images
        self._seed, self._devices = seed, devices
        self._length = self._fillable()
        self._quotas = self._share_out()

    @property
    def batches_per_epoch(self) -> int:
        """Of each device."""
        return self._length // self._devices

    def epoch(self, epoch: int, device: int = 0) -> np.ndarray:
        """As of :class:`ShuffledSampler`, ``[batches, P * K]``: a vehicle's K are neighbours."""
        rng = np.random.default_rng((self._seed, epoch))
        order = rng.permutation(len(self._counts))
        # Systematic sampling: whole numbers with the quotas as their means and a fixed sum.
        ends = np.cumsum(self._quotas[order]).round(9)
        numbers = np.diff(np.floor(ends + rng.random()), prepend=0).astype(int)
        groups = np.concatenate(
            [
                np.resize(rng.permutation(self._images[vehicle]), (number, self._group))
                for vehicle, number in zip(order, numbers, strict=True)
            ]
        )
        batches = groups[self._meetings(numbers, rng)].reshape(self._length, -1)
        return batches[device :: self._devices]

    def _meetings(self, numbers: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Which groups meet in each batch, ``[batches, P]``: any, but no two of one vehicle."""
        left, following = numbers.copy(), np.cumsum(numbers) - numbers
        drawn = np.empty((self._length, self._vehicles), dtype=int)
        for row, batch in enumerate(drawn):
            # The P largest of log(left) + Gumbel noise: drawn without repeats, by groups left.
            waiting = np.flatnonzero(left)
            keys = np.log(left[waiting]) + rng.gumbel(size=len(waiting))
            # One with a group for every batch that is left must be in each of them.
            keys[left[waiting] == self._length - row] = np.inf
            chosen = waiting[np.argpartition(-keys, self._vehicles - 1)[: self._vehicles]]
            batch[:] = following[chosen]
            following[chosen] += 1
            left[chosen] -= 1
        return rng.permutation(drawn)

    def _fillable(self) -> int:
        """The largest number of batches, a multiple of the devices, with no image overused."""
        groups, devices = self._counts / self._group, self._devices
        length = int(groups.sum()) // self._vehicles // devices * devices
        while length > devices and np.minimum(groups, length).sum() < self._vehicles * length:
            length -= devices
        return max(length, devices)

    def _share_out(self) -> np.ndarray:
        """Groups of each vehicle in an epoch: in proportion to its images, at most one a batch."""
        quotas = np.zeros(len(self._counts))
        capped = np.zeros(len(self._counts), dtype=bool)
        while True:
            left = self._length * (self._vehicles - capped.sum())
            quotas[capped] = self._length
            quotas[~capped] = self._counts[~capped] * left / max(self._counts[~capped].sum(), 1)
            over = ~capped & (quotas > self._length)
            if not over.any():
                return quotas
            capped |= over


@dataclass(frozen=True, eq=False)
class Batch:
    """One batch."""

    inputs: tuple[Tensor, ...]  # what the network is called with, in its order
    labels: tuple[Tensor, ...]  # what its loss takes after the outputs, in its order
    indices: np.ndarray  # the images' positions in the split


class Draw(NamedTuple):
    """What the random numbers of an epoch follow from: the training's seed, epoch, process."""

    seed: int
    epoch: int
    rank: int = 0

    def generator(self, index: int, place: int) -> np.random.Generator:
        """Those of an image, by its index in the split and its place in the epoch."""
        return np.random.default_rng((self.seed, self.epoch, index, self.rank, place))


class Source(Protocol):
    """Batches of one split."""

    @property
    def split(self) -> Split: ...

    def read(self, batches: Sequence[np.ndarray], draw: Draw | None = None) -> Iterator[Batch]:
        """The images at these indices, batch by batch, changed at random if there is a draw."""


def in_order(images: int, size: int) -> list[np.ndarray]:
    """The indices of all images, ``size`` at a time."""
    return [np.arange(start, min(start + size, images)) for start in range(0, images, size)]


@dataclass(frozen=True, eq=False)
class ImageSource:
    """Batches of image files at the network's input size, labelled with identity, color and type.

    Labels are int32 ``[N]``, -1 where unknown.
    """

    split: Split
    spec: Spec
    class_maps: ClassMaps
    settings: IdentitySettings
    workers: int = 1

    def read(self, batches: Sequence[np.ndarray], draw: Draw | None = None) -> Iterator[Batch]:
        if draw is None:
            return self.changed(batches, None)
        return self.changed(
            batches,
            lambda sample, *place: augment(sample, self.settings, draw.generator(*place)),
        )

    def changed(
        self, batches: Sequence[np.ndarray], change: Augmentation | None
    ) -> Iterator[Batch]:
        """The batches, which have one size but for the last, changed by any function."""
        rows = read_batches(
            self.split,
            self.spec,
            self.spec.input_size,
            batch_size=len(batches[0]),
            order=np.concatenate(batches).tolist(),
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
        split, settings = images.split, images.settings
        logger.info("computing the backbone's features of %d images", len(split))
        network.set_train(False)
        views: list[Augmentation | None] = [None]
        if mirrored and settings.flip != "none":
            views.append(lambda sample, *_: mirror(sample, swap=settings.flip == "swap"))
        columns: list[list[np.ndarray]] = []
        total, hidden = len(views) * len(split), None if show else True
        with tqdm(total=total, desc="features", unit="image", disable=hidden) as bar:
            for view in views:
                rows = []
                for batch in images.changed(in_order(len(split), settings.batch_size), view):
                    features = network.features(batch.inputs[0])
                    rest = [one.asnumpy() for one in (*batch.inputs[1:], *batch.labels)]
                    rows.append([features.asnumpy().astype(np.float32), *rest])
                    bar.update(len(batch.indices))
                columns.append([np.concatenate(column) for column in zip(*rows, strict=True)])
        labels = len(LABEL_COLUMNS)
        inputs = zip(*(one[:-labels] for one in columns), strict=True)
        return cls(split, tuple(map(np.stack, inputs)), np.stack(columns[0][-labels:]))

    def read(self, batches: Sequence[np.ndarray], draw: Draw | None = None) -> Iterator[Batch]:
        for step, indices in enumerate(batches):
            views = np.zeros_like(indices)
            if draw:
                rng = np.random.default_rng((*draw, step))
                views = rng.integers(len(self.inputs[0]), size=len(indices))
            yield Batch(
                inputs=tuple(Tensor(one[views, indices]) for one in self.inputs),
                labels=tuple(Tensor(column) for column in self.labels[:, indices]),
                indices=indices,
            )


def create_pipeline(
    split: Split, spec: Spec, size: tuple[int, int], *, batch_size: int, **options: Any
) -> ds.Dataset:
    """One pass over a split as a dataset, for MindSpore's ``Model.train``.

    Arguments and columns are those of :func:`.data.samples.read_batches`.
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
