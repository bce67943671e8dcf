"""What every network states of itself, for the rooms that work with any of them."""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from enum import Enum
from importlib import import_module
from numbers import Integral
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from ..errors import CheckpointError, EngineError, shown
from ..runtime import free_memory
from ..vehicle.attributes import ClassMaps
from ..vehicle.keypoints import NUM_KEYPOINTS, SURFACES
from ..vehicle.pose import POSE_CONVENTIONS, PoseConvention
from ..vehicle.sample import Sample
from .names import Arrays, published_entries, split_entries, torch_entries

if TYPE_CHECKING:
    from .layers import VehicleCell

Shapes = Mapping[str, tuple[int, ...]]

SIZE_STEP = 32
# Bytes; whether less is left is not worth looking up.
_MUCH_MEMORY = 1 << 30


class Variant(str, Enum):
    """Which maps follow the image's three channels.

    Attributes:
        heatmaps, segments: whether these do, in this order.
        channels: of image and maps together.
    """

    RGB = "rgb"
    SEGMENT = "segment"
    HEATMAP = "heatmap"
    HEATMAP_SEGMENT = "heatmap+segment"

    __str__ = str.__str__

    def __init__(self, value: str) -> None:
        self.heatmaps, self.segments = "heatmap" in value, "segment" in value
        self.channels = 3 + NUM_KEYPOINTS * self.heatmaps + len(SURFACES) * self.segments

    @classmethod
    def _missing_(cls, value: object) -> Variant:
        raise ValueError(f"variant is {value!r}; expected one of {', '.join(VARIANTS)}")


VARIANTS: tuple[str, ...] = tuple(variant.value for variant in Variant)


class Spec(ABC):
    """An architecture; each subclass is a frozen dataclass of plain values.

    Attributes:
        network: the name of the network.
        input_size: height and width that the weights were trained on; any multiples of 32 work.
        pose_convention: what the confidences meant that the weights were trained on.
        variant: which maps follow the image's channels.
    """

    network: ClassVar[str]
    input_size: tuple[int, int]
    pose_convention: PoseConvention
    variant: Variant = Variant.RGB

    @property
    def uses_pose(self) -> bool:
        """Whether keypoints make a difference to this network."""
        return False

    @property
    def is_complete(self) -> bool:
        """Whether its weights can predict as they are, with no layer left at random values."""
        return True

    @property
    def class_maps(self) -> ClassMaps:
        """The raw ids of the classes that it distinguishes."""
        return ClassMaps((), (), ())

    def input_shapes(self, size: tuple[int, int]) -> dict[str, tuple[int, ...]]:
        """The inputs' names and shapes without the batch, in order, for a height and width."""
        return {"image": (3, *size)}

    @abstractmethod
    def output_shapes(self, size: tuple[int, int]) -> dict[str, tuple[int, ...]]:
        """The same for the outputs; the last is the one that the network is judged by."""


@dataclass(frozen=True, eq=False)
class Plan:
    """What to build: a Cell of ``spec``, with ``arrays`` (None for initial values) except for the
    outermost cells in ``fresh``."""

    spec: Any
    arrays: Arrays | None = None
    fresh: tuple[str, ...] = ()


class Network(ABC):
    """One network. Each folder's ``definition`` has one subclass and its instance ``NETWORK``.

    Attributes:
        name: as the Hub client passes it.
        title: as people write it, and the name of its Cell in the folder's module ``network``.
        card: the file name of its published card in ``assets/``.
        spec_type: the class of its specs; every ``spec`` below is one.
        options: further keyword arguments of ``create_network`` for it.
        optional_cells: outermost cells that a file may hold without the network having them.
        preprocessing_version: raised whenever the same picture gives other inputs.
        frozen: for each choice of ``freeze`` in training (``none``, ``stages``, ``blocks``,
            ``backbone``), how the names of the parameters begin that it holds fixed.
        roots: the names of its outermost cells, in all layouts that it reads.
        mark: a regular expression for the beginning of names that no other network has.
        layouts: whose checkpoints it reads.
        torch_useless: a regular expression for the beginning of names in PyTorch files that the
            network has no use for, such as an ImageNet classifier's.
        sidecar_fields: by the sidecar's names, the fields of a spec that tensors do not state.
        float_stem: whether INT8 leaves the layer that takes the image in float32.
        choices: what fields of a spec may be.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    card: ClassVar[str]
    spec_type: ClassVar[type]
    options: ClassVar[tuple[str, ...]] = ()
    optional_cells: ClassVar[tuple[str, ...]] = ()
    preprocessing_version: ClassVar[int]
    frozen: ClassVar[Mapping[str, tuple[str, ...]]]
    roots: ClassVar[tuple[str, ...]]
    mark: ClassVar[str]
    layouts: ClassVar[str] = "this network"
    torch_useless: ClassVar[str] = "(?!)"
    sidecar_fields: ClassVar[dict[str, str]] = {
        "size": "input_size",
        "pose_convention": "pose_convention",
    }
    float_stem: ClassVar[bool] = False
    choices: ClassVar[dict[str, tuple[str, ...]]] = {"pose_convention": POSE_CONVENTIONS}

    def recognizes(self, names: Sequence[str]) -> bool:
        """Whether entries of these names are this network's, in any layout, under any prefix."""
        mark = re.compile(rf"(?:^|\.)(?:{self.mark})")
        return any(mark.search(name) for name in names)

    def to_published(self, entries: Arrays) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
        """A file's entries by published name, and the names of those left out.

        Left out is what only the file's own training had a use for: optimizer state, counters,
        the parameters of a Cell around the network, an ImageNet classifier. What is not understood
        keeps its name, for a strict load to refuse. ValueError if the file holds several networks
        of this kind, or a parameter twice.
        """
        own, foreign = split_entries(entries, self.mark, self.roots)
        arrays, left_out = published_entries(own, self.published_name, self.torch_useless)
        return arrays, (*foreign, *left_out)

    def to_torch(self, arrays: Arrays) -> dict[str, np.ndarray]:
        """Published names and values as the network in PyTorch has them.

        CheckpointError if it would give other outputs.
        """
        return torch_entries(arrays, self.torch_name)

    def published_name(self, name: str) -> str:
        """The name in PyTorch as published, but for what norms call their values."""
        return name

    def torch_name(self, name: str) -> str:
        """Back from :meth:`published_name`."""
        return name

    @abstractmethod
    def spec_from_shapes(self, shapes: Shapes, source: str) -> Any:
        """The architecture that published names and shapes state; CheckpointError with
        ``source``, if they are no such network."""

    def required_shape(self, entry: str, shapes: Shapes, source: str) -> tuple[int, ...]:
        """The four dimensions of an entry that all files have; CheckpointError without."""
        shape = shapes.get(entry, ())
        if len(shape) != 4:
            raise CheckpointError(
                f"{source}: no {self.title} checkpoint: it has no {entry!r} of four dimensions. "
                f"Understood are checkpoints of {self.layouts}"
            )
        return shape

    def spec_from_json(self, values: Mapping[str, Any]) -> Any:
        """A spec from the plain values that ``asdict`` gives; TypeError or ValueError if they are
        others."""
        spec = self.spec_type(**dict(_checked(self.spec_type, values)))
        check_size(spec.input_size)
        for name, choices in self.choices.items():
            if (value := getattr(spec, name)) not in choices:
                raise ValueError(f"{name} is {value!r}; expected one of {', '.join(choices)}")
        return spec

    def spec_to_sidecar(self, spec: Any) -> dict[str, Any]:
        """What a checkpoint's tensors do not state of the spec."""
        values = asdict(spec)
        return {name: values[field] for name, field in self.sidecar_fields.items()}

    def spec_from_sidecar(self, spec: Any, values: Mapping[str, Any]) -> Any:
        """The spec with what :meth:`spec_to_sidecar` wrote; errors as above, and KeyError."""
        stated = {field: values[name] for name, field in self.sidecar_fields.items()}
        return self.spec_from_json(asdict(spec) | stated)

    def describe(self, spec: Any) -> dict[str, str]:
        """A spec for people: names and values, in order."""
        return {"input size": "x".join(map(str, spec.input_size))}

    def check_options(self, options: Mapping[str, Any]) -> None:
        """TypeError or ValueError for options of ``create_network`` that suit no file."""
        for option in options:
            if option not in self.options:
                raise TypeError(
                    f"create_network() got an unexpected keyword argument {option!r}; {self.name} "
                    f"takes {', '.join(self.options) or 'none'}"
                )

    def plan(self, found: Any, options: Mapping[str, Any]) -> Plan:
        """What :func:`multitasknet.create_network` is to build, given its options and the
        :class:`multitasknet.Weights` of a file, or None."""
        if found is None:
            return Plan(self.spec_type(**options))
        return Plan(found.spec, found.arrays)

    def build(self, spec: Any) -> VehicleCell:
        """The Cell, with initial values."""
        module: Any = import_module(".network", type(self).__module__.rpartition(".")[0])
        cell: VehicleCell = getattr(module, self.title)(spec)
        return cell

    @abstractmethod
    def write_inputs(self, sample: Sample, out: Mapping[str, np.ndarray]) -> None:
        """Write a sample's inputs into float32 arrays of ``spec.input_shapes(size)``."""

    def normalization(self) -> dict[str, Any]:
        """How pixels become inputs, for readers of exported files."""
        from ..images import RGB_MEAN, RGB_STD  # loads OpenCV, which no help text waits for

        return {
            "scale": "pixels / 255, then (value - mean) / std",
            "rgb": {"mean": RGB_MEAN, "std": RGB_STD},
        }


class Decoded(NamedTuple):
    """What a pose network's outputs mean, of a batch.

    Attributes:
        peaks: float32 ``[N, 36, 3]`` of x, y (cells of the maps) and confidence.
        maps: float32 ``[N, 36, h, w]``.
        half_turns: how much of each picture's maps suggests a vehicle that faces the other way,
            0..1; None where the maps do not show it.
        contents: the probabilities of what each picture shows, float32 ``[N, 4]`` by
            :data:`..vehicle.quality.CONTENTS`; None where the network does not say.
    """

    peaks: np.ndarray
    maps: np.ndarray
    half_turns: np.ndarray | None = None
    contents: np.ndarray | None = None


class PoseNetwork(Network):
    """A network that finds the keypoints of vehicles."""

    def describe(self, spec: Any) -> dict[str, str]:
        shapes = spec.output_shapes(spec.input_size).items()
        outputs = ", ".join(f"{'x'.join(map(str, shape))} {name}" for name, shape in shapes)
        return super().describe(spec) | {"outputs": outputs, "confidences": spec.pose_convention}

    @abstractmethod
    def decode(
        self, outputs: Sequence[np.ndarray], mirrored: Sequence[np.ndarray] | None = None
    ) -> Decoded:
        """From outputs for a batch, and for its mirrored inputs if there are any."""

    @abstractmethod
    def keypoints_in_image(
        self, peaks: np.ndarray, *, width: int, height: int, size: tuple[int, int]
    ) -> np.ndarray:
        """One picture's peaks ``[36, 3]`` in pixels of the picture, whose ``width`` and ``height``
        are given; ``size`` is the input's height and width."""


def _checked(kind: type, values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """A dataclass's values from outside; TypeError unless each is of its default's type."""
    defaults: dict[str, Any] = {one.name: one.default for one in fields(kind)}
    for name, value in values.items():
        if name not in defaults:
            raise TypeError(f"unknown: {shown(name)}")
        default = defaults[name]
        if isinstance(default, Enum) and isinstance(value, str):
            value = type(default)(value)
        elif isinstance(default, tuple) and isinstance(value, list | tuple):
            value = tuple(value)
        parts = value if isinstance(value, tuple) else (value,)
        kinds = {type(one) for one in (default if isinstance(default, tuple) else (default,))}
        if type(value) is not type(default) or not {type(one) for one in parts} <= kinds:
            raise TypeError(f"{name} is {shown(value)}; expected as {default!r}")
        yield name, value


def check_memory(spec: Any, size: tuple[int, int], batch_size: int) -> None:
    """EngineError if a batch's inputs and outputs alone are more than the memory left."""
    shapes = (*spec.input_shapes(size).values(), *spec.output_shapes(size).values())
    needed = 4 * batch_size * sum(map(math.prod, shapes))
    if needed > _MUCH_MEMORY and needed > (left := free_memory()):
        raise EngineError(
            f"a batch of {batch_size} at {size[0]}x{size[1]} pixels takes {needed / 1e9:,.1f} GB "
            f"for inputs and outputs alone, and {left / 1e9:,.1f} GB are free"
        )


def check_size(size: int | tuple[int, int]) -> tuple[int, int]:
    """Height and width of a side or of both; ValueError unless they are multiples of 32."""
    sides = size if isinstance(size, tuple | list) else (size, size)
    is_right = [isinstance(n, Integral) and n > 0 and n % SIZE_STEP == 0 for n in sides]
    if is_right != [True, True]:
        raise ValueError(
            f"size is {size!r}; expected a side or (height, width), multiples of {SIZE_STEP}"
        )
    return int(sides[0]), int(sides[1])
