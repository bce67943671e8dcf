"""Evaluation of keypoints: known offsets give known metrics, and pages show them."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace

import drawn
import numpy as np
import pytest
from browser import CHROMIUM, check_page
from conftest import ASSETS

from multitasknet import DataError, evaluate_pose, read_dataset
from multitasknet.cli import main
from multitasknet.data.records import Record, VehicleDataset
from multitasknet.evaluation.report import pose_panels, write_pose_report
from multitasknet.evaluation.results import CardMetrics
from multitasknet.images import read_image
from multitasknet.models.poseestnet.spec import PoseEstNetSpec
from multitasknet.report.overlay import SIDE, draw_comparison
from multitasknet.vehicle.keypoint_metrics import (
    UNCLEAR,
    KeypointErrors,
    calibration_error,
    octants,
    swap_shares,
)
from multitasknet.vehicle.keypoints import (
    FRONT_REAR_KEYPOINTS,
    HALF_TURN_KEYPOINTS,
    MIRRORED_KEYPOINTS,
)
from multitasknet.vehicle.pose import Pose
from vehiclesynth import synthesize

Change = Callable[[np.ndarray, int, Record], np.ndarray]


def moved(visible: float, hidden: float) -> Change:
    """Estimates to the right of the truth, in units of the longer side."""

    def change(truth: np.ndarray, side: int, record: Record) -> np.ndarray:
        estimate = truth.copy()
        estimate[:, 0] += side * np.where(truth[:, 2] >= 0.5, visible, hidden)
        return estimate

    return change


class Stub:
    """Finds the true keypoints of each record, changed."""

    def __init__(self, change: Change, *, source: str = "a file") -> None:
        self.engine = SimpleNamespace(
            weights_sha256="0", source=source, name="stub", precision="float32"
        )
        self.spec, self.size = PoseEstNetSpec(), (256, 256)
        self.flip_test = True
        self.change = change

    def stream(self, records: Iterable[Record]) -> Iterator[SimpleNamespace]:
        for index, record in enumerate(records):
            height, width = read_image(record.image).shape[:2]
            changed = self.change(record.marked, max(height, width), record)
            pose = Pose(changed.astype(np.float32), "estimated")
            yield SimpleNamespace(index=index, shape=(height, width), pose=pose)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "synthetic"
    return synthesize(folder, vehicles=2, images=2, cameras=2, pixels=64).root


@pytest.fixture(scope="module")
def dataset(root: Path) -> VehicleDataset:
    return read_dataset(root)


def run(estimator, dataset: VehicleDataset, **options):
    return evaluate_pose(estimator, dataset, progress=False, **options)


# The metrics


def test_known_offsets_give_known_metrics(dataset) -> None:
    evaluation = run(Stub(moved(0.07, 0.15)), dataset)
    metrics = evaluation.metrics
    assert [metrics[f"PCK@{one}"] for one in (0.05, 0.1, 0.2)] == [0, 100, 100]
    assert [metrics[f"hidden PCK@{one}"] for one in (0.05, 0.1, 0.2)] == [0, 0, 100]
    assert metrics["NME"] == pytest.approx(7, abs=1e-4)
    assert metrics["hidden NME"] == pytest.approx(15, abs=1e-4)
    # 20 images allow 0.56 pixels, and these are 4 away.
    assert evaluation.published["Mean"] == 0
    records = [*dataset.query.records, *dataset.gallery.records]
    assert list(evaluation.records) == records
    np.testing.assert_array_equal(evaluation.truth, [record.marked for record in records])
    np.testing.assert_array_equal(evaluation.sides, [64] * len(records))
    perfect = run(Stub(moved(0, 0)), dataset)
    assert perfect.published["Mean@0.1"] == perfect.metrics["PCK@0.05"] == 100
    assert {perfect.metrics[f"{name} swaps"] for name in perfect.swaps} == {0}
    assert perfect.metrics["ECE"] == 0


def test_parts_are_apart_and_come_to_the_whole(dataset) -> None:
    first = dataset.query.records[0].type_id

    def change(truth: np.ndarray, side: int, record: Record) -> np.ndarray:
        estimate = moved(0, 0.15)(truth, side, record)
        if record.type_id == first:
            estimate[[0, 18], 1] += 0.3 * side
        return estimate

    evaluation = run(Stub(change), dataset)
    groups, types, octants_seen = (evaluation.parts[kind] for kind in ("group", "type", "octant"))
    for parts in (groups, types, octants_seen):
        for kind in ("visible", "hidden"):
            counts = [getattr(part, kind)["keypoints"] for part in parts.values()]
            assert sum(counts) == getattr(evaluation.overall, kind)["keypoints"]
    assert groups["Wheel"].visible["PCK@0.2"] < 100
    errors = {name: part.visible["NME"] for name, part in (groups | types).items()}
    assert {errors[name] for name in groups if name != "Wheel"} == {0}
    assert sum(errors[name] > 0 for name in types) == 1
    assert len(types) == len({one.type_id for one in evaluation.records}) > 1
    assert sum(part.images for part in types.values()) == len(evaluation.records)
    assert sum(part.images for part in octants_seen.values()) == len(evaluation.records)


def test_swaps_are_counted_by_kind() -> None:
    # Every keypoint at a place of its own, a tenth of the longer side and more from all others.
    places = np.stack(np.meshgrid(np.arange(6), np.arange(6)), -1).reshape(36, 2) * 20.0
    truth = np.concatenate((places, np.ones((36, 1))), 1)[None]
    truth[0, 0] = (0, 0, 0)  # not marked
    orders = MIRRORED_KEYPOINTS, FRONT_REAR_KEYPOINTS, HALF_TURN_KEYPOINTS
    for number, order in enumerate(orders):
        estimates = truth.copy()
        swapped = [3, 12, 20, int(np.flatnonzero(order == 0)[0])]
        estimates[0, swapped, :2] = truth[0, order[swapped], :2]
        shares = swap_shares(estimates, truth, np.array([120]))
        assert list(shares) == ["left-right", "front-rear", "half turn"]
        # Where keypoint 0 is nobody knows.
        expected = [3 / 35 if place == number else 0 for place in range(3)]
        assert list(shares.values()) == pytest.approx(expected)


def test_calibration_is_of_each_kind_and_its_error_is_the_mean_gap(dataset) -> None:
    def change(truth: np.ndarray, side: int, record: Record) -> np.ndarray:
        estimate = moved(0, 0.15)(truth, side, record)
        estimate[:, 2] = np.where(truth[:, 2] >= 0.5, 0.75, 1.3)
        return estimate

    evaluation = run(Stub(change), dataset)
    (visible,), (hidden,) = evaluation.calibration["visible"], evaluation.calibration["hidden"]
    assert (visible.confidence, visible.right) == (0.75, 1)
    assert (hidden.confidence, hidden.right) == (1, 0)
    assert visible.count + hidden.count == evaluation.truth[..., 2].size
    assert evaluation.metrics["ECE"] == pytest.approx(25)
    assert calibration_error([visible, hidden]) == pytest.approx(
        (0.25 * visible.count + hidden.count) / (visible.count + hidden.count)
    )


def test_the_octant_is_where_the_vehicle_is_seen_from() -> None:
    from vehiclesynth.camera import look_at
    from vehiclesynth.look import draw_look
    from vehiclesynth.model import build_model
    from vehiclesynth.prior import View

    views = [View(yaw=45 * octant, elevation=15, roll=0, distance=15) for octant in range(8)]
    for type_id in range(1, 10):
        model = build_model(draw_look(np.random.default_rng(type_id), type_id, 1))
        pixels = [look_at(np.zeros(3), view).project(model.keypoints)[0] for view in views]
        poses = np.concatenate((pixels, np.ones((8, 36, 1))), 2)
        assert octants(poses).tolist() == [*range(8)]
    assert octants(np.zeros((1, 36, 3))).tolist() == [UNCLEAR]


def test_what_is_not_marked_is_neither_visible_nor_hidden() -> None:
    truth = np.full((1, 36, 3), 0.2)
    truth[0, :10] = 0
    truth[0, 10:15] = (0, 0, 1)
    errors = KeypointErrors.of(truth, truth, np.array([1]))
    assert (errors.visible.sum(), errors.hidden.sum()) == (5, 21)


# Data


def test_the_splits_are_those_that_are_there_but_train(root, dataset, tmp_path) -> None:
    def names(data, *asked):
        return run(Stub(moved(0, 0)), data, splits=asked or None).settings["splits"]

    assert names(dataset) == ["query", "gallery"]
    assert names(dataset, "train", "query") == ["train", "query"]
    assert names(read_dataset(root, ["train"])) == ["train"]
    with pytest.raises(DataError, match=r"none of the 0 images \(gallery\)"):
        names(read_dataset(root, ["query"]), "gallery")
    with pytest.raises(DataError, match=r"none of the 0 images \(no split\)"):
        names(VehicleDataset(tmp_path))


def test_images_without_keypoints_are_left_out_and_said(root, caplog) -> None:
    dataset = read_dataset(root)
    for record in dataset.query.records[:3]:
        record.keypoints[:] = 0
    evaluation = run(Stub(moved(0, 0)), dataset)
    assert evaluation.as_json()["images_without_keypoints"] == evaluation.unlabelled == 3
    assert len(evaluation.records) == 17
    assert "3 of 20 images have no keypoints and are left out" in caplog.text


# The page


def test_metrics_json_states_all_and_no_nan(dataset, tmp_path) -> None:
    def seen(truth: np.ndarray, side: int, record: Record) -> np.ndarray:
        return truth

    everything = read_dataset(dataset.root, ["query"])
    for record in everything.query.records:
        record.visibility[:] = 0
    evaluation = run(Stub(seen), everything, output=tmp_path)

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    written = json.loads((tmp_path / "metrics.json").read_text(), parse_constant=refuse)
    assert written["metrics"]["PCK@0.1"] == 100
    assert written["metrics"]["hidden PCK@0.1"] is None
    assert written["published"]["note"] == "as published; not a PCK"
    assert written["settings"]["splits"] == ["query"]
    assert written["by_group"]["Wheel"]["visible"]["keypoints"] == 40
    # What has no hidden keypoint can be drawn all the same.
    write_pose_report(evaluation, tmp_path / "report.html")


def test_a_true_place_is_a_ring_a_hidden_one_a_square_and_an_estimate_a_dot() -> None:
    pixels = np.full((SIDE // 2, SIDE, 3), 128, np.uint8)
    truth, estimate = np.zeros((36, 3)), np.full((36, 3), -99.0)
    truth[0], truth[1] = (100, 100, 1), (300, 100, 0.2)
    estimate[:2] = (100, 160, 1), (300, 160, 1)
    drawn_in = draw_comparison(pixels, estimate, truth).astype(int)
    for x, reach in ((100, SIDE / 55), (300, SIDE / 92)):
        assert (drawn_in[100, x + round(reach) - 1 : x + round(reach) + 3].min(1) > 200).any()
        assert (drawn_in[100, x + 2 : x + 4] == 128).all(), "neither is filled"
        assert drawn_in[160, x].tolist() == [255, 214, 0]
    assert (drawn_in[:, 400:] == 128).all(), "a place that is not marked is drawn nowhere"


def test_the_panels_are_the_best_median_and_worst_images(dataset) -> None:
    images = sorted(record.image for record in dataset.query.records)

    def change(truth: np.ndarray, side: int, record: Record) -> np.ndarray:
        return moved(0.01 * (1 + images.index(record.image)), 0)(truth, side, record)

    evaluation = run(Stub(change), dataset, splits=["query"])
    panels = pose_panels(evaluation, each=1)
    assert [panel.title for panel in panels] == ["Best", "Median", "Worst"]
    shown = [panel.shots[0] for panel in panels]
    assert [shot.name for shot in shown] == [str(images[place]) for place in (0, 5, 9)]
    assert shown[2].caption == f"10.0 %: {images[9].name}"


def test_the_page_names_weights_and_data(dataset, tmp_path) -> None:
    card = CardMetrics({"Mean": 82.2}, "veir")
    for source in ("pose.ckpt", ""):
        evaluation = run(Stub(moved(0.07, 0.15), source=source), dataset)
        page = write_pose_report(evaluation, tmp_path / "report.html", card=card)
        text = page.read_text()
        assert ('class="warning"' in text) == (not source)
        names = str(dataset.root), source or "random values", "not a PCK", "82.2", "veir", "NME"
        assert not [name for name in names if name not in text]
        assert (text.count('<figure class="shot'), text.count("<svg")) == (9, 2)


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_the_page_opens_in_a_browser(dataset, tmp_path) -> None:
    evaluation = run(Stub(moved(0.07, 0.15)), dataset)
    check_page(write_pose_report(evaluation, tmp_path / "report.html"), 400)


# The command


def test_the_evaluate_pose_command(root, tmp_path, capsys) -> None:
    out, weights = tmp_path / "out", ASSETS / "vehiclepose_synthetic.ckpt"
    line = ["evaluate-pose", "--data", str(root), "--split", "query", "--weights", str(weights)]
    assert main([*line, "--size", "64", "--no-flip-test", "--output", str(out)]) == 0
    settings = json.loads((out / "metrics.json").read_text())["settings"]
    assert (settings["flip_test"], settings["input_size"]) == (False, [64, 64])
    assert str(out / "report.html") in capsys.readouterr().out and (out / "report.html").is_file()


@pytest.mark.parametrize(
    ("layout", "code", "said"),
    [
        ("whole", 0, r"(?s)hidden NME .*\nECE .*10 images, .*not a PCK.*\nMean +100\.00"),
        ("broken", 2, "cannot be read"),
        ("veri", 2, r"none of the \d+ images \(query\) has keypoints; expected the PAMTRI"),
    ],
)
def test_the_command_prints_figures_or_one_message(
    root, tmp_path, capsys, monkeypatch, layout, code, said
) -> None:
    stub = Stub(moved(0, 0))
    monkeypatch.setattr("multitasknet.cli.evaluate.make_pose_estimator", lambda _: stub)
    data = drawn.veri(tmp_path / "veri", drawn.plan())
    if layout != "veri":
        data = Path(shutil.copytree(root, tmp_path / "data"))
    if layout == "broken":
        image = sorted((data / "image_query").iterdir())[0]
        image.write_bytes(image.read_bytes()[:200])
    assert main(["evaluate-pose", "--data", str(data), "--split", "query"]) == code
    printed = capsys.readouterr()
    assert re.search(said, printed.err if code else printed.out)
    assert printed.err.count("error: ") == (code == 2)
