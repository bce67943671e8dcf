"""What a training works with: the network, its batches, and what trains on them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mindspore

from ..data.records import VehicleDataset, warn_of_unmatched
from ..hub.networks import create_from
from ..hub.source import WeightsSource
from ..models.multitasknet.network import MultiTaskNet
from ..vehicle.attributes import COLORS, TYPES, ClassMaps, Labelled
from .augmentation import RandomAugmentation
from .batches import ImageSource, Source
from .features import cached_features
from .loop import EpochTrainer
from .losses import LossWeights, MultiTaskLoss
from .optimization import create_optimizer, freeze
from .parallel import Devices
from .sampler import IdentitySampler
from .schedule import Schedule
from .settings import Settings
from .step import TrainingStep

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Parts:
    """All that a training needs beside its settings and its folder.

    Attributes:
        network: what is trained.
        class_maps: which raw id each of its classes stands for.
        forward: what is called with a batch's inputs: the network, or its head alone.
        evaluated: batches of query and gallery; empty where there are none.
        trainer: trains for an epoch.
    """

    network: MultiTaskNet
    class_maps: ClassMaps
    forward: Callable[..., Any]
    evaluated: tuple[Source, ...]
    trainer: EpochTrainer


def prepare(
    settings: Settings,
    dataset: VehicleDataset,
    output: Path,
    devices: Devices,
    weights: WeightsSource,
    *,
    workers: int,
    show: bool,
) -> Parts:
    """Create the network and all that trains it; features of a frozen backbone go to ``output``."""
    classes = class_maps(dataset.train.records)
    sampler = IdentitySampler(
        dataset.train.vehicle_ids,
        vehicles=settings.batch_size // settings.instances,
        images=settings.instances,
        seed=settings.seed,
        devices=devices.count,
    )
    network = _network(settings, classes, weights)
    mixed = _is_mixed(settings.precision)
    if mixed:
        # Converts the cells in place; names and float32 weights stay.
        mindspore.amp.auto_mixed_precision(network, "O2")
    freeze(network, settings.freeze)
    forward, sources = _sources(settings, dataset, network, classes, output, devices, workers, show)
    optimizer = create_optimizer(
        network, kind=settings.optimizer, weight_decay=settings.weight_decay
    )
    step = TrainingStep(
        forward,
        _loss(settings, devices),
        optimizer,
        clip=settings.clip,
        scaled=mixed,
        reducer=devices.reducer(optimizer.parameters),
    )
    schedule = Schedule(
        settings.lr,
        settings.epochs,
        kind=settings.schedule,
        warmup=settings.warmup,
        milestones=settings.milestones,
    )
    trainer = EpochTrainer(
        step,
        sources[0],
        sampler,
        schedule,
        backbone_rate=settings.backbone_rate,
        seed=settings.seed,
        devices=devices,
        show=show,
    )
    return Parts(network, classes, forward, tuple(sources[1:]), trainer)


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


def _is_mixed(precision: str) -> bool:
    on_cpu = mindspore.get_context("device_target") == "CPU"
    return precision == "mixed" or (precision == "auto" and not on_cpu)


def _network(settings: Settings, classes: ClassMaps, weights: WeightsSource) -> MultiTaskNet:
    asked: dict[str, Any] = {"variant": settings.variant, "num_ids": len(classes.vehicle_ids)}
    network = create_from(weights, **asked)
    spec = network.spec
    counts: dict[str, Any] = {
        "num_colors": len(classes.color_ids),
        "num_types": len(classes.type_ids),
    }
    found = {"num_colors": spec.num_colors, "num_types": spec.num_types}
    if spec.multi_task and counts != found:
        network = create_from(weights, **asked, **counts)
    if network.load_report:
        logger.info("%s", network.load_report)
    # From here on the weights are no longer those of a file.
    network.load_report = None
    network.spec = replace(
        network.spec,
        input_size=(settings.size, settings.size),
        color_names=classes.color_names if spec.multi_task else (),
        type_names=classes.type_names if spec.multi_task else (),
    )
    return network


def _loss(settings: Settings, devices: Devices) -> MultiTaskLoss:
    return MultiTaskLoss(
        LossWeights(1.0, settings.triplet_weight, settings.color_weight, settings.type_weight),
        smoothing=settings.smoothing,
        margin=settings.margin,
        devices=devices,
        gather=settings.gather,
    )


def _sources(
    settings: Settings,
    dataset: VehicleDataset,
    network: MultiTaskNet,
    classes: ClassMaps,
    output: Path,
    devices: Devices,
    workers: int,
    show: bool,
) -> tuple[Callable[..., Any], list[Source]]:
    """What is trained, and the batches for it: of train, and of query and gallery."""
    augmentation = RandomAugmentation(
        crop=settings.crop, flip=settings.flip, erase=settings.erase, jitter=settings.jitter
    )
    splits = [dataset.train]
    if len(dataset.query) and len(dataset.gallery):
        warn_of_unmatched(dataset)
        splits += [dataset.query, dataset.gallery]
    images = [ImageSource(split, network.spec, classes, augmentation, workers) for split in splits]
    if settings.freeze != "backbone":
        return network, list(images)
    mirrored = (settings.flip != "none", False, False)
    return network.head, [
        cached_features(
            network,
            source,
            output / f"features_{source.split.name}.npz",
            batch_size=settings.batch_size,
            mirrored=twice,
            show=show,
            keep=devices.is_first,
        )
        for source, twice in zip(images, mirrored, strict=False)
    ]
