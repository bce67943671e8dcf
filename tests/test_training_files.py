"""Checkpoints as MindSpore's own training writes them: every network reads its own, whole."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import mindspore
import numpy as np
import pytest
from mindspore import Tensor, amp, nn
from mindspore.dataset import NumpySlicesDataset
from mindspore.train import CheckpointConfig, Model, ModelCheckpoint
from safetensors.numpy import save_file
from small import small_networks

from multitasknet import (
    CheckpointError,
    PoseEstimator,
    Predictor,
    convert,
    create_network,
    export,
    load_weights,
    read_weights,
)
from multitasknet.cli import main
from multitasknet.models import NETWORKS
from multitasknet.weights.formats import read_ckpt
from multitasknet.weights.load import frozen_copy

SIDE = 32
# One value per step, as the model zoo's get_lr makes it.
RATES = np.linspace(1e-3, 1e-4, 7).astype(np.float32)


@pytest.fixture(scope="module", autouse=True)
def _small() -> Iterator[None]:
    with small_networks():
        yield


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


def adam(cell: nn.Cell) -> nn.Optimizer:
    return nn.Adam(cell.trainable_params(), learning_rate=Tensor(RATES))


def momentum_in_groups(cell: nn.Cell) -> nn.Optimizer:
    weights = cell.trainable_params()
    groups = [
        {"params": weights[::2], "lr": Tensor(RATES), "weight_decay": 1e-4},
        {"params": weights[1::2], "lr": Tensor(RATES / 10)},
        {"order_params": weights},
    ]
    return nn.Momentum(groups, learning_rate=1e-3, momentum=0.9)


@pytest.fixture(scope="module", params=NETWORKS)
def network(request: pytest.FixtureRequest) -> nn.Cell:
    """One network for all trainings: MindSpore renames its parameters for good, as users see."""
    return create_network(request.param, weights=None, **COUNTS.get(request.param, {}))


COUNTS = {"multitasknet": {"num_ids": 5}, "vehiclereid": {"num_ids": 5}}


@pytest.fixture(scope="module")
def files(network: nn.Cell, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What ``ModelCheckpoint`` writes after a step with Adam, and ``save_checkpoint`` of others:
    an optimizer's state before the first step, which has the same names and shapes; a loss."""
    folder = tmp_path_factory.mktemp(network.spec.network)
    loss = Loss(network)
    shapes = network.spec.input_shapes((SIDE, SIDE)).values()
    inputs = tuple(np.random.default_rng(0).random((2, *one), np.float32) for one in shapes)
    data = NumpySlicesDataset(inputs, shuffle=False).batch(2)
    saver = ModelCheckpoint("adam", str(folder), CheckpointConfig(save_checkpoint_steps=1))
    Model(loss, optimizer=adam(loss)).train(1, data, [saver], dataset_sink_mode=False)
    loss.set_train(False)
    sgd = nn.SGD(loss.trainable_params(), learning_rate=Tensor(RATES), momentum=0.9)
    cells = {
        "momentum": nn.TrainOneStepCell(loss, momentum_in_groups(loss)),
        "sgd": nn.TrainOneStepCell(loss, sgd),
        "loss": loss,
    }
    for name, cell in cells.items():
        mindspore.save_checkpoint(cell, str(folder / f"{name}.ckpt"))
    found = {name: folder / f"{name}.ckpt" for name in cells}
    return found | {"adam": folder / "adam-1_1.ckpt"}


def values(network: nn.Cell) -> dict[str, np.ndarray]:
    return {name: value.asnumpy() for name, value in network.parameters_and_names()}


LEFT_OUT = {
    "adam": {"learning_rate", "global_step", "beta1_power", "scale"},
    "momentum": {"learning_rate_group_0", "learning_rate_group_1"},
    "sgd": {"learning_rate"},
    "loss": {"scale"},
}


@pytest.mark.parametrize("kind", LEFT_OUT)
@pytest.mark.parametrize("prefix", ["backbone.", ""])
def test_a_file_of_a_training_is_read_whole(network, files, kind, prefix, tmp_path) -> None:
    """With the prefix of a loss's Cell, and bare as ``Model(network, loss_fn)`` saves."""
    stored, path, left_out = read_ckpt(files[kind].read_bytes()), files[kind], LEFT_OUT[kind]
    if not prefix:
        stored = {
            name.replace("backbone.", "", 1): one
            for name, one in stored.items()
            if not name.endswith("scale")
        }
        path, left_out = tmp_path / "bare.ckpt", left_out - {"scale"}
        entries = [{"name": name, "data": Tensor(one)} for name, one in stored.items()]
        mindspore.save_checkpoint(entries, str(path))
    weights = read_weights(path)
    assert (weights.network.name, weights.spec) == (network.spec.network, network.spec)
    own = {name: f"{prefix}{name}" for name in values(network)}
    assert set(weights.arrays) == set(own)
    assert set(weights.left_out) == set(stored) - set(own.values()) >= left_out
    for name, entry in own.items():
        np.testing.assert_array_equal(weights.arrays[name], stored[entry])


def test_a_network_is_created_and_loaded_from_it_and_says_what_it_left_out(network, files) -> None:
    weights = read_weights(files["adam"])
    assert read_ckpt(files["adam"].read_bytes())["learning_rate"].shape == RATES.shape
    created = create_network(network.spec.network, weights=files["adam"])
    assert (created.load_report.left_out, created.load_report.fresh) == (weights.left_out, ())
    # Inside the loss, too, which has renamed its parameters.
    assert next(iter(network.parameters_dict())).startswith("backbone.")
    assert set(load_weights(network, files["adam"]).loaded) == set(weights.arrays)
    for cell in (created, network):
        for name, value in values(cell).items():
            np.testing.assert_array_equal(value, weights.arrays[name])


@pytest.mark.parametrize("prefix", ["net.", "model.inner.", "module.module.", "_backbone.base."])
def test_any_one_prefix_is_recognised(network, tmp_path, prefix) -> None:
    own = values(network)
    save_file({f"{prefix}{name}": array for name, array in own.items()}, tmp_path / "a.safetensors")
    weights = read_weights(tmp_path / "a.safetensors")
    assert weights.network.name == network.spec.network
    assert set(weights.arrays) == set(own)


def test_two_networks_in_one_file_are_refused_by_their_prefixes(network, tmp_path) -> None:
    both = {
        f"{prefix}{name}": array
        for prefix in ("student.", "teacher.")
        for name, array in values(network).items()
    }
    save_file(both, tmp_path / "both.safetensors")
    with pytest.raises(CheckpointError, match=r"under 'student\.' and 'teacher\.'"):
        read_weights(tmp_path / "both.safetensors")


def test_the_commands_take_it(network, files, tmp_path, capsys) -> None:
    assert main(["info", "--weights", str(files["adam"]), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["network"] == network.spec.network
    assert printed["left out"].startswith(f"{len(read_weights(files['adam']).left_out)} ")
    converted = convert(files["adam"], tmp_path / "plain.ckpt")
    assert set(read_ckpt(converted.read_bytes())) == set(values(network))


def test_a_network_inside_a_loss_predicts_as_its_file_and_exports(network, files, tmp_path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    inside = {"network": network, "size": SIDE}
    if hasattr(network.spec, "color_names"):
        options = {"pose": "none", "backend": "mindspore"}
        of_file = Predictor(files["adam"], size=SIDE, **options).embed([pixels])
        found = Predictor(**inside, **options).embed([pixels])
    else:
        (of_file,) = PoseEstimator(files["adam"], size=SIDE, backend="mindspore").estimate([pixels])
        (found,) = PoseEstimator(**inside).estimate([pixels])
        of_file, found = of_file.keypoints, found.keypoints
    np.testing.assert_allclose(found, of_file, rtol=1e-3, atol=1e-3)
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


def test_a_cell_without_a_network_is_refused(network: nn.Cell, files: dict[str, Path]) -> None:
    with pytest.raises(CheckpointError, match="Dense holds no networks of this package"):
        load_weights(nn.Dense(2, 2), files["loss"])
