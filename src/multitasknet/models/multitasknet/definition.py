"""MultiTaskNet as the rest of the package knows it: names, specs and options.

The published names are those of the Hub's checkpoint. PyTorch layouts are those of torchvision's
DenseNet-121 (``features.denseblock1.denselayer1.norm1.weight``, or ``norm.1.weight`` in older
files) and of NVlabs' PAMTRI (``base.`` in place of ``features.``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from ...errors import CheckpointError
from ...vehicle.attributes import COLORS, TYPES, class_names
from ..base import Arrays, Plan, Shapes, Variant
from ..embedding import COUNTS, DISTANCES, EmbeddingNetwork, class_counts, fresh_cells, with_counts
from ..names import is_torch
from .preprocessing import MAP_MEAN, MAP_STD, write_inputs
from .spec import (
    ATTRIBUTE_SIZE,
    EMBEDDING_SIZE,
    POSE_SIZE,
    STEM_POOLS,
    SYMMETRIC_POOL,
    MultiTaskNetSpec,
)

BACKBONE = "base."
STEM = f"{BACKBONE}conv0.weight"
# What a network without classifiers has no use for.
TOP = ("classifier_vid", "classifier_vcolor", "classifier_vtype", "fc_vcolor", "fc_vtype")
HEAD = (*TOP, "fc_vid", "fc")
_STEM_SIGMA = 0.02
_EARLY = tuple(
    f"{BACKBONE}{part}."
    for part in ("conv0", "norm0", "denseblock1", "transition1", "denseblock2", "transition2")
)


class MultiTaskNetDefinition(EmbeddingNetwork):
    """PAMTRI's identity network, with colour and type."""

    name = "multitasknet"
    title = "MultiTaskNet"
    card = "multitasknet_veri.md"
    spec_type = MultiTaskNetSpec
    options = ("variant", *COUNTS, "include_top")
    optional_cells = TOP
    classifier = "classifier_vid"
    preprocessing_version = 2
    # The backbone, or its stem and two or three blocks.
    frozen: ClassVar = {
        "none": (),
        "stages": _EARLY,
        "blocks": (*_EARLY, f"{BACKBONE}denseblock3.", f"{BACKBONE}transition3."),
        "backbone": (BACKBONE,),
    }
    roots = ("base", "features", *HEAD)
    # Without fc, which other networks have as well; features are torchvision's.
    mark = (
        r"(?:base|features)\.(?:conv0|norm0|norm5|denseblock\d)\.|"
        rf"(?:fc_vid|{'|'.join(TOP)})\."
    )
    layouts = "this network, of NVlabs' PAMTRI and of torchvision's DenseNet-121"
    torch_useless = r"classifier\.(?:weight|bias)$"  # ImageNet's, in torchvision's files
    sidecar_fields: ClassVar = EmbeddingNetwork.sidecar_fields | {"distance": "distance"}
    choices: ClassVar = EmbeddingNetwork.choices | {"distance": DISTANCES, "stem_pool": STEM_POOLS}

    write_inputs = staticmethod(write_inputs)

    def to_published(self, entries: Arrays) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
        arrays, left_out = super().to_published(entries)
        if is_torch(entries):
            arrays[SYMMETRIC_POOL] = np.ones(1, np.float32)
        return arrays, left_out

    def to_torch(self, arrays: Arrays) -> dict[str, np.ndarray]:
        """For NVlabs' network. Weights that were trained in MindSpore are refused: PyTorch pads the
        stem's max pool on the other side, and would give other outputs."""
        if SYMMETRIC_POOL not in arrays:
            raise CheckpointError(
                f"these weights were trained in MindSpore, whose stem pads its max pool on the "
                f"other side: they lack {SYMMETRIC_POOL!r}; keep them as .ckpt or .safetensors"
            )
        return super().to_torch({name: arrays[name] for name in arrays if name != SYMMETRIC_POOL})

    def published_name(self, name: str) -> str:
        name = re.sub(r"^features\.", "base.", name)
        name = re.sub(r"\.denselayer(\d+)\.", lambda at: f".cell_list.{int(at[1]) - 1}.", name)
        name = re.sub(r"\.(norm|conv)\.([12])\.", r".\1\2.", name)
        return re.sub(r"\.(transition\d)\.", r".\1.features.", name)

    def torch_name(self, name: str) -> str:
        name = re.sub(r"\.cell_list\.(\d+)\.", lambda at: f".denselayer{int(at[1]) + 1}.", name)
        return name.replace(".features.", ".")

    def spec_from_shapes(self, shapes: Shapes, source: str) -> MultiTaskNetSpec:
        """The stem's input channels give the variant, the columns of the first Dense layer the
        keypoint awareness, the rows of ``classifier_*`` the class counts."""
        channels = self.required_shape(STEM, shapes, source)[1]
        variants = {variant.channels: variant for variant in Variant}
        if channels not in variants:
            raise CheckpointError(
                f"{source}: {STEM!r} takes {channels} channels; expected one of "
                + ", ".join(f"{count} ({name})" for count, name in variants.items())
            )
        multi_task = "fc_vid.weight" in shapes
        first = (shapes.get("fc_vid.weight") or shapes.get("fc.weight") or (EMBEDDING_SIZE,))[-1]
        if first not in (EMBEDDING_SIZE, EMBEDDING_SIZE + POSE_SIZE):
            raise CheckpointError(
                f"{source}: the first Dense layer takes {first} columns; expected "
                f"{EMBEDDING_SIZE + POSE_SIZE} (keypoint-aware) or {EMBEDDING_SIZE}"
            )
        ids, colors, types = (
            (shapes.get(f"classifier_{kind}.weight") or (0,))[0]
            for kind in ("vid", "vcolor", "vtype")
        )
        return MultiTaskNetSpec(
            variant=variants[channels],
            keypoint_aware=first != EMBEDDING_SIZE,
            multi_task=multi_task,
            num_ids=ids,
            color_names=class_names(colors or len(COLORS), COLORS, "color") if multi_task else (),
            type_names=class_names(types or len(TYPES), TYPES, "type") if multi_task else (),
            include_top=bool(ids or (colors and types)),
            stem_pool="symmetric" if SYMMETRIC_POOL in shapes else "same",
        )

    def check_options(self, options: Mapping[str, Any]) -> None:
        super().check_options(options)
        Variant(options.get("variant") or Variant.SEGMENT)

    def plan(self, found: Any, options: Mapping[str, Any]) -> Plan:
        """CheckpointError or ValueError if an option contradicts the file."""
        wanted = Variant(options["variant"]) if options.get("variant") else None
        counts = class_counts(options)
        include_top = options.get("include_top", True)
        if found is None:
            spec = with_counts(MultiTaskNetSpec(), counts)
            return Plan(replace(spec, variant=wanted or spec.variant, include_top=include_top))
        spec, arrays = found.spec, found.arrays
        backbone_alone = all(name.startswith(BACKBONE) for name in arrays)
        if backbone_alone and spec.variant is Variant.RGB and wanted is not None:
            arrays = _widen_stem(arrays, wanted.channels)
            spec = replace(spec, variant=wanted)
        if wanted not in (None, spec.variant):
            raise CheckpointError(
                f"variant is '{wanted}', but {found.path} holds the variant '{spec.variant}'"
            )
        if not include_top:
            return Plan(replace(spec, include_top=False), arrays)
        if backbone_alone:
            head = MultiTaskNetSpec(variant=spec.variant, stem_pool=spec.stem_pool)
            return Plan(with_counts(head, counts), arrays, fresh=HEAD)
        if not spec.multi_task and {"num_colors", "num_types"} & counts.keys():
            raise ValueError(f"num_colors or num_types, but {found.path} is a single-task network")
        if not spec.include_top and "num_ids" not in counts:
            raise ValueError(
                f"{found.path} holds no classifiers; give num_ids, or include_top=False"
            )
        asked = replace(with_counts(spec, counts), include_top=True)
        rows = {"classifier_vid": asked.num_ids} if asked.has_identities else {}
        if asked.multi_task:
            rows |= {"fc_vcolor": ATTRIBUTE_SIZE, "classifier_vcolor": asked.num_colors}
            rows |= {"fc_vtype": ATTRIBUTE_SIZE, "classifier_vtype": asked.num_types}
        return Plan(asked, arrays, fresh=fresh_cells(rows, arrays))

    def normalization(self) -> dict[str, Any]:
        return {**super().normalization(), "maps": {"mean": MAP_MEAN, "std": MAP_STD}}

    def spec_to_sidecar(self, spec: MultiTaskNetSpec) -> dict[str, Any]:
        """The variant for people alone: the stem states it."""
        return {"variant": spec.variant.value, **super().spec_to_sidecar(spec)}

    def spec_from_sidecar(
        self, spec: MultiTaskNetSpec, values: Mapping[str, Any]
    ) -> MultiTaskNetSpec:
        # The first releases knew one convention and one distance, and did not name them.
        values = {"pose_convention": spec.pose_convention, "distance": spec.distance, **values}
        if not spec.multi_task:
            values |= {"colors": [], "types": []}
        return super().spec_from_sidecar(spec, values)

    def describe(self, spec: MultiTaskNetSpec) -> dict[str, str]:
        origin = "PyTorch" if spec.stem_pool == "symmetric" else "MindSpore"
        return super().describe(spec) | {
            "variant": f"{spec.variant} ({spec.channels} input channels)",
            "pose vector": "used" if spec.keypoint_aware else "not used",
            "stem pool": f"padded as in {origin}",
        }


def _widen_stem(arrays: Arrays, channels: int) -> Arrays:
    """The same values for an input of more channels: the further ones start at N(0, 0.02)."""
    from mindspore.common.initializer import Normal, initializer

    stem = arrays[STEM]
    features, given, *kernel = stem.shape
    more = initializer(Normal(_STEM_SIGMA), (features, channels - given, *kernel)).init_data()
    widened = np.concatenate((stem.astype(np.float32, copy=False), more.asnumpy()), axis=1)
    return {**arrays, STEM: widened}


NETWORK = MultiTaskNetDefinition()
