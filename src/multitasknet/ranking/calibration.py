"""From a distance to the probability that two images show one vehicle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..errors import DataError
from ..files import reading
from ..weights.sidecar import Sidecar, read_sidecar, sidecar_path, write_sidecar
from .threshold import Roc

EVEN = 0.5
# More is never stated: pairs that nobody labelled may differ from those that were measured.
MOST = 0.99
# Of a pair: how many are taken to be in a stretch of distances in which none was seen.
_UNSEEN = 0.5
# Just above 0, where the probability falls if all pairs of one vehicle are equal.
_LEAST = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class Calibration:
    """How likely pairs at a distance are one vehicle, as measured for weights at one input size.

    The probability between two of the distances is theirs, interpolated; outside them that of the
    nearest, and never more than 0.99.

    Attributes:
        distances: squared Euclidean, ascending.
        probabilities: that a pair so far apart is of one vehicle, 0..1, none above the one before.
        prior: the share of pairs of one vehicle that this supposes among those that are compared.
        positives, negatives: pairs of one vehicle and of different ones that it was measured on.
        input_size: height and width that images were brought to.
        measured_on: the data set that the pairs are from, such as its folder's name.
    """

    distances: tuple[float, ...]
    probabilities: tuple[float, ...]
    prior: float
    positives: int
    negatives: int
    input_size: tuple[int, int]
    measured_on: str

    def __post_init__(self) -> None:
        values = np.array([self.distances, self.probabilities], dtype=np.float64)
        steps = np.diff(values)
        in_range = values.size and (values >= 0).all() and (values <= [[np.inf], [1]]).all()
        if not in_range or (steps[0] <= 0).any() or (steps[1] > 0).any():
            raise ValueError(
                "distances must ascend from 0 on, and as many probabilities must not, from 1 on"
            )
        if not 0 < self.prior < 1:
            raise ValueError(f"prior is {self.prior}; expected a number between 0 and 1")
        if not self.measured_on.strip():
            raise ValueError("measured_on is empty; name the data set that the pairs are from")

    @classmethod
    def of(
        cls,
        roc: Roc,
        input_size: tuple[int, int],
        *,
        measured_on: str,
        prior: float = EVEN,
    ) -> Calibration:
        """By isotonic regression, of which each step is a likelihood ratio times the prior's odds.

        Where no pair of a kind was seen, half of one is supposed, so that nothing is certain.
        """
        from scipy.optimize import isotonic_regression

        same = np.diff(roc.true_match_rates, prepend=0)
        other = np.diff(roc.false_match_rates, prepend=0)
        levels = isotonic_regression(
            same / (same + other), weights=same + other, increasing=False
        ).x
        steps = np.flatnonzero(np.diff(levels.round(12), prepend=-1, append=-1))
        # Beyond the last pair of one vehicle there are pairs of different ones alone.
        shares = [
            np.append(np.add.reduceat(one, steps[:-1]), 1 - seen)
            for one, seen in ((same, 1), (other, roc.false_match_rates[-1]))
        ]
        unseen = _UNSEEN / roc.positives, _UNSEEN / roc.negatives
        odds = np.divide(*map(np.maximum, shares, unseen)) * prior / (1 - prior)
        probabilities = np.minimum.accumulate(odds / (1 + odds))
        ends = np.array([0.0, *roc.distances[steps[1:] - 1]])
        places = np.append((ends[:-1] + ends[1:]) / 2, max(ends[-1], _LEAST))
        kept = np.flatnonzero(np.diff(places, prepend=-1) > 0)
        return cls(
            tuple(places[kept].tolist()),
            tuple(probabilities[kept].tolist()),
            prior,
            roc.positives,
            roc.negatives,
            input_size,
            measured_on,
        )

    def probability(self, distances: ArrayLike) -> np.ndarray:
        """Of each squared Euclidean distance, float64 of the same shape."""
        found = np.interp(np.asarray(distances, np.float64), self.distances, self.probabilities)
        return np.minimum(found, MOST)

    def words(self, distance: float) -> str:
        """What people are shown at a distance: a probability, and what it was measured on."""
        return (
            f"same vehicle {100 * float(self.probability(distance)):.0f} % "
            f"(measured on {self.measured_on}, {self.positives:,} pairs of one vehicle, "
            f"{self.negatives:,} of two)"
        )

    @classmethod
    def from_json(cls, values: Mapping[str, Any] | None) -> Calibration | None:
        """What :func:`dataclasses.asdict` made of it; any exception for something else.

        None for None, and for one that does not state what it was measured on.
        """
        if values is None or "measured_on" not in values:
            return None
        height, width = map(int, values["input_size"])
        return cls(
            tuple(map(float, values["distances"])),
            tuple(map(float, values["probabilities"])),
            float(values["prior"]),
            int(values["positives"]),
            int(values["negatives"]),
            (height, width),
            str(values["measured_on"]),
        )


def read_calibration(checkpoint: Path, spec: Any) -> Calibration | None:
    """The calibration in the sidecar of a checkpoint of that ``spec``; None if it has none.

    Raises:
        CheckpointError: as :func:`read_sidecar` raises it.
        DataError: it is damaged.
    """
    sidecar = read_sidecar(checkpoint, spec)
    if sidecar is None:
        return None
    remedy = "measure it again with 'multitasknet calibrate'"
    with reading(sidecar_path(checkpoint), DataError, "calibration is damaged", remedy):
        return Calibration.from_json(sidecar.calibration)


def save_calibration(checkpoint: Path, spec: Any, calibration: Calibration) -> Path:
    """Write it into the sidecar of a checkpoint, made if missing; CheckpointError."""
    sidecar = read_sidecar(checkpoint, spec) or Sidecar(spec, spec.class_maps)
    return write_sidecar(checkpoint, replace(sidecar, calibration=asdict(calibration)))
