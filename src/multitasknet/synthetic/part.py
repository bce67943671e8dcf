"""Convex pieces of a vehicle and the faces painted on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .shell import box, mirrored
from .vehicle import RGB

BLACK: RGB = (0.025, 0.025, 0.03)
RUBBER: RGB = (0.09, 0.09, 0.095)
PLASTIC: RGB = (0.10, 0.10, 0.11)
SEAM: RGB = (0.04, 0.04, 0.05)
CHROME: RGB = (0.78, 0.79, 0.80)
PAINT_GLOSS = 0.42


@dataclass(frozen=True, eq=False)
class Part:
    """A convex piece of a vehicle.

    Attributes:
        quads: float64 ``[F, 4, 3]``, in painting order.
        normals: ``[F, 3]``, outward.
        colors: ``[F, 3]``, R, G, B in 0..1.
        gloss: ``[F]``, the share of mirrored light at right angles.
        low, high: ``[3]``, the bounding box.
        planes: ``[P, 4]`` outward normal and offset of each face of the solid.
    """

    quads: np.ndarray
    normals: np.ndarray
    colors: np.ndarray
    gloss: np.ndarray
    low: np.ndarray
    high: np.ndarray
    planes: np.ndarray


class PartBuilder:
    """Collects the faces of one part in painting order."""

    def __init__(self, skin: np.ndarray) -> None:
        self._center = skin.reshape(-1, 3).mean(axis=0)
        self._skin = skin
        self._quads: list[np.ndarray] = []
        self._looks: list[np.ndarray] = []  # [F, 8]: middle, 1 or -1 for inward, colour, gloss

    def add(
        self,
        quads: np.ndarray,
        color: Sequence[float] | np.ndarray,
        gloss: float = 0.05,
        *,
        around: np.ndarray | None = None,
        inward: bool = False,
    ) -> None:
        """Add faces that look away from ``around`` (default: the part's middle), or towards it."""
        looks = np.empty((len(quads), 8))
        looks[:, :3] = self._center if around is None else around
        looks[:, 3] = -1 if inward else 1
        looks[:, 4:7] = color
        looks[:, 7] = gloss
        self._quads.append(quads)
        self._looks.append(looks)

    def add_both(
        self, quads: np.ndarray, color: Sequence[float] | np.ndarray, gloss: float = 0.05
    ) -> None:
        """Add faces of the left side, and their mirror images on the right."""
        self.add(quads, color, gloss)
        self.add(mirrored(quads), color, gloss)

    def build(self) -> Part:
        quads, looks = np.concatenate(self._quads), np.concatenate(self._looks)
        normals = looks[:, 3:4] * _outward_normals(quads, looks[:, :3])
        solid = _outward_normals(self._skin, self._center)
        offsets = (solid * self._skin.mean(axis=1)).sum(axis=1)
        points = self._skin.reshape(-1, 3)
        return Part(
            quads=quads,
            normals=normals,
            colors=looks[:, 4:7],
            gloss=looks[:, 7],
            low=points.min(axis=0),
            high=points.max(axis=0),
            planes=np.column_stack([solid, offsets]),
        )


def block(low: np.ndarray, high: np.ndarray, color: RGB, gloss: float) -> Part:
    part = PartBuilder(box(low, high))
    part.add(box(low, high), color, gloss)
    return part.build()


def _outward_normals(quads: np.ndarray, center: np.ndarray) -> np.ndarray:
    """Unit normals by the diagonals that look away from a point: ``[F, 3]``."""
    normals = np.cross(quads[:, 2] - quads[:, 0], quads[:, 3] - quads[:, 1])
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    away = ((quads.mean(axis=1) - center) * normals).sum(axis=1, keepdims=True)
    return np.where(away < 0, -normals, normals)
