"""The lower body: paint, face, tail, flanks, a pickup's bed, stickers and dents."""

from __future__ import annotations

import numpy as np

from .frame import BACK_FOOT, FRONT_LOW, FRONT_MID, NOSE, PILLARS, REAR_MID, TAIL, Frame
from .part import BLACK, CHROME, PAINT_GLOSS, PLASTIC, SEAM, Part, PartBuilder
from .shell import grid, mirrored, open_box
from .vehicle import RGB, Sticker
from .wheels import add_tread, add_wheel


def build_lower(frame: Frame) -> Part:
    vehicle, shell = frame.vehicle, frame.lower
    skin = shell.faces()
    part = PartBuilder(skin)
    axles = frame.axles[:1] if frame.is_truck else frame.axles
    for axle in axles:
        add_tread(part, frame, axle)
    if vehicle.type_name == "pickup":
        _add_bed(part, frame)
        skin_shown = skin[~_inside_bed(frame, skin)]
    else:
        skin_shown = skin
    part.add(skin_shown, vehicle.paint, PAINT_GLOSS)
    _add_two_tone(part, frame)
    _add_flank_details(part, frame)
    _add_face_details(part, frame)
    _add_tail_details(part, frame)
    for sticker in vehicle.stickers:
        _add_sticker(part, frame, sticker, gloss=0.2)
    for dent in vehicle.dents:
        _add_sticker(part, frame, dent, gloss=0.0)
    for axle in axles:
        add_wheel(part, frame, axle)
    return part.build()


def _add_two_tone(part: PartBuilder, frame: Frame) -> None:
    vehicle, body, shell = frame.vehicle, frame.body, frame.lower
    if vehicle.two_tone == "bonnet":
        part.add(shell.strip_patch(NOSE, (-0.85, 0.85), (0.1, 0.95)), vehicle.second, PAINT_GLOSS)
    if vehicle.two_tone == "skirt":
        top = body.sill + 0.36 * (body.belt - body.sill)
        _add_band(part, frame, body.sill + 0.02, top, vehicle.second, PAINT_GLOSS)
        part.add(shell.strip_patch(FRONT_LOW, (-1, 1), (0.1, 0.9)), vehicle.second, 0.2)
        part.add(shell.strip_patch(REAR_MID, (-1, 1), (0.1, 0.9)), vehicle.second, 0.2)


def _add_band(
    part: PartBuilder, frame: Frame, low: float, high: float, color: RGB, gloss: float
) -> None:
    """A horizontal band along both sides."""
    x = np.linspace(frame.cab_rear + 0.12, frame.front - 0.16, 17)
    z = np.linspace(low, high, 3)[:, None]
    band = grid(frame.lower.on_side(x[None], z))
    part.add_both(band, color, gloss)


def _add_flank_details(part: PartBuilder, frame: Frame) -> None:
    """Sill, seams of the doors, handles, lamps where they reach round the corner."""
    vehicle, body, shell = frame.vehicle, frame.body, frame.lower
    kind = vehicle.type_name
    sill_top = body.sill + (0.17 if kind in ("suv", "pickup") else 0.07)
    _add_band(part, frame, body.sill, sill_top, PLASTIC, 0.05)
    height = body.belt - body.sill

    doors = [share for share in PILLARS[kind] if kind != "bus"][: 4 if kind != "van" else 3]
    for share in doors:
        x = frame.pillar(share, 0.0) + 0.02
        part.add_both(shell.side_patch((x, x - 0.022), (sill_top, body.belt - 0.01)), SEAM)
    for share in doors[1:3]:
        x = frame.pillar(share, 0.0) + 0.1
        z = body.belt - 0.2 * height
        handle = vehicle.trim if vehicle.window_frames else tuple(0.6 * v for v in vehicle.paint)
        part.add_both(shell.side_patch((x, x + 0.18), (z, z + 0.035)), handle, 0.3)
    lamp = vehicle.lamps[0]
    nose, tail = frame.nose, frame.tail
    edge = shell.profile[NOSE, 0]
    part.add_both(
        shell.side_patch((edge - 0.03, edge - 0.1 - lamp), (nose - 0.14, nose - 0.05)),
        (0.85, 0.86, 0.88),
        0.6,
    )
    if frame.is_truck:
        return
    edge = shell.profile[TAIL, 0]
    part.add_both(
        shell.side_patch((edge + 0.04, edge + 0.22), (tail - 0.22, tail - 0.06)),
        (0.62, 0.05, 0.05),
        0.3,
    )
    if kind == "bus":
        _add_bus_doors(part, frame)


def _add_bus_doors(part: PartBuilder, frame: Frame) -> None:
    """On the right: one door before the front axle, one in the middle."""
    body, shell = frame.body, frame.lower
    for x in (frame.front - 0.45, 0.6):
        for wing in (0, 0.55):
            door = shell.side_patch((x - wing, x - wing - 0.5), (body.sill + 0.1, body.belt))
            part.add(mirrored(door), (0.08, 0.09, 0.1), 0.5)
    part.add(shell.side_patch((2, -2.5), (body.sill + 0.2, body.sill + 0.24)), SEAM)


def _add_face_details(part: PartBuilder, frame: Frame) -> None:
    """Bumper, grille, head lamps, plate and the seams of the bonnet."""
    vehicle, shell = frame.vehicle, frame.lower
    height, width, color = vehicle.grille
    lamp_height, lamp_width, _ = vehicle.lamps
    part.add(shell.strip_patch(FRONT_LOW, (-0.97, 0.97), (0.02, 0.22)), PLASTIC)
    part.add(shell.strip_patch(FRONT_LOW, (-width, width), (0.35, 0.8)), BLACK)
    for side in (-1, 1):
        part.add(shell.strip_patch(FRONT_LOW, (side * 0.76, side * 0.9), (0.45, 0.7)), CHROME, 0.5)
    low, high = 0.88 - 1.6 * height, 0.9
    part.add(shell.strip_patch(FRONT_MID, (-width, width), (low, high)), CHROME, 0.5)
    inner = width - 0.03
    part.add(shell.strip_patch(FRONT_MID, (-inner, inner), (low + 0.05, high - 0.05)), color)
    for row in np.linspace(low + 0.1, high - 0.16, 3):
        part.add(shell.strip_patch(FRONT_MID, (-inner, inner), (row, row + 0.05)), CHROME, 0.3)
    part.add(shell.strip_patch(FRONT_MID, (-0.13, 0.13), (0.02, 0.28)), vehicle.plate, 0.1)
    bottom = 0.86 - 2.0 * lamp_height
    for side in (-1, 1):
        outer, inside = side * 0.99, side * max(0.98 - lamp_width, width + 0.02)
        lamp = shell.strip_patch(FRONT_MID, (outer, inside), (bottom, 0.86))
        part.add(lamp, (0.80, 0.82, 0.85), 0.7)
        middle = (outer + inside) / 2
        bulb = shell.strip_patch(FRONT_MID, (middle - 0.05, middle + 0.05), (bottom + 0.1, 0.78))
        part.add(bulb, (0.97, 0.97, 0.92), 0.2)
    if frame.body.hood > 0.4:
        for side in (-1, 1):
            seam = shell.strip_patch(NOSE, (side * 0.86, side * 0.84), (0.05, 1))
            part.add(seam, tuple(0.45 * value for value in vehicle.paint))
        part.add(shell.strip_patch(NOSE, (-0.8, 0.8), (0.95, 1)), BLACK)


def _add_tail_details(part: PartBuilder, frame: Frame) -> None:
    """Rear lamps, plate, bumper and the seam of the boot."""
    vehicle, shell = frame.vehicle, frame.lower
    if frame.is_truck:
        return
    lamp_height, lamp_width = vehicle.lamps[2], vehicle.lamps[1]
    part.add(shell.strip_patch(REAR_MID, (-0.97, 0.97), (0.55, 0.97)), PLASTIC)
    part.add(shell.strip_patch(TAIL, (-0.9, 0.9), (0.9, 0.94)), SEAM)
    for side in (-1, 1):
        across = (side * 0.98, side * (0.96 - lamp_width))
        bottom = 0.1 + lamp_height
        part.add(shell.strip_patch(TAIL, across, (0.06, bottom)), (0.66, 0.04, 0.05), 0.4)
        clear = shell.strip_patch(TAIL, across, (bottom - 0.12, bottom))
        part.add(clear, (0.85, 0.45, 0.35), 0.3)
    part.add(shell.strip_patch(TAIL, (-0.17, 0.17), (0.35, 0.62)), vehicle.plate, 0.1)
    part.add(shell.strip_patch(TAIL, (-0.3, 0.3), (0.22, 0.27)), CHROME, 0.4)
    if vehicle.type_name in ("van", "bus"):
        part.add(shell.strip_patch(TAIL, (-0.012, 0.012), (0, 1)), SEAM)


def _bed(frame: Frame) -> tuple[float, float, float, float]:
    """The pickup's load bed: rear and front x, half width, floor."""
    front = frame.lower.profile[BACK_FOOT, 0] - 0.08
    half = frame.body.width / 2 - 0.17
    return frame.rear + 0.14, front, half, frame.body.sill + 0.3


def _inside_bed(frame: Frame, quads: np.ndarray) -> np.ndarray:
    rear, front, half, _ = _bed(frame)
    x, y, z = quads.mean(axis=1).T
    return (x > rear) & (x < front) & (np.abs(y) < half) & (z > frame.tail - 0.08)


def _add_bed(part: PartBuilder, frame: Frame) -> None:
    rear, front, half, floor = _bed(frame)
    low, high = (rear, -half - 0.05, floor), (front, half + 0.05, frame.body.belt)
    part.add(
        open_box(np.array(low), np.array(high)),
        (0.13, 0.13, 0.14),
        around=(np.array(low) + np.array(high)) / 2,
        inward=True,
    )


def _add_sticker(part: PartBuilder, frame: Frame, sticker: Sticker, *, gloss: float) -> None:
    for quads in _sticker_quads(frame, sticker):
        part.add(quads, sticker.color, gloss)


def _sticker_quads(frame: Frame, sticker: Sticker) -> list[np.ndarray]:
    shell, body = frame.lower, frame.body
    step = sticker.height / sticker.stripes
    if sticker.face in ("bonnet", "rear"):
        strip = NOSE if sticker.face == "bonnet" and body.hood > 0.4 else TAIL
        middle, half = 2 * sticker.u - 1, sticker.width / body.width
        return [
            shell.strip_patch(
                strip,
                np.clip((middle - half, middle + half), -0.95, 0.95).tolist(),
                np.clip((v, v + 0.6 * step), 0.05, 0.95).tolist(),
            )
            for v in sticker.v + step * np.arange(sticker.stripes)
        ]
    x = frame.cab_rear + 0.2 + sticker.u * (frame.front - frame.cab_rear - 0.4)
    z = body.sill + sticker.v * (body.belt - body.sill)
    end = min(x + sticker.width, frame.front - 0.2)
    stripes = []
    for row in range(sticker.stripes):
        bottom = min(z + row * step, body.belt - 0.03)
        patch = shell.side_patch((x, end), (bottom, min(bottom + 0.6 * step, body.belt - 0.02)))
        stripes += [patch] if sticker.face in ("left", "both") else []
        stripes += [mirrored(patch)] if sticker.face in ("right", "both") else []
    return stripes
