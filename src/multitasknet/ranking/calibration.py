"""From a distance to the probability that a row of a gallery shows the query's vehicle.

A distance alone does not say it: queries that many vehicles resemble have near strangers. So it is
taken relative to the query's own surroundings, ``rho = log d - log q5``, where q5 is the distance
within which a twentieth of the gallery's rows lie. A logistic regression on rho and its square,
over the 24 nearest rows of labelled queries, has the odds of one vehicle among all rows as its
offset, so that it also holds in a gallery of another size. A hit weighs 1 / rank: else the first
ones, at which people look, would be understated for the many that follow.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..errors import DataError
from ..files import reading
from ..weights.sidecar import Sidecar, read_sidecar, sidecar_path, write_sidecar
from .distances import check_embedding_pair, distance_blocks, nearest
from .metrics import Labels

# More is never stated: hits that nobody labelled may differ from those that were measured.
MOST = 0.99
# Nearest rows of each query that it is measured on.
TOP = 24
# Share of the gallery's rows that are a query's surroundings: of fewer, its own vehicle's count.
LEVEL = 0.05
_STEPS, _RIDGE = 50, 1e-3
_TINY = 1e-9


@dataclass(frozen=True)
class Calibration:
    """How likely hits show the query's vehicle, as measured with weights on labelled data."""

    coefficients: tuple[float, float, float]  # of 1, rho and its square
    vehicle_rows: float  # that a gallery has of one vehicle, of the queries' on average
    hits: int
    vehicles: int
    measured_on: str  # the data set, such as its folder's name
    weights: str  # sha256 of their file
    input_size: tuple[int, int]  # height and width that images were brought to
    pose: str  # where poses were from, as :attr:`multitasknet.Predictor.pose_setting`
    precision: str  # that the network ran in
    level: float = LEVEL  # of the surroundings

    def __post_init__(self) -> None:
        if len(self.coefficients) != 3 or not np.isfinite(self.coefficients).all():
            raise ValueError(f"coefficients are {self.coefficients}; expected three numbers")
        if not 0 < self.vehicle_rows < np.inf:
            raise ValueError(f"vehicle_rows is {self.vehicle_rows}; expected a number above 0")
        _ = self.origin  # that what it states can be said

    def probability(self, distances: ArrayLike, scale: float, rows: int) -> np.ndarray:
        """Of rows of a gallery at these squared distances from one query, float64 ``[N]``.

        ``scale`` is the query's in that gallery, see :func:`surroundings`; ``rows`` the gallery's.
        """
        base, slope, bend = self.coefficients
        rho = _relative(distances, scale)
        # On the far side of the parabola's vertex it would turn.
        if bend:
            vertex = -slope / (2 * bend)
            rho = np.minimum(rho, vertex) if bend > 0 else np.maximum(rho, vertex)
        return np.minimum(
            _logistic(base + slope * rho + bend * rho**2 + _odds(self.vehicle_rows, rows)), MOST
        )

    @property
    def origin(self) -> str:
        """What it was measured on, and with what, in words."""
        height, width = self.input_size
        return (
            f"measured on {self.measured_on}, {self.hits:,} hits of {self.vehicles:,} vehicles; "
            f"weights {self.weights[:12] or 'random'}, {height} x {width}, poses {self.pose}, "
            f"{self.precision}; {self.vehicle_rows:.3g} rows of one vehicle"
        )

    @classmethod
    def from_json(cls, values: Mapping[str, Any] | None) -> Calibration | None:
        """What :func:`dataclasses.asdict` made of it; any exception for something else.

        None for None, and for one of an older version.
        """
        if values is None or values.get("level") != LEVEL:
            return None
        pairs = {name: tuple(values[name]) for name in ("coefficients", "input_size")}
        return cls(**{**values, **pairs})


@dataclass(frozen=True, eq=False)
class LabelledHits:
    """The nearest rows of labelled queries."""

    rho: np.ndarray  # of each hit, ``[N]``
    same: np.ndarray  # whether it shows the query's vehicle, ``[N]``
    rank: np.ndarray  # of it, from 0, ``[N]``
    vehicle_rows: float  # rows of a query's vehicle in the gallery, on average
    rows: int  # of the gallery
    vehicles: int  # that the queries show

    @classmethod
    def of(cls, query: ArrayLike, gallery: ArrayLike, labels: Labels) -> LabelledHits:
        """The 24 nearest rows of each query that its labels let it rank.

        Queries whose vehicle is not in the gallery count too: their hits are wrong. Embeddings are
        finite numbers ``[Q, D]`` and ``[G, D]``, else DataError.
        """
        query, gallery = check_embedding_pair("query", query, "gallery", gallery)
        found: list[tuple[np.ndarray, ...]] = []
        together = 0
        for number, distances in enumerate(chain.from_iterable(distance_blocks(query, gallery))):
            same, kept = labels.shows(number), np.flatnonzero(labels.ranked(number))
            hits = kept[nearest(distances[kept], TOP)]
            scale = surroundings(distances[None])[0]
            found.append((_relative(distances[hits], scale), same[hits], np.arange(len(hits))))
            together += int(same.sum())
        rho, same, rank = map(np.concatenate, zip(*found, strict=True))
        vehicles = len(np.unique(labels.query_ids))
        return cls(rho, same, rank, together / len(query), len(gallery), vehicles)

    def coefficients(self) -> tuple[float, float, float]:
        """Of the weighted logistic regression, by Newton's method.

        DataError: all hits are right, or all are wrong.
        """
        if self.same.all() or not self.same.any():
            raise DataError(
                f"of {len(self.same)} hits {self.same.sum()} show the query's vehicle; a "
                f"calibration takes right and wrong ones: give more vehicles, and several images "
                f"of each"
            )
        inputs = np.stack([np.ones_like(self.rho), self.rho, self.rho**2], axis=1)
        offset, weights = _odds(self.vehicle_rows, self.rows), 1 / (1 + self.rank)
        found = np.zeros(3)
        for _ in range(_STEPS):
            stated = _logistic(inputs @ found + offset)
            slope = inputs.T @ (weights * (self.same - stated)) - _RIDGE * found
            bend = (inputs.T * (weights * stated * (1 - stated))) @ inputs + _RIDGE * np.eye(3)
            step = np.linalg.solve(bend, slope)
            found += step / max(1.0, float(np.abs(step).max()) / 5)
            if np.abs(step).max() < 1e-9:
                break
        base, first, second = found.tolist()
        return base, first, second


def surroundings(distances: np.ndarray) -> np.ndarray:
    """Each query's scale: a twentieth of its squared distances ``[Q, N]`` to rows is smaller."""
    return np.quantile(distances, LEVEL, axis=1)


def _relative(distances: ArrayLike, scale: float) -> np.ndarray:
    far = np.maximum(np.asarray(distances, np.float64), _TINY)
    return np.log(far) - np.log(max(scale, _TINY))


def _odds(vehicle_rows: float, rows: int) -> float:
    """Logarithm of a row's odds to be of the query's vehicle, before its distance is known."""
    share = min(vehicle_rows / rows, 0.9)
    return float(np.log(share / (1 - share)))


def _logistic(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(values, -500, 500)))


def read_calibration(checkpoint: Path, spec: Any) -> Calibration | None:
    """The calibration in a checkpoint's sidecar; None without one. CheckpointError, DataError."""
    sidecar = read_sidecar(checkpoint, spec)
    remedy = "measure it again with 'multitasknet calibrate'"
    with reading(sidecar_path(checkpoint), DataError, "calibration is damaged", remedy):
        return Calibration.from_json(sidecar.calibration if sidecar else None)


def save_calibration(checkpoint: Path, spec: Any, calibration: Calibration) -> Path:
    """Write it into the sidecar of a checkpoint, made if missing; CheckpointError."""
    sidecar = read_sidecar(checkpoint, spec) or Sidecar(spec, spec.class_maps)
    return write_sidecar(checkpoint, replace(sidecar, calibration=asdict(calibration)))
