"""The surroundings and the optics of generated pictures."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from vehiclesynth.camera import Camera, look_at
from vehiclesynth.foreground import draw_foreground
from vehiclesynth.light import Light, draw_light
from vehiclesynth.optics import develop, draw_optics
from vehiclesynth.place import draw_place
from vehiclesynth.prior import View

SIZE = (160, 128)
OVERCAST = Light(np.array([0, 0.6, 0.8]), np.zeros(3), np.array([0.7, 0.75, 0.8]), 0.5, False)


def camera_at(yaw: float, elevation: float) -> Camera:
    camera = look_at(np.zeros(3), View(yaw, elevation, 0, 15))
    return replace(camera, focal=400.0, center=np.array([80.0, 64.0]))


@pytest.mark.parametrize("seed", range(4))
def test_a_backdrop_is_light_and_the_sky_above_it_sends_what_is_mirrored(seed: int) -> None:
    rng = np.random.default_rng(seed)
    light, place = draw_light(rng, wide=True), draw_place(rng, wide=True)
    backdrop = place.backdrop(camera_at(180, 10 * seed), light, SIZE, rng, wet=seed % 2)
    assert np.isfinite(backdrop.color).all() and backdrop.color.min() >= 0
    assert backdrop.sun.min() >= 0 and backdrop.sun.max() <= 1
    angle = (np.arange(32) + 0.5) * np.pi / 64
    weight = np.cos(angle) * np.sin(angle) * (np.pi / 64) * (2 * np.pi / 128) / np.pi
    irradiance = (place.environment(light)[:32] * weight[:, None, None]).sum(axis=(0, 1))
    assert irradiance == pytest.approx(light.sky, rel=0.1)


def test_a_place_has_the_sky_above_it_and_looks_alike_whichever_way_the_vehicle_drives() -> None:
    place = draw_place(np.random.default_rng(3), wide=False)
    away, toward = (
        place.backdrop(camera_at(yaw, 14), OVERCAST, SIZE, np.random.default_rng(1)).color
        for yaw in (180, 0)
    )
    assert np.abs(away - toward).mean() < 0.01
    empty = replace(place, busy=0.0, street=replace(place.street, standing=()))
    color = empty.backdrop(camera_at(180, 1), OVERCAST, SIZE, np.random.default_rng(0)).color
    assert color[:55].mean() > 0.6 * OVERCAST.sky.mean()
    assert color[70:].mean() < 0.5 * OVERCAST.sky.mean()


def test_foregrounds_are_rare_and_cover_little() -> None:
    rng = np.random.default_rng(0)
    layers = [draw_foreground(rng, SIZE, OVERCAST, wide=False) for _ in range(300)]
    drawn = [layer for layer in layers if layer]
    assert 20 <= len(drawn) <= 55
    assert np.mean([cover.mean() for _, cover in drawn]) < 0.2
    assert all(color.min() >= 0 and 0 <= cover.min() <= cover.max() <= 1 for color, cover in drawn)


def test_small_sources_lack_detail_motion_smears_and_exposure_makes_up_for_the_dark() -> None:
    optics = draw_optics(np.random.default_rng(0), wide=False)
    optics = replace(optics, blur=0.0, halo=0.0, noise=0.0, haze=0.0)
    scene = np.random.default_rng(0).uniform(0.1, 0.4, (128, 160, 3)).astype(np.float32)

    def developed(level: float = 1.0, **how: object) -> np.ndarray:
        """What a camera that sees little else makes of the scene."""
        linear, rng = level * scene, np.random.default_rng(0)
        around = float(linear.mean())
        return develop(linear, optics, rng, around=around, size=SIZE, **how).astype(float)

    fine, coarse = developed(), developed(scale=0.3)
    assert cv2.Laplacian(coarse, cv2.CV_64F).var() < 0.1 * cv2.Laplacian(fine, cv2.CV_64F).var()
    moved = developed(motion=(8, 0))
    assert np.abs(np.diff(moved, axis=1)).mean() < 0.5 * np.abs(np.diff(moved, axis=0)).mean()
    assert 0.5 * fine.mean() < developed(level=0.2).mean() < fine.mean()
