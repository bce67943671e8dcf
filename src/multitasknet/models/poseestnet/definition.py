"""PoseEstNet as the rest of the package knows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..base import Checkpoint, Plan, PoseNetwork
from .decoding import DECODINGS, decode, keypoints_in_image
from .layout import FROZEN, MARK, ROOTS, published_names, to_torch
from .preprocessing import normalization, write_inputs
from .spec import PoseEstNetSpec, spec_from_shapes

if TYPE_CHECKING:
    from .network import PoseEstNet


class PoseEstNetDefinition(PoseNetwork):
    """PAMTRI's keypoint network.

    Its maps hold heights, not probabilities, so they show nothing of half turns.
    """

    name = "poseestnet"
    # Misspelt by its publisher, and known by that name.
    card = "poseestnet_veir.md"
    spec_type = PoseEstNetSpec
    options = ("include_top",)
    optional_cells = ("final_layer",)
    preprocessing_version = 1
    decodings = DECODINGS
    frozen = FROZEN
    roots = ROOTS
    mark = MARK

    published_names = staticmethod(published_names)
    to_torch = staticmethod(to_torch)
    spec_from_shapes = staticmethod(spec_from_shapes)
    write_inputs = staticmethod(write_inputs)
    normalization = staticmethod(normalization)
    decode = staticmethod(decode)
    keypoints_in_image = staticmethod(keypoints_in_image)

    def plan(self, found: Checkpoint | None, options: Mapping[str, Any]) -> Plan:
        """The last layer is fresh if the file has none."""
        include_top = options.get("include_top", True)
        if found is None:
            return Plan(PoseEstNetSpec(include_top=include_top))
        fresh = () if found.spec.include_top or not include_top else self.optional_cells
        return Plan(replace(found.spec, include_top=include_top), found.arrays, fresh=fresh)

    def build(self, spec: PoseEstNetSpec) -> PoseEstNet:
        from .network import PoseEstNet

        return PoseEstNet(spec)

    def describe(self, spec: PoseEstNetSpec) -> dict[str, str]:
        (maps,) = spec.output_shapes(spec.input_size).values()
        kind = "heatmaps, one a keypoint" if spec.include_top else "features, no last layer"
        return {
            "input size": "x".join(map(str, spec.input_size)),
            "output": f"{'x'.join(map(str, maps))} {kind}",
            "last bias": "yes, as in NVlabs' weights" if spec.final_bias else "none",
            "confidences": spec.pose_convention,
        }


NETWORK = PoseEstNetDefinition()
