"""Evaluation of keypoints: known offsets give known metrics, and pages show them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace

import drawn
import numpy as np
import pytest
from conftest import ASSETS

from multitasknet import DataError, evaluate_pose, read_dataset
from multitasknet.cli import main
from multitasknet.data.records import Record, VehicleDataset
from multitasknet.evaluation.report import write_pose_report
from multitasknet.evaluation.results import CardMetrics
from multitasknet.images import read_image
from multitasknet.models.poseestnet.spec import PoseEstNetSpec
from multitasknet.vehicle.keypoint_metrics import (
    UNCLEAR,
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
    assert evaluation.records == dataset.held_out.records
    perfect = run(Stub(moved(0, 0)), dataset)
    assert perfect.published["Mean@0.1"] == perfect.metrics["PCK@0.05"] == 100
    assert {perfect.metrics[f"{name} swaps"] for name in perfect.swaps} == {0}
    assert perfect.metrics["ECE"] == 0


def test_parts_are_apart_and_come_to_the_whole(dataset) -> None:
    first = dataset.query.records[0].type_id

    def change(truth: np.ndarray, side: int, record: Record) -> np.ndarray:
        estimate = truth.copy()
        if record.type_id == first:
            estimate[[0, 18], 1] += 0.3 * side
        return estimate

    evaluation = run(Stub(change), dataset)
    for kind, parts in evaluation.parts.items():
        for seen in ("visible", "hidden"):
            counts = [getattr(part, seen)["keypoints"] for part in parts.values()]
            assert sum(counts) == getattr(evaluation.overall, seen)["keypoints"]
        images = sum(part.images for part in parts.values())
        assert kind == "group" or images == len(evaluation.records)
    groups, types = evaluation.parts["group"], evaluation.parts["type"]
    assert {name for name, part in groups.items() if part.visible["NME"] > 0} == {"Wheel"}
    assert [part.visible["NME"] > 0 for part in types.values()].count(True) == 1 < len(types)


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
    expected = (0.25 * visible.count + hidden.count) / (visible.count + hidden.count)
    assert calibration_error([visible, hidden]) == pytest.approx(expected)


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


# Data and results


def test_what_is_not_labelled_is_left_out_and_so_is_train(root, dataset) -> None:
    found = read_dataset(root)
    for record in found.query.records[:3]:
        record.keypoints[:] = 0
    first = found.gallery.records[0]
    first.keypoints[:5], first.visibility[:5] = 0, 1
    evaluation = run(Stub(moved(0, 0)), found)
    assert (evaluation.unlabelled, len(evaluation.records)) == (3, 17)
    assert evaluation.settings["splits"] == ["query", "gallery"]
    assert (evaluation.errors.visible | evaluation.errors.hidden).sum() == 17 * 36 - 5
    alone = run(Stub(moved(0, 0)), read_dataset(root, ["train"]))
    assert alone.settings["splits"] == ["train"]
    with pytest.raises(DataError, match=r"none of the 0 images \(gallery\)"):
        run(Stub(moved(0, 0)), read_dataset(root, ["query"]), splits=["gallery"])


@pytest.mark.parametrize("source", ["pose.ckpt", ""])
def test_metrics_json_and_the_page_state_all(root, tmp_path, source) -> None:
    everything = read_dataset(root, ["query"])
    for record in everything.query.records if source else ():
        record.visibility[:] = 0
    evaluation = run(Stub(moved(0.07, 0.15), source=source), everything, output=tmp_path)
    content = (tmp_path / "metrics.json").read_text()
    written = json.loads(content)
    assert "NaN" not in content
    assert (written["metrics"]["hidden PCK@0.1"] is None) == bool(source)
    assert written["published"]["note"] == "as published; not a PCK"
    assert (written["by_group"]["Wheel"]["visible"]["keypoints"] == 40) == bool(source)
    card = CardMetrics({"Mean": 82.2}, "veir")
    text = write_pose_report(evaluation, tmp_path / "report.html", card=card).read_text()
    assert ('class="warning"' in text) == (not source)
    names = str(root), source or "random values", "not a PCK", "82.2", "veir", "NME"
    assert not [name for name in names if name not in text]
    assert (text.count('<figure class="shot'), text.count("<svg")) == (9, 2)


# The command


def test_the_evaluate_pose_command(root, tmp_path, capsys) -> None:
    out, weights = tmp_path / "out", ASSETS / "vehiclepose_synthetic.ckpt"
    line = ["evaluate-pose", "--split", "query", "--weights", str(weights), "--size", "64"]
    line += ["--no-flip-test", "--output", str(out), "--data"]
    assert main([*line, str(root)]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"(?s)hidden NME .*\nECE .*10 images, .*not a PCK.*\nMean +\d", printed)
    assert str(out / "report.html") in printed and (out / "report.html").is_file()
    settings = json.loads((out / "metrics.json").read_text())["settings"]
    assert (settings["flip_test"], settings["input_size"]) == (False, [64, 64])
    assert main([*line, str(drawn.veri(tmp_path / "veri", drawn.plan()))]) == 2
    assert "has keypoints; expected the PAMTRI layout" in capsys.readouterr().err
