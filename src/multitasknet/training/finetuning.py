"""``finetune``: from a data set and weights to better weights, epoch by epoch."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import mindspore
import psutil

from ..data.layouts import read_dataset
from ..data.records import VehicleDataset
from ..files import make_folder
from ..hub.source import WeightsSource
from ..runtime import guard_cpu
from .events import EventWriter
from .folder import RunFolder
from .history import EpochRecord, History, read_history
from .interruption import Interrupted, StopRequest
from .loop import mean_losses
from .optimization import moving_statistics, set_training
from .parallel import Devices
from .preparation import Training, prepare
from .settings import FinetuneError, Settings, renamed
from .state import Progress
from .task import Job, find_task


@dataclass(frozen=True)
class FinetuneResult:
    """What a training came to.

    Attributes:
        output: the folder with ``best.ckpt``, ``last.ckpt``, ``history.json``, ``report.html``.
        history: settings and epochs, at least one.
        checkpoint: the best weights by the task's metric, with their sidecar beside them.
        is_first: whether this is the process that evaluated and wrote; always, but under msrun.
    """

    output: Path
    history: History
    checkpoint: Path
    is_first: bool

    @property
    def best(self) -> EpochRecord:
        """The epoch that ``checkpoint`` is of."""
        best = self.history.best
        assert best is not None
        return best


def finetune(
    data: str | Path | VehicleDataset,
    output: str | Path,
    *,
    resume: bool = False,
    device: str | None = None,
    workers: int = 1,
    progress: bool = True,
    tensorboard: bool = False,
    on_epoch: Callable[[EpochRecord], None] = lambda record: None,
    cache_dir: str | Path | None = None,
    offline: bool = False,
    **settings: Any,
) -> FinetuneResult:
    """Train a network on a data set's train split, and validate it after every epoch.

    The same settings and seed give the same weights; on a CPU to the last bit, also if the training
    was interrupted and resumed in between. Under ``msrun`` the processes train together.

    Args:
        data: the data set or its root, see :func:`multitasknet.read_dataset`. MultiTaskNet is
            validated on query and gallery; without them there are no metrics, and the last epoch
            counts as the best.
        output: the folder for results; a new one, unless ``resume`` is set.
        resume: go on where the training in ``output`` stopped. Its settings hold; one that is
            given must be the same.
        device: ``CPU``, ``Ascend`` or ``GPU``; None for MindSpore's choice.
        workers: threads that prepare images.
        progress: draw progress bars.
        tensorboard: write TensorBoard events to ``output/events`` as well.
        on_epoch: called with each epoch's record.
        cache_dir, offline: as in :func:`multitasknet.create_network`.
        settings: fields of the network's :class:`multitasknet.training.settings.Settings`;
            ``network``, ``weights`` and ``card`` among them.

    Returns:
        The :class:`FinetuneResult`.

    Raises:
        FinetuneError: a setting is not allowed, or ``output`` holds another training or none.
        SamplerError: fewer vehicles than a batch takes.
        TrainingError: the loss is not finite or has exploded; names the batch's images.
        Interrupted: SIGINT or SIGTERM came; the state is kept. A KeyboardInterrupt.
        MissingExtraError: ``tensorboard`` without its extra.
        LabelError, CheckpointError, DownloadError: from the data set and the weights.
    """
    output = Path(output)
    _choose_device(device)
    devices = Devices.join()
    folder = RunFolder(output, output)
    chosen, history = _resumed(folder, settings) if resume else _fresh(folder, settings)
    # No process may write before all have looked.
    devices.any(False)
    dataset = data if isinstance(data, VehicleDataset) else read_dataset(data)
    if not len(dataset.train):
        raise FinetuneError(f"{dataset.root}: the data set has no train split; nothing to train on")
    make_folder(output)
    guard_cpu()
    mindspore.set_seed(chosen.seed)
    show = progress and devices.is_first
    weights = None if chosen.weights == "none" else chosen.weights
    source = WeightsSource(weights, chosen.card, cache_dir, offline, show)
    job = Job(chosen, dataset, output, source, devices, workers, show)
    writers = [on_epoch]
    if tensorboard and devices.is_first:
        writers.insert(0, EventWriter(output / "events").write)
    run = _Run(job, prepare(job), replace(folder, data=dataset.root), history)
    for record in run.epochs(resume):
        for write in writers if devices.is_first else ():
            write(record)
    return FinetuneResult(output, run.history, folder.best, devices.is_first)


def _choose_device(device: str | None) -> None:
    if device is None:
        return
    try:
        mindspore.set_context(device_target=device)
    except (RuntimeError, ValueError) as error:
        raise FinetuneError(
            f"device is {device!r}, which this machine or this MindSpore has not; leave it out"
        ) from error


def _fresh(folder: RunFolder, settings: Mapping[str, Any]) -> tuple[Settings, History]:
    """The settings of a new training, and its history so far."""
    if folder.history.exists():
        raise FinetuneError(
            f"{folder.path}: a training lies here already; go on with it (resume), or give another "
            f"folder"
        )
    chosen = Settings.of(settings, "settings")
    task = find_task(chosen)
    return chosen, History(
        chosen.as_json(), metric=task.METRIC, higher_is_better=task.HIGHER_IS_BETTER
    )


def _resumed(folder: RunFolder, settings: Mapping[str, Any]) -> tuple[Settings, History]:
    """The settings of the training that lies there, and its history so far."""
    history = read_history(folder.history)
    if not folder.last.is_file():
        if len(history.epochs) > 1:
            raise FinetuneError(
                f"{folder.last}: there is no such file, though {len(history.epochs)} epochs are "
                f"trained; put it back, or start anew in another folder"
            )
        # It died while its first epoch was written down, before there was a state to go on from.
        history = replace(history, epochs=())
    kept = Settings.of(history.settings, str(folder.history))
    known = kept.as_json()
    given = renamed(settings, "settings")
    for name, value in json.loads(json.dumps(given, default=str)).items():
        if name in known and value != known[name]:
            raise FinetuneError(
                f"{folder.path}: {name} is {value!r}, but the training to resume has "
                f"{known[name]!r}; leave it out, or start anew in another folder"
            )
    Settings.of({**known, **given}, "settings")
    return kept, replace(history, settings=known)


@dataclass(eq=False)
class _Run:
    """The epochs of one training, with the history that grows with them."""

    job: Job
    training: Training
    folder: RunFolder
    history: History

    def epochs(self, resume: bool) -> Iterator[EpochRecord]:
        """Train from where the folder stands to the last epoch; each is kept before it is given."""
        with StopRequest() as request:
            progress = self._start(request, resume)
            # An epoch that was written down, but not kept, runs once more.
            self.history = replace(self.history, epochs=self.history.epochs[: progress.epoch])
            while progress.epoch < self.job.settings.epochs:
                progress, record = self._epoch(progress, request)
                self.history = replace(self.history, epochs=(*self.history.epochs, record))
                if self.job.devices.is_first:
                    self.folder.keep_epoch(self.history, self.training, progress)
                yield record

    def _start(self, request: StopRequest, resume: bool) -> Progress:
        if resume and self.folder.last.is_file():
            return self.folder.load_state(self.training)
        self._write()
        self.history = replace(self.history, before=self._validate(request, Progress()))
        self._write()
        return Progress()

    def _epoch(self, progress: Progress, request: StopRequest) -> tuple[Progress, EpochRecord]:
        settings, trainer = self.job.settings, self.training.trainer
        set_training(
            self.training.network, self.training.frozen, statistics=not settings.freeze_statistics
        )
        progress = trainer.run(progress, request.is_set)
        # Also before a stop is kept: all processes resume from the one state.
        self.job.devices.average(moving_statistics(self.training.network))
        if not trainer.is_over(progress):
            self._stop(progress)
        number = progress.epoch + 1
        due = number % settings.evaluate_every == 0 or number == settings.epochs
        metrics = self._validate(request, progress) if due else {}
        return Progress(number), self._record(progress, metrics)

    def _validate(self, request: StopRequest, progress: Progress) -> Mapping[str, float]:
        """The metrics that are defined, on the first process; stops if that is asked for."""
        metrics: Mapping[str, float] | None = {}
        if self.job.devices.is_first:
            self.training.network.set_train(False)
            metrics = self.training.parts.validate(request.is_set)
        if self.job.devices.any(metrics is None):
            self._stop(progress)
        return {name: value for name, value in (metrics or {}).items() if not math.isnan(value)}

    def _stop(self, progress: Progress) -> NoReturn:
        # Before the first step there is nothing to keep: a resume starts afresh.
        if self.job.devices.is_first and progress != Progress():
            self.folder.keep_state(self.training, progress)
        path = self.folder.path
        raise Interrupted(
            f"interrupted in epoch {progress.epoch + 1} of {self.job.settings.epochs}, the state "
            f"is kept in {path}; go on with: multitasknet finetune --data "
            f"{self.folder.data} --output {path} --resume"
        )

    def _record(self, progress: Progress, metrics: Mapping[str, float]) -> EpochRecord:
        trainer = self.training.trainer
        steps = trainer.sampler.batches_per_epoch
        images = steps * self.job.settings.batch_size
        return EpochRecord(
            epoch=progress.epoch + 1,
            losses=mean_losses(progress),
            rate=trainer.schedule.at(progress.epoch + (steps - 1) / steps),
            skipped=progress.skipped,
            seconds=progress.seconds,
            images_per_second=images / max(progress.seconds, 1e-9),
            memory_mb=psutil.Process().memory_info().rss / 2**20,
            metrics=metrics,
        )

    def _write(self) -> None:
        if self.job.devices.is_first:
            self.folder.write(self.history)
