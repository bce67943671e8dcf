"""PoseEstNet as the rest of the package knows it: a :class:`~..definition.PoseNetwork`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ...images import resize
from ...vehicle.maps import MAP_SIZE
from ...vehicle.pose import Pose
from ..definition import Checkpoint, Plan
from ..pose_values import spec_from_sidecar, spec_of, spec_to_json, spec_to_sidecar
from .decoding import DECODINGS, decode, keypoints_in_image
from .decoding import stored_heatmaps as _as_stored
from .layout import FROZEN, recognizes, to_published, to_torch
from .preprocessing import PREPROCESSING, normalization, write_inputs
from .spec import PoseSpec, spec_from_shapes

if TYPE_CHECKING:
    from .network import PoseEstNet

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

NAME = "poseestnet"
# Misspelt by its publisher, and known by that name.
CARD = "poseestnet_veir.md"
OPTIONAL_CELLS = ("final_layer",)


def check_options(options: Mapping[str, Any]) -> None:
    """TypeError for options of ``create_network`` that this network does not have."""
    for name in options:
        if name != "include_top":
            raise TypeError(
                f"create_network() got an unexpected keyword argument {name!r}; poseestnet takes "
                f"include_top"
            )
    include_top = options.get("include_top", True)
    if not isinstance(include_top, bool):
        raise TypeError(f"include_top must be True or False, not {include_top!r}")


def plan(found: Checkpoint | None, options: Mapping[str, Any]) -> Plan:
    """What is to be built: of a file without last layer, that layer is fresh."""
    include_top = options.get("include_top", True)
    if found is None:
        return Plan(PoseSpec(include_top=include_top))
    fresh = () if found.spec.include_top or not include_top else OPTIONAL_CELLS
    return Plan(replace(found.spec, include_top=include_top), found.arrays, fresh=fresh)


def build(spec: PoseSpec) -> PoseEstNet:
    """The Cell, with initial values."""
    from .network import PoseEstNet

    return PoseEstNet(spec)


def spec_from_json(values: Mapping[str, Any]) -> PoseSpec:
    """Back from :func:`spec_to_json`; KeyError, TypeError or ValueError if it is not that."""
    return spec_of(PoseSpec, values)


def describe(spec: PoseSpec) -> dict[str, str]:
    """What there is to know of a spec, for people: names and values, in order."""
    (maps,) = spec.output_shapes(spec.input_size).values()
    kind = "heatmaps, one a keypoint" if spec.include_top else "features, no last layer"
    return {
        "input size": "x".join(map(str, spec.input_size)),
        "output": f"{'x'.join(map(str, maps))} {kind}",
        "last bias": "there, as in NVlabs' weights" if spec.final_bias else "none",
        "confidences": spec.pose_convention,
    }


def stored_heatmaps(pose: Pose, *, width: int, height: int) -> np.ndarray:
    """A pose's maps as PAMTRI stores them: uint8 ``[36, 64, 64]``; ValueError if it kept none."""
    if pose.heatmaps is None:
        raise ValueError("the pose has no maps; estimate it with heatmaps=True")
    return _as_stored(np.stack([resize(one, (MAP_SIZE, MAP_SIZE)) for one in pose.heatmaps]))


def half_turn_shares(peaks: np.ndarray, maps: np.ndarray) -> list[None]:
    """Not told: its maps hold heights, not probabilities, and were never looked at for this."""
    return [None] * len(peaks)
