"""From labelled pairs to the distance below which two images count as one vehicle."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ..errors import DataError
from ..vehicle.cameras import same_camera
from .distances import check_embeddings, check_integers, squared_distances

_ROWS = 256


@dataclass(frozen=True, eq=False)
class Roc:
    """Receiver operating characteristic of "one vehicle if at most this distance apart".

    One point for each distinct distance of a same-vehicle pair, ascending: between two of them
    only false matches are added, so no other threshold is better than all of these.

    Attributes:
        distances: ``[P]``, the thresholds.
        false_match_rates: float64 ``[P]``, share of different-vehicle pairs at most so far apart.
        true_match_rates: float64 ``[P]``, share of same-vehicle pairs at most so far apart.
        positives, negatives: number of same-vehicle and of different-vehicle pairs.
    """

    distances: np.ndarray
    false_match_rates: np.ndarray
    true_match_rates: np.ndarray
    positives: int
    negatives: int

    @classmethod
    def of(cls, same: np.ndarray, different: Iterable[np.ndarray]) -> Roc:
        """From the distances of pairs of one vehicle, and of pairs of two, the latter in parts.

        DataError: there is no pair of one of the kinds.
        """
        thresholds, positives = np.unique(same, return_counts=True)
        false_matches, negatives = np.zeros(len(thresholds), np.int64), 0
        for part in different:
            false_matches += np.searchsorted(np.sort(part), thresholds, side="right")
            negatives += len(part)
        if not len(same) or not negatives:
            raise DataError(
                f"{len(same)} pairs of the same vehicle and {negatives} of different ones; "
                f"expected at least one of each"
            )
        rates = false_matches / negatives, np.cumsum(positives) / len(same)
        return cls(thresholds, *rates, len(same), negatives)


@dataclass(frozen=True)
class Threshold:
    """A distance to decide by: at most this far apart counts as one vehicle.

    Attributes:
        distance: the largest distance that still matches.
        false_match_rate, true_match_rate: the rates measured at it, 0..1.
        false_matches: different-vehicle pairs of the first rate; below about 30 it is a rough
            estimate.
    """

    distance: float
    false_match_rate: float
    true_match_rate: float
    false_matches: int


def roc_of_embeddings(embeddings: ArrayLike, ids: ArrayLike, cameras: ArrayLike) -> Roc:
    """The ROC of all pairs of images, by squared Euclidean distance.

    Args:
        embeddings: finite numbers ``[N, D]``.
        ids: vehicle ids, integers ``[N]``.
        cameras: integers ``[N]``, -1 if unknown; pairs of one vehicle under one known camera are
            left out, as in the evaluation: such pairs are near duplicates, and easy.

    Raises:
        DataError: wrong shapes or types, or values that are not finite; or as :meth:`Roc.of`.
    """
    embeddings = check_embeddings("embeddings", embeddings)
    ids = check_integers("ids", ids, len(embeddings), "embedding")
    cameras = check_integers("cameras", cameras, len(embeddings), "embedding")
    same = np.concatenate([*_of_one_vehicle(embeddings, ids, cameras)])
    return Roc.of(same, _of_two_vehicles(embeddings, ids))


def _of_one_vehicle(
    embeddings: np.ndarray, ids: np.ndarray, cameras: np.ndarray
) -> Iterator[np.ndarray]:
    for vehicle in np.unique(ids):
        images = np.flatnonzero(ids == vehicle)
        kept = ~same_camera(cameras[images, None], cameras[images])
        yield squared_distances(embeddings[images], embeddings[images])[np.triu(kept, k=1)]


def _of_two_vehicles(embeddings: np.ndarray, ids: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(ids), _ROWS):
        distances = squared_distances(embeddings[start : start + _ROWS], embeddings[start:])
        # Above the diagonal, so that each pair counts once.
        yield distances[np.triu(ids[start : start + _ROWS, None] != ids[start:], k=1)]


def threshold_at(roc: Roc, false_match_rate: float) -> Threshold:
    """The threshold with the most true matches at no more than the wanted false-match rate.

    Raises:
        DataError: there are too few different-vehicle pairs to measure the rate, or no
            same-vehicle pair would match at it.
        ValueError: the rate is not above 0 and at most 1.
    """
    if not 0 < false_match_rate <= 1:
        raise ValueError(
            f"false_match_rate is {false_match_rate!r}; expected a number above 0, at most 1"
        )
    if false_match_rate < 1 / roc.negatives:
        raise DataError(
            f"a false-match rate of {false_match_rate:g} cannot be measured on {roc.negatives} "
            f"pairs of different vehicles; give at least {np.ceil(1 / false_match_rate):.0f}, or "
            f"ask for 1/{roc.negatives} or more"
        )
    within = np.searchsorted(roc.false_match_rates, false_match_rate, side="right")
    if not within:
        raise DataError(
            f"no threshold has a false-match rate of {false_match_rate:g} and any true match: up "
            f"to the nearest pair of the same vehicle, at {roc.distances[0]:g}, the rate is "
            f"{roc.false_match_rates[0]:g} already; ask for that or more"
        )
    point = within - 1
    return Threshold(
        distance=float(roc.distances[point]),
        false_match_rate=float(roc.false_match_rates[point]),
        true_match_rate=float(roc.true_match_rates[point]),
        false_matches=round(roc.false_match_rates[point] * roc.negatives),
    )
