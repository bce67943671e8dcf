"""From an identity to geometry: coloured quadrilaterals, solids and the 36 keypoints in 3-D.

A model is a set of convex parts whose bounding boxes do not overlap, so that painting them from
the farthest to the nearest, each with the faces that look at the camera, is exact without a depth
buffer. Decals (windows, lamps, stickers) are faces of their part, painted after what they lie on.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ..keypoints import NUM_KEYPOINTS
from .shell import Shell, box, disc, grid, mirrored, open_box, sectors
from .vehicle import RGB, Sticker, Vehicle

_BLACK: RGB = (0.03, 0.03, 0.035)
_RUBBER: RGB = (0.06, 0.06, 0.065)
_PLASTIC: RGB = (0.10, 0.10, 0.11)
_SEAM: RGB = (0.04, 0.04, 0.05)
_CHROME: RGB = (0.78, 0.79, 0.80)
_PAINT_GLOSS = 0.42

# Where the pillars stand between the first and the last side window, as shares of the way back.
_PILLARS = {
    "sedan": (0, 0.50, 1),
    "suv": (0, 0.40, 0.74, 1),
    "van": (0, 0.24, 0.60, 1),
    "hatchback": (0, 0.58, 1),
    "mpv": (0, 0.20, 0.48, 0.76, 1),
    "pickup": (0, 0.55, 1),
    "bus": (0, 0.10, 0.26, 0.42, 0.58, 0.74, 0.90, 1),
    "truck": (0, 1),
    "estate": (0, 0.38, 0.68, 1),
}
# Corners of the lower shell's profile, and of the cabin's.
_FRONT_LOW, _FRONT_MID, _NOSE, _SCREEN_FOOT, _BACK_FOOT, _TAIL, _REAR_MID, _REAR_LOW = range(8)
_CABIN_SCREEN, _CABIN_ROOF, _CABIN_BACK = range(3)


@dataclass(frozen=True, eq=False)
class Part:
    """A convex piece of a vehicle.

    Attributes:
        quads: float64 ``[F, 4, 3]``, in painting order.
        normals: ``[F, 3]``, outward.
        colors: ``[F, 3]``, R, G, B in 0..1.
        gloss: ``[F]``, the share of mirrored light at right angles.
        low, high: ``[3]``, the bounding box.
        planes: ``[P, 4]`` outward normal and offset of each face of the solid; none if it is thin.
    """

    quads: np.ndarray
    normals: np.ndarray
    colors: np.ndarray
    gloss: np.ndarray
    low: np.ndarray
    high: np.ndarray
    planes: np.ndarray


@dataclass(frozen=True, eq=False)
class Model:
    """A vehicle in its own frame: x forward, y left, z up, origin on the ground below its middle.

    Attributes:
        parts: the pieces.
        keypoints: ``[36, 3]`` in metres, in the order of the labels.
    """

    parts: tuple[Part, ...]
    keypoints: np.ndarray


def build_model(vehicle: Vehicle) -> Model:
    """Build a vehicle's geometry."""
    frame = _Frame(vehicle)
    parts = [_lower(frame), _cabin(frame), *_mirrors(frame), *_roof_parts(frame)]
    if vehicle.type_name == "truck":
        parts += _load(frame)
    if vehicle.spoiler:
        parts.append(_spoiler(frame))
    left = _left_keypoints(frame)
    keypoints = np.concatenate([left, mirrored(left)])
    assert keypoints.shape == (NUM_KEYPOINTS, 3)
    return Model(tuple(parts), keypoints)


class _Frame:
    """The two shells of a vehicle and the measures that its details refer to."""

    def __init__(self, vehicle: Vehicle) -> None:
        body = vehicle.body
        self.vehicle, self.body = vehicle, body
        self.boxy = vehicle.type_name in ("bus", "truck", "van")
        self.front = body.length / 2
        self.rear = -body.length / 2
        self.is_truck = vehicle.type_name == "truck"
        self.cab_rear = self.front - 0.28 * body.length if self.is_truck else self.rear
        self.nose = min(body.nose, body.belt - 0.06)
        self.tail = min(body.tail, body.belt - 0.03)
        self.axles = (self.front - body.front_axle, self.rear + body.rear_axle)
        self.lower = self._lower_shell()
        self.cabin = self._cabin_shell()

    def waist(self, x: np.ndarray, z: np.ndarray) -> np.ndarray:
        body = self.body
        taper = 0.04 if self.boxy else 0.13
        reach = 0.35 if self.boxy else 1.0
        ends = np.maximum(x - (self.front - reach), self.cab_rear + reach - x) / reach
        middle = body.sill + 0.62 * (body.belt - body.sill)
        height = np.where(z > middle, (z - middle) / (body.belt - middle), 0)
        depth = np.where(z < middle, (middle - z) / (middle - body.sill), 0)
        tuck = 0.3 if self.boxy else 1.0
        return body.width / 2 * (1 - taper * np.clip(ends, 0, 1) ** 2) - tuck * (
            0.05 * height**2 + 0.07 * depth**2
        )

    def greenhouse(self, x: np.ndarray, z: np.ndarray) -> np.ndarray:
        body = self.body
        share = np.clip((z - body.belt) / (body.height - body.belt), 0, 1.2)
        shelf = 0.005 if self.boxy else 0.03
        return self.waist(x, np.asarray(body.belt)) - shelf - body.tumble * share**1.25

    def _lower_shell(self) -> Shell:
        body, front, rear = self.body, self.front, self.cab_rear
        lean = min(0.04, body.boot / 2)
        slope = 0.03 if self.boxy else 0.10
        profile = [
            (front - 0.07, body.sill),
            (front, body.sill + 0.45 * (self.nose - body.sill)),
            (front - slope, self.nose),
            (front - max(body.hood, slope + 0.03), body.belt),
            (rear + max(body.boot, 0.03), body.belt),
            (rear + lean, self.tail),
            (rear, body.sill + 0.45 * (self.tail - body.sill)),
            (rear + 0.06, body.sill),
        ]
        swell = 0.4 if self.boxy else 1.0
        bulge = [(0.10, 0), (0.12, 0), (0.11, 0.02), (0.10, 0)]
        bulge += [(-0.05, 0), (-0.07, 0.0), (-0.08, 0), (-0.06, 0)]
        radius = [0.08, 0.1, 0.14, 0, 0, 0.06, 0.1, 0.08]
        return Shell(np.array(profile), swell * np.array(bulge), np.array(radius), self.waist, 0.07)

    def _cabin_shell(self) -> Shell:
        body, front, rear = self.body, self.front, self.cab_rear
        slope = 0.06 if self.boxy else 0.13
        profile = [
            (front - max(body.hood, slope), body.belt),
            (front - max(body.hood, slope) - body.screen, body.height),
            (rear + max(body.boot, 0.03) + body.back, body.height),
            (rear + max(body.boot, 0.03), body.belt),
        ]
        bulge = np.array([(0.13, 0), (0.05, 0.04), (-0.04, 0.04), (-0.08, 0)])
        round_roof = 0.12 if self.boxy else 0.42
        radius = np.array([0, round_roof, round_roof * 0.8, 0])
        swell = 0.4 if self.boxy else 1.0
        return Shell(np.array(profile), swell * bulge, radius, self.greenhouse, 0.07)

    def pillar(self, share: float, height: np.ndarray) -> np.ndarray:
        """x of the way from the windscreen (0) to the rear window (1) at a share of the height."""
        (x15, _), (x14, _), (x13, _), (x12, _) = self.cabin.profile
        margin = 0.07 if self.boxy else 0.13
        first = x15 + (x14 - x15) * height - margin
        last = x12 + (x13 - x12) * height + margin
        return first + (last - first) * share


class _PartBuilder:
    """Collects faces in painting order and turns their normals outward."""

    def __init__(self, skin: np.ndarray) -> None:
        self._center = skin.reshape(-1, 3).mean(axis=0)
        self._skin = skin
        self._pieces: list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]] = []

    def add(
        self,
        quads: np.ndarray,
        color: RGB | np.ndarray,
        gloss: float = 0.05,
        *,
        around: np.ndarray | None = None,
        inward: bool = False,
    ) -> None:
        """Add faces that look away from ``around`` (default: the part's middle), or towards it."""
        quads = np.asarray(quads, float)
        center = self._center if around is None else around
        normals = face_normals(quads)
        outward = ((quads.mean(axis=1) - center) * normals).sum(axis=1) > 0
        normals[outward == inward] *= -1
        colors = np.broadcast_to(np.asarray(color, float), (len(quads), 3))
        self._pieces.append((quads, normals, colors, np.full(len(quads), gloss)))

    def build(self) -> Part:
        quads, normals, colors, gloss = map(np.concatenate, zip(*self._pieces, strict=True))
        solid = face_normals(self._skin)
        middles = self._skin.mean(axis=1)
        solid *= np.sign(((middles - self._center) * solid).sum(axis=1))[:, None]
        planes = np.concatenate([solid, (solid * middles).sum(axis=1)[:, None]], axis=1)
        points = self._skin.reshape(-1, 3)
        return Part(quads, normals, colors, gloss, points.min(axis=0), points.max(axis=0), planes)


def face_normals(quads: np.ndarray) -> np.ndarray:
    """Unit normals by the diagonals; zero for a face without area: ``[F, 3]``."""
    normals = np.cross(quads[:, 2] - quads[:, 0], quads[:, 3] - quads[:, 1])
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)


def _left_keypoints(frame: _Frame) -> np.ndarray:
    body, lower, cabin = frame.body, frame.lower, frame.cabin
    points = np.zeros((NUM_KEYPOINTS // 2, 3))
    front, rear = frame.axles
    points[0] = _wheel_center(frame, rear)
    points[1] = _wheel_center(frame, front)
    angles = np.radians([8, 55, 125, 172])
    for first, axle in ((2, front), (6, rear)):
        radius = _arch_radius(frame)
        x, z = axle + radius * np.cos(angles), body.wheel + radius * np.sin(angles)
        points[first : first + 4] = _on_flank(frame, x, np.maximum(z, body.sill))
    points[10:12] = lower.corner(_REAR_LOW), lower.corner(_TAIL)
    points[12:16] = [cabin.corner(index) for index in (3, 2, 1, 0)]
    points[16:18] = lower.corner(_NOSE), lower.corner(_FRONT_LOW)
    if frame.is_truck:
        low, high = _load_box(frame)
        base_low, _ = _chassis_box(frame)
        half = body.width / 2
        points[10] = base_low[0], half, base_low[2]
        points[11] = low[0], half, low[2]
        points[12] = low[0], half, (low[2] + high[2]) / 2
        points[13] = low[0], half, high[2]
    return points


def _on_flank(frame: _Frame, x: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Points on the side in which the wheels stand; a truck's rear ones stand in the chassis."""
    points = frame.lower.on_side(x, z)
    if frame.is_truck:
        points[..., 1] = np.where(x < frame.cab_rear, frame.body.width / 2, points[..., 1])
    return points


def _wheel_center(frame: _Frame, axle: float) -> np.ndarray:
    center = _on_flank(frame, np.asarray(axle), np.asarray(frame.body.wheel))
    return center + np.array([0, 0.015, 0])


def _arch_radius(frame: _Frame) -> float:
    return frame.body.wheel * 1.16


# -- the lower body ----------------------------------------------------------------------------


def _lower(frame: _Frame) -> Part:
    vehicle, shell = frame.vehicle, frame.lower
    skin = shell.faces()
    part = _PartBuilder(skin)
    axles = frame.axles[:1] if frame.is_truck else frame.axles
    for axle in axles:
        _add_tread(part, frame, axle)
    if vehicle.type_name == "pickup":
        _add_bed(part, frame)
        skin_shown = skin[~_inside_bed(frame, skin)]
    else:
        skin_shown = skin
    part.add(skin_shown, vehicle.paint, _PAINT_GLOSS)
    _add_two_tone(part, frame)
    _add_flank_details(part, frame)
    _add_face_details(part, frame)
    _add_tail_details(part, frame)
    for sticker in vehicle.stickers:
        _add_sticker(part, frame, sticker, gloss=0.2)
    for dent in vehicle.dents:
        _add_sticker(part, frame, dent, gloss=0.0)
    for axle in axles:
        _add_wheel(part, frame, axle)
    return part.build()


def _add_tread(part: _PartBuilder, frame: _Frame, axle: float) -> None:
    """The tyre's running surface and inner face, which the body covers in part."""
    outer = _wheel_center(frame, axle)
    radius = frame.body.wheel
    inner = outer - [0, 0.24 + 0.1 * frame.boxy, 0]
    angles = np.linspace(0, 2 * np.pi, 21)
    ring = radius * np.stack([np.cos(angles), np.zeros_like(angles), np.sin(angles)], axis=1)
    tread = grid(np.stack([inner + ring, outer + ring]))
    middle = (inner + outer) / 2
    part.add(disc(inner, radius), _BLACK, around=middle)
    part.add(tread, _RUBBER, around=middle)
    part.add(mirrored(disc(inner, radius)), _BLACK, around=middle * [1, -1, 1])
    part.add(mirrored(tread), _RUBBER, around=middle * [1, -1, 1])


def _add_wheel(part: _PartBuilder, frame: _Frame, axle: float) -> None:
    """Arch and outer face of a wheel, on both sides."""
    wheel, body = frame.vehicle.wheel, frame.body
    center = _wheel_center(frame, axle)
    radius = body.wheel
    low = np.arcsin(np.clip((body.sill - radius) / _arch_radius(frame), -1, 1))
    around = np.linspace(low, np.pi - low, 17)

    def both(quads: np.ndarray, color: RGB, gloss: float = 0.02) -> None:
        part.add(quads, color, gloss)
        part.add(mirrored(quads), color, gloss)

    if frame.vehicle.type_name in ("suv", "pickup"):
        both(sectors(center, 0, _arch_radius(frame) * 1.14, around), _PLASTIC)
    both(sectors(center, 0, _arch_radius(frame), around), _BLACK)
    both(disc(center, radius), _RUBBER)
    rim = radius * wheel.rim_share
    both(disc(center, rim), tuple(0.55 * value for value in wheel.color), 0.1)
    both(disc(center, rim * 0.9), _BLACK)
    gap = 2 * np.pi / wheel.spokes
    half = gap * wheel.spoke_share / 2
    for spoke in range(wheel.spokes):
        angles = spoke * gap + np.linspace(-half, half, 3)
        both(sectors(center, 0.1 * rim, 0.95 * rim, angles), wheel.color, 0.25)
    both(disc(center, rim * 0.24, slices=10), wheel.color, 0.3)


def _add_two_tone(part: _PartBuilder, frame: _Frame) -> None:
    vehicle, body, shell = frame.vehicle, frame.body, frame.lower
    if vehicle.two_tone == "bonnet":
        part.add(_on_strip(shell, _NOSE, (-0.85, 0.85), (0.1, 0.95)), vehicle.second, _PAINT_GLOSS)
    if vehicle.two_tone == "skirt":
        top = body.sill + 0.36 * (body.belt - body.sill)
        _add_band(part, frame, body.sill + 0.02, top, vehicle.second, _PAINT_GLOSS)
        part.add(_on_strip(shell, _FRONT_LOW, (-1, 1), (0.1, 0.9)), vehicle.second, 0.2)
        part.add(_on_strip(shell, _REAR_MID, (-1, 1), (0.1, 0.9)), vehicle.second, 0.2)


def _add_band(
    part: _PartBuilder, frame: _Frame, low: float, high: float, color: RGB, gloss: float
) -> None:
    """A horizontal band along both sides."""
    x = np.linspace(frame.cab_rear + 0.12, frame.front - 0.16, 17)
    z = np.linspace(low, high, 3)[:, None]
    band = grid(frame.lower.on_side(x[None], z))
    part.add(band, color, gloss)
    part.add(mirrored(band), color, gloss)


def _add_flank_details(part: _PartBuilder, frame: _Frame) -> None:
    """Sill, seams of the doors, handles, lamps where they reach round the corner."""
    vehicle, body, shell = frame.vehicle, frame.body, frame.lower
    kind = vehicle.type_name
    sill_top = body.sill + (0.17 if kind in ("suv", "pickup") else 0.07)
    _add_band(part, frame, body.sill, sill_top, _PLASTIC, 0.05)
    height = body.belt - body.sill

    def both(quads: np.ndarray, color: RGB, gloss: float = 0.05) -> None:
        part.add(quads, color, gloss)
        part.add(mirrored(quads), color, gloss)

    doors = [share for share in _PILLARS[kind] if kind != "bus"][: 4 if kind != "van" else 3]
    for share in doors:
        x = frame.pillar(share, 0.0) + 0.02
        both(_side_patch(shell, (x, x - 0.022), (sill_top, body.belt - 0.01)), _SEAM)
    for share in doors[1:3]:
        x = frame.pillar(share, 0.0) + 0.1
        z = body.belt - 0.2 * height
        handle = vehicle.trim if vehicle.window_frames else tuple(0.6 * v for v in vehicle.paint)
        both(_side_patch(shell, (x, x + 0.18), (z, z + 0.035)), handle, 0.3)
    lamp = vehicle.lamps[0]
    nose, tail = frame.nose, frame.tail
    edge = shell.profile[_NOSE, 0]
    both(
        _side_patch(shell, (edge - 0.03, edge - 0.1 - lamp), (nose - 0.14, nose - 0.05)),
        (0.85, 0.86, 0.88),
        0.6,
    )
    if frame.is_truck:
        return
    edge = shell.profile[_TAIL, 0]
    both(
        _side_patch(shell, (edge + 0.04, edge + 0.22), (tail - 0.22, tail - 0.06)),
        (0.62, 0.05, 0.05),
        0.3,
    )
    if kind == "bus":
        _add_bus_doors(part, frame)


def _add_bus_doors(part: _PartBuilder, frame: _Frame) -> None:
    """On the right: one door before the front axle, one in the middle."""
    body, shell = frame.body, frame.lower
    for x in (frame.front - 0.45, 0.6):
        for wing in (0, 0.55):
            door = _side_patch(shell, (x - wing, x - wing - 0.5), (body.sill + 0.1, body.belt))
            part.add(mirrored(door), (0.08, 0.09, 0.1), 0.5)
    part.add(_side_patch(shell, (2, -2.5), (body.sill + 0.2, body.sill + 0.24)), _SEAM)


def _add_face_details(part: _PartBuilder, frame: _Frame) -> None:
    """Bumper, grille, head lamps, plate and the seams of the bonnet."""
    vehicle, shell = frame.vehicle, frame.lower
    height, width, color = vehicle.grille
    lamp_height, lamp_width, _ = vehicle.lamps
    part.add(_on_strip(shell, _FRONT_LOW, (-0.97, 0.97), (0.02, 0.22)), _PLASTIC)
    part.add(_on_strip(shell, _FRONT_LOW, (-width, width), (0.35, 0.8)), _BLACK)
    for side in (-1, 1):
        part.add(_on_strip(shell, _FRONT_LOW, (side * 0.76, side * 0.9), (0.45, 0.7)), _CHROME, 0.5)
    low, high = 0.88 - 1.6 * height, 0.9
    part.add(_on_strip(shell, _FRONT_MID, (-width, width), (low, high)), _CHROME, 0.5)
    inner = width - 0.03
    part.add(_on_strip(shell, _FRONT_MID, (-inner, inner), (low + 0.05, high - 0.05)), color)
    for row in np.linspace(low + 0.1, high - 0.16, 3):
        part.add(_on_strip(shell, _FRONT_MID, (-inner, inner), (row, row + 0.05)), _CHROME, 0.3)
    part.add(_on_strip(shell, _FRONT_MID, (-0.13, 0.13), (0.02, 0.28)), vehicle.plate, 0.1)
    bottom = 0.86 - 2.0 * lamp_height
    for side in (-1, 1):
        outer, inside = side * 0.99, side * max(0.98 - lamp_width, width + 0.02)
        lamp = _on_strip(shell, _FRONT_MID, (outer, inside), (bottom, 0.86))
        part.add(lamp, (0.80, 0.82, 0.85), 0.7)
        middle = (outer + inside) / 2
        bulb = _on_strip(shell, _FRONT_MID, (middle - 0.05, middle + 0.05), (bottom + 0.1, 0.78))
        part.add(bulb, (0.97, 0.97, 0.92), 0.2)
    if frame.body.hood > 0.4:
        for side in (-1, 1):
            seam = _on_strip(shell, _NOSE, (side * 0.86, side * 0.84), (0.05, 1))
            part.add(seam, tuple(0.45 * value for value in vehicle.paint))
        part.add(_on_strip(shell, _NOSE, (-0.8, 0.8), (0.95, 1)), _BLACK)


def _add_tail_details(part: _PartBuilder, frame: _Frame) -> None:
    """Rear lamps, plate, bumper and the seam of the boot."""
    vehicle, shell = frame.vehicle, frame.lower
    if frame.is_truck:
        return
    lamp_height, lamp_width = vehicle.lamps[2], vehicle.lamps[1]
    part.add(_on_strip(shell, _REAR_MID, (-0.97, 0.97), (0.55, 0.97)), _PLASTIC)
    part.add(_on_strip(shell, _TAIL, (-0.9, 0.9), (0.9, 0.94)), _SEAM)
    for side in (-1, 1):
        across = (side * 0.98, side * (0.96 - lamp_width))
        bottom = 0.1 + lamp_height
        part.add(_on_strip(shell, _TAIL, across, (0.06, bottom)), (0.66, 0.04, 0.05), 0.4)
        clear = _on_strip(shell, _TAIL, across, (bottom - 0.12, bottom))
        part.add(clear, (0.85, 0.45, 0.35), 0.3)
    part.add(_on_strip(shell, _TAIL, (-0.17, 0.17), (0.35, 0.62)), vehicle.plate, 0.1)
    part.add(_on_strip(shell, _TAIL, (-0.3, 0.3), (0.22, 0.27)), _CHROME, 0.4)
    if vehicle.type_name in ("van", "bus"):
        part.add(_on_strip(shell, _TAIL, (-0.012, 0.012), (0, 1)), _SEAM)


def _bed(frame: _Frame) -> tuple[float, float, float, float]:
    """The pickup's load bed: rear and front x, half width, floor."""
    front = frame.lower.profile[_BACK_FOOT, 0] - 0.08
    half = frame.body.width / 2 - 0.17
    return frame.rear + 0.14, front, half, frame.body.sill + 0.3


def _inside_bed(frame: _Frame, quads: np.ndarray) -> np.ndarray:
    rear, front, half, _ = _bed(frame)
    x, y, z = quads.mean(axis=1).T
    return (x > rear) & (x < front) & (np.abs(y) < half) & (z > frame.tail - 0.08)


def _add_bed(part: _PartBuilder, frame: _Frame) -> None:
    rear, front, half, floor = _bed(frame)
    low, high = (rear, -half - 0.05, floor), (front, half + 0.05, frame.body.belt)
    part.add(
        open_box(np.array(low), np.array(high)),
        (0.13, 0.13, 0.14),
        around=(np.array(low) + np.array(high)) / 2,
        inward=True,
    )


def _add_sticker(part: _PartBuilder, frame: _Frame, sticker: Sticker, *, gloss: float) -> None:
    for quads in _sticker_quads(frame, sticker):
        part.add(quads, sticker.color, gloss)


def _sticker_quads(frame: _Frame, sticker: Sticker) -> list[np.ndarray]:
    shell, body = frame.lower, frame.body
    step = sticker.height / sticker.stripes
    if sticker.face in ("bonnet", "rear"):
        strip = _NOSE if sticker.face == "bonnet" and body.hood > 0.4 else _TAIL
        middle, half = 2 * sticker.u - 1, sticker.width / body.width
        return [
            _on_strip(
                shell,
                strip,
                np.clip((middle - half, middle + half), -0.95, 0.95),
                np.clip((v, v + 0.6 * step), 0.05, 0.95),
            )
            for v in sticker.v + step * np.arange(sticker.stripes)
        ]
    x = frame.cab_rear + 0.2 + sticker.u * (frame.front - frame.cab_rear - 0.4)
    z = body.sill + sticker.v * (body.belt - body.sill)
    end = min(x + sticker.width, frame.front - 0.2)
    stripes = []
    for row in range(sticker.stripes):
        bottom = min(z + row * step, body.belt - 0.03)
        patch = _side_patch(shell, (x, end), (bottom, min(bottom + 0.6 * step, body.belt - 0.02)))
        stripes += [patch] if sticker.face in ("left", "both") else []
        stripes += [mirrored(patch)] if sticker.face in ("right", "both") else []
    return stripes


# -- cabin, mirrors, roof, load ------------------------------------------------------------------


def _cabin(frame: _Frame) -> Part:
    vehicle, shell = frame.vehicle, frame.cabin
    skin = shell.faces()
    part = _PartBuilder(skin)
    part.add(skin, vehicle.paint, _PAINT_GLOSS)
    if vehicle.two_tone == "roof":
        part.add(_on_strip(shell, _CABIN_ROOF, (-1, 1), (0, 1)), vehicle.second, _PAINT_GLOSS)
    if vehicle.sunroof:
        part.add(_on_strip(shell, _CABIN_ROOF, (-0.6, 0.6), (0.1, 0.45)), _BLACK, 0.6)
    _add_windows(part, frame)
    return part.build()


def _add_windows(part: _PartBuilder, frame: _Frame) -> None:
    vehicle, shell, kind = frame.vehicle, frame.cabin, frame.vehicle.type_name
    tint = vehicle.glass
    glass = (tint, tint * 1.08, tint * 1.15)
    part.add(_on_strip(shell, _CABIN_SCREEN, (-0.95, 0.95), (0.04, 0.93)), _BLACK, 0.4)
    part.add(_on_strip(shell, _CABIN_SCREEN, (-0.91, 0.91), (0.07, 0.9)), glass, 0.75)
    closed = vehicle.cargo == "closed" or frame.is_truck
    if not closed:
        foot = 0.45 if kind == "van" else 0.9
        part.add(_on_strip(shell, _CABIN_BACK, (-0.88, 0.88), (0.1, foot)), _BLACK, 0.4)
        part.add(_on_strip(shell, _CABIN_BACK, (-0.84, 0.84), (0.13, foot - 0.03)), glass, 0.7)
    if kind == "van":
        part.add(_on_strip(shell, _CABIN_BACK, (-0.012, 0.012), (0, 1)), _SEAM)
    if kind == "bus":
        part.add(_on_strip(shell, _CABIN_SCREEN, (-0.7, 0.7), (0.82, 0.96)), _BLACK, 0.1)
        part.add(_on_strip(shell, _CABIN_SCREEN, (-0.4, 0.3), (0.86, 0.92)), (0.95, 0.6, 0.1), 0)
    for first, last in _window_spans(vehicle):
        frame_color = _CHROME if vehicle.window_frames else _BLACK
        for margin, color, gloss in ((0.0, frame_color, 0.3), (0.025, glass, 0.75)):
            window = _window(frame, first, last, margin)
            part.add(window, color, gloss)
            part.add(mirrored(window), color, gloss)


def _window_spans(vehicle: Vehicle) -> list[tuple[float, float]]:
    pillars = _PILLARS[vehicle.type_name]
    spans = list(pairwise(pillars))
    return spans[:1] if vehicle.cargo == "closed" else spans


def _window(frame: _Frame, first: float, last: float, margin: float) -> np.ndarray:
    body = frame.body
    tall = body.height - body.belt
    top = 0.72 if frame.vehicle.type_name in ("bus", "van") else 0.84
    share = np.linspace(0.06 + margin / tall, top - margin / tall, 5)[:, None]
    gap = 0.03 + margin
    start, end = frame.pillar(first, share) - gap, frame.pillar(last, share) + gap
    x = start + (end - start) * np.linspace(0, 1, 5)[None]
    return grid(frame.cabin.on_side(x, body.belt + share * tall))


def _mirrors(frame: _Frame) -> list[Part]:
    vehicle, body = frame.vehicle, frame.body
    x = frame.pillar(0, np.asarray(0.05)) + (0.15 if frame.boxy else -0.05)
    half = body.width / 2
    tall = 0.45 if vehicle.type_name in ("bus", "truck") else 0.15
    low = np.array([x - 0.05, half - (0.02 if frame.boxy else 0.075), body.belt + 0.03])
    high = np.array([x + 0.07, half + 0.14, body.belt + 0.03 + tall])
    color = vehicle.trim
    return [
        _block(low, high, color, 0.3),
        _block(low * [1, 0, 1] - high * [0, 1, 0], high * [1, 0, 1] - low * [0, 1, 0], color, 0.3),
    ]


def _roof_parts(frame: _Frame) -> list[Part]:
    vehicle, body, roof = frame.vehicle, frame.body, frame.cabin.profile
    top = body.height + 0.03
    front, rear = roof[1, 0] - 0.2, roof[2, 0] + 0.2
    half = body.width / 2 - body.tumble
    middle = (front + rear) / 2
    parts = []
    if vehicle.type_name == "bus":
        low, high = (-1.2, -0.7, top), (1.4, 0.7, top + 0.22)
        parts.append(_block(np.array(low), np.array(high), (0.8, 0.8, 0.8), 0.1))
    elif vehicle.roof == "rails":
        for side in (-1, 1):
            y = side * (half - 0.12)
            low, high = (rear, y - 0.025, top), (front, y + 0.025, top + 0.04)
            parts.append(_block(np.array(low), np.array(high), vehicle.trim, 0.3))
    elif vehicle.roof == "box":
        low, high = (rear, -0.45, top), (min(front, rear + 1.7), 0.35, top + 0.32)
        parts.append(_block(np.array(low), np.array(high), (0.12, 0.12, 0.13), 0.3))
    elif vehicle.roof == "sign":
        low, high = (middle - 0.12, -0.3, top), (middle + 0.12, 0.3, top + 0.18)
        parts.append(_block(np.array(low), np.array(high), (0.95, 0.9, 0.55), 0.1))
    elif vehicle.roof == "beacon":
        for y, color in ((-0.3, (0.9, 0.5, 0.05)), (0.3, (0.1, 0.25, 0.9))):
            low, high = (front - 0.3, y - 0.15, top), (front - 0.1, y + 0.15, top + 0.12)
            parts.append(_block(np.array(low), np.array(high), color, 0.4))
    return parts


def _spoiler(frame: _Frame) -> Part:
    body, roof = frame.body, frame.cabin.profile
    half = body.width / 2 - body.tumble - 0.1
    if frame.vehicle.type_name == "sedan":
        low = np.array([frame.rear + 0.08, -half - 0.08, body.belt + 0.06])
        high = np.array([frame.rear + 0.3, half + 0.08, body.belt + 0.11])
    else:
        low = np.array([roof[2, 0] - 0.2, -half, body.height + 0.03])
        high = np.array([roof[2, 0] + 0.15, half, body.height + 0.07])
    return _block(low, high, frame.vehicle.paint, 0.3)


def _load_box(frame: _Frame) -> tuple[np.ndarray, np.ndarray]:
    """A truck's load space."""
    body = frame.body
    half = body.width / 2
    floor = _chassis_box(frame)[1][2] + 0.01
    top = {"box": 1.22, "tarp": 1.12, "flat": 0.0}[frame.vehicle.cargo] * body.height
    low = np.array([frame.rear, -half, floor])
    return low, np.array([frame.cab_rear - 0.15, half, max(top, floor + 0.55)])


def _chassis_box(frame: _Frame) -> tuple[np.ndarray, np.ndarray]:
    body = frame.body
    half = body.width / 2
    low = np.array([frame.rear, -half, body.sill])
    return low, np.array([frame.cab_rear - 0.12, half, body.sill + 0.5])


def _load(frame: _Frame) -> list[Part]:
    """A truck's chassis with the rear wheels, and what stands on it."""
    base = _PartBuilder(box(*_chassis_box(frame)))
    _add_tread(base, frame, frame.axles[1])
    base.add(_panels(*_chassis_box(frame)), (0.16, 0.16, 0.17))
    low, high = _chassis_box(frame)
    for side in (-1, 1):
        y = sorted((side * 0.55 * high[1], side * 0.9 * high[1]))
        lamp = _rear_panel(low[0], y, (low[2] + 0.25, high[2] - 0.08))
        base.add(lamp, (0.66, 0.04, 0.05), 0.3)
    base.add(_rear_panel(low[0], (-0.25, 0.25), (low[2] + 0.1, low[2] + 0.25)), frame.vehicle.plate)
    _add_wheel(base, frame, frame.axles[1])
    return [base.build(), _cargo(frame)]


def _cargo(frame: _Frame) -> Part:
    vehicle = frame.vehicle
    low, high = _load_box(frame)
    part = _PartBuilder(box(low, high))
    panels = _panels(low, high)
    if vehicle.cargo == "flat":
        top = panels[:, :, 2].min(axis=1) > high[2] - 1e-6
        inner = open_box(low + np.array([0.08, 0.08, 0.1]), high - np.array([0.08, 0.08, 0]))
        part.add(inner, (0.3, 0.26, 0.2), around=(low + high) / 2, inward=True)
        panels = panels[~top]
    part.add(panels, vehicle.cargo_paint, 0.12)
    ribs = np.linspace(low[0] + 0.05, high[0] - 0.1, 7 if vehicle.cargo != "box" else 2)
    rib_color = tuple(0.7 * value for value in vehicle.cargo_paint)
    for x in ribs:
        for side in (-1, 1):
            y = side * high[1]
            corners = [
                (x, y, low[2]),
                (x + 0.05, y, low[2]),
                (x + 0.05, y, high[2]),
                (x, y, high[2]),
            ]
            part.add(np.array([corners]), rib_color)
    part.add(_rear_panel(low[0], (-0.02, 0.02), (low[2], high[2])), _SEAM)
    for side in (-0.55, 0.55):
        y = side * high[1]
        part.add(_rear_panel(low[0], (y - 0.02, y + 0.02), (low[2], high[2])), _CHROME, 0.3)
    return part.build()


def _panels(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """A box in panels of about half a metre."""
    panels = []
    for corner in box(low, high):
        a, b, c, d = corner
        rows = np.linspace(0, 1, 2 + int(np.linalg.norm(d - a) / 0.5))[:, None, None]
        columns = np.linspace(0, 1, 2 + int(np.linalg.norm(b - a) / 0.5))[None, :, None]
        top, bottom = a + (b - a) * columns, d + (c - d) * columns
        panels.append(grid(top + (bottom - top) * rows))
    return np.concatenate(panels)


def _rear_panel(x: float, y: tuple[float, float], z: tuple[float, float]) -> np.ndarray:
    return np.array([[(x, y[0], z[0]), (x, y[1], z[0]), (x, y[1], z[1]), (x, y[0], z[1])]])


def _block(low: np.ndarray, high: np.ndarray, color: RGB, gloss: float) -> Part:
    part = _PartBuilder(box(low, high))
    part.add(box(low, high), color, gloss)
    return part.build()


def _side_patch(shell: Shell, x: tuple[float, float], z: tuple[float, float]) -> np.ndarray:
    """A patch on the left wall between two x and two z."""
    columns = 2 + int(abs(x[1] - x[0]) / 0.25)
    across = np.linspace(x[0], x[1], columns)[None]
    return grid(shell.on_side(across, np.linspace(z[0], z[1], 4)[:, None]))


def _on_strip(
    shell: Shell, index: int, across: tuple[float, float], along: tuple[float, float]
) -> np.ndarray:
    """A patch on a strip of the crown, fine enough to follow its curve."""
    columns = 2 + int(abs(across[1] - across[0]) / 0.2)
    rows = np.linspace(along[0], along[1], 5)[:, None]
    return grid(shell.on_strip(index, np.linspace(across[0], across[1], columns)[None], rows))
