"""What differs between the trainings of two networks; all else in this room serves any."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, cast

from mindspore import nn

from ..data.records import VehicleDataset
from ..hub.source import WeightsSource
from ..vehicle.attributes import ClassMaps
from .batches import Source
from .parallel import Devices
from .sampler import Sampler
from .settings import Settings


@dataclass(frozen=True, eq=False)
class Job:
    """A training as :func:`.finetuning.finetune` was asked for it.

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
            has nothing to validate on. It calls its argument between batches, and returns None if
            that says to stop. All processes call it, and may share the work.
        class_maps: which raw id each class stands for, for the sidecar.
    """

    forward: Callable[..., Any]
    loss: nn.Cell
    source: Source
    validate: Callable[[Callable[[], bool]], Mapping[str, float] | None]
    class_maps: ClassMaps = field(default_factory=lambda: ClassMaps((), (), ()))


class Task(Protocol):
    """One network's training. A module of these names is one; they are called in this order.

    Attributes:
        LOSSES: names of the loss's parts; a network without the last ones leaves them out.
        METRIC: which of the metrics decides what the best epoch is.
        HIGHER_IS_BETTER: whether its highest value does, or its lowest.
    """

    LOSSES: tuple[str, ...]
    METRIC: str
    HIGHER_IS_BETTER: bool

    def complete(self, job: Job) -> Job:
        """The job, with what the task adds to its data set, such as estimated poses."""

    def create_sampler(self, job: Job) -> Sampler:
        """What draws the batches; a MultiTaskNetError if the data set cannot be trained on."""

    def create_network(self, job: Job) -> nn.Cell:
        """The network with its first weights, and a ``spec`` that holds the input size."""

    def prepare(self, job: Job, network: nn.Cell) -> Parts:
        """All else, for the network as it will be trained: frozen and in its precision."""


def find_task(settings: Settings) -> Task:
    """The task that trains by settings of this class."""
    return cast("Task", import_module(settings.TASK, __package__))
