"""VehiclePose as the rest of the package knows it: its inputs, and what its outputs mean.

Its names are MindSpore's. The same network in PyTorch (examples/train_vehiclepose.py) differs in
how batch norms name their values, and in nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import cv2
import numpy as np

from ...errors import CheckpointError
from ...images import write_planes
from ...vehicle.keypoints import MIRRORED_KEYPOINTS, NUM_KEYPOINTS
from ...vehicle.sample import Sample
from ..base import Decoded, PoseNetwork, Shapes
from .decoding import find_peaks, half_turn_shares, sigmoid, softmax
from .spec import FEATURES, STRIDE, VehiclePoseSpec

# How much larger the frame is than the picture. A detector's box holds nearly all keypoints; the
# rest of the frame is one cell on each side, so that those on the border have neighbours.
FRAME = 1.05
_LAST = "heatmap_head.weight"
_QUALITY = "quality_head"
_LAST_SHAPE = (NUM_KEYPOINTS, FEATURES, 1, 1)


class VehiclePoseDefinition(PoseNetwork):
    """The keypoint network that is small enough for CPUs."""

    name = "vehiclepose"
    title = "VehiclePose"
    card = "vehiclepose_synthetic.md"
    spec_type = VehiclePoseSpec
    optional_cells = (_QUALITY,)
    preprocessing_version = 1
    # Stem and first two or three stages, or all but pyramid and heads.
    frozen: ClassVar = {
        "none": (),
        "stages": ("stem.", "stages.0.", "stages.1."),
        "blocks": ("stem.", "stages.0.", "stages.1.", "stages.2."),
        "backbone": ("stem.", "stages."),
    }
    roots = (
        *("stem", "stages", "laterals", "merges"),
        *("heatmap_head", "visibility_head", "facing_head", _QUALITY),
    )
    mark = r"heatmap_head\."
    layouts = "this network and of examples/train_vehiclepose.py"

    def spec_from_shapes(self, shapes: Shapes, source: str) -> VehiclePoseSpec:
        """Whether it has a quality head; all else only confirms that it is one."""
        found = self.required_shape(_LAST, shapes, source)
        if found != _LAST_SHAPE:
            raise CheckpointError(
                f"{source}: {_LAST!r} is {list(found)}; expected {list(_LAST_SHAPE)}"
            )
        return VehiclePoseSpec(quality=f"{_QUALITY}.weight" in shapes)

    def normalization(self) -> dict[str, Any]:
        frame = (
            f"the picture in the middle, aspect kept (even sides), at 1 / {FRAME} of what fits; "
            f"the mean colour outside"
        )
        return {"frame": frame, **super().normalization()}

    def write_inputs(self, sample: Sample, out: Mapping[str, np.ndarray]) -> None:
        """The picture in its place, mean colour around it."""
        planes = out["image"]
        height, width = sample.pixels.shape[:2]
        at = placement(width, height, (planes.shape[1], planes.shape[2]))
        fitted = cv2.resize(sample.pixels, (at.width, at.height), interpolation=cv2.INTER_AREA)
        planes[:] = 0
        write_planes(fitted, planes[:, at.top : at.top + at.height, at.left : at.left + at.width])

    def decode(
        self, outputs: Sequence[np.ndarray], mirrored: Sequence[np.ndarray] | None = None
    ) -> Decoded:
        """Maps that each sum up to 1, and as confidences the probabilities of being visible.

        With ``mirrored`` all are averages.
        """
        _, visibility, *quality, maps = outputs
        probabilities, seen = softmax(maps), sigmoid(visibility)
        contents = softmax(quality[0], axis=1) if quality else None
        if mirrored is not None:
            _, visibility, *quality, maps = mirrored
            probabilities = (probabilities + softmax(maps)[:, MIRRORED_KEYPOINTS, :, ::-1]) / 2
            seen = (seen + sigmoid(visibility)[:, MIRRORED_KEYPOINTS]) / 2
            if contents is not None:
                contents = (contents + softmax(quality[0], axis=1)) / 2
        peaks = np.concatenate((find_peaks(probabilities), seen[..., None]), axis=2)
        return Decoded(peaks, probabilities, half_turn_shares(peaks, probabilities), contents)

    def keypoints_in_image(
        self, peaks: np.ndarray, *, width: int, height: int, size: tuple[int, int]
    ) -> np.ndarray:
        at = placement(width, height, size)
        keypoints = peaks.astype(np.float64)
        # Distances from the first pixel's outer corner, which both sides of a resize share.
        edges = (keypoints[:, :2] + 0.5) * STRIDE - np.array([at.left, at.top])
        keypoints[:, :2] = edges * np.array([width / at.width, height / at.height]) - 0.5
        return keypoints.astype(np.float32)


class Placement(NamedTuple):
    """Where a picture lies in the input, in pixels: in its middle, so that a mirror changes
    nothing."""

    width: int
    height: int
    left: int
    top: int


def placement(width: int, height: int, size: tuple[int, int]) -> Placement:
    """Where a picture of that width and height lies in an input of ``size`` (height, width)."""
    scale = min(size[0] / height, size[1] / width) / FRAME
    # Even, as the input's sides are; less than half a pixel from the aspect that it has.
    inner_width, inner_height = (max(2 * round(side * scale / 2), 2) for side in (width, height))
    left, top = (size[1] - inner_width) // 2, (size[0] - inner_height) // 2
    return Placement(inner_width, inner_height, left, top)


NETWORK = VehiclePoseDefinition()
