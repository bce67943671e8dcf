"""Curved bodies: a silhouette, seen from the side, that is inflated to a half width.

The skin is one grid. Its rows are stations along the silhouette, which starts below the front,
climbs over bonnet and roof and comes back below; its columns run from one flank's middle over a
rounded edge, across the strip, and down the other side.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .chart import Chart, Matter
from .mesh import Mesh, grid_mesh, grid_normals, joined

HalfWidth = Callable[[np.ndarray, np.ndarray], np.ndarray]
_STRIP, _EDGE, _FLANK = 9, 3, 8  # columns
_STATIONS, _BOW = 72, 6  # rows along the silhouette's edges, and round each corner


@dataclass(frozen=True)
class Bend:
    """How the skin departs from an extruded silhouette."""

    edge: float  # radius between strip and flank, metres
    # how far the ends' corners lie behind their middle
    front: float
    rear: float
    # how much the strip's middle is higher than its borders, by segment of the silhouette
    crown: tuple[float, ...]


class Loft:
    """A body between its flanks.

    Args:
        corners: ``[K, 2]`` x and z of the silhouette's corners, from below the front over the top
            to below the rear, which the floor closes.
        radii: ``[K]`` of the corners, metres.
        half: half width at x and z.
        middle: height of the flank's middle line, where the grid's columns end.
    """

    def __init__(
        self, corners: np.ndarray, radii: np.ndarray, half: HalfWidth, bend: Bend, middle: float
    ) -> None:
        self.half, self.bend = half, bend
        self.low, self.high = corners.min(axis=0), corners.max(axis=0)
        outline, segment, marks = _rounded(corners, radii)
        self.marks: list[float] = marks.tolist()
        self.outline = outline
        steps = np.linalg.norm(np.diff(outline, axis=0), axis=1)
        self.ways = np.concatenate([[0], np.cumsum(steps)])
        tangent = np.gradient(outline, axis=0)
        tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
        # The outline climbs at the front and goes backwards on the roof: outward is to its right.
        self._normals = np.stack([-tangent[:, 1], tangent[:, 0]], axis=1) * -1
        self._crowns = np.interp(segment, np.arange(len(bend.crown)) + 0.5, bend.crown)
        reach = min(0.35 * (self.high[0] - self.low[0]), 0.9)
        self._broadest = float(np.max(half(outline[:, 0], outline[:, 1])))
        self._spine = np.array([self.low[0] + reach, self.high[0] - reach]), middle

    def way(self, mark: float) -> float:
        """Metres along the silhouette to a corner; 2.5 is half way between corners 2 and 3."""
        corner = min(int(mark), len(self.marks) - 2)
        start, end = self.marks[corner : corner + 2]
        return start + (mark - corner) * (end - start)

    def on_strip(self, mark: float, share: float) -> np.ndarray:
        """The point ``[3]`` at a corner of the silhouette, at that share of the half width."""
        index = np.argmin(np.abs(self.ways - self.way(mark)))
        x, z = self._at(self.way(mark))
        width = float(self.half(np.array(x), np.array(z)))
        edge = self.bend.edge
        angle = np.pi / 2 * np.clip((abs(share) * width - (width - edge)) / edge, 0, 1)
        y = abs(share) * width
        inset = edge * (1 - np.cos(angle))
        crown = self._crowns[index] * (1 - (y / width) ** 2)
        spot = np.array([x, z]) + self._normals[index] * (crown - inset)
        return self._bent(np.array([spot[0], np.sign(share) * y, spot[1]]))

    def on_flank(self, x: float | np.ndarray, z: float | np.ndarray) -> np.ndarray:
        """Points ``[..., 3]`` of the left flank, edge left out."""
        x, z = np.broadcast_arrays(np.asarray(x, float), np.asarray(z, float))
        return self._bent(np.stack([x, self.half(x, z), z], axis=-1))

    def charts(self, density: float, base: Matter) -> tuple[Chart, Chart, Chart]:
        """Empty charts of the left flank, the right flank and the strip."""
        low, high = tuple(self.low - 0.02), tuple(self.high + 0.02)
        width = float(self.half(*np.meshgrid(*np.linspace(self.low, self.high, 9).T)).max())
        strip = Chart((-width, -0.02), (width, self.ways[-1] + 0.02), density, base)
        return Chart(low, high, density, base), Chart(low, high, density, base), strip

    def mesh(self, charts: tuple[Chart, Chart, Chart], starts: list[np.ndarray]) -> Mesh:
        """The skin, textured by the charts that begin at ``starts`` in the atlas."""
        points, flat = self._grid()
        normals = grid_normals(points)
        last = _FLANK + _EDGE
        pieces = []
        for chart, start, columns, across in (
            (charts[0], starts[0], slice(0, last), False),
            (charts[2], starts[2], slice(last - 1, -last + 1), True),
            (charts[1], starts[1], slice(-last, None), False),
        ):
            kept, skin, outward = (values[:, columns] for values in (flat, points, normals))
            places = chart.pixels(kept[..., [1, 3] if across else [0, 2]]) + start
            pieces.append(grid_mesh(skin, outward, places, across=across))
        return joined(pieces)

    def _grid(self) -> tuple[np.ndarray, np.ndarray]:
        """Points ``[S, C, 3]``, and flat coordinates ``[S, C, 4]``: x, y, z before bending; way."""
        outline, normals, edge = self.outline, self._normals, self.bend.edge
        half_rim = self.half(outline[:, 0], outline[:, 1])
        angle = np.linspace(0, np.pi / 2, _EDGE + 1)[1:]
        columns = []
        for share in np.linspace(0, 1, _STRIP // 2 + 1):
            y = share * (half_rim - edge)
            crown = self._crowns * (1 - (y / half_rim) ** 2)
            columns.append(_columns(outline + normals * crown[:, None], y))
        crown = self._crowns * (1 - ((half_rim - edge) / half_rim) ** 2)
        for turn in angle:
            inset = edge * (1 - np.cos(turn)) - crown * np.cos(turn)
            y = half_rim - edge + edge * np.sin(turn)
            columns.append(_columns(outline - normals * inset[:, None], y))
        rim = columns[-1][:, [0, 2]]
        spine = np.column_stack(
            [np.clip(rim[:, 0], *self._spine[0]), np.full(len(rim), self._spine[1])]
        )
        shares = self._flank_shares(rim[:, 1], spine[:, 1])
        for column in range(_FLANK - 1):
            place = rim + shares[:, column, None] * (spine - rim)
            columns.append(_columns(place, self.half(place[:, 0], place[:, 1])))
        left = np.stack(columns[::-1], axis=1)
        flat = np.concatenate([left, left[:, -2::-1] * [1, -1, 1]], axis=1)
        way = np.broadcast_to(self.ways[:, None, None], (*flat.shape[:2], 1))
        return self._bent(flat), np.concatenate([flat, way], axis=2)

    def _flank_shares(self, rim: np.ndarray, spine: np.ndarray) -> np.ndarray:
        """How far down the flank each column lies: denser where the shoulder is."""
        even = np.linspace(0, 1, _FLANK)[1:]
        tall = (rim - spine)[:, None]
        shoulder = np.clip(0.10 / np.maximum(tall, 1e-6), 0, 1)
        window = 1 - shoulder * np.array([1.9, 1.3, 1.0, 0.8, 0.5, 0.25, 0.0])
        window[:, 0] = 0.35 * window[:, 1]
        window[:, 1] = 0.7 * window[:, 2]
        return np.where(tall > 0.3, window, even)

    def _at(self, way: float) -> tuple[float, float]:
        x, z = (np.interp(way, self.ways, self.outline[:, axis]) for axis in (0, 1))
        return float(x), float(z)

    def _bent(self, points: np.ndarray) -> np.ndarray:
        """Draw the corners of both ends back."""
        x, y = points[..., 0], points[..., 1]
        front, rear = self.high[0], self.low[0]
        reach = min(0.9, 0.4 * (front - rear))
        ahead = np.clip((x - front + reach) / reach, 0, 1)
        behind = np.clip((rear + reach - x) / reach, 0, 1)
        broad = np.abs(y / self._broadest) ** 2.6
        shift = self.bend.rear * behind**2 - self.bend.front * ahead**2
        bent = points.copy()
        bent[..., 0] = x + shift * np.minimum(broad, 1)
        return bent


def _columns(place: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.column_stack([place[:, 0], np.broadcast_to(y, len(place)), place[:, 1]])


def _rounded(corners: np.ndarray, radii: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The outline with its corners rounded, its segments' numbers, and the corners' ways."""
    edges = np.roll(corners, -1, axis=0) - corners
    lengths = np.maximum(np.linalg.norm(edges, axis=1), 1e-9)
    toward = edges / lengths[:, None]
    step = lengths.sum() / _STATIONS
    after = np.minimum(radii, 0.45 * lengths)
    before = np.minimum(radii, 0.45 * np.roll(lengths, 1))
    turn = np.linspace(0, 1, _BOW)[:, None]
    pieces: list[np.ndarray] = []
    segments: list[np.ndarray] = []
    middles = []
    for index, corner in enumerate(corners):
        start = corner - before[index] * toward[index - 1]
        end = corner + after[index] * toward[index]
        middles.append(sum(map(len, pieces)) + _BOW // 2)
        pieces.append((1 - turn) ** 2 * start + 2 * turn * (1 - turn) * corner + turn**2 * end)
        segments.append(np.linspace(index - 0.3, index + 0.3, _BOW))
        straight = lengths[index] - after[index] - before[(index + 1) % len(corners)]
        coarse = 3 if index == len(corners) - 1 else 1  # the floor, which is not seen
        count = max(int(straight / step / coarse), 1)
        share = np.arange(1, count)[:, None] / count
        pieces.append(end + share * straight * toward[index])
        segments.append(index + 0.3 + 0.4 * share[:, 0])
    outline = np.concatenate([*pieces, pieces[0][:1]])
    ways = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(outline, axis=0), axis=1))])
    return outline, np.append(np.concatenate(segments), len(corners) - 0.3), ways[middles]
