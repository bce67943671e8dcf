"""PoseEstNet as the rest of the package knows it: its inputs, and what its outputs mean.

The published names are those of the Hub's checkpoint, under its prefix ``net.`` and beside Adam's
state. PyTorch layouts are those of NVlabs' PAMTRI (``state_dict``) and of HRNet-W32 on ImageNet,
whose classifier is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from ...errors import CheckpointError
from ...vehicle.keypoints import NUM_KEYPOINTS
from ...vehicle.maps import FRAME
from ...vehicle.sample import Sample
from ..base import Decoded, Plan, PoseNetwork, Shapes
from .decoding import find_peaks, unmirrored
from .preprocessing import frame_transform, write_framed
from .spec import STRIDE, WIDTHS, PoseEstNetSpec

_FIRST_BRANCH = "stage2.0.branches.0.0.conv1.weight"
_LAST = "final_layer"
_EARLY = ("conv1.", "bn1.", "conv2.", "bn2.", "layer1.", "transition1.", "stage2.")
_BLOCKS = (*_EARLY, "transition2.", "stage3.")
_BACKBONE = (*_BLOCKS, "transition3.", "stage4.")
# ImageNet's classifier, under the names of two collections, and the exchanges that it alone needs.
_TORCH_USELESS = (
    r"(?:incre_modules|downsamp_modules|classifier|final_layer\.\d|head|fc)\."
    r"|stage4\.2\.fuse_layers\.[123]\."
)
_TORCH_PARTS = {
    "downsample": "downSample",
    "transition2.2": "transition2.0",
    "transition3.3": "transition3.0",
}
_PUBLISHED_PARTS = {published: torch for torch, published in _TORCH_PARTS.items()}


class PoseEstNetDefinition(PoseNetwork):
    """PAMTRI's keypoint network."""

    name = "poseestnet"
    title = "PoseEstNet"
    # Misspelt by its publisher, and known by that name.
    card = "poseestnet_veir.md"
    spec_type = PoseEstNetSpec
    options = ("include_top",)
    optional_cells = (_LAST,)
    preprocessing_version = 1
    # Stem and first stages, or all but the last layer.
    frozen: ClassVar = {"none": (), "stages": _EARLY, "blocks": _BLOCKS, "backbone": _BACKBONE}
    roots = (*(part.rstrip(".") for part in _BACKBONE), _LAST)
    # What other networks that have a conv1 and a layer1 as well do not have.
    mark = r"stage4\.\d\.branches\."
    layouts = "this network, of NVlabs' PAMTRI and of HRNet-W32 on ImageNet"
    torch_useless = _TORCH_USELESS

    def published_name(self, name: str) -> str:
        return _renamed(name, _TORCH_PARTS)

    def torch_name(self, name: str) -> str:
        return _renamed(name, _PUBLISHED_PARTS)

    def spec_from_shapes(self, shapes: Shapes, source: str) -> PoseEstNetSpec:
        width = self.required_shape(_FIRST_BRANCH, shapes, source)[0]
        last = shapes.get(f"{_LAST}.weight")
        if width != WIDTHS[0]:
            raise CheckpointError(f"{source}: an HRNet of width {width}; expected {WIDTHS[0]}")
        if last and last[0] != NUM_KEYPOINTS:
            raise CheckpointError(
                f"{source}: '{_LAST}.weight' gives {last[0]} keypoints; expected the "
                f"{NUM_KEYPOINTS} of a vehicle. Remove {_LAST} to use the rest as a backbone"
            )
        return PoseEstNetSpec(include_top=last is not None, final_bias=f"{_LAST}.bias" in shapes)

    def plan(self, found: Any, options: Mapping[str, Any]) -> Plan:
        """The last layer is fresh if the file has none."""
        if found is None:
            return super().plan(found, options)
        include_top = options.get("include_top", True)
        fresh = () if found.spec.include_top or not include_top else self.optional_cells
        return Plan(replace(found.spec, include_top=include_top), found.arrays, fresh=fresh)

    def normalization(self) -> dict[str, Any]:
        frame = f"a square of {FRAME} times the longer side around the centre, black outside"
        return {"frame": frame, **super().normalization()}

    def write_inputs(self, sample: Sample, out: Mapping[str, np.ndarray]) -> None:
        """The picture in its frame, black around it."""
        planes = out["image"]
        height, width = sample.pixels.shape[:2]
        transform = frame_transform(width, height, (planes.shape[1], planes.shape[2]))
        write_framed(sample.pixels, transform, planes)

    def decode(
        self, outputs: Sequence[np.ndarray], mirrored: Sequence[np.ndarray] | None = None
    ) -> Decoded:
        """With ``mirrored`` the maps are the average of both. They hold heights, not
        probabilities, so they show nothing of half turns."""
        (maps,) = outputs
        if mirrored is not None:
            maps = (maps + unmirrored(mirrored[0])) * np.float32(0.5)
        return Decoded(find_peaks(maps), maps)

    def keypoints_in_image(
        self, peaks: np.ndarray, *, width: int, height: int, size: tuple[int, int]
    ) -> np.ndarray:
        transform = frame_transform(width, height, size)
        keypoints = peaks.astype(np.float64)
        keypoints[:, :2] = (keypoints[:, :2] * STRIDE - transform[:, 2]) / transform[[0, 1], [0, 1]]
        return keypoints.astype(np.float32)


def _renamed(name: str, parts: Mapping[str, str]) -> str:
    for part, other in parts.items():
        if f".{part}." in f".{name}":
            return name.replace(part, other, 1)
    return name


NETWORK = PoseEstNetDefinition()
