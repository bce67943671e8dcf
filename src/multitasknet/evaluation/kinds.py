"""Kinds of matches, to break an evaluation down by: what query and match have in common."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..data.records import VehicleDataset
from ..ranking.metrics import Matches
from ..vehicle.cameras import UNKNOWN_CAMERA

# Names of kinds, and which each match is, places in these, ``[P]``.
Kinds = tuple[tuple[str, ...], np.ndarray]

_PAIRS = 10
_VIEWS = ("same end", "other end", "side", "view unclear")
# By a fact of the query: the title, the first number of each step but the least, and their names.
_STEPS = {
    "short side": (
        "size",
        (100, 150, 220),
        ("below 100 px", "100 to 149 px", "150 to 219 px", "220 px and more"),
    ),
    "quality": ("quality", (0.5, 0.9), ("below 0.5: doubted", "0.5 to 0.9", "0.9 and more")),
}
# Of each octant front, rear or neither, and of -1, the last, that it is unclear.
_FRONT, _REAR, _SIDE, _NONE = range(4)
_ENDS = np.array([_FRONT, _FRONT, _SIDE, _REAR, _REAR, _REAR, _SIDE, _FRONT, _NONE])


def kinds_of_matches(
    matches: Matches,
    dataset: VehicleDataset,
    query: Mapping[str, np.ndarray],
    gallery: Mapping[str, np.ndarray],
) -> dict[str, Kinds]:
    """Kinds by title: of the cameras, and by the facts that are known of query and gallery."""
    found = {"camera pair": _camera_pairs(matches, dataset)}
    if "octant" in query and "octant" in gallery:
        seen = query["octant"][matches.queries], gallery["octant"][matches.images]
        found["view"] = _VIEWS, _views(*seen)
    for fact, (title, steps, names) in _STEPS.items():
        if fact in query:
            values = query[fact][matches.queries]
            found[title] = names, np.searchsorted(steps, values, side="right")
    return found


def _camera_pairs(matches: Matches, dataset: VehicleDataset) -> Kinds:
    """The pairs of most matches, the others together, and those of an unknown camera."""
    cameras = np.stack(
        [
            dataset.query.camera_ids[matches.queries],
            dataset.gallery.camera_ids[matches.images],
        ]
    )
    cameras.sort(axis=0)
    pairs, places, counts = np.unique(cameras, axis=1, return_inverse=True, return_counts=True)
    places, known = places.reshape(-1), pairs[0] != UNKNOWN_CAMERA
    order = np.argsort(-counts, kind="stable")
    first = order[known[order]][:_PAIRS]
    others = int(known.sum()) - len(first)
    kinds = np.where(known, len(first), len(first) + 1)
    kinds[first] = np.arange(len(first))
    named = (f"{a} and {b}" for a, b in pairs[:, first].T)
    return (*named, f"{others} other pairs", "unknown camera"), kinds[places]


def _views(query: np.ndarray, match: np.ndarray) -> np.ndarray:
    a, b = (_ENDS[one.astype(int)] for one in (query, match))
    unclear, side = ((a == one) | (b == one) for one in (_NONE, _SIDE))
    return np.select([unclear, side, a == b], [3, 2, 0], 1)
