"""VehiclePose as the rest of the package knows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..base import Arrays, Checkpoint, Plan, PoseNetwork
from ..names import published_entries, torch_entries
from .decoding import DECODINGS, decode, half_turn_shares, keypoints_in_image
from .layout import FROZEN, MARK, ROOTS
from .preprocessing import normalization, write_inputs
from .spec import VehiclePoseSpec, spec_from_shapes

if TYPE_CHECKING:
    from .network import VehiclePose


class VehiclePoseDefinition(PoseNetwork):
    """The keypoint network that is small enough for CPUs."""

    name = "vehiclepose"
    card = "vehiclepose_synthetic.md"
    spec_type = VehiclePoseSpec
    preprocessing_version = 1
    decodings = DECODINGS
    frozen = FROZEN
    roots = ROOTS
    mark = MARK

    spec_from_shapes = staticmethod(spec_from_shapes)
    write_inputs = staticmethod(write_inputs)
    normalization = staticmethod(normalization)
    decode = staticmethod(decode)
    half_turn_shares = staticmethod(half_turn_shares)
    keypoints_in_image = staticmethod(keypoints_in_image)

    def published_names(self, entries: Arrays) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
        return published_entries(entries)

    def to_torch(self, arrays: Arrays) -> dict[str, np.ndarray]:
        """As the network of examples/train_vehiclepose.py has them."""
        return torch_entries(arrays)

    def plan(self, found: Checkpoint | None, options: Mapping[str, Any]) -> Plan:
        """All of the file, or all at initial values."""
        if found is None:
            return Plan(VehiclePoseSpec())
        return Plan(found.spec, found.arrays)

    def build(self, spec: VehiclePoseSpec) -> VehiclePose:
        from .network import VehiclePose

        return VehiclePose(spec)

    def describe(self, spec: VehiclePoseSpec) -> dict[str, str]:
        outputs = spec.output_shapes(spec.input_size).items()
        return {
            "input size": "x".join(map(str, spec.input_size)),
            "outputs": ", ".join(f"{'x'.join(map(str, one))} {name}" for name, one in outputs),
            "confidences": spec.pose_convention,
        }


NETWORK = VehiclePoseDefinition()
