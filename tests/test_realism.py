"""The realism benchmark's statistics, on pictures and distributions whose values are known."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest
from PIL import Image

from multitasknet.vehicle.attributes import COLORS, TYPES
from vehiclesynth.prior import View


@pytest.fixture(scope="module")
def realism() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
        yield importlib.import_module("realism")


def jpeg_of(rgb: np.ndarray, quality: int = 95) -> bytes:
    file = BytesIO()
    Image.fromarray(rgb).save(file, "JPEG", quality=quality)
    return file.getvalue()


@pytest.mark.parametrize("quality", [30, 73, 95])
def test_the_quality_of_a_jpeg_is_what_it_was_saved_at(realism, quality: int) -> None:
    assert (
        realism.appearance.jpeg_quality(jpeg_of(np.zeros((8, 8, 3), np.uint8), quality)) == quality
    )


def test_noise_is_found_within_a_tenth(realism) -> None:
    slope = np.linspace(60, 180, 256)[None].repeat(200, axis=0)
    noisy = slope + np.random.default_rng(0).normal(0, 4, slope.shape)
    assert realism.appearance.noise(noisy) == pytest.approx(4, rel=0.1)
    assert realism.appearance.noise(slope) < 0.1


def test_ks_star_of_known_distributions(realism) -> None:
    values = np.arange(100) + 0.5
    for made, real, expected in (
        (values, "5/25/50/75/95", 0),
        (values + 10, "5/25/50/75/95", 0.1),
        (values - 1000, "5/25/50/75/95", 0.95),
        (values / 1000 + 50.2, "5/25/50/75/95", 0.5),
        (np.array([94, 95, 95]), "95/95/95/95/95", 0),
        (np.array([94, 94, 95]), "95/95/95/95/95", 1),
    ):
        assert realism.ks_star(made, real) == pytest.approx(expected)


def test_generated_pictures_are_measured_and_every_row_is_named(realism) -> None:
    one, other = realism.generated("real", 2, 1)
    assert one.color in COLORS and one.type in TYPES and one.shot.jpeg != other.shot.jpeg
    visibility = np.zeros(36, np.uint8)
    visibility[[13, 12, 30]] = 1
    shot = replace(one.shot, visibility=visibility, view=View(350.0, 13.8, 0.0, 25.0))
    samples = [realism.Sample(shot, COLORS[9], TYPES[0])] * 3
    text = realism.report(samples, "for a test", realism.paint_rows(1, 2))
    for name in (*realism.IMAGE, *realism.POSE, *realism.MARKED, *COLORS, *TYPES):
        assert f"| {name}".replace("*", "\\*") in text
    assert "| 0 front | 40 | 32 | 100 |" in text
    assert "| rear roof corners from the front | 99 | 50 |" in text
    assert "| distance, m | 11.0/14.6/18.8/25/59 | 20/20/20/20/20 |" in text
    assert "| visible points of 36 | 22/23/24/25/26 | 33/33/33/33/33 | 0.95 | no |" in text

    # The body is measured where it shows.
    points = one.shot.keypoints.copy()
    rgb = np.full_like(realism.appearance.decode(one.shot.jpeg), (0, 0, 255))
    hull = cv2.convexHull(points[:, :2].round().astype(np.int32))
    grey = cv2.fillConvexPoly(rgb.copy(), hull, (119, 119, 119))
    assert realism.appearance.body_color(jpeg_of(grey), points) == pytest.approx((50, 0, 0), abs=1)
    points[:, 2] = 0.1
    assert np.isnan(realism.appearance.body_color(jpeg_of(grey), points)).all()
