"""The settings of a training: each one once, for Python, YAML and the command line."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import Field, asdict, dataclass, field, fields
from pathlib import Path
from reprlib import repr as shown
from typing import TYPE_CHECKING, Any, ClassVar

import yaml

from ..errors import TrainingError
from ..files import reading
from ..models import DEFAULT_NETWORK
from ..models.base import SIZE_STEP, VARIANTS
from ..vehicle.pose import POSE_CONVENTIONS

if TYPE_CHECKING:
    from typing_extensions import Self

OPTIMIZERS = ("adam", "sgd")
SCHEDULES = ("cosine", "steps", "constant")
FREEZES = ("none", "stages", "backbone", "blocks")
FLIPS = ("swap", "paper", "none")
PRECISIONS = ("auto", "float32", "mixed")
_KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}


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
        many: whether it is a list of such values.
    """

    help: str
    kind: type = str
    choices: tuple[str, ...] = ()
    least: float = -math.inf
    most: float = sys.float_info.max
    above: float = -math.inf
    optional: bool = False
    many: bool = False

    @property
    def expected(self) -> str:
        """What a value must be, in words."""
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        words = [f"more than {self.above:g}" if self.above > -math.inf else _KINDS[self.kind]]
        if self.least > -math.inf:
            words.append(f"of at least {self.least:g}")
        if self.most < sys.float_info.max:
            words.append(f"of at most {self.most:g}")
        return f"{'a list, each ' * self.many}{' '.join(words)}"

    def read(self, value: Any) -> Any:
        """The value in the setting's own type, if it is written in another that means the same:
        a path, NumPy's numbers, or 3e-4, which YAML takes for a text."""
        if isinstance(value, Path):
            return str(value)
        if hasattr(value, "tolist"):
            return value.tolist()
        if self.kind is float and isinstance(value, str):
            with suppress(ValueError):
                return float(value)
        return value

    def allows(self, value: Any) -> bool:
        """Whether a value is of that kind and in that range."""
        if self.many:
            return isinstance(value, list | tuple) and all(map(self._allows_one, value))
        return self._allows_one(value)

    def _allows_one(self, value: Any) -> bool:
        if value is None:
            return self.optional
        kinds = (int, float) if self.kind is float else (self.kind,)
        if type(value) not in kinds or (self.choices and value not in self.choices):
            return False
        is_number = self.kind in (int, float)
        return not is_number or (self.above < value and self.least <= value <= self.most)


def setting(default: Any, help: str, **limits: Any) -> Any:
    """A field of :class:`Settings`; the rest are fields of its :class:`Rule`."""
    kind = type(default)
    if default is None:
        limits = {"kind": str, "optional": True} | limits
    return field(default=default, metadata={"rule": Rule(help, **({"kind": kind} | limits))})


def _same(name: str, default: Any) -> Any:
    """The setting of that name with another default."""
    known: dict[str, Field] = Settings.__dataclass_fields__
    return field(default=default, metadata=known[name].metadata)


@dataclass(frozen=True)
class Settings:
    """The settings of a training, whatever the network; :meth:`rules` has what each may be.

    Attributes:
        TASK: what trains by these, as ``module:name``: takes a :class:`.loop.Job`, returns its
            :class:`.loop.Task`.
    """

    TASK: ClassVar[str] = ""

    weights: str = setting(
        "default", "'default' (shipped), 'card', 'synthetic', 'none' for fresh weights, or a file"
    )
    card: str | None = setting(None, "a model card instead of the network's")
    network: str = setting(DEFAULT_NETWORK, "the network to train")
    size: int | None = setting(
        None,
        "side of the input in pixels, a multiple of 32, instead of the weights'",
        kind=int,
        least=32,
    )
    epochs: int = setting(10, "uses of every image, on average", least=1)
    batch_size: int = setting(32, "images per batch and device", least=1)
    optimizer: str = setting("adam", "the optimizer", choices=OPTIMIZERS)
    lr: float = setting(3e-4, "learning rate after the warm-up", above=0)
    schedule: str = setting("cosine", "how the learning rate falls", choices=SCHEDULES)
    warmup: float = setting(1.0, "epochs of warm-up", least=0)
    milestones: tuple[float, ...] = setting(
        (), "for steps: epochs at which the rate falls to a tenth", kind=float, least=0, many=True
    )
    backbone_rate: float = setting(1.0, "the backbone's part of the learning rate", least=0)
    weight_decay: float = setting(
        5e-4, "L2 penalty on weights; norms and biases have none", least=0
    )
    clip: float = setting(50.0, "largest norm of the gradient", above=0)
    freeze: str = setting(
        "none",
        "what is not trained. stages: stem and first two blocks; blocks: all but the last; "
        "backbone: all but the heads, its features are computed once",
        choices=FREEZES,
    )
    freeze_statistics: bool = setting(False, "keep the statistics of all batch norms")
    precision: str = setting(
        "auto",
        "mixed is float16 with loss scaling; auto is mixed, except on a CPU",
        choices=PRECISIONS,
    )
    pose_convention: str | None = setting(
        None,
        "what the labels' confidences mean, instead of the weights'",
        choices=POSE_CONVENTIONS,
    )
    evaluate_every: int = setting(1, "epochs between two evaluations", least=1)
    seed: int = setting(0, "of all that is random", least=0, most=2**32 - 1)

    def __post_init__(self) -> None:
        for name, rule in self.rules().items():
            value = getattr(self, name)
            if not rule.allows(value):
                raise TrainingError(f"{name} is {shown(value)}; expected {rule.expected}")
        if self.size is not None and self.size % SIZE_STEP:
            raise TrainingError(f"size is {self.size}; expected a multiple of {SIZE_STEP}")

    @classmethod
    def rules(cls) -> dict[str, Rule]:
        """What each setting is and may be, by name."""
        return {one.name: one.metadata["rule"] for one in fields(cls)}

    def as_json(self) -> dict[str, Any]:
        """The settings as a history gives them back."""
        return json.loads(json.dumps(asdict(self)))

    @classmethod
    def checked(cls, values: Mapping[str, Any], source: str) -> Self:
        """From names and values; TrainingError for an unknown name or a value not allowed."""
        unknown = [name for name in values if name not in cls.rules()]
        if unknown:
            raise TrainingError(
                f"{source}: unknown setting {shown(unknown[0])}; expected some of "
                f"{', '.join(cls.rules())}"
            )
        rules = cls.rules()
        try:
            return cls(**{name: rules[name].read(value) for name, value in values.items()})
        except TrainingError as error:
            raise TrainingError(f"{source}: {error}") from error


@dataclass(frozen=True)
class IdentitySettings(Settings):
    """The settings of any embedding network."""

    TASK: ClassVar[str] = f"{__package__}.identity:prepare"

    instances: int = setting(4, "images of each vehicle in a batch", least=1)
    smoothing: float = setting(0.1, "label smoothing of the identity loss", least=0, most=1)
    margin: float | None = setting(
        0.3, "of the triplet loss; None is the soft margin", least=0, optional=True
    )
    triplet_weight: float = setting(1.0, "of the triplet loss; the identity's is 1", least=0)
    color_weight: float = setting(0.125, "of the colour loss", least=0)
    type_weight: float = setting(0.125, "of the type loss", least=0)
    crop: float = setting(0.5, "share of images to zoom into", least=0, most=1)
    flip: str = setting(
        "swap", "mirror images: exchange left and right, or as the paper", choices=FLIPS
    )
    erase: float = setting(0.5, "share of images to erase a part of", least=0, most=1)
    jitter: float = setting(0.2, "of brightness and contrast", least=0, most=1)
    pose: str = setting(
        "auto",
        "for images without keypoints, if the network takes poses: auto, none, card, synthetic, or "
        "a file of pose weights",
    )

    @property
    def network_options(self) -> dict[str, Any]:
        """What ``create_network`` takes for the network, beside class counts."""
        return {}

    def __post_init__(self) -> None:
        super().__post_init__()
        alone = self.instances < 2 or self.batch_size == self.instances
        if alone or self.batch_size % self.instances:
            raise TrainingError(
                f"batch_size is {self.batch_size} and instances is {self.instances}; expected at "
                f"least 2 images of each of at least 2 vehicles, and a batch that they divide"
            )


@dataclass(frozen=True)
class MultiTaskNetSettings(IdentitySettings):
    """MultiTaskNet's settings."""

    variant: str | None = setting(None, "input variant instead of the weights'", choices=VARIANTS)

    @property
    def network_options(self) -> dict[str, Any]:
        return {"variant": self.variant}


@dataclass(frozen=True)
class AdaptSettings(IdentitySettings):
    """The settings of :func:`.adapt.adapt`: of its rounds, and of the training in each."""

    rounds: int = setting(3, "of clustering and training; 0: batch norm statistics alone", least=0)
    epochs: int = setting(1, "uses of every clustered crop in a round, on average", least=1)
    eps: float | None = setting(
        None,
        "largest Jaccard distance of neighbours, instead of the one with the largest silhouette",
        kind=float,
        above=0,
        most=0.99,
    )
    min_images: int = setting(2, "neighbours that make a crop a cluster's core", least=2)
    neighbors: int = setting(20, "crops whose neighbourhood is compared, k1 of re-ranking", least=1)
    schedule: str = _same("schedule", "constant")
    warmup: float = _same("warmup", 0.0)
    # With all blocks the first round lost what the last block alone gains (docs/adapt.md).
    freeze: str = _same("freeze", "blocks")
    # They are the crops' by then, and batches of P x K with erased parts would spoil them.
    freeze_statistics: bool = _same("freeze_statistics", True)


@dataclass(frozen=True)
class PoseSettings(Settings):
    """PoseEstNet's settings."""

    TASK: ClassVar[str] = f"{__package__}.pose:prepare"

    network: str = _same("network", "poseestnet")
    lr: float = _same("lr", 1e-3)
    weight_decay: float = _same("weight_decay", 1e-4)
    appearance: float = setting(
        0.5, "share of images for each change of colour, sharpness and noise", least=0, most=1
    )
    resolution: float = setting(0.5, "share of images to make coarser", least=0, most=1)
    cover: float = setting(0.3, "share of images to cover a part of", least=0, most=1)


# Which settings, and through them which task, belong to a network.
SETTINGS: dict[str, type[Settings]] = {
    "multitasknet": MultiTaskNetSettings,
    "poseestnet": PoseSettings,
    "vehiclereid": IdentitySettings,
}


def check_settings(values: Mapping[str, Any], source: str) -> Settings:
    """The settings of the network that these names and values are for; TrainingError."""
    network = values.get("network", DEFAULT_NETWORK)
    kind = SETTINGS.get(str(network))
    if kind is None:
        raise TrainingError(
            f"{source}: network is {shown(network)}; expected one of {', '.join(SETTINGS)}"
        )
    return kind.checked(values, source)


def read_config(path: str | Path, kind: type[Settings] | None = None) -> dict[str, Any]:
    """Read settings from a YAML file; TrainingError if it is not a mapping of known names.

    Args:
        path: the file.
        kind: the settings' class; by default that of the network that the file names.
    """
    path = Path(path)
    remedy = "expected lines of 'setting: value'"
    with reading(path, TrainingError, "the settings cannot be read", remedy):
        values = yaml.safe_load(path.read_text(encoding="utf-8-sig")) or {}
    if not isinstance(values, dict):
        raise TrainingError(f"{path}: expected lines of 'setting: value', got {shown(values)}")
    values = {str(name): value for name, value in values.items()}
    (kind.checked if kind else check_settings)(values, str(path))
    return values
