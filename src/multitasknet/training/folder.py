"""A training's folder: what is kept in it, and in which order."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mindspore
import numpy as np

from ..vehicle.attributes import ClassMaps
from ..weights.sidecar import Sidecar, write_sidecar
from .curves import write_training_report
from .history import EpochRecord, History, write_history
from .state import Progress, save_network, save_state
from .step import TrainingStep


@dataclass(frozen=True)
class RunFolder:
    """Where a training's results lie.

    Attributes:
        path: the folder.
        data: the data set's root, for the sidecars.
    """

    path: Path
    data: Path

    @property
    def history(self) -> Path:
        return self.path / "history.json"

    @property
    def best(self) -> Path:
        """The best weights by mAP, with a sidecar."""
        return self.path / "best.ckpt"

    @property
    def last(self) -> Path:
        """The training's whole state, with a sidecar."""
        return self.path / "last.ckpt"

    def write(self, history: History) -> None:
        """Write the history and its page."""
        write_history(self.history, history)
        write_training_report(self.path / "report.html", history, data=self.data)

    def keep_epoch(
        self,
        history: History,
        network: Any,
        class_maps: ClassMaps,
        step: TrainingStep,
        progress: Progress,
    ) -> None:
        """Keep all that the last epoch came to."""
        record = history.epochs[-1]
        sidecar = Sidecar(network.spec, class_maps, record.metrics, self._origin(record, history))
        if history.best is record:
            save_network(self.best, network)
            write_sidecar(self.best, sidecar)
        self.write(history)
        # Last of all: what a resume starts from must find all else in place.
        write_sidecar(self.last, sidecar)
        save_state(self.last, network, step, progress)

    def _origin(self, record: EpochRecord, history: History) -> dict[str, Any]:
        return {
            "epoch": record.epoch,
            "data": str(self.data),
            "settings": history.settings,
            "versions": {"mindspore": mindspore.__version__, "numpy": np.__version__},
        }
