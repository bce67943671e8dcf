"""``finetune``: from a data set and weights to better weights, epoch by epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

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
from .preparation import Parts, prepare
from .settings import FinetuneError, Settings, renamed
from .state import Progress, load_state, save_state
from .validation import validate


@dataclass(frozen=True)
class FinetuneResult:
    """What a training came to.

    Attributes:
        output: the folder with ``best.ckpt``, ``last.ckpt``, ``history.json``, ``report.html``.
        history: settings and epochs, at least one.
        checkpoint: the best weights by mAP, with their sidecar beside them.
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
    """Train the network on a data set's train split, evaluate it on query and gallery.

    The same settings and seed give the same weights; on a CPU to the last bit, also if the training
    was interrupted and resumed in between. Under ``msrun`` the processes train together.

    Args:
        data: the data set or its root, see :func:`multitasknet.read_dataset`. Without query and
            gallery there are no metrics, and the last epoch counts as the best.
        output: the folder for results; a new one, unless ``resume`` is set.
        resume: go on where the training in ``output`` stopped. Its settings hold; one that is
            given must be the same.
        device: ``CPU``, ``Ascend`` or ``GPU``; None for MindSpore's choice.
        workers: threads that prepare images.
        progress: draw progress bars.
        tensorboard: write TensorBoard events to ``output/events`` as well.
        on_epoch: called with each epoch's record.
        cache_dir, offline: as in :func:`multitasknet.create_network`.
        settings: fields of :class:`multitasknet.training.settings.Settings`; ``weights`` and
            ``card`` among them.

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
    chosen, history = _settings_of(output, resume, settings)
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
    parts = prepare(chosen, dataset, output, devices, source, workers=workers, show=show)
    writers = [on_epoch]
    if tensorboard and devices.is_first:
        writers.insert(0, EventWriter(output / "events").write)
    run = _Run(chosen, dataset, RunFolder(output, dataset.root), devices, parts, show)
    for record in run.epochs(history, resume):
        for write in writers if devices.is_first else ():
            write(record)
    return FinetuneResult(output, run.history, run.folder.best, devices.is_first)


def _choose_device(device: str | None) -> None:
    if device is None:
        return
    try:
        mindspore.set_context(device_target=device)
    except (RuntimeError, ValueError) as error:
        raise FinetuneError(
            f"device is {device!r}, which this machine or this MindSpore has not; leave it out"
        ) from error


def _settings_of(
    output: Path, resume: bool, settings: Mapping[str, Any]
) -> tuple[Settings, History]:
    """The settings to train with, and the history so far."""
    folder = RunFolder(output, output)
    if not resume:
        if folder.history.exists():
            raise FinetuneError(
                f"{output}: a training lies here already; go on with it (resume), or give another "
                f"folder"
            )
        chosen = Settings.of(settings, "settings")
        return chosen, History(_plain(chosen))
    history = read_history(folder.history)
    if history.epochs and not folder.last.is_file():
        raise FinetuneError(
            f"{folder.last}: there is no such file, though {len(history.epochs)} epochs are "
            f"trained; put it back, or start anew in another folder"
        )
    before = Settings.of(history.settings, str(folder.history))
    given = renamed(settings, "settings")
    asked = Settings.of({**_plain(before), **given}, "settings")
    for name, value in _plain(asked).items():
        if value != _plain(before)[name]:
            raise FinetuneError(
                f"{output}: {name} is {value!r}, but the training to resume has "
                f"{_plain(before)[name]!r}; leave it out, or start anew in another folder"
            )
    return before, replace(history, settings=_plain(before))


def _plain(settings: Settings) -> dict[str, Any]:
    """The settings as JSON gives them back."""
    return asdict(settings) | {"milestones": list(settings.milestones)}


@dataclass(eq=False)
class _Run:
    """The epochs of one training, with the history that grows with them."""

    settings: Settings
    dataset: VehicleDataset
    folder: RunFolder
    devices: Devices
    parts: Parts
    show: bool
    history: History = field(default_factory=lambda: History({}))

    def epochs(self, history: History, resume: bool) -> Iterator[EpochRecord]:
        """Train from where the folder stands to the last epoch; each is kept before it is given."""
        self.history = history
        with StopRequest() as request:
            progress = self._start(request, resume)
            # An epoch that was written down, but not kept, runs once more.
            self.history = replace(self.history, epochs=self.history.epochs[: progress.epoch])
            while progress.epoch < self.settings.epochs:
                progress, record = self._epoch(progress, request)
                self.history = replace(self.history, epochs=(*self.history.epochs, record))
                if self.devices.is_first:
                    parts = self.parts
                    self.folder.keep_epoch(
                        self.history, parts.network, parts.class_maps, parts.trainer.step, progress
                    )
                yield record

    def _start(self, request: StopRequest, resume: bool) -> Progress:
        parts, folder = self.parts, self.folder
        if resume and folder.last.is_file():
            return load_state(folder.last, parts.network, parts.trainer.step)
        self._write()
        metrics = self._evaluate(request, Progress())
        self.history = replace(self.history, before=metrics)
        self._write()
        return Progress()

    def _epoch(self, progress: Progress, request: StopRequest) -> tuple[Progress, EpochRecord]:
        network, trainer = self.parts.network, self.parts.trainer
        set_training(network, self.settings.freeze, statistics=not self.settings.freeze_statistics)
        progress = trainer.run(progress, request.is_set)
        # Also before a stop is kept: all processes resume from the one state.
        self.devices.average(moving_statistics(network))
        if not trainer.is_over(progress):
            self._stop(progress)
        due = (progress.epoch + 1) % self.settings.evaluate_every == 0
        is_last = progress.epoch + 1 == self.settings.epochs
        metrics = self._evaluate(request, progress) if due or is_last else {}
        return Progress(progress.epoch + 1), self._record(progress, metrics)

    def _evaluate(self, request: StopRequest, progress: Progress) -> dict[str, float]:
        """The metrics in percent, empty without query and gallery; stops if that is asked for."""
        parts = self.parts
        metrics: dict[str, float] | None = {}
        if parts.evaluated and self.devices.is_first:
            parts.network.set_train(False)
            metrics = validate(
                parts.forward,
                parts.network.spec,
                self.dataset,
                parts.evaluated,
                batch_size=self.settings.batch_size,
                show=self.show,
                stopped=request.is_set,
            )
        if self.devices.any(metrics is None) or metrics is None:
            self._stop(progress)
        return metrics or {}

    def _stop(self, progress: Progress) -> None:
        # Before the first step there is nothing to keep: a resume starts afresh.
        if self.devices.is_first and progress != Progress():
            parts = self.parts
            save_state(self.folder.last, parts.network, parts.trainer.step, progress)
        raise Interrupted(
            f"interrupted in epoch {progress.epoch + 1} of {self.settings.epochs}, the state is "
            f"kept in {self.folder.path}; go on with: multitasknet finetune --data "
            f"{self.dataset.root} --output {self.folder.path} --resume"
        )

    def _record(self, progress: Progress, metrics: Mapping[str, float]) -> EpochRecord:
        trainer = self.parts.trainer
        steps = trainer.sampler.batches_per_epoch
        images = steps * self.settings.batch_size
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
        if self.devices.is_first:
            self.folder.write(self.history)
