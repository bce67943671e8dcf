"""Ranking quality of a re-identification: CMC, mAP and mINP."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from ..errors import DataError
from ..vehicle.cameras import same_camera
from .distances import check_count, check_integers, check_numbers


@dataclass(frozen=True, eq=False)
class Labels:
    """Vehicles and cameras, integers, of Q queries and G gallery images."""

    query_ids: np.ndarray
    gallery_ids: np.ndarray
    query_cameras: np.ndarray  # -1 is unknown, and equals no camera
    gallery_cameras: np.ndarray
    own_camera: bool = False  # whether gallery images of the query's vehicle and camera count

    def ranked(self, query: int) -> np.ndarray:
        """Which rows of the gallery are ranked for a query: bool ``[G]``."""
        own = same_camera(self.gallery_cameras, self.query_cameras[query])
        return ~own | ~self.shows(query) | self.own_camera

    def shows(self, query: int) -> np.ndarray:
        """Which rows of the gallery show the query's vehicle: bool ``[G]``."""
        same: np.ndarray = self.gallery_ids == self.query_ids[query]
        return same

    def check_matches(self) -> None:
        """DataError unless a query has a match."""
        queries = range(len(self.query_ids))
        if not any((self.ranked(one) & self.shows(one)).any() for one in queries):
            other = "" if self.own_camera else " from another camera"
            raise DataError(
                f"none of the {len(queries)} queries has a gallery image of its vehicle{other}; "
                f"check the ids and cameras of query and gallery"
            )


@dataclass(frozen=True, eq=False)
class RankingResult:
    """Where the matches of Q queries rank, P of them, by query and nearest first.

    Queries without a match count in no mean.
    """

    vehicles: np.ndarray  # int64 ``[Q]``, the queries'; of all draws, one after the other
    queries: np.ndarray  # int64 ``[P]``, rows of queries
    images: np.ndarray  # int64 ``[P]``, rows of the gallery
    ranks: np.ndarray  # int64 ``[P]``, from 1, among all that is ranked for the query
    max_rank: int = 50  # length of the CMC
    most: int | None = None  # how many of the nearest count for the average precision; None for all
    draws: int = 1  # how often a protocol drew the gallery

    @cached_property
    def first_ranks(self) -> np.ndarray:
        """float64 ``[Q]``: the rank of each query's first match, NaN without one."""
        return self._of_queries(self._places == 1, self.ranks)

    @cached_property
    def average_precisions(self) -> np.ndarray:
        """float64 ``[Q]``, the mean of the precision at each match; NaN without one."""
        count, within = len(self.vehicles), self.most or np.inf
        precisions = np.where(self.ranks <= within, self._places / self.ranks, 0)
        sums = np.bincount(self.queries, precisions, count)
        counts = np.minimum(np.bincount(self.queries, minlength=count), within)
        return np.divide(sums, counts, out=np.full(count, np.nan), where=counts > 0)

    @cached_property
    def inverse_penalties(self) -> np.ndarray:
        """float64 ``[Q]``, the number of matches over the rank of the last; NaN without one."""
        last = np.diff(self.queries, append=-1) != 0
        return self._of_queries(last, self._places / self.ranks)

    @cached_property
    def cmc(self) -> np.ndarray:
        """float64 ``[max_rank]``: the share of queries with a match among their nearest 1, 2, ...,
        ``max_rank`` gallery images."""
        first = self.first_ranks[self._valid, None]
        shares: np.ndarray = np.mean(first <= np.arange(1, self.max_rank + 1), axis=0)
        return shares

    @property
    def mAP(self) -> float:  # noqa: N802 (the field's own spelling)
        """Mean of the average precisions."""
        return float(self.average_precisions[self._valid].mean())

    @property
    def mINP(self) -> float:  # noqa: N802
        """Mean inverse negative penalty."""
        return float(self.inverse_penalties[self._valid].mean())

    @property
    def valid_queries(self) -> int:
        """Number of queries with at least one match, of one draw."""
        return int(self._valid.sum()) // self.draws

    @property
    def skipped_queries(self) -> np.ndarray:
        """int64, indices of the other queries."""
        return np.flatnonzero(~self._valid)

    def rank(self, k: int) -> float:
        """Rank-k accuracy, 0..1; ValueError unless k is from 1 to ``max_rank``."""
        if not 1 <= k <= self.max_rank:
            raise ValueError(f"k is {k!r}; expected 1 to {self.max_rank}, the max_rank evaluated")
        return float(self.cmc[k - 1])

    def only(self, chosen: np.ndarray) -> RankingResult:
        """Some matches, bool ``[P]``, ranked among other vehicles' images: the rest is left out."""
        strangers = (self.ranks - self._places)[chosen]
        some = replace(self, queries=self.queries[chosen], images=self.images[chosen])
        return replace(some, ranks=strangers + some._places)

    @property
    def _places(self) -> np.ndarray:
        """int64 ``[P]``: which of its query's matches each is, from 1."""
        return np.arange(1, len(self.queries) + 1) - np.searchsorted(self.queries, self.queries)

    @property
    def _valid(self) -> np.ndarray:
        return ~np.isnan(self.first_ranks)

    def _of_queries(self, chosen: np.ndarray, values: np.ndarray) -> np.ndarray:
        found = np.full(len(self.vehicles), np.nan)
        found[self.queries[chosen]] = values[chosen]
        return found


def evaluate_ranking(
    distances: ArrayLike,
    query_ids: ArrayLike,
    gallery_ids: ArrayLike,
    query_cameras: ArrayLike,
    gallery_cameras: ArrayLike,
    max_rank: int = 50,
    *,
    own_camera: bool = False,
    most: int | None = None,
) -> RankingResult:
    """Evaluate a matrix of distances.

    For each query, gallery images of the same vehicle and the same camera are left out (Liu et al.,
    VeRi, ECCV 2016); camera -1 is unknown and equals none. The rest is ranked by distance, equal
    distances in gallery order. A query's matches are the images of its vehicle; average precision
    is the mean of the precision at each match, and the inverse negative penalty is the number of
    matches over the rank of the last one (Ye et al., "Deep Learning for Person Re-identification",
    TPAMI 2021).

    Args:
        distances: real numbers ``[Q, G]``, smaller is nearer; infinity is allowed, NaN is not.
        query_ids, query_cameras: integers ``[Q]``.
        gallery_ids, gallery_cameras: integers ``[G]``.
        max_rank: length of the CMC; may exceed the gallery.
        own_camera: leave nothing out.
        most: only so many of the nearest count for the average precision: the precisions at the
            matches among them, over the number of matches or ``most``, whichever is less.

    DataError for wrong shapes or types, empty or NaN, or if no query has a match; ValueError for a
    ``max_rank`` below 1.
    """
    distances = check_numbers("distances", distances)
    # The smallest of numbers is NaN if one is, at no cost in memory.
    if np.isnan(distances.min()):
        place = np.argwhere(np.isnan(distances))[0].tolist()
        raise DataError(f"distances has NaN at {place}; expected numbers")
    queries, images = distances.shape
    labels = Labels(
        check_integers("query_ids", query_ids, queries, "query image"),
        check_integers("gallery_ids", gallery_ids, images, "gallery image"),
        check_integers("query_cameras", query_cameras, queries, "query image"),
        check_integers("gallery_cameras", gallery_cameras, images, "gallery image"),
        own_camera,
    )
    return rank_rows(distances, labels, max_rank, most=most)


def rank_rows(
    rows: Iterable[np.ndarray], labels: Labels, max_rank: int = 50, *, most: int | None = None
) -> RankingResult:
    """As :func:`evaluate_ranking`, of distances ``[G]`` that come query by query."""
    count = check_count("max_rank", max_rank)
    labels.check_matches()
    images, ranks = [], []
    for query, distances in enumerate(rows):
        kept = np.flatnonzero(labels.ranked(query))
        found = np.flatnonzero(labels.shows(query)[kept])
        order, places = _ranked(distances[kept], found)
        images.append(kept[found[order]])
        ranks.append(places)
    queries = np.repeat(np.arange(len(ranks)), [len(one) for one in ranks])
    found, places = np.concatenate(images), np.concatenate(ranks)
    return RankingResult(labels.query_ids, queries, found, places, count, most)


def _ranked(distances: np.ndarray, matches: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The order of the entries at ``matches``, nearest first, and their ranks among all."""
    order = np.argsort(distances[matches], kind="stable")
    ordered, wanted = np.sort(distances), distances[matches[order]]
    before = np.searchsorted(ordered, wanted, side="left")
    through = np.searchsorted(ordered, wanted, side="right")
    if (through - before == 1).all():
        return order, before + 1
    # Only a stable argsort knows the order among ties; it takes several times as long.
    is_match = np.zeros(len(distances), dtype=bool)
    is_match[matches] = True
    return order, np.flatnonzero(is_match[np.argsort(distances, kind="stable")]) + 1
