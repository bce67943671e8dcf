"""A second network, as small as can be: what every room must work with, knowing only its spec."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar

import numpy as np

from multitasknet.images import resize
from multitasknet.models.definition import Checkpoint, Plan, SpecError, check_size
from multitasknet.vehicle.sample import Sample

NAME = "toy"
CARD = "toy.md"
OPTIONAL_CELLS = ()
BACKBONE = "toyconv."
PREPROCESSING = 1
FROZEN = {"none": (), "stages": (), "backbone": (BACKBONE,)}


@dataclass(frozen=True)
class ToySpec:
    network: ClassVar[str] = "toy"
    heatmaps: ClassVar[bool] = False
    segments: ClassVar[bool] = False
    uses_pose: ClassVar[bool] = False
    is_complete: ClassVar[bool] = True

    width: int = 4
    input_size: tuple[int, int] = (64, 32)

    def input_shapes(self, size: tuple[int, int]) -> dict[str, tuple[int, ...]]:
        return {"picture": (3, *size)}

    def output_shapes(self, size: tuple[int, int]) -> dict[str, tuple[int, ...]]:
        return {"means": (self.width,)}


def recognizes(names: Sequence[str]) -> bool:
    return any(name.startswith(BACKBONE) for name in names)


def to_published(entries: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], tuple]:
    return dict(entries), ()


def to_torch(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return dict(arrays)


def spec_from_shapes(shapes: Mapping[str, tuple[int, ...]], source: str) -> ToySpec:
    if "toyconv.weight" not in shapes:
        raise SpecError(f"{source}: no toy")
    return ToySpec(width=shapes["toyconv.weight"][0])


def spec_to_json(spec: ToySpec) -> dict[str, Any]:
    return asdict(spec)


def spec_from_json(values: Mapping[str, Any]) -> ToySpec:
    return ToySpec(values["width"], check_size(values["input_size"]))


def spec_to_sidecar(spec: ToySpec) -> dict[str, Any]:
    return {"size": list(spec.input_size)}


def spec_from_sidecar(spec: ToySpec, values: Mapping[str, Any]) -> ToySpec:
    return replace(spec, input_size=check_size(values["size"]))


def check_options(options: Mapping[str, Any]) -> None:
    if set(options) - {"width"}:
        raise TypeError("the toy takes a width")


def describe(spec: ToySpec) -> dict[str, str]:
    return {"width": f"{spec.width} means"}


def plan(found: Checkpoint | None, options: Mapping[str, Any]) -> Plan:
    if found is None:
        return Plan(ToySpec(**options))
    return Plan(found.spec, found.arrays)


def build(spec: ToySpec) -> Any:
    from mindspore import Tensor, nn, ops

    class Toy(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.spec = spec
            self.load_report = None
            self.toyconv = nn.Conv2d(3, spec.width, 3, pad_mode="pad", padding=1)
            self.toynorm = nn.BatchNorm2d(spec.width)

        def construct(self, picture: Tensor) -> Tensor:
            return ops.mean(ops.relu(self.toynorm(self.toyconv(picture))), (2, 3))

    return Toy()


def write_inputs(sample: Sample, out: Mapping[str, np.ndarray]) -> None:
    picture = out["picture"]
    picture[:] = resize(sample.pixels, picture.shape[1:]).transpose(2, 0, 1) / 255


def normalization() -> dict[str, Any]:
    return {"scale": "pixels / 255"}
