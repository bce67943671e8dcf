"""VehiclePose: its size, its layouts, what its outputs become, and the rooms that take it."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from types import ModuleType

import mindspore
import numpy as np
import pytest

from multitasknet import (
    CheckpointError,
    PoseEstimator,
    VehiclePose,
    VehiclePoseSpec,
    convert,
    create_network,
    export,
    read_weights,
)
from multitasknet.data.samples import batch_inputs, make_sample
from multitasknet.models.vehiclepose.decoding import (
    decode,
    half_turn_shares,
    keypoints_in_image,
)
from multitasknet.models.vehiclepose.definition import NETWORK
from multitasknet.models.vehiclepose.preprocessing import FRAME, placement
from multitasknet.models.vehiclepose.spec import STRIDE
from multitasknet.vehicle.keypoint_metrics import KeypointErrors
from multitasknet.vehicle.keypoints import HALF_TURN_KEYPOINTS, MIRRORED_KEYPOINTS
from multitasknet.weights.sidecar import sidecar_path
from vehiclesynth import synthesize

ROOT = Path(__file__).resolve().parents[1]
PHOTO = ROOT / "assets" / "example.jpg"
SIZE = (64, 64)


@pytest.fixture(scope="module")
def network() -> VehiclePose:
    """Random weights of a scale that gives maps with peaks."""
    network = create_network("vehiclepose", weights=None)
    rng = np.random.default_rng(0)
    for parameter in network.get_parameters():
        if "head.weight" in parameter.name:
            drawn = rng.normal(0, 0.5, parameter.shape).astype(np.float32)
            parameter.set_data(mindspore.Tensor(drawn))
    return network


@pytest.fixture(scope="module")
def weights(network: VehiclePose, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("vehiclepose") / "pose.ckpt"
    mindspore.save_checkpoint(network, str(path))
    return path


@pytest.fixture(scope="module")
def estimator(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> PoseEstimator:
    return PoseEstimator(weights, size=SIZE, cache_dir=tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def script() -> ModuleType:
    pytest.importorskip("torch")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "examples")
        return import_module("train_vehiclepose")


def inputs(count: int = 2) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(count, 3, *SIZE)).astype(np.float32)


def crops(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(2)
    return [rng.integers(0, 256, (40 + 7 * i, 60, 3), dtype=np.uint8) for i in range(count)]


def drawn_maps(cells: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Logits of Gaussians of sigma 1 around ``[N, 36, 2]`` cells."""
    columns, rows = np.arange(shape[1]), np.arange(shape[0])
    across = (columns - cells[..., :1]) ** 2
    down = (rows - cells[..., 1:]) ** 2
    return (-(down[..., :, None] + across[..., None, :]) / 2).astype(np.float32)


def test_it_is_small_and_takes_any_size(network: VehiclePose) -> None:
    assert sum(one.size for one in network.trainable_params()) <= 3_500_000
    outputs = network(mindspore.Tensor(np.zeros((2, 3, 32, 64), np.float32)))
    wanted = network.spec.output_shapes((32, 64))
    assert [one.shape[1:] for one in outputs] == list(wanted.values())
    assert wanted["heatmaps"] == (36, 8, 16)
    assert network.spec == VehiclePoseSpec((128, 128), "visibility")


def test_its_weights_are_told_by_their_names_and_shapes(weights: Path) -> None:
    assert read_weights(weights).network.name == "vehiclepose"
    loaded = create_network("VehiclePose", weights=weights)
    assert not loaded.load_report.fresh
    with pytest.raises(CheckpointError, match=r"expected .*poseestnet.* vehiclepose"):
        create_network("poseestnet", weights=weights)
    with pytest.raises(ValueError, match=r"is \[17, 64, 1, 1\]; expected \[36, 64, 1, 1\]"):
        NETWORK.spec_from_shapes({"heatmap_head.weight": (17, 64, 1, 1)}, "a.pth")
    with pytest.raises(ValueError, match=r"it has no 'heatmap_head\.weight'"):
        NETWORK.spec_from_shapes({"stem.0.weight": (24, 3, 3, 3)}, "a.pth")


def test_pytorch_and_both_engines_give_the_same(
    network: VehiclePose, weights: Path, script: ModuleType, tmp_path: Path
) -> None:
    import torch

    torch_file = convert(weights, tmp_path / "pose.pth")
    twin = script.VehiclePose().eval()
    twin.load_state_dict(torch.load(torch_file)["state_dict"])
    back = read_weights(convert(torch_file, tmp_path / "back.safetensors"))
    for name, values in read_weights(weights).arrays.items():
        np.testing.assert_array_equal(back.arrays[name], values)
    x = inputs()
    with torch.inference_mode():
        wanted = [one.numpy() for one in twin(torch.from_numpy(x))]
    exported = PoseEstimator(export(tmp_path / "pose.onnx", network=network, size=SIZE).path)
    assert exported.size == SIZE
    ours = [one.asnumpy() for one in network(mindspore.Tensor(x))]
    for outputs in (ours, exported.engine.run(x)):
        for one, other in zip(outputs, wanted, strict=True):
            assert np.abs(one - other).max() <= 1e-4 * np.abs(other).max()


@pytest.mark.parametrize("doubt", [0.0, 0.1, 0.45])
def test_doubt_about_the_direction_is_what_lies_where_a_half_turn_puts_the_points(
    doubt: float,
) -> None:
    rng = np.random.default_rng(0)
    maps = np.zeros((2, 36, 32, 32), np.float32)
    cells = np.stack(np.divmod(rng.choice(32 * 32, 36, replace=False), 32), axis=1)
    for keypoint, (own, other) in enumerate(zip(cells, cells[HALF_TURN_KEYPOINTS], strict=True)):
        maps[0, keypoint][tuple(own)] = 1 - doubt
        maps[0, keypoint][tuple(other)] = doubt
    maps[1, :, 16, 16] = 1  # all in one place: nothing can be told
    places = np.stack([cells[:, ::-1], np.full((36, 2), 16)])
    visible = rng.uniform(0, 1, (2, 36, 1))

    shares = half_turn_shares(np.concatenate((places, visible), axis=2), maps)

    assert shares == pytest.approx([doubt, 0], abs=1e-6)


def test_peaks_are_found_between_cells_and_cut_off_at_the_border() -> None:
    rng = np.random.default_rng(0)
    cells = rng.uniform((0, 0), (31, 15), (3, 36, 2))
    visibility = rng.normal(size=(3, 36)).astype(np.float32)
    maps = drawn_maps(cells, (16, 32))
    peaks, probabilities, *_ = decode((np.zeros((3, 16)), visibility, maps))
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
    assert 2 * at.left + at.width == size[1]
    assert 2 * at.top + at.height == size[0]
    assert max(at.width * FRAME / size[1], at.height * FRAME / size[0]) <= 1.03
    corners = np.array([[0, 0, 1], [width, height, 1]]) - [0.5, 0.5, 0]
    edges = np.array([[at.left, at.top], [at.left + at.width, at.top + at.height]])
    peaks = np.column_stack((edges / STRIDE - 0.5, [1, 1]))
    found = keypoints_in_image(peaks, width=width, height=height, size=size)
    np.testing.assert_allclose(found, corners, atol=1e-4)
    white = make_sample(np.full((height, width, 3), 255, np.uint8), None, VehiclePoseSpec())
    shown = batch_inputs([white], VehiclePoseSpec(), size)[0][0].any(0)
    assert shown.sum() == at.width * at.height
    assert shown[at.top : at.top + at.height, at.left : at.left + at.width].all()


def test_the_flip_test_gives_a_mirrored_picture_the_mirrored_pose(
    estimator: PoseEstimator,
) -> None:
    picture = crops(1)[0]
    straight, mirrored = (
        estimator.estimate([one])[0].keypoints
        for one in (picture, np.ascontiguousarray(picture[:, ::-1]))
    )
    mirrored[:, 0] = picture.shape[1] - 1 - mirrored[:, 0]
    np.testing.assert_allclose(mirrored[MIRRORED_KEYPOINTS], straight, rtol=1e-3, atol=1e-2)


def test_the_estimator_takes_it_by_its_weights(
    estimator: PoseEstimator, weights: Path, network: VehiclePose
) -> None:
    assert estimator.spec.network == "vehiclepose"
    (pose,) = estimator.estimate([PHOTO])
    assert ((pose.keypoints[:, 2] >= 0) & (pose.keypoints[:, 2] <= 1)).all()
    for how in ({"weights": weights}, {"network": network}):
        other = PoseEstimator(**how, backend="mindspore", size=SIZE)
        (same,) = other.estimate([PHOTO])
        np.testing.assert_allclose(same.keypoints, pose.keypoints, rtol=1e-3, atol=1e-2)
    plain = PoseEstimator(weights, backend="mindspore", size=SIZE, flip_test=False)
    (other,) = plain.estimate([PHOTO])
    assert not np.array_equal(other.keypoints, pose.keypoints)
    for tiny in ((1, 1), (1, 300)):
        (found,) = estimator.estimate([np.full((*tiny, 3), 128, np.uint8)])
        assert np.isfinite(found.keypoints).all()


def test_the_training_script_trains_goes_on_and_writes_what_is_read(
    script: ModuleType, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    stated = json.loads(sidecar_path(output).read_text())
    assert stated["origin"]["steps"] == 3
    estimator = PoseEstimator(output, backend="mindspore", flip_test=False)
    assert (estimator.size, estimator.spec.pose_convention) == (SIZE, "visibility")
    held_out = script.read_vehicles(root, held_out=True)
    poses = estimator.estimate([vehicle.pixels for vehicle in held_out])
    errors = KeypointErrors.of(
        np.stack([pose.keypoints for pose in poses]),
        np.stack([np.column_stack((v.points, v.hidden == script.VISIBLE)) for v in held_out]),
        np.array([max(vehicle.pixels.shape[:2]) for vehicle in held_out]),
    )
    assert 100 * errors.pck(0.2) == pytest.approx(stated["metrics"]["PCK@0.2"], abs=0.5)


def test_a_mirrored_vehicle_keeps_its_points(script: ModuleType) -> None:
    pixels = np.zeros((40, 60, 3), np.uint8)
    points = np.column_stack((np.linspace(5, 55, 36), np.full(36, 20))).astype(np.float32)
    vehicle = script.Vehicle(pixels, points, np.arange(36) % 2, 30.0)
    seen = set()
    for seed in range(20):
        rng = np.random.default_rng(seed)
        _, shown, moved, hidden, yaw = script.warped(vehicle, 64, rng)
        order = np.arange(36) if yaw > 0 else MIRRORED_KEYPOINTS
        steps = np.diff(moved[order, 0])
        assert (steps > 0).all() if yaw > 0 else (steps < 0).all()
        inside = ((moved > -0.5) & (moved < 63.5)).all(1)
        np.testing.assert_array_equal(hidden >= 1, (vehicle.hidden[order] >= 1) | ~inside)
        assert shown.any()
        seen.add(yaw)
    assert seen == {30.0, -30.0}
