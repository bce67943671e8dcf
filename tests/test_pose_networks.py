"""What is around PoseEstNet beside a plain reference, and what VehiclePose's outputs become."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path

import cv2
import numpy as np
import pose_reference as reference
import pytest

from multitasknet import PoseEstimator, PoseEstNetSpec, VehiclePoseSpec, create_network
from multitasknet.data.samples import batch_inputs, make_sample
from multitasknet.models.poseestnet.definition import NETWORK
from multitasknet.models.vehiclepose import definition as light
from multitasknet.models.vehiclepose.definition import FRAME, placement
from multitasknet.models.vehiclepose.spec import STRIDE
from multitasknet.vehicle.keypoint_metrics import KeypointErrors, published_metrics
from multitasknet.vehicle.keypoints import HALF_TURN_KEYPOINTS, MIRRORED_KEYPOINTS
from vehiclesynth import synthesize

TESTS = Path(__file__).resolve().parent
CASES = 100
SIZE = (256, 256)


def test_names_shapes_and_their_order_are_the_published_ones() -> None:
    wanted = json.loads((TESTS / "poseestnet_manifest.json").read_text())["parameters"]
    network = create_network("poseestnet", weights=None)
    assert [[name, list(one.shape)] for name, one in network.parameters_and_names()] == wanted
    assert (len(wanted), sum(np.prod(shape) for _, shape in wanted)) == (1461, 28_591_040)
    light_one = create_network("vehiclepose", weights=None)
    assert sum(one.size for one in light_one.trainable_params()) <= 3_500_000


@pytest.mark.parametrize(
    ("width", "keypoints", "named"),
    [(48, 36, "width 48; expected 32"), (32, 17, "gives 17 keypoints; expected the 36")],
)
def test_other_networks_are_named(width: int, keypoints: int, named: str) -> None:
    shapes = {
        "stage2.0.branches.0.0.conv1.weight": (width, width, 3, 3),
        "final_layer.weight": (keypoints, width, 1, 1),
    }
    with pytest.raises(ValueError, match=named):
        NETWORK.spec_from_shapes(shapes, "a.pth")


# PoseEstNet


def test_the_input_is_the_reference_warp_on_random_cases() -> None:
    rng = np.random.default_rng(0)
    for _ in range(CASES):
        width, height = (int(side) for side in rng.integers(20, 300, 2))
        rough = rng.integers(0, 256, (max(height // 16, 2), max(width // 16, 2), 3), np.uint8)
        image = cv2.resize(rough, (width, height), interpolation=cv2.INTER_LINEAR)
        (x,) = batch_inputs([make_sample(image, None, PoseEstNetSpec())], PoseEstNetSpec(), SIZE)
        levels = np.abs(x[0] - reference.normalise(reference.warp(image))) * 255 * 0.225
        # OpenCV looks places up to 1/32 of a pixel, and rounds: at the border that shows.
        assert levels.mean() < 0.5
        assert np.quantile(levels, 0.99) < 8


def random_maps(rng: np.random.Generator) -> np.ndarray:
    """Maps with tops anywhere, at the border too, with plateaus, and some that are negative."""
    maps = rng.normal(0, 0.05, (36, 64, 64))
    for one in maps:
        x, y = rng.integers(0, 64, 2)
        rows, columns = np.mgrid[:64, :64]
        one += rng.uniform(-0.2, 1.2) * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 8)
    maps[0] = -1
    maps[1] = np.round(maps[1], 1)
    return maps.astype(np.float32)


def test_decoding_and_flip_test_agree_with_the_reference_on_random_cases() -> None:
    rng = np.random.default_rng(1)
    for _ in range(-(-CASES // 3)):
        width, height = (int(side) for side in rng.integers(1, 3000, 2))
        pair = np.stack([random_maps(rng), random_maps(rng)])
        averaged = NETWORK.decode([pair[:1]], [pair[1:]]).maps
        wanted = reference.flip_average(*pair.astype(np.float64))
        np.testing.assert_allclose(averaged[0], wanted, atol=1e-6)
        for maps in (*pair, averaged[0]):
            cells, confidences = reference.decode(maps)
            (peaks,) = NETWORK.decode([maps[None]]).peaks
            np.testing.assert_array_equal(peaks[:, :2], cells)
            np.testing.assert_array_equal(peaks[:, 2], confidences.astype(np.float32))
            keypoints = NETWORK.keypoints_in_image(peaks, width=width, height=height, size=SIZE)
            places = reference.to_image(cells, width, height)
            np.testing.assert_allclose(keypoints[:, :2], places, atol=2e-6 * max(width, height))


def test_the_published_metric_agrees_with_the_reference_on_random_cases() -> None:
    rng = np.random.default_rng(2)
    for _ in range(CASES):
        count = int(rng.integers(1, 40))
        truth = rng.uniform(0, 300, (count, 36, 3))
        truth[..., 2] = rng.random((count, 36)) < rng.uniform(0.1, 1)
        estimates = truth + rng.normal(0, rng.uniform(0.1, 2), truth.shape)
        wanted = reference.published_metric(
            estimates[..., :2], estimates[..., 2], truth[..., :2], truth[..., 2]
        )
        got = published_metrics(estimates, truth)
        assert got == pytest.approx(wanted, nan_ok=True, abs=1e-9)


# VehiclePose


@pytest.mark.parametrize("doubt", [0.0, 0.1, 0.45])
def test_doubt_about_the_direction_is_what_lies_where_a_half_turn_puts_the_points(
    doubt: float,
) -> None:
    rng = np.random.default_rng(0)
    chances = np.full((2, 36, 32, 32), 1e-12, np.float32)
    cells = np.stack(np.divmod(rng.choice(32 * 32, 36, replace=False), 32), axis=1)
    for keypoint, (own, other) in enumerate(zip(cells, cells[HALF_TURN_KEYPOINTS], strict=True)):
        chances[0, keypoint][tuple(own)] = 1 - doubt
        chances[0, keypoint][tuple(other)] += doubt
    chances[1, :, 16, 16] = 1  # all in one place: nothing can be told
    visibility = rng.normal(size=(2, 36)).astype(np.float32)
    found = light.NETWORK.decode((np.zeros((2, 16)), visibility, np.log(chances)))
    assert found.half_turns == pytest.approx([doubt, 0], abs=1e-5)


def test_peaks_are_found_between_cells_and_cut_off_at_the_border() -> None:
    rng = np.random.default_rng(0)
    cells = rng.uniform((0, 0), (31, 15), (3, 36, 2))
    visibility = rng.normal(size=(3, 36)).astype(np.float32)
    # Logits of Gaussians of sigma 1.
    rows, columns = np.mgrid[:16, :32]
    x, y = cells[..., 0, None, None], cells[..., 1, None, None]
    maps = (-((rows - y) ** 2 + (columns - x) ** 2) / 2).astype(np.float32)
    peaks, probabilities, *_ = light.NETWORK.decode((np.zeros((3, 16)), visibility, maps))
    inner = ((cells >= 3) & (cells <= (28, 12))).all(2)
    assert np.abs(peaks[..., :2] - cells)[inner].max() < 0.1
    assert np.abs(peaks[..., :2] - cells).max() < 1
    np.testing.assert_allclose(peaks[..., 2], 1 / (1 + np.exp(-visibility)), rtol=1e-5)
    np.testing.assert_allclose(probabilities.sum((2, 3)), 1, rtol=1e-5)


@pytest.mark.parametrize(("width", "height"), [(300, 120), (97, 211), (5, 3), (1, 400)])
def test_keypoints_go_to_the_picture_that_was_placed(width: int, height: int) -> None:
    size = (64, 96)
    at = placement(width, height, size)
    # Seen from both sides, the same distance to the border.
    assert (2 * at.top + at.height, 2 * at.left + at.width) == size
    assert max(at.width * FRAME / size[1], at.height * FRAME / size[0]) <= 1.03
    corners = np.array([[0, 0, 1], [width, height, 1]]) - [0.5, 0.5, 0]
    edges = np.array([[at.left, at.top], [at.left + at.width, at.top + at.height]])
    peaks = np.column_stack((edges / STRIDE - 0.5, [1, 1]))
    found = light.NETWORK.keypoints_in_image(peaks, width=width, height=height, size=size)
    np.testing.assert_allclose(found, corners, atol=1e-4)
    white = make_sample(np.full((height, width, 3), 255, np.uint8), None, VehiclePoseSpec())
    shown = batch_inputs([white], VehiclePoseSpec(), size)[0][0].any(0)
    assert shown.sum() == at.width * at.height
    assert shown[at.top : at.top + at.height, at.left : at.left + at.width].all()


def test_the_training_script_trains_goes_on_and_writes_what_is_read(
    tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    monkeypatch.syspath_prepend(TESTS.parent / "examples")
    script = import_module("train_vehiclepose")
    root, output = tmp_path / "data", tmp_path / "pose.pth"
    synthesize(root, vehicles=2, images=4, cameras=2, pixels=64)
    names = [path.name for path in sorted((root / "image_train").iterdir())]
    rows = {"visibility": "0,1,2" + ",0" * 33, "view": "45.5,10,0,12"}
    for kind, row in rows.items():
        (root / f"{kind}_train.csv").write_text("".join(f"{name},{row}\n" for name in names))
    first = script.read_vehicles(root)[0]
    assert (first.hidden[:4].tolist(), first.yaw) == ([0, 1, 2, 0], 45.5)
    for name, value in import_module("torch_training").ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    options = ["--size", "64", "--batch-size", "4", "--workers", "0", "--output", str(output)]
    for steps in (2, 3):
        command = ["x", "--data", str(root), "--validate", str(root), "--steps", str(steps)]
        monkeypatch.setattr("sys.argv", [*command, *options])
        script.main()
    printed = capsys.readouterr().out
    assert "goes on at step 2" in printed and "held-out pictures: PCK@0.05" in printed
    stated = json.loads(output.with_suffix(".json").read_text())
    assert stated["origin"]["steps"] == 3
    plain = PoseEstimator(output, backend="mindspore", flip_test=False)
    held_out = script.read_vehicles(root, held_out=True)
    errors = KeypointErrors.of(
        np.stack([one.keypoints for one in plain.estimate([one.pixels for one in held_out])]),
        np.stack([np.column_stack((v.points, v.hidden == script.VISIBLE)) for v in held_out]),
        np.array([max(vehicle.pixels.shape[:2]) for vehicle in held_out]),
    )
    assert 100 * errors.pck(0.2) == pytest.approx(stated["metrics"]["PCK@0.2"], abs=0.5)
    # The flip test gives a mirrored picture the mirrored pose.
    estimator = PoseEstimator(output, backend="mindspore")
    assert (estimator.size, estimator.spec.pose_convention) == ((64, 64), "visibility")
    picture = np.random.default_rng(2).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    pictures = picture, np.ascontiguousarray(picture[:, ::-1]), picture[:1, :1], picture[:1]
    straight, mirrored, *tiny = (one.keypoints for one in estimator.estimate(pictures))
    mirrored[:, 0] = picture.shape[1] - 1 - mirrored[:, 0]
    np.testing.assert_allclose(mirrored[MIRRORED_KEYPOINTS], straight, rtol=1e-3, atol=1e-2)
    assert ((straight[:, 2] >= 0) & (straight[:, 2] <= 1)).all()
    assert np.isfinite(tiny).all()
