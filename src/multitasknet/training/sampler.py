"""What draws the batches of an epoch; P x K batches: P vehicles, K images of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ..errors import TrainingError


class Sampler(Protocol):
    """Draws the batches of an epoch; the same epoch always has the same batches."""

    @property
    def batches_per_epoch(self) -> int:
        """Batches that each device gets in every epoch."""

    def epoch(self, epoch: int, device: int = 0) -> np.ndarray:
        """The batches of one epoch for one device: indices of images, ``[batches, N]``."""


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
        return self.images // (self.batch_size * self.devices)

    def epoch(self, epoch: int, device: int = 0) -> np.ndarray:
        order = np.random.default_rng((self.seed, epoch)).permutation(self.images)
        used = self.batches_per_epoch * self.devices * self.batch_size
        return order[:used].reshape(-1, self.batch_size)[device :: self.devices]


class IdentitySampler:
    """P x K batches; the same seed and epoch always give the same ones.

    An epoch has as many batches as give every image one use on average. No vehicle is twice in a
    batch. Vehicles get batches in proportion to their number of images, and a vehicle's images
    take turns, so that all images are used about equally; a vehicle with fewer than K images
    repeats some in its group. Which vehicles meet is drawn for every batch. Source: Hermans
    et al., In Defense of the Triplet Loss, 2017, section 2 (the batches).

    Args:
        identities: the vehicle of each image, any integers.
        vehicles: P, vehicles in a batch.
        images: K, images of each.
        seed: starts the random numbers, together with the epoch.
        devices: processes that share an epoch; each gets whole batches, all the same number.

    Raises:
        TrainingError: fewer vehicles than P.
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
        self._vehicles = vehicles
        self._group = images
        self._seed = seed
        self._devices = devices
        self._length = self._fillable()
        self._quotas = self._share_out()

    @property
    def batches_per_epoch(self) -> int:
        return self._length // self._devices

    def epoch(self, epoch: int, device: int = 0) -> np.ndarray:
        """The batches of one epoch for one device.

        Returns:
            int64 ``[batches, P * K]``: indices of images; the K of a vehicle are neighbours.
        """
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
        starts = np.cumsum(numbers) - numbers
        batches = groups[self._meetings(starts, numbers, rng)].reshape(self._length, -1)
        return batches[device :: self._devices]

    def _meetings(
        self, starts: np.ndarray, numbers: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """Which groups meet in each batch, ``[batches, P]``: any, but no two of one vehicle."""
        left, used = numbers.copy(), np.zeros_like(numbers)
        drawn = np.empty((self._length, self._vehicles), dtype=int)
        for row, batch in enumerate(drawn):
            # The P largest of log(left) + Gumbel noise: drawn without repeats, by groups left.
            waiting = np.flatnonzero(left)
            keys = np.log(left[waiting]) + rng.gumbel(size=len(waiting))
            # One with a group for every batch that is left must be in each of them.
            keys[left[waiting] == self._length - row] = np.inf
            chosen = waiting[np.argpartition(-keys, self._vehicles - 1)[: self._vehicles]]
            batch[:] = starts[chosen] + used[chosen]
            used[chosen] += 1
            left[chosen] -= 1
        return rng.permutation(drawn)

    def _fillable(self) -> int:
        """The largest number of batches, a multiple of the devices, with no image overused."""
        groups = self._counts / self._group
        length = int(groups.sum()) // self._vehicles // self._devices * self._devices
        while length > self._devices and (
            np.minimum(groups, length).sum() < self._vehicles * length
        ):
            length -= self._devices
        return max(length, self._devices)

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
