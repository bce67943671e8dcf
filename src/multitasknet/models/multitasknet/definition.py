"""MultiTaskNet as the rest of the package knows it: a :class:`~..definition.Network`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from ...vehicle.pose import check_convention
from ..definition import check_fields, check_size
from .building import check_options, plan
from .layout import FROZEN, recognizes, to_published, to_torch
from .layout import TOP as OPTIONAL_CELLS
from .preprocessing import PREPROCESSING, normalization, write_inputs
from .spec import NetworkSpec, Variant, spec_from_shapes

if TYPE_CHECKING:
    from .network import MultiTaskNet

__all__ = [
    "CARD",
    "FROZEN",
    "NAME",
    "OPTIONAL_CELLS",
    "PREPROCESSING",
    "build",
    "check_options",
    "describe",
    "normalization",
    "plan",
    "recognizes",
    "spec_from_json",
    "spec_from_shapes",
    "spec_from_sidecar",
    "spec_to_json",
    "spec_to_sidecar",
    "to_published",
    "to_torch",
    "write_inputs",
]

NAME = "multitasknet"
CARD = "multitasknet_veri.md"


def build(spec: NetworkSpec) -> MultiTaskNet:
    """The Cell, with initial values."""
    from .network import MultiTaskNet

    return MultiTaskNet(spec)


def spec_to_json(spec: NetworkSpec) -> dict[str, Any]:
    """All of a spec as plain values."""
    return asdict(spec) | {"variant": spec.variant.value}


def spec_from_json(values: Mapping[str, Any]) -> NetworkSpec:
    """Back from :func:`spec_to_json`; KeyError, TypeError or ValueError if it is not that."""
    spec = NetworkSpec(**check_fields(NetworkSpec, values))
    return replace(
        spec,
        variant=Variant(spec.variant),
        color_names=tuple(spec.color_names),
        type_names=tuple(spec.type_names),
        input_size=check_size(spec.input_size),
        pose_convention=check_convention(spec.pose_convention),
    )


def spec_to_sidecar(spec: NetworkSpec) -> dict[str, Any]:
    """What a checkpoint's tensors cannot say of the spec."""
    return {
        "variant": spec.variant.value,
        "size": list(spec.input_size),
        "colors": list(spec.color_names),
        "types": list(spec.type_names),
        "pose_convention": spec.pose_convention,
    }


def spec_from_sidecar(spec: NetworkSpec, values: Mapping[str, Any]) -> NetworkSpec:
    """The spec with the class names and input size of its sidecar; errors as above.

    Another number of classes than the checkpoint has is a ValueError.
    """
    named = replace(
        spec,
        color_names=tuple(map(str, values["colors"])) if spec.multi_task else (),
        type_names=tuple(map(str, values["types"])) if spec.multi_task else (),
        input_size=check_size(values["size"]),
        # The first release knew one convention, and did not name it.
        pose_convention=check_convention(values.get("pose_convention", spec.pose_convention)),
    )
    for names in (named.color_names, named.type_names):
        if len(set(names)) < len(names):
            raise ValueError(f"two of its classes have one name: {', '.join(names)}")
    for kind, stated, found in (
        ("colours", named.num_colors, spec.num_colors),
        ("types", named.num_types, spec.num_types),
        # Of weights without their classifier it says which vehicles they were trained on.
        ("vehicles", len(values["vehicle_ids"]) if spec.num_ids else 0, spec.num_ids),
    ):
        if spec.include_top and stated != found:
            raise ValueError(f"it states {stated} {kind}, but the checkpoint has {found}")
    return named


def describe(spec: NetworkSpec) -> dict[str, str]:
    """What there is to know of a spec, for people: names and values, in order."""
    identities = f"{spec.num_ids or 'no'} identities"
    classes = [identities if spec.include_top else "no classifiers"]
    if spec.has_attributes:
        classes += [f"{spec.num_colors} colours", f"{spec.num_types} types"]
    rows = {
        "variant": f"{spec.variant} ({spec.channels} input channels)",
        "pose vector": "used" if spec.keypoint_aware else "not used",
        "classes": ", ".join(classes),
        "stem pool": f"padded as in {'PyTorch' if spec.stem_pool == 'symmetric' else 'MindSpore'}",
    }
    if spec.has_attributes:
        rows |= {"colours": ", ".join(spec.color_names), "types": ", ".join(spec.type_names)}
    return rows
