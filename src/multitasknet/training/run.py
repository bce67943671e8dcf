"""One training: what it works with, its epochs, and what is kept of them, in which order."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import NoReturn, TypeAlias

import mindspore
import numpy as np
import psutil
from mindspore import nn

from ..interruption import Interrupted, stop_request
from ..models import find_network
from ..weights.sidecar import Sidecar, write_sidecar
from .history import EpochRecord, History, write_history
from .loop import EpochTrainer, mean_losses
from .optimization import Prefixes, create_optimizer, freeze, moving_statistics, set_training
from .reporting import write_training_report
from .schedule import Schedule
from .state import Progress, load_state, save_network, save_state
from .step import TrainingStep
from .task import Job, Parts, find_task

HISTORY = "history.json"
# The best weights by the task's metric, and the training's whole state; both with a sidecar.
BEST, LAST = "best.ckpt", "last.ckpt"

_Stopped: TypeAlias = Callable[[], bool]


@dataclass(eq=False)
class Run:
    """A training, from where its folder stands to the last epoch.

    Attributes:
        job: what was asked for.
        history: grows with every epoch.
        network: what is trained, but for parameters whose names begin as one of ``frozen`` does.
        parts: what the task trains it with.
        trainer: trains for an epoch.
    """

    job: Job
    history: History
    network: nn.Cell
    frozen: Prefixes
    parts: Parts
    trainer: EpochTrainer

    @classmethod
    def prepare(cls, job: Job, history: History) -> Run:
        """Create the network and all that trains it."""
        settings = job.settings
        task = find_task(settings)
        job = task.complete(job)
        # Early, since it may find that the data will not do.
        sampler = task.create_sampler(job)
        network = task.create_network(job)
        on_cpu = mindspore.get_context("device_target") == "CPU"
        mixed = settings.precision == "mixed" or (settings.precision == "auto" and not on_cpu)
        if mixed:
            # Converts the cells in place; names and float32 weights stay.
            mindspore.amp.auto_mixed_precision(network, "O2")
        prefixes = find_network(settings.network).frozen
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
            devices=job.devices,
            jit_level=settings.jit_level,
        )
        schedule = Schedule(
            settings.lr,
            settings.epochs,
            kind=settings.schedule,
            warmup=settings.warmup,
            milestones=settings.milestones,
        )
        trainer = EpochTrainer(job, step, parts.source, sampler, schedule, task.LOSSES)
        return cls(job, history, network, frozen, parts, trainer)

    def epochs(self, resume: bool) -> Iterator[EpochRecord]:
        """Train to the last epoch; each is kept before it is given."""
        with stop_request() as stopped:
            progress = self._start(stopped, resume)
            # An epoch that was written down, but not kept, runs once more.
            self.history = replace(self.history, epochs=self.history.epochs[: progress.epoch])
            while progress.epoch < self.job.settings.epochs:
                progress, record = self._epoch(progress, stopped)
                self.history = replace(self.history, epochs=(*self.history.epochs, record))
                if self.job.devices.is_first:
                    self._keep_epoch(record, progress)
                yield record

    def _start(self, stopped: _Stopped, resume: bool) -> Progress:
        last = self.job.output / LAST
        if resume and last.is_file():
            return load_state(last, self.network, self.trainer.step)
        self._write()
        self.history = replace(self.history, before=self._validate(stopped, Progress()))
        self._write()
        return Progress()

    def _epoch(self, progress: Progress, stopped: _Stopped) -> tuple[Progress, EpochRecord]:
        progress = self.train(progress, stopped)
        if progress.step < self.trainer.sampler.batches_per_epoch:
            self._stop(progress)
        number, settings = progress.epoch + 1, self.job.settings
        due = number % settings.evaluate_every == 0 or number == settings.epochs
        metrics = self._validate(stopped, progress) if due else {}
        return Progress(number), replace(self.record(progress), metrics=metrics)

    def train(self, progress: Progress, stopped: _Stopped) -> Progress:
        """Train to the epoch's end, or until that is stopped; nothing is kept."""
        settings = self.job.settings
        set_training(self.network, self.frozen, statistics=not settings.freeze_statistics)
        progress = self.trainer.run(progress, stopped)
        # Also before a stop is kept: all processes resume from the one state.
        self.job.devices.average(moving_statistics(self.network))
        return progress

    def record(self, progress: Progress) -> EpochRecord:
        """What a trained epoch came to, before it is validated."""
        steps = progress.step
        return EpochRecord(
            epoch=progress.epoch + 1,
            losses=mean_losses(progress),
            rate=self.trainer.schedule.at(progress.epoch + (steps - 1) / steps),
            skipped=progress.skipped,
            seconds=progress.seconds,
            images_per_second=steps * self.job.settings.batch_size / max(progress.seconds, 1e-9),
            memory_mb=psutil.Process().memory_info().rss / 2**20,
        )

    def _validate(self, stopped: _Stopped, progress: Progress) -> Mapping[str, float]:
        """The metrics that are defined; stops if that is asked for."""
        self.network.set_train(False)
        metrics = self.parts.validate(stopped)
        if self.job.devices.any(metrics is None):
            self._stop(progress)
        return {name: value for name, value in (metrics or {}).items() if not math.isnan(value)}

    def _stop(self, progress: Progress) -> NoReturn:
        # Before the first step there is nothing to keep: a resume starts afresh.
        if self.job.devices.is_first and progress != Progress():
            save_state(self.job.output / LAST, self.network, self.trainer.step, progress)
        output = self.job.output
        raise Interrupted(
            f"interrupted in epoch {progress.epoch + 1} of {self.job.settings.epochs}, the state "
            f"is kept in {output}; go on with: multitasknet finetune --data "
            f"{self.job.dataset.root} --output {output} --resume"
        )

    def _keep_epoch(self, record: EpochRecord, progress: Progress) -> None:
        """Keep all that the last epoch came to."""
        best, last = self.job.output / BEST, self.job.output / LAST
        origin = {
            "epoch": record.epoch,
            "data": str(self.job.dataset.root),
            "settings": self.history.settings,
            "versions": {"mindspore": mindspore.__version__, "numpy": np.__version__},
        }
        sidecar = Sidecar(self.network.spec, self.parts.class_maps, record.metrics, origin)
        if self.history.best is record:
            save_network(best, self.network)
            write_sidecar(best, sidecar)
        self._write()
        # Last of all: what a resume starts from must find all else in place.
        write_sidecar(last, sidecar)
        save_state(last, self.network, self.trainer.step, progress)

    def _write(self) -> None:
        """Write the history and its page."""
        output, data = self.job.output, self.job.dataset.root
        if self.job.devices.is_first:
            write_history(output / HISTORY, self.history)
            write_training_report(output / "report.html", self.history, data=data)
