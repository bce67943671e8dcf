"""Shares in percent with intervals over vehicles: of a ranking, and of its kinds of matches."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..ranking.metrics import RankingResult
from ..vehicle.cameras import UNKNOWN_CAMERA

# Names of kinds, and which each match is, places in these, ``[P]``.
Kinds = tuple[tuple[str, ...], np.ndarray]

RANKS = (1, 5, 10, 20)
_DRAWS = 1_000
_QUANTILES = (0.025, 0.975)
# An interval from fewer vehicles would be far too narrow.
_FEWEST = 10
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
class Figure:
    """A mean in percent, NaN of nothing, of so many values.

    ``low`` and ``high`` are its 95 % interval over vehicles; NaN with fewer than 10 of them.
    """

    value: float
    low: float
    high: float
    count: int

    @classmethod
    def of(cls, shares: np.ndarray, vehicles: np.ndarray) -> Figure:
        """The mean of shares ``[N]``, 0..1, NaN left out, with an interval over their vehicles.

        Shares of one vehicle are alike, so vehicles are drawn, with all of their shares (bootstrap;
        Field and Welsh, Bootstrapping clustered data, JRSS B 2007); from the 2.5th to the 97.5th
        percentile, the same for the same shares.
        """
        known = ~np.isnan(shares)
        shares, low, high = shares[known], math.nan, math.nan
        names, places = np.unique(vehicles[known], return_inverse=True)
        if len(names) >= _FEWEST:
            drawn = np.random.default_rng(0).multinomial(
                len(names), np.full(len(names), 1 / len(names)), _DRAWS
            )
            sums = drawn @ np.bincount(places, 100 * shares)
            low, high = np.quantile(sums / (drawn @ np.bincount(places)), _QUANTILES).tolist()
        value = float(100 * shares.mean()) if len(shares) else math.nan
        return cls(value, low, high, len(shares))

    @property
    def decimals(self) -> int:
        """As many as the interval, and one of ``count`` values, leave a meaning; at most two."""
        known = not math.isnan(self.low) and self.count
        step = max((self.high - self.low) / 2, 100 / self.count) if known else 100
        return min(max(math.ceil(-math.log10(step)), 0), 2)

    @property
    def interval(self) -> str:
        """Such as ``29.7 to 34.0``; empty if there is none."""
        ends = (f"{end:.{self.decimals}f}" for end in (self.low, self.high))
        return "" if math.isnan(self.low) else " to ".join(ends)

    def __str__(self) -> str:
        return "" if math.isnan(self.value) else f"{self.value:.{self.decimals}f}"


@dataclass(frozen=True)
class Part:
    """Some of the matches: how many queries and vehicles have one, and how these rank."""

    queries: int
    vehicles: int
    figures: Mapping[str, Figure]


def ranking_shares(ranking: RankingResult) -> dict[str, np.ndarray]:
    """mAP, mINP and Rank-k of each query ``[Q]``, 0..1; NaN without a match."""
    first = ranking.first_ranks
    hits = {f"Rank-{k}": np.where(np.isnan(first), np.nan, first <= k) for k in RANKS}
    return {"mAP": ranking.average_precisions, "mINP": ranking.inverse_penalties} | hits


def ranking_figures(ranking: RankingResult) -> dict[str, Figure]:
    """The means of these shares."""
    shares = ranking_shares(ranking)
    return {name: Figure.of(one, ranking.vehicles) for name, one in shares.items()}


def values_of(found: Mapping[str, Figure]) -> dict[str, float]:
    """The means alone, by name."""
    return {name: one.value for name, one in found.items()}


def figures_as_json(found: Mapping[str, Figure]) -> dict[str, Any]:
    """Means and intervals by name."""
    intervals = {name: [one.low, one.high] for name, one in found.items()}
    return {"metrics": values_of(found), "intervals": intervals}


def table_columns(title: str, found: Mapping[str, Figure]) -> dict[str, dict[str, str]]:
    """Means as a column of a table, and beside them their intervals where there are any."""
    values = {name: str(one) for name, one in found.items()}
    intervals = {name: one.interval for name, one in found.items()}
    return {title: values} | ({f"{title}, 95 %": intervals} if any(intervals.values()) else {})


def kinds_of_matches(
    ranking: RankingResult, cameras: np.ndarray, facts: Mapping[str, np.ndarray], queries: int
) -> dict[str, Kinds]:
    """Which kind each match is of, by camera pair, view, size and quality.

    Args:
        ranking: of a gallery that was not drawn.
        cameras: of the data set's images ``[N]``, queries first.
        facts: of these images, see :class:`.embedding.Embeddings`.
        queries: how many of them are queries.
    """
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
    """The ranking of each kind of match: ``kinds`` are places in ``names``, ``[P]``.

    A kind's matches are ranked among the images of other vehicles; matches of other kinds are left
    out.
    """
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
