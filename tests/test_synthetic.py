"""Synthetic data sets: the protocol, the same bytes every time, exact labels.

What the pictures show is tested in `test_drawn_vehicles.py`.
"""

from __future__ import annotations

import csv
import io
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from multitasknet import preprocess, read_dataset, read_labels
from multitasknet.cli import main
from multitasknet.data.labels import COLUMNS, LabelRow
from multitasknet.images import resize
from multitasknet.vehicle.attributes import COLORS, TYPES
from multitasknet.vehicle.maps import draw_maps
from vehiclesynth import SyntheticError, make_plan, synthesize, take_picture
from vehiclesynth.plan import SPLITS
from vehiclesynth.prior import PRIORS

SMALL = {"vehicles": 2, "images": 2, "cameras": 2, "pixels": 64}


@settings(max_examples=30, deadline=None)
@given(
    vehicles=st.integers(2, 90),
    images=st.integers(2, 20),
    cameras=st.integers(2, 12),
    seed=st.integers(0, 5),
    prior=st.sampled_from(PRIORS),
    held_out=st.none() | st.integers(2, 40),
)
def test_every_plan_keeps_the_protocol(vehicles, images, cameras, seed, prior, held_out) -> None:
    plans = make_plan(vehicles, images, cameras, seed, prior=prior, test_vehicles=held_out)
    pictures = [picture for plan in plans for picture in plan.pictures]
    of = {split: [one for one in pictures if one.split == split] for split in SPLITS}
    train_ids, query_ids, test_ids = ({one.vehicle_id for one in of[split]} for split in SPLITS)
    assert len(train_ids) == vehicles
    assert query_ids == test_ids and not train_ids & test_ids
    assert len(test_ids) == (held_out or max(10, -(-vehicles // 3)))
    assert len({one.name for one in pictures}) == len(pictures) == len(plans) * images
    for i in test_ids:
        seen, found = ([p.camera for p in of[s] if p.vehicle_id == i] for s in ("query", "test"))
        assert len(set(seen)) == len(seen)
        assert set(found) - set(seen)
    trained = [plan for plan in plans if plan.vehicle_id in train_ids]
    for name, count in (("type_id", 9), ("color_id", 10)):
        classes = {getattr(plan, name) for plan in trained}
        assert {getattr(plan, name) for plan in plans} == classes
        assert vehicles < 10 or classes == set(range(1, count + 1))


def test_the_plans_of_the_real_prior_have_the_real_shares() -> None:
    plans = make_plan(3000, 2, 2, 0, prior="real")
    types = np.bincount([plan.type_id for plan in plans])[1:] / len(plans)
    colors = np.bincount([plan.color_id for plan in plans])[1:] / len(plans)
    for shares, names, expected in (
        (types, TYPES, {"sedan": 0.48, "suv": 0.19, "truck": 0.13}),
        (colors, COLORS, {"black": 0.34, "white": 0.21, "gray": 0.18}),
    ):
        drawn = {name: shares[names.index(name)] for name in expected}
        assert drawn == pytest.approx(expected, abs=0.04)


@pytest.mark.parametrize("prior", PRIORS)
def test_the_same_seed_gives_the_same_bytes_with_any_number_of_workers(tmp_path, prior) -> None:
    small = SMALL | {"pixels": 48, "prior": prior, "seed": 7}
    for name, workers in (("one", 1), ("two", 2)):
        synthesize(tmp_path / name, **small, workers=workers)
    one, two = (contents(tmp_path / name) for name in ("one", "two"))
    assert one == two and len(one) == 3 * 3 + 24
    assert make_plan(2, 2, 2, 7, prior=prior) != make_plan(2, 2, 2, 8, prior=prior)


def test_vehicles_are_of_few_common_models_and_those_of_the_test_of_others() -> None:
    plans = make_plan(3000, 2, 2, 0, prior="real", models=300)
    kinds = {plan.model: plan.type_id for plan in plans}
    assert all(kinds[plan.model] == plan.type_id for plan in plans)
    train, test = plans[:3000], plans[3000:]
    assert {plan.model for plan in train} <= set(range(1, 301))
    assert {plan.model for plan in test} <= set(range(301, 401))
    sedans = Counter(plan.model for plan in train if plan.type_id == 1 + TYPES.index("sedan"))
    common = sum(count for _, count in sedans.most_common(20))
    assert common / sedans.total() == pytest.approx(0.5, abs=0.07)
    with pytest.raises(SyntheticError, match="models is 8; expected at least 9, one of each type"):
        make_plan(20, 2, 2, 0, models=8)


def test_the_table_of_models_names_every_vehicle(tmp_path) -> None:
    root = synthesize(tmp_path / "data", **SMALL, models=9).root
    tables = {}
    for split in SPLITS:
        with (root / f"model_{split}.csv").open() as file:
            tables[split] = {int(row["vehicle"]): int(row["model"]) for row in csv.DictReader(file)}
        rows = read_labels(root / f"label_{split}.csv").values()
        assert set(tables[split]) == {row.vehicle_id for row in rows}
    assert tables["query"] == tables["test"]
    assert not set(tables["train"].values()) & set(tables["test"].values())


def contents(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def test_the_folder_is_what_pamtri_reads(tmp_path) -> None:
    root = tmp_path / "data"
    root.mkdir()
    data = synthesize(root, **SMALL, heatmaps=True, segments=True)
    assert data.vehicles == {"train": 2, "test": 10}
    assert data.images == {"train": 4, "query": 10, "test": 10}
    for split, count in data.images.items():
        table = root / f"label_{split}.csv"
        rows = read_labels(table)
        assert len(rows) == count
        assert {len(line.split(",")) for line in table.read_text().splitlines()} == {COLUMNS}
        assert {path.name for path in (root / f"image_{split}").iterdir()} == set(rows)
        for name, columns in (("visibility", 37), ("view", 5)):
            others = list(csv.reader((root / f"{name}_{split}.csv").open()))
            assert [row[0] for row in others] == list(rows)
            assert {len(row) for row in others} == {columns}
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
    assert not list(tmp_path.glob(".data*"))


def test_a_picture_taken_alone_is_the_one_that_is_written(tmp_path) -> None:
    root = synthesize(tmp_path / "data", **SMALL, seed=3).root
    records = {one.image.name: one for split in read_dataset(root).splits for one in split.records}
    views = {
        row[0]: [float(value) for value in row[1:]]
        for split in SPLITS
        for row in csv.reader((root / f"view_{split}.csv").open())
    }
    assert set(views) == set(records)
    pairs = [(plan, picture) for plan in make_plan(2, 2, 2, 3) for picture in plan.pictures]
    for plan, picture in pairs[:8]:
        shot, record = take_picture(plan, picture, seed=3, pixels=64), records[picture.name]
        assert record.image.read_bytes() == shot.jpeg
        assert max(Image.open(io.BytesIO(shot.jpeg)).size) == 64
        np.testing.assert_allclose(record.keypoints, shot.keypoints, atol=0.0051)
        np.testing.assert_array_equal(record.visibility, shot.visibility)
        np.testing.assert_array_equal(record.marked[:, 2], shot.visibility == 0)
        assert views[picture.name] == pytest.approx(astuple(shot.view), abs=0.0051)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"vehicles": 1}, "vehicles is 1; expected at least 2"),
        ({"vehicles": 10**8}, "vehicles with 2 images each; expected at most"),
        ({"images": 1}, "images is 1; expected at least 2"),
        ({"cameras": 1}, "cameras is 1; expected at least 2"),
        ({"pixels": 16}, "pixels is 16; expected 32 to 2048"),
        ({"workers": 0}, "workers is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"prior": "odd"}, "prior is 'odd'; expected even or real"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_written(tmp_path, arguments, named) -> None:
    root = tmp_path / "new" / "data"
    with pytest.raises(SyntheticError, match=named):
        synthesize(root, **(SMALL | arguments))
    assert not root.parent.exists()


@pytest.mark.parametrize(
    ("folder", "named"),
    [("full", "full is not empty"), ("file", "is a file"), ("file/below", "cannot be made")],
)
def test_folders_that_will_not_do_are_refused(tmp_path, folder, named) -> None:
    kept = tmp_path / "full" / "mine.txt", tmp_path / "file"
    kept[0].parent.mkdir()
    for path in kept:
        path.write_text("keep")
    with pytest.raises(SyntheticError, match=named):
        synthesize(tmp_path / folder, **SMALL)
    assert [path.read_text() for path in kept] == ["keep", "keep"]


@pytest.mark.slow
def test_an_interrupted_run_leaves_nothing(tmp_path) -> None:
    root = tmp_path / "data"
    command = [sys.executable, "-m", "multitasknet", "synthesize", "--output", str(root)]
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        start_new_session=True,
        # A background job ignores it, and its children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob(".data.*/data/image_train/*.jpg"))) < 10:
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


def test_the_command_writes_a_data_set(tmp_path, capsys) -> None:
    root = tmp_path / "data"
    command = ["synthesize", "--output", str(root), "--vehicles", "2", "--images", "2"]
    command += ["--cameras", "2", "--pixels", "48", "--prior", "real"]
    assert main(command) == 0
    assert "4 train, 10 query, 10 test images of 2 + 10 vehicles" in capsys.readouterr().out
    sizes = {max(Image.open(path).size) for path in root.glob("image_*/*.jpg")}
    assert len(sizes) > 8
    assert main(command) == 2
    assert "is not empty; give a new folder" in capsys.readouterr().err


def test_a_missing_renderer_is_one_line_and_leaves_nothing(tmp_path) -> None:
    lacking = tmp_path / "lacking" / "embreex"
    lacking.mkdir(parents=True)
    (lacking / "__init__.py").write_text("raise ImportError('no Embree here')")
    path = os.pathsep.join([str(lacking.parent), *sys.path])
    command = [sys.executable, "-m", "multitasknet", "synthesize"]
    done = subprocess.run(
        [*command, "--output", str(tmp_path / "data")],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2, done.stderr
    (line,) = (one for one in done.stderr.splitlines() if "image/s" not in one)
    assert line.startswith("multitasknet: error: ")
    assert "pip install '.[synthetic]'" in line
    assert [path.name for path in tmp_path.iterdir()] == ["lacking"]


def test_identity_is_in_the_vehicle_and_not_in_the_background(tmp_path, monkeypatch) -> None:
    def plans(*sizes: int, prior: str, **others: int | None) -> list:
        return make_plan(*sizes, prior="even", **others)

    # All colours, seen as real vehicles are.
    monkeypatch.setattr("vehiclesynth.dataset.make_plan", plans)
    sizes = {"vehicles": 2, "test_vehicles": 50, "images": 4, "cameras": 4, "pixels": 96}
    root = synthesize(tmp_path / "data", **sizes, prior="real").root
    query, gallery = samples(root, "query"), samples(root, "test")
    chance = 1 / 50
    background = rank1(query, gallery, corners_of)
    assert background < 4 * chance
    assert rank1(query, gallery, colors_of) > 2 * max(background, chance)


def samples(root: Path, split: str) -> list[tuple[np.ndarray, LabelRow]]:
    rows = read_labels(root / f"label_{split}.csv").values()
    return [(np.asarray(Image.open(root / f"image_{split}" / row.image)), row) for row in rows]


def colors_of(pixels: np.ndarray, _: LabelRow) -> np.ndarray:
    """A histogram of hue, saturation and value over the middle of the picture."""
    height, width, _ = pixels.shape
    middle = pixels[height // 6 : -height // 6, width // 6 : -width // 6]
    hsv = np.asarray(Image.fromarray(middle).convert("HSV")).reshape(-1, 3)
    counts, _ = np.histogramdd(hsv, bins=(16, 4, 4), range=[(0, 256)] * 3)
    return np.sqrt(counts.ravel() / len(hsv))


def corners_of(pixels: np.ndarray, row: LabelRow) -> np.ndarray:
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
