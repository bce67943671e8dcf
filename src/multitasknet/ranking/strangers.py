"""How near strangers come: the share of pairs of two vehicles that are as near as a pair is.

No labels are needed. Most pairs of a gallery's rows are of two vehicles, and a small, unknown share
of one, which are among the nearest. Where 5 % to 12 % of the pairs are nearer, that share hardly
counts. There log F, the share of pairs within a squared distance d, is a line in log d, whose slope
is the correlation dimension at that scale (Grassberger and Procaccia, Physica D, 1983), and it is
continued to smaller distances. Look-alikes make strangers more common there than a steep line says,
so that it is taken no steeper than was measured on crops with labels; nor is a rate ever larger
than the share of all pairs. Pairs of different cameras at one time are strangers for certain: where
there are enough, they are taken instead, and as they are.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..errors import DataError
from .distances import check_embeddings, squared_distances

logger = logging.getLogger(__name__)

# Fewer rows give no rate; a rough distance takes a few.
_FEWEST, _FEWEST_ROUGH = 200, 10
# Shares of pairs that the line is fitted to.
_LOWEST, _HIGHEST, _LEVELS = 0.05, 0.12, 24
# Of fewer than some 50 vehicles, pairs of one are more than this share, or make the line flat
# beside that up to the second share.
_MOST_OF_ONE, _FLATTEST, _BEYOND = 0.01, 0.6, 0.3
# The same where many of the near pairs may be of one vehicle, for a rough distance.
_ROUGH = 0.15, 0.5
# Of strangers' lines from 1 % down to 0.01 %, on crops from sharp to hardly recognisable: 5 to 7.
_STEEPEST = 5.5
# Pairs at one time that are enough, and how many times more of them may be near than of random
# ones: else the cameras see one place, or their clocks differ.
_ENOUGH, _SUSPECT = 10_000, 3
# Of so many pairs their share is known well enough.
_COUNTED = 30
_CONFIDENCE = 0.95
_KNOTS, _NEARER = 64, 12
_ALIKE, _TINY = 1e-3, 1e-9


@dataclass(frozen=True)
class Rate:
    """How many pairs of strangers are as near as a pair is."""

    rate: float  # their share, 0..1; the smallest that is stated is one of ``pairs``
    upper: float  # with a confidence of 95 % the share is at most this
    pairs: int  # of rows, that it rests on

    @property
    def words(self) -> str:
        """The rate alone: ``1 in 12,000``."""
        return (
            f"1 in {_about(1 / self.rate)}{' or fewer' if self.rate * self.pairs < 1.001 else ''}"
        )

    @property
    def sentence(self) -> str:
        """The rate with what it rests on."""
        return (
            f"{self.words} pairs of strangers in this gallery is as near "
            f"({_about(self.pairs)} pairs; at most 1 in {_about(1 / self.upper)})"
        )


@dataclass(frozen=True, eq=False)
class Moments:
    """Rows ``[N, D]`` of known moments and cameras, integers ``[N]``; those of one moment and two
    cameras are strangers."""

    embeddings: np.ndarray
    moments: np.ndarray
    cameras: np.ndarray


@dataclass(frozen=True)
class StrangerRates:
    """The rate at any distance, as the rows of a gallery show it."""

    distances: tuple[float, ...]  # squared Euclidean, ascending
    rates: tuple[float, ...]  # at these, as in :class:`Rate`; interpolated between two
    uppers: tuple[float, ...]  # the same
    pairs: int  # of rows, that they rest on
    at_one_time: bool  # whether these are of different cameras at one time, not random ones
    doubt: str  # why no rate is stated, and a distance is rough or none; empty if rates are

    @classmethod
    def of(cls, embeddings: np.ndarray, together: Moments | None = None) -> StrangerRates:
        """From all pairs of rows ``[N, D]`` at random, and others of known times; DataError."""
        few = f"{len(embeddings)} rows; rates of strangers take {_FEWEST} or more"
        if len(embeddings) < _FEWEST_ROUGH:
            return cls((), (), (), 0, False, few)
        rows = check_embeddings("embeddings", embeddings)
        pairs, doubt, lowest = _Pairs.of(rows, np.triu_indices(len(rows), k=1)), "", _LOWEST
        near, far = pairs.apart[[int(share * len(pairs.apart)) for share in (_LOWEST, _HIGHEST)]]
        if far < (1 + _ALIKE) * near:
            return cls((), (), (), 0, False, "too many of its rows are alike")
        line = _fitted(pairs.apart, _LOWEST, _HIGHEST)
        certain = _strangers(together)
        at_one_time = certain is not None and _agree(certain.apart, line)
        if certain is not None and at_one_time:
            pairs, lowest = certain, _COUNTED / len(certain.apart)
            line = _fitted(pairs.apart, lowest, _HIGHEST)
        elif len(rows) < _FEWEST:
            doubt = few
        elif _shows_few_vehicles(pairs.apart, line):
            doubt = "too few vehicles: rates of strangers take some 50 or more"
        if doubt:
            lowest, line = _ROUGH[0], _fitted(pairs.apart, *_ROUGH)
        distances, rates = _knots(pairs.apart, line, lowest)
        uppers = np.maximum(pairs.uppers(distances), rates)
        numbers = [tuple(one.tolist()) for one in (distances, rates, uppers)]
        return cls(numbers[0], numbers[1], numbers[2], len(pairs.apart), at_one_time, doubt)

    @property
    def about(self) -> str:
        """What rates here mean and rest on, or why none are stated, in a sentence."""
        if self.doubt:
            return f"No rates of strangers: {self.doubt}."
        how = "of different cameras at one time" if self.at_one_time else "of crops at random"
        return (
            f"1 in N: of N pairs of strangers in this gallery one is as near, by {self.pairs:,} "
            f"pairs {how}."
        )

    def rate(self, distance: float) -> Rate | None:
        """The rate at a squared Euclidean distance; None if :attr:`doubt` says why not."""
        if self.doubt:
            return None
        place, known = np.log(max(distance, _TINY)), np.log(self.distances)
        rate, upper = (
            min(float(np.exp(np.interp(place, known, np.log(one)))), 1.0)
            for one in (self.rates, self.uppers)
        )
        return Rate(rate, upper, self.pairs)

    @property
    def least(self) -> float:
        """The smallest rate that these pairs show: that of one of them."""
        return 1 / max(self.pairs, 1)

    def distance_at(self, rate: float) -> float:
        """The squared distance that this share of pairs of strangers lies within.

        Where rates are in doubt it is a rough one. DataError: the rows show none, or the rate is
        smaller than one of the pairs.
        """
        if not self.distances:
            raise DataError(f"{self.doubt}; give a distance")
        if self.doubt:
            logger.warning("%s: the distance for a rate of %g is a rough one", self.doubt, rate)
        if not self.least <= rate <= 1:
            # Two digits, and never less than the smallest.
            raise DataError(
                f"a rate of {rate:g} cannot be known from {self.pairs:,} pairs of rows; ask for "
                f"{1.05 * self.least:.2g} or more, or give a distance"
            )
        # Of the distances at the smallest rate the largest.
        start = int(np.searchsorted(self.rates, self.rates[0], side="right")) - 1
        known = np.log(self.rates[start:]), np.log(self.distances[start:])
        return float(np.exp(np.interp(np.log(rate), *known)))

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> StrangerRates:
        """What :func:`dataclasses.asdict` made of it and JSON kept."""
        kept: dict[str, Any] = {
            name: tuple(one) if isinstance(one, list) else one for name, one in values.items()
        }
        return cls(**kept)


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Squared distances of pairs, ascending, and the rows that they are of."""

    apart: np.ndarray
    first: np.ndarray
    second: np.ndarray
    rows: int

    @classmethod
    def of(cls, rows: np.ndarray, pairs: tuple[np.ndarray, np.ndarray]) -> _Pairs:
        apart = squared_distances(rows, rows)[pairs].astype(np.float64)
        order = np.argsort(apart)
        first, second = (one[order] for one in pairs)
        return cls(np.maximum(apart[order], _TINY), first, second, len(rows))

    def uppers(self, distances: np.ndarray) -> np.ndarray:
        """With 95 % confidence, at most this share of such pairs is within each distance.

        Pairs share rows, so that they say less than as many drawn one by one: how much less is
        found by leaving out each row (jackknife) where 30 pairs or more are within.
        """
        from scipy.special import gammaincinv

        total, shape = len(self.apart), (self.rows, len(distances) + 1)
        bins = np.searchsorted(distances, self.apart, side="left")
        counts = sum(
            np.bincount(one * shape[1] + bins, minlength=shape[0] * shape[1])
            for one in (self.first, self.second)
        )
        within = np.cumsum(np.reshape(counts, shape), axis=1)
        pairs_of_row, within = within[:, -1:], within[:, :-1]
        found = within.sum(axis=0) / 2
        without = (found - within) / np.maximum(total - pairs_of_row, 1)
        variance = (self.rows - 1) * without.var(axis=0)
        share = found / total
        alone = np.maximum(share * (1 - share) / total, 1 / total**2)
        known = found >= _COUNTED
        inflated = np.maximum(variance / alone, 1)
        inflated[~known] = inflated[np.argmax(known)]
        bound = gammaincinv(found / inflated + 1, _CONFIDENCE) * inflated / total
        return np.minimum(np.maximum.accumulate(bound), 1)


def _strangers(together: Moments | None) -> _Pairs | None:
    """All pairs of one moment and two cameras; None if they are too few."""
    if together is None:
        return None
    moments, cameras = together.moments, together.cameras
    first, second = np.triu_indices(len(together.embeddings), k=1)
    kept = (moments[first] == moments[second]) & (cameras[first] != cameras[second])
    if kept.sum() < _ENOUGH:
        return None
    return _Pairs.of(together.embeddings, (first[kept], second[kept]))


def _agree(apart: np.ndarray, line: np.ndarray) -> bool:
    """Whether pairs at one time are not far more often near than random ones."""
    rate = _COUNTED / _ENOUGH
    within = np.searchsorted(apart, np.exp(_distance_on(line, np.log(rate)))) / len(apart)
    return bool(within <= _SUSPECT * rate)


def _fitted(apart: np.ndarray, lowest: float, highest: float) -> np.ndarray:
    """Slope and intercept of the line, log F of log d, of distances in ascending order."""
    levels = np.geomspace(lowest, highest, _LEVELS)
    x, y = np.log(apart[(levels * len(apart)).astype(int)]), np.log(levels)
    slope = min(np.polyfit(x, y, 1)[0], _STEEPEST) if np.ptp(x) > _TINY else _STEEPEST
    return np.array([slope, (y - slope * x).mean()])


def _shows_few_vehicles(apart: np.ndarray, line: np.ndarray) -> bool:
    # Far more are near than the line continues with, or it is flat beside the one further away.
    near = np.arange(int(_LOWEST * len(apart)))
    above = (near + 1) / len(apart) - np.exp(np.polyval(line, np.log(apart[near])))
    beyond = _fitted(apart, _HIGHEST, _BEYOND)
    return bool(above.max() > _MOST_OF_ONE or line[0] < _FLATTEST * beyond[0])


def _distance_on(line: np.ndarray, log_rate: ArrayLike) -> np.ndarray:
    return (np.asarray(log_rate) - line[1]) / line[0]


def _knots(apart: np.ndarray, line: np.ndarray, lowest: float) -> tuple[np.ndarray, np.ndarray]:
    """Distances and rates, ascending: by the line up to the lowest fitted, then by the pairs."""

    def within(share: np.ndarray) -> np.ndarray:
        return apart[np.ceil(share * len(apart)).astype(int) - 1]

    rates = np.geomspace(1 / len(apart), lowest, _KNOTS)
    distances = np.maximum(np.exp(_distance_on(line, np.log(rates))), within(rates))
    # Towards 0 fewer and fewer pairs are found, whatever the line says.
    nearer = distances[0] * np.geomspace(1e-3, 1, _NEARER, endpoint=False)
    more = np.geomspace(lowest, 1, _KNOTS)[1:]
    distances = np.concatenate([nearer, distances, within(more)])
    rates = np.concatenate([np.full(_NEARER, rates[0]), rates, more])
    # Where both meet, and where pairs are equally far apart, the larger rate counts.
    distances = np.maximum.accumulate(distances)
    last = np.append(np.diff(distances) > 0, True)
    return distances[last], rates[last]


def _about(number: float) -> str:
    """A number of pairs to two digits, in words from a million on: 12,000 and 1.9 million."""
    if number >= 999_500:
        return f"{number / 1e6:.2g} million" if number < 9.95e6 else f"{number / 1e6:,.0f} million"
    return f"{float(f'{number:.2g}'):,.0f}"
