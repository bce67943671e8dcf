"""MultiTaskNet's :class:`~.task.Task`: to tell vehicles, their colours and types apart."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from mindspore import Tensor
from tqdm import tqdm

from ..data.records import warn_about
from ..evaluation.run import evaluate_outputs
from ..hub.create_network import create_from
from ..inference.kept_poses import estimate_missing
from ..inference.pose_choice import open_pose_estimator
from ..models.multitasknet.network import MultiTaskNet
from ..models.multitasknet.preprocessing import channel_statistics
from ..models.multitasknet.spec import MultiTaskNetSpec
from ..retrieval.embedding import SplitEmbeddings
from ..vehicle.attributes import COLORS, TYPES, ClassMaps, Labelled
from ..weights.read import read_weights
from .augmentation import RandomAugmentation
from .batches import ImageSource, PixelScale, Source
from .features import cached_features
from .losses import LossWeights, MultiTaskLoss
from .sampler import IdentitySampler
from .task import Job, Parts

logger = logging.getLogger(__name__)

LOSSES = ("identity", "triplet", "color", "type")
METRIC = "mAP"
HIGHER_IS_BETTER = True


def complete(job: Job) -> Job:
    """The job, with estimated poses for the images without keypoints, see the setting ``pose``."""
    dataset, weights = job.dataset, job.weights
    if all(record.keypoints is not None for split in dataset.splits for record in split.records):
        return job
    estimator = open_pose_estimator(
        job.settings.pose,
        cache_dir=weights.cache_dir,
        offline=weights.offline,
        progress=weights.progress,
        hidden="published" if _pose_convention(job) == "published" else None,
    )
    fill = partial(estimate_missing, estimator=estimator, folder=dataset.root, progress=job.show)
    # The first process estimates; the others wait, and find what it has kept.
    for turn in (job.devices.is_first, not job.devices.is_first):
        if turn:
            train, query, gallery = map(fill, (dataset.train, dataset.query, dataset.gallery))
            dataset = replace(dataset, train=train, query=query, gallery=gallery)
        job.devices.any(False)
    return replace(job, dataset=dataset)


def _pose_convention(job: Job) -> str:
    """What the network's poses are to mean: as the settings say, else as its weights know them."""
    if job.settings.pose_convention:
        return job.settings.pose_convention
    path = job.weights.fetch(MultiTaskNetSpec.network)
    return (read_weights(path).spec if path else MultiTaskNetSpec()).pose_convention


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
        pose_convention=job.settings.pose_convention or spec.pose_convention,
    )
    return network


def prepare(job: Job, network: MultiTaskNet) -> Parts:
    """Loss, batches and validation; features of a frozen backbone are kept in ``job.output``."""
    classes = class_maps(job.dataset.train.records)
    forward, (train, *evaluated) = create_sources(job, network, classes)
    check = partial(validate, job, forward, network.spec, evaluated)
    return Parts(forward, create_loss(job), train, check, classes)


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


def create_sources(
    job: Job, network: MultiTaskNet, classes: ClassMaps
) -> tuple[Callable[..., Any], list[Source]]:
    """What is trained, and the batches for it: of train, and of query and gallery if both exist."""
    settings = job.settings
    augmentation = RandomAugmentation(
        crop=settings.crop, flip=settings.flip, erase=settings.erase, jitter=settings.jitter
    )
    splits = [job.dataset.train]
    if len(job.dataset.query) and len(job.dataset.gallery):
        warn_about(job.dataset)
        splits += [job.dataset.query, job.dataset.gallery]
    scale = PixelScale.for_device(*channel_statistics(network.spec.channels))
    images = [
        ImageSource(split, network.spec, classes, augmentation, job.workers, scale)
        for split in splits
    ]
    if settings.freeze != "backbone":
        return network, list(images)
    return network.head, [
        cached_features(
            job, network, one, mirrored=one is images[0] and augmentation.flip != "none"
        )
        for one in images
    ]


def validate(
    job: Job,
    forward: Callable[..., tuple[Tensor, ...]],
    spec: MultiTaskNetSpec,
    sources: Sequence[Source],
    stopped: Callable[[], bool],
) -> dict[str, float] | None:
    """Rank the gallery for the queries, and count right colours and types.

    Each device computes its share of the images, and has the metrics of all.

    Args:
        job: the data set, and how many images are computed at a time.
        forward: called with a batch's inputs in inference mode, returns what a MultiTaskNet does.
        spec: the network.
        sources: the batches of query and gallery, or none.
        stopped: asked between batches.

    Returns:
        What :attr:`.evaluation.results.Evaluation.metrics` is, in percent; empty without sources,
        None if stopped.
    """
    if not sources:
        return {}
    devices, outputs = job.devices, []
    for source in sources:
        found = _outputs(job, forward, source, stopped)
        if devices.any(found is None):
            return None
        assert found is not None
        outputs.append([devices.joined(column, len(source.split)) for column in found])
    splits = (_embeddings(source, rows) for source, rows in zip(sources, outputs, strict=True))
    return evaluate_outputs(spec, job.dataset, *splits).metrics


def _outputs(
    job: Job,
    forward: Callable[..., tuple[Tensor, ...]],
    source: Source,
    stopped: Callable[[], bool],
) -> list[np.ndarray] | None:
    """The outputs for this device's share of a split, float32; None if stopped."""
    share, rows = job.devices.share(len(source.split)), []
    hidden = None if job.show else True
    name = f"evaluation, {source.split.name}"
    with tqdm(total=len(share), desc=name, unit="image", disable=hidden) as bar:
        for batch in source.plain(job.settings.batch_size, share):
            if stopped():
                return None
            rows.append([one.asnumpy().astype(np.float32) for one in forward(*batch.inputs)])
            bar.update(len(batch.indices))
    return [np.concatenate(column) for column in zip(*rows, strict=True)]


def _embeddings(source: Source, outputs: list[np.ndarray]) -> SplitEmbeddings:
    none = np.full(len(source.split), -1)
    colors, types = (
        (logits.argmax(axis=1) for logits in outputs[1:3]) if outputs[3:] else (none,) * 2
    )
    names = np.array([str(record.image) for record in source.split.records])
    return SplitEmbeddings(names, outputs[-1], colors, types)
