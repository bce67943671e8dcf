"""The realism benchmark's statistics, on pictures and distributions whose values are known."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from multitasknet.vehicle.attributes import COLORS, TYPES
from multitasknet.vehicle.keypoints import SURFACES, facing_surfaces

# x forward, y left, z up, in metres: the left side of a car that narrows towards its roof, front
# and rear.
LEFT = np.array(
    [
        *[(-1.4, 0.9, 0.3), (1.4, 0.9, 0.3)],
        *[(1.9, 0.9, 0.4), (1.7, 0.9, 0.6), (1.1, 0.9, 0.6), (0.9, 0.9, 0.3)],
        *[(-0.9, 0.9, 0.3), (-1.1, 0.9, 0.6), (-1.7, 0.9, 0.6), (-1.9, 0.9, 0.4)],
        *[(-2.3, 0.8, 0.4), (-2.1, 0.8, 0.9), (-1.6, 0.8, 0.95), (-0.9, 0.6, 1.4)],
        *[(0.3, 0.6, 1.4), (1.0, 0.8, 0.95), (2.1, 0.8, 0.7), (2.3, 0.8, 0.4)],
    ]
)
CAR = np.concatenate([LEFT, LEFT * (1, -1, 1)])


@pytest.fixture(scope="module")
def realism() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
        yield importlib.import_module("realism")


@pytest.fixture(scope="module")
def appearance(realism: ModuleType) -> ModuleType:
    return realism.appearance


def jpeg_of(rgb: np.ndarray, quality: int = 95, subsampling: int = 2) -> bytes:
    file = BytesIO()
    Image.fromarray(rgb).save(file, "JPEG", quality=quality, subsampling=subsampling)
    return file.getvalue()


def plain(color: tuple[int, int, int], width: int = 120, height: int = 90) -> np.ndarray:
    return np.full((height, width, 3), color, dtype=np.uint8)


def eye_at(yaw: float, elevation: float) -> np.ndarray:
    yaw, elevation = np.radians([yaw, elevation])
    flat = np.cos(elevation)
    return 20 * np.array([flat * np.cos(yaw), flat * np.sin(yaw), np.sin(elevation)])


def seen_from(eye: np.ndarray) -> np.ndarray:
    """The car's points in a picture of 120 x 90: ``[36, 3]``, all of them sure."""
    forward = -eye / np.linalg.norm(eye)
    right = np.cross(forward, (0, 0, 1))
    right /= np.linalg.norm(right)
    x, y, depth = np.stack([right, np.cross(forward, right), forward]) @ (CAR - eye).T
    return np.column_stack([400 * x / depth + 60, 400 * y / depth + 45, np.ones(36)])


@pytest.mark.parametrize("quality", [30, 73, 95])
def test_the_quality_of_a_jpeg_is_what_it_was_saved_at(appearance, quality: int) -> None:
    assert appearance.jpeg_quality(jpeg_of(plain((90, 90, 90)), quality)) == quality


def test_noise_is_found_within_a_tenth(appearance) -> None:
    rng = np.random.default_rng(0)
    slope = np.linspace(60, 180, 256)[None].repeat(200, axis=0)
    noisy = slope + rng.normal(0, 4, slope.shape)
    assert appearance.noise(noisy) == pytest.approx(4, rel=0.1)
    assert appearance.noise(slope) < 0.1


@pytest.mark.parametrize("yaw", range(10, 360, 40))
@pytest.mark.parametrize("elevation", [5, 25])
def test_a_surface_faces_the_camera_as_its_normal_says(yaw, elevation) -> None:
    eye = eye_at(yaw, elevation)
    facing = facing_surfaces(seen_from(eye) * (100, 100, 1))
    for surface, corners in enumerate(SURFACES):
        one, two, three, four = CAR[list(corners)]
        middle = (one + two + three + four) / 4
        normal = np.cross(three - one, four - two)
        normal *= np.sign(normal @ (middle - (0, 0, 0.6)))
        assert (surface in facing) == (normal @ (eye - middle) > 0)


def test_the_body_is_measured_where_it_shows(appearance) -> None:
    points = seen_from(eye_at(90, 10))
    rgb = plain((0, 0, 255))
    rgb[int(points[:, 1].min()) : int(points[:, 1].max()) + 1] = 119
    assert appearance.body_color(jpeg_of(rgb), points) == pytest.approx((50, 0, 0), abs=0.5)
    points[:, 2] = 0.1
    assert np.isnan(appearance.body_color(jpeg_of(rgb), points)).all()


def test_ks_star_of_known_distributions(realism) -> None:
    values = np.arange(100) + 0.5
    assert realism.ks_star(values, "5/25/50/75/95") == 0
    assert realism.ks_star(values + 10, "5/25/50/75/95") == pytest.approx(0.1)
    assert realism.ks_star(values - 1000, "5/25/50/75/95") == pytest.approx(0.95)
    assert realism.ks_star(values / 1000 + 50.2, "5/25/50/75/95") == pytest.approx(0.5)
    assert realism.ks_star(np.array([94, 95, 95]), "95/95/95/95/95") == 0
    assert realism.ks_star(np.array([94, 94, 95]), "95/95/95/95/95") == 1


def test_the_report_names_every_row(realism) -> None:
    visibility = np.zeros(36, dtype=np.uint8)
    visibility[[13, 12, 30]] = 1
    view = (350.0, 13.8, 0.0, 25.0)
    picture, points = jpeg_of(plain((128, 128, 128))), seen_from(eye_at(10, 15))
    samples = [realism.Sample(picture, points, visibility, COLORS[9], TYPES[0], view)] * 3
    text = realism.report(samples, "for a test", realism.paint_rows(1, 2))
    for name in (*realism.IMAGE, *realism.POSE, *realism.MARKED, *COLORS, *TYPES):
        assert f"| {name}".replace("*", "\\*") in text
    assert "| 0 front | 40 | 32 | 100 |" in text
    assert "| rear roof corners from the front | 99 | 50 |" in text
    assert "| distance, m | 11.0/14.6/18.8/25/59 | 20/20/20/20/20 |" in text
    assert "| visible points of 36 | 22/23/24/25/26 | 33/33/33/33/33 | 0.95 | no |" in text


def test_the_generator_is_measured(realism) -> None:
    made = list(realism.generated("real", 2, 1))
    assert len(made) == 2
    assert all(one.keypoints.shape == (36, 3) and one.visibility.shape == (36,) for one in made)
    assert all(one.color in COLORS and one.type in TYPES for one in made)
