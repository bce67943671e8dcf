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
from ..weights.load import build, save_weights, write_checkpoint
from ..weights.read import Weights
from ..weights.sidecar import Sidecar, write_sidecar
from .batches import Batch, Draw, IdentitySampler, ShuffledSampler, Source
from .history import START_AGAIN, EpochRecord, History
from .parallel import ALONE, Devices
from .step import (
    StepResult,
    TrainingStep,
    create_optimizer,
    freeze,
    moving_statistics,
    rate_at,
    set_training,
    without_remarks,
)

logger = logging.getLogger(__name__)

# The best weights by the task's metric, and the training's whole state; both with a sidecar.
BEST, LAST = "best.ckpt", "last.ckpt"
# In the state: how many epochs are done.
_EPOCH = "epoch"
# A loss of this size never comes back to anything good.
_EXPLODED = 1e4


@dataclass(frozen=True, eq=False)
class Job:
    """A training as it was asked for."""

    settings: Any  # of the class that belongs to the network
    dataset: VehicleDataset
    output: Path
    # Where weights come from, with the cache and whether it is offline.
    source: WeightsSource = field(default_factory=WeightsSource)
    weights: Weights | None = None  # what the network starts from; None for random values
    devices: Devices = ALONE
    workers: int = 1
    show: bool = False  # progress bars on a terminal


@dataclass(frozen=True, eq=False)
class Task:
    """What one network is trained with, made by the function that its settings name."""

    network: nn.Cell  # with its first weights, see :func:`open_network`
    sampler: IdentitySampler | ShuffledSampler
    source: Source  # of the training images
    loss: nn.Cell  # see :class:`.step.TrainingStep`
    losses: tuple[str, ...]  # the parts' names; a network without the last ones leaves them out
    metric: str  # which of the metrics decides what the best weights are
    higher_is_better: bool = True  # whether its highest value does, or its lowest
    # The metrics of the network in inference mode; empty without data to validate on.
    validate: Callable[[], Mapping[str, float]] = dict
    forward: Callable[..., Any] | None = None  # if it is only a part of the network
    # Which raw id each class is, for the sidecar.
    class_maps: ClassMaps = field(default_factory=lambda: ClassMaps((), (), ()))


def open_network(job: Job, **options: Any) -> Any:
    """The network as it will be trained: with its first weights, frozen and in its precision."""
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
    """Whether this precision means float16 on this device."""
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


class Run:
    """A training, from what its folder holds to the last epoch; ``history`` grows with each."""

    def __init__(self, job: Job, task: Task, history: History) -> None:
        self.job, self.task, self.history = job, task, history
        self._step = TrainingStep(
            task.forward or task.network,
            task.loss,
            create_optimizer(task.network, job.settings),
            clip=job.settings.clip,
            scaled=is_mixed(job.settings.precision),
            devices=job.devices,
        )

    def epochs(self) -> Iterator[EpochRecord]:
        """Train to the last epoch; each is kept before it is given."""
        settings, network, last = self.job.settings, self.task.network, self.job.output / LAST
        if last.is_file():
            done = load_state(last, network, self._step)
        else:
            # The weights as they are count as the best so far.
            done, before = 0, self._validate()
            self.history = replace(self.history, before=before)
            self._keep(0, before, is_best=self.task.metric in before)
        # An epoch that was written down, but whose state was not kept, runs once more.
        self.history = replace(self.history, epochs=self.history.epochs[:done])
        for number in range(done + 1, settings.epochs + 1):
            record = self.train(number - 1)
            if number % settings.evaluate_every == 0 or number == settings.epochs:
                record = replace(record, metrics=self._validate())
            self.history = replace(self.history, epochs=(*self.history.epochs, record))
            self._keep(number, record.metrics, is_best=self.history.best is record)
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
        source = task.source.read(list(batches), Draw(settings.seed, epoch, job.devices.rank))
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
                batch = next(source)
                self._step.set_rate(rate_at(settings, epoch + number / len(batches)))
                result = self._step(batch.inputs, batch.labels)
                self._check(result, batch, f"epoch {epoch + 1}, batch {number + 1}")
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

    def _check(self, result: StepResult, batch: Batch, place: str) -> None:
        if not math.isfinite(result.total) or result.total > _EXPLODED:
            problem = f"the loss is {result.total:g}"
        elif result.is_hopeless:
            problem = "a gradient is not finite"
        else:
            return
        records = self.task.source.split.records
        names = ", ".join(str(records[index].image) for index in batch.indices)
        raise TrainingError(
            f"{place}: {problem}; look at the batch's images and labels, or use a smaller learning "
            f"rate or a longer warm-up; the batch is {names}"
        )

    def _validate(self) -> dict[str, float]:
        """The metrics that are not NaN."""
        self.task.network.set_train(False)
        metrics = self.task.validate()
        return {name: value for name, value in metrics.items() if not math.isnan(value)}

    def _keep(self, epoch: int, metrics: Mapping[str, float], *, is_best: bool) -> None:
        """Write an epoch's results; of 0, which is before training, no state."""
        job, network, classes = self.job, self.task.network, self.task.class_maps
        if not job.devices.is_first:
            return
        origin = origin_of(job, self.history, epoch)
        if is_best:
            best = job.output / BEST
            save_weights(network, best, class_maps=classes, metrics=metrics, origin=origin)
        self.history.write(job.output, epochs=job.settings.epochs, data=job.dataset.root)
        if epoch:
            # Last of all: what a resume starts from must find all else in place.
            write_sidecar(job.output / LAST, Sidecar(network.spec, classes, metrics, origin))
            save_state(job.output / LAST, network, self._step, epoch)


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
            # MindSpore writes a single number as a list of one.
            if stored[name].shape not in (parameter.shape, parameter.shape or (1,)):
                raise ValueError(f"{name} is {list(stored[name].shape)}")
        for name, parameter in parameters.items():
            parameter.set_data(Tensor(stored[name].reshape(parameter.shape)))
        return int(stored[_EPOCH].item())


def _parameters(network: nn.Cell, step: TrainingStep) -> dict[str, Parameter]:
    return {parameter.name: parameter for parameter in (*network.get_parameters(), *step.state)}
