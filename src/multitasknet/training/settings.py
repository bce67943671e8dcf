"""The settings of a training: each one once, for Python, YAML and the command line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from reprlib import repr as shown
from typing import Annotated, Any, ClassVar, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    ValidationError,
    field_validator,
    model_validator,
)
from typing_extensions import Self

from ..errors import TrainingError
from ..files import reading
from ..models import DEFAULT_NETWORK
from ..models.base import SIZE_STEP, Variant
from ..vehicle.pose import PoseConvention

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Schedule = Literal["cosine", "steps", "constant"]
Freeze = Literal["none", "stages", "blocks", "backbone"]
_FROZEN = (
    "what is not trained. stages: stem and first two blocks; blocks: all but the last; "
    "backbone: all but the heads, its features are computed once"
)


class Settings(BaseModel):
    """The settings of a training, whatever the network.

    Attributes:
        TASK: what trains by these, as ``module:name``: takes a :class:`.loop.Job`, returns its
            :class:`.loop.Task`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    TASK: ClassVar[str] = ""

    weights: str = Field(
        "default",
        description="'default' (shipped), 'card', 'synthetic', 'none' for fresh weights, or a file",
    )
    card: str | None = Field(None, description="a model card instead of the network's")
    network: str = Field(DEFAULT_NETWORK, description="the network to train")
    size: int | None = Field(
        None,
        ge=SIZE_STEP,
        multiple_of=SIZE_STEP,
        description="side of the input in pixels, a multiple of 32, instead of the weights'",
    )
    epochs: Count = Field(10, description="uses of every image, on average")
    batch_size: Count = Field(32, description="images per batch and device")
    optimizer: Literal["adam", "sgd"] = "adam"
    lr: Positive = Field(3e-4, description="learning rate after the warm-up")
    schedule: Schedule = "cosine"
    warmup: NotNegative = 1.0  # epochs
    # For steps: epochs at which the rate falls to a tenth.
    milestones: tuple[NotNegative, ...] = ()
    backbone_rate: NotNegative = 1.0  # the backbone's part of the learning rate
    weight_decay: NotNegative = 5e-4  # of weights; norms and biases have none
    clip: Positive = 50.0  # largest norm of the gradient
    freeze: Freeze = Field("none", description=_FROZEN)
    freeze_statistics: StrictBool = False  # of all batch norms
    # mixed is float16 with loss scaling; auto is mixed, except on a CPU.
    precision: Literal["auto", "float32", "mixed"] = "auto"
    # What the labels' confidences mean, instead of the weights'.
    pose_convention: PoseConvention | None = None
    evaluate_every: Count = 1  # epochs
    seed: int = Field(0, ge=0, lt=2**32)

    @field_validator("*", mode="before")
    @classmethod
    def _read(cls, value: Any) -> Any:
        """Paths are texts, and NumPy's numbers are numbers."""
        if hasattr(value, "tolist"):
            return value.tolist()
        return str(value) if isinstance(value, Path) else value

    def as_json(self) -> dict[str, Any]:
        """The settings as a history gives them back."""
        return self.model_dump(mode="json")


class IdentitySettings(Settings):
    """The settings of any embedding network."""

    TASK: ClassVar[str] = f"{__package__}.identity:prepare"

    instances: int = Field(4, ge=2)  # images of each vehicle in a batch
    smoothing: Share = 0.1  # of the identity loss's labels
    margin: NotNegative | None = 0.3  # of the triplet loss; None is the soft margin
    triplet_weight: NotNegative = 1.0  # the identity loss's is 1
    color_weight: NotNegative = 0.125
    type_weight: NotNegative = 0.125
    crop: Share = 0.5  # of images to zoom into
    # Mirror images: exchange left and right, or as the paper.
    flip: Literal["swap", "paper", "none"] = "swap"
    erase: Share = 0.5  # of images to erase a part of
    jitter: Share = 0.2  # of brightness and contrast
    pose: str = Field(
        "auto",
        description="for images without keypoints, if the network takes poses: auto, none, card, "
        "synthetic, or a file of pose weights",
    )

    @property
    def network_options(self) -> dict[str, Any]:
        """What ``create_network`` takes for the network, beside class counts."""
        return {}

    @model_validator(mode="after")
    def _whole_vehicles(self) -> Self:
        if self.batch_size == self.instances or self.batch_size % self.instances:
            raise ValueError(
                f"batch_size is {self.batch_size} and instances is {self.instances}; expected at "
                f"least 2 images of each of at least 2 vehicles, and a batch that they divide"
            )
        return self


class MultiTaskNetSettings(IdentitySettings):
    """MultiTaskNet's settings."""

    # Of the input, instead of the weights'.
    variant: Variant | None = None

    @property
    def network_options(self) -> dict[str, Any]:
        return {"variant": self.variant}


class AdaptSettings(IdentitySettings):
    """The settings of :func:`.adapt.adapt`: of its rounds, and of the training in each."""

    rounds: int = Field(
        3, ge=0, description="of clustering and training; 0: batch norm statistics alone"
    )
    epochs: Count = 1  # uses of every clustered crop in a round, on average
    # Largest Jaccard distance of neighbours, instead of the one with the largest silhouette.
    eps: float | None = Field(None, gt=0, le=0.99)
    neighbors: Count = 20  # crops whose neighbourhood is compared, k1 of re-ranking
    schedule: Schedule = "constant"
    warmup: NotNegative = 0.0
    # With all blocks the first round lost what the last block alone gains (docs/adapt.md).
    freeze: Freeze = Field("blocks", description=_FROZEN)
    # They are the crops' by then, and batches of P x K with erased parts would spoil them.
    freeze_statistics: StrictBool = True


class PoseSettings(Settings):
    """PoseEstNet's settings."""

    TASK: ClassVar[str] = f"{__package__}.pose:prepare"

    network: str = "poseestnet"
    lr: Positive = 1e-3
    weight_decay: NotNegative = 1e-4
    appearance: Share = 0.5  # of images for each change of colour, sharpness and noise
    resolution: Share = 0.5  # of images to make coarser
    cover: Share = 0.3  # of images to cover a part of


# Which settings, and through them which task, belong to a network.
SETTINGS: dict[str, type[Settings]] = {
    "multitasknet": MultiTaskNetSettings,
    "poseestnet": PoseSettings,
    "vehiclereid": IdentitySettings,
}


def check_settings(
    values: Mapping[str, Any], source: str, kind: type[Settings] | None = None
) -> Any:
    """Settings of ``kind``, or of the network that they name, if only by weights it ships.

    TrainingError, which names ``source``.
    """
    if "network" not in values and str(weights := values.get("weights")) in SETTINGS:
        values = {**values, "network": weights}
    network = values.get("network", DEFAULT_NETWORK)
    kind = kind or SETTINGS.get(str(network))
    if kind is None:
        raise TrainingError(
            f"{source}: network is {shown(network)}; expected one of {', '.join(SETTINGS)}"
        )
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        problem = error.errors()[0]
    if problem["type"] == "extra_forbidden":
        unknown = shown(problem["loc"][0])
        known = ", ".join(kind.model_fields)
        raise TrainingError(f"{source}: unknown setting {unknown}; expected some of {known}")
    expected = problem["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
    given = f"{problem['loc'][0]} is {shown(problem['input'])}; " if problem["loc"] else ""
    raise TrainingError(f"{source}: {given}{expected}")


def read_config(path: str | Path, kind: type[Settings] | None = None) -> dict[str, Any]:
    """Settings from a YAML file, checked as in :func:`check_settings`; TrainingError."""
    path = Path(path)
    remedy = "expected lines of 'setting: value'"
    with reading(path, TrainingError, "the settings cannot be read", remedy):
        values = yaml.safe_load(path.read_text(encoding="utf-8-sig")) or {}
    if not isinstance(values, dict):
        raise TrainingError(f"{path}: {remedy}, got {shown(values)}")
    values = {str(name): value for name, value in values.items()}
    check_settings(values, str(path), kind)
    return values
