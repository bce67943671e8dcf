"""The cabin with its windows, and what is fixed to it: mirrors, rails, signs, spoiler."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from .frame import CABIN_BACK, CABIN_ROOF, CABIN_SCREEN, PILLARS, Frame
from .part import BLACK, CHROME, PAINT_GLOSS, SEAM, Part, PartBuilder, block
from .shell import grid
from .vehicle import Vehicle


def build_cabin(frame: Frame) -> Part:
    vehicle, shell = frame.vehicle, frame.cabin
    skin = shell.faces()
    part = PartBuilder(skin)
    part.add(skin, vehicle.paint, PAINT_GLOSS)
    if vehicle.two_tone == "roof":
        part.add(shell.strip_patch(CABIN_ROOF, (-1, 1), (0, 1)), vehicle.second, PAINT_GLOSS)
    if vehicle.sunroof:
        part.add(shell.strip_patch(CABIN_ROOF, (-0.6, 0.6), (0.1, 0.45)), BLACK, 0.6)
    _add_windows(part, frame)
    return part.build()


def _add_windows(part: PartBuilder, frame: Frame) -> None:
    vehicle, shell, kind = frame.vehicle, frame.cabin, frame.vehicle.type_name
    part.add(shell.strip_patch(CABIN_SCREEN, (-0.95, 0.95), (0.04, 0.93)), BLACK, 0.4)
    screen = shell.strip_patch(CABIN_SCREEN, (-0.91, 0.91), (0.07, 0.9))
    part.add(screen, _glass(screen, vehicle.glass), 0.75)
    closed = vehicle.cargo == "closed" or frame.is_truck
    if not closed:
        foot = 0.45 if kind == "van" else 0.9
        part.add(shell.strip_patch(CABIN_BACK, (-0.88, 0.88), (0.1, foot)), BLACK, 0.4)
        back = shell.strip_patch(CABIN_BACK, (-0.84, 0.84), (0.13, foot - 0.03))
        part.add(back, _glass(back, vehicle.glass), 0.7)
    if kind == "van":
        part.add(shell.strip_patch(CABIN_BACK, (-0.012, 0.012), (0, 1)), SEAM)
    if kind == "bus":
        part.add(shell.strip_patch(CABIN_SCREEN, (-0.7, 0.7), (0.82, 0.96)), BLACK, 0.1)
        part.add(shell.strip_patch(CABIN_SCREEN, (-0.4, 0.3), (0.86, 0.92)), (0.95, 0.6, 0.1), 0)
    if kind in ("suv", "van", "hatchback", "mpv", "estate") and vehicle.lamps[2] > 0.35:
        for side in (-1, 1):
            lamp = shell.strip_patch(CABIN_BACK, (side * 0.9, side * 0.99), (0.55, 0.97))
            part.add(lamp, (0.66, 0.04, 0.05), 0.4)
    border = CHROME if vehicle.window_frames else BLACK
    for first, last in _window_spans(vehicle):
        rim, pane = (_window(frame, first, last, margin) for margin in (0.0, 0.025))
        for quads, color, gloss in ((rim, border, 0.3), (pane, _glass(pane, vehicle.glass), 0.75)):
            part.add_both(quads, color, gloss)


def _glass(quads: np.ndarray, tint: float) -> np.ndarray:
    """Darker towards the seats, lighter towards the roof: ``[F, 3]``."""
    height = quads[:, :, 2].mean(axis=1, keepdims=True)
    share = (height - height.min()) / np.ptp(height)
    return (tint * (0.4 + share) + 0.10 * share**2) * np.array([1.0, 1.06, 1.12])


def _window_spans(vehicle: Vehicle) -> list[tuple[float, float]]:
    pillars = PILLARS[vehicle.type_name]
    spans = list(pairwise(pillars))
    return spans[:1] if vehicle.cargo == "closed" else spans


def _window(frame: Frame, first: float, last: float, margin: float) -> np.ndarray:
    body = frame.body
    tall = body.height - body.belt
    top = 0.72 if frame.vehicle.type_name in ("bus", "van") else 0.84
    share = np.linspace(0.06 + margin / tall, top - margin / tall, 9)[:, None]
    gap = 0.03 + margin
    start, end = frame.pillar(first, share) - gap, frame.pillar(last, share) + gap
    x = start + (end - start) * np.linspace(0, 1, 5)[None]
    return grid(frame.cabin.on_side(x, body.belt + share * tall))


def build_mirrors(frame: Frame) -> list[Part]:
    vehicle, body = frame.vehicle, frame.body
    x = frame.pillar(0, np.asarray(0.05)) + (0.15 if frame.boxy else -0.05)
    half = body.width / 2
    tall = 0.45 if vehicle.type_name in ("bus", "truck") else 0.15
    low = np.array([x - 0.05, half - (0.02 if frame.boxy else 0.075), body.belt + 0.03])
    high = np.array([x + 0.07, half + 0.14, body.belt + 0.03 + tall])
    color = vehicle.trim
    return [
        block(low, high, color, 0.3),
        block(low * [1, 0, 1] - high * [0, 1, 0], high * [1, 0, 1] - low * [0, 1, 0], color, 0.3),
    ]


def build_roof_parts(frame: Frame) -> list[Part]:
    vehicle, body, roof = frame.vehicle, frame.body, frame.cabin.profile
    top = body.height + 0.03
    front, rear = roof[1, 0] - 0.32, roof[2, 0] + 0.32
    half = body.width / 2 - body.tumble
    middle = (front + rear) / 2
    parts = []
    if vehicle.type_name == "bus":
        low, high = (-1.2, -0.7, top), (1.4, 0.7, top + 0.22)
        parts.append(block(np.array(low), np.array(high), (0.8, 0.8, 0.8), 0.1))
    elif vehicle.roof == "rails":
        for side in (-1, 1):
            y = side * (half - 0.12)
            low, high = (rear, y - 0.025, top), (front, y + 0.025, top + 0.04)
            parts.append(block(np.array(low), np.array(high), vehicle.trim, 0.3))
    elif vehicle.roof == "box":
        low, high = (rear, -0.45, top), (min(front, rear + 1.7), 0.35, top + 0.32)
        parts.append(block(np.array(low), np.array(high), (0.12, 0.12, 0.13), 0.3))
    elif vehicle.roof == "sign":
        low, high = (middle - 0.12, -0.3, top), (middle + 0.12, 0.3, top + 0.18)
        parts.append(block(np.array(low), np.array(high), (0.95, 0.9, 0.55), 0.1))
    elif vehicle.roof == "beacon":
        for y, color in ((-0.3, (0.9, 0.5, 0.05)), (0.3, (0.1, 0.25, 0.9))):
            low, high = (front - 0.3, y - 0.15, top), (front - 0.1, y + 0.15, top + 0.12)
            parts.append(block(np.array(low), np.array(high), color, 0.4))
    return parts


def build_spoiler(frame: Frame) -> Part:
    body, roof = frame.body, frame.cabin.profile
    half = body.width / 2 - body.tumble - 0.1
    if frame.vehicle.type_name == "sedan":
        low = np.array([frame.rear + 0.08, -half - 0.08, body.belt + 0.06])
        high = np.array([frame.rear + 0.3, half + 0.08, body.belt + 0.11])
    else:
        low = np.array([roof[2, 0] - 0.2, -half, body.height + 0.03])
        high = np.array([roof[2, 0] + 0.15, half, body.height + 0.07])
    return block(low, high, frame.vehicle.paint, 0.3)
