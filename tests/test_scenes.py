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

from multitasknet.cli import main
from multitasknet.vehicle.attributes import COLORS, TYPES
from vehiclesynth import SyntheticError, synthesize_scenes
from vehiclesynth.film import Frame, Stage, set_stage, shoot_film
from vehiclesynth.light import draw_light
from vehiclesynth.look import draw_look
from vehiclesynth.model import Model, build_model
from vehiclesynth.scene import draw_station
from vehiclesynth.street import draw_street
from vehiclesynth.traffic import RATE, Passage, draw_traffic, drive

TINY = {"vehicles": 2, "cameras": 2, "seconds": 1, "pixels": 96}


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
    assert traffic.arrivals.shape == (vehicles, cameras)
    starts = np.array([(post.start - traffic.posts[0].start).seconds for post in traffic.posts])
    for times, oncoming in zip(traffic.arrivals, traffic.oncoming, strict=True):
        passed = np.flatnonzero(~np.isnan(times))
        assert np.all(np.diff(passed) == 1)
        assert len(passed) == 1 if oncoming else len(passed) >= min(2, cameras)
        assert np.all((times[passed] > 0) & (times[passed] < seconds))
        if seconds == 60:  # from film to film at 15 to 100 km/h
            ways = [metres(*traffic.posts[i : i + 2]) for i in passed[:-1]]
            speeds = ways / np.diff(starts[passed] + times[passed])
            assert np.all((speeds > 4) & (speeds < 28))
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


def metres(one, other) -> float:
    north = 111_320 * (other.latitude - one.latitude)
    east = 111_320 * np.cos(np.radians(one.latitude)) * (other.longitude - one.longitude)
    return float(np.hypot(north, east))


@pytest.fixture(scope="module")
def stage() -> Stage:
    rng = np.random.default_rng(3)
    station = draw_station(rng, "real")
    light = replace(draw_light(rng, wide=False), softness=0.5)
    station = replace(station, place=replace(station.place, mount=0.0))
    return set_stage(rng, station, light, (320, 240))


@pytest.fixture(scope="module")
def models() -> dict[int, Model]:
    rng = np.random.default_rng(1)
    kinds = {0: ("sedan", "red"), 1: ("bus", "white")}
    return {
        number: build_model(draw_look(rng, TYPES.index(kind) + 1, COLORS.index(color) + 1))
        for number, (kind, color) in kinds.items()
    }


def shot(stage: Stage, models: dict[int, Model], places: dict[int, tuple[float, float]]) -> Frame:
    passages = [Passage(number, np.array([x]), y, 0.0) for number, (x, y) in places.items()]
    (frame,) = shoot_film(stage, models, passages, 1, np.random.default_rng(0))
    return frame


def test_a_box_is_what_the_camera_sees_of_a_vehicle_that_stands_there(stage, models) -> None:
    empty = shot(stage, models, {})
    assert empty.boxes == {}
    for x, y in ((15, 0), (30, 3), (50, -3)):
        frame = shot(stage, models, {0: (x, y)})
        on_street = replace(stage.camera, eye=stage.camera.eye + stage.origin)
        points, _ = on_street.project(models[0].mesh.points + np.array([x, y, 0]))
        expected = [*points.min(axis=0), *points.max(axis=0) + 1]
        assert frame.boxes[0] == pytest.approx(expected, abs=2)  # tips of a pixel do not count
        changed = np.abs(frame.pixels.astype(int) - empty.pixels).max(axis=2) > 40
        x1, y1, x2, y2 = frame.boxes[0]
        assert changed[y1:y2, x1:x2].mean() > 0.3
        changed[y1 : y2 + (y2 - y1) // 3, x1 - (x2 - x1) // 2 : x2 + (x2 - x1) // 2] = False
        assert not changed.any()  # but for its shadow


def test_a_box_is_of_the_body_without_its_antenna(stage) -> None:
    model = build_model(draw_look(np.random.default_rng(0), 1, 5))
    points = model.mesh.points
    is_body = points[:, 2] < points[:, 2].max() - 0.2
    assert 0 < np.count_nonzero(~is_body) < 20
    on_street = replace(stage.camera, eye=stage.camera.eye + stage.origin)
    for x in (12, 15):
        pixels, _ = on_street.project(points[is_body] + np.array([x, 0, 0]))
        assert shot(stage, {0: model}, {0: (x, 0)}).boxes[0][1] == pytest.approx(
            pixels[:, 1].min(), abs=1.5
        )


def test_the_nearer_vehicle_is_in_front_and_a_hidden_one_has_no_box(stage, models) -> None:
    car, bus = (shot(stage, models, {number: (x, 0)}) for number, x in ((0, 20), (1, 35)))
    both = shot(stage, models, {1: (35, 0), 0: (20, 0)})
    assert both.boxes == car.boxes | bus.boxes  # the bus shows above the car
    x1, y1, x2, y2 = car.boxes[0]
    inside = slice(y1 + 4, y2 - 4), slice((3 * x1 + x2) // 4, (x1 + 3 * x2) // 4)
    assert np.abs(both.pixels[inside].astype(int) - car.pixels[inside]).mean() < 12
    behind = shot(stage, models, {0: (32, 0), 1: (20, 0)})
    assert set(behind.boxes) == {1}


def test_what_is_far_or_half_out_of_the_picture_has_no_box(stage, models) -> None:
    for x in (-1, 5, 104):
        assert shot(stage, models, {0: (x, 0)}).boxes == {}


@pytest.fixture(scope="module")
def films(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("films") / "one"
    data = synthesize_scenes(root, scenes=2, **TINY, seed=5)
    assert (data.vehicles, data.films, data.frames) == (4, 4, 40)
    assert data.boxes == sum(len(boxes_of(path)) for path in root.glob("*/*/gt/gt.txt")) > 10
    return root


def boxes_of(path: Path) -> list[list[int]]:
    return [[int(cell) for cell in row] for row in csv.reader(path.open())]


def test_the_folders_are_those_of_cityflow(films) -> None:
    for scene, cameras, vehicles in (
        ("S01", ["c001", "c002"], {1, 2}),
        ("S02", ["c003", "c004"], {3, 4}),
    ):
        posts = list(csv.DictReader((films / scene / "cameras.csv").open()))
        assert [post["name"] for post in posts] == cameras
        assert all(
            post["start"].endswith("Z") and abs(float(post["latitude"])) < 90 for post in posts
        )
        known = list(csv.DictReader((films / scene / "vehicles.csv").open()))
        assert {int(row["vehicle"]) for row in known} == vehicles
        assert all(row["type"] in TYPES and row["color"] in COLORS for row in known)
        for folder in (films / scene / camera for camera in cameras):
            video = cv2.VideoCapture(str(folder / "vdo.avi"))
            assert video.get(cv2.CAP_PROP_FPS) == RATE
            assert {video.read()[1].shape for _ in range(RATE)} == {(72, 96, 3)}
            assert not video.read()[0]
            for frame, vehicle, left, top, width, height, *rest in boxes_of(folder / "gt/gt.txt"):
                assert 1 <= frame <= RATE and vehicle in vehicles and rest == [1, -1, -1, -1]
                assert 0 <= left < left + width <= 96 and 0 <= top < top + height <= 72


def test_the_same_seed_gives_the_same_bytes_with_any_number_of_workers(films, tmp_path) -> None:
    other = tmp_path / "two"
    synthesize_scenes(other, scenes=2, **TINY, seed=5, workers=2)
    one, two = (
        {path.relative_to(root): path.read_bytes() for path in root.rglob("*.*") if path.is_file()}
        for root in (films, other)
    )
    assert one == two and len(one) == 2 * 2 + 4 * 2


def test_frames_are_written_in_the_layout_of_mot(films, tmp_path) -> None:
    found = synthesize_scenes(tmp_path / "frames", scenes=1, **TINY, seed=5, frames=True)
    assert (found.films, found.frames) == (2, 20)
    camera, filmed = (root / "S01" / "c001" for root in (found.root, films))
    pictures = sorted((camera / "img1").iterdir())
    assert [path.name for path in pictures] == [f"{n:06}.jpg" for n in range(1, RATE + 1)]
    assert Image.open(pictures[0]).size == (96, 72)
    assert "seqLength=10\nimWidth=96\nimHeight=72" in (camera / "seqinfo.ini").read_text()
    assert (camera / "gt/gt.txt").read_bytes() == (filmed / "gt/gt.txt").read_bytes()
    assert not (camera / "vdo.avi").exists()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--scenes", "1", "--images", "3"], "--images is of pictures; leave out --scenes"),
        (["--scenes", "1", "--test-vehicles", "3"], "--test-vehicles is of pictures"),
        (["--seconds", "3"], "--seconds needs --scenes"),
        (["--scenes", "1", "--pixels", "32"], "pixels is 32; expected 64 to 2048"),
        (["--scenes", "100"], "scenes is 100; expected 1 to 99"),
    ],
)
def test_options_that_do_not_go_together_are_refused(tmp_path, capsys, options, named) -> None:
    root = tmp_path / "data"
    try:
        code = main(["synthesize", "--output", str(root), *options])
    except SystemExit as error:
        code = error.code
    assert code == 2
    assert named in capsys.readouterr().err
    assert not root.exists()


@pytest.mark.parametrize("wrong", [{"seconds": 0}, {"prior": "odd"}, {"workers": 0}, {"seed": -1}])
def test_bad_arguments_of_films_are_refused(tmp_path, wrong) -> None:
    with pytest.raises(SyntheticError, match=f"{next(iter(wrong))} is"):
        synthesize_scenes(tmp_path / "data", **TINY | wrong)
    assert not (tmp_path / "data").exists()
