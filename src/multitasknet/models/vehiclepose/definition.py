"""VehiclePose as the rest of the package knows it: a :class:`~..definition.PoseNetwork`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ...vehicle.maps import draw_heatmaps
from ...vehicle.pose import Pose
from ..definition import Checkpoint, Plan
from ..pose_values import spec_from_sidecar, spec_of, spec_to_json, spec_to_sidecar
from .decoding import DECODINGS, decode, half_turn_shares, keypoints_in_image
from .layout import FROZEN, recognizes, to_published, to_torch
from .preprocessing import PREPROCESSING, normalization, write_inputs
from .spec import VehiclePoseSpec, spec_from_shapes

if TYPE_CHECKING:
    from .network import VehiclePose

__all__ = [
    "CARD",
    "DECODINGS",
    "FROZEN",
    "NAME",
    "OPTIONAL_CELLS",
    "PREPROCESSING",
    "build",
    "check_options",
    "decode",
    "describe",
    "half_turn_shares",
    "keypoints_in_image",
    "normalization",
    "plan",
    "recognizes",
    "spec_from_json",
    "spec_from_shapes",
    "spec_from_sidecar",
    "spec_to_json",
    "spec_to_sidecar",
    "stored_heatmaps",
    "to_published",
    "to_torch",
    "write_inputs",
]

NAME = "vehiclepose"
CARD = "vehiclepose_synthetic.md"
OPTIONAL_CELLS = ()


def check_options(options: Mapping[str, Any]) -> None:
    """TypeError for any option of ``create_network``: this network has none."""
    for name in options:
        raise TypeError(
            f"create_network() got an unexpected keyword argument {name!r}; vehiclepose takes none "
            f"of its own"
        )


def plan(found: Checkpoint | None, options: Mapping[str, Any]) -> Plan:
    """What is to be built: all of the file, or all afresh."""
    if found is None:
        return Plan(VehiclePoseSpec())
    return Plan(found.spec, found.arrays)


def build(spec: VehiclePoseSpec) -> VehiclePose:
    """The Cell, with initial values."""
    from .network import VehiclePose

    return VehiclePose(spec)


def spec_from_json(values: Mapping[str, Any]) -> VehiclePoseSpec:
    """Back from :func:`spec_to_json`; KeyError, TypeError or ValueError if it is not that."""
    return spec_of(VehiclePoseSpec, values)


def describe(spec: VehiclePoseSpec) -> dict[str, str]:
    """What there is to know of a spec, for people: names and values, in order."""
    outputs = spec.output_shapes(spec.input_size)
    return {
        "input size": "x".join(map(str, spec.input_size)),
        "outputs": ", ".join(f"{'x'.join(map(str, one))} {name}" for name, one in outputs.items()),
        "confidences": spec.pose_convention,
    }


def stored_heatmaps(pose: Pose, *, width: int, height: int) -> np.ndarray:
    """A pose's maps as PAMTRI's network leaves them, drawn: this one's have another frame."""
    return draw_heatmaps(pose.keypoints, width=width, height=height)
