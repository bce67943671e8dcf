"""Shares in percent, with intervals over vehicles."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..ranking.metrics import RankingResult

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

    @classmethod
    def of(cls, shares: np.ndarray, vehicles: np.ndarray) -> Figure:
        """The mean of shares, 0..1, NaN left out, with an interval: a bootstrap over vehicles.

        Shares of one vehicle are alike, so vehicles are drawn, with all of their shares (Field and
        Welsh, Bootstrapping clustered data, JRSS B 2007); from the 2.5th to the 97.5th percentile,
        the same for the same shares.

        Args:
            shares: ``[N]``.
            vehicles: ids ``[N]``.
        """
        known, low, high = ~np.isnan(shares), math.nan, math.nan
        names, places = np.unique(vehicles[known], return_inverse=True)
        if len(names) >= _FEWEST:
            drawn = np.random.default_rng(0).multinomial(
                len(names), np.full(len(names), 1 / len(names)), _DRAWS
            )
            sums = drawn @ np.bincount(places, 100 * shares[known])
            low, high = np.quantile(sums / (drawn @ np.bincount(places)), _QUANTILES).tolist()
        return cls(mean_percent(shares), low, high, int(known.sum()))

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


def mean_percent(shares: np.ndarray) -> float:
    """The mean of shares, 0..1, in percent; NaN left out, and NaN of nothing."""
    known = shares[~np.isnan(shares)]
    return float(100 * known.mean()) if len(known) else math.nan


def ranking_shares(ranking: RankingResult) -> dict[str, np.ndarray]:
    """mAP, mINP and Rank-k of each query ``[Q]``, 0..1; NaN without a match."""
    first = ranking.first_ranks
    hits = {f"Rank-{k}": np.where(np.isnan(first), np.nan, first <= k) for k in RANKS}
    return {"mAP": ranking.average_precisions, "mINP": ranking.inverse_penalties} | hits


def ranking_metrics(ranking: RankingResult | None) -> dict[str, float]:
    """Their means in percent; empty for None."""
    shares = ranking_shares(ranking) if ranking else {}
    return {name: mean_percent(one) for name, one in shares.items()}


def ranking_figures(ranking: RankingResult) -> dict[str, Figure]:
    """Their means with intervals."""
    shares = ranking_shares(ranking)
    return {name: Figure.of(one, ranking.vehicles) for name, one in shares.items()}


def table_columns(title: str, found: Mapping[str, Figure]) -> dict[str, dict[str, str]]:
    """Values as a column of a table, and beside them their intervals where there are any."""
    values = {name: str(one) for name, one in found.items()}
    intervals = {name: one.interval for name, one in found.items()}
    return {title: values} | ({f"{title}, 95 %": intervals} if any(intervals.values()) else {})


def figures_as_json(found: Mapping[str, Figure]) -> dict[str, Any]:
    """Values and intervals by name."""
    return {
        "metrics": {name: one.value for name, one in found.items()},
        "intervals": {name: [one.low, one.high] for name, one in found.items()},
    }
