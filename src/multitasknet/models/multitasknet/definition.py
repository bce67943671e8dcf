"""MultiTaskNet as the rest of the package knows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from ...vehicle.pose import check_convention
from ..base import Network, check_fields, check_size
from .building import OPTIONS, check_counts, plan
from .layout import FROZEN, MARK, ROOTS, TOP, published_names, to_torch
from .preprocessing import normalization, write_inputs
from .spec import MultiTaskNetSpec, Variant, spec_from_shapes

if TYPE_CHECKING:
    from .network import MultiTaskNet


class MultiTaskNetDefinition(Network):
    """PAMTRI's identity network, with colour and type."""

    name = "multitasknet"
    card = "multitasknet_veri.md"
    spec_type = MultiTaskNetSpec
    options = OPTIONS
    optional_cells = TOP
    preprocessing_version = 2
    frozen = FROZEN
    roots = ROOTS
    mark = MARK

    published_names = staticmethod(published_names)
    to_torch = staticmethod(to_torch)
    spec_from_shapes = staticmethod(spec_from_shapes)
    plan = staticmethod(plan)
    write_inputs = staticmethod(write_inputs)
    normalization = staticmethod(normalization)

    def check_options(self, options: Mapping[str, Any]) -> None:
        super().check_options(options)
        if options.get("variant") is not None:
            Variant.parse(options["variant"])
        check_counts(options)

    def build(self, spec: MultiTaskNetSpec) -> MultiTaskNet:
        from .network import MultiTaskNet

        return MultiTaskNet(spec)

    def spec_to_json(self, spec: MultiTaskNetSpec) -> dict[str, Any]:
        return asdict(spec) | {"variant": spec.variant.value}

    def spec_from_json(self, values: Mapping[str, Any]) -> MultiTaskNetSpec:
        spec = MultiTaskNetSpec(**check_fields(MultiTaskNetSpec, values))
        return replace(
            spec,
            variant=Variant(spec.variant),
            color_names=tuple(spec.color_names),
            type_names=tuple(spec.type_names),
            input_size=check_size(spec.input_size),
            pose_convention=check_convention(spec.pose_convention),
        )

    def spec_to_sidecar(self, spec: MultiTaskNetSpec) -> dict[str, Any]:
        return {
            "variant": spec.variant.value,
            "size": list(spec.input_size),
            "colors": list(spec.color_names),
            "types": list(spec.type_names),
            "pose_convention": spec.pose_convention,
        }

    def spec_from_sidecar(
        self, spec: MultiTaskNetSpec, values: Mapping[str, Any]
    ) -> MultiTaskNetSpec:
        """ValueError for another number of classes than the checkpoint has."""
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
            # Without the classifier it names the vehicles that the weights were trained on.
            ("vehicles", len(values["vehicle_ids"]) if spec.num_ids else 0, spec.num_ids),
        ):
            if spec.include_top and stated != found:
                raise ValueError(f"it states {stated} {kind}, but the checkpoint has {found}")
        return named

    def describe(self, spec: MultiTaskNetSpec) -> dict[str, str]:
        identities = f"{spec.num_ids or 'no'} identities"
        classes = [identities if spec.include_top else "no classifiers"]
        if spec.has_attributes:
            classes += [f"{spec.num_colors} colours", f"{spec.num_types} types"]
        rows = {
            "variant": f"{spec.variant} ({spec.channels} input channels)",
            "pose vector": "used" if spec.keypoint_aware else "not used",
            "classes": ", ".join(classes),
            "stem pool": (
                f"padded as in {'PyTorch' if spec.stem_pool == 'symmetric' else 'MindSpore'}"
            ),
        }
        if spec.has_attributes:
            rows |= {"colours": ", ".join(spec.color_names), "types": ", ".join(spec.type_names)}
        return rows


NETWORK = MultiTaskNetDefinition()
