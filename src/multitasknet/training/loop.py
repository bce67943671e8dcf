"""A training: what it works with, its epochs, and what is kept of them, in which order.

After every epoch ``last.ckpt`` has the whole state, so that a resumed training equals one that was
never stopped, on a CPU to the last bit: all random numbers follow from the seed and the epoch.
"""

from __future__ import annotations

import hashlib
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import mindspore
import numpy as np
from mindspore import Parameter, Tensor, nn
from tqdm import tqdm

from ..data.records import VehicleDataset
from ..errors import TrainingError
from ..files import file_sha256, reading
from ..hub.source import WeightsSource
from ..models import find_network
from ..vehicle.attributes import ClassMaps
from ..weights.formats import read_ckpt
from ..weights.load import build
from ..weights.read import Weights
from ..weights.save import save_weights, write_checkpoint
from ..weights.sidecar import Sidecar, write_sidecar
from .batches import Batch, Draw, Source
from .history import START_AGAIN, EpochRecord, History
from .optimization import (
    create_optimizer,
    freeze,
    moving_statistics,
    rate_at,
    set_training,
    without_remarks,
)
from .parallel import Devices
from .sampler import Sampler
from .step import StepResult, TrainingStep

logger = logging.getLogger(__name__)

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
        source: where weights come from, with the cache and whether it is offline.
        weights: what the network starts from; None for random values.
        show: draw progress bars on a terminal.
    """

    settings: Any
    dataset: VehicleDataset
    output: Path
    source: WeightsSource = field(default_factory=WeightsSource)
    weights: Weights | None = None
    devices: Devices = field(default_factory=Devices)
    workers: int = 1
    show: bool = False


@dataclass(frozen=True, eq=False)
class Task:
    """What one network is trained with, made by the function that its settings name.

    Attributes:
        network: with its first weights, see :func:`open_network`.
        sampler: draws the batches.
        source: the training images.
        loss: a Cell of the outputs and then the batch's labels; returns the total, a float32
            scalar, and the unweighted parts, float32 ``[L]``.
        losses: names of the parts; a network without the last ones leaves them out.
        metric: which of the metrics decides what the best weights are.
        higher_is_better: whether its highest value does, or its lowest.
        validate: the metrics of the network, which is in inference mode; empty where the data set
            has nothing to validate on.
        forward: called with a batch's inputs, if that is only a part of the network.
        class_maps: which raw id each class is, for the sidecar.
    """

    network: nn.Cell
    sampler: Sampler
    source: Source
    loss: nn.Cell
    losses: tuple[str, ...]
    metric: str
    higher_is_better: bool = True
    validate: Callable[[], Mapping[str, float]] = dict
    forward: Callable[..., Any] | None = None
    class_maps: ClassMaps = field(default_factory=lambda: ClassMaps((), (), ()))


def open_network(job: Job, **options: Any) -> Any:
    """The network as it will be trained: with its first weights, frozen and in its precision.

    ``options`` are those of :func:`multitasknet.create_network`.
    """
    settings, definition = job.settings, find_network(job.settings.network)
    network: Any = build(definition, definition.plan(job.weights, options), job.weights)
    if network.load_report:
        logger.info("%s", network.load_report)
    # From here on the weights are no longer those of a file.
    network.load_report = None
    if settings.size:
        network.spec = replace(network.spec, input_size=(settings.size, settings.size))
    if settings.pose_convention:
        network.spec = replace(network.spec, pose_convention=settings.pose_convention)
    if is_mixed(settings.precision):
        # Converts the cells in place; names and float32 weights stay.
        mindspore.amp.auto_mixed_precision(network, "O2")
    freeze(network, definition.frozen[settings.freeze])
    return network


def is_mixed(precision: str) -> bool:
    """Whether a setting of the precision means float16 on this device."""
    on_cpu = mindspore.get_context("device_target") == "CPU"
    return precision == "mixed" or (precision == "auto" and not on_cpu)


def data_digest(dataset: VehicleDataset) -> str:
    """A hash of all labels and pictures, and of stored maps by size; no folder's name counts."""
    digest = hashlib.sha256()
    with ThreadPoolExecutor() as pool:
        for split in dataset.splits:
            contents = pool.map(file_sha256, [record.image for record in split.records])
            for record, content in zip(split.records, contents, strict=True):
                ids = record.vehicle_id, record.camera_id, record.color_id, record.type_id
                folders = [one for one in (record.heatmaps, record.segments) if one]
                sizes = [
                    file.stat().st_size for one in folders for file in sorted(one.glob("*.jpg"))
                ]
                digest.update(repr((split.name, record.image.name, content, ids, sizes)).encode())
                for pose in (record.keypoints, record.visibility):
                    if pose is not None:
                        digest.update(np.ascontiguousarray(pose, np.float32).tobytes())
    return digest.hexdigest()


@dataclass(eq=False)
class Run:
    """A training, from what its folder holds to the last epoch.

    Attributes:
        job, task: what was asked for, and what that is trained with.
        history: grows with every epoch.
    """

    job: Job
    task: Task
    history: History
    step: TrainingStep

    @classmethod
    def of(cls, job: Job, task: Task, history: History) -> Run:
        """With the optimizer that the settings ask for."""
        settings = job.settings
        step = TrainingStep(
            task.forward or task.network,
            task.loss,
            create_optimizer(task.network, settings),
            clip=settings.clip,
            scaled=is_mixed(settings.precision),
            devices=job.devices,
        )
        return cls(job, task, history, step)

    def epochs(self) -> Iterator[EpochRecord]:
        """Train to the last epoch; each is kept before it is given."""
        settings, network, last = self.job.settings, self.task.network, self.job.output / LAST
        done = load_state(last, network, self.step) if last.is_file() else self._begin()
        # An epoch that was written down, but whose state was not kept, runs once more.
        self.history = replace(self.history, epochs=self.history.epochs[:done])
        for number in range(done + 1, settings.epochs + 1):
            record = self.train(number - 1)
            if number % settings.evaluate_every == 0 or number == settings.epochs:
                record = replace(record, metrics=self._validate())
            self.history = replace(self.history, epochs=(*self.history.epochs, record))
            if self.job.devices.is_first:
                self._keep(record)
            yield record

    def train(self, epoch: int) -> EpochRecord:
        """Train for one epoch, from 0; nothing is kept, and nothing validated.

        Raises:
            TrainingError: the loss or a gradient is not finite, or the loss has exploded.
        """
        job, task, settings = self.job, self.task, self.job.settings
        frozen = find_network(settings.network).frozen[settings.freeze]
        set_training(task.network, frozen, statistics=not settings.freeze_statistics)
        batches = task.sampler.epoch(epoch, job.devices.rank)
        source = task.source.training(batches, Draw(settings.seed, epoch, job.devices.rank))
        bar = tqdm(
            total=len(batches),
            desc=f"epoch {epoch + 1}/{settings.epochs}",
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
                losses = zip(task.losses, result.parts, strict=False)
                for name, value in (("total", result.total), *losses):
                    sums[name] = sums.get(name, np.float32(0)) + np.float32(value)
                bar.set_postfix(loss=f"{result.total:.3f}", refresh=False)
                bar.update()
        # All processes go on from the one state.
        job.devices.average(moving_statistics(task.network))
        return EpochRecord(
            epoch=epoch + 1,
            losses={name: float(value) / len(batches) for name, value in sums.items()},
            rate=rate_at(settings, epoch + (len(batches) - 1) / len(batches)),
            skipped=skipped,
            seconds=seconds,
            images_per_second=batches.size / max(seconds, 1e-9),
        )

    def _train(self, batch: Batch, epoch: int, number: int, batches: int) -> StepResult:
        self.step.set_rate(rate_at(self.job.settings, epoch + number / batches))
        result = self.step(batch.inputs, batch.labels)
        problem = ""
        if not math.isfinite(result.total) or result.total > _EXPLODED:
            problem = f"the loss is {result.total:g}"
        elif result.is_hopeless:
            problem = "a gradient is not finite"
        if not problem:
            return result
        names = [str(self.task.source.split.records[index].image) for index in batch.indices]
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        raise TrainingError(
            f"epoch {epoch + 1}, batch {number + 1}: {problem}; the batch is "
            f"{', '.join(names[:_NAMED])}{more}. Look at these images and labels, or use a smaller "
            f"learning rate or a longer warm-up; the last epoch's state is kept"
        )

    def _begin(self) -> int:
        """Measure the weights as they are, which are the best so far."""
        self.history = replace(self.history, before=self._validate())
        if self.task.metric in self.history.before and self.job.devices.is_first:
            self._save_best(0, self.history.before)
        self._write()
        return 0

    def _validate(self) -> dict[str, float]:
        """The metrics that are defined; each process finds them all by itself."""
        self.task.network.set_train(False)
        metrics = self.task.validate()
        return {name: value for name, value in metrics.items() if not math.isnan(value)}

    def _keep(self, record: EpochRecord) -> None:
        """Keep all that an epoch came to."""
        if self.history.best is record:
            self._save_best(record.epoch, record.metrics)
        self._write()
        # Last of all: what a resume starts from must find all else in place.
        spec, origin = self.task.network.spec, origin_of(self.job, self.history, record.epoch)
        last = self.job.output / LAST
        write_sidecar(last, Sidecar(spec, self.task.class_maps, record.metrics, origin))
        save_state(last, self.task.network, self.step, record.epoch)

    def _save_best(self, epoch: int, metrics: Mapping[str, float]) -> None:
        save_weights(
            self.task.network,
            self.job.output / BEST,
            class_maps=self.task.class_maps,
            metrics=metrics,
            origin=origin_of(self.job, self.history, epoch),
        )

    def _write(self) -> None:
        """Write the history and its page."""
        if self.job.devices.is_first:
            job = self.job
            self.history.write(job.output, epochs=job.settings.epochs, data=job.dataset.root)


def origin_of(job: Job, history: History, epoch: int) -> dict[str, Any]:
    """What a sidecar states of where weights come from; epoch 0 is before training."""
    return {
        "epoch": epoch,
        "data": str(job.dataset.root),
        "settings": history.settings,
        "versions": {"mindspore": mindspore.__version__, "numpy": np.__version__},
    }


def save_state(path: Path, network: nn.Cell, step: TrainingStep, epoch: int) -> None:
    """Write weights, optimizer and the number of finished epochs, all that a resume needs."""
    write_checkpoint(path, _parameters(network, step) | {_EPOCH: Tensor(np.int32(epoch))})


def load_state(path: Path, network: nn.Cell, step: TrainingStep) -> int:
    """Put back what :func:`save_state` wrote, and return how many epochs are finished.

    Raises:
        TrainingError: the file is damaged, or another training's; nothing has changed then.
    """
    parameters = _parameters(network, step)
    with reading(path, TrainingError, "it is no state of this training", START_AGAIN):
        stored = read_ckpt(path.read_bytes())
        for name, parameter in parameters.items():
            if stored[name].size != parameter.size:
                raise ValueError(f"{name} is {list(stored[name].shape)}")
        for name, parameter in parameters.items():
            parameter.set_data(Tensor(stored[name].reshape(parameter.shape)))
        return int(stored[_EPOCH].item())


def _parameters(network: nn.Cell, step: TrainingStep) -> dict[str, Parameter]:
    return {parameter.name: parameter for parameter in (*network.get_parameters(), *step.state)}
