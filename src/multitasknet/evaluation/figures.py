"""Shares in percent with intervals, and what a ranking comes to for some of its matches."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..ranking.metrics import Matches

RANKS = (1, 5, 10, 20)
_DRAWS = 1_000
_QUANTILES = (0.025, 0.975)
# An interval from fewer vehicles would be far too narrow.
_FEWEST = 10


@dataclass(frozen=True)
class Figure:
    """A mean in percent.

    Attributes:
        value: the mean; NaN of nothing.
        low, high: its 95 % interval over vehicles; NaN with fewer than 10 of them.
        count: how many values it is the mean of.
    """

    value: float
    low: float
    high: float
    count: int

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


def figures(columns: Mapping[str, np.ndarray], vehicles: np.ndarray) -> dict[str, Figure]:
    """Means of columns with intervals: a bootstrap over vehicles, the same for the same values.

    Values of one vehicle are alike, so vehicles are drawn, with all of their values (Field and
    Welsh, Bootstrapping clustered data, JRSS B 2007); from the 2.5th to the 97.5th percentile.

    Args:
        columns: by name ``[N]`` shares, 0..1, NaN where there is none.
        vehicles: ids ``[N]``.
    """
    return {name: _figure(values, vehicles) for name, values in columns.items()}


def _figure(values: np.ndarray, vehicles: np.ndarray) -> Figure:
    known = ~np.isnan(values)
    names, places = np.unique(vehicles[known], return_inverse=True)
    if not len(names):
        return Figure(math.nan, math.nan, math.nan, 0)
    percent = 100 * values[known]
    low = high = math.nan
    if len(names) >= _FEWEST:
        drawn = np.random.default_rng(0).multinomial(
            len(names), np.full(len(names), 1 / len(names)), _DRAWS
        )
        means = (drawn @ np.bincount(places, percent)) / (drawn @ np.bincount(places))
        low, high = np.quantile(means, _QUANTILES).tolist()
    return Figure(float(percent.mean()), low, high, len(percent))


def ranking_figures(matches: Matches) -> dict[str, Figure]:
    """mAP, mINP and Rank-k of the queries that have a match."""
    first = matches.first_ranks
    columns = {"mAP": matches.average_precisions, "mINP": matches.inverse_penalties}
    hits = {f"Rank-{k}": np.where(np.isnan(first), np.nan, first <= k) for k in RANKS}
    return figures(columns | hits, matches.vehicles)


def table_columns(title: str, found: Mapping[str, Figure]) -> dict[str, dict[str, str]]:
    """Values as a column of a table, and beside them their intervals where there are any."""
    values = {name: str(one) for name, one in found.items()}
    intervals = {name: one.interval for name, one in found.items()}
    return {title: values} | ({f"{title}, 95 %": intervals} if any(intervals.values()) else {})


@dataclass(frozen=True)
class Part:
    """Some of the matches: how many queries and vehicles have one, and how these rank."""

    queries: int
    vehicles: int
    figures: Mapping[str, Figure]

    def as_json(self) -> dict[str, Any]:
        """As an evaluation's own metrics and intervals."""
        counts = {"queries": self.queries, "vehicles": self.vehicles}
        return counts | figures_as_json(self.figures)


def figures_as_json(found: Mapping[str, Figure]) -> dict[str, Any]:
    """Values and intervals by name."""
    return {
        "metrics": {name: one.value for name, one in found.items()},
        "intervals": {name: [one.low, one.high] for name, one in found.items()},
    }


def breakdown(matches: Matches, names: Sequence[str], kinds: np.ndarray) -> dict[str, Part]:
    """The ranking by kind of match: each kind's among the images of other vehicles alone.

    Args:
        names: of the kinds, in their order; those without matches are left out.
        kinds: which each of the matches is, places in ``names``, ``[P]``.
    """
    parts = {}
    for kind, name in enumerate(names):
        some = matches.only(kinds == kind)
        queries = np.unique(some.queries)
        if len(queries):
            vehicles = len(np.unique(matches.vehicles[queries]))
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
