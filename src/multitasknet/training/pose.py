"""How PoseEstNet is trained: to find keypoints.

Source: the published training of PAMTRI's PoseEstNet, which follows Xiao et al., Simple Baselines
for Human Pose Estimation and Tracking, ECCV 2018.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from mindspore import Tensor

from ..data.records import Split
from ..data.samples import prepared
from ..errors import TrainingError
from ..images import open_picture, read_image
from ..models.poseestnet.definition import NETWORK, find_peaks
from ..models.poseestnet.network import PoseEstNet
from ..models.poseestnet.preprocessing import draw_targets, frame_transform, write_framed
from ..models.poseestnet.spec import PoseEstNetSpec
from ..runtime import usable_workers
from ..vehicle.keypoint_metrics import THRESHOLDS, KeypointErrors
from .augmentation import augment_pose
from .batches import Batch, Draw, ShuffledSampler, in_order
from .loop import Job, Task, open_network
from .losses import HeatmapLoss
from .settings import PoseSettings


def prepare(job: Job) -> Task:
    """Trains on images with keypoints; validated on those of query and gallery."""
    settings, dataset = job.settings, job.dataset
    train, *held_out = (labelled(one) for one in (dataset.train, dataset.query, dataset.gallery))
    if not len(train):
        raise TrainingError(
            f"{dataset.root}: no image of the train split has keypoints; give labels with them"
        )
    sampler = ShuffledSampler(
        len(train), settings.batch_size, settings.seed, devices=job.devices.count
    )
    network = open_network(job)
    source = partial(PoseSource, spec=network.spec, settings=settings, workers=job.workers)
    evaluated = [source(split) for split in held_out if len(split)]
    return Task(
        network,
        sampler,
        source(train),
        HeatmapLoss(),
        losses=("heatmaps",),
        metric=f"PCK@{THRESHOLDS[0]}",
        validate=partial(validate, network, evaluated, batch_size=settings.batch_size),
    )


def labelled(split: Split) -> Split:
    """The images whose keypoints a label states."""
    return replace(split, records=tuple(one for one in split.records if one.keypoints is not None))


@dataclass(frozen=True, eq=False)
class PoseSource:
    """Pictures, and as labels their target maps and weights."""

    split: Split
    spec: PoseEstNetSpec
    settings: PoseSettings
    workers: int = 1

    def read(self, batches: Sequence[np.ndarray], draw: Draw | None = None) -> Iterator[Batch]:
        places = np.cumsum([0, *map(len, batches)]).tolist()

        def batch_from(number: int) -> Batch:
            indices = batches[number]
            rows = [
                self._sample(index, draw and draw.generator(index, place))
                for place, index in enumerate(indices.tolist(), start=places[number])
            ]
            image, *labels = (Tensor(np.stack(column)) for column in zip(*rows, strict=True))
            return Batch((image,), tuple(labels), indices)

        return prepared(batch_from, range(len(batches)), min(self.workers, usable_workers()))

    def _sample(self, index: int, rng: np.random.Generator | None) -> tuple[np.ndarray, ...]:
        record, size = self.split.records[index], self.spec.input_size
        pixels, keypoints = read_image(record.image), record.marked
        assert keypoints is not None
        transform = frame_transform(pixels.shape[1], pixels.shape[0], size)
        if rng is not None:
            pixels, keypoints, transform = augment_pose(pixels, keypoints, size, self.settings, rng)
        x = np.empty((3, *size), np.float32)
        write_framed(pixels, transform, x)
        places = keypoints[:, :2] @ transform[:, :2].T + transform[:, 2]
        return x, *draw_targets(np.column_stack((places, keypoints[:, 2])), size)


def validate(
    network: PoseEstNet, sources: Sequence[PoseSource], *, batch_size: int
) -> dict[str, float]:
    """PCK and NME in percent, in inference mode, without flip test; empty without sources."""
    if not sources:
        return {}
    estimates, sides = [], []
    for source in sources:
        for batch in source.read(in_order(len(source.split), batch_size)):
            peaks = find_peaks(network(*batch.inputs).asnumpy().astype(np.float32))
            for row, found in zip(batch.indices.tolist(), peaks, strict=True):
                height, width = open_picture(source.split.records[row].image).shape
                size = source.spec.input_size
                estimates.append(
                    NETWORK.keypoints_in_image(found, width=width, height=height, size=size)
                )
                sides.append(max(height, width))
    truth = [record.marked for source in sources for record in source.split.records]
    errors = KeypointErrors.of(np.stack(estimates), np.array(truth), np.array(sides))
    return errors.score()
