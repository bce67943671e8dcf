"""What every network states of itself, for the rooms that work with any of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

import numpy as np

from ..documents import shown
from ..errors import MultiTaskNetError
from ..runtime import free_memory
from ..vehicle.pose import Pose
from ..vehicle.sample import Sample

if TYPE_CHECKING:
    from mindspore import nn

Shapes = Mapping[str, tuple[int, ...]]
Arrays = Mapping[str, np.ndarray]

SIZE_STEP = 32


class SpecError(MultiTaskNetError, ValueError):
    """Names and shapes that are no network of this package."""


class MemoryLimitError(MultiTaskNetError, ValueError):
    """More at a time than the memory holds."""


class Spec(Protocol):
    """An architecture: a frozen dataclass of plain values.

    Attributes:
        network: the name of the network that it is of.
        input_size: height and width that the weights were trained on.
    """

    network: ClassVar[str]

    @property
    def input_size(self) -> tuple[int, int]: ...

    @property
    def heatmaps(self) -> bool:
        """Whether heatmaps follow the image's channels."""

    @property
    def segments(self) -> bool:
        """Whether segments do."""

    @property
    def uses_pose(self) -> bool:
        """Whether keypoints make a difference to this network."""

    @property
    def is_complete(self) -> bool:
        """Whether weights of it need nothing fresh to predict."""

    def input_shapes(self, size: tuple[int, int]) -> dict[str, tuple[int, ...]]:
        """The inputs' names and shapes without the batch, in order, for a height and width."""

    def output_shapes(self, size: tuple[int, int]) -> dict[str, tuple[int, ...]]:
        """The same of the outputs; the last is the one that the network is judged by."""


class Checkpoint(Protocol):
    """A file's values under published names, see :class:`multitasknet.Weights`."""

    @property
    def path(self) -> Path: ...

    @property
    def arrays(self) -> Arrays: ...

    @property
    def shapes(self) -> Shapes: ...

    @property
    def spec(self) -> Any: ...


@dataclass(frozen=True, eq=False)
class Plan:
    """What is to be built: a Cell of ``spec``, with ``arrays`` but for the cells in ``fresh``.

    Attributes:
        spec: the architecture.
        arrays: values by published name, None for a network with initial values.
        fresh: outermost cells that keep their initial values.
    """

    spec: Any
    arrays: Arrays | None = None
    fresh: tuple[str, ...] = ()


class Network(Protocol):
    """One network. A module of these names is one; ``spec`` is always its own :class:`Spec`.

    Attributes:
        NAME: as the Hub client passes it.
        CARD: the file name of its card in ``assets/``.
        OPTIONAL_CELLS: outermost cells that a file may hold without the network having them.
        PREPROCESSING: version of what makes the inputs; another one gives other values.
        FROZEN: for each choice of ``freeze`` in training (``none``, ``stages``, ``backbone``,
            ``blocks``), how the names of the parameters begin that it holds fixed.
    """

    NAME: str
    CARD: str
    OPTIONAL_CELLS: tuple[str, ...]
    PREPROCESSING: int
    FROZEN: Mapping[str, tuple[str, ...]]

    def recognizes(self, names: Sequence[str]) -> bool:
        """Whether entries of these names are this network's, in any layout it reads."""

    def to_published(self, entries: Arrays) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
        """A file's entries by published name, and the names of those left out."""

    def to_torch(self, arrays: Arrays) -> dict[str, np.ndarray]:
        """Published names and values as NVlabs' PyTorch network has them; SpecError if it cannot
        give what they give."""

    def spec_from_shapes(self, shapes: Shapes, source: str) -> Any:
        """The architecture that names and shapes state; SpecError that names ``source``."""

    def spec_to_json(self, spec: Any) -> dict[str, Any]:
        """All of a spec as plain values."""

    def spec_from_json(self, values: Mapping[str, Any]) -> Any:
        """Back from :meth:`spec_to_json`; KeyError, TypeError or ValueError if it is not that."""

    def spec_to_sidecar(self, spec: Any) -> dict[str, Any]:
        """What a checkpoint's tensors cannot say of the spec."""

    def spec_from_sidecar(self, spec: Any, values: Mapping[str, Any]) -> Any:
        """The spec with what :meth:`spec_to_sidecar` wrote; errors as above."""

    def describe(self, spec: Any) -> dict[str, str]:
        """What there is to know of a spec, for people: names and values, in order."""

    def plan(self, found: Checkpoint | None, options: Mapping[str, Any]) -> Plan:
        """What :func:`multitasknet.create_network` is to build, given a file and its options."""

    def check_options(self, options: Mapping[str, Any]) -> None:
        """TypeError or ValueError for options that no file can make right."""

    def build(self, spec: Any) -> nn.Cell:
        """The Cell, with initial values."""

    def write_inputs(self, sample: Sample, out: Mapping[str, np.ndarray]) -> None:
        """Write a sample's inputs into float32 arrays of ``spec.input_shapes(size)``."""

    def normalization(self) -> dict[str, Any]:
        """How pixels become inputs, for readers of exported files."""


@runtime_checkable
class PoseNetwork(Network, Protocol):
    """A network that finds the keypoints of vehicles.

    Attributes:
        DECODINGS: the ways from its maps to places; the first is what is taken by default.
    """

    DECODINGS: tuple[str, ...]

    def decode(
        self,
        outputs: Sequence[np.ndarray],
        mirrored: Sequence[np.ndarray] | None,
        decoding: str,
    ) -> tuple[np.ndarray, np.ndarray]:
        """From outputs for a batch, and for its mirrored inputs if there are any: peaks, float32
        ``[N, 36, 3]`` of x, y (cells) and confidence, and maps, float32 ``[N, 36, h, w]``."""

    def half_turn_shares(self, peaks: np.ndarray, maps: np.ndarray) -> Sequence[float | None]:
        """Of each picture's peaks and maps: how much of these speaks for a vehicle that faces the
        other way, 0..1; None where the maps cannot tell."""

    def keypoints_in_image(
        self, peaks: np.ndarray, *, width: int, height: int, size: tuple[int, int]
    ) -> np.ndarray:
        """One picture's peaks ``[36, 3]`` in pixels of the picture, whose ``width`` and ``height``
        are given; ``size`` is the input's height and width."""

    def stored_heatmaps(self, pose: Pose, *, width: int, height: int) -> np.ndarray:
        """A pose's maps as PAMTRI stores them for MultiTaskNet: uint8 ``[36, 64, 64]``."""


def check_fields(kind: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """A dataclass's values from outside; TypeError unless each is of its default's type."""
    defaults: dict[str, Any] = {one.name: one.default for one in fields(kind)}
    unknown = set(values) - set(defaults)
    if unknown:
        raise TypeError(f"unknown: {', '.join(map(shown, unknown))}")
    for name, value in values.items():
        default = defaults[name]
        many = isinstance(default, tuple)
        wanted = type(default[0]) if many else str if isinstance(default, str) else type(default)
        right = isinstance(value, list | tuple) if many else type(value) is wanted
        if not right or (many and any(type(one) is not wanted for one in value)):
            raise TypeError(f"{name} is {shown(value)}; expected as {default!r}")
    return dict(values)


def check_memory(spec: Any, size: tuple[int, int], batch_size: int) -> None:
    """MemoryLimitError if a batch's inputs and outputs alone are more than the memory left."""
    shapes = (*spec.input_shapes(size).values(), *spec.output_shapes(size).values())
    needed = 4 * batch_size * sum(map(math.prod, shapes))
    left = free_memory()
    if needed > left:
        raise MemoryLimitError(
            f"a batch of {batch_size} at {size[0]}x{size[1]} pixels takes {needed / 1e9:,.1f} GB "
            f"for inputs and outputs alone, and {left / 1e9:,.1f} GB are free; ask for smaller "
            f"batches or a smaller size"
        )


def check_size(size: tuple[int, int]) -> tuple[int, int]:
    """Return height and width; ValueError unless both are positive multiples of 32."""
    valid = isinstance(size, tuple | list) and len(size) == 2
    if not valid or not all(isinstance(n, int) and n > 0 and n % SIZE_STEP == 0 for n in size):
        raise ValueError(
            f"size is {size!r}; expected (height, width), positive multiples of {SIZE_STEP}"
        )
    return size[0], size[1]
