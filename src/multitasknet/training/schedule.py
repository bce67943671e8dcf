"""The learning rate over the epochs: warm-up, then steps or a half cosine."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .settings import SCHEDULES

_WARMUP_START = 0.01


@dataclass(frozen=True)
class Schedule:
    """The learning rate as a function of the epoch.

    Attributes:
        rate: the rate after warm-up.
        epochs: length of the training; the half cosine ends there.
        kind: ``cosine`` (Loshchilov and Hutter, SGDR, 2017, without restarts), ``steps`` or
            ``constant``.
        warmup: epochs over which the rate rises linearly from a hundredth of ``rate``.
        milestones: for ``steps``: epochs at which the rate is multiplied by ``factor``.
        factor: see ``milestones``.
        floor: for ``cosine``: the last rate as a part of ``rate``.
    """

    rate: float
    epochs: int
    kind: str = "cosine"
    warmup: float = 0.0
    milestones: tuple[float, ...] = ()
    factor: float = 0.1
    floor: float = 0.01

    def __post_init__(self) -> None:
        if self.kind not in SCHEDULES:
            raise ValueError(f"schedule is {self.kind!r}; expected one of {', '.join(SCHEDULES)}")

    def at(self, epoch: float) -> float:
        """The rate at a point in time, in epochs since the start."""
        if epoch < self.warmup:
            return self.rate * (_WARMUP_START + (1 - _WARMUP_START) * epoch / self.warmup)
        if self.kind == "steps":
            return self.rate * self.factor ** sum(epoch >= at for at in self.milestones)
        if self.kind == "constant":
            return self.rate
        done = (epoch - self.warmup) / max(self.epochs - self.warmup, 1e-9)
        return self.rate * (self.floor + (1 - self.floor) * (1 + math.cos(math.pi * done)) / 2)
