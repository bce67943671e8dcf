"""Ranking quality of a re-identification: CMC, mAP and mINP of a ranking."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
from numpy.typing import ArrayLike

from ..errors import DataError
from ..vehicle.cameras import same_camera
from .distances import (
    check_count,
    check_embedding_pair,
    check_integers,
    check_numbers,
    distance_blocks,
)


@dataclass(frozen=True, eq=False)
class Matches:
    """Where the matches of Q queries rank: P of them, by query, and nearest first.

    Attributes:
        vehicles: int64 ``[Q]``, the queries'; where a protocol draws the gallery, of all draws.
        queries, images: int64 ``[P]``, rows of queries and gallery.
        ranks: int64 ``[P]``, from 1, among all that is ranked for the query.
        most: how many of the nearest count for the average precision; None for all.
    """

    vehicles: np.ndarray
    queries: np.ndarray
    images: np.ndarray
    ranks: np.ndarray
    most: int | None = None

    @property
    def places(self) -> np.ndarray:
        """int64 ``[P]``: which of its query's matches each is, from 1."""
        return np.arange(1, len(self.queries) + 1) - np.searchsorted(self.queries, self.queries)

    def only(self, chosen: np.ndarray) -> Matches:
        """Some matches, bool ``[P]``, ranked among other vehicles' images: the rest is left out."""
        strangers = (self.ranks - self.places)[chosen]
        some = replace(self, queries=self.queries[chosen], images=self.images[chosen])
        return replace(some, ranks=strangers + some.places)

    @property
    def first_ranks(self) -> np.ndarray:
        """float64 ``[Q]``: the rank of each query's first match, NaN without one."""
        return self._of_queries(self.places == 1, self.ranks)

    @property
    def average_precisions(self) -> np.ndarray:
        """float64 ``[Q]``, the mean of the precision at each match; NaN without one."""
        count, within = len(self.vehicles), self.most or np.inf
        precisions = np.where(self.ranks <= within, self.places / self.ranks, 0)
        sums = np.bincount(self.queries, precisions, count)
        counts = np.minimum(np.bincount(self.queries, minlength=count), within)
        return np.divide(sums, counts, out=np.full(count, np.nan), where=counts > 0)

    @property
    def inverse_penalties(self) -> np.ndarray:
        """float64 ``[Q]``, the number of matches over the rank of the last; NaN without one."""
        last = np.diff(self.queries, append=-1) != 0
        return self._of_queries(last, self.places / self.ranks)

    def _of_queries(self, chosen: np.ndarray, values: np.ndarray) -> np.ndarray:
        found = np.full(len(self.vehicles), np.nan)
        found[self.queries[chosen]] = values[chosen]
        return found


@dataclass(frozen=True, eq=False)
class RankingResult:
    """How well a gallery was ranked.

    Attributes:
        cmc: float64 ``[max_rank]``: entry k - 1 is the share of valid queries with a match among
            their k nearest gallery images. It reaches 1 at the gallery's size and stays there.
        mAP: mean of the average precisions over valid queries.
        mINP: mean inverse negative penalty over valid queries.
        valid_queries: number of queries with at least one match.
        skipped_queries: int64, indices of the other queries; they count nowhere.
        average_precisions: float64 ``[Q]``, NaN for a skipped query.
        matches: where they rank; all of the above is made of it.
        draws: the results that this one is the mean of, where a protocol draws the gallery.
    """

    cmc: np.ndarray
    mAP: float  # noqa: N815 (the field's own spelling)
    mINP: float  # noqa: N815
    valid_queries: int
    skipped_queries: np.ndarray
    average_precisions: np.ndarray
    matches: Matches
    draws: tuple[RankingResult, ...] = ()

    def rank(self, k: int) -> float:
        """Rank-k accuracy, 0..1; ValueError unless k is from 1 to ``max_rank``."""
        if not 1 <= k <= len(self.cmc):
            raise ValueError(f"k is {k!r}; expected 1 to {len(self.cmc)}, the max_rank evaluated")
        return float(self.cmc[k - 1])


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
    VeRi, ECCV 2016). Camera -1 is unknown: it equals no camera, so nothing is left out for it.
    The rest is ranked by distance, equal distances in gallery order. A query's matches are the
    images of its vehicle; average precision is the mean of the precision at each match, and the
    inverse negative penalty is the number of matches over the rank of the last one (Ye et al.,
    "Deep Learning for Person Re-identification", TPAMI 2021).

    Args:
        distances: real numbers ``[Q, G]``, smaller is nearer; infinity is allowed, NaN is not.
        query_ids, query_cameras: integers ``[Q]``.
        gallery_ids, gallery_cameras: integers ``[G]``.
        max_rank: length of the CMC; may exceed the gallery.
        own_camera: leave nothing out.
        most: only so many of the nearest count for the average precision: the precisions at the
            matches among them, over the number of matches or ``most``, whichever is less.

    Raises:
        DataError: wrong shapes or types, empty or NaN, or no query has a match.
        ValueError: ``max_rank`` is no integer of at least 1.
    """
    distances = check_numbers("distances", distances)
    # The smallest of numbers is NaN if one is, at no cost in memory.
    if np.isnan(distances.min()):
        place = np.argwhere(np.isnan(distances))[0].tolist()
        raise DataError(f"distances has NaN at {place}; expected numbers")
    queries = _Labels.checked("query", query_ids, query_cameras, distances.shape[0])
    gallery = _Labels.checked("gallery", gallery_ids, gallery_cameras, distances.shape[1])
    count = check_count("max_rank", max_rank)
    return _evaluate(distances, queries, gallery, count, own_camera, most)


def evaluate_embeddings(
    query_embeddings: ArrayLike,
    gallery_embeddings: ArrayLike,
    query_ids: ArrayLike,
    gallery_ids: ArrayLike,
    query_cameras: ArrayLike,
    gallery_cameras: ArrayLike,
    max_rank: int = 50,
    *,
    own_camera: bool = False,
    most: int | None = None,
) -> RankingResult:
    """Evaluate embeddings, finite numbers ``[Q, D]`` and ``[G, D]``, by squared Euclidean distance.

    Otherwise as :func:`evaluate_ranking`. Never holds more than a block of the distances.
    """
    query_embeddings, gallery_embeddings = check_embedding_pair(
        "query_embeddings", query_embeddings, "gallery_embeddings", gallery_embeddings
    )
    queries = _Labels.checked("query", query_ids, query_cameras, len(query_embeddings))
    gallery = _Labels.checked("gallery", gallery_ids, gallery_cameras, len(gallery_embeddings))
    blocks = distance_blocks(query_embeddings, gallery_embeddings)
    rows = chain.from_iterable(blocks)
    count = check_count("max_rank", max_rank)
    return _evaluate(rows, queries, gallery, count, own_camera, most)


@dataclass(frozen=True, eq=False)
class _Labels:
    ids: np.ndarray
    cameras: np.ndarray

    @classmethod
    def checked(cls, side: str, ids: ArrayLike, cameras: ArrayLike, count: int) -> _Labels:
        return cls(
            check_integers(f"{side}_ids", ids, count, f"{side} image"),
            check_integers(f"{side}_cameras", cameras, count, f"{side} image"),
        )


def _evaluate(
    rows: Iterable[np.ndarray],
    queries: _Labels,
    gallery: _Labels,
    max_rank: int,
    own_camera: bool,
    most: int | None,
) -> RankingResult:
    images, ranks, counts = [], [], []
    labels = zip(queries.ids, queries.cameras, strict=True)
    for distances, (vehicle, camera) in zip(rows, labels, strict=True):
        same_vehicle = gallery.ids == vehicle
        left_out = same_vehicle & same_camera(gallery.cameras, camera) & (not own_camera)
        kept = np.flatnonzero(~left_out)
        found = np.flatnonzero(same_vehicle[kept])
        order, places = _ranked(distances[kept], found)
        images.append(kept[found[order]])
        ranks.append(places)
        counts.append(len(found))
    valid = np.array(counts) > 0
    if not valid.any():
        raise DataError(
            f"none of the {len(valid)} queries has a gallery image of its vehicle from another "
            f"camera; check the ids and cameras of query and gallery"
        )
    matches = Matches(
        queries.ids,
        np.repeat(np.arange(len(valid)), counts),
        np.concatenate(images),
        np.concatenate(ranks),
        most,
    )
    precisions = matches.average_precisions
    return RankingResult(
        cmc=np.mean(matches.first_ranks[valid, None] <= np.arange(1, max_rank + 1), axis=0),
        mAP=float(precisions[valid].mean()),
        mINP=float(matches.inverse_penalties[valid].mean()),
        valid_queries=int(valid.sum()),
        skipped_queries=np.flatnonzero(~valid),
        average_precisions=precisions,
        matches=matches,
    )


def _ranked(distances: np.ndarray, matches: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The order of the entries at ``matches``, nearest first, and their ranks among all, from 1."""
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
