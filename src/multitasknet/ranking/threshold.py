"""From labelled pairs to the distance below which two images count as one vehicle."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ..errors import DataError
from ..vehicle.cameras import UNKNOWN_CAMERA, same_camera
from .distances import (
    check_distances,
    check_embeddings,
    check_integers,
    squared_distances,
)

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


def roc_of_pairs(distances: ArrayLike, same_vehicle: ArrayLike) -> Roc:
    """The ROC of pairs: their distances, real numbers ``[N]``, and booleans ``[N]``.

    Raises:
        DataError: wrong shapes or types, empty, or NaN; or no pair of the same vehicle, or none of
            different ones.
    """
    distances = check_distances(distances, dimensions=1)
    same = np.asarray(same_vehicle)
    if same.shape != distances.shape or same.dtype != bool:
        raise DataError(
            f"same_vehicle is {same.dtype} {list(same.shape)}; expected bool "
            f"{list(distances.shape)}, one for each distance"
        )
    thresholds, positives = np.unique(distances[same], return_counts=True)
    false_matches = _count_within(distances[~same], thresholds)
    return _roc(thresholds, positives, false_matches, np.count_nonzero(~same))


def roc_of_embeddings(
    embeddings: ArrayLike, ids: ArrayLike, cameras: ArrayLike | None = None
) -> Roc:
    """The ROC of all pairs of images, by squared Euclidean distance.

    Args:
        embeddings: finite numbers ``[N, D]``.
        ids: vehicle ids, integers ``[N]``.
        cameras: integers ``[N]``, -1 if unknown; pairs of one vehicle under one known camera are
            left out then, as in the evaluation: such pairs are near duplicates, and easy.

    Raises:
        DataError: wrong shapes or types, or values that are not finite; or no pair of the same
            vehicle, or none of different ones.
    """
    embeddings = check_embeddings("embeddings", embeddings)
    ids = check_integers("ids", ids, len(embeddings), "embedding")
    if cameras is None:
        cameras = np.full(len(ids), UNKNOWN_CAMERA)
    cameras = check_integers("cameras", cameras, len(embeddings), "embedding")
    matching = _positive_distances(embeddings, ids, cameras)
    thresholds, positives = np.unique(matching, return_counts=True)
    false_matches = np.zeros(len(thresholds), dtype=np.int64)
    negatives = 0
    for start in range(0, len(ids), _ROWS):
        block = squared_distances(embeddings[start : start + _ROWS], embeddings[start:])
        # Above the diagonal, so that each pair counts once.
        apart = np.triu(ids[start : start + _ROWS, None] != ids[start:], k=1)
        false_matches += _count_within(block[apart], thresholds)
        negatives += np.count_nonzero(apart)
    return _roc(thresholds, positives, false_matches, negatives)


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


def _positive_distances(embeddings: np.ndarray, ids: np.ndarray, cameras: np.ndarray) -> np.ndarray:
    parts = [np.empty(0, dtype=np.float32)]
    for vehicle in np.unique(ids):
        images = np.flatnonzero(ids == vehicle)
        first, second = np.triu_indices(len(images), k=1)
        kept = ~same_camera(cameras[images[first]], cameras[images[second]])
        within = squared_distances(embeddings[images], embeddings[images])
        parts.append(within[first[kept], second[kept]])
    return np.concatenate(parts)


def _count_within(distances: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """How many ``distances`` are at most each threshold."""
    return np.searchsorted(np.sort(distances), thresholds, side="right")


def _roc(
    thresholds: np.ndarray, positives: np.ndarray, false_matches: np.ndarray, negatives: int
) -> Roc:
    if not len(thresholds) or not negatives:
        raise DataError(
            f"{positives.sum()} pairs of the same vehicle and {negatives} of different ones; "
            f"expected at least one of each"
        )
    return Roc(
        distances=thresholds,
        false_match_rates=false_matches / negatives,
        true_match_rates=np.cumsum(positives) / positives.sum(),
        positives=int(positives.sum()),
        negatives=int(negatives),
    )
