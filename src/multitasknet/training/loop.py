"""One epoch of training, from wherever it stands to its end or to a stop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from tqdm import tqdm

from ..errors import MultiTaskNetError
from .batches import Batch, Draw, Source
from .sampler import Sampler
from .schedule import Schedule
from .state import Progress
from .step import StepResult, TrainingStep
from .task import Job

# A loss of this size never comes back to anything good.
_EXPLODED = 1e4
_NAMED = 8


class TrainingError(MultiTaskNetError, RuntimeError):
    """The loss is not finite or has exploded; names the batch's images."""


@dataclass(frozen=True, eq=False)
class EpochTrainer:
    """Trains for one epoch at a time; ``losses`` names the loss's parts."""

    job: Job
    step: TrainingStep
    source: Source
    sampler: Sampler
    schedule: Schedule
    losses: tuple[str, ...]

    def run(self, progress: Progress, stopped: Callable[[], bool]) -> Progress:
        """Train to the epoch's end, or until ``stopped`` is true in any process.

        Raises:
            TrainingError: the loss or a gradient is not finite, or the loss has exploded.
        """
        devices = self.job.devices
        batches = self.sampler.epoch(progress.epoch, devices.rank)
        draw = Draw(self.job.settings.seed, progress.epoch, devices.rank, progress.step)
        left = self.source.training(batches[progress.step :], draw)
        bar = tqdm(
            total=len(batches),
            initial=progress.step,
            desc=f"epoch {progress.epoch + 1}/{self.schedule.epochs}",
            unit="batch",
            disable=None if self.job.show else True,
        )
        with bar:
            while progress.step < len(batches):
                started = time.perf_counter()
                result = self._train(next(left), progress, len(batches))
                progress = self._advanced(progress, result, time.perf_counter() - started)
                bar.set_postfix(loss=f"{result.total:.3f}", refresh=False)
                bar.update()
                if devices.any(stopped()):
                    break
        return progress

    def _train(self, batch: Batch, progress: Progress, steps: int) -> StepResult:
        self.step.set_rate(self.schedule.at(progress.epoch + progress.step / steps))
        result = self.step(batch.inputs, batch.labels)
        if not math.isfinite(result.total) or result.total > _EXPLODED:
            raise self._failure(f"the loss is {result.total:g}", batch, progress)
        if result.is_hopeless:
            raise self._failure("a gradient is not finite", batch, progress)
        return result

    def _advanced(self, progress: Progress, result: StepResult, seconds: float) -> Progress:
        losses = {"total": result.total, **dict(zip(self.losses, result.parts, strict=False))}
        # Single precision throughout, as the state keeps it: a resumed sum is the same sum.
        sums = {
            name: np.float32(progress.sums.get(name, 0)) + np.float32(value)
            for name, value in losses.items()
        }
        return replace(
            progress,
            step=progress.step + 1,
            skipped=progress.skipped + (not result.updated),
            seconds=progress.seconds + seconds,
            sums=sums,
        )

    def _failure(self, problem: str, batch: Batch, progress: Progress) -> TrainingError:
        names = [str(self.source.split.records[index].image) for index in batch.indices]
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        return TrainingError(
            f"epoch {progress.epoch + 1}, batch {progress.step + 1}: {problem}; the batch is "
            f"{', '.join(names[:_NAMED])}{more}. Look at these images and labels, or use a smaller "
            f"learning rate or a longer warm-up; the last epoch's state is kept"
        )


def mean_losses(progress: Progress) -> Mapping[str, float]:
    """The epoch's mean losses so far."""
    return {name: float(value) / progress.step for name, value in progress.sums.items()}
