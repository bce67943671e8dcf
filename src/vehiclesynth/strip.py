"""Where things lie on the strip that runs from the front bumper over the roof to the rear."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .body import Shells


class Strip:
    """Positions on the strip: shares of the half width, and shares between two corners."""

    def __init__(self, shells: Shells) -> None:
        self.shells = shells
        self.half = shells.body.width / 2

    def y(self, share: float) -> float:
        return share * self.half

    def way(self, first: int, last: int, share: float) -> float:
        start, end = self.shells.shell.way(first), self.shells.shell.way(last)
        return start + share * (end - start)

    def patch(
        self, y: tuple[float, float], marks: tuple[int, int], s: tuple[float, float]
    ) -> np.ndarray:
        """A rectangle ``[4, 2]``: shares across, and along between two corners."""
        low, high = (self.way(*marks, share) for share in s)
        left, right = (self.y(share) for share in y)
        return np.array([(left, low), (right, low), (right, high), (left, high)])


class Corner:
    """Where a lamp's outline lies at one end of the strip.

    Across it 0 is the lamp's inner end and 1 the vehicle's corner; along it 0 is the first of the
    two ways and 1 the other.

    Args:
        strip: the strip.
        side: 1 on the vehicle's left, -1 on its right.
        wide: the lamp's share of the half width.
        way: where the lamp begins and ends.
    """

    def __init__(self, strip: Strip, side: int, wide: float, way: tuple[float, float]) -> None:
        self._inner, self._outer = strip.y(side * (1 - wide)), strip.y(side)
        self._first, self._last = way

    def points(self, shares: np.ndarray | Sequence[Sequence[float]]) -> np.ndarray:
        """Points ``[K, 2]`` of the strip from shares ``[K, 2]`` across and along."""
        low, high = (self._inner, self._first), (self._outer, self._last)
        placed: np.ndarray = np.asarray(shares) * np.subtract(high, low) + low
        return placed

    def spot(self, across: float, along: float) -> tuple[float, float]:
        x, s = self.points([(across, along)])[0].tolist()
        return x, s
