"""Films of traffic: boxes of what is seen, nearer vehicles in front, the same bytes every time."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from multitasknet.vehicle.attributes import COLORS, TYPES
from vehiclesynth import synthesize_scenes
from vehiclesynth.film import Frame, Stage, set_stage, shoot_film
from vehiclesynth.light import draw_light
from vehiclesynth.look import draw_look
from vehiclesynth.model import Model, build_model
from vehiclesynth.scene import draw_station
from vehiclesynth.street import draw_street
from vehiclesynth.traffic import RATE, Passage, draw_traffic, drive


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 99),
    vehicles=st.integers(1, 40),
    cameras=st.integers(1, 5),
    seconds=st.sampled_from([1, 15, 60, 200]),
)
def test_vehicles_pass_cameras_in_order_and_never_drive_into_each_other(
    seed, vehicles, cameras, seconds
) -> None:
    rng = np.random.default_rng(seed)
    traffic = draw_traffic(rng, vehicles, cameras, seconds)
    for times, oncoming in zip(traffic.arrivals, traffic.oncoming, strict=True):
        passed = np.flatnonzero(~np.isnan(times))
        assert np.all(np.diff(passed) == 1)
        assert len(passed) == 1 if oncoming else len(passed) >= min(2, cameras)
        assert np.all((times[passed] > 0) & (times[passed] < seconds))
    lengths = rng.uniform(4, 12, vehicles)
    street = draw_street(rng, wide=False)
    passages = drive(rng, street, traffic.arrivals[:, 0], traffic.oncoming, lengths, seconds)
    assert {one.vehicle for one in passages} == set(np.flatnonzero(traffic.arrivals[:, 0] > 0))
    for number, one in enumerate(passages):
        assert len(one.x) == seconds * RATE
        assert street.roadsides[0] < one.y < street.roadsides[1]
        assert (abs(one.yaw) < 1) == (one.y < street.middle)  # on the right
        for other in passages[:number]:
            if abs(one.y - other.y) < 1.5:
                bumpers = (lengths[one.vehicle] + lengths[other.vehicle]) / 2
                assert np.all(np.abs(one.x - other.x) > bumpers)


@pytest.fixture(scope="module")
def stage() -> Stage:
    rng = np.random.default_rng(3)
    station = draw_station(rng, "real")
    light = replace(draw_light(rng, wide=False), softness=0.5)
    station = replace(station, place=replace(station.place, mount=0.0))
    return set_stage(rng, station, light, (320, 240))


@pytest.fixture(scope="module")
def models() -> list[Model]:
    """A red car, a white bus, and a car with an antenna."""
    looks = ((1, TYPES.index("sedan"), "red"), (1, TYPES.index("bus"), "white"), (0, 0, "red"))
    return [
        build_model(draw_look(np.random.default_rng(seed), kind + 1, COLORS.index(color) + 1))
        for seed, kind, color in looks
    ]


def shot(stage: Stage, models: list[Model], places: dict[int, tuple[float, float]]) -> Frame:
    passages = [Passage(number, np.array([x]), y, 0.0) for number, (x, y) in places.items()]
    known = dict(enumerate(models))
    (frame,) = shoot_film(stage, known, passages, 1, np.random.default_rng(0))
    return frame


def test_a_box_is_what_the_camera_sees_of_a_vehicle_that_stands_there(stage, models) -> None:
    empty = shot(stage, models, {})
    assert empty.boxes == {}
    on_street = replace(stage.camera, eye=stage.camera.eye + stage.origin)
    for x, y in ((15, 0), (30, 3), (50, -3)):
        frame = shot(stage, models, {0: (x, y)})
        points, _ = on_street.project(models[0].mesh.points + np.array([x, y, 0]))
        expected = [*points.min(axis=0), *points.max(axis=0) + 1]
        assert frame.boxes[0] == pytest.approx(expected, abs=2)  # tips of a pixel do not count
        changed = np.abs(frame.pixels.astype(int) - empty.pixels).max(axis=2) > 40
        x1, y1, x2, y2 = frame.boxes[0]
        assert changed[y1:y2, x1:x2].mean() > 0.3
        changed[y1 : y2 + (y2 - y1) // 3, x1 - (x2 - x1) // 2 : x2 + (x2 - x1) // 2] = False
        assert not changed.any()  # but for its shadow
    points = models[2].mesh.points
    body = points[points[:, 2] < points[:, 2].max() - 0.2]  # without its antenna
    assert 0 < len(points) - len(body) < 20
    top = on_street.project(body + np.array([12, 0, 0]))[0][:, 1].min()
    assert shot(stage, models, {2: (12, 0)}).boxes[2][1] == pytest.approx(top, abs=1.5)


def test_the_nearer_vehicle_is_in_front_and_what_is_hidden_or_far_has_no_box(stage, models) -> None:
    car, bus = (shot(stage, models, {number: (x, 0)}) for number, x in ((0, 20), (1, 35)))
    both = shot(stage, models, {0: (20, 0), 1: (35, 0)})
    assert both.boxes == car.boxes | bus.boxes  # the bus shows above the car
    x1, y1, x2, y2 = car.boxes[0]
    inside = slice(y1 + 4, y2 - 4), slice((3 * x1 + x2) // 4, (x1 + 3 * x2) // 4)
    assert np.abs(both.pixels[inside].astype(int) - car.pixels[inside]).mean() < 12
    for y, seen in ((0, {1}), (1.6, {1}), (2.0, {0, 1})):  # less than a third has no box
        assert set(shot(stage, models, {1: (20, 0), 0: (32, y)}).boxes) == seen
    for x in (-1, 5, 104):  # the last is far, the others half out of the picture
        assert shot(stage, models, {0: (x, 0)}).boxes == {}


TINY = {"vehicles": 2, "cameras": 2, "seconds": 1, "pixels": 96, "seed": 5}


def rows_of(path: Path) -> list[list[str]]:
    return list(csv.reader(path.open()))


def test_the_folders_are_those_of_cityflow_or_mot_whatever_the_workers(tmp_path) -> None:
    root = tmp_path / "films"
    data = synthesize_scenes(root, scenes=2, **TINY)
    assert (data.vehicles, data.films, data.frames) == (4, 4, 40)
    assert data.boxes == sum(len(rows_of(path)) for path in root.glob("*/*/gt/gt.txt")) > 10
    for scene, cameras, vehicles in (("S01", (1, 2), (1, 2)), ("S02", (3, 4), (3, 4))):
        _, *posts = rows_of(root / scene / "cameras.csv")
        assert [post[0] for post in posts] == [f"c{camera:03}" for camera in cameras]
        assert all(post[3].endswith("Z") and abs(float(post[1])) < 90 for post in posts)
        _, *known = rows_of(root / scene / "vehicles.csv")
        assert [int(row[0]) for row in known] == list(vehicles)
        assert all(row[1] in TYPES and row[2] in COLORS for row in known)
        for folder in (root / scene / post[0] for post in posts):
            video = cv2.VideoCapture(str(folder / "vdo.avi"))
            assert video.get(cv2.CAP_PROP_FPS) == RATE
            assert [video.read()[0] for _ in range(RATE + 1)] == [True] * RATE + [False]
            for row in rows_of(folder / "gt/gt.txt"):
                frame, vehicle, left, top, width, height, *rest = map(int, row)
                assert 1 <= frame <= RATE and vehicle in vehicles and rest == [1, -1, -1, -1]
                assert 0 <= left < left + width <= 96 and 0 <= top < top + height <= 72

    again = synthesize_scenes(tmp_path / "again", scenes=2, **TINY, workers=2).root
    for path in [path for path in root.rglob("*") if path.is_file()]:
        assert path.read_bytes() == (again / path.relative_to(root)).read_bytes(), path
    frames = synthesize_scenes(tmp_path / "frames", scenes=1, **TINY, frames=True).root
    filmed, camera = root / "S01" / "c001", frames / "S01" / "c001"
    pictures = [camera / "img1" / f"{number:06}.jpg" for number in range(1, RATE + 1)]
    assert {Image.open(path).size for path in pictures} == {(96, 72)}
    assert "seqLength=10\nimWidth=96\nimHeight=72" in (camera / "seqinfo.ini").read_text()
    assert rows_of(camera / "gt/gt.txt") == rows_of(filmed / "gt/gt.txt")
