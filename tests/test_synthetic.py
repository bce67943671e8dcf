"""Synthetic data sets: the protocol, the same bytes every time, exact labels.

What the pictures show is tested in `test_drawn_vehicles.py`, films in `test_scenes.py`.
"""

from __future__ import annotations

import csv
import sys
from collections import Counter
from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from multitasknet import read_dataset, read_labels
from multitasknet.cli import main
from multitasknet.vehicle.attributes import COLORS, TYPES
from multitasknet.vehicle.maps import draw_maps
from vehiclesynth import SyntheticError, make_plan, synthesize, synthesize_scenes, take_picture
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
    assert len({one.name for one in pictures}) == len(pictures) == len(plans) * images
    train, test = plans[:vehicles], plans[vehicles:]
    assert {picture.split for plan in train for picture in plan.pictures} == {"train"}
    assert len(test) == (held_out or max(10, -(-vehicles // 3)))
    for plan in test:
        seen, found = (
            [one.camera for one in plan.pictures if one.split == split]
            for split in ("query", "test")
        )
        assert len(set(seen)) == len(seen) > 0
        assert set(found) - set(seen)
    for name, count in (("type_id", 9), ("color_id", 10)):
        classes = {getattr(plan, name) for plan in train}
        assert {getattr(plan, name) for plan in test} <= classes
        assert vehicles < 10 or classes == set(range(1, count + 1))


def test_real_shares_of_colours_types_and_models_and_those_of_the_test_are_others() -> None:
    plans = make_plan(3000, 2, 2, 0, prior="real", models=300)
    types = Counter(TYPES[plan.type_id - 1] for plan in plans)
    colors = Counter(COLORS[plan.color_id - 1] for plan in plans)
    for name, share in {"sedan": 0.48, "suv": 0.19, "black": 0.34, "white": 0.21}.items():
        assert (types + colors)[name] / len(plans) == pytest.approx(share, abs=0.04)
    kinds = {plan.model: plan.type_id for plan in plans}
    assert all(kinds[plan.model] == plan.type_id for plan in plans)
    train, test = plans[:3000], plans[3000:]
    assert {plan.model for plan in train} <= set(range(1, 301))
    assert {plan.model for plan in test} <= set(range(301, 401))
    sedans = Counter(plan.model for plan in train if plan.type_id == 1 + TYPES.index("sedan"))
    common = sum(count for _, count in sedans.most_common(20))
    assert common / sedans.total() == pytest.approx(0.5, abs=0.07)


def contents(root: Path) -> dict[str, bytes]:
    files = (path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


@pytest.mark.parametrize("prior", PRIORS)
def test_the_same_seed_gives_the_same_bytes_with_any_number_of_workers(tmp_path, prior) -> None:
    for name, workers, seed in (("one", 1, 7), ("two", 2, 7), ("other", 1, 8)):
        small = SMALL | {"pixels": 48, "prior": prior, "seed": seed}
        synthesize(tmp_path / name, **small, workers=workers)
    one, two, other = (contents(tmp_path / name) for name in ("one", "two", "other"))
    assert one == two != other and len(one) == 3 * 3 + 24
    assert len({data for name, data in one.items() if name.endswith("jpg")}) == 24


def table(path: Path) -> dict[str, list[str]]:
    """Rows by their first cell."""
    with path.open() as file:
        return {row[0]: row[1:] for row in csv.reader(file)}


def test_the_folder_is_what_pamtri_reads_and_each_picture_can_be_taken_alone(tmp_path) -> None:
    root = tmp_path / "data"
    root.mkdir()
    data = synthesize(root, **SMALL, models=9, seed=3, heatmaps=True, segments=True)
    assert data.vehicles == {"train": 2, "test": 10}
    assert data.images == {"train": 4, "query": 10, "test": 10}
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    splits, models, views = read_dataset(root).splits, {}, {}
    records = {one.image.name: one for split in splits for one in split.records}
    for split, count in data.images.items():
        rows = read_labels(root / f"label_{split}.csv")
        assert len(rows) == count
        assert {path.name for path in (root / f"image_{split}").iterdir()} == set(rows)
        models[split] = table(root / f"model_{split}.csv")
        assert {str(row.vehicle_id) for row in rows.values()} == set(models[split]) - {"vehicle"}
        views |= table(root / f"view_{split}.csv")
    assert models["query"] == models["test"]
    for plan in make_plan(2, 2, 2, 3, models=9)[:6]:
        picture = plan.pictures[-1]
        record = records[picture.name]
        assert models[picture.split][str(plan.vehicle_id)] == [str(plan.model)]
        shot = take_picture(plan, picture, seed=3, pixels=64)
        assert record.image.read_bytes() == shot.jpeg
        np.testing.assert_allclose(record.keypoints, shot.keypoints, atol=0.0051)
        np.testing.assert_array_equal(record.visibility, shot.visibility)
        view = [float(value) for value in views[picture.name]]
        assert view == pytest.approx(astuple(shot.view), abs=0.0051)
    width, height = Image.open(record.image).size
    assert max(width, height) == 64
    drawn = draw_maps(record.keypoints, heatmaps=True, segments=True, height=height, width=width)
    stem = f"{picture.split}/{record.image.stem}"
    stored = [root / f"heatmap_{stem}/{k:02}.jpg" for k in range(36)]
    stored += [root / f"segment_{stem}/{k:02}.jpg" for k in range(13)]
    for path, expected in zip(stored, drawn, strict=True):
        assert np.abs(np.asarray(Image.open(path)).astype(int) - expected).mean() < 1.5


@pytest.mark.parametrize(
    ("make", "wrong", "named"),
    [
        (synthesize, {"vehicles": 1}, "vehicles is 1; expected 2 to 10000000"),
        (synthesize, {"images": 10**6}, "total_images is 80000000"),
        (synthesize, {"models": 8}, "models is 8; expected 9 to"),
        (synthesize, {"pixels": 16}, "pixels is 16; expected 32 to 2048"),
        (synthesize, {"seed": -1}, "seed is -1"),
        (synthesize, {"prior": "odd"}, "prior is 'odd'; expected even or real"),
        (synthesize_scenes, {"seconds": 0}, "seconds is 0; expected 1 to 3600"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_written(tmp_path, make, wrong, named) -> None:
    with pytest.raises(SyntheticError, match=named):
        make(tmp_path / "new" / "data", **wrong)
    assert not list(tmp_path.iterdir())


def test_what_hinders_it_is_named_and_leaves_nothing(tmp_path, monkeypatch) -> None:
    file = tmp_path / "file"
    file.write_text("keep")
    for folder, named in ((tmp_path, "not empty"), (file, "a file"), (file / "a", "be made")):
        with pytest.raises(SyntheticError, match=named):
            synthesize(folder, **SMALL)

    def is_full(path: Path, rows: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("vehiclesynth.dataset.write_csv", is_full)
    with pytest.raises(SyntheticError, match=r"could not be finished \(no space left\)"):
        synthesize(tmp_path / "data", **SMALL)
    monkeypatch.setitem(sys.modules, "embreex.rtcore_scene", None)
    with pytest.raises(SyntheticError, match=r"pip install '.\[synthetic\]'"):
        synthesize(tmp_path / "data", **SMALL)
    assert list(tmp_path.iterdir()) == [file] and file.read_text() == "keep"


def test_the_command_writes_a_data_set(tmp_path, capsys) -> None:
    root = tmp_path / "data"
    command = ["synthesize", "--output", str(root), "--vehicles", "2", "--images", "2"]
    command += ["--cameras", "2", "--pixels", "48", "--prior", "real"]
    assert main(command) == 0
    assert "4 train, 10 query, 10 test images of 2 + 10 vehicles" in capsys.readouterr().out
    assert len({max(Image.open(path).size) for path in root.glob("image_*/*.jpg")}) > 8
    assert main(command) == 2
    assert "is not empty; give a new folder" in capsys.readouterr().err
    for options, named in (
        (["--scenes", "1", "--images", "3"], "--images is of pictures; leave out --scenes"),
        (["--seconds", "3"], "--seconds needs --scenes"),
    ):
        with pytest.raises(SystemExit, match="2"):
            main(["synthesize", "--output", str(tmp_path / "new"), *options])
        assert named in capsys.readouterr().err
