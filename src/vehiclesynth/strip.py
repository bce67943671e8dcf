"""Where things lie on the strip that runs from the front bumper over the roof to the rear."""

from __future__ import annotations

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
