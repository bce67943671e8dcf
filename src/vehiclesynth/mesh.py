"""Triangles with smooth normals and their place in the vehicle's atlas of textures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True, eq=False)
class Mesh:
    """A triangulated surface in the vehicle's frame: x forward, y left, z up, metres."""

    # float32 ``[V, 3]``; normals look outward
    points: np.ndarray
    normals: np.ndarray
    places: np.ndarray  # float32 ``[V, 2]``, x and y in pixels of the atlas
    triangles: np.ndarray  # int32 ``[T, 3]``
    # bool ``[T]``, whether the texture's x runs along the vehicle's y instead of its x
    across: np.ndarray

    def painted(self, place: ArrayLike) -> Mesh:
        """The same of one material: the atlas's pixel ``place``."""
        return replace(self, places=np.tile(np.asarray(place, np.float32), (len(self.points), 1)))

    def mirrored(self) -> Mesh:
        """The same on the vehicle's other side."""
        flip = np.array([1, -1, 1], np.float32)
        return replace(self, points=self.points * flip, normals=self.normals * flip)


def joined(meshes: Sequence[Mesh]) -> Mesh:
    """All meshes as one."""
    starts = np.cumsum([0, *(len(mesh.points) for mesh in meshes[:-1])])
    return Mesh(
        points=np.concatenate([mesh.points for mesh in meshes]),
        normals=np.concatenate([mesh.normals for mesh in meshes]),
        places=np.concatenate([mesh.places for mesh in meshes]),
        triangles=np.concatenate(
            [mesh.triangles + start for mesh, start in zip(meshes, starts, strict=True)]
        ).astype(np.int32),
        across=np.concatenate([mesh.across for mesh in meshes]),
    )


def grid_mesh(
    points: np.ndarray,
    normals: np.ndarray | None = None,
    places: np.ndarray | None = None,
    *,
    across: bool = False,
) -> Mesh:
    """The cells of a grid of points ``[R, C, 3]`` with normals, and atlas places ``[R, C, 2]``."""
    rows, columns = points.shape[:2]
    first = np.arange((rows - 1) * columns).reshape(rows - 1, columns)[:, :-1].reshape(-1, 1)
    corners = first + np.array([0, 1, columns + 1, columns])
    triangles = np.concatenate([corners[:, [0, 1, 2]], corners[:, [0, 2, 3]]])
    if normals is None:
        normals = grid_normals(points)
    if places is None:
        places = np.zeros((*points.shape[:2], 2))
    return Mesh(
        points.reshape(-1, 3).astype(np.float32),
        normals.reshape(-1, 3).astype(np.float32),
        places.reshape(-1, 2).astype(np.float32),
        triangles.astype(np.int32),
        np.full(len(triangles), across),
    )


def grid_normals(points: np.ndarray) -> np.ndarray:
    """Unit normals of a smooth grid ``[R, C, 3]``: rows times columns."""
    normal = np.cross(np.gradient(points, axis=0), np.gradient(points, axis=1))
    return normal / np.maximum(np.linalg.norm(normal, axis=2, keepdims=True), 1e-9)


def box_mesh(low: ArrayLike, high: ArrayLike) -> Mesh:
    """A box, not painted yet, as are drums and balls."""
    corners = np.array([low, high], np.float32)
    faces = []
    for axis in range(3):
        first, second = (axis + 1) % 3, (axis + 2) % 3
        for side in (0, 1):
            square = np.empty((2, 2, 3), np.float32)
            square[..., axis] = corners[side, axis]
            square[..., first] = corners[:, None, first]
            square[..., second] = corners[None, :, second]
            normal = np.zeros((2, 2, 3), np.float32)
            normal[..., axis] = 2 * side - 1
            faces.append(grid_mesh(square, normal))
    return joined(faces)


def dish_mesh(center: np.ndarray, radius: float, hollow: float, chart: np.ndarray) -> Mesh:
    """An upright disc that faces left, within its rim hollow by so many metres.

    ``chart`` is the atlas's rectangle x, y, width, height.
    """
    angles = np.linspace(2 * np.pi, 0, 25)
    rim = np.stack([np.cos(angles), np.zeros_like(angles), np.sin(angles)], axis=1)
    shares = np.array([0.0, 0.2, 0.55, 0.72, 1.0])[:, None, None]
    depths = np.array([0.3, 0.4, 1.0, 0.0, 0.0])[:, None, None] * [0.0, hollow, 0.0]
    points = center + radius * shares * rim - depths
    places = 0.5 + 0.5 * shares * rim[:, [0, 2]] * [1, -1]
    normals = grid_normals(points)
    normals[0] = (0, 1, 0)
    places = chart[:2] + places * chart[2:]
    return grid_mesh(points, normals, places)


def drum_mesh(center: np.ndarray, radius: float, length: float) -> Mesh:
    """The mantle of a cylinder about y that ends at ``center`` and comes from below it."""
    angles = np.linspace(0, 2 * np.pi, 25)
    normals = np.zeros((2, 25, 3))
    normals[..., 2], normals[..., 0] = np.cos(angles), np.sin(angles)
    points = center + radius * normals
    points[0, :, 1] -= length
    return grid_mesh(points, normals)


def ball_mesh(center: ArrayLike, radii: ArrayLike, power: float = 1) -> Mesh:
    """An ellipsoid; below 1 the power makes it boxier."""
    down, around = np.linspace(0.02, np.pi - 0.02, 9)[:, None], np.linspace(0, 2 * np.pi, 17)[None]
    unit = np.stack(
        [np.sin(down) * np.cos(around), np.sin(down) * np.sin(around), np.cos(down) + 0 * around],
        axis=2,
    )
    points = np.asarray(center) + np.sign(unit) * np.abs(unit) ** power * np.asarray(radii)
    return grid_mesh(points, unit)
