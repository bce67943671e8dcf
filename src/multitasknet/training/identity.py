"""How an embedding network is trained: to recognise vehicles, their colours and types."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from mindspore import Tensor, nn
from tqdm import tqdm

from ..data.records import Split, VehicleDataset, warn_about
from ..evaluation.embedding import Embeddings
from ..evaluation.run import evaluate_outputs
from ..inference.pose import PoseEstimator, open_pose_estimator
from ..models import find_network
from ..models.embedding import EmbeddingSpec
from ..vehicle.attributes import ClassMaps
from .batches import FeatureSource, IdentitySampler, ImageSource, Source, in_order
from .loop import Job, Task, open_network
from .losses import MultiTaskLoss


def prepare(job: Job) -> Task:
    """Trains on vehicle, colour and type; validated by ranking the gallery for the queries."""
    sampler = create_sampler(job)
    network, classes = create_network(job)
    if network.spec.uses_pose:
        job = replace(job, dataset=with_poses(job))
    held_out = [job.dataset.query, job.dataset.gallery]
    if not all(map(len, held_out)):
        held_out = []
    else:
        warn_about(job.dataset)
    return create_task(job, sampler, network, classes, held_out)


def create_sampler(job: Job) -> IdentitySampler:
    """P x K batches; TrainingError if there are fewer vehicles than a batch takes."""
    settings = job.settings
    return IdentitySampler(
        job.dataset.train.vehicle_ids,
        vehicles=settings.batch_size // settings.instances,
        images=settings.instances,
        seed=settings.seed,
        devices=job.devices.count,
    )


def create_network(job: Job) -> tuple[nn.Cell, ClassMaps]:
    """The network with a class for each vehicle, colour and type, and which raw ids these are."""
    train, options = job.dataset.train, job.settings.network_options
    options = {**options, "num_ids": len(np.unique(train.vehicle_ids))}
    spec = find_network(job.settings.network).plan(job.weights, options).spec
    known = job.weights.class_maps if job.weights else spec.class_maps
    classes = trained_classes(known, train)
    if not spec.has_attributes:
        return open_network(job, **options), classes
    counts = {"num_colors": len(classes.color_ids), "num_types": len(classes.type_ids)}
    network = open_network(job, **options, **counts)
    if classes.color_ids != known.color_ids:
        network.spec = replace(network.spec, color_names=classes.color_names)
    if classes.type_ids != known.type_ids:
        network.spec = replace(network.spec, type_names=classes.type_names)
    return network, classes


def trained_classes(known: ClassMaps, train: Split) -> ClassMaps:
    """The classes to train: of colours and types those that the weights know, so that their heads
    stay; the data's own where the weights lack some.
    """
    found = ClassMaps.of(train.records)
    if set(found.color_ids) <= set(known.color_ids):
        found = replace(found, color_ids=known.color_ids)
    if set(found.type_ids) <= set(known.type_ids):
        found = replace(found, type_ids=known.type_ids)
    return found


def with_poses(job: Job) -> VehicleDataset:
    """The data set with estimated poses for images without keypoints, see the setting ``pose``."""
    dataset, source, settings = job.dataset, job.source, job.settings
    if all(record.keypoints is not None for split in dataset.splits for record in split.records):
        return dataset
    estimator = open_pose_estimator(
        settings.pose,
        convention=settings.pose_convention,
        cache_dir=source.cache_dir,
        offline=source.offline,
        progress=source.progress,
    )
    if estimator is None:
        return dataset
    splits = (with_estimates(split, estimator, job.show) for split in dataset.splits)
    found: dict[str, Any] = {split.name: split for split in splits}
    return replace(dataset, **found)


def with_estimates(split: Split, estimator: PoseEstimator, show: bool) -> Split:
    """The split with keypoints for the records that have none."""
    records = list(split.records)
    missing = [row for row, record in enumerate(records) if record.keypoints is None]
    shots = estimator.stream([records[row] for row in missing])
    hidden = None if show and missing else True
    for shot in tqdm(shots, f"pose {split.name}", len(missing), unit="image", disable=hidden):
        row = missing[shot.index]
        records[row] = replace(records[row], keypoints=shot.pose.keypoints, estimated=True)
    return replace(split, records=tuple(records))


def create_task(
    job: Job,
    sampler: IdentitySampler,
    network: nn.Cell,
    classes: ClassMaps,
    held_out: Sequence[Split] = (),
) -> Task:
    """Loss, batches and validation on some splits; features of a frozen backbone are computed."""
    settings, forward = job.settings, network
    images = [
        ImageSource(split, network.spec, classes, settings, job.workers)
        for split in (job.dataset.train, *held_out)
    ]
    sources: list[Source] = list(images)
    if settings.freeze == "backbone":
        forward = network.heads
        sources = [
            FeatureSource.of(network, one, mirrored=one is images[0], show=job.show)
            for one in images
        ]
    weights = 1.0, settings.triplet_weight, settings.color_weight, settings.type_weight
    return Task(
        network,
        sampler,
        sources[0],
        MultiTaskLoss(weights, smoothing=settings.smoothing, margin=settings.margin),
        losses=("identity", "triplet", "color", "type"),
        metric="mAP",
        validate=partial(validate, job, forward, network.spec, sources[1:]),
        forward=forward,
        class_maps=classes,
    )


def validate(
    job: Job,
    forward: Callable[..., tuple[Tensor, ...]],
    spec: EmbeddingSpec,
    sources: Sequence[Source],
) -> dict[str, float]:
    """The metrics of an evaluation in percent, of query and then gallery; empty without sources.

    ``forward`` returns the network's outputs for a batch's inputs.
    """
    if not sources:
        return {}
    rows, images = [], sum(len(source.split) for source in sources)
    hidden = None if job.show else True
    with tqdm(total=images, desc="evaluation", unit="image", disable=hidden) as bar:
        for source in sources:
            for batch in source.read(in_order(len(source.split), job.settings.batch_size)):
                rows.append([one.asnumpy().astype(np.float32) for one in forward(*batch.inputs)])
                bar.update(len(batch.indices))
    outputs = [np.concatenate(column) for column in zip(*rows, strict=True)]
    classes = [logits.argmax(axis=1) for logits in outputs[1:3]]
    colors, types = classes if outputs[3:] else [np.full(images, -1)] * 2
    answers = Embeddings(outputs[-1], colors, types)
    return evaluate_outputs(spec, job.dataset, answers).metrics
