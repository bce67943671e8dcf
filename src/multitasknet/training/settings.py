"""All that decides what a training does: each setting once, for Python, YAML and the command."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from ..errors import MultiTaskNetError
from ..models.definition import check_size
from ..models.multitasknet.spec import VARIANTS

logger = logging.getLogger(__name__)

OPTIMIZERS = ("adam", "sgd")
SCHEDULES = ("cosine", "steps", "constant")
FREEZES = ("none", "stages", "backbone")
FLIPS = ("swap", "paper", "none")
PRECISIONS = ("auto", "float32", "mixed")
_OLD_NAMES = {"batch": "batch_size", "trunk_rate": "backbone_rate"}


class FinetuneError(MultiTaskNetError, ValueError):
    """Settings that cannot be used, or not with this output folder."""


@dataclass(frozen=True)
class Rule:
    """What a setting may be.

    Attributes:
        help: what it is, for people.
        kind: its type; whole numbers pass for floats.
        choices: the only values, if there are any.
        least, most: the range, ends included.
        above: the range's lower end, excluded.
        optional: whether None is a value too.
    """

    help: str
    kind: type
    choices: tuple[str, ...] = ()
    least: float = -math.inf
    most: float = math.inf
    above: float = -math.inf
    optional: bool = False

    @property
    def expected(self) -> str:
        """What a value must be, in words."""
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        names = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
        words = [names[self.kind]]
        if self.above > -math.inf:
            words = [f"more than {self.above:g}"]
        if self.least > -math.inf:
            words.append(f"of at least {self.least:g}")
        if self.most < math.inf:
            words.append(f"of at most {self.most:g}")
        return " ".join(words)

    def allows(self, value: Any) -> bool:
        """Whether a value is of that kind and in that range."""
        if value is None:
            return self.optional
        kinds = (int, float) if self.kind is float else (self.kind,)
        if type(value) not in kinds or (self.choices and value not in self.choices):
            return False
        if self.kind in (bool, str):
            return True
        return math.isfinite(value) and self.above < value and self.least <= value <= self.most


def _setting(default: Any, help: str, *, kind: type | None = None, **limits: Any) -> Any:
    rule = Rule(help, kind or type(default), **limits)
    return field(default=default, metadata={"rule": rule})


@dataclass(frozen=True)
class Settings:
    """The settings of a training; :meth:`rules` says what each is and may be."""

    weights: str = _setting("card", "'card', 'none' for fresh weights, or a file")
    card: str | None = _setting(
        None, "a model card instead of the network's", kind=str, optional=True
    )
    variant: str | None = _setting(
        None, "input variant instead of the weights'", kind=str, choices=VARIANTS, optional=True
    )
    size: int = _setting(256, "side of the input in pixels, a multiple of 32", least=32)
    epochs: int = _setting(10, "uses of every image, on average", least=1)
    batch_size: int = _setting(32, "images per batch and device", least=1)
    instances: int = _setting(4, "images of each vehicle in a batch", least=1)
    optimizer: str = _setting("adam", "the optimizer", choices=OPTIMIZERS)
    lr: float = _setting(3e-4, "learning rate after the warm-up", above=0)
    schedule: str = _setting("cosine", "of the learning rate", choices=SCHEDULES)
    warmup: float = _setting(1.0, "epochs of warm-up", least=0)
    milestones: tuple[float, ...] = _setting(
        (), "for steps: epochs at which the rate falls to a tenth", kind=float, least=0
    )
    backbone_rate: float = _setting(1.0, "the backbone's part of the learning rate", least=0)
    weight_decay: float = _setting(
        5e-4, "L2 penalty on weights; norms and biases have none", least=0
    )
    clip: float = _setting(50.0, "largest norm of the gradient", above=0)
    freeze: str = _setting(
        "none",
        "stages: stem and first two blocks; backbone: its features are computed once",
        choices=FREEZES,
    )
    freeze_statistics: bool = _setting(False, "keep the statistics of all batch norms")
    smoothing: float = _setting(0.1, "label smoothing of the identity loss", least=0, most=1)
    margin: float | None = _setting(
        0.3, "of the triplet loss; None is the soft margin", least=0, optional=True
    )
    triplet_weight: float = _setting(1.0, "of the triplet loss; the identity's is 1", least=0)
    color_weight: float = _setting(0.125, "of the colour loss", least=0)
    type_weight: float = _setting(0.125, "of the type loss", least=0)
    crop: float = _setting(0.5, "share of images to zoom into", least=0, most=1)
    flip: str = _setting(
        "swap", "mirror images: exchange left and right, or as the paper", choices=FLIPS
    )
    erase: float = _setting(0.5, "share of images to erase a part of", least=0, most=1)
    jitter: float = _setting(0.2, "of brightness and contrast", least=0, most=1)
    gather: bool = _setting(False, "mine triplets across all devices")
    precision: str = _setting(
        "auto", "mixed is float16 with loss scaling; auto is mixed but on a CPU", choices=PRECISIONS
    )
    evaluate_every: int = _setting(1, "epochs between two evaluations", least=1)
    seed: int = _setting(0, "of all that is random", least=0, most=2**32 - 1)

    def __post_init__(self) -> None:
        for name, rule in self.rules().items():
            value = getattr(self, name)
            values = value if name == "milestones" and isinstance(value, tuple) else (value,)
            if not all(rule.allows(one) for one in values):
                raise FinetuneError(f"{name} is {value!r}; expected {rule.expected}")
        alone = self.instances < 2 or self.batch_size == self.instances
        if alone or self.batch_size % self.instances:
            raise FinetuneError(
                f"batch_size is {self.batch_size} and instances is {self.instances}; expected at "
                f"least 2 images of each of at least 2 vehicles, and a batch that they divide"
            )
        try:
            check_size((self.size, self.size))
        except ValueError as error:
            raise FinetuneError(str(error)) from error

    @classmethod
    def rules(cls) -> dict[str, Rule]:
        """What each setting is and may be, by name."""
        return {one.name: one.metadata["rule"] for one in fields(cls)}

    @classmethod
    def of(cls, values: Mapping[str, Any], source: str) -> Settings:
        """From names and values, as a YAML file or a history holds them.

        Raises:
            FinetuneError: a name is unknown or a value not allowed.
        """
        values = renamed(values, source)
        unknown = [name for name in values if name not in cls.rules()]
        if unknown:
            raise FinetuneError(
                f"{source}: unknown setting {unknown[0]!r}; expected some of "
                f"{', '.join(cls.rules())}"
            )
        milestones = values.get("milestones", ())
        if not isinstance(milestones, list | tuple):
            raise FinetuneError(
                f"{source}: milestones is {milestones!r}; expected a list of numbers"
            )
        try:
            return cls(**values | {"milestones": tuple(milestones)})
        except FinetuneError as error:
            raise FinetuneError(f"{source}: {error}") from error


def renamed(values: Mapping[str, Any], source: str) -> dict[str, Any]:
    """The same settings, those with the first release's words under today's, with a warning."""
    result = {}
    for name, value in values.items():
        if name in _OLD_NAMES:
            logger.warning("%s: %s is called %s now", source, name, _OLD_NAMES[name])
        if name == "freeze" and value == "trunk":
            logger.warning("%s: freeze: trunk is called backbone now", source)
            value = "backbone"
        result[_OLD_NAMES.get(name, name)] = value
    return result


def read_config(path: str | Path) -> dict[str, Any]:
    """Read settings from a YAML file; FinetuneError if it is not a mapping of known names."""
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
    # What PyYAML makes of odd tags and deep nesting is not only its own error.
    except (OSError, ValueError, KeyError, AttributeError, RecursionError, yaml.YAMLError) as error:
        raise FinetuneError(f"{path}: the settings cannot be read: {error}") from error
    if not isinstance(values, dict):
        raise FinetuneError(f"{path}: expected lines of 'setting: value', got {values!r}")
    values = {str(name): value for name, value in values.items()}
    Settings.of(values, str(path))
    return renamed(values, str(path))
