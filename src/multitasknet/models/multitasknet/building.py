"""What ``create_network`` builds for a file and the options that came with it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ...errors import CheckpointError
from ..base import Arrays, Checkpoint, Plan
from ..embedding import COUNTS, class_counts, fresh_cells, with_counts
from .spec import ATTRIBUTE_SIZE, MultiTaskNetSpec, Variant

logger = logging.getLogger(__name__)

BACKBONE = "base."
STEM = f"{BACKBONE}conv0.weight"
# What a network without classifiers has no use for.
TOP = ("classifier_vid", "classifier_vcolor", "classifier_vtype", "fc_vcolor", "fc_vtype")
HEAD = (*TOP, "fc_vid", "fc")
OPTIONS = ("variant", *COUNTS, "include_top")
_STEM_SIGMA = 0.02


def plan(found: Checkpoint | None, options: Mapping[str, Any]) -> Plan:
    """What is to be built; see :func:`multitasknet.create_network` for the options.

    Raises:
        CheckpointError, ValueError: an option contradicts the file.
    """
    variant = options.get("variant")
    wanted = None if variant is None else Variant(variant)
    counts = class_counts(options)
    include_top = options.get("include_top", True)
    if found is None:
        spec = replace(with_counts(MultiTaskNetSpec(), counts), variant=wanted or Variant.SEGMENT)
        return Plan(replace(spec, include_top=include_top))
    spec, arrays = found.spec, found.arrays
    backbone_alone = all(name.startswith(BACKBONE) for name in arrays)
    if backbone_alone and spec.variant is Variant.RGB and wanted is not None:
        arrays = _widen_stem(arrays, wanted.channels)
        spec = replace(spec, variant=wanted)
    if wanted not in (None, spec.variant):
        raise CheckpointError(
            f"variant is {wanted.value!r}, but {found.path} holds the variant "
            f"{spec.variant.value!r}; leave variant out, or give weights of that variant"
        )
    if not include_top:
        return Plan(replace(spec, include_top=False), arrays)
    if backbone_alone:
        head = MultiTaskNetSpec(variant=spec.variant, stem_pool=spec.stem_pool)
        return Plan(with_counts(head, counts), arrays, fresh=HEAD)
    extra = [name for name in counts if name != "num_ids"]
    if extra and not spec.multi_task:
        raise ValueError(f"{extra[0]} is given, but {found.path} is a single-task network")
    if not spec.include_top and "num_ids" not in counts:
        raise ValueError(
            f"{found.path} holds no classifiers; give num_ids for a fresh one, or include_top=False"
        )
    asked = replace(with_counts(spec, counts), include_top=True)
    return Plan(asked, arrays, fresh=_fresh_cells(asked, arrays))


def _fresh_cells(spec: MultiTaskNetSpec, arrays: Arrays) -> tuple[str, ...]:
    """The cells of the top that the file has not, or has with another number of classes."""
    rows = {"classifier_vid": spec.num_ids} if spec.has_identities else {}
    if spec.multi_task:
        rows |= {"fc_vcolor": ATTRIBUTE_SIZE, "classifier_vcolor": spec.num_colors}
        rows |= {"fc_vtype": ATTRIBUTE_SIZE, "classifier_vtype": spec.num_types}
    return fresh_cells(rows, arrays)


def _widen_stem(arrays: Arrays, channels: int) -> Arrays:
    """The same values for an input of more channels: the further ones start at N(0, 0.02)."""
    from mindspore.common.initializer import Normal, initializer

    stem = arrays[STEM]
    features, given, *kernel = stem.shape
    more = initializer(Normal(_STEM_SIGMA), (features, channels - given, *kernel)).init_data()
    logger.info("%s: %d channels beyond the file's %d are fresh", STEM, channels - given, given)
    widened = np.concatenate((stem.astype(np.float32, copy=False), more.asnumpy()), axis=1)
    return {**arrays, STEM: widened}
