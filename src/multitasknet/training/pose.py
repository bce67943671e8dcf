"""PoseEstNet's :class:`~.loop.Task`: to find keypoints.

Source: the published training of PAMTRI's PoseEstNet, which follows Xiao et al., Simple Baselines
for Human Pose Estimation and Tracking, ECCV 2018.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

import numpy as np
from mindspore import Tensor

from ..data.records import Split
from ..errors import TrainingError
from ..hub.create_network import create_from
from ..images import RGB_MEAN, RGB_STD, read_image
from ..inference.runner import ahead
from ..models.poseestnet.decoding import find_peaks, keypoints_in_image
from ..models.poseestnet.network import PoseEstNet
from ..models.poseestnet.preprocessing import frame_transform, write_framed
from ..models.poseestnet.spec import PoseEstNetSpec
from ..models.poseestnet.targets import draw_targets
from ..runtime import usable_workers
from ..vehicle.keypoint_metrics import THRESHOLDS, KeypointErrors
from .augmentation import PoseAugmentation
from .batches import Batch, Draw, PixelScale
from .loop import Parts, Task
from .losses import HeatmapLoss
from .parallel import Devices
from .sampler import ShuffledSampler

logger = logging.getLogger(__name__)


class PoseTask(Task):
    """Trains on images with keypoints; validated on those of query and gallery."""

    losses = ("heatmaps",)
    metric = f"PCK@{THRESHOLDS[0]}"

    def create_sampler(self) -> ShuffledSampler:
        """All images with keypoints in a random order."""
        job = self.job
        images = len(labelled(job.dataset.train))
        if not images:
            raise TrainingError(
                f"{job.dataset.root}: no image of the train split has keypoints; give labels with "
                f"them"
            )
        settings = job.settings
        return ShuffledSampler(images, settings.batch_size, settings.seed, job.devices.count)

    def create_network(self) -> PoseEstNet:
        """The network with the weights that it starts from; a backbone gets a fresh last layer."""
        settings = self.job.settings
        network = create_from(self.job.weights, settings.network)
        if network.load_report:
            logger.info("%s", network.load_report)
        # From here on the weights are no longer those of a file.
        network.load_report = None
        network.spec = replace(
            network.spec,
            input_size=(settings.size, settings.size),
            pose_convention=settings.pose_convention or network.spec.pose_convention,
        )
        return network

    def prepare(self, network: PoseEstNet) -> Parts:
        """Loss, batches, and validation on the images of query and gallery that have keypoints."""
        job, settings = self.job, self.job.settings
        augmentation = PoseAugmentation(
            **{one.name: getattr(settings, one.name) for one in fields(PoseAugmentation)}
        )
        source = partial(
            PoseSource,
            spec=network.spec,
            augmentation=augmentation,
            workers=job.workers,
            scale=PixelScale.for_device(np.array(RGB_MEAN), np.array(RGB_STD)),
        )
        held_out = [labelled(split) for split in (job.dataset.query, job.dataset.gallery)]
        check = partial(
            validate,
            network,
            [source(split) for split in held_out if len(split)],
            batch_size=settings.batch_size,
            devices=job.devices,
        )
        return Parts(network, HeatmapLoss(), source(labelled(job.dataset.train)), check)


def labelled(split: Split) -> Split:
    """The images whose keypoints a label states."""
    return replace(
        split, records=tuple(record for record in split.records if record.keypoints is not None)
    )


@dataclass(frozen=True, eq=False)
class PoseSource:
    """Pictures, and as labels their target maps and weights."""

    split: Split
    spec: PoseEstNetSpec
    augmentation: PoseAugmentation
    workers: int = 1
    scale: PixelScale | None = None

    def training(self, batches: np.ndarray, draw: Draw) -> Iterator[Batch]:
        return ahead(self._read(batches, draw))

    def plain(self, size: int, order: np.ndarray | None = None) -> Iterator[Batch]:
        order = np.arange(len(self.split)) if order is None else order
        batches = [order[start : start + size] for start in range(0, len(order), size)]
        return ahead(self._read(batches, None))

    def _read(
        self, batches: Sequence[np.ndarray] | np.ndarray, draw: Draw | None
    ) -> Iterator[Batch]:
        """The batches; without a draw as they are."""
        place = 0
        with ThreadPoolExecutor(min(self.workers, usable_workers())) as pool:
            for indices in batches:
                pixels = [read_image(self.split.records[row].image) for row in indices.tolist()]
                rngs = [None] * len(indices) if draw is None else _generators(draw, indices, place)
                place += len(indices)
                rows = list(pool.map(self._sample, indices.tolist(), pixels, rngs))
                x, maps, weights = (np.stack(column) for column in zip(*rows, strict=True))
                image = self.scale(x) if self.scale else Tensor(x)
                yield Batch((image,), (Tensor(maps), Tensor(weights)), indices)

    def _sample(
        self, index: int, pixels: np.ndarray, rng: np.random.Generator | None
    ) -> tuple[np.ndarray, ...]:
        keypoints = self.split.records[index].marked
        assert keypoints is not None
        size = self.spec.input_size
        transform = frame_transform(pixels.shape[1], pixels.shape[0], size)
        if rng is not None:
            pixels, keypoints, transform = self.augmentation(pixels, keypoints, size, rng)
        x = np.empty((3, *size), np.uint8 if self.scale else np.float32)
        write_framed(pixels, transform, x)
        framed = np.column_stack(
            (keypoints[:, :2] @ transform[:, :2].T + transform[:, 2], keypoints[:, 2])
        )
        return x, *draw_targets(framed, size)


def _generators(draw: Draw, indices: np.ndarray, place: int) -> list[np.random.Generator]:
    """The random numbers of each image of a batch, whose first has that place in the epoch."""
    return [
        np.random.default_rng((draw.seed, draw.epoch, index, draw.rank, number))
        for number, index in enumerate(indices.tolist(), start=place)
    ]


def validate(
    network: PoseEstNet, sources: Sequence[PoseSource], *, batch_size: int, devices: Devices
) -> dict[str, float]:
    """PCK and NME of a network in inference mode, in percent, without flip test.

    Each device does its share of the images. Empty without sources.
    """
    splits = []
    for source in sources:
        records = source.split.records
        found = _estimates(network, source, batch_size, devices)
        estimates, sides = (devices.joined(column, len(records)) for column in found)
        splits.append((estimates, np.array([record.marked for record in records]), sides))
    if not splits:
        return {}
    errors = KeypointErrors.of(*map(np.concatenate, zip(*splits, strict=True)))
    metrics: dict[str, Any] = {f"PCK@{one}": 100 * errors.pck(one) for one in THRESHOLDS}
    return metrics | {"NME": 100 * errors.nme()}


def _estimates(
    network: PoseEstNet, source: PoseSource, batch_size: int, devices: Devices
) -> tuple[np.ndarray, np.ndarray]:
    """Keypoints and longer sides, float32, of this device's share."""
    estimates, sides = [], []
    for batch in source.plain(batch_size, devices.share(len(source.split))):
        peaks = find_peaks(network(*batch.inputs).asnumpy().astype(np.float32))
        pixels = [read_image(source.split.records[row].image) for row in batch.indices.tolist()]
        for found, image in zip(peaks, pixels, strict=True):
            height, width = image.shape[:2]
            size = source.spec.input_size
            estimates.append(keypoints_in_image(found, width=width, height=height, size=size))
            sides.append(max(height, width))
    return np.stack(estimates).astype(np.float32), np.array(sides, np.float32)
