"""Synthetic vehicles: exact labels, the protocol, the same bytes every time, and data that teach.

What a picture shows is checked against independent geometry: rays through triangles, and the
painted mask.
"""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from multitasknet import preprocess, read_labels
from multitasknet.cli import main
from multitasknet.data.labels import COLUMNS, LabelRow
from multitasknet.images import resize
from multitasknet.synthetic import (
    SyntheticError,
    contact_sheet,
    draw_overlay,
    make_plan,
    synthesize,
    take_picture,
)
from multitasknet.synthetic.camera import Camera, Station, look_at_vehicle
from multitasknet.synthetic.model import Model, build_model
from multitasknet.synthetic.objects import occlude
from multitasknet.synthetic.render import SUPERSAMPLING, draw_light, hidden_by_solids, paint
from multitasknet.synthetic.vehicle import draw_vehicle
from multitasknet.vehicle.attributes import TYPES
from multitasknet.vehicle.keypoints import visible_surfaces
from multitasknet.vehicle.maps import draw_maps

SMALL = {"vehicles": 2, "images": 2, "cameras": 2, "pixels": 64}
STRAIGHT = Station(3, 2.5, 0.0, (1, 1, 1), 1, 1, 0, 0, 0, 90)
VIEWS = [(yaw, height) for yaw in range(10, 360, 35) for height in (1.2, 3.0, 7.0)]


def model_of(kind: str, seed: int = 0) -> Model:
    rng = np.random.default_rng(seed)
    return build_model(draw_vehicle(rng, TYPES.index(kind) + 1, int(rng.integers(10)) + 1))


def camera_at(model: Model, yaw: float, height: float, size: int = 160) -> Camera:
    """A camera whose square picture of ``size`` pixels holds the whole vehicle."""
    points = np.concatenate([part.quads.reshape(-1, 3) for part in model.parts])
    distance = 2.5 * np.ptp(points[:, 0])
    target = np.array([0, 0, points[:, 2].max() / 2])
    camera = look_at_vehicle(
        STRAIGHT, yaw=np.radians(yaw), distance=distance, height=height, target=target
    )
    pixels, _ = camera.project(points)
    low, extent = pixels.min(axis=0), np.ptp(pixels, axis=0).max()
    return camera.cropped(low - 0.05 * extent, size / (1.1 * extent))


def pose_of(model: Model, camera: Camera) -> np.ndarray:
    pixels, _ = camera.project(model.keypoints)
    seen = ~hidden_by_solids(model.keypoints, model, camera.eye)
    return np.column_stack([pixels, seen])


# -- geometry and labels -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", TYPES)
def test_right_keypoints_mirror_the_left_ones_and_stand_where_they_are_named(kind) -> None:
    points = model_of(kind).keypoints
    np.testing.assert_allclose(points[18:], points[:18] * [1, -1, 1])
    assert (points[:18, 1] > 0).all()
    x, _, z = points[:18].T
    assert x[17] > x[1] > x[0] > x[10]  # front bumper, front wheel, rear wheel, rear bumper
    assert (np.diff(x[2:10]) < 0).all()  # the arches' points run from front to rear
    assert x[16] > x[15] > x[14] > x[13] >= x[12] - 0.1 >= x[11] - 2
    assert z[14] > z[15] > z[16] > z[17]
    assert z[13] > z[12] > z[11] > z[10]


@pytest.mark.parametrize("kind", TYPES)
def test_seen_keypoints_lie_on_the_painted_vehicle_from_every_side(kind) -> None:
    model = model_of(kind, seed=1)
    light = draw_light(np.random.default_rng(0))
    for yaw, height in VIEWS[::2]:
        camera = camera_at(model, yaw, height)
        mask = Image.new("L", (160 * SUPERSAMPLING,) * 2)
        paint(Image.new("RGB", mask.size), model, camera, light, mask)
        near = np.asarray(mask.reduce(SUPERSAMPLING).filter(ImageFilter.MaxFilter(5)))
        pose = pose_of(model, camera)
        columns, rows = pose[pose[:, 2] > 0, :2].round().astype(int).T
        assert (near[rows, columns] > 0).all(), (yaw, height)


@pytest.mark.parametrize("kind", TYPES)
def test_visibility_agrees_with_rays_through_the_painted_triangles(kind) -> None:
    model = model_of(kind, seed=2)
    quads = np.concatenate([part.quads for part in model.parts])
    triangles = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    agreed = []
    for yaw, height in VIEWS[1::3]:
        eye = camera_at(model, yaw, height).eye
        blocked = [is_blocked(eye, point, triangles) for point in model.keypoints]
        agreed.append(hidden_by_solids(model.keypoints, model, eye) == blocked)
    assert np.mean(agreed) > 0.96


def is_blocked(eye: np.ndarray, point: np.ndarray, triangles: np.ndarray) -> bool:
    """Moeller and Trumbore: whether the ray hits a triangle more than 8 cm before the point."""
    ray = point - eye
    first, second = triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]
    across = np.cross(ray, second)
    area = (first * across).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        offset = eye - triangles[:, 0]
        u = (offset * across).sum(axis=1) / area
        turned = np.cross(offset, first)
        v = (turned @ ray) / area
        reach = (second * turned).sum(axis=1) / area
        hit = (u >= 0) & (v >= 0) & (u + v <= 1) & (reach > 0)
    return bool((hit & ((1 - reach) * np.linalg.norm(ray) > 0.08)).any())


@pytest.mark.parametrize("kind", TYPES)
def test_each_side_shows_its_own_keypoints_and_surfaces(kind) -> None:
    model = model_of(kind, seed=3)
    left, right = (pose_of(model, camera_at(model, yaw, 2.0)) for yaw in (90, 270))
    assert left[:18, 2].all()
    assert not left[18:28, 2].any()  # the far wheels and arches
    assert right[18:, 2].all()
    assert not right[:10, 2].any()
    assert left[1, 0] < left[0, 0]  # seen from its left, a vehicle points to the left
    assert right[19, 0] > right[18, 0]
    assert {1, 2} <= set(visible_surfaces(left))
    assert not {3, 4, 5} & set(visible_surfaces(left))
    assert {4, 5} <= set(visible_surfaces(right))
    assert 10 in visible_surfaces(pose_of(model, camera_at(model, 0, 3.0)))  # the windscreen
    assert 6 in visible_surfaces(pose_of(model, camera_at(model, 180, 3.0)))  # the rear bumper


def test_a_written_pose_is_one_of_seen_and_hidden_points() -> None:
    plan = make_plan(2, 12, 3, seed=5)[0]
    poses = [take_picture(plan, picture, size=96) for picture in plan.pictures]
    confidence = np.concatenate([shot.keypoints[:, 2] for shot in poses])
    seen = confidence == 1
    assert ((confidence >= 0.1) & (confidence <= 0.4))[~seen].all()
    assert 0.3 < seen.mean() < 0.8
    for shot in poses:
        assert shot.keypoints.dtype == np.float32
        assert max(Image.open(io.BytesIO(shot.jpeg)).size) == 96


def test_an_occluder_hides_the_keypoints_that_it_covers_and_no_others() -> None:
    model = model_of("suv", seed=4)
    camera = camera_at(model, 40, 3.0)
    light = draw_light(np.random.default_rng(1))
    before = Image.new("RGB", (160 * SUPERSAMPLING,) * 2, "magenta")  # no object has this colour
    pose = pose_of(model, camera)
    count = 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        after, covered = occlude(rng, before, camera, light, pose[:, :2], pose[:, 2] == 0)
        columns, rows = ((pose[:, :2] + 0.5) * SUPERSAMPLING - 0.5).round().astype(int).T
        changed = (np.asarray(after) != np.asarray(before)).any(axis=2)[rows, columns]
        np.testing.assert_array_equal(covered, changed)
        assert covered[pose[:, 2] > 0].mean() <= 0.4
        count += covered.any()
    assert count > 5


# -- the data set --------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    vehicles=st.integers(2, 90),
    images=st.integers(2, 20),
    cameras=st.integers(2, 12),
    seed=st.integers(0, 5),
)
def test_every_plan_keeps_the_protocol(vehicles, images, cameras, seed) -> None:
    plans = make_plan(vehicles, images, cameras, seed)
    pictures = [picture for plan in plans for picture in plan.pictures]
    of = {
        split: [picture for picture in pictures if picture.split == split]
        for split in ("train", "query", "test")
    }
    train_ids, query_ids, test_ids = ({p.vehicle_id for p in of[split]} for split in of)
    assert len(train_ids) == vehicles
    assert query_ids == test_ids
    assert len(test_ids) == max(10, -(-vehicles // 3))
    assert not train_ids & test_ids
    assert len({picture.name for picture in pictures}) == len(pictures) == len(plans) * images
    cameras_of = {i: {p.camera for p in of["test"] if p.vehicle_id == i} for i in test_ids}
    assert all(cameras_of[query.vehicle_id] - {query.camera} for query in of["query"])
    classes = {(plan.type_id, plan.color_id) for plan in plans if plan.vehicle_id in train_ids}
    types, colors = (set(ids) for ids in zip(*classes, strict=True))
    if vehicles >= 10:
        assert types == set(range(1, 10))
        assert colors == set(range(1, 11))
    assert {plan.type_id for plan in plans} == types
    assert {plan.color_id for plan in plans} == colors


def test_the_same_seed_gives_the_same_bytes_with_any_number_of_workers(tmp_path) -> None:
    for name, seed, workers in (("one", 7, 1), ("two", 7, 2), ("other", 8, 1)):
        synthesize(
            tmp_path / name, **SMALL, seed=seed, workers=workers, heatmaps=True, segments=True
        )
    one, two, other = (contents(tmp_path / name) for name in ("one", "two", "other"))
    assert one == two
    assert one["label_train.csv"] != other["label_train.csv"]
    assert len(one) == 3 + 24 * (1 + 36 + 13)


def contents(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def test_the_folder_is_what_pamtri_reads(tmp_path) -> None:
    root = tmp_path / "data"
    root.mkdir()
    data = synthesize(root, **SMALL, heatmaps=True, segments=True, sheet=tmp_path / "sheet.png")
    assert data.vehicles == {"train": 2, "test": 10}
    assert data.images == {"train": 4, "query": 10, "test": 10}
    for split, count in data.images.items():
        table = root / f"label_{split}.csv"
        rows = read_labels(table)
        assert len(rows) == count
        assert {len(line.split(",")) for line in table.read_text().splitlines()} == {COLUMNS}
        assert {path.name for path in (root / f"image_{split}").iterdir()} == set(rows)
    row = next(iter(rows.values()))
    vehicle, camera, frame, index = Path(row.image).stem.split("_")
    assert (int(vehicle), camera[0], len(frame), index) == (row.vehicle_id, "c", 8, "1")
    image = root / "image_test" / row.image
    x, p = preprocess(image, row.keypoints, "heatmap+segment", (64, 64))
    assert (x.shape, p.shape) == ((52, 64, 64), (108,))
    width, height = Image.open(image).size
    drawn = draw_maps(row.keypoints, heatmaps=True, segments=True, height=height, width=width)
    stored = [root / f"heatmap_test/{image.stem}/{k:02}.jpg" for k in range(36)]
    stored += [root / f"segment_test/{image.stem}/{k:02}.jpg" for k in range(13)]
    for path, expected in zip(stored, drawn, strict=True):
        difference = np.asarray(Image.open(path)).astype(int) - expected
        assert np.abs(difference).mean() < 1.5
    assert Image.open(tmp_path / "sheet.png").size[0] > 400
    assert not list(tmp_path.glob(".data*"))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"vehicles": 1}, "vehicles is 1; expected at least 2"),
        ({"images": 1}, "images is 1; expected at least 2"),
        ({"cameras": 1}, "cameras is 1; expected at least 2"),
        ({"pixels": 16}, "pixels is 16; expected 32 to 2048"),
        ({"workers": 0}, "workers is 0"),
        ({"sheet": "samples.doc"}, "ends in .png or .jpg"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_written(tmp_path, arguments, named) -> None:
    root = tmp_path / "new" / "data"
    with pytest.raises(SyntheticError, match=named):
        synthesize(root, **(SMALL | arguments))
    assert not root.parent.exists()


def test_folders_that_will_not_do_are_refused(tmp_path, monkeypatch) -> None:
    full, file = tmp_path / "full", tmp_path / "file"
    full.mkdir()
    (full / "mine.txt").write_text("keep")
    file.write_text("keep")
    with pytest.raises(SyntheticError, match="full is not empty"):
        synthesize(full, **SMALL)
    with pytest.raises(SyntheticError, match="is a file"):
        synthesize(file, **SMALL)
    with pytest.raises(SyntheticError, match="cannot be made"):
        synthesize(file / "below", **SMALL)
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(SyntheticError, match="0 MB are free"):
        synthesize(tmp_path / "new", **SMALL)
    assert (full / "mine.txt").read_text() == file.read_text() == "keep"
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_an_interrupted_run_leaves_nothing(tmp_path) -> None:
    root = tmp_path / "data"
    command = [sys.executable, "-m", "multitasknet", "synthesize", "--output", str(root)]
    process = subprocess.Popen(
        [*command, "--workers", "2"],
        stderr=subprocess.PIPE,
        start_new_session=True,
        # A background job ignores it, and its children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob(".data.*/data/image_train/*.jpg"))) < 60:
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline, "no images were written"
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert b"multitasknet: interrupted" in said
    assert b"Traceback" not in said
    assert not root.exists()
    assert not list(tmp_path.glob(".data.*"))


def test_the_command_writes_a_data_set_and_a_sheet(tmp_path, capsys) -> None:
    root, sheet = tmp_path / "data", tmp_path / "sheet.jpg"
    arguments = ["--vehicles", "2", "--images", "2", "--cameras", "2", "--pixels", "48"]
    command = ["synthesize", "--output", str(root), *arguments, "--workers", "1"]
    assert main([*command, "--sheet", str(sheet)]) == 0
    assert "4 train, 10 query, 10 test images of 2 + 10 vehicles" in capsys.readouterr().out
    assert sheet.is_file()
    assert main(command) == 2
    assert "is not empty; give a new folder" in capsys.readouterr().err


def test_an_overlay_marks_keypoints_and_leaves_the_image_alone() -> None:
    image = Image.new("RGB", (100, 80), "gray")
    pose = np.zeros((36, 3), np.float32)
    pose[3] = 50, 40, 1
    pose[20] = -20, 500, 0.2
    overlay = draw_overlay(image, pose)
    assert overlay.size == image.size
    assert overlay.getpixel((50, 40)) == (255, 214, 0)
    assert overlay.getpixel((50, 60)) == image.getpixel((50, 60)) == (128, 128, 128)
    sheet = contact_sheet([(overlay, "a"), (image, "b"), (image, "c")], columns=2, cell=50)
    assert sheet.size[0] == 100
    assert sheet.getpixel((25, 25)) != (255, 255, 255)


# -- what can be learned from it -----------------------------------------------------------------


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("synthetic") / "data"
    synthesize(root, vehicles=60, images=6, cameras=4, pixels=96, workers=2)
    return root


def samples(root: Path, split: str) -> list[tuple[np.ndarray, LabelRow]]:
    rows = read_labels(root / f"label_{split}.csv").values()
    return [(np.asarray(Image.open(root / f"image_{split}" / row.image)), row) for row in rows]


def color_features(pixels: np.ndarray, _: LabelRow) -> np.ndarray:
    """A histogram of hue, saturation and value over the middle of the picture."""
    height, width, _ = pixels.shape
    middle = pixels[height // 6 : -height // 6, width // 6 : -width // 6]
    hsv = np.asarray(Image.fromarray(middle).convert("HSV")).reshape(-1, 3)
    counts, _ = np.histogramdd(hsv, bins=(16, 4, 4), range=[(0, 256)] * 3)
    return np.sqrt(counts.ravel() / len(hsv))


def shape_features(pixels: np.ndarray, row: LabelRow) -> np.ndarray:
    """Gradient directions on a 10x10 grid and the aspect; views of the right side are mirrored."""
    confidence = row.keypoints[:, 2]
    if confidence[18:].sum() > confidence[:18].sum():
        pixels = pixels[:, ::-1]
    down, across = np.gradient(resize(pixels, (80, 80)).mean(axis=2))
    direction = (np.arctan2(down, across) % np.pi / np.pi * 8).astype(int) % 8
    strength = np.hypot(down, across)
    cells = [
        np.where(direction == index, strength, 0).reshape(10, 8, 10, 8).sum(axis=(1, 3))
        for index in range(8)
    ]
    histogram = np.stack(cells, axis=-1)
    histogram /= np.linalg.norm(histogram, axis=-1, keepdims=True) + 20
    aspect = pixels.shape[1] / pixels.shape[0]
    return np.append(histogram.ravel(), [4 * aspect, 4 / aspect])


def corner_features(pixels: np.ndarray, row: LabelRow) -> np.ndarray:
    """The background in the four corners as 6x6 pixels; grey where a keypoint is near."""
    height, width, _ = pixels.shape
    x, y, _ = row.keypoints.T
    corners = []
    for top in (0, height - height // 6):
        for left in (0, width - width // 6):
            corner = pixels[top : top + height // 6, left : left + width // 6]
            middle = left + width / 12, top + height / 12
            near = (np.abs(x - middle[0]) < width / 7) & (np.abs(y - middle[1]) < height / 7)
            small = resize(corner, (6, 6)).astype(np.float32)
            corners.append(np.full_like(small, 128) if near.any() else small)
    return np.stack(corners).ravel()


@pytest.mark.parametrize(
    ("features", "field", "least"),
    [(color_features, "color_id", 0.6), (shape_features, "type_id", 0.42)],
)
def test_a_linear_model_learns_color_and_type_for_vehicles_it_has_not_seen(
    data, features, field, least
) -> None:
    train = samples(data, "train")
    unseen = samples(data, "query") + samples(data, "test")
    truth = np.array([getattr(row, field) for _, row in unseen])
    most_common = np.unique(truth, return_counts=True)[1].max() / len(truth)
    guesses = ridge_guesses(
        np.stack([features(*sample) for sample in train]),
        np.array([getattr(row, field) for _, row in train]),
        np.stack([features(*sample) for sample in unseen]),
    )
    assert (guesses == truth).mean() > max(least, 1.4 * most_common)


def ridge_guesses(known: np.ndarray, classes: np.ndarray, unseen: np.ndarray) -> np.ndarray:
    """Ridge regression on one-hot targets, in its dual form."""
    middle, names = known.mean(axis=0), np.unique(classes)
    target = (classes[:, None] == names).astype(float)
    kernel = (known - middle) @ (known - middle).T
    kernel += 0.02 * np.trace(kernel) / len(kernel) * np.eye(len(kernel))
    weights = np.linalg.solve(kernel, target - target.mean(axis=0))
    scores = (unseen - middle) @ (known - middle).T @ weights + target.mean(axis=0)
    return names[scores.argmax(axis=1)]


def test_identity_is_in_the_vehicle_and_not_in_the_background(data) -> None:
    query, gallery = samples(data, "query"), samples(data, "test")
    chance = 1 / len({row.vehicle_id for _, row in gallery})
    background = rank1(query, gallery, corner_features)
    assert background < 4 * chance  # a fifth of 20 queries is 4: chance gives 1
    assert rank1(query, gallery, color_features) > 2 * max(background, chance)


def rank1(query: list, gallery: list, features: Callable[..., np.ndarray]) -> float:
    """Share of queries whose nearest neighbour in another camera is the same vehicle."""
    found = np.stack([features(*sample) for sample in gallery])
    cameras = np.array([row.image.split("_")[1] for _, row in gallery])
    ids = np.array([row.vehicle_id for _, row in gallery])
    hits = []
    for pixels, row in query:
        distance = ((found - features(pixels, row)) ** 2).sum(axis=1)
        distance[cameras == row.image.split("_")[1]] = np.inf
        hits.append(ids[distance.argmin()] == row.vehicle_id)
    return float(np.mean(hits))


def test_the_former_name_of_pixels_is_accepted_with_a_warning(tmp_path: Path) -> None:
    with pytest.warns(FutureWarning, match="size= is now pixels="), pytest.raises(SyntheticError):
        synthesize(tmp_path / "data", vehicles=2, images=2, cameras=2, size=16)
