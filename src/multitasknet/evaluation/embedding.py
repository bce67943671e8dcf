"""The network's answers for the images of a data set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from ..data.records import Record, check_files
from ..vehicle.keypoint_metrics import octants

if TYPE_CHECKING:
    from ..inference.predictor import Predictor

_FACTS = ("short side", "octant", "quality")


@dataclass(frozen=True, eq=False)
class Embeddings:
    """The network's answers for N images."""

    embeddings: np.ndarray  # float32 ``[N, D]``
    colors: np.ndarray  # int64 ``[N]``, the likeliest class's index; -1 if there is no such head
    types: np.ndarray  # the same
    sha256: tuple[str, ...] = ()  # of each image's bytes
    # How many images had a pose of each origin: given, estimated, neutral.
    poses: Mapping[str, int] = field(default_factory=dict)
    # By name a number of each image, ``[N]``: ``short side`` in pixels, ``octant`` that the vehicle
    # is seen from, -1 if unclear, ``quality``; empty where that is not known.
    facts: Mapping[str, np.ndarray] = field(default_factory=dict)


def embed_records(
    predictor: Predictor, records: Sequence[Record], *, progress: bool = True
) -> Embeddings:
    """Embed all images of some records; poses that they lack are estimated on the way.

    Raises:
        DataError: images are missing.
        ImageError: an image cannot be read.
    """
    check_files(records)
    spec = predictor.spec
    (width,) = spec.output_shapes(predictor.size)["embedding"]
    embeddings = np.empty((len(records), width), dtype=np.float32)
    classes, facts = np.full((2, len(records)), -1), np.zeros((len(_FACTS), len(records)))
    hashes, origins = [""] * len(records), Counter[str]()
    answers, hidden = predictor.stream(records), None if progress else True
    for one in tqdm(answers, "embed", len(records), unit="image", disable=hidden):
        embeddings[one.index], hashes[one.index] = one.embedding, one.sha256
        origins[one.pose.origin] += 1
        (octant,) = octants(one.pose.keypoints[None])
        facts[:, one.index] = min(one.height, one.width), octant, one.quality
        if one.color is not None and one.type is not None:
            found = spec.color_names.index(one.color), spec.type_names.index(one.type)
            classes[:, one.index] = found
    by_name = dict(zip(_FACTS, facts, strict=True))
    return Embeddings(embeddings, classes[0], classes[1], tuple(hashes), origins, by_name)
