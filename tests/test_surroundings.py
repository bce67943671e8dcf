"""The surroundings of generated vehicles."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vehiclesynth.camera import Camera
from vehiclesynth.light import Light
from vehiclesynth.place import draw_place

SIZE = (160, 128)
OVERCAST = Light(np.array([0, 0.6, 0.8]), np.zeros(3), np.array([0.7, 0.75, 0.8]), 0.5, False)


def looking_down(degrees: float) -> Camera:
    """A camera 15 m behind the vehicle, looking ahead."""
    angle = np.radians(degrees)
    forward = np.array([np.cos(angle), 0, -np.sin(angle)])
    right = np.array([0, -1.0, 0])
    axes = np.stack([right, np.cross(forward, right), forward])
    return Camera(np.array([-15.0, 0, 4.0]), axes, 400.0, np.array([80.0, 64.0]))


def test_the_place_looks_alike_whichever_way_the_vehicle_drives() -> None:
    place = draw_place(np.random.default_rng(3), wide=False)
    camera, turn = looking_down(14), np.diag([-1.0, -1, 1])
    turned = replace(camera, eye=turn @ camera.eye, axes=camera.axes @ turn)
    away, toward = (
        place.backdrop(one, OVERCAST, SIZE, np.random.default_rng(1)).color
        for one in (camera, turned)
    )
    assert np.abs(away - toward).mean() < 0.01
