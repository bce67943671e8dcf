"""Epochs as TensorBoard events; needs the extra ``tensorboard``."""

from __future__ import annotations

from pathlib import Path

from ..errors import import_extra
from .history import EpochRecord


class EventWriter:
    """Writes each epoch's losses, metrics, rate and speed below a folder."""

    def __init__(self, folder: Path) -> None:
        self._library = import_extra("tensorboardX", "tensorboard")
        self._folder = folder

    def write(self, record: EpochRecord) -> None:
        groups = {
            "loss": record.losses,
            "metrics": record.metrics,
            "training": {"rate": record.rate, "images_per_second": record.images_per_second},
        }
        # A file an epoch: only closing one brings all of it to the disk.
        suffix = f".epoch-{record.epoch:04}"
        with self._library.SummaryWriter(str(self._folder), filename_suffix=suffix) as writer:
            for group, values in groups.items():
                for name, value in values.items():
                    writer.add_scalar(f"{group}/{name}", value, record.epoch)
