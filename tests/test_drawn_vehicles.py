"""Drawn vehicles: where their points lie, what hides them, and how they stand before cameras.

What hides a point is checked against rays through triangles by Moeller and Trumbore. The real
figures are those of `benchmarks/realism.py`.
"""

from __future__ import annotations

import importlib
import io
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest
from PIL import Image

from multitasknet.vehicle.attributes import COLORS, TYPES
from multitasknet.vehicle.keypoints import confident_surfaces, visible_surfaces
from vehiclesynth import fittings, load, scene
from vehiclesynth.camera import Camera, look_at
from vehiclesynth.chart import Matter
from vehiclesynth.look import draw_look
from vehiclesynth.model import Model, build_model
from vehiclesynth.plan import make_plan
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
VIEWS = [(yaw, elevation) for yaw in range(10, 360, 35) for elevation in (4, 12, 28)]
PERCENTILES = (5, 25, 50, 75, 95)


def model_of(kind: str, seed: int = 0, color: str | None = None) -> Model:
    rng = np.random.default_rng(seed)
    color_id = COLORS.index(color) + 1 if color else int(rng.integers(10)) + 1
    return build_model(draw_look(rng, TYPES.index(kind) + 1, color_id))


def standing(model: Model, place: tuple[float, float] = (0, 0), yaw: float = 0.0) -> PlacedVehicle:
    return PlacedVehicle(model, np.array([*place, 0.0]), yaw, Lamps(0, 0))


def camera_at(model: Model, yaw: float, elevation: float) -> Camera:
    """A camera whose square picture of ``SIDE`` pixels holds the whole vehicle."""
    camera = look_at(np.array([0, 0, model.extent[1][2] / 2]), View(yaw, elevation, 0, 25))
    pixels, _ = camera.project(model.mesh.points)
    low, extent = pixels.min(axis=0), np.ptp(pixels, axis=0).max()
    return camera.cropped(low - 0.05 * extent, SIDE / (1.1 * extent))


def kinds_at(model: Model, camera: Camera) -> np.ndarray:
    return find_visibility(standing(model), [], camera, (SIDE, SIDE), None)


def pose_at(model: Model, yaw: float, elevation: float) -> np.ndarray:
    """Keypoints ``[36, 3]``, 1 for those that are seen."""
    camera = camera_at(model, yaw, elevation)
    return np.column_stack([camera.project(model.keypoints)[0], kinds_at(model, camera) == 0])


def are_blocked(
    model: Model, eye: np.ndarray, points: np.ndarray, *, before: float = 0.06
) -> np.ndarray:
    """Moeller and Trumbore: whether rays meet a triangle that many metres before the points."""
    triangles = model.mesh.points[model.mesh.triangles].astype(float)
    first, second = triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]
    offset = eye - triangles[:, 0]
    turned = np.cross(offset, first)
    blocked = []
    for ray in points - eye:
        across = np.cross(ray, second)
        area = (first * across).sum(axis=1)
        with np.errstate(all="ignore"):
            u = (offset * across).sum(axis=1) / area
            v = (turned @ ray) / area
            reach = (second * turned).sum(axis=1) / area
            hit = (u >= 0) & (v >= 0) & (u + v <= 1) & (reach > 0)
        blocked.append((hit & ((1 - reach) * np.linalg.norm(ray) > before)).any())
    return np.array(blocked)


@pytest.fixture(scope="module")
def stations() -> dict[str, list[Station]]:
    return {
        prior: [draw_station(np.random.default_rng(seed), prior) for seed in range(6)]
        for prior in PRIORS
    }


@pytest.fixture(scope="module")
def realism() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
        yield importlib.import_module("realism")


@pytest.mark.parametrize("kind", TYPES)
def test_a_vehicle_stands_on_the_road_and_its_points_where_they_are_named(kind) -> None:
    for seed in range(3):
        model = model_of(kind, seed)
        (low, high), mesh, points = model.extent, model.mesh, model.keypoints
        assert low[2] == pytest.approx(0, abs=0.02)
        assert low[1] == pytest.approx(-high[1], abs=0.02)
        assert ((points > low - 0.02) & (points < high + 0.02)).all()
        assert mesh.triangles.min() >= 0 and mesh.triangles.max() < len(mesh.points)
        assert all(np.isfinite(one).all() for one in (mesh.points, mesh.normals, mesh.places))
        assert model.openness.min() >= 0 and model.openness.max() <= 1
        rows, columns = model.atlas.look.shape[:2]
        assert (mesh.places > -1).all() and (mesh.places < [columns, rows]).all()
        np.testing.assert_allclose(points[18:], points[:18] * [1, -1, 1])
        assert (points[:18, 1] > 0).all()
        x, _, z = points[:18].T
        assert x[17] > x[1] > x[0] > x[10]  # front bumper, front wheel, rear wheel, rear bumper
        assert (np.diff(x[2:10]) < 0).all()  # the arches' points run from front to rear
        assert x[16] > x[15] > x[14] > x[13] >= x[12] - 0.1 >= x[11] - 2
        assert z[14] > z[15] > z[16] > z[17]
        assert z[13] > z[12] > z[11] > z[10]


@pytest.mark.parametrize("kind", TYPES)
def test_a_skin_looks_outward_and_is_where_rays_meet_it(kind) -> None:
    model = model_of(kind, seed=5)
    for yaw, elevation in VIEWS[1::4]:
        camera = camera_at(model, yaw, elevation)
        rays = camera.rays((SIDE, SIDE)).reshape(-1, 3)
        hits = model.tracer.first(camera.eye, rays)
        assert len(hits.rays) > 0.1 * len(rays)
        corners = model.mesh.triangles[hits.triangles]
        normals, spots = (
            (values[corners] * hits.weights.T[..., None]).sum(axis=1)
            for values in (model.mesh.normals, model.mesh.points)
        )
        assert ((normals * rays[hits.rays]).sum(axis=1) < 0).mean() > 0.99
        reached = camera.eye + hits.distances[:, None] * rays[hits.rays]
        assert np.abs(spots - reached).max() < 0.01


@pytest.mark.parametrize("kind", TYPES)
def test_every_vehicle_can_be_photographed(kind, stations) -> None:
    for seed, prior in enumerate(PRIORS * 2):
        rng = np.random.default_rng((TYPES.index(kind), seed))
        model = build_model(draw_look(rng, TYPES.index(kind) + 1, seed % 10 + 1))
        shot = shoot(model, stations[prior][seed], rng, pixels=48, prior=prior)
        assert grey(shot).std() > 5
        assert shot.keypoints.dtype == np.float32 and np.isfinite(shot.keypoints).all()
        assert set(shot.visibility) <= {VISIBLE, HIDDEN_BY_ITSELF, HIDDEN_OTHERWISE}


def test_a_street_shows_the_vehicles_that_it_is_given(stations) -> None:
    def red(models: list[Model], seed: int) -> tuple[float, int]:
        rng, station = np.random.default_rng(seed), stations["real"][seed]
        jpeg, shown = shoot_street(models, station, rng, pixels=96, prior="real")
        picture = np.asarray(Image.open(io.BytesIO(jpeg)), int)
        assert max(picture.shape) == 96
        return float((picture[..., 0] > picture[..., 1:].max(-1) + 25).mean()), shown

    models = [model_of("sedan", seed, "red") for seed in range(3)]
    full, empty = ([red(some, seed) for seed in range(6)] for some in (models, []))
    assert np.mean([share for share, _ in full]) > 5 * np.mean([share for share, _ in empty])
    assert [shown for _, shown in empty] == [0] * 6
    assert np.mean([shown for _, shown in full]) > 2


@pytest.mark.parametrize("kind", ["sedan", "van", "pickup"])
def test_individuals_of_a_model_share_its_shape_and_differ_in_front_and_behind(kind) -> None:
    looks = [
        draw_look(np.random.default_rng(seed), TYPES.index(kind) + 1, 7, model=3)
        for seed in range(4)
    ]
    models = [build_model(look) for look in looks]
    one = models[0]
    for other in models[1:]:
        np.testing.assert_array_equal(one.keypoints, other.keypoints)
    stranger = build_model(draw_look(np.random.default_rng(0), TYPES.index(kind) + 1, 7, model=4))
    assert np.abs(one.keypoints - stranger.keypoints).max() > 0.02
    for yaw in (0, 180):
        camera = camera_at(one, yaw, 14)
        views = [skin(model, camera) for model in models]
        for first, second in combinations(views, 2):
            shared = (first >= 0).all(axis=1) & (second >= 0).all(axis=1)
            assert (np.abs(first - second)[shared].max(axis=1) > 30).mean() > 0.01


@pytest.mark.parametrize("kind", ["van", "truck"])
def test_some_vans_and_trucks_carry_ladders_each_its_own(kind, monkeypatch) -> None:
    looks = [
        draw_look(np.random.default_rng(seed), TYPES.index(kind) + 1, 7, model=3)
        for seed in range(40)
    ]
    models = [build_model(look) for look in looks]
    for module in (fittings, load):
        monkeypatch.setattr(module, "draw_ladder", lambda *_, **__: [])
    ladders, shares = set(), []
    for model, bare in zip(models, map(build_model, looks), strict=True):
        np.testing.assert_array_equal(model.keypoints, bare.keypoints)
        bars, rest = divmod(len(model.mesh.triangles) - len(bare.mesh.triangles), 12)
        assert rest == 0
        if not bars:
            np.testing.assert_array_equal(model.mesh.points, bare.mesh.points)
            np.testing.assert_array_equal(model.atlas.look, bare.atlas.look)
            continue
        assert 2 + 3 <= bars <= 2 + 16  # two rails and the rungs
        points = {tuple(point) for point in model.mesh.points.tolist()}
        own = np.array(list(points - {tuple(point) for point in bare.mesh.points.tolist()}))
        low, high = model.extent
        assert (own > low - 0.01).all() and (own < high + 0.01).all()
        assert 0.7 < np.ptp(own, axis=0).max() < 4.01
        ladders.add(tuple(np.ptp(own, axis=0).round(2)))
        shares.append(
            max(
                (skin(model, camera) != skin(bare, camera)).any(axis=1).mean()
                for camera in (camera_at(model, yaw, 35) for yaw in (0, 90, 180, 270))
            )
        )
    assert 3 <= len(shares) == len(ladders) <= 14
    assert min(shares) > 0.003 and np.mean(shares) > 0.01


def skin(model: Model, camera: Camera) -> np.ndarray:
    """What the atlas shows at each pixel: ``[SIDE * SIDE, 3]``, -1 beside the vehicle."""
    rays = camera.rays((SIDE, SIDE)).reshape(-1, 3)
    hits = model.tracer.first(camera.eye, rays)
    corners = model.mesh.places[model.mesh.triangles[hits.triangles]]
    x, y = (corners * hits.weights.T[..., None]).sum(axis=1).T.round().astype(int)
    colors = np.full((len(rays), 3), -1)
    rows, columns = model.atlas.look.shape[:2]
    colors[hits.rays] = model.atlas.look[y.clip(0, rows - 1), x.clip(0, columns - 1), :3]
    return colors


@pytest.mark.parametrize("kind", TYPES)
def test_visibility_agrees_with_rays_through_the_triangles(kind) -> None:
    model = model_of(kind, seed=2)
    wheels = [0, 1, 18, 19]
    for yaw, elevation in VIEWS[1::9]:
        camera = camera_at(model, yaw, elevation)
        kinds, blocked = kinds_at(model, camera), are_blocked(model, camera.eye, model.keypoints)
        assert not (kinds == HIDDEN_OTHERWISE).any()
        # What stands free is visible; the leniency only adds to that, and nothing to wheels.
        assert (kinds[~blocked] == VISIBLE).all(), (yaw, elevation)
        assert (kinds[wheels] == blocked[wheels]).all(), (yaw, elevation)
        edge_on = np.flatnonzero(blocked & (kinds == VISIBLE))
        for point in model.keypoints[edge_on]:
            spots = point + 0.25 * directions()
            assert not are_blocked(model, camera.eye, spots).all()


def directions() -> np.ndarray:
    """The 26 to a cube's faces, edges and corners."""
    grid = np.stack(np.meshgrid(*[[-1.0, 0, 1]] * 3), axis=-1).reshape(-1, 3)
    grid = grid[np.abs(grid).sum(axis=1) > 0]
    return grid / np.linalg.norm(grid, axis=1, keepdims=True)


@pytest.mark.parametrize("kind", TYPES)
def test_each_side_shows_its_own_surfaces(kind) -> None:
    model = model_of(kind, seed=3)
    left, right = (pose_at(model, yaw, 8) for yaw in (90, 270))
    assert left[1, 0] < left[0, 0]  # seen from its left, a vehicle points to the left
    assert {0, 1, 2} <= set(confident_surfaces(left)) and 1 in visible_surfaces(left)
    assert not {3, 4, 5} & set(confident_surfaces(left))
    assert {3, 4, 5} <= set(confident_surfaces(right)) and 4 in visible_surfaces(right)
    assert 10 in visible_surfaces(pose_at(model, 0, 14))  # the windscreen
    assert 6 in visible_surfaces(pose_at(model, 180, 14))  # the rear bumper


def test_points_seen_edge_on_count_as_people_mark_them(realism) -> None:
    rng = np.random.default_rng(0)
    plans = make_plan(30, 2, 2, 0, prior="real")[:30]
    models = [build_model(draw_look(rng, plan.type_id, plan.color_id)) for plan in plans]
    for name, (pair, sector, real) in realism.MARKED.items():
        shown = []
        for model in models:
            view = View(45 * sector + rng.uniform(-20, 20), rng.uniform(10, 17.5), 0, 23)
            camera = look_at(np.array([0, 0, 0.45 * model.extent[1][2]]), view)
            far = replace(camera, center=np.array([5e3, 5e3]))
            kinds = find_visibility(standing(model), [], far, (10_000, 10_000), None)
            shown += [kinds[point] == VISIBLE for point in pair]
        assert 100 * np.mean(shown) == pytest.approx(real, abs=20), name


def test_what_another_vehicle_covers_is_hidden_otherwise() -> None:
    model, truck = model_of("suv", seed=4), model_of("pickup", seed=5)
    covered = 0
    for yaw, lane in ((80, 4.0), (60, 5.0), (300, -4.5)):
        camera = camera_at(model, yaw, 5)
        alone = kinds_at(model, camera)
        place, turn = np.array([lane / np.tan(np.radians(yaw)) + 1.2, lane, 0.0]), 0.1
        other = standing(truck, (place[0], place[1]), turn)
        kinds = find_visibility(standing(model), [other], camera, (SIDE, SIDE), None)
        cos, sin = np.cos(turn), np.sin(turn)
        into = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
        eye, points = (camera.eye - place) @ into, (model.keypoints - place) @ into
        blocked = are_blocked(truck, eye, points, before=0.0)
        np.testing.assert_array_equal(kinds == HIDDEN_OTHERWISE, blocked)
        np.testing.assert_array_equal(kinds[~blocked], alone[~blocked])
        covered += blocked.sum()
    assert covered > 20
    behind = standing(model_of("truck"), (0, -4))
    kinds = find_visibility(standing(model), [behind], camera_at(model, 90, 5), (SIDE, SIDE), None)
    np.testing.assert_array_equal(kinds, kinds_at(model, camera_at(model, 90, 5)))


@pytest.mark.parametrize("prior", PRIORS)
def test_a_photograph_says_what_hides_its_points(prior, stations, monkeypatch) -> None:
    def half(rng, size, light, *, wide):
        width, height = size
        cover = np.zeros((height, width), np.float32)
        cover[:, : width // 2] = 1
        return np.zeros((height, width, 3), np.float32), cover

    monkeypatch.setattr(scene, "draw_foreground", half)
    model = model_of("estate", seed=2)
    kinds = []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        shot = shoot(model, stations[prior][seed], rng, pixels=96, prior=prior)
        width, height = Image.open(io.BytesIO(shot.jpeg)).size
        x, y, _ = shot.keypoints.T
        away = (x < 0) | (x > width - 1) | (y < 0) | (y > height - 1)
        assert (shot.visibility[away | (x < width / 2 - 3)] == HIDDEN_OTHERWISE).all()
        kinds += shot.visibility[~away & (x > width / 2 + 3)].tolist()
    assert np.mean(np.array(kinds) == HIDDEN_OTHERWISE) < 0.2
    assert {VISIBLE, HIDDEN_BY_ITSELF} <= set(kinds)


def test_the_keypoints_lie_where_the_picture_shows_the_vehicle(stations) -> None:
    """Two pictures that differ in nothing but the paint differ where the points are."""
    model_rng = np.random.default_rng(12)  # its mirrors, which reach beyond them, are not painted
    look = replace(draw_look(model_rng, 1, 1), two_tone="", dirt=0.0)
    white, black = (
        build_model(replace(look, paint=Matter((value,) * 3, 0.4))) for value in (0.8, 0.01)
    )
    for seed, station in enumerate(stations["real"]):
        optics = replace(station.optics, adaptation=0.0, noise=0.0, halo=0.0, blur=0.0)
        one, other = (
            shoot(model, Station(station.place, optics), rng, pixels=160, prior="real")
            for model, rng in ((m, np.random.default_rng(seed)) for m in (white, black))
        )
        np.testing.assert_array_equal(one.keypoints, other.keypoints)
        changed = np.abs(grey(one) - grey(other))
        differs = (changed > 0.35 * changed.max()).astype(np.uint8)
        assert differs.mean() > 0.1
        hull = cv2.convexHull(one.keypoints[:, :2].round().astype(np.int32))
        body = cv2.fillConvexPoly(np.zeros_like(differs), hull, (1,))
        reach = max(differs.shape) // 16
        near = cv2.dilate(body, np.ones((reach, reach), np.uint8))
        assert differs[near == 1].sum() > 0.98 * differs.sum()
        rows, columns = np.nonzero(cv2.erode(differs, np.ones((3, 3), np.uint8)))
        low, high = hull.reshape(-1, 2).min(axis=0), hull.reshape(-1, 2).max(axis=0)
        found = np.array([[columns.min(), rows.min()], [columns.max(), rows.max()]])
        assert np.abs(found - [low, high]).max() < 0.12 * max(differs.shape)


def grey(shot: Shot) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(shot.jpeg)).convert("L")).astype(float)


@pytest.mark.parametrize(
    ("kind", "real"),
    [
        (VISIBLE, (0.66, 0.90, 0.93, 0.95, 0.97)),
        (HIDDEN_BY_ITSELF, (0.36, 0.64, 0.75, 0.91, 1.00)),
    ],
)
def test_confidences_are_spread_as_the_published_networks(kind, real) -> None:
    rng = np.random.default_rng(0)
    visibility = rng.choice(3, (400, 36), p=[0.64, 0.31, 0.05])
    drawn = np.stack([draw_confidences(rng, row) for row in visibility])
    assert np.percentile(drawn[visibility == kind], PERCENTILES) == pytest.approx(real, abs=0.02)
    assert drawn.min() > 0 and drawn.max() < 1.1
    lost = drawn[visibility == HIDDEN_OTHERWISE]
    assert np.median(lost) < np.median(drawn[visibility == HIDDEN_BY_ITSELF])


@pytest.mark.parametrize("color", ["yellow", "golden", "gray", "black"])
def test_panels_of_a_colour_come_out_as_those_named_so_on_real_crops(
    color, stations, realism
) -> None:
    real = [values.split("/") for values in realism.PAINTS[color].split()]
    low, _, high = np.array(real, float).T
    shown = []
    for seed, station in enumerate(stations["real"]):
        rng = np.random.default_rng(seed)
        model = build_model(draw_look(rng, (1, 2, 4)[seed % 3], COLORS.index(color) + 1))
        for _ in range(2):
            shot = shoot(model, station, rng, pixels=96, prior="real")
            lab = realism.appearance.body_color(shot.jpeg, shot.keypoints)
            shown += [lab] if np.isfinite(lab).all() else []
    assert len(shown) >= 8
    median = np.median(shown, axis=0)
    assert (median > low - 2).all() and (median < high + 2).all(), median


def test_the_real_prior_stands_as_real_crops_do(realism) -> None:
    rng = np.random.default_rng(0)
    views = [draw_view(rng, "real") for _ in range(2000)]
    crops = [draw_crop(rng, "real", 256) for _ in range(2000)]
    sectors = np.bincount([round(view.yaw / 45) % 8 for view in views], minlength=8) / 20
    assert sectors == pytest.approx(realism.SECTORS["hand"], abs=10)
    sides = np.array([crop.longer_side for crop in crops])
    for row, values in {
        "elevation, degrees": [view.elevation for view in views],
        "roll, degrees": [view.roll for view in views],
        "distance, m": [view.distance * realism.SHORT for view in views],
        "margin left, % of width": [100 * crop.left for crop in crops],
        "margin right": [100 * crop.right for crop in crops],
        "margin top, % of height": [100 * crop.top for crop in crops],
        "margin bottom": [100 * crop.bottom for crop in crops],
        "longer side": sides,
    }.items():
        real = (realism.POSE | realism.IMAGE)[row]
        assert realism.ks_star(np.array(values), real) < 0.1, row
    half = [draw_crop(rng, "real", 128).longer_side for _ in range(1000)]
    assert np.median(half) == pytest.approx(np.median(sides) / 2, rel=0.1)


def test_the_even_prior_sees_all_sides() -> None:
    rng = np.random.default_rng(0)
    views = [draw_view(rng, "even") for _ in range(2000)]
    assert np.bincount([round(view.yaw / 45) % 8 for view in views], minlength=8).min() > 100
    assert {draw_crop(rng, "even", 200).longer_side for _ in range(50)} == {200}
