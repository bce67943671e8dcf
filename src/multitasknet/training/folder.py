"""A training's folder: what is kept in it, and in which order."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import mindspore
import numpy as np

from ..weights.sidecar import Sidecar, write_sidecar
from .curves import write_training_report
from .history import History, write_history
from .preparation import Training
from .state import Progress, load_state, save_network, save_state


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
        """The best weights by the task's metric, with a sidecar."""
        return self.path / "best.ckpt"

    @property
    def last(self) -> Path:
        """The training's whole state, with a sidecar."""
        return self.path / "last.ckpt"

    def write(self, history: History) -> None:
        """Write the history and its page."""
        write_history(self.history, history)
        write_training_report(self.path / "report.html", history, data=self.data)

    def keep_epoch(self, history: History, training: Training, progress: Progress) -> None:
        """Keep all that the last epoch came to."""
        record, network = history.epochs[-1], training.network
        origin = {
            "epoch": record.epoch,
            "data": str(self.data),
            "settings": history.settings,
            "versions": {"mindspore": mindspore.__version__, "numpy": np.__version__},
        }
        sidecar = Sidecar(network.spec, training.parts.class_maps, record.metrics, origin)
        if history.best is record:
            save_network(self.best, network)
            write_sidecar(self.best, sidecar)
        self.write(history)
        # Last of all: what a resume starts from must find all else in place.
        write_sidecar(self.last, sidecar)
        self.keep_state(training, progress)

    def keep_state(self, training: Training, progress: Progress) -> None:
        """Keep what a resume starts from."""
        save_state(self.last, training.network, training.trainer.step, progress)

    def load_state(self, training: Training) -> Progress:
        """Go back to what was kept."""
        return load_state(self.last, training.network, training.trainer.step)
