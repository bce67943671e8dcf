"""What a street consists of: its carriageway, marks, roadsides and what stands there.

In a street's own frame x runs along it, away from the camera's pole, and y across it to the left of
who looks along x; the middle of the carriageway is at y = 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import cv2
import numpy as np

from .chance import Rng
from .sprites import draw_sprite
from .surface import Texture
from .textures import clouds, facade, fence, grain, lawn, leaves, masonry, paving

PERIOD = 32.0  # metres after which the carriageway repeats, along and across
_TEXELS = 512  # of the carriageway, over the period
_REACH = (-12.0, 110.0)  # metres of x that marks and roadsides cover


@dataclass(frozen=True, eq=False)
class Standing:
    """Something upright between two points."""

    feet: np.ndarray  # ``[2, 3]``, metres
    top: float  # height, metres
    texture: Texture  # of albedo
    turns: bool = False  # it has no side of its own but faces every camera

    @cached_property
    def ball(self) -> tuple[float, float, float, float]:
        """Middle and radius of a ball that holds it, metres."""
        (x0, y0, _), (x1, y1, _) = self.feet.tolist()
        radius = math.hypot(x1 - x0, y1 - y0) / 2 + self.top
        return (x0 + x1) / 2, (y0 + y1) / 2, self.top / 2, radius

    def turned(self, right: np.ndarray) -> Standing:
        """What a camera sees whose horizontal axis to the right is ``right`` ``[3]``."""
        if not self.turns:
            return self
        half = right * self.texture.extent[0] / 2
        middle = np.array([*self.ball[:2], 0])
        return replace(self, feet=np.stack([middle - half, middle + half]))


@dataclass(frozen=True, eq=False)
class Street:
    """The ground, and what stands on it."""

    # grey factors of the carriageway, ``PERIOD`` metres both ways from y = -PERIOD / 2
    road: Texture
    stones: Texture  # its grain, of mean 0
    albedo: np.ndarray  # ``[3]``, of the carriageway
    # strips beside it: from y, to y, texture of albedo
    bands: tuple[tuple[float, float, Texture], ...]
    # marks, ``[n, 4, 3]`` each
    white: np.ndarray
    yellow: np.ndarray
    paint: float  # albedo of the marks where they are not worn
    wear: float  # how much of them is worn
    lanes: np.ndarray  # y of their middles
    middle: float  # y between those who drive along x, to its right, and those who come
    roadsides: tuple[float, float]  # y of both kerbs
    standing: tuple[Standing, ...]  # barriers, walls, trees


def draw_street(rng: Rng, *, wide: bool) -> Street:
    """Draw a street."""
    concrete = rng.random() < 0.25
    count, lane = int(rng.integers(2, 7)), rng.uniform(3.2, 3.7)
    half = count * lane / 2
    lanes = (np.arange(count) + 0.5) * lane - half
    edge = half + rng.uniform(0.2, 1.6)
    spread = 1.5 if wide else 1.0
    tone = (0.235 if concrete else 0.165) * np.exp(spread * rng.normal(0, 0.2))
    albedo = tone * np.exp(rng.normal(0, 0.012 * spread, 3)) * np.array([1.0, 1, 0.99])
    middle = float(lanes[0] + lane / 2 + lane * int(rng.integers(max(count - 1, 1))))
    fenced = rng.random() < 0.35
    stones = grain(rng, 256)
    white, yellow = _marks(rng, lanes, lane, edge, None if fenced else middle)
    bands, standing = [], []
    for side in (-1, 1):
        strips, things = _roadside(rng, side, edge, stones)
        bands += strips
        standing += things
    if fenced:
        standing.append(_barrier(rng, middle, "fence"))
    standing.append(_end_of_view(rng))
    return Street(
        road=_carriageway(rng, lanes, lane, concrete=concrete),
        stones=Texture.of(stones, (rng.uniform(3.0, 6.0),) * 2, depth=3),
        albedo=albedo.astype(np.float32),
        bands=tuple(bands),
        white=white,
        yellow=yellow,
        paint=rng.uniform(0.4, 0.68),
        wear=rng.uniform(0.0, 0.5),
        lanes=lanes,
        middle=middle,
        roadsides=(-edge, edge),
        standing=tuple(standing),
    )


def _carriageway(rng: Rng, lanes: np.ndarray, lane: float, *, concrete: bool) -> Texture:
    """Stains, tyre tracks, patches, cracks and joints."""
    shape, scale = (_TEXELS, _TEXELS), _TEXELS / PERIOD
    values = 1 + 0.05 * clouds(rng, shape, (8, 8)) + 0.04 * clouds(rng, shape, (32, 16))
    values += 0.04 * clouds(rng, shape, (128, 128))
    y = np.arange(_TEXELS, dtype=np.float32)[:, None] / scale - PERIOD / 2
    polish, drip = rng.normal(0.02, 0.07), rng.uniform(0, 0.14)
    tracks = np.ones_like(y)
    for center in lanes:
        for wheel in (-0.8, 0.8):
            tracks *= 1 + polish * np.exp(-(((y - center - wheel) / 0.3) ** 2))
        tracks *= 1 - drip * np.exp(-(((y - center) / 0.35) ** 2))
    values *= tracks
    for _ in range(rng.integers(1, 9)):
        (x, top), (across, down) = rng.uniform(0, 448, 2), rng.uniform(1, 5, 2) * scale
        patch = values[round(top) : round(top + down), round(x) : round(x + across)]
        patch *= rng.uniform(0.68, 1.2)
    for _ in range(rng.integers(2, 22)):
        steps = rng.normal(0, 6, (24, 2)) + rng.normal(0, 7, 2)
        path = rng.uniform(0, _TEXELS, 2) + np.cumsum(steps, axis=0)
        cv2.polylines(values, [np.rint(path).astype(np.int32)], False, [rng.uniform(0.5, 0.85)], 1)
    if concrete:
        values[:: round(4 * scale)] *= 0.6
        values[:, :: round(rng.choice([4, 5, 8]) * scale)] *= 0.6
    for _ in range(rng.integers(0, 6)):  # oil, and lids
        x, spot = rng.uniform(20, _TEXELS - 20), rng.choice(lanes) + rng.normal(0, 0.5)
        center = (round(x), round((spot + PERIOD / 2) * scale))
        cv2.circle(values, center, int(rng.integers(3, 9)), [rng.uniform(0.55, 0.85)], -1)
    return Texture.of(cv2.GaussianBlur(values, (3, 3), 0.6), (PERIOD, PERIOD))


def _marks(
    rng: Rng, lanes: np.ndarray, lane: float, edge: float, middle: float | None
) -> tuple[np.ndarray, np.ndarray]:
    """White and yellow marks as small quadrilaterals ``[n, 4, 3]``."""
    white = [_lines(side * (edge - 0.25), 0.15) for side in (-1, 1)]
    yellow: list[np.ndarray] = []
    dash, gap = ((2.0, 4.0), (4.0, 6.0), (6.0, 9.0))[int(rng.integers(3))]
    solid = rng.random() < 0.3  # before a crossing no one may change lanes
    for y in (lanes[:-1] + lane / 2).tolist():
        if middle is None or abs(y - middle) > 0.1:
            white.append(_lines(y, 0.15) if solid else _lines(y, 0.15, dash, gap))
    if middle is not None:
        double = rng.random() < 0.6
        lines = [_lines(middle + shift, 0.14) for shift in ((-0.15, 0.15) if double else (0.0,))]
        (yellow if rng.random() < 0.7 else white).extend(lines)
    if rng.random() < 0.35:
        white += [_arrow(rng.uniform(8, 45), y, rng.integers(2)) for y in lanes.tolist()]
    if rng.random() < 0.25:
        white += _crossing(rng.uniform(10, 45), edge)
    return np.concatenate(white), np.concatenate([*yellow, np.zeros((0, 4, 3))])


def _lines(y: float, wide: float, dash: float = 6.0, gap: float = 0.0) -> np.ndarray:
    starts = np.arange(*_REACH, dash + gap)
    return np.stack([_bar(start, start + dash, y - wide / 2, y + wide / 2) for start in starts])


def _bar(start: float, end: float, low: float, high: float) -> np.ndarray:
    return np.array([[start, low, 0], [end, low, 0], [end, high, 0], [start, high, 0]])


def _arrow(x: float, y: float, away: int) -> np.ndarray:
    """An arrow along the lane, 6 m long."""
    head = np.array([[3.6, -0.45, 0], [6, 0, 0], [6, 0, 0], [3.6, 0.45, 0]])
    shape = np.stack([_bar(0, 3.6, -0.1, 0.1), head])
    return shape * [1 if away else -1, 1, 1] + [x, y, 0]


def _crossing(x: float, edge: float) -> list[np.ndarray]:
    """A zebra crossing and the stop line before it."""
    starts = np.arange(-edge + 0.4, edge - 0.4, 1.0)
    bars = np.stack([_bar(x, x + 4.5, start, start + 0.45) for start in starts])
    return [bars, _bar(x + 6.5, x + 6.9, -edge + 0.3, edge - 0.3)[None]]


def _roadside(
    rng: Rng, side: int, edge: float, stones: np.ndarray
) -> tuple[list[tuple[float, float, Texture]], list[Standing]]:
    """Kerb, verge or pavement, and what stands there, on one side."""
    near, strips, things = edge, [], []
    if rng.random() < 0.75:
        kerb = Texture.of(masonry(rng, (32, 128)) * 0.9, (8.0, 2.0))
        strips.append((near, near + 0.2, kerb))
        near += 0.2
    kinds = rng.permutation(["paving", "lawn"])[: int(rng.integers(1, 3))]
    for kind in kinds:
        picture = paving(rng, stones) if kind == "paving" else lawn(rng, stones)
        far = near + (rng.uniform(1.5, 5) if kind != kinds[-1] else 40)
        strips.append((near, far, Texture.of(picture, (5.0, 5.0))))
        if rng.random() < 0.6:
            things += _row(rng, side * (near + rng.uniform(0.5, 1.0)), str(kind))
        near = min(far, near + 5)
    if rng.random() < 0.45:
        things.append(_barrier(rng, side * (edge + rng.uniform(0.1, 0.5)), "fence"))
    back = ("hedge", "wall", "facade", "none")[int(rng.choice(4, p=[0.4, 0.15, 0.25, 0.2]))]
    if back != "none":
        things.append(_barrier(rng, side * near, back))
    ordered = [(min(side * a, side * b), max(side * a, side * b), t) for a, b, t in strips]
    return ordered, things


def _barrier(rng: Rng, y: float, kind: str) -> Standing:
    """A fence, hedge, wall or row of houses along the street."""
    if kind == "fence":
        top = rng.uniform(0.6, 1.2)
        color, cover = fence(rng, (64, 128))
        texture = Texture.of(np.dstack([color * cover[..., None], cover]), (2.0, top))
    elif kind == "hedge":
        top = rng.uniform(0.5, 2.5)
        texture = Texture.of(leaves(rng, (64, 256)), (8.0, top))
    elif kind == "wall":
        top = rng.uniform(1.5, 3.0)
        texture = Texture.of(masonry(rng, (64, 256)), (8.0, top))
    else:
        top = rng.uniform(6.0, 9.0)
        texture = Texture.of(facade(rng, (128, 256)), (16.0, top))
    feet = np.array([[_REACH[0], y, 0], [_REACH[1], y, 0]])
    return Standing(feet, top, texture)


def _row(rng: Rng, y: float, ground: str) -> list[Standing]:
    """Trees, bushes, poles, cones or parked vehicles, one after the other."""
    kind = str(
        rng.choice(["tree", "bush", "bush", "pole", "car" if ground == "paving" else "bush"])
    )
    textures = [draw_sprite(rng, kind) for _ in range(2)]
    things, x = [], rng.uniform(4, 12)
    while x < 70:
        texture = textures[int(rng.integers(2))]
        size = rng.uniform(0.85, 1.2) if kind != "car" else 1.0
        things.append(billboard(np.array([x, y, 0]), texture, size))
        x += texture.extent[0] * rng.uniform(1, 3) + (6 if kind in ("pole", "tree", "car") else 0)
    return things


def billboard(place: np.ndarray, texture: Texture, size: float = 1.0) -> Standing:
    """A figure that stands at ``place``, ``size`` times as large as its texture."""
    wide, top = texture.extent[0] * size, texture.extent[1] * size
    half = np.array([0, wide / 2, 0])
    sized = Texture(texture.levels, (wide, top))
    return Standing(np.stack([place + half, place - half]), top, sized, turns=True)


def _end_of_view(rng: Rng) -> Standing:
    """Trees and houses where the street ends, with an uneven top."""
    shape, top = (32, 256), rng.uniform(6, 16)
    picture = leaves(rng, shape)
    house = facade(rng, shape)
    built = clouds(rng, shape, (2, 16))[0] > rng.uniform(-1, 1.5)
    picture[:, built] = house[:, built]
    edge = 0.3 + 0.2 * clouds(rng, shape, (2, 16))[0] + 0.05 * clouds(rng, shape, (2, 64))[0]
    cover = np.clip(32 * (np.linspace(0, 1, 32)[:, None] - np.clip(edge, 0.02, 0.8)), 0, 1)
    cover = cover.astype(np.float32)
    texture = Texture.of(np.dstack([picture * cover[..., None], cover]), (160.0, top))
    return Standing(np.array([[_REACH[1], 200.0, 0], [_REACH[1], -200.0, 0]]), top, texture)
