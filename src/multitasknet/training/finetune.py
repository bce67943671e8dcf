"""``finetune``: from a data set and weights to better weights, epoch by epoch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mindspore

from ..data.layouts import read_dataset
from ..data.records import VehicleDataset
from ..device import choose_device
from ..errors import TrainingError
from ..files import check_output, exclusive, make_folder
from ..hub.source import WeightsSource
from ..runtime import guard_cpu
from .history import EpochRecord, History, check_same, read_history
from .loop import BEST, HISTORY, LAST, Job, Run, data_digest, find_task
from .parallel import Devices
from .report import EventWriter
from .settings import check_settings


@dataclass(frozen=True)
class FinetuneResult:
    """What a training came to.

    Attributes:
        output: the folder with ``best.ckpt``, ``last.ckpt``, ``history.json``, ``report.html``.
        history: settings and epochs.
        checkpoint: the best weights by the task's metric, with their sidecar beside them.
        is_first: whether this is the process that wrote; always, except under msrun.
    """

    output: Path
    history: History
    checkpoint: Path
    is_first: bool = True

    @property
    def best(self) -> EpochRecord | None:
        """The epoch that ``checkpoint`` is of; None if none was better than the start."""
        return self.history.best

    @property
    def metrics(self) -> Mapping[str, float]:
        """What ``checkpoint`` reaches, in percent; empty if nothing was measured."""
        return self.history.best_metrics


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
    """Train a network on a data set's train split, and validate it before and after every epoch.

    The same settings and seed give the same weights; on a CPU to the last bit, also if the training
    was interrupted and resumed in between. What is interrupted loses the epoch in hand. Under
    ``msrun`` the processes train together.

    Args:
        data: the data set or its root, see :func:`multitasknet.read_dataset`. MultiTaskNet is
            validated on query and gallery; without them there are no metrics, and the last epoch
            counts as the best.
        output: the folder for results; a new one, unless ``resume`` is set.
        resume: go on after the last finished epoch of the training in ``output``. Its settings
            hold; one that is given must be the same, and so must the data.
        device: ``CPU``, ``Ascend``, ``Ascend:1``, ``GPU`` and so on; None for what MindSpore
            finds. Under ``msrun`` without a number.
        workers: threads that prepare images.
        progress: draw progress bars.
        tensorboard: write TensorBoard events to ``output/events`` as well.
        on_epoch: called with each epoch's record.
        cache_dir, offline: as in :func:`multitasknet.create_network`.
        settings: fields of the network's :class:`multitasknet.training.settings.Settings`;
            ``network``, ``weights`` and ``card`` among them.

    Returns:
        The :class:`FinetuneResult`. If no epoch is better than the weights that it starts from,
        these are the best.

    Raises:
        TrainingError: a setting is not allowed, the data cannot fill a batch, the loss is not
            finite or has exploded (names the batch's images), something other than msrun started
            several processes, or ``output`` holds another training, one on other data, or none.
        EngineError: MindSpore does not compute on that device.
        MissingExtraError: ``tensorboard`` without its extra.
        OutputError: the folder cannot be written, or another training is writing it.
        DataError, CheckpointError, DownloadError: from the data set and the weights.
    """
    output = Path(output)
    choose_device(device)
    devices = Devices.join()
    known = read_history(output / HISTORY) if resume else None
    chosen = check_settings({**(known.settings if known else {}), **settings}, "settings")
    if known is None and any((output / name).exists() for name in (HISTORY, LAST)):
        raise TrainingError(
            f"{output}: there is a training here already; go on with it (resume), or give another "
            f"folder"
        )
    # No process may write before all have looked.
    devices.meet()
    check_output(output, folder=True)
    if not isinstance(data, VehicleDataset):
        data = read_dataset(data)
    if not len(data.train):
        raise TrainingError(f"{data.root}: the data set has no train split; nothing to train on")
    task, digest = find_task(chosen), data_digest(data)
    if known is None:
        given, better = chosen.as_json(), task.higher_is_better
        history = History(given, digest, metric=task.metric, higher_is_better=better)
    else:
        check_same(known, chosen.as_json(), output, digest)
        history = _kept(known, output)
    make_folder(output)
    guard_cpu()
    mindspore.set_seed(chosen.seed)
    show = progress and devices.is_first
    weights = None if chosen.weights == "none" else chosen.weights
    source = WeightsSource(weights, chosen.card, cache_dir, offline, show)
    job = Job(chosen, data, output, source, devices, workers, show)
    writers = [on_epoch]
    if tensorboard and devices.is_first:
        writers.insert(0, EventWriter(output / "events").write)
    alone = exclusive(output, output / ".training.lock") if devices.is_first else nullcontext()
    with alone:
        run = Run.prepare(task(job), history)
        for record in run.epochs():
            for write in writers if devices.is_first else ():
                write(record)
    return FinetuneResult(output, run.history, output / BEST, devices.is_first)


def _kept(history: History, output: Path) -> History:
    """The epochs that can be gone on from; TrainingError if their state is not there."""
    if (output / LAST).is_file():
        return history
    if len(history.epochs) > 1:
        raise TrainingError(
            f"{output / LAST}: there is no such file, though {len(history.epochs)} epochs are "
            f"trained; put it back, or start again in another folder"
        )
    # It died while its first epoch was written down, before there was a state to go on from.
    return replace(history, epochs=())
