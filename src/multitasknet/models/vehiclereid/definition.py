"""VehicleReID as the rest of the package knows it.

Its names are MindSpore's. The same network in PyTorch (examples/train_vehiclereid.py) differs in
how batch norms name their values, and in nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from ...errors import CheckpointError
from ...images import resize, write_planes
from ...vehicle.attributes import COLORS, TYPES, class_names
from ...vehicle.sample import Sample
from ..base import Plan, Shapes
from ..embedding import EmbeddingNetwork, class_counts, fresh_cells, with_counts
from .spec import FEATURES, VehicleReIDSpec

_EARLY = ("stem.", *(f"blocks.{number}." for number in range(5)))
_IDENTITY = "identity"


class VehicleReIDDefinition(EmbeddingNetwork):
    """The identity network that is small enough for CPUs, and needs no pose."""

    name = "vehiclereid"
    title = "VehicleReID"
    card = "vehiclereid_synthetic.md"
    spec_type = VehicleReIDSpec
    optional_cells = (_IDENTITY,)
    classifier = _IDENTITY
    preprocessing_version = 1
    # Up to a stride of 8, up to 16, or all but the heads.
    frozen: ClassVar = {
        "none": (),
        "stages": _EARLY,
        "blocks": (*_EARLY, *(f"blocks.{number}." for number in range(5, 11))),
        "backbone": ("stem.", "blocks.", "head.", "pool."),
    }
    roots = ("stem", "blocks", "head", "pool", "embed", "neck", "color", "type", _IDENTITY)
    mark = r"blocks\.\d+\.depthwise\."
    layouts = "this network and of examples/train_vehiclereid.py"
    # Filters of differences whose sum is nearly 0, which eight bits make something else: a third of
    # INT8's error, and a fortieth of the work.
    float_stem = True

    def classified_length(self, cell: Any) -> float:
        """What the neck's norm makes it."""
        gain, shift = cell.neck.gamma.asnumpy(), cell.neck.beta.asnumpy()
        return float(np.sqrt((gain**2 + shift**2).sum()))

    def spec_from_shapes(self, shapes: Shapes, source: str) -> VehicleReIDSpec:
        """The rows of the classifiers give the class counts; all else only confirms that it is
        one."""
        self.required_shape("stem.conv.weight", shapes, source)
        for head in ("embed", "color", "type"):
            found = shapes.get(f"{head}.weight", ())
            if len(found) != 2 or found[1] != FEATURES:
                raise CheckpointError(
                    f"{source}: '{head}.weight' is {list(found)}; expected rows of {FEATURES}"
                )
        return VehicleReIDSpec(
            num_ids=(shapes.get(f"{_IDENTITY}.weight") or (0,))[0],
            color_names=class_names(shapes["color.weight"][0], COLORS, "color"),
            type_names=class_names(shapes["type.weight"][0], TYPES, "type"),
        )

    def plan(self, found: Any, options: Mapping[str, Any]) -> Plan:
        counts = class_counts(options)
        if found is None:
            return Plan(with_counts(VehicleReIDSpec(), counts))
        spec = with_counts(found.spec, counts)
        rows = {"color": spec.num_colors, "type": spec.num_types}
        if spec.has_identities:
            rows[_IDENTITY] = spec.num_ids
        return Plan(spec, found.arrays, fresh=fresh_cells(rows, found.arrays))

    def write_inputs(self, sample: Sample, out: Mapping[str, np.ndarray]) -> None:
        """The picture, resized."""
        planes = out["image"]
        write_planes(resize(sample.pixels, (planes.shape[1], planes.shape[2])), planes)


NETWORK = VehicleReIDDefinition()
