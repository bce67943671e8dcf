"""``finetune``: from a data set and weights to better weights, epoch by epoch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, TypeVar

import mindspore

from ..data.layouts import read_dataset
from ..data.records import VehicleDataset, mixture
from ..device import choose_device
from ..errors import TrainingError
from ..files import check_output, exclusive, make_folder
from ..hub.source import DEFAULT, NONE, WeightsSource, default_weights
from ..inference.pose import AUTO, pose_at_hand
from ..models import find_network
from ..runtime import guard_cpu
from ..weights.read import Weights, WeightsFile, check_network
from .history import HISTORY, EpochRecord, History, read_history
from .loop import BEST, LAST, Job, Run, data_digest
from .parallel import Devices
from .settings import IdentitySettings, Settings, check_settings

AnySettings = TypeVar("AnySettings", bound=Settings)


@dataclass(frozen=True)
class FinetuneResult:
    """What a training came to."""

    output: Path  # the folder with best.ckpt, last.ckpt, history.json, report.html
    history: History  # its ``best`` is the epoch that ``checkpoint`` is of
    checkpoint: Path  # the best weights by the task's metric, their sidecar beside them
    is_first: bool = True  # whether this process wrote; always, except under msrun

    @property
    def metrics(self) -> Mapping[str, float]:
        """What ``checkpoint`` reaches, in percent; empty if nothing was measured."""
        return self.history.best_metrics


def finetune(
    data: str | Path | Sequence[str | Path] | VehicleDataset,
    output: str | Path,
    *,
    resume: bool = False,
    device: str | None = None,
    workers: int = 1,
    progress: bool = True,
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
        data: the data set or its root, see :func:`multitasknet.read_dataset`; several roots are
            trained on together, see :func:`multitasknet.data.records.mixture`. Networks are
            validated on query and gallery; without these there are no metrics, and the last epoch
            counts as the best.
        output: the folder for results; a new one, unless ``resume`` is set.
        resume: go on after the last finished epoch of the training in ``output``. Its settings
            hold; one that is given must be the same, and so must the data.
        device: ``CPU``, ``Ascend``, ``Ascend:1``, ``GPU`` and so on; None for what MindSpore
            finds. Under ``msrun`` without a number.
        workers: threads that prepare images.
        on_epoch: called with each epoch's record.
        cache_dir, offline: as in :func:`multitasknet.create_network`.
        settings: fields of the network's :class:`multitasknet.training.settings.Settings`;
            ``network``, ``weights`` and ``card`` among them.

    Raises:
        TrainingError: a setting is not allowed, the data cannot fill a batch, the loss is not
            finite or has exploded (names the batch's images), something other than msrun started
            several processes, or ``output`` holds another training, one on other data, or none.
        EngineError: MindSpore does not compute on that device.
        OutputError: the folder cannot be written, or another training is writing it.
        DataError, CheckpointError, DownloadError: from the data set and the weights.
    """
    output = Path(output)
    choose_device(device)
    devices = Devices.join()
    known = read_history(output / HISTORY) if resume else None
    if known is None and any((output / name).exists() for name in (HISTORY, LAST)):
        raise TrainingError(
            f"{output}: there is a training here already; go on with it (resume), or give another "
            f"folder"
        )
    # No process may write before all have looked.
    devices.any(False)
    check_output(output, folder=True)
    if not isinstance(data, VehicleDataset):
        data = mixture(map(read_dataset, [data] if isinstance(data, str | Path) else data))
    chosen = check_settings({**known.settings, **settings} if known else settings, "settings")
    # A training that goes on needs no other weights than its own.
    state = output / LAST if known and (output / LAST).is_file() else None
    show = progress and devices.is_first
    chosen, source, weights = resolved(chosen, [chosen.network], cache_dir, offline, show, state)
    digest = data_digest(data)
    if known:
        known.check_same(chosen.as_json(), output, data=digest)
    make_folder(output)
    guard_cpu()
    mindspore.set_seed(chosen.seed)
    job = Job(chosen, data, output, source, weights, devices, workers, show)
    alone = exclusive(output, output / ".training.lock") if devices.is_first else nullcontext()
    with alone:
        task = resolve_name(chosen.TASK)(job)
        new = History(chosen.as_json(), digest, {}, (), task.metric, task.higher_is_better)
        run = Run(job, task, known or new)
        for record in run.epochs():
            if devices.is_first:
                on_epoch(record)
    return FinetuneResult(output, run.history, output / BEST, devices.is_first)


def resolved(
    settings: AnySettings,
    networks: Sequence[str],
    cache_dir: str | Path | None,
    offline: bool,
    progress: bool,
    state: Path | None = None,
) -> tuple[AnySettings, WeightsSource, Weights | None]:
    """The settings with ``default`` weights, ``auto`` poses and the network found, for good.

    Also where weights come from, and the weights, of one of ``networks``: those in ``state``, or
    else those that the settings name; None for random values.
    """
    weights = settings.weights
    if weights == DEFAULT:
        weights = str(default_weights(networks, settings.card) or NONE)
    source = WeightsSource(weights, settings.card, cache_dir, offline, progress)
    file = WeightsFile(state) if state else source.file(*networks)
    found = file.read(find_network(networks[0]) if len(networks) == 1 else None) if file else None
    network = settings.network
    if found is not None:
        network = found.spec.network
        check_network(network, networks, str(found.path))
    spec = found.spec if found else find_network(network).spec_type()
    height, width = spec.input_size
    size = settings.size or (height if height == width else None)
    known: dict[str, Any] = {"weights": weights, "network": network, "size": size}
    if isinstance(settings, IdentitySettings) and spec.uses_pose:
        known["pose_convention"] = settings.pose_convention or spec.pose_convention
        if settings.pose == AUTO:
            known["pose"] = pose_at_hand(known["pose_convention"], cache_dir)
    return settings.model_copy(update=known), source, found
