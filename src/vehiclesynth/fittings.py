"""What is fixed to a body: wheels, mirrors, roof racks, ladders, signs, wings, bull bars."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from .body import COWL, HEADER, REAR_HEADER, Shells
from .chance import Rng
from .chart import BLACK, CHROME, PLASTIC, SEAM, Chart, Matter, Pair
from .look import Look, draw_gray
from .mesh import Mesh, ball_mesh, box_mesh, dish_mesh, drum_mesh, joined

_SWATCH = 8  # pixels
_ALUMINIUM, _WOOD = Matter((0.42, 0.43, 0.44), 0.3), Matter((0.24, 0.13, 0.06), 0.05)
_YELLOW = Matter((0.58, 0.36, 0.02), 0.1)  # glass fibre


class Fitting(NamedTuple):
    """A part of one material, on the left or in the middle; ``both`` is on the right as well."""

    matter: Matter
    mesh: Mesh
    both: bool = False

    def painted(self, place: np.ndarray) -> list[Mesh]:
        mesh = self.mesh.painted(place)
        return [mesh, mesh.mirrored()] if self.both else [mesh]


def swatches(matters: Sequence[Matter], density: float) -> tuple[Chart, np.ndarray]:
    """A strip of plain materials, and each one's pixel ``[N, 2]`` from where it begins."""
    side = _SWATCH / density
    chart = Chart((0, 0), (_SWATCH * len(matters) / density, side), density, BLACK)
    for index, matter in enumerate(matters):
        left = index * _SWATCH / density
        chart.rect((left, left + side), (-1, 1), matter)
    x = _SWATCH * (np.arange(len(matters)) + 0.5)
    return chart, np.column_stack([x, np.full(len(x), _SWATCH / 2)])


def wheel_meshes(
    shells: Shells, look: Look, rims: list[np.ndarray], rubber: np.ndarray
) -> list[Mesh]:
    """All wheels: outer face, tread and inner face.

    ``rims`` are the atlas's rectangles of the usual wheel, and of the one on a corner of its own.
    """
    body = shells.body
    heavy = shells.kind in ("bus", "truck")
    deep = 0.32 if heavy else 0.21
    hollow = (0.16 if heavy else 0.09) * look.of_version(30).uniform(0.2, 1.0) * body.wheel
    odd = int(look.rng(32).integers(4))
    meshes = []
    axles = list(shells.axles)
    if shells.kind == "truck" and body.length > 7.4:
        axles.append(axles[1] + 2.3 * body.wheel)
    for number, axle in enumerate(axles):
        center = shells.wheel_center(axle)
        left, right = (rims[odd == 2 * number + side] for side in (0, 1))
        tread = drum_mesh(center, body.wheel, deep).painted(rubber)
        meshes += [dish_mesh(center, body.wheel, hollow, left), tread]
        meshes += [dish_mesh(center, body.wheel, hollow, right).mirrored(), tread.mirrored()]
    return meshes


def box(low: ArrayLike, high: ArrayLike, matter: Matter, *, both: bool = False) -> Fitting:
    return Fitting(matter, box_mesh(low, high), both)


def ball(
    center: ArrayLike, radii: ArrayLike, matter: Matter, power: float = 1, *, both: bool = False
) -> Fitting:
    return Fitting(matter, ball_mesh(center, radii, power), both)


def draw_fittings(shells: Shells, look: Look) -> list[Fitting]:
    own, trim = look.rng(31), look.of_version(31)
    fittings = _mirrors(shells, look, trim) + _roof(shells, look, own) + _added(shells, look, own)
    body, kind = shells.body, look.kind
    if kind in ("sedan", "hatchback", "suv", "mpv") and (
        trim.random() < 0.15 or own.random() < 0.06
    ):
        fittings.append(_wing(shells, look))
    if kind in ("pickup", "suv") and own.random() < (0.4 if kind == "pickup" else 0.1):
        x, pipe = shells.front + 0.05, CHROME.tinted(0.5)
        for z in (body.sill + 0.2, shells.nose - 0.05):
            fittings.append(box((x - 0.05, -0.45, z), (x, 0.45, z + 0.06), pipe))
        upright = (x - 0.05, 0.38, body.sill + 0.1), (x, 0.44, shells.nose)
        fittings.append(box(*upright, pipe, both=True))
    # What is seen below the sills: floor, axles, exhaust.
    half = body.width / 2 - 0.25
    low = (shells.rear + 0.3, -half, 0.6 * body.sill)
    return [*fittings, box(low, (shells.front - 0.3, half, body.sill + 0.02), SEAM)]


def _mirrors(shells: Shells, look: Look, rng: Rng) -> list[Fitting]:
    body = shells.body
    if look.kind in ("bus", "truck"):
        hang = look.kind == "bus" and rng.random() < 0.7
        x = shells.front + (0.28 if hang else 0.02)
        y = body.width / 2 + (0.02 if hang else 0.16)
        z = body.belt + (0.62 if hang else 0.5) * (body.height - body.belt)
        arm = (x - 0.3, y - 0.25, z + 0.28), (x + 0.02, y, z + 0.32)
        mirror = ball((x, y, z), (0.09, 0.13, 0.30), PLASTIC, 0.5, both=True)
        return [box(*arm, BLACK, both=True), mirror]
    x, z = float(shells.shell.on_strip(COWL, 1)[0]) - 0.32, body.belt + 0.10
    y = float(shells.shell.on_flank(x, body.belt)[1]) + 0.10
    shell = look.paint if rng.random() < 0.7 else PLASTIC
    foot = (x - 0.03, y - 0.14, z - 0.07), (x + 0.03, y, z - 0.04)
    mirror = ball((x, y, z), (0.07, 0.125, 0.085), shell, 0.7, both=True)
    return [mirror, box(*foot, BLACK, both=True)]


def _added(shells: Shells, look: Look, rng: Rng) -> list[Fitting]:
    """Antennas, tow hitches, boxes on the roof."""
    if look.kind in ("bus", "truck"):
        return []
    top, rear = shells.body.height, shells.rear
    last = float(shells.shell.on_strip(REAR_HEADER, 0)[0])
    fittings = []
    fin = look.of_version(33).random()
    if fin < 0.45:
        shell = look.paint if fin < 0.3 else BLACK
        fittings.append(ball((last + 0.22, 0, top - 0.02), (0.12, 0.03, 0.08), shell))
    elif rng.random() < 0.35:
        x = float(rng.choice([last + 0.2, shells.front - shells.body.hood - 0.9]))
        y, tall = float(rng.uniform(-0.4, 0.4)), float(rng.uniform(0.15, 0.4))
        fittings.append(box((x, y, top - 0.05), (x + 0.02, y + 0.02, top + tall), BLACK))
    if rng.random() < 0.08:
        z = shells.body.sill + 0.06
        fittings.append(box((rear - 0.14, -0.03, z), (rear + 0.2, 0.03, z + 0.05), PLASTIC))
        fittings.append(ball((rear - 0.12, 0, z + 0.09), (0.035,) * 3, CHROME.tinted(0.5)))
    if look.kind in ("suv", "mpv", "estate", "hatchback", "sedan") and rng.random() < 0.04:
        matter, side = draw_gray(rng, 0.02, 0.5, 0.3), float(rng.choice([-0.25, 0.0, 0.25]))
        fittings.append(ball((last + 0.9, side, top + 0.16), (0.8, 0.36, 0.17), matter, 0.55))
    return fittings


def _roof(shells: Shells, look: Look, rng: Rng) -> list[Fitting]:
    """Rails and racks, signs, ladders; a bus's air conditioner, a truck's wind deflector."""
    kind, body = look.kind, shells.body
    front = float(shells.shell.on_strip(HEADER, 0)[0]) - 0.25
    rear = float(shells.shell.on_strip(REAR_HEADER, 0)[0]) + 0.25
    half = float(shells.shell.on_strip(REAR_HEADER, 1)[1]) - 0.05
    top = body.height
    middle = (front + rear) / 2
    draw = look.of_version(34).random()
    if kind == "bus":
        low, high = (middle - 1.2, -0.75, top - 0.02), (middle + 1.0, 0.75, top + 0.2)
        return [box(low, high, draw_gray(rng, 0.3, 0.7, 0.1))] if draw < 0.7 else []
    if kind == "truck":
        deflector = ball((front - 0.35, 0, top - 0.05), (0.45, half, 0.4), look.paint, 0.8)
        return [deflector] if draw < 0.3 else []
    if look.two_tone == "taxi" or (kind == "sedan" and rng.random() < 0.05):
        sign = draw_gray(rng, 0.3, 0.8) if rng.random() < 0.5 else Matter((0.6, 0.45, 0.08), 0.1)
        return [box((middle + 0.1, -0.28, top - 0.01), (middle + 0.24, 0.28, top + 0.15), sign)]
    rails = {"suv": 0.6, "mpv": 0.45, "estate": 0.6, "hatchback": 0.12, "van": 0.1}.get(kind, 0.0)
    if draw < rails:
        rail = CHROME.tinted(0.8) if draw < 0.5 * rails else PLASTIC
        ends = (rear, half - 0.06, top - 0.02), (front, half - 0.02, top + 0.05)
        places = (rear + 0.3, front - 0.3) if rng.random() < 0.25 else ()
        bars = [box((x, -half, top + 0.04), (x + 0.05, half, top + 0.07), rail) for x in places]
        return [box(*ends, rail, both=True), *bars]
    if kind == "pickup" and draw < 0.5:
        x, bar = rear - 0.4, CHROME.tinted(0.6) if draw < 0.25 else PLASTIC
        upright = (x, half - 0.02, body.belt - 0.1), (x + 0.07, half + 0.05, top - 0.1)
        across = (x, -half - 0.05, top - 0.14), (x + 0.07, half + 0.05, top - 0.08)
        return [box(*upright, bar, both=True), box(*across, bar)]
    if kind == "van" and rng.random() < 0.15:
        return _roof_ladder(look.rng(35), (rear, front), half, top)
    return []


def _roof_ladder(rng: Rng, reach: Pair, half: float, top: float) -> list[Fitting]:
    """A ladder on two bars across the roof; it may hang over the rear."""
    rear, front = reach
    start = rear - rng.uniform(0.0, 0.4)
    corner = start, rng.uniform(-half, half - 0.5), top + 0.05
    ladder = draw_ladder(rng, corner, front - start, along=0, across=1)
    bars = [
        box((x, -half, top - 0.02), (x + 0.05, half, top + 0.05), BLACK)
        for x in (rear + 0.2, rear + 0.7 * (front - rear))
    ]
    return [*bars, *ladder]


def draw_ladder(
    rng: Rng, corner: ArrayLike, room: float, *, along: int, across: int
) -> list[Fitting]:
    """Two rails of up to ``room`` metres and their rungs, from their lowest x, y, z on.

    ``along`` and ``across`` are the axes of rails and rungs: 0 is x, 1 is y, 2 is z.
    """
    matters = (_ALUMINIUM, _ALUMINIUM), (_WOOD, _WOOD), (_YELLOW, _ALUMINIUM)
    rail, rung = matters[int(rng.choice(3, p=[0.5, 0.2, 0.3]))]
    shade = rng.uniform(0.7, 1.3)
    long, wide, step = room * rng.uniform(0.6, 1.0), rng.uniform(0.3, 0.45), rng.uniform(0.25, 0.35)

    def bars(matter: Matter, starts: list[Pair], axis: int, size: float) -> Fitting:
        lows = np.tile(np.array(corner, float), (len(starts), 1))
        lows[:, [along, across]] += starts
        sizes = np.full(3, 0.05)
        sizes[axis] = size
        return Fitting(matter.tinted(shade), joined([box_mesh(low, low + sizes) for low in lows]))

    rungs = [(float(way), 0.0) for way in np.arange(step / 2, long - 0.05, step)]
    rails = [(0.0, 0.0), (0.0, wide)]
    return [bars(rail, rails, along, long), bars(rung, rungs, across, wide)]


def _wing(shells: Shells, look: Look) -> Fitting:
    x, _, z = (float(v) for v in shells.shell.on_strip(REAR_HEADER, 0))
    half = float(shells.shell.on_strip(REAR_HEADER, 1)[1]) - 0.12
    if look.kind == "sedan":
        x, z, half = shells.back + 0.16, shells.body.belt + 0.10, half + 0.08
    return ball((x - 0.12, 0, z), (0.16, half, 0.025), look.paint, 0.6)
