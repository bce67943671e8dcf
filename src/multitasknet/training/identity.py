"""MultiTaskNet's :class:`~.task.Task`: to tell vehicles, their colours and types apart."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from ..data.records import warn_of_unmatched
from ..hub.networks import create_from
from ..models.multitasknet.network import MultiTaskNet
from ..vehicle.attributes import COLORS, TYPES, ClassMaps, Labelled
from .augmentation import RandomAugmentation
from .batches import ImageSource, Source
from .features import cached_features
from .losses import LossWeights, MultiTaskLoss
from .sampler import IdentitySampler
from .task import Job, Parts
from .validation import validate

logger = logging.getLogger(__name__)

LOSSES = ("identity", "triplet", "color", "type")
METRIC = "mAP"
HIGHER_IS_BETTER = True


def create_sampler(job: Job) -> IdentitySampler:
    """P x K batches; SamplerError if there are fewer vehicles than a batch takes."""
    return IdentitySampler(
        job.dataset.train.vehicle_ids,
        vehicles=job.settings.batch_size // job.settings.instances,
        images=job.settings.instances,
        seed=job.settings.seed,
        devices=job.devices.count,
    )


def create_network(job: Job) -> MultiTaskNet:
    """The network with a class for each vehicle, colour and type of the training images."""
    classes = class_maps(job.dataset.train.records)
    colors, types = len(classes.color_ids), len(classes.type_ids)
    create = partial(
        create_from,
        job.weights,
        variant=job.settings.variant,
        num_ids=len(classes.vehicle_ids),
    )
    network = create()
    spec = network.spec
    if spec.multi_task and (spec.num_colors, spec.num_types) != (colors, types):
        network = create(num_colors=colors, num_types=types)
    if network.load_report:
        logger.info("%s", network.load_report)
    # From here on the weights are no longer those of a file.
    network.load_report = None
    network.spec = replace(
        network.spec,
        input_size=(job.settings.size, job.settings.size),
        color_names=classes.color_names if spec.multi_task else (),
        type_names=classes.type_names if spec.multi_task else (),
    )
    return network


def prepare(job: Job, network: MultiTaskNet) -> Parts:
    """Loss, batches and validation; features of a frozen backbone are kept in ``job.output``."""
    settings, classes = job.settings, class_maps(job.dataset.train.records)
    forward, (train, *evaluated) = _sources(job, network, classes)
    loss = MultiTaskLoss(
        LossWeights(1.0, settings.triplet_weight, settings.color_weight, settings.type_weight),
        smoothing=settings.smoothing,
        margin=settings.margin,
        devices=job.devices,
        gather=settings.gather,
    )
    validated = partial(
        validate,
        forward,
        network.spec,
        job.dataset,
        evaluated,
        batch_size=settings.batch_size,
        show=job.show,
    )
    return Parts(forward, loss, train, validated, classes)


def class_maps(records: tuple[Labelled, ...]) -> ClassMaps:
    """The classes to train; ids of the published numbering keep it, so that loaded heads stay."""
    found = ClassMaps.of(records)
    return replace(
        found,
        color_ids=_published(found.color_ids, len(COLORS)),
        type_ids=_published(found.type_ids, len(TYPES)),
    )


def _published(ids: tuple[int, ...], count: int) -> tuple[int, ...]:
    published = tuple(range(1, count + 1))
    return published if set(ids) <= set(published) else ids


def _sources(
    job: Job, network: MultiTaskNet, classes: ClassMaps
) -> tuple[Callable[..., Any], list[Source]]:
    """What is trained, and the batches for it: of train, and of query and gallery if both exist."""
    settings = job.settings
    augmentation = RandomAugmentation(
        crop=settings.crop, flip=settings.flip, erase=settings.erase, jitter=settings.jitter
    )
    splits = [job.dataset.train]
    if len(job.dataset.query) and len(job.dataset.gallery):
        warn_of_unmatched(job.dataset)
        splits += [job.dataset.query, job.dataset.gallery]
    images = [
        ImageSource(split, network.spec, classes, augmentation, job.workers) for split in splits
    ]
    if settings.freeze != "backbone":
        return network, list(images)
    return network.head, [
        cached_features(
            network,
            source,
            job.output / f"features_{source.split.name}.npz",
            batch_size=settings.batch_size,
            mirrored=source is images[0] and settings.flip != "none",
            show=job.show,
            keep=job.devices.is_first,
        )
        for source in images
    ]
