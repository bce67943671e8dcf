"""VehicleReID: its layouts, its parity with PyTorch, and the rooms that take it."""

from __future__ import annotations

from pathlib import Path

import mindspore
import numpy as np
import pytest

from multitasknet import (
    CheckpointError,
    Predictor,
    VehicleReID,
    VehicleReIDSpec,
    create_network,
    read_weights,
)
from multitasknet.models.vehiclereid.definition import NETWORK

ROOT = Path(__file__).resolve().parents[1]
PHOTO = ROOT / "assets" / "example.jpg"
SIZE = (64, 96)


@pytest.fixture(scope="module")
def network() -> VehicleReID:
    """Random weights, with statistics of its norms that are not those of a new one."""
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
    with pytest.raises(CheckpointError, match=r"expected .*multitasknet.* vehiclereid"):
        create_network("multitasknet", weights=weights)
    with pytest.raises(TypeError, match="'variant'; vehiclereid takes num_ids"):
        create_network("vehiclereid", weights=None, variant="rgb")
    with pytest.raises(CheckpointError, match=r"'color\.weight' is \[10, 512\]; expected rows of"):
        shapes = {"stem.conv.weight": (32, 3, 3, 3), "embed.weight": (512, 1280)}
        NETWORK.spec_from_shapes(shapes | {"color.weight": (10, 512)}, "a.pth")


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
