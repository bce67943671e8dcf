"""VehiclePose as the rest of the package knows it: a :class:`~..definition.PoseNetwork`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ...vehicle.maps import draw_heatmaps
from ...vehicle.pose import Pose, check_convention
from ..definition import Checkpoint, Plan, check_size
from .decoding import DECODINGS, decode, keypoints_in_image
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


def spec_to_json(spec: VehiclePoseSpec) -> dict[str, Any]:
    """All of a spec as plain values."""
    return asdict(spec)


def spec_from_json(values: Mapping[str, Any]) -> VehiclePoseSpec:
    """Back from :func:`spec_to_json`; KeyError, TypeError or ValueError if it is not that."""
    spec = VehiclePoseSpec(**values)
    return replace(
        spec,
        input_size=check_size(spec.input_size),
        pose_convention=check_convention(spec.pose_convention),
    )


def spec_to_sidecar(spec: VehiclePoseSpec) -> dict[str, Any]:
    """What a checkpoint's tensors cannot say of the spec."""
    return {"size": list(spec.input_size), "pose_convention": spec.pose_convention}


def spec_from_sidecar(spec: VehiclePoseSpec, values: Mapping[str, Any]) -> VehiclePoseSpec:
    """The spec with what :func:`spec_to_sidecar` wrote; errors as above."""
    return replace(
        spec,
        input_size=check_size(values["size"]),
        pose_convention=check_convention(values["pose_convention"]),
    )


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
