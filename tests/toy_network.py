"""Another network, as small as can be: one class, which every room must work with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from multitasknet.images import resize
from multitasknet.models.base import Network, Spec
from multitasknet.vehicle.pose import PoseConvention
from multitasknet.vehicle.sample import Sample


@dataclass(frozen=True)
class ToySpec(Spec):
    network: ClassVar[str] = "toy"

    width: int = 4
    input_size: tuple[int, int] = (64, 32)
    pose_convention: PoseConvention = "published"

    def input_shapes(self, size: tuple[int, int]) -> dict[str, tuple[int, ...]]:
        return {"picture": (3, *size)}

    def output_shapes(self, size: tuple[int, int]) -> dict[str, tuple[int, ...]]:
        return {"means": (self.width,)}


class ToyNetwork(Network):
    name = "toy"
    title = "Toy"
    card = "toy.md"
    spec_type = ToySpec
    options = ("width",)
    preprocessing_version = 1
    frozen: ClassVar = {"none": (), "stages": (), "blocks": (), "backbone": ("toyconv.",)}
    roots = ("toyconv", "toynorm")
    mark = r"toyconv\."

    def spec_from_shapes(self, shapes: Mapping[str, tuple[int, ...]], source: str) -> ToySpec:
        return ToySpec(width=self.required_shape("toyconv.weight", shapes, source)[0])

    def describe(self, spec: ToySpec) -> dict[str, str]:
        return {"width": f"{spec.width} means"}

    def build(self, spec: ToySpec) -> Any:
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

    def write_inputs(self, sample: Sample, out: Mapping[str, np.ndarray]) -> None:
        picture = out["picture"]
        picture[:] = resize(sample.pixels, picture.shape[1:]).transpose(2, 0, 1) / 255


NETWORK = ToyNetwork()
