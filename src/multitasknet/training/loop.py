"""A training: what it works with, its epochs, and what is kept of them, in which order.

After every epoch ``last.ckpt`` has the whole state, so that a resumed training equals one that was
never stopped, on a CPU to the last bit: all random numbers follow from the seed and the epoch.
"""

from __future__ import annotations

import hashlib
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, ClassVar

import mindspore
import numpy as np
import psutil
from mindspore import Parameter, Tensor, nn
from tqdm import tqdm

from ..data.records import VehicleDataset
from ..errors import TrainingError
from ..files import file_sha256
from ..hub.source import WeightsSource
from ..models import find_network
from ..vehicle.attributes import ClassMaps
from ..weights.save import save_weights, write_checkpoint
from ..weights.sidecar import Sidecar, write_sidecar
from .batches import Batch, Draw, Source
from .history import EpochRecord, History, write_history
from .optimization import (
    Prefixes,
    Schedule,
    create_optimizer,
    freeze,
    moving_statistics,
    set_training,
    without_remarks,
)
from .parallel import Devices
from .report import write_training_report
from .sampler import Sampler
from .settings import Settings
from .step import StepResult, TrainingStep

HISTORY, REPORT = "history.json", "report.html"
# The best weights by the task's metric, and the training's whole state; both with a sidecar.
BEST, LAST = "best.ckpt", "last.ckpt"
# In the state: how many epochs are done.
_EPOCH = "epoch"
# A loss of this size never comes back to anything good.
_EXPLODED = 1e4
_NAMED = 8


@dataclass(frozen=True, eq=False)
class Job:
    """A training as it was asked for.

    Attributes:
        settings: of the class that belongs to the network.
        show: draw progress bars on a terminal.
    """

    settings: Any
    dataset: VehicleDataset
    output: Path
    weights: WeightsSource
    devices: Devices = field(default_factory=Devices)
    workers: int = 1
    show: bool = False


@dataclass(frozen=True, eq=False)
class Parts:
    """What a task trains a network with.

    Attributes:
        forward: called with a batch's inputs: the network, or a part of it.
        loss: a Cell of its outputs and then the batch's labels; returns the total, a float32
            scalar, and the unweighted parts, float32 ``[L]``.
        source: the training images.
        validate: the metrics of the network, which is in inference mode; empty where the data set
            has nothing to validate on. All processes call it, and may share the work.
        class_maps: which raw id each class is, for the sidecar.
    """

    forward: Callable[..., Any]
    loss: nn.Cell
    source: Source
    validate: Callable[[], Mapping[str, float]] = dict
    class_maps: ClassMaps = field(default_factory=lambda: ClassMaps((), (), ()))


class Task(ABC):
    """What differs between the trainings of two networks; its methods are called in this order.

    Attributes:
        losses: names of the loss's parts; a network without the last ones leaves them out.
        metric: which of the metrics decides what the best weights are.
        higher_is_better: whether its highest value does, or its lowest.
    """

    losses: ClassVar[tuple[str, ...]]
    metric: ClassVar[str]
    higher_is_better: ClassVar[bool] = True

    def __init__(self, job: Job) -> None:
        self.job = job

    @abstractmethod
    def create_sampler(self) -> Sampler:
        """What draws the batches; TrainingError if the data set cannot be trained on."""

    @abstractmethod
    def create_network(self) -> nn.Cell:
        """The network with its first weights, and a ``spec`` that holds the input size."""

    @abstractmethod
    def prepare(self, network: nn.Cell) -> Parts:
        """All else, for the network as it will be trained: frozen and in its precision."""


def find_task(settings: Settings) -> type[Task]:
    """The task that trains by settings of this class."""
    return resolve_name(settings.TASK)


def data_digest(dataset: VehicleDataset) -> str:
    """A hash of all labels and pictures; their folder does not count."""
    digest = hashlib.sha256()
    with ThreadPoolExecutor() as pool:
        for split in dataset.splits:
            contents = pool.map(file_sha256, [record.image for record in split.records])
            for record, content in zip(split.records, contents, strict=True):
                ids = record.vehicle_id, record.camera_id, record.color_id, record.type_id
                digest.update(repr((split.name, record.image.name, content, ids)).encode())
                if record.keypoints is not None:
                    digest.update(np.ascontiguousarray(record.keypoints, np.float32).tobytes())
    return digest.hexdigest()


@dataclass(eq=False)
class Run:
    """A training, from what its folder holds to the last epoch.

    Attributes:
        task: what is trained, and what was asked for.
        history: grows with every epoch.
        network: what is trained, but for parameters whose names begin as one of ``frozen`` does.
        parts: what the task trains it with.
    """

    task: Task
    history: History
    network: nn.Cell
    frozen: Prefixes
    parts: Parts
    step: TrainingStep
    sampler: Sampler
    schedule: Schedule

    @classmethod
    def prepare(cls, task: Task, history: History) -> Run:
        """Create the network and all that trains it."""
        settings, devices = task.job.settings, task.job.devices
        # Early, since it may find that the data will not do.
        sampler = task.create_sampler()
        network = task.create_network()
        on_cpu = mindspore.get_context("device_target") == "CPU"
        mixed = settings.precision == "mixed" or (settings.precision == "auto" and not on_cpu)
        if mixed:
            # Converts the cells in place; names and float32 weights stay.
            mindspore.amp.auto_mixed_precision(network, "O2")
        prefixes = find_network(settings.network).frozen
        frozen = prefixes[settings.freeze]
        freeze(network, frozen)
        parts = task.prepare(network)
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
            devices=devices,
            jit_level=settings.jit_level,
        )
        schedule = Schedule(
            settings.lr,
            settings.epochs,
            kind=settings.schedule,
            warmup=settings.warmup,
            milestones=settings.milestones,
        )
        return cls(task, history, network, frozen, parts, step, sampler, schedule)

    def epochs(self) -> Iterator[EpochRecord]:
        """Train to the last epoch; each is kept before it is given."""
        settings, last = self.task.job.settings, self.task.job.output / LAST
        done = load_state(last, self.network, self.step) if last.is_file() else self._begin()
        # An epoch that was written down, but whose state was not kept, runs once more.
        self.history = replace(self.history, epochs=self.history.epochs[:done])
        for number in range(done + 1, settings.epochs + 1):
            record = self.train(number - 1)
            if number % settings.evaluate_every == 0 or number == settings.epochs:
                record = replace(record, metrics=self._validate())
            self.history = replace(self.history, epochs=(*self.history.epochs, record))
            self._keep(record)
            yield record

    def train(self, epoch: int) -> EpochRecord:
        """Train for one epoch, from 0; nothing is kept, and nothing validated.

        Raises:
            TrainingError: the loss or a gradient is not finite, or the loss has exploded.
        """
        job = self.task.job
        set_training(self.network, self.frozen, statistics=not job.settings.freeze_statistics)
        batches = self.sampler.epoch(epoch, job.devices.rank)
        source = self.parts.source.training(
            batches, Draw(job.settings.seed, epoch, job.devices.rank)
        )
        bar = tqdm(
            total=len(batches),
            desc=f"epoch {epoch + 1}/{self.schedule.epochs}",
            unit="batch",
            disable=None if job.show else True,
        )
        sums: dict[str, np.float32] = {}
        skipped, seconds = 0, 0.0
        with bar, without_remarks():
            for number in range(len(batches)):
                started = time.perf_counter()
                result = self._train(next(source), epoch, number, len(batches))
                seconds += time.perf_counter() - started
                skipped += not result.updated
                losses = zip(self.task.losses, result.parts, strict=False)
                for name, value in (("total", result.total), *losses):
                    sums[name] = sums.get(name, np.float32(0)) + np.float32(value)
                bar.set_postfix(loss=f"{result.total:.3f}", refresh=False)
                bar.update()
        # All processes go on from the one state.
        job.devices.average(moving_statistics(self.network))
        return EpochRecord(
            epoch=epoch + 1,
            losses={name: float(value) / len(batches) for name, value in sums.items()},
            rate=self.schedule.at(epoch + (len(batches) - 1) / len(batches)),
            skipped=skipped,
            seconds=seconds,
            images_per_second=batches.size / max(seconds, 1e-9),
            memory_mb=memory_mb(),
        )

    def _train(self, batch: Batch, epoch: int, number: int, batches: int) -> StepResult:
        self.step.set_rate(self.schedule.at(epoch + number / batches))
        result = self.step(batch.inputs, batch.labels)
        problem = ""
        if not math.isfinite(result.total) or result.total > _EXPLODED:
            problem = f"the loss is {result.total:g}"
        elif result.is_hopeless:
            problem = "a gradient is not finite"
        if not problem:
            return result
        names = [str(self.parts.source.split.records[index].image) for index in batch.indices]
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        raise TrainingError(
            f"epoch {epoch + 1}, batch {number + 1}: {problem}; the batch is "
            f"{', '.join(names[:_NAMED])}{more}. Look at these images and labels, or use a smaller "
            f"learning rate or a longer warm-up; the last epoch's state is kept"
        )

    def _begin(self) -> int:
        """Measure the weights as they are, which are the best so far."""
        self._write()
        self.history = replace(self.history, before=self._validate())
        if self.task.metric in self.history.before:
            self._save(BEST, 0, self.history.before)
        self._write()
        return 0

    def _validate(self) -> dict[str, float]:
        """The metrics that are defined."""
        self.network.set_train(False)
        metrics = self.parts.validate()
        return {name: value for name, value in metrics.items() if not math.isnan(value)}

    def _keep(self, record: EpochRecord) -> None:
        """Keep all that an epoch came to."""
        if self.history.best is record:
            self._save(BEST, record.epoch, record.metrics)
        self._write()
        # Last of all: what a resume starts from must find all else in place.
        self._save(LAST, record.epoch, record.metrics)

    def _save(self, name: str, epoch: int, metrics: Mapping[str, float]) -> None:
        job = self.task.job
        if not job.devices.is_first:
            return
        origin = {
            "epoch": epoch,
            "data": str(job.dataset.root),
            "settings": self.history.settings,
            "versions": versions(),
        }
        path, classes = job.output / name, self.parts.class_maps
        if name == BEST:
            save_weights(self.network, path, class_maps=classes, metrics=metrics, origin=origin)
            return
        write_sidecar(path, Sidecar(self.network.spec, classes, metrics, origin))
        save_state(path, self.network, self.step, epoch)

    def _write(self) -> None:
        """Write the history and its page."""
        job = self.task.job
        if job.devices.is_first:
            write_history(job.output / HISTORY, self.history)
            write_training_report(job.output / REPORT, self.history, data=job.dataset.root)


def save_state(path: Path, network: nn.Cell, step: TrainingStep, epoch: int) -> None:
    """Write weights, optimizer and the number of finished epochs, all that a resume needs."""
    write_checkpoint(path, _parameters(network, step) | {_EPOCH: Tensor(np.int32(epoch))})


def load_state(path: Path, network: nn.Cell, step: TrainingStep) -> int:
    """Put back what :func:`save_state` wrote, and return how many epochs are finished.

    Raises:
        TrainingError: the file is damaged, or another training's; nothing has changed then.
    """
    remedy = "give the output folder of an earlier run, or start again in another folder"
    try:
        stored = mindspore.load_checkpoint(str(path))
    # MindSpore reports a missing or damaged file in several ways.
    except Exception as error:
        raise TrainingError(
            f"{path}: the training's state cannot be read ({error}); {remedy}"
        ) from error
    parameters = _parameters(network, step)
    for name in (_EPOCH, *parameters):
        if name not in stored:
            raise TrainingError(f"{path}: it has no {name!r}, so it is no state of this training")
    for name, parameter in parameters.items():
        if stored[name].shape != parameter.shape:
            raise TrainingError(
                f"{path}: {name} is {list(stored[name].shape)}, but this training's is "
                f"{list(parameter.shape)}: it is the state of another training; {remedy}"
            )
    for name, parameter in parameters.items():
        parameter.set_data(Tensor(stored[name].asnumpy()))
    return int(stored[_EPOCH].asnumpy().item())


def _parameters(network: nn.Cell, step: TrainingStep) -> dict[str, Parameter]:
    return {parameter.name: parameter for parameter in (*network.get_parameters(), *step.state)}


def memory_mb() -> float:
    """What this process holds of the host's memory."""
    return psutil.Process().memory_info().rss / 2**20


def versions() -> dict[str, str]:
    """Of the libraries that computed."""
    return {"mindspore": mindspore.__version__, "numpy": np.__version__}
