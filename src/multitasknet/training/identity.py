"""MultiTaskNet's :class:`~.loop.Task`: to recognise vehicles, their colours and types."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from mindspore import Tensor, nn
from tqdm import tqdm

from ..data.records import Split, warn_about
from ..evaluation.embedding import Embeddings
from ..evaluation.run import evaluate_outputs
from ..hub.create_network import create_from
from ..inference.pose import PoseEstimator, open_pose_estimator
from ..models.multitasknet.network import MultiTaskNet
from ..models.multitasknet.preprocessing import channel_statistics
from ..models.multitasknet.spec import MultiTaskNetSpec
from ..vehicle.attributes import COLORS, TYPES, ClassMaps
from .augmentation import RandomAugmentation
from .batches import FeatureSource, ImageSource, PixelScale, Source
from .loop import Job, Parts, Task
from .losses import LossWeights, MultiTaskLoss
from .sampler import IdentitySampler

logger = logging.getLogger(__name__)

# Images whose poses are estimated at once, between two steps of the progress bar.
_POSES = 256


class IdentityTask(Task):
    """Trains on vehicle, colour and type; validated by ranking the gallery for the queries."""

    losses = ("identity", "triplet", "color", "type")
    metric = "mAP"

    def __init__(self, job: Job) -> None:
        super().__init__(with_poses(job))

    def create_sampler(self) -> IdentitySampler:
        """P x K batches; TrainingError if there are fewer vehicles than a batch takes."""
        settings = self.job.settings
        return IdentitySampler(
            self.job.dataset.train.vehicle_ids,
            vehicles=settings.batch_size // settings.instances,
            images=settings.instances,
            seed=settings.seed,
            devices=self.job.devices.count,
        )

    def create_network(self) -> MultiTaskNet:
        """The network with a class for each vehicle, and for each colour and type."""
        job, settings = self.job, self.job.settings
        vehicles = len(np.unique(job.dataset.train.vehicle_ids))
        create = partial(create_from, job.weights, variant=settings.variant, num_ids=vehicles)
        network = create()
        spec = network.spec
        classes = self.classes = trained_classes(spec, job.dataset.train)
        colors, types = len(classes.color_ids), len(classes.type_ids)
        if spec.multi_task and (spec.num_colors, spec.num_types) != (colors, types):
            network = create(num_colors=colors, num_types=types)
        if network.load_report:
            logger.info("%s", network.load_report)
        # From here on the weights are no longer those of a file.
        network.load_report = None
        network.spec = replace(
            network.spec,
            input_size=(settings.size, settings.size),
            color_names=classes.color_names if spec.multi_task else (),
            type_names=classes.type_names if spec.multi_task else (),
            pose_convention=settings.pose_convention or spec.pose_convention,
        )
        return network

    def prepare(self, network: MultiTaskNet) -> Parts:
        """Loss, batches and validation; features of a frozen backbone are computed here."""
        splits = [self.job.dataset.train]
        if len(self.job.dataset.query) and len(self.job.dataset.gallery):
            warn_about(self.job.dataset)
            splits += [self.job.dataset.query, self.job.dataset.gallery]
        forward, (train, *evaluated) = create_sources(self.job, network, self.classes, splits)
        check = partial(validate, self.job, forward, network.spec, evaluated)
        return Parts(forward, create_loss(self.job), train, check, self.classes)


def with_poses(job: Job) -> Job:
    """The job, with estimated poses for the images without keypoints, see the setting ``pose``."""
    dataset, weights = job.dataset, job.weights
    if all(record.keypoints is not None for split in dataset.splits for record in split.records):
        return job
    convention = job.settings.pose_convention
    if convention is None:
        file = weights.file(MultiTaskNetSpec.network)
        convention = (file.read().spec if file else MultiTaskNetSpec()).pose_convention
    estimator = open_pose_estimator(
        job.settings.pose,
        cache_dir=weights.cache_dir,
        offline=weights.offline,
        progress=weights.progress,
        hidden="published" if convention == "published" else None,
    )
    if estimator is None:
        return job
    splits = (dataset.train, dataset.query, dataset.gallery)
    train, query, gallery = (_with_estimates(job, split, estimator) for split in splits)
    return replace(job, dataset=replace(dataset, train=train, query=query, gallery=gallery))


def _with_estimates(job: Job, split: Split, estimator: PoseEstimator) -> Split:
    """The split with keypoints for the records that have none; each device finds its share."""
    records = list(split.records)
    missing = [row for row, record in enumerate(records) if record.keypoints is None]
    if not missing:
        return split
    images = [records[missing[place]].image for place in job.devices.share(len(missing))]
    found: list[np.ndarray] = []
    hidden = None if job.show else True
    with tqdm(total=len(images), desc=f"pose {split.name}", unit="image", disable=hidden) as bar:
        while len(found) < len(images):
            poses = estimator.estimate(images[len(found) : len(found) + _POSES])
            found += [pose.keypoints for pose in poses]
            bar.update(len(poses))
    for row, keypoints in zip(
        missing, job.devices.joined(np.stack(found), len(missing)), strict=True
    ):
        records[row] = replace(records[row], keypoints=keypoints, estimated=True)
    return replace(split, records=tuple(records))


def trained_classes(spec: MultiTaskNetSpec, train: Split) -> ClassMaps:
    """The classes to train: of colours and types those of the weights, so that their heads stay.

    Where the data have others, the published numbering, or else the data's own.
    """
    found, known = ClassMaps.of(train.records), spec.class_maps
    return replace(
        found,
        color_ids=_covering(found.color_ids, known.color_ids, len(COLORS)),
        type_ids=_covering(found.type_ids, known.type_ids, len(TYPES)),
    )


def _covering(found: tuple[int, ...], known: tuple[int, ...], published: int) -> tuple[int, ...]:
    """The first that has all ids that were found: known ones, those published, or the found."""
    choices = (known, tuple(range(1, published + 1)))
    return next((one for one in choices if one and set(found) <= set(one)), found)


def create_loss(job: Job) -> MultiTaskLoss:
    """The loss that the settings ask for."""
    settings = job.settings
    return MultiTaskLoss(
        LossWeights(1.0, settings.triplet_weight, settings.color_weight, settings.type_weight),
        smoothing=settings.smoothing,
        margin=settings.margin,
        devices=job.devices,
        gather=settings.gather,
    )


def create_sources(
    job: Job, network: MultiTaskNet, classes: ClassMaps, splits: Sequence[Split]
) -> tuple[Callable[..., Any], list[Source]]:
    """What is trained, and the batches for it, of each split; the first is that to train on."""
    settings = job.settings
    augmentation = RandomAugmentation(
        crop=settings.crop, flip=settings.flip, erase=settings.erase, jitter=settings.jitter
    )
    scale = PixelScale.for_device(*channel_statistics(network.spec.channels))
    images = [
        ImageSource(split, network.spec, classes, augmentation, job.workers, scale)
        for split in splits
    ]
    if settings.freeze != "backbone":
        return network, list(images)
    return network.head, [
        FeatureSource.of(
            network,
            one,
            size=settings.batch_size,
            mirrored=one is images[0] and settings.flip != "none",
            show=job.show,
        )
        for one in images
    ]


def validate(
    job: Job,
    forward: Callable[..., tuple[Tensor, ...]] | nn.Cell,
    spec: MultiTaskNetSpec,
    sources: Sequence[Source],
) -> dict[str, float]:
    """Rank the gallery for the queries, and count right colours and types.

    Each device computes its share of the images, and has the metrics of all.

    Args:
        job: the data set, and how many images are computed at a time.
        forward: called with a batch's inputs in inference mode, returns what a MultiTaskNet does.
        spec: the network.
        sources: the batches of query and gallery, or none.

    Returns:
        What :attr:`.evaluation.results.Evaluation.metrics` is, in percent; empty without sources.
    """
    if not sources:
        return {}
    splits = [_outputs(job, forward, source) for source in sources]
    return evaluate_outputs(spec, job.dataset, *splits).metrics


def _outputs(
    job: Job, forward: Callable[..., tuple[Tensor, ...]] | nn.Cell, source: Source
) -> Embeddings:
    """What the network makes of a split; this device computes its share."""
    share, rows = job.devices.share(len(source.split)), []
    hidden = None if job.show else True
    name = f"evaluation, {source.split.name}"
    with tqdm(total=len(share), desc=name, unit="image", disable=hidden) as bar:
        for batch in source.plain(job.settings.batch_size, share):
            rows.append([one.asnumpy().astype(np.float32) for one in forward(*batch.inputs)])
            bar.update(len(batch.indices))
    shares = [np.concatenate(column) for column in zip(*rows, strict=True)]
    outputs = [job.devices.joined(column, len(source.split)) for column in shares]
    none = np.full(len(source.split), -1)
    colors, types = (
        (logits.argmax(axis=1) for logits in outputs[1:3]) if outputs[3:] else (none,) * 2
    )
    return Embeddings(outputs[-1], colors, types)
