"""Checkpoints as MindSpore's own training writes them: every network reads its own, whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mindspore
import numpy as np
import pytest
from conftest import save
from mindspore import Tensor, amp, nn
from mindspore.dataset import NumpySlicesDataset
from mindspore.train import CheckpointConfig, Model, ModelCheckpoint
from safetensors.numpy import save_file

from multitasknet import (
    CheckpointError,
    PoseEstimator,
    Predictor,
    create_network,
    export,
    load_weights,
    read_weights,
)
from multitasknet.models import NETWORKS
from multitasknet.weights.formats import read_ckpt
from multitasknet.weights.load import frozen_copy

pytestmark = pytest.mark.usefixtures("small")
SIDE = 32
# One value per step, as the model zoo's get_lr makes it.
RATES = np.linspace(1e-3, 1e-4, 7).astype(np.float32)


class Loss(nn.Cell):
    """What users write around a network to train it; the prefix of its parameters is theirs."""

    def __init__(self, network: nn.Cell) -> None:
        super().__init__()
        self.backbone = network
        self.scale = mindspore.Parameter(Tensor([1.0, 2.0], mindspore.float32), name="scale")

    def construct(self, *inputs: Tensor) -> Tensor:
        outputs = self.backbone(*inputs)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        return sum(output.mean() for output in outputs) * self.scale.sum()


@pytest.fixture(scope="module", params=NETWORKS)
def network(request: pytest.FixtureRequest) -> nn.Cell:
    """One network for all trainings: MindSpore renames its parameters for good, as users see."""
    counts = {} if "pose" in request.param else {"num_ids": 5}
    return create_network(request.param, weights=None, **counts)


@pytest.fixture(scope="module")
def files(network: nn.Cell, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What ``ModelCheckpoint`` writes after a step with Adam, and ``save_checkpoint`` of others:
    an optimizer's state before the first step, which has the same names and shapes; a loss."""
    folder, loss = tmp_path_factory.mktemp(network.spec.network), Loss(network)
    shapes = network.spec.input_shapes((SIDE, SIDE)).values()
    inputs = tuple(np.random.default_rng(0).random((2, *one), np.float32) for one in shapes)
    data = NumpySlicesDataset(inputs, shuffle=False).batch(2)
    saver = ModelCheckpoint("adam", str(folder), CheckpointConfig(save_checkpoint_steps=1))
    weights, rates = loss.trainable_params(), Tensor(RATES)
    adam = nn.Adam(weights, learning_rate=rates)
    Model(loss, optimizer=adam).train(1, data, [saver], dataset_sink_mode=False)
    loss.set_train(False)
    groups = [
        {"params": weights[::2], "lr": rates, "weight_decay": 1e-4},
        {"params": weights[1::2], "lr": rates / 10},
        {"order_params": weights},
    ]
    momentum = nn.Momentum(groups, learning_rate=1e-3, momentum=0.9)
    cells = {"momentum": nn.TrainOneStepCell(loss, momentum), "loss": loss}
    for name, cell in cells.items():
        mindspore.save_checkpoint(cell, str(folder / f"{name}.ckpt"))
    return {name: folder / f"{name}.ckpt" for name in cells} | {"adam": folder / "adam-1_1.ckpt"}


def values(network: nn.Cell) -> dict[str, np.ndarray]:
    return {name: value.asnumpy() for name, value in network.parameters_and_names()}


LEFT_OUT = {
    "adam": {"learning_rate", "global_step", "beta1_power", "scale"},
    "momentum": {"learning_rate_group_0", "learning_rate_group_1"},
    "loss": {"scale"},
}


@pytest.mark.parametrize("kind", LEFT_OUT)
@pytest.mark.parametrize("prefix", ["backbone.", ""])
def test_a_file_of_a_training_is_read_whole(network, files, kind, prefix, tmp_path) -> None:
    """With the prefix of a loss's Cell, and bare as ``Model(network, loss_fn)`` saves."""
    stored, path, left_out = read_ckpt(files[kind].read_bytes()), files[kind], LEFT_OUT[kind]
    if not prefix:
        own = (name for name in stored if not name.endswith("scale"))
        stored = {name.replace("backbone.", "", 1): stored[name] for name in own}
        path, left_out = save(tmp_path / "bare.ckpt", stored), left_out - {"scale"}
    weights = read_weights(path)
    assert (weights.network.name, weights.spec) == (network.spec.network, network.spec)
    own = {name: f"{prefix}{name}" for name in values(network)}
    assert set(weights.arrays) == set(own)
    assert set(weights.left_out) == set(stored) - set(own.values()) >= left_out
    for name, entry in own.items():
        np.testing.assert_array_equal(weights.arrays[name], stored[entry])


def test_a_network_is_created_and_loaded_from_it_and_says_what_it_left_out(network, files) -> None:
    weights = read_weights(files["adam"])
    created = create_network(network.spec.network, weights=files["adam"])
    assert (created.load_report.left_out, created.load_report.fresh) == (weights.left_out, ())
    # Inside the loss, too, which has renamed its parameters.
    assert next(iter(network.parameters_dict())).startswith("backbone.")
    assert set(load_weights(network, files["adam"]).loaded) == set(weights.arrays)
    for cell in (created, network):
        for name, value in values(cell).items():
            np.testing.assert_array_equal(value, weights.arrays[name])


def test_any_one_prefix_is_recognised(network, tmp_path) -> None:
    file, own = tmp_path / "a.safetensors", values(network)

    def save_under(*prefixes: str) -> None:
        save_file({f"{prefix}.{name}": own[name] for prefix in prefixes for name in own}, file)

    for prefix in ("net", "model.inner", "module.module", "_backbone.base"):
        save_under(prefix)
        assert set(read_weights(file).arrays) == set(own)
    save_under("student", "teacher")
    with pytest.raises(CheckpointError, match=r"under 'student\.' and 'teacher\.'"):
        read_weights(file)


def test_a_network_inside_a_loss_predicts_as_its_file_and_exports(network, files, tmp_path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)

    def answer(**source: Any) -> np.ndarray:
        if "pose" in network.spec.network:
            estimator = PoseEstimator(size=SIDE, backend="mindspore", **source)
            return estimator.estimate([image])[0].keypoints
        return Predictor(size=SIDE, pose="none", backend="mindspore", **source).embed([image])

    of_file = answer(weights=files["adam"])
    np.testing.assert_allclose(answer(network=network), of_file, rtol=1e-3, atol=1e-3)
    report = export(tmp_path / "own.onnx", network=network, size=(SIDE, SIDE))
    assert report.difference < 1e-3


@pytest.mark.parametrize("level", ["O2", "O3"])
def test_a_network_under_mixed_precision_is_loaded_and_saved(level: str, tmp_path: Path) -> None:
    network = create_network("vehiclepose", weights=None)
    wanted = values(network)
    mixed = amp.auto_mixed_precision(network, level)
    mindspore.save_checkpoint(mixed, str(tmp_path / "mixed.ckpt"))
    report = load_weights(mixed, tmp_path / "mixed.ckpt")
    assert set(report.loaded) == set(wanted)
    copied = values(frozen_copy(mixed))
    assert all(np.array_equal(copied[name], array) for name, array in wanted.items())
