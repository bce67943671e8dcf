"""VehicleReID: its layouts, its parity with PyTorch, and the rooms that take it."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import ModuleType

import drawn
import mindspore
import numpy as np
import onnx
import pytest
from small import small_networks

from multitasknet import (
    CheckpointError,
    Predictor,
    VehicleReID,
    VehicleReIDSpec,
    convert,
    create_network,
    export,
    finetune,
    quantize,
    read_weights,
)
from multitasknet.models.vehiclereid.definition import NETWORK

ROOT = Path(__file__).resolve().parents[1]
PHOTO = ROOT / "assets" / "example.jpg"
SIZE = (64, 96)


@pytest.fixture(scope="module")
def network() -> VehicleReID:
    """Random weights, the same each time, and statistics of norms that are not a new one's."""
    mindspore.set_seed(0)
    network = create_network("vehiclereid", weights=None)
    rng = np.random.default_rng(0)
    for one in network.get_parameters():
        if "norm." in one.name or "neck." in one.name:
            low, high = (-0.1, 0.1) if one.name.endswith(("mean", "beta")) else (0.8, 1.2)
            one.set_data(mindspore.Tensor(rng.uniform(low, high, one.shape).astype(np.float32)))
    network.pool.p.set_data(mindspore.Tensor(np.array([2.5], np.float32)))
    return network


@pytest.fixture(scope="module")
def weights(network: VehicleReID, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("vehiclereid") / "reid.ckpt"
    mindspore.save_checkpoint(network, str(path))
    return path


@pytest.fixture(scope="module")
def script() -> ModuleType:
    pytest.importorskip("torch")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "examples")
        return import_module("train_vehiclereid")


def test_its_weights_are_told_by_their_names_and_load(weights: Path) -> None:
    found = read_weights(weights)
    assert (found.network.name, found.spec) == ("vehiclereid", VehicleReIDSpec())
    loaded = create_network("VehicleReID", weights=weights)
    assert not loaded.load_report.fresh
    trained = create_network("vehiclereid", weights=weights, num_ids=7, num_types=4)
    assert set(trained.load_report.fresh) == {"identity.weight", "type.weight", "type.bias"}
    assert list(trained.spec.output_shapes(SIZE)) == [
        *("id_logits", "color_logits", "type_logits", "embedding")
    ]
    with pytest.raises(CheckpointError, match=r"'color\.weight' is \[10, 512\]; expected rows of"):
        shapes = {"stem.conv.weight": (32, 3, 3, 3), "embed.weight": (512, 1280)}
        NETWORK.spec_from_shapes(shapes | {"color.weight": (10, 512)}, "a.pth")


def test_pytorch_and_all_engines_give_the_same(
    network: VehicleReID, weights: Path, script: ModuleType, tmp_path: Path
) -> None:
    import torch

    torch_file = convert(weights, tmp_path / "reid.pth")
    back = read_weights(convert(torch_file, tmp_path / "back.safetensors"))
    for name, values in read_weights(weights).arrays.items():
        np.testing.assert_array_equal(back.arrays[name], values)
    twin = script.VehicleReID(5).eval()
    twin.start_from(torch_file)
    x = np.random.default_rng(1).normal(size=(3, 3, *SIZE)).astype(np.float32)
    with torch.inference_mode():
        embedding, *logits = (one.numpy() for one in twin(torch.from_numpy(x)))
    wanted = (*logits, embedding)
    np.testing.assert_allclose(np.linalg.norm(embedding, axis=1), 1, rtol=1e-5)
    file = export(tmp_path / "reid.onnx", network=network).path
    engines = [Predictor(file, size=SIZE, backend=backend) for backend in ("onnx", "openvino")]
    for run in (*(one.engine.run for one in engines), lambda x: network(mindspore.Tensor(x))):
        for one, other in zip(run(x), wanted, strict=True):
            assert np.abs(np.asarray(one) - other).max() <= 1e-4 * np.abs(other).max()


def test_a_predictor_takes_it_by_its_weights_and_opens_no_pose_network(
    weights: Path, tmp_path: Path
) -> None:
    predictor = Predictor(weights, size=64, cache_dir=tmp_path)
    (found,) = predictor.predict([PHOTO])
    assert (predictor.spec.network, found.embedding.shape) == ("vehiclereid", (512,))
    assert found.color and found.type
    assert (found.pose.origin, found.quality) == ("neutral", 1)
    assert (predictor.pose_setting, predictor.pose_estimator) == ("not used", None)
    assert (predictor.origin.variant, predictor.origin.distance) == ("rgb", "cosine")


def test_an_int8_file_has_a_float32_stem(weights: Path, tmp_path: Path) -> None:
    plain = Predictor(weights, size=64, backend="onnx", cache_dir=tmp_path / "cache")
    # Random layers make a step of rounding large: what INT8 costs is a matter of trained weights.
    report = quantize(tmp_path / "int8.onnx", plain, [PHOTO] * 4, min_cosine=-1)
    assert report.path.stat().st_size < 6e6
    assert report.type_agreement is not None
    graph = onnx.load(report.path).graph
    kept = [node for node in graph.node if node.op_type in ("Conv", "Pow", "ReduceMean")]
    stem, *_ = (node for node in kept if "image" in node.input)
    assert stem.input[1] in {one.name for one in graph.initializer}, "the stem is float32"


def test_it_is_tuned_and_its_classifier_is_left_out_of_what_is_shipped(
    tmp_path: Path,
) -> None:
    data = drawn.pamtri(tmp_path / "data", drawn.plan(4, 2, 2))
    settings = {"network": "vehiclereid", "weights": "none", "size": 32, "batch_size": 8}
    settings |= {"epochs": 2, "lr": 1e-3, "instances": 2, "freeze": "stages", "progress": False}
    with small_networks():
        result = finetune(data, tmp_path / "run", **settings)
        first, last = (record.losses["total"] for record in result.history.epochs)
        assert last < first
        assert {"mAP", "color", "type"} <= result.metrics.keys()
        bare = convert(result.checkpoint, tmp_path / "bare.ckpt", without=["identity"])
        assert read_weights(result.checkpoint).spec.num_ids == 4
        assert read_weights(bare).spec.num_ids == 0
        predictor = Predictor(bare, cache_dir=tmp_path / "cache")
        assert predictor.size == (32, 32)
        assert predictor.embed([PHOTO]).shape == (1, 512)
