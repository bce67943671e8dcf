"""Rays through a vehicle, by Embree: what a pixel shows, and what stands in a light's way."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from types import ModuleType

import numpy as np

from .mesh import Mesh
from .work import SyntheticError

_NEAREST = 2e-3  # metres; a ray that starts on a surface does not meet that surface again
_FAR = 1e4


@dataclass(frozen=True, eq=False)
class Hits:
    """What rays meet first."""

    rays: np.ndarray  # int ``[H]``, the numbers of the rays that meet something
    triangles: np.ndarray  # int ``[H]``
    weights: np.ndarray  # float32 ``[3, H]``, of the triangle's corners
    distances: np.ndarray  # float32 ``[H]``, metres


def import_embree() -> tuple[ModuleType, ModuleType]:
    """Embree's scenes and meshes; SyntheticError if they are not installed."""
    try:
        return import_module("embreex.rtcore_scene"), import_module("embreex.mesh_construction")
    except ImportError as error:
        raise SyntheticError(
            f"drawing vehicles needs the package 'embreex' ({error}); install it from the folder "
            f"of this project with: pip install '.[synthetic]'"
        ) from error


class Tracer:
    """A mesh that rays can be sent through."""

    def __init__(self, mesh: Mesh) -> None:
        scenes, meshes = import_embree()
        self._scene = scenes.EmbreeScene()
        self._mesh = meshes.TriangleMesh(self._scene, mesh.points, mesh.triangles)

    def first(self, origin: np.ndarray, directions: np.ndarray) -> Hits:
        """The first triangle from ``[3]`` on in each unit direction, float32 ``[N, 3]``."""
        start = np.broadcast_to(np.asarray(origin, np.float32), directions.shape)
        found: dict[str, np.ndarray] = self._scene.run(start, directions, output=True)
        rays = np.flatnonzero(found["primID"] >= 0)
        u, v, triangles, distances = (found[key].take(rays) for key in ("u", "v", "primID", "tfar"))
        return Hits(rays, triangles, np.stack([1 - u - v, u, v]), distances)

    def blocked(
        self, origins: np.ndarray, directions: np.ndarray, reach: float | np.ndarray = _FAR
    ) -> np.ndarray:
        """Whether anything is on each ray ``[N, 3]`` within ``reach`` directions: bool ``[N]``."""
        directions = np.ascontiguousarray(directions, np.float32)
        start = np.asarray(origins, np.float32) + np.float32(_NEAREST) * directions
        ends = np.array(np.broadcast_to(reach, len(directions)), np.float32)
        met: np.ndarray = self._scene.run(start, directions, ends, query="OCCLUDED")
        return met >= 0
