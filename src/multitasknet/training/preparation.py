"""What a training works with: the network, its batches, and what trains on them."""

from __future__ import annotations

from dataclasses import dataclass

import mindspore
from mindspore import nn

from ..models import find_network
from .loop import EpochTrainer
from .optimization import Prefixes, create_optimizer, freeze
from .schedule import Schedule
from .step import TrainingStep
from .task import Job, Parts, find_task


@dataclass(frozen=True, eq=False)
class Training:
    """All that an epoch needs.

    Attributes:
        network: what is trained.
        frozen: how the names of its parameters begin that are held fixed.
        parts: what the task made of the job.
        trainer: trains for an epoch.
    """

    network: nn.Cell
    frozen: Prefixes
    parts: Parts
    trainer: EpochTrainer


def prepare(job: Job) -> Training:
    """Create the network and all that trains it."""
    settings = job.settings
    task = find_task(settings)
    # First, since it may find that the data will not do.
    sampler = task.create_sampler(job)
    network = task.create_network(job)
    mixed = _is_mixed(settings.precision)
    if mixed:
        # Converts the cells in place; names and float32 weights stay.
        mindspore.amp.auto_mixed_precision(network, "O2")
    prefixes = find_network(settings.network).FROZEN
    frozen = prefixes[settings.freeze]
    freeze(network, frozen)
    parts = task.prepare(job, network)
    optimizer = create_optimizer(
        network,
        kind=settings.optimizer,
        weight_decay=settings.weight_decay,
        backbone=prefixes["backbone"],
        backbone_rate=settings.backbone_rate,
    )
    step = TrainingStep(
        parts.forward,
        parts.loss,
        optimizer,
        clip=settings.clip,
        scaled=mixed,
        reducer=job.devices.reducer(optimizer.parameters),
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
        parts.source,
        sampler,
        schedule,
        losses=task.LOSSES,
        seed=settings.seed,
        devices=job.devices,
        show=job.show,
    )
    return Training(network, frozen, parts, trainer)


def _is_mixed(precision: str) -> bool:
    on_cpu = mindspore.get_context("device_target") == "CPU"
    return precision == "mixed" or (precision == "auto" and not on_cpu)
