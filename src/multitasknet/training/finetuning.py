"""``finetune``: from a data set and weights to better weights, epoch by epoch."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import mindspore
import numpy as np
import psutil
from mindspore import Parameter, nn

from ..data.layouts import read_dataset
from ..data.records import Record, VehicleDataset, warn_of_unmatched
from ..hub.networks import create_network
from ..models.multitasknet.network import MultiTaskNet
from ..models.multitasknet.spec import NetworkSpec
from ..runtime import guard_cpu
from ..vehicle.attributes import COLORS, TYPES, ClassMaps
from ..weights.sidecar import Sidecar, write_sidecar
from .augmentation import RandomAugmentation
from .batches import ImageSource, Source
from .curves import write_training_report
from .events import EventWriter
from .features import cached_features
from .history import EpochRecord, History, read_history, write_history
from .interruption import Interrupted, StopRequest
from .loop import EpochTrainer, mean_losses
from .losses import LossWeights, MultiTaskLoss
from .optimization import create_optimizer, freeze, set_training
from .parallel import Devices
from .sampler import IdentitySampler
from .schedule import Schedule
from .settings import FinetuneError, Settings
from .state import Progress, load_state, save_network, save_state
from .step import TrainingStep
from .validation import validate

logger = logging.getLogger(__name__)

PRECISIONS = ("auto", "float32", "mixed")


@dataclass(frozen=True)
class FinetuneResult:
    """What a training came to.

    Attributes:
        output: the folder with ``best.ckpt``, ``last.ckpt``, ``history.json``, ``report.html``.
        history: settings and epochs.
        checkpoint: the best weights by mAP, with their side file beside them.
        is_first: whether this is the process that evaluated and wrote; always, but under msrun.
    """

    output: Path
    history: History
    checkpoint: Path
    is_first: bool

    @property
    def best(self) -> EpochRecord:
        return self.history.best


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
        settings: fields of :class:`Settings`.

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
    if device:
        mindspore.set_context(device_target=device)
    devices = Devices.join()
    chosen, history = _history(output, resume, settings)
    # No process may write before all have looked.
    devices.any(False)
    dataset = data if isinstance(data, VehicleDataset) else read_dataset(data)
    if not len(dataset.train):
        raise FinetuneError(f"{dataset.root}: the data set has no train split; nothing to train on")
    output.mkdir(parents=True, exist_ok=True)
    guard_cpu()
    mindspore.set_seed(chosen.seed)
    if tensorboard and devices.is_first:
        events = EventWriter(output / "events")
        on_epoch = _both(events.write, on_epoch)
    run = _Run(chosen, dataset, output, devices, workers, progress and devices.is_first)
    return run.finish(history, resume, on_epoch)


def _both(
    first: Callable[[EpochRecord], None], second: Callable[[EpochRecord], None]
) -> Callable[[EpochRecord], None]:
    def call(record: EpochRecord) -> None:
        first(record)
        second(record)

    return call


def class_maps(records: tuple[Record, ...]) -> ClassMaps:
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


def _history(output: Path, resume: bool, settings: Mapping[str, Any]) -> tuple[Settings, History]:
    path = output / "history.json"
    if not resume:
        if path.exists():
            raise FinetuneError(
                f"{output}: a training lies here already; go on with it (resume), or give another "
                f"folder"
            )
        chosen = Settings.of(settings, "settings")
        return chosen, History(_plain(chosen))
    history = read_history(path)
    chosen = Settings.of(history.settings, str(path))
    for name, value in _plain(Settings.of({**history.settings, **settings}, "settings")).items():
        if value != history.settings[name]:
            raise FinetuneError(
                f"{output}: {name} is {value!r}, but the training to resume has "
                f"{history.settings[name]!r}; leave it out, or start anew in another folder"
            )
    return chosen, history


def _plain(settings: Settings) -> dict[str, Any]:
    """The settings as JSON gives them back."""
    return asdict(settings) | {"milestones": list(settings.milestones)}


class _Run:
    """One training: its network, its data, and its folder."""

    def __init__(
        self,
        settings: Settings,
        dataset: VehicleDataset,
        output: Path,
        devices: Devices,
        workers: int,
        show: bool,
    ) -> None:
        self.settings = settings
        self.dataset = dataset
        self.output = output
        self.devices = devices
        self.show = show
        self.class_maps = class_maps(dataset.train.records)
        sampler = IdentitySampler(
            dataset.train.vehicle_ids,
            vehicles=settings.batch // settings.instances,
            images=settings.instances,
            seed=settings.seed,
            devices=devices.count,
        )
        self.network = self._network()
        if self.is_mixed:
            # Converts the cells in place; names and float32 weights stay.
            mindspore.amp.auto_mixed_precision(self.network, "O2")
        freeze(self.network, settings.freeze)
        forward, sources = self._sources(workers)
        self.forward = forward
        self.evaluated = sources[1:]
        optimizer = create_optimizer(
            self.network, kind=settings.optimizer, weight_decay=settings.weight_decay
        )
        self.step = TrainingStep(
            forward,
            self._loss(),
            optimizer,
            clip=settings.clip,
            scaled=self.is_mixed,
            reducer=devices.reducer(optimizer.parameters),
        )
        self.trainer = EpochTrainer(
            self.step,
            sources[0],
            sampler,
            Schedule(
                settings.lr,
                settings.epochs,
                kind=settings.schedule,
                warmup=settings.warmup,
                milestones=settings.milestones,
            ),
            backbone_rate=settings.backbone_rate,
            seed=settings.seed,
            devices=devices,
            show=show,
        )

    @property
    def is_mixed(self) -> bool:
        on_cpu = mindspore.get_context("device_target") == "CPU"
        chosen = self.settings.precision
        return chosen == "mixed" or (chosen == "auto" and not on_cpu)

    def finish(
        self, history: History, resume: bool, on_epoch: Callable[[EpochRecord], None]
    ) -> FinetuneResult:
        """Train from where the folder stands to the last epoch."""
        with StopRequest() as request:
            state = self.output / "last.ckpt"
            if resume and state.exists():
                progress = load_state(state, self.network, self.step)
            else:
                progress = Progress()
                self._write(history)
                before = self._evaluate(request)
                if self.devices.any(before is None):
                    self._stop(progress)
                history = replace(history, before=before)
                self._write(history)
            # An epoch that was written down, but not kept, runs once more.
            history = replace(history, epochs=history.epochs[: progress.epoch])
            while progress.epoch < self.settings.epochs:
                progress, record = self._epoch(progress, request)
                history = replace(history, epochs=(*history.epochs, record))
                if self.devices.is_first:
                    self._keep_epoch(history, progress)
                    on_epoch(record)
        return FinetuneResult(
            self.output, history, self.output / "best.ckpt", self.devices.is_first
        )

    def _epoch(self, progress: Progress, request: StopRequest) -> tuple[Progress, EpochRecord]:
        set_training(
            self.network, self.settings.freeze, statistics=not self.settings.freeze_statistics
        )
        progress = self.trainer.run(progress, request.is_set)
        if not self.trainer.is_over(progress):
            self._stop(progress)
        self.devices.average(_statistics(self.network))
        due = (progress.epoch + 1) % self.settings.evaluate_every == 0
        is_last = progress.epoch + 1 == self.settings.epochs
        metrics = self._evaluate(request) if due or is_last else {}
        if self.devices.any(metrics is None):
            self._stop(progress)
        return Progress(progress.epoch + 1), self._record(progress, metrics)

    def _stop(self, progress: Progress) -> None:
        # Before the first step there is nothing to keep: a resume starts afresh.
        if self.devices.is_first and progress != Progress():
            save_state(self.output / "last.ckpt", self.network, self.step, progress)
        raise Interrupted(
            f"interrupted in epoch {progress.epoch + 1} of {self.settings.epochs}, the state is "
            f"kept in {self.output}; go on with: multitasknet finetune --data {self.dataset.root} "
            f"--output {self.output} --resume"
        )

    def _evaluate(self, request: StopRequest) -> dict[str, float] | None:
        """The metrics in percent, empty without query and gallery; None if stopped."""
        if not self.evaluated or not self.devices.is_first:
            return {}
        self.network.set_train(False)
        return validate(
            self.forward,
            self.network.spec,
            self.dataset,
            self.evaluated,
            batch_size=self.settings.batch,
            show=self.show,
            stopped=request.is_set,
        )

    def _record(self, progress: Progress, metrics: Mapping[str, float]) -> EpochRecord:
        steps = self.trainer.sampler.batches_per_epoch
        images = steps * self.settings.batch
        return EpochRecord(
            epoch=progress.epoch + 1,
            losses=mean_losses(progress),
            rate=self.trainer.schedule.at(progress.epoch + (steps - 1) / steps),
            skipped=progress.skipped,
            seconds=progress.seconds,
            images_per_second=images / max(progress.seconds, 1e-9),
            memory_mb=_memory(),
            metrics=metrics,
        )

    def _keep_epoch(self, history: History, progress: Progress) -> None:
        record = history.epochs[-1]
        if history.best is record:
            save_network(self.output / "best.ckpt", self.network)
            write_sidecar(self.output / "best.ckpt", self._sidecar(record, history))
        self._write(history)
        # Last of all: what a resume starts from must find all else in place.
        write_sidecar(self.output / "last.ckpt", self._sidecar(record, history))
        save_state(self.output / "last.ckpt", self.network, self.step, progress)

    def _write(self, history: History) -> None:
        if self.devices.is_first:
            write_history(self.output / "history.json", history)
            write_training_report(self.output / "report.html", history)

    def _sidecar(self, record: EpochRecord, history: History) -> Sidecar:
        origin = {
            "epoch": record.epoch,
            "data": str(self.dataset.root),
            "settings": history.settings,
            "versions": {"mindspore": mindspore.__version__, "numpy": np.__version__},
        }
        return Sidecar(self.network.spec, self.class_maps, record.metrics, origin)

    def _network(self) -> MultiTaskNet:
        maps, size = self.class_maps, self.settings.size
        create = partial(
            create_network,
            weights=None if self.settings.weights == "none" else self.settings.weights,
            card=self.settings.card,
            variant=self.settings.variant,
            num_ids=len(maps.vehicle_ids),
            progress=self.show,
        )
        network = create()
        counts = {"num_colors": len(maps.color_ids), "num_types": len(maps.type_ids)}
        if network.spec.multi_task and counts != _attribute_counts(network.spec):
            network = create(**counts)
        if network.load_report:
            logger.info("%s", network.load_report)
        # From here on the weights are no longer those of a file.
        network.load_report = None
        network.spec = replace(
            network.spec,
            input_size=(size, size),
            color_names=maps.color_names if network.spec.multi_task else (),
            type_names=maps.type_names if network.spec.multi_task else (),
        )
        return network

    def _loss(self) -> MultiTaskLoss:
        settings = self.settings
        return MultiTaskLoss(
            LossWeights(1.0, settings.triplet_weight, settings.color_weight, settings.type_weight),
            smoothing=settings.smoothing,
            margin=settings.margin,
            devices=self.devices,
            gather=settings.gather,
        )

    def _sources(self, workers: int) -> tuple[Callable, list[Source]]:
        """What is trained, and the batches for it: of train, and of query and gallery."""
        settings, dataset = self.settings, self.dataset
        augmentation = RandomAugmentation(
            crop=settings.crop, flip=settings.flip, erase=settings.erase, jitter=settings.jitter
        )
        splits = [dataset.train]
        if len(dataset.query) and len(dataset.gallery):
            warn_of_unmatched(dataset)
            splits += [dataset.query, dataset.gallery]
        sources = [
            ImageSource(split, self.network.spec, self.class_maps, augmentation, workers)
            for split in splits
        ]
        if settings.freeze != "backbone":
            return self.network, sources
        mirrored = (settings.flip != "none", False, False)
        return self.network.head, [
            cached_features(
                self.network,
                source,
                self.output / f"features_{source.split.name}.npz",
                batch_size=settings.batch,
                mirrored=twice,
                show=self.show,
                keep=self.devices.is_first,
            )
            for source, twice in zip(sources, mirrored, strict=False)
        ]


def _attribute_counts(spec: NetworkSpec) -> dict[str, int]:
    return {"num_colors": spec.num_colors, "num_types": spec.num_types}


def _statistics(network: nn.Cell) -> list[Parameter]:
    """The batch norms' moving means and variances."""
    names = ("moving_mean", "moving_variance")
    return [parameter for parameter in network.get_parameters() if parameter.name.endswith(names)]


def _memory() -> float:
    return psutil.Process().memory_info().rss / 2**20
