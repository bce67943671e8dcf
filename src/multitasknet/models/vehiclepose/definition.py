"""VehiclePose as the rest of the package knows it.

Its names are MindSpore's. The same network in PyTorch (examples/train_vehiclepose.py) differs in
how batch norms name their values, and in nothing else.
"""

from __future__ import annotations

from typing import Any, ClassVar

from ...errors import CheckpointError
from ...vehicle.keypoints import NUM_KEYPOINTS
from ..base import PoseNetwork, Shapes
from .decoding import decode, keypoints_in_image
from .preprocessing import FRAME, write_inputs
from .spec import FEATURES, VehiclePoseSpec

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

    write_inputs = staticmethod(write_inputs)
    decode = staticmethod(decode)
    keypoints_in_image = staticmethod(keypoints_in_image)

    def spec_from_shapes(self, shapes: Shapes, source: str) -> VehiclePoseSpec:
        """Whether it has a quality head; all else only confirms that it is one."""
        found = self.required_shape(_LAST, shapes, source)
        if found != _LAST_SHAPE:
            raise CheckpointError(
                f"{source}: {_LAST!r} is {list(found)}; expected {list(_LAST_SHAPE)}: a map for "
                f"each keypoint of a vehicle"
            )
        return VehiclePoseSpec(quality=f"{_QUALITY}.weight" in shapes)

    def normalization(self) -> dict[str, Any]:
        frame = (
            f"the picture in the middle, aspect kept (even sides), at 1 / {FRAME} of what fits; "
            f"the mean colour outside"
        )
        return {"frame": frame, **super().normalization()}


NETWORK = VehiclePoseDefinition()
