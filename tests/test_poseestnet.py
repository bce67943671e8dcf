"""PoseEstNet beside a PyTorch HRNet-W32, and what is around it beside a plain reference."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import mindspore
import numpy as np
import pose_reference as reference
import pytest
from small import small_networks

from multitasknet import PoseEstNetSpec, convert, create_network, export, read_weights
from multitasknet.data.samples import batch_inputs, make_sample
from multitasknet.inference.conversion import open_mindir
from multitasknet.inference.engines import open_engine
from multitasknet.models.poseestnet.decoding import (
    find_peaks,
    keypoints_in_image,
    unmirrored,
)
from multitasknet.models.poseestnet.definition import NETWORK
from multitasknet.vehicle.keypoint_metrics import published_metrics

MANIFEST = Path(__file__).parent / "poseestnet_manifest.json"
CASES = 100
SIZE = (256, 256)


@pytest.fixture(scope="module")
def torch_network():
    pytest.importorskip("torch", reason="pip install '.[torch]'")
    from torch_hrnet import PoseHighResolutionNet

    return PoseHighResolutionNet()


@pytest.fixture(scope="module")
def nvlabs_file(torch_network, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return as_nvlabs(torch_network, tmp_path_factory.mktemp("nvlabs"))


def as_nvlabs(network, folder: Path) -> Path:
    """As NVlabs saves it: from DataParallel, in a training checkpoint."""
    import torch

    state = {f"module.{name}": value for name, value in network.state_dict().items()}
    path = folder / "model_best.pth.tar"
    torch.save({"state_dict": state, "epoch": 210, "perf": np.float32(82.2)}, path)
    return path


def test_names_shapes_and_their_order_are_the_published_ones() -> None:
    wanted = json.loads(MANIFEST.read_text())["parameters"]
    network = create_network("poseestnet", weights=None)
    assert [[name, list(one.shape)] for name, one in network.parameters_and_names()] == wanted
    assert (len(wanted), sum(np.prod(shape) for _, shape in wanted)) == (1461, 28_591_040)
    assert sum(one.size for one in network.trainable_params()) == 28_536_704


def test_without_last_layer_it_gives_the_features() -> None:
    with small_networks():
        headless = create_network("poseestnet", weights=None, include_top=False)
    assert headless(mindspore.ops.zeros((1, 3, 32, 64))).shape == (1, 32, 8, 16)
    assert "final_layer.weight" not in {one.name for one in headless.get_parameters()}


def test_other_networks_are_not_taken_for_it_and_other_hrnets_are_named() -> None:
    assert NETWORK.recognizes(["module.stage4.2.branches.3.0.conv1.weight"])
    assert not NETWORK.recognizes(["conv1.weight", "bn1.weight", "layer1.0.conv1.weight"])
    for width, keypoints, problem in (
        (48, 36, "width 48; expected 32"),
        (32, 17, "gives 17 keypoints; expected the 36"),
    ):
        shapes = {
            "stage2.0.branches.0.0.conv1.weight": (width, width, 3, 3),
            "final_layer.weight": (keypoints, width, 1, 1),
        }
        with pytest.raises(ValueError, match=problem):
            NETWORK.spec_from_shapes(shapes, "a.pth")


def parity_inputs(network) -> tuple[np.ndarray, np.ndarray]:
    import torch

    x = np.random.default_rng(0).normal(size=(2, 3, 64, 96)).astype(np.float32)
    with torch.no_grad():
        return x, network(torch.from_numpy(x)).numpy()


def test_it_gives_what_pytorch_gives(torch_network, nvlabs_file) -> None:
    x, wanted = parity_inputs(torch_network)
    cell = create_network("poseestnet", weights=nvlabs_file)
    assert cell.spec == PoseEstNetSpec(final_bias=True)
    output = cell(mindspore.Tensor(x)).asnumpy()
    assert output.shape == (2, 36, 16, 24)
    assert np.abs(output - wanted).max() <= 1e-4 * np.abs(wanted).max()


def test_every_engine_gives_what_pytorch_gives(tmp_path, monkeypatch) -> None:
    """With a block and a module where there are four: the same operators."""
    hrnet = pytest.importorskip("torch_hrnet", reason="pip install '.[torch]'")
    monkeypatch.setattr(hrnet, "BLOCKS", 1)
    monkeypatch.setattr(hrnet, "MODULES", {2: 1, 3: 1, 4: 1})
    twin = hrnet.PoseHighResolutionNet()
    x, wanted = parity_inputs(twin)
    with small_networks():
        cell = create_network("poseestnet", weights=as_nvlabs(twin, tmp_path))
        onnx = export(tmp_path / "pose.onnx", network=cell, size=(64, 64)).path
        mindir = export(tmp_path / "pose.mindir", network=cell, size=(64, 96)).path
    for (output,) in (open_engine(onnx).run(x), open_mindir(mindir)(x)):
        assert np.abs(output - wanted).max() <= 1e-4 * np.abs(wanted).max()


def test_files_of_pytorch_become_published_ones_and_go_back(
    torch_network, nvlabs_file, tmp_path
) -> None:
    import torch
    from torch_hrnet import imagenet_state

    ours = convert(nvlabs_file, tmp_path / "pose.ckpt")
    back = torch.load(convert(ours, tmp_path / "pose.pth"), weights_only=True)["state_dict"]
    wanted = torch_network.state_dict()
    assert set(back) == set(wanted)
    counters = [name for name in wanted if name.endswith("num_batches_tracked")]
    assert all(torch.equal(back[name], wanted[name]) for name in set(wanted) - set(counters))

    # ImageNet's are a backbone, in two namings.
    values = read_weights(ours).arrays
    for nested in (False, True):
        path = tmp_path / f"hrnet_w32-{nested}.pth"
        torch.save(imagenet_state(torch_network, nested=nested), path)
        weights = read_weights(path)
        assert not weights.spec.is_complete
        assert set(values) - set(weights.arrays) == {"final_layer.weight", "final_layer.bias"}
        for name, array in weights.arrays.items():
            np.testing.assert_array_equal(array, values[name])
    network = create_network("poseestnet", weights=path)
    assert network.load_report.fresh == ("final_layer.weight",)
    assert len(network.load_report.loaded) == 1460


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


def test_peaks_and_flip_test_by_hand() -> None:
    """The rules of the published decoding, one map each."""
    maps = np.zeros((1, 36, 64, 64), np.float32)
    maps[0, 0, 10, 20], maps[0, 0, 10, 21], maps[0, 0, 9, 20] = 1.2, 0.5, 0.5
    maps[0, 1, 1, 62] = 0.3  # on the rim of what is moved: x is, y is not
    maps[0, 1, 1, 61] = 0.1
    maps[0, 2] = -1
    (peaks,) = find_peaks(maps)
    np.testing.assert_allclose(peaks[0], (20.25, 9.75, 1.2))
    np.testing.assert_allclose(peaks[1], (62, 1, 0.3), rtol=1e-6)
    np.testing.assert_allclose(peaks[2], (0, 0, -1))
    # Left and right exchanged, mirrored, one column to the right.
    assert unmirrored(maps)[0, 18, 10, 64 - 20] == np.float32(1.2)


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
        averaged = (pair[:1] + unmirrored(pair[1:])) * np.float32(0.5)
        wanted = reference.flip_average(*pair.astype(np.float64))
        np.testing.assert_allclose(averaged[0], wanted, atol=1e-6)
        for maps in (*pair, averaged[0]):
            cells, confidences = reference.decode(maps)
            (peaks,) = find_peaks(maps[None])
            np.testing.assert_array_equal(peaks[:, :2], cells)
            np.testing.assert_array_equal(peaks[:, 2], confidences.astype(np.float32))
            keypoints = keypoints_in_image(peaks, width=width, height=height, size=SIZE)
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


@pytest.mark.parametrize(
    ("name", "pixels"), [("Mean", 0.5 * 0.25 * 1060**0.5), ("Mean@0.1", 0.11 * 0.25 * 1060**0.5)]
)
def test_the_published_thresholds_are_the_known_ones(name: str, pixels: float) -> None:
    assert pixels == pytest.approx({"Mean": 4.07, "Mean@0.1": 0.895}[name], abs=5e-4)
    truth = np.ones((1060, 36, 3))
    for moved, share in ((pixels - 1e-6, 100), (pixels + 1e-6, 0)):
        estimates = truth + np.array([moved, 0, 0])
        assert published_metrics(estimates, truth)[name] == share
