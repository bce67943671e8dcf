"""A ranking by kinds of matches: by what query and match have in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..ranking.metrics import RankingResult
from ..vehicle.cameras import UNKNOWN_CAMERA
from .figures import Figure, ranking_figures, table_columns

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


@dataclass(frozen=True)
class Part:
    """Some of the matches: how many queries and vehicles have one, and how these rank."""

    queries: int
    vehicles: int
    figures: Mapping[str, Figure]


def breakdown(
    ranking: RankingResult, cameras: np.ndarray, facts: Mapping[str, np.ndarray], queries: int
) -> dict[str, dict[str, Part]]:
    """The ranking by camera pair, view, size and so on, and in each by its kinds of match.

    A kind's matches are ranked among the images of other vehicles: matches of other kinds are left
    out. What all matches have in common is not broken down.

    Args:
        ranking: of a gallery that was not drawn.
        cameras: of the data set's images ``[N]``, queries first.
        facts: of these images, see :class:`.embedding.Embeddings`.
        queries: how many of them are queries.
    """
    kinds = kinds_of_matches(ranking, cameras, facts, queries)
    found = {title: parts_of(ranking, *one) for title, one in kinds.items()}
    return {title: parts for title, parts in found.items() if len(parts) > 1}


def kinds_of_matches(
    ranking: RankingResult, cameras: np.ndarray, facts: Mapping[str, np.ndarray], queries: int
) -> dict[str, Kinds]:
    """Kinds by title; arguments as in :func:`breakdown`."""
    query, match = ranking.queries, queries + ranking.images
    found = {"camera pair": _camera_pairs(cameras[query], cameras[match])}
    if "octant" in facts:
        a, b = (_ENDS[facts["octant"][one].astype(int)] for one in (query, match))
        unclear, side = ((a == one) | (b == one) for one in (_NONE, _SIDE))
        found["view"] = _VIEWS, np.select([unclear, side, a == b], [3, 2, 0], 1)
    for fact, (title, steps, names) in _STEPS.items():
        if fact in facts:
            found[title] = names, np.searchsorted(steps, facts[fact][query], side="right")
    return found


def _camera_pairs(query: np.ndarray, match: np.ndarray) -> Kinds:
    """The pairs of most matches, the others together, and those of an unknown camera."""
    pairs, places, counts = np.unique(
        np.sort([query, match], axis=0), axis=1, return_inverse=True, return_counts=True
    )
    known = pairs[0] != UNKNOWN_CAMERA
    order = np.argsort(-counts, kind="stable")
    first = order[known[order]][:_PAIRS]
    others = int(known.sum()) - len(first)
    kinds = np.where(known, len(first), len(first) + 1)
    kinds[first] = np.arange(len(first))
    named = (f"{a} and {b}" for a, b in pairs[:, first].T)
    return (*named, f"{others} other pairs", "unknown camera"), kinds[places.reshape(-1)]


def parts_of(ranking: RankingResult, names: tuple[str, ...], kinds: np.ndarray) -> dict[str, Part]:
    """The ranking of each kind of match: ``kinds`` are places in ``names``, ``[P]``."""
    parts = {}
    for kind, name in enumerate(names):
        some = ranking.only(kinds == kind)
        if len(queries := np.unique(some.queries)):
            vehicles = len(np.unique(ranking.vehicles[queries]))
            parts[name] = Part(len(queries), vehicles, ranking_figures(some))
    return parts


def part_columns(parts: Mapping[str, Part]) -> dict[str, dict[str, str]]:
    """The parts of a breakdown as columns of a table."""
    columns: dict[str, dict[str, str]] = {}
    for metric in ("mAP", "Rank-1"):
        columns |= table_columns(metric, {name: one.figures[metric] for name, one in parts.items()})
    for count in ("queries", "vehicles"):
        columns[count] = {name: f"{getattr(one, count):,}" for name, one in parts.items()}
    return columns
