"""Convex hulls lofted from a side view: what vehicles are built of.

Everything is ``[F, 4, 3]`` quadrilaterals in metres; a triangle repeats its last corner.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

_INSET = 0.3  # where the corner of a bevelled edge lies, as a share of the bevel


@dataclass(frozen=True, eq=False)
class Shell:
    """A convex body between two mirrored side walls.

    Attributes:
        profile: ``[n, 2]`` convex side view (x, z), from the lower front corner over the top to
            the lower rear corner.
        bulge: ``[n, 2]`` how far the middle of each profile corner stands out from its ends.
        radius: ``[n]`` by how much each corner is rounded; 0 keeps it sharp.
        half_width: half the width at (x, z), a concave function.
        bevel: size of the edge between side wall and top.
    """

    profile: np.ndarray
    bulge: np.ndarray
    radius: np.ndarray
    half_width: Callable[[np.ndarray, np.ndarray], np.ndarray]
    bevel: float

    def faces(self) -> np.ndarray:
        """The whole skin: ``[F, 4, 3]``."""
        outline, bulge = self._rounded()
        normal = _corner_normals(outline)
        inner = outline - self.bevel * normal
        corner = outline - _INSET * self.bevel * normal
        left = [
            self._wall(inner),
            _ribbon(self._at(inner), self._at(corner, inset=_INSET)),
            _ribbon(self._at(corner, inset=_INSET), self._at(outline, inset=1)),
        ]
        walls = np.concatenate(left)
        return np.concatenate([walls, mirrored(walls), self._crown(outline, bulge)])

    def corner(self, index: int) -> np.ndarray:
        """The left end of one profile corner, on the skin: ``[3]``."""
        outline, _ = self._rounded()
        normal = _corner_normals(outline)
        middle = 3 * index + 1
        point = outline[middle] - _INSET * self.bevel * normal[middle]
        return self._at(point, inset=_INSET)

    def on_side(self, x: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Points on the left wall: ``[..., 3]``."""
        x, z = np.broadcast_arrays(np.asarray(x, float), np.asarray(z, float))
        return np.stack([x, self.half_width(x, z), z], axis=-1)

    def on_strip(self, index: int, across: np.ndarray, along: np.ndarray) -> np.ndarray:
        """Points on the strip from profile corner ``index`` to the next: ``[..., 3]``.

        ``across`` runs from -1 (right) to 1 (left), ``along`` from 0 to 1.
        """
        across, along = np.broadcast_arrays(np.asarray(across, float), np.asarray(along, float))
        share = along[..., None]
        point = self.profile[index] * (1 - share) + self.profile[index + 1] * share
        bulge = self.bulge[index] * (1 - share) + self.bulge[index + 1] * share
        return self._across(point, bulge, across)

    def side_patch(self, x: Sequence[float], z: Sequence[float]) -> np.ndarray:
        """A patch of the left wall between two x and two z, fine enough to follow its curve."""
        columns = 2 + int(abs(x[1] - x[0]) / 0.25)
        return grid(
            self.on_side(
                np.linspace(x[0], x[1], columns)[None], np.linspace(z[0], z[1], 4)[:, None]
            )
        )

    def strip_patch(
        self,
        index: int,
        across: Sequence[float],
        along: Sequence[float],
    ) -> np.ndarray:
        """A patch of the strip from profile corner ``index`` to the next, likewise."""
        columns = 2 + int(abs(across[1] - across[0]) / 0.2)
        rows = np.linspace(along[0], along[1], 3 + int(abs(along[1] - along[0]) / 0.1))[:, None]
        return grid(self.on_strip(index, np.linspace(across[0], across[1], columns)[None], rows))

    def _rounded(self) -> tuple[np.ndarray, np.ndarray]:
        """Each profile corner as three points of a curve, the middle one at its apex."""
        before = np.roll(self.profile, 1, axis=0) - self.profile
        after = np.roll(self.profile, -1, axis=0) - self.profile
        reach = np.maximum(self.radius, 1e-4)[:, None]

        def cut(edge: np.ndarray) -> np.ndarray:
            length = np.linalg.norm(edge, axis=1, keepdims=True)
            return self.profile + edge * np.minimum(reach / length, 0.45)

        start, end = cut(before), cut(after)
        apex = (start + end) / 4 + self.profile / 2
        outline = np.stack([start, apex, end], axis=1).reshape(-1, 2)
        return outline, np.repeat(self.bulge, 3, axis=0)

    def _at(self, points: np.ndarray, inset: float = 0) -> np.ndarray:
        y = self.half_width(points[..., 0], points[..., 1]) - inset * self.bevel
        return np.stack([points[..., 0], y, points[..., 1]], axis=-1)

    def _across(self, point: np.ndarray, bulge: np.ndarray, across: np.ndarray) -> np.ndarray:
        y = across * (self.half_width(point[..., 0], point[..., 1]) - self.bevel)
        out = point + bulge * (1 - across[..., None] ** 2)
        return np.stack([out[..., 0], y, out[..., 1]], axis=-1)

    def _crown(self, outline: np.ndarray, bulge: np.ndarray) -> np.ndarray:
        across = np.linspace(-1, 1, 11)[:, None]
        closed = np.append(np.arange(len(outline)), 0)
        points = self._across(outline[None, closed], bulge[None, closed], across)
        return grid(_subdivided(points))

    def _wall(self, outline: np.ndarray) -> np.ndarray:
        """The side wall as columns between the outline's corners, in five rows."""
        ends = outline[:, 0].min(), outline[:, 0].max()
        x = np.unique(np.concatenate([outline[:, 0], np.linspace(*ends, 16)]))
        low, high = _extent(outline, x)
        share = np.linspace(0, 1, 7)[:, None]
        return grid(self.on_side(x[None], low + share * (high - low)))


def box(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """An axis-aligned box: ``[6, 4, 3]``, the top first."""
    low, high = np.asarray(low, float), np.asarray(high, float)
    corners = np.array([[index & 1, index >> 1 & 1, index >> 2 & 1] for index in range(8)])
    points = low + corners * (high - low)
    top, bottom, right, left = (4, 5, 7, 6), (0, 1, 3, 2), (0, 1, 5, 4), (2, 3, 7, 6)
    rear, front = (0, 2, 6, 4), (1, 3, 7, 5)
    return points[[top, bottom, right, left, rear, front]]


def open_box(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """A box without a top: ``[5, 4, 3]``."""
    return box(low, high)[1:]


def grid(points: np.ndarray) -> np.ndarray:
    """The cells of a grid of points ``[R, C, 3]``: ``[(R-1)(C-1), 4, 3]``."""
    corners = [points[:-1, :-1], points[:-1, 1:], points[1:, 1:], points[1:, :-1]]
    return np.stack(corners, axis=2).reshape(-1, 4, 3)


def disc(center: np.ndarray, radius: float, *, inner: float = 0, slices: int = 20) -> np.ndarray:
    """An upright disc or ring facing sideways: ``[slices, 4, 3]``."""
    return sectors(center, inner, radius, np.linspace(0, 2 * np.pi, slices + 1))


def sectors(center: np.ndarray, inner: float, outer: float, angles: np.ndarray) -> np.ndarray:
    """The pieces of an upright ring between consecutive angles (0 is forward, then up)."""
    spokes = np.stack([np.cos(angles), np.zeros_like(angles), np.sin(angles)], axis=1)
    return grid(center + np.stack([inner * spokes, outer * spokes]))


def mirrored(quads: np.ndarray) -> np.ndarray:
    """The same on the other side of the vehicle."""
    return quads * [1, -1, 1]


def _subdivided(points: np.ndarray) -> np.ndarray:
    """Split the long columns of a grid, so that light changes smoothly along them."""
    pieces = []
    for first, second in zip(points.swapaxes(0, 1)[:-1], points.swapaxes(0, 1)[1:], strict=True):
        count = min(1 + int(np.linalg.norm(second - first, axis=1).max() / 0.2), 12)
        pieces += [first + (second - first) * step / count for step in range(count)]
    return np.stack([*pieces, points[:, -1]], axis=1)


def _ribbon(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    closed = np.append(np.arange(len(first)), 0)
    return grid(np.stack([first[closed], second[closed]]))


def _corner_normals(outline: np.ndarray) -> np.ndarray:
    """Outward normals at the corners of a closed outline that runs front, top, rear."""
    edges = np.roll(outline, -1, axis=0) - outline
    edges = edges / np.maximum(np.linalg.norm(edges, axis=1, keepdims=True), 1e-9)
    sides = np.stack([edges[:, 1], -edges[:, 0]], axis=1)
    normal = sides + np.roll(sides, 1, axis=0)
    return normal / np.linalg.norm(normal, axis=1, keepdims=True)


def _extent(outline: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest z of a convex outline at each x."""
    first, second = outline, np.roll(outline, -1, axis=0)
    run = second[:, 0] - first[:, 0]
    run = np.where(np.abs(run) < 1e-9, 1e-9, run)
    share = (x - first[:, :1]) / run[:, None]
    z = first[:, 1:] + share * (second[:, 1:] - first[:, 1:])
    hit = (share >= -1e-3) & (share <= 1 + 1e-3)
    return np.where(hit, z, np.inf).min(axis=0), np.where(hit, z, -np.inf).max(axis=0)
