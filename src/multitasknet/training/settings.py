"""All that decides what a training does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ..errors import MultiTaskNetError
from ..models.definition import check_size
from .augmentation import FLIPS
from .optimization import FROZEN, OPTIMIZERS
from .schedule import SCHEDULES

PRECISIONS = ("auto", "float32", "mixed")


class FinetuneError(MultiTaskNetError, ValueError):
    """Settings that cannot be used, or not with this output folder."""


@dataclass(frozen=True)
class Settings:
    """All that decides what a training does.

    Attributes:
        weights: ``card``, ``none`` for fresh ones, or a file; see :func:`create_network`.
        card: a model card; None for this module's.
        variant: the input variant; None for that of the weights.
        size: side of the network's input, a multiple of 32.
        epochs: how often every image is used, on average.
        batch: images a batch, for each device.
        instances: images of each vehicle in a batch.
        optimizer: ``adam`` or ``sgd``.
        lr: learning rate after the warm-up.
        schedule: ``cosine``, ``steps`` or ``constant``; see
            :class:`multitasknet.training.schedule.Schedule`.
        warmup: epochs of warm-up.
        milestones: for ``steps``, epochs at which the rate falls to a tenth.
        backbone_rate: the backbone's learning rate as a part of ``lr``.
        weight_decay: L2 penalty on weights; norms and biases have none.
        clip: largest norm of the gradient.
        freeze: ``none``; ``stages``, the stem and first two dense blocks; ``backbone``, whose features
            are then computed once.
        freeze_statistics: keep the batch norms' statistics, all over the network.
        smoothing: label smoothing of the identity loss.
        margin: of the triplet loss; None for the soft margin.
        triplet_weight, color_weight, type_weight: weights of the losses; the identity's is 1.
        crop, flip, erase, jitter: see
            :class:`multitasknet.training.augmentation.RandomAugmentation`.
        gather: mine triplets across all devices.
        precision: ``float32``, ``mixed`` (float16 with loss scaling), ``auto``: mixed but on a CPU.
        evaluate_every: epochs between two evaluations on query and gallery.
        seed: starts all random numbers.
    """

    weights: str = "card"
    card: str | None = None
    variant: str | None = None
    size: int = 256
    epochs: int = 10
    batch: int = 32
    instances: int = 4
    optimizer: str = "adam"
    lr: float = 3e-4
    schedule: str = "cosine"
    warmup: float = 1.0
    milestones: tuple[float, ...] = ()
    backbone_rate: float = 1.0
    weight_decay: float = 5e-4
    clip: float = 50.0
    freeze: str = "none"
    freeze_statistics: bool = False
    smoothing: float = 0.1
    margin: float | None = 0.3
    triplet_weight: float = 1.0
    color_weight: float = 0.125
    type_weight: float = 0.125
    crop: float = 0.5
    flip: str = "swap"
    erase: float = 0.5
    jitter: float = 0.2
    gather: bool = False
    precision: str = "auto"
    evaluate_every: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise FinetuneError(
                    f"{name} is {getattr(self, name)!r}; expected one of {', '.join(choices)}"
                )
        for name in ("epochs", "batch", "instances", "evaluate_every"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise FinetuneError(f"{name} is {value!r}; expected a whole number of at least 1")
        if self.instances < 2 or self.batch % self.instances or self.batch == self.instances:
            raise FinetuneError(
                f"batch is {self.batch} and instances is {self.instances}; expected at least 2 "
                f"images of each of at least 2 vehicles, and a batch that they divide"
            )
        for name in ("lr", "clip"):
            if not getattr(self, name) > 0:
                raise FinetuneError(f"{name} is {getattr(self, name)!r}; expected more than 0")
        try:
            check_size((self.size, self.size))
        except ValueError as error:
            raise FinetuneError(str(error)) from error

    @classmethod
    def of(cls, values: Mapping[str, Any], source: str) -> Settings:
        """From names and values, as a YAML file or a history holds them.

        Raises:
            FinetuneError: a name is unknown or a value not allowed.
        """
        unknown = [name for name in values if name not in cls.__dataclass_fields__]
        if unknown:
            raise FinetuneError(
                f"{source}: unknown setting {unknown[0]!r}; expected some of "
                f"{', '.join(cls.__dataclass_fields__)}"
            )
        try:
            return cls(**dict(values) | {"milestones": tuple(values.get("milestones", ()))})
        except TypeError as error:
            raise FinetuneError(f"{source}: a setting has the wrong type: {error}") from error


def read_config(path: str | Path) -> dict[str, Any]:
    """Read settings from a YAML file; FinetuneError if it is not a mapping of known names."""
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise FinetuneError(f"{path}: the settings cannot be read: {error}") from error
    if not isinstance(values, dict):
        raise FinetuneError(f"{path}: expected lines of 'setting: value', got {values!r}")
    Settings.of(values, str(path))
    return values


_CHOICES = {
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
    "freeze": tuple(FROZEN),
    "flip": FLIPS,
    "precision": PRECISIONS,
}
