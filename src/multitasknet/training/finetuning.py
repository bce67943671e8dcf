"""``finetune``: from a data set and weights to better weights, epoch by epoch."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mindspore

from ..data.layouts import read_dataset
from ..data.records import VehicleDataset
from ..device import choose_device
from ..files import check_output, exclusive, make_folder
from ..hub.source import WeightsSource
from ..runtime import guard_cpu
from .history import EpochRecord, History, read_history
from .parallel import Devices
from .reporting import EventWriter
from .run import BEST, HISTORY, LAST, Run
from .settings import FinetuneError, Settings, renamed
from .task import Job, find_task


@dataclass(frozen=True)
class FinetuneResult:
    """What a training came to.

    Attributes:
        output: the folder with ``best.ckpt``, ``last.ckpt``, ``history.json``, ``report.html``.
        history: settings and epochs, at least one.
        checkpoint: the best weights by the task's metric, with their sidecar beside them.
        is_first: whether this is the process that wrote; always, but under msrun.
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
    allow_outside: bool = False,
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
        device: ``CPU``, ``Ascend``, ``Ascend:1``, ``GPU`` and so on; None for what MindSpore
            finds. Under ``msrun`` without a number.
        workers: threads that prepare images.
        progress: draw progress bars.
        tensorboard: write TensorBoard events to ``output/events`` as well.
        on_epoch: called with each epoch's record.
        cache_dir, offline: as in :func:`multitasknet.create_network`.
        allow_outside: as in :func:`multitasknet.read_dataset`.
        settings: fields of the network's :class:`multitasknet.training.settings.Settings`;
            ``network``, ``weights`` and ``card`` among them.

    Returns:
        The :class:`FinetuneResult`.

    Raises:
        LaunchError: something else than msrun started several processes.
        FinetuneError: a setting is not allowed, or ``output`` holds another training or none.
        DeviceError: MindSpore does not compute there.
        SamplerError: fewer vehicles than a batch takes.
        TrainingError: the loss is not finite or has exploded; names the batch's images.
        Interrupted: SIGINT or SIGTERM came; the state is kept. A KeyboardInterrupt.
        MissingExtraError: ``tensorboard`` without its extra.
        OutputError: the folder cannot be written, or another training is writing it.
        DataError, CheckpointError, DownloadError: from the data set and the weights.
    """
    output = Path(output)
    choose_device(device)
    devices = Devices.join()
    chosen, history = (_resumed if resume else _fresh)(output, settings)
    # No process may write before all have looked.
    devices.any(False)
    check_output(output, folder=True)
    if not isinstance(data, VehicleDataset):
        data = read_dataset(data, allow_outside=allow_outside)
    dataset = data
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
    alone = exclusive(output, output / ".training.lock") if devices.is_first else nullcontext()
    with alone:
        run = Run.prepare(job, history)
        for record in run.epochs(resume):
            for write in writers if devices.is_first else ():
                write(record)
    return FinetuneResult(output, run.history, output / BEST, devices.is_first)


def _fresh(output: Path, settings: Mapping[str, Any]) -> tuple[Settings, History]:
    """The settings of a new training, and its history so far."""
    if (output / HISTORY).exists():
        raise FinetuneError(
            f"{output}: a training lies here already; go on with it (resume), or give another "
            f"folder"
        )
    chosen = Settings.of(settings, "settings")
    task = find_task(chosen)
    return chosen, History(
        chosen.as_json(), metric=task.METRIC, higher_is_better=task.HIGHER_IS_BETTER
    )


def _resumed(output: Path, settings: Mapping[str, Any]) -> tuple[Settings, History]:
    """The settings of the training that lies there, and its history so far."""
    history = read_history(output / HISTORY)
    if not (output / LAST).is_file():
        if len(history.epochs) > 1:
            raise FinetuneError(
                f"{output / LAST}: there is no such file, though {len(history.epochs)} epochs are "
                f"trained; put it back, or start anew in another folder"
            )
        # It died while its first epoch was written down, before there was a state to go on from.
        history = replace(history, epochs=())
    kept = Settings.of(history.settings, str(output / HISTORY))
    known = kept.as_json()
    given = renamed(settings, "settings")
    for name, value in json.loads(json.dumps(given, default=str)).items():
        if name in known and value != known[name]:
            raise FinetuneError(
                f"{output}: {name} is {value!r}, but the training to resume has "
                f"{known[name]!r}; leave it out, or start anew in another folder"
            )
    Settings.of({**known, **given}, "settings")
    return kept, replace(history, settings=known)
