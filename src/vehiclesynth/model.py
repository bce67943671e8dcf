"""From an identity to what can be photographed: a mesh, its textures, and the 36 keypoints."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from multitasknet.vehicle.keypoints import NUM_KEYPOINTS

from .body import BACK_FOOT, COWL, FRONT_LOW, HEADER, NOSE, REAR_HEADER, REAR_LOW, TAIL, Shells
from .chart import RUBBER, Atlas, stack
from .face import paint_face
from .fittings import draw_fittings, swatches, wheel_meshes
from .flank import paint_flank
from .load import Load, draw_load, load_keypoints
from .look import Look
from .mesh import Mesh, joined
from .tail import paint_tail
from .trace import Tracer
from .wheels import paint_wheels

_DENSITY = {"bus": 55.0, "truck": 65.0}  # pixels a metre
_RAYS = 8  # about each vertex


@dataclass(frozen=True, eq=False)
class Model:
    """A vehicle in its own frame: x forward, y left, z up, from the ground below its middle."""

    mesh: Mesh  # all its triangles
    # float32 ``[V]``, the share of the sky that its own parts leave to each point
    openness: np.ndarray
    atlas: Atlas  # its textures
    keypoints: np.ndarray  # ``[36, 3]`` in metres, in the order of the labels
    tracer: Tracer

    @cached_property
    def corners(self) -> np.ndarray:
        """What is mixed between each triangle's corners: float32 ``[T, 18]``.

        Normal, place in the atlas and openness, corner after corner.
        """
        known = np.column_stack([self.mesh.normals, self.mesh.places, self.openness])
        return known.astype(np.float32)[self.mesh.triangles].reshape(-1, 18)

    @cached_property
    def extent(self) -> tuple[np.ndarray, np.ndarray]:
        """Lowest and highest x, y, z."""
        return self.mesh.points.min(axis=0), self.mesh.points.max(axis=0)


def build_model(look: Look) -> Model:
    """Build what an identity looks like."""
    shells = Shells(look.body, look.kind)
    density = _DENSITY.get(look.kind, 95.0)
    body = shells.shell.charts(density, look.paint)
    for chart, left in zip(body[:2], (True, False), strict=True):
        paint_flank(chart, shells, look, left=left)
    paint_face(body[2], shells, look)
    paint_tail(body[2], shells, look)
    load = draw_load(shells, look, density)
    wheels = paint_wheels(look, density)
    fittings = [*draw_fittings(shells, look), *load.fittings]
    matters = list(dict.fromkeys([RUBBER, *(fitting.matter for fitting in fittings)]))
    plain, places = swatches(matters, density)
    atlas, starts = stack([*body, *load.charts, *wheels, plain])

    rows, columns = wheels[0].height.shape
    rims = [np.array([*at, columns, rows]) - [0.5, 0.5, 0, 0] for at in starts[-3:-1]]
    places += starts[-1]
    meshes = [shells.shell.mesh(body, starts[:3])]
    meshes += wheel_meshes(shells, look, rims, places[0])
    if load.loft is not None and load.charts:
        meshes.append(load.loft.mesh(load.charts, starts[3:6]))
    for fitting in fittings:
        meshes += fitting.painted(places[matters.index(fitting.matter)])
    mesh = joined(meshes)
    tracer = Tracer(mesh)
    return Model(mesh, _openness(mesh, tracer), atlas, _keypoints(shells, load), tracer)


def _openness(mesh: Mesh, tracer: Tracer) -> np.ndarray:
    """Cosine-weighted share of the directions about each normal that the vehicle leaves free."""
    rng = np.random.default_rng(0)
    turns, heights = 2 * np.pi * rng.random(_RAYS), rng.random(_RAYS) ** 0.5
    flat = np.sqrt(1 - heights**2)
    local = np.column_stack([flat * np.cos(turns), flat * np.sin(turns), heights])
    local = local.astype(np.float32)
    normal = mesh.normals
    upright = np.abs(normal[:, 2:]) < 0.9
    first = np.cross(normal, np.where(upright, *np.eye(3, dtype=np.float32)[[2, 0]]))
    first /= np.maximum(np.linalg.norm(first, axis=1, keepdims=True), 1e-9)
    axes = np.stack([first, np.cross(normal, first), normal])
    directions = np.einsum("ra,ah->rh", local, axes.reshape(3, -1)).reshape(-1, 3)
    origins = np.tile(mesh.points + np.float32(0.01) * normal, (_RAYS, 1))
    free = ~tracer.blocked(origins, directions, 1.5)
    return free.reshape(_RAYS, -1).mean(axis=0, dtype=np.float32)


def _keypoints(shells: Shells, load: Load) -> np.ndarray:
    body, shell = shells.body, shells.shell
    points = np.zeros((NUM_KEYPOINTS // 2, 3))
    front, rear = shells.axles
    points[0], points[1] = shells.wheel_center(rear), shells.wheel_center(front)
    angles = np.radians([8, 55, 125, 172])
    for first, axle in ((2, front), (6, rear)):
        x = axle + shells.arch_radius * np.cos(angles)
        z = np.maximum(body.wheel + shells.arch_radius * np.sin(angles), body.sill + 0.02)
        behind = shells.kind == "truck" and axle < shells.back
        y = np.full(4, body.width / 2 - 0.03) if behind else shell.on_flank(x, z)[:, 1]
        points[first : first + 4] = np.stack([x, y, z], axis=1)
    for index, mark, share in (
        (10, REAR_LOW - 0.3, 0.95),
        (11, TAIL, 0.93),
        (12, BACK_FOOT - 0.03, 0.90),
        (13, REAR_HEADER + 0.06, 0.90),
        (14, HEADER - 0.05, 0.90),
        (15, COWL + 0.03, 0.92),
        (16, NOSE, 0.92),
        (17, FRONT_LOW + 0.3, 0.95),
    ):
        points[index] = shell.on_strip(mark, share)
    if load.loft is not None:
        for index, point in load_keypoints(shells, load).items():
            points[index] = point
    return np.concatenate([points, points * [1, -1, 1]])
