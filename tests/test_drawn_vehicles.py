"""Drawn vehicles: where their points lie, what hides them, and how real they look.

What hides a point is checked against rays through triangles by Moeller and Trumbore; the real
figures, and the statistics that are compared with them, are those of `benchmarks/realism.py`.
"""

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
from vehiclesynth import make_plan, scene
from vehiclesynth.camera import Camera, look_at
from vehiclesynth.chart import Matter
from vehiclesynth.light import draw_light
from vehiclesynth.look import draw_look
from vehiclesynth.model import Model, build_model
from vehiclesynth.optics import develop
from vehiclesynth.place import draw_place
from vehiclesynth.prior import PRIORS, View, draw_crop, draw_view
from vehiclesynth.scene import Shot, Station, draw_station, shoot, shoot_street
from vehiclesynth.shading import Lamps, PlacedVehicle
from vehiclesynth.visibility import (
    HIDDEN_BY_ITSELF,
    HIDDEN_OTHERWISE,
    VISIBLE,
    draw_confidences,
    find_visibility,
)

SIDE = 160


def model_of(kind: str, seed: int = 0) -> Model:
    rng = np.random.default_rng(seed)
    return build_model(draw_look(rng, TYPES.index(kind) + 1, int(rng.integers(len(COLORS))) + 1))


def camera_at(model: Model, yaw: float, elevation: float) -> Camera:
    """A camera whose square picture of ``SIDE`` pixels holds the whole vehicle."""
    camera = look_at(np.array([0, 0, model.extent[1][2] / 2]), View(yaw, elevation, 0, 25))
    pixels, _ = camera.project(model.mesh.points)
    low, extent = pixels.min(axis=0), np.ptp(pixels, axis=0).max()
    return camera.cropped(low - 0.05 * extent, SIDE / (1.1 * extent))


def placed(model: Model, x: float = 0, y: float = 0, yaw: float = 0) -> PlacedVehicle:
    return PlacedVehicle(model, np.array([x, y, 0.0]), yaw, Lamps(0, 0))


def kinds_at(model: Model, camera: Camera, *others: PlacedVehicle) -> np.ndarray:
    return find_visibility(placed(model), list(others), camera, (SIDE, SIDE), None)


def are_blocked(
    model: Model, eye: np.ndarray, points: np.ndarray, *, before: float = 0.06
) -> np.ndarray:
    """Moeller and Trumbore: whether rays meet a triangle that many metres before the points."""
    corners = model.mesh.points[model.mesh.triangles].astype(float)
    first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    offset, rays = eye - corners[:, 0], (points - eye)[:, None]
    across, turned = np.cross(rays, second), np.cross(offset, first)
    with np.errstate(all="ignore"):
        scale = 1 / (first * across).sum(axis=2)
        u, v = (offset * across).sum(axis=2) * scale, (rays * turned).sum(axis=2) * scale
        reach = (second * turned).sum(axis=1) * scale
        met = (u >= 0) & (v >= 0) & (u + v <= 1) & (reach > 0)
    return (met & ((1 - reach) * np.linalg.norm(rays, axis=2) > before)).any(axis=1)


@pytest.mark.parametrize("kind", TYPES)
def test_a_vehicle_stands_on_the_road_and_its_points_where_they_are_named(kind) -> None:
    for seed in range(3):
        model = model_of(kind, seed)
        (low, high), points = model.extent, model.keypoints
        assert low[2] == pytest.approx(0, abs=0.02)
        assert low[1] == pytest.approx(-high[1], abs=0.02)
        assert ((points > low - 0.02) & (points < high + 0.02)).all()
        np.testing.assert_allclose(points[18:], points[:18] * [1, -1, 1])
        x, y, z = points[:18].T
        assert (y > 0).all()
        assert x[17] > x[1] > x[0] > x[10]  # front bumper, front wheel, rear wheel, rear bumper
        assert (np.diff(x[2:10]) < 0).all()  # the arches' points run from front to rear
        assert x[16] > x[15] > x[14] > x[13] >= x[12] - 0.1 >= x[11] - 2
        assert z[14] > z[15] > z[16] > z[17]
        assert z[13] > z[12] > z[11] > z[10]


@pytest.mark.parametrize("kind", TYPES)
def test_visibility_agrees_with_rays_through_the_triangles(kind) -> None:
    model, wheels = model_of(kind, seed=2), [0, 1, 18, 19]
    for yaw, elevation in ((10, 12), (115, 12), (220, 12), (325, 12)):
        camera = camera_at(model, yaw, elevation)
        kinds, blocked = kinds_at(model, camera), are_blocked(model, camera.eye, model.keypoints)
        rear, front = camera.project(model.keypoints[:2])[0][:, 0]
        assert (front < rear) == (yaw < 180), yaw  # seen from its left, it points to the left
        # What stands free is visible; the leniency only adds to that, and nothing to wheels.
        assert (kinds[~blocked] == VISIBLE).all(), yaw
        assert (kinds[wheels] == blocked[wheels]).all(), yaw
        for point in model.keypoints[blocked & (kinds == VISIBLE)]:
            spots = point + 0.3 * np.concatenate([np.eye(3), -np.eye(3)])
            assert not are_blocked(model, camera.eye, spots).all()


def test_what_another_vehicle_covers_is_hidden_otherwise() -> None:
    model, other, covered = model_of("suv", seed=4), model_of("pickup", seed=5), 0
    turned = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]])  # by 90 degrees to the left
    for yaw, lane in ((80, 5.0), (60, 5.0), (300, -5.0)):
        camera, x = camera_at(model, yaw, 5), lane / np.tan(np.radians(yaw))
        alone, kinds = (
            kinds_at(model, camera, *others)
            for others in ((), (placed(other, x, lane, np.pi / 2), placed(other, y=-2 * lane)))
        )
        eye, points = ((spots - [x, lane, 0]) @ turned for spots in (camera.eye, model.keypoints))
        blocked = are_blocked(other, eye, points, before=0.0)
        np.testing.assert_array_equal(kinds == HIDDEN_OTHERWISE, blocked)
        np.testing.assert_array_equal(kinds[~blocked], alone[~blocked])
        covered += blocked.sum()
    assert covered > 20


@pytest.fixture(scope="module")
def stations() -> dict[str, list[Station]]:
    return {
        prior: [draw_station(np.random.default_rng(seed), prior) for seed in range(6)]
        for prior in PRIORS
    }


@pytest.mark.parametrize("prior", PRIORS)
def test_a_photograph_says_what_hides_its_points(prior, stations, monkeypatch) -> None:
    def half(rng, size, light, *, wide):
        width, height = size
        cover = np.zeros((height, width), np.float32)
        cover[:, : width // 2] = 1
        return np.zeros((height, width, 3), np.float32), cover

    monkeypatch.setattr(scene, "draw_foreground", half)
    model, kinds = model_of("estate", seed=2), []
    for seed, station in enumerate(stations[prior]):
        shot = shoot(model, station, np.random.default_rng(seed), pixels=96, prior=prior)
        width, height = Image.open(BytesIO(shot.jpeg)).size
        x, y, _ = shot.keypoints.T
        away = (x < 0) | (x > width - 1) | (y < 0) | (y > height - 1)
        assert (shot.visibility[away | (x < width / 2 - 3)] == HIDDEN_OTHERWISE).all()
        kinds += shot.visibility[~away & (x > width / 2 + 3)].tolist()
    assert kinds.count(HIDDEN_OTHERWISE) < 0.2 * len(kinds)
    assert {VISIBLE, HIDDEN_BY_ITSELF} <= set(kinds)


def grey(shot: Shot) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(shot.jpeg)).convert("L")).astype(float)


def test_a_street_shows_the_vehicles_that_it_is_given(stations) -> None:
    models = [model_of("sedan", seed) for seed in range(3)]
    for given, least in (([], 0), (models, 2)):
        rng, station = np.random.default_rng(1), stations["real"][1]
        jpeg, shown = shoot_street(given, station, rng, pixels=96, prior="real")
        assert max(Image.open(BytesIO(jpeg)).size) == 96
        assert least <= shown <= len(given)


def test_the_keypoints_lie_where_the_picture_shows_the_vehicle(stations) -> None:
    """Two pictures that differ in nothing but the paint differ where the points are."""
    model_rng = np.random.default_rng(12)  # its mirrors, which reach beyond them, are not painted
    look = replace(draw_look(model_rng, 1, 1), two_tone="", dirt=0.0)
    models = [build_model(replace(look, paint=Matter((tone,) * 3, 0.4))) for tone in (0.8, 0.01)]
    for seed, station in enumerate(stations["real"]):
        optics = replace(station.optics, adaptation=0.0, noise=0.0, halo=0.0, blur=0.0)
        station = replace(station, optics=optics)
        white, black = (
            shoot(model, station, np.random.default_rng(seed), pixels=160, prior="real")
            for model in models
        )
        changed = np.abs(grey(white) - grey(black))
        differs = (changed > 0.35 * changed.max()).astype(np.uint8)
        assert differs.mean() > 0.1
        hull = cv2.convexHull(white.keypoints[:, :2].round().astype(np.int32))
        reach = max(differs.shape) // 16
        body = cv2.fillConvexPoly(np.zeros_like(differs), hull, (1,))
        near = cv2.dilate(body, np.ones((reach, reach), np.uint8))
        assert differs[near == 1].sum() > 0.98 * differs.sum()
        left, top, wide, tall = cv2.boundingRect(cv2.erode(differs, np.ones((3, 3), np.uint8)))
        found = [(left, top), (left + wide - 1, top + tall - 1)]
        expected = [hull.min(axis=(0, 1)), hull.max(axis=(0, 1))]
        assert np.abs(np.subtract(found, expected)).max() < 0.12 * max(differs.shape)


def test_points_move_as_the_lens_bends_the_picture(stations) -> None:
    size, dot = (160, 128), (20, 30)
    optics = replace(stations["real"][0].optics, barrel=0.05, noise=0.0)
    scene = cv2.circle(np.full((128, 160, 3), 0.05, np.float32), dot, 3, (1.0, 1.0, 1.0), -1)
    photo = develop(scene, optics, np.random.default_rng(0), around=0.1, size=size).mean(axis=2)
    rows, columns = np.nonzero(photo > (photo.min() + photo.max()) / 2)
    (bent,) = optics.bent(np.array([dot]), size)
    assert np.linalg.norm(bent - dot) > 2
    assert bent == pytest.approx([columns.mean(), rows.mean()], abs=0.5)


def test_individuals_of_a_model_share_its_shape_and_differ_in_their_skin() -> None:
    def individual(seed: int, model: int) -> Model:
        return build_model(draw_look(np.random.default_rng(seed), 1, 7, model=model))

    one, other, stranger = individual(0, 3), individual(1, 3), individual(0, 4)
    np.testing.assert_array_equal(one.keypoints, other.keypoints)
    assert np.abs(one.keypoints - stranger.keypoints).max() > 0.02
    rows = min(len(model.atlas.look) for model in (one, other))
    first, second = (model.atlas.look[:rows].astype(int) for model in (one, other))
    assert (np.abs(first - second) > 30).mean() > 0.01


@pytest.fixture(scope="module")
def realism() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
        yield importlib.import_module("realism")


def test_the_real_prior_stands_as_real_crops_do(realism) -> None:
    rng = np.random.default_rng(0)
    views = [draw_view(rng, "real") for _ in range(2000)]
    crops = [draw_crop(rng, "real", 256) for _ in range(2000)]
    sectors = np.bincount([round(view.yaw / 45) % 8 for view in views], minlength=8) / 20
    assert sectors == pytest.approx(realism.SECTORS["hand"], abs=10)
    for row, values in {
        "elevation, degrees": [view.elevation for view in views],
        "roll, degrees": [view.roll for view in views],
        "distance, m": [view.distance * realism.SHORT for view in views],
        "margin left, % of width": [100 * crop.left for crop in crops],
        "margin right": [100 * crop.right for crop in crops],
        "margin top, % of height": [100 * crop.top for crop in crops],
        "margin bottom": [100 * crop.bottom for crop in crops],
        "longer side": [crop.longer_side for crop in crops],
    }.items():
        real = (realism.POSE | realism.IMAGE)[row]
        assert realism.ks_star(np.array(values), real) < 0.1, row


def test_the_even_prior_sees_all_sides() -> None:
    rng = np.random.default_rng(0)
    sectors = [round(draw_view(rng, "even").yaw / 45) % 8 for _ in range(2000)]
    assert np.bincount(sectors, minlength=8).min() > 100
    assert {draw_crop(rng, "even", 200).longer_side for _ in range(50)} == {200}


def test_points_seen_edge_on_count_as_people_mark_them(realism) -> None:
    rng = np.random.default_rng(0)
    plans = make_plan(30, 2, 2, 0, prior="real")[:30]
    models = [build_model(draw_look(rng, plan.type_id, plan.color_id)) for plan in plans]
    for name, (pair, sector, real) in realism.MARKED.items():
        shown = []
        for model in models:
            view = View(45 * sector + rng.uniform(-20, 20), rng.uniform(10, 17.5), 0, 23)
            camera = look_at(np.array([0, 0, 0.45 * model.extent[1][2]]), view)
            camera = replace(camera, center=np.array([5e3, 5e3]))
            kinds = find_visibility(placed(model), [], camera, (10_000, 10_000), None)
            shown += [kinds[point] == VISIBLE for point in pair]
        assert 100 * np.mean(shown) == pytest.approx(real, abs=20), name


def test_confidences_are_spread_as_the_published_networks(realism) -> None:
    rng = np.random.default_rng(0)
    visibility = rng.choice(3, (400, 36), p=[0.64, 0.31, 0.05])
    drawn = np.stack([draw_confidences(rng, row) for row in visibility])
    for kind, real in zip((VISIBLE, HIDDEN_BY_ITSELF), realism.CONFIDENCE.values(), strict=True):
        found = np.percentile(drawn[visibility == kind], realism.PERCENTILES)
        assert found == pytest.approx([float(value) for value in real.split("/")], abs=0.02)
    assert drawn.min() > 0 and drawn.max() < 1.1
    assert np.median(drawn[visibility == HIDDEN_OTHERWISE]) < 0.75


@pytest.mark.parametrize("color", ["yellow", "golden", "gray", "black"])
def test_panels_of_a_colour_come_out_as_on_real_crops(color, realism, stations) -> None:
    real = [values.split("/") for values in realism.PAINTS[color].split()]
    low, _, high = np.array(real, float).T
    shown = []
    for seed, station in enumerate(stations["real"]):
        rng = np.random.default_rng(seed)
        model = build_model(draw_look(rng, (1, 2, 4)[seed % 3], COLORS.index(color) + 1))
        for _ in range(2):
            shot = shoot(model, station, rng, pixels=96, prior="real")
            shown.append(realism.appearance.body_color(shot.jpeg, shot.keypoints))
    median = np.nanmedian(shown, axis=0)
    assert (median > low - 2).all() and (median < high + 2).all(), median


def test_statistics_of_pictures_and_distributions_whose_values_are_known(realism) -> None:
    noisy = np.random.default_rng(0).normal(100, 4, (200, 256))
    assert realism.appearance.noise(noisy) == pytest.approx(4, rel=0.1)
    values = np.arange(100) + 0.5
    for made, real, expected in (
        (values, "5/25/50/75/95", 0),
        (values + 10, "5/25/50/75/95", 0.1),
        (values / 1000 + 50.2, "5/25/50/75/95", 0.5),
        (np.array([94, 94, 95]), "95/95/95/95/95", 1),
    ):
        assert realism.ks_star(made, real) == pytest.approx(expected)


def test_generated_pictures_are_measured_and_every_row_is_named(realism) -> None:
    samples = list(realism.generated("real", 2, 1))
    text = realism.report(samples, "for a test", realism.paint_rows(1, 2))
    for name in (*realism.IMAGE, *realism.POSE, *realism.MARKED, *COLORS, *TYPES):
        assert f"| {name}".replace("*", "\\*") in text
    assert "4:2:0 JPEG: real 100 %, generated 100 %." in text


@pytest.mark.parametrize("seed", range(2))
def test_the_sky_above_a_place_sends_the_light_that_falls_on_it(seed) -> None:
    rng = np.random.default_rng(seed)
    light, place = draw_light(rng, wide=True), draw_place(rng, wide=True)
    angle = (np.arange(32) + 0.5) * np.pi / 64
    weight = np.cos(angle) * np.sin(angle) * (np.pi / 64) * (2 * np.pi / 128) / np.pi
    irradiance = (place.environment(light)[:32] * weight[:, None, None]).sum(axis=(0, 1))
    assert irradiance == pytest.approx(light.sky, rel=0.1)
