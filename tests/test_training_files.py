"""Checkpoints as MindSpore's own training writes them: every network reads its own, whole."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import mindspore
import numpy as np
import pytest
from loopback import LoopbackServer
from mindspore import Tensor, amp, nn
from mindspore.dataset import NumpySlicesDataset
from mindspore.train import CheckpointConfig, Model, ModelCheckpoint
from safetensors.numpy import save_file

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
from multitasknet.weights.formats import read_ckpt
from multitasknet.weights.load import frozen_copy

NETWORKS = ("multitasknet", "poseestnet", "vehiclepose")
SIDE = 32
# One value per step, as the model zoo's get_lr makes it.
RATES = np.linspace(1e-3, 1e-4, 7).astype(np.float32)


class Loss(nn.Cell):
    """What users write around a network to train it; the prefix of its parameters is theirs."""

    def __init__(self, network: nn.Cell, attribute: str = "backbone") -> None:
        super().__init__()
        setattr(self, attribute, network)
        self.scale = mindspore.Parameter(Tensor([1.0, 2.0], mindspore.float32), name="scale")
        self.inner = attribute

    def construct(self, *inputs: Tensor) -> Tensor:
        outputs = getattr(self, self.inner)(*inputs)
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


def sgd(cell: nn.Cell) -> nn.Optimizer:
    return nn.SGD(cell.trainable_params(), learning_rate=Tensor(RATES), momentum=0.9)


@pytest.fixture(scope="module", params=NETWORKS)
def network(request: pytest.FixtureRequest) -> nn.Cell:
    """One network for all trainings: MindSpore renames its parameters for good, as users see."""
    return create_network(request.param, weights=None)


@pytest.fixture(scope="module")
def files(network: nn.Cell, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What training leaves: of ``ModelCheckpoint`` after a step, and of ``save_checkpoint``.

    The small network takes a step with each optimizer; of the large ones' others the state is
    saved as it is before the first, which has the same names and shapes.
    """
    folder = tmp_path_factory.mktemp(network.spec.network)
    loss = Loss(network)
    files = {name: folder / f"{name}.ckpt" for name in ("loss", "bare")}
    for make in (adam, momentum_in_groups, sgd):
        name = make.__name__
        if make is adam or network.spec.network == "vehiclepose":
            train_one_step(loss, make(loss), folder, name)
            files[name] = folder / f"{name}-1_1.ckpt"
        else:
            files[name] = folder / f"{name}.ckpt"
            mindspore.save_checkpoint(nn.TrainOneStepCell(loss, make(loss)), str(files[name]))
    mindspore.save_checkpoint(loss, str(files["loss"]))
    mindspore.save_checkpoint(network, str(files["bare"]))
    return files


def train_one_step(loss: nn.Cell, optimizer: nn.Optimizer, folder: Path, name: str) -> None:
    shapes = loss.backbone.spec.input_shapes((SIDE, SIDE)).values()
    inputs = tuple(np.random.default_rng(0).random((2, *one), np.float32) for one in shapes)
    data = NumpySlicesDataset(inputs, shuffle=False).batch(2)
    saver = ModelCheckpoint(name, str(folder), CheckpointConfig(save_checkpoint_steps=1))
    Model(loss, optimizer=optimizer).train(1, data, [saver], dataset_sink_mode=False)
    loss.set_train(False)


def values(network: nn.Cell) -> dict[str, np.ndarray]:
    return {name: value.asnumpy() for name, value in network.parameters_and_names()}


KINDS = ("adam", "momentum_in_groups", "sgd", "loss", "bare")


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_a_training_is_read_whole(
    network: nn.Cell, files: dict[str, Path], kind: str
) -> None:
    stored = read_ckpt(files[kind].read_bytes())
    weights = read_weights(files[kind])
    assert (weights.network.name, weights.spec) == (network.spec.network, network.spec)
    own = {name: f"backbone.{name}" for name in values(network)}
    assert set(weights.arrays) == set(own)
    assert set(weights.left_out) == set(stored) - set(own.values())
    for name, entry in own.items():
        np.testing.assert_array_equal(weights.arrays[name], stored[entry])


def test_a_rate_per_step_and_per_group_is_left_out_and_said(
    network: nn.Cell, files: dict[str, Path]
) -> None:
    one, groups = (read_weights(files[kind]) for kind in ("adam", "momentum_in_groups"))
    assert {"learning_rate", "global_step", "beta1_power", "scale"} <= set(one.left_out)
    assert {"learning_rate_group_0", "learning_rate_group_1"} <= set(groups.left_out)
    assert read_ckpt(files["adam"].read_bytes())["learning_rate"].shape == RATES.shape
    created = create_network(network.spec.network, weights=files["adam"])
    assert created.load_report.left_out == one.left_out
    assert created.load_report.fresh == ()
    trained = values(created)
    assert all(np.array_equal(trained[name], array) for name, array in one.arrays.items())


def test_bare_names_beside_an_optimizers(
    network: nn.Cell, files: dict[str, Path], tmp_path: Path
) -> None:
    """As ``Model(network, loss_fn, optimizer)`` saves: its Cells add no prefix."""
    stored = read_ckpt(files["momentum_in_groups"].read_bytes())
    bare = [
        {"name": name.replace("backbone.", "", 1), "data": Tensor(value)}
        for name, value in stored.items()
        if not name.endswith("scale")
    ]
    mindspore.save_checkpoint(bare, str(tmp_path / "bare.ckpt"))
    weights = read_weights(tmp_path / "bare.ckpt")
    assert set(weights.arrays) == set(values(network))
    assert "learning_rate_group_1" in weights.left_out
    assert len(weights.arrays) + len(weights.left_out) == len(bare)


@pytest.mark.parametrize("prefix", ["net.", "model.inner.", "module.module.", "_backbone.base."])
def test_any_one_prefix_is_recognised(network: nn.Cell, tmp_path: Path, prefix: str) -> None:
    own = values(network)
    save_file({f"{prefix}{name}": array for name, array in own.items()}, tmp_path / "a.safetensors")
    weights = read_weights(tmp_path / "a.safetensors")
    assert weights.network.name == network.spec.network
    assert set(weights.arrays) == set(own)


def test_two_networks_in_one_file_are_refused_by_their_prefixes(
    network: nn.Cell, tmp_path: Path
) -> None:
    both = {
        f"{prefix}{name}": array
        for prefix in ("student.", "teacher.")
        for name, array in values(network).items()
    }
    save_file(both, tmp_path / "both.safetensors")
    with pytest.raises(CheckpointError, match=r"under 'student\.' and 'teacher\.'"):
        read_weights(tmp_path / "both.safetensors")


def test_the_commands_take_it_and_say_what_they_left_out(
    network: nn.Cell,
    files: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["info", "--weights", str(files["adam"]), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["network"] == network.spec.network
    assert said["left out"].startswith(f"{len(read_weights(files['adam']).left_out)} ")
    converted = convert(files["adam"], tmp_path / "plain.ckpt")
    assert set(read_ckpt(converted.read_bytes())) == set(values(network))


def test_a_card_that_states_its_hash_loads_it(
    network: nn.Cell,
    files: dict[str, Path],
    server: LoopbackServer,
    write_card: Callable[..., Path],
    tmp_path: Path,
) -> None:
    content = files["adam"].read_bytes()
    card = write_card(server.serve("/trained.ckpt", content), content)
    named = card.read_text().replace(
        "model-name: MultiTaskNet", f"model-name: {network.spec.network}"
    )
    card.write_text(named)
    loaded = create_network(network.spec.network, card=card, cache_dir=tmp_path, progress=False)
    assert loaded.load_report.fresh == ()
    expected = read_weights(files["adam"]).arrays
    for parameter, value in values(loaded).items():
        np.testing.assert_array_equal(value, expected[parameter])


def test_pictures_are_predicted_from_it(network: nn.Cell, files: dict[str, Path]) -> None:
    picture = np.full((40, 60, 3), 127, np.uint8)
    if network.spec.network == "multitasknet":
        (embedding,) = Predictor(files["adam"], pose="none", size=SIDE).embed([picture])
        assert np.isfinite(embedding).all()
    else:
        (pose,) = PoseEstimator(files["adam"], size=SIDE).estimate([picture])
        assert np.isfinite(pose.keypoints).all()


def test_a_network_inside_a_wrapper_is_loaded_by_its_own_names(
    network: nn.Cell, files: dict[str, Path]
) -> None:
    assert next(iter(network.parameters_dict())).startswith("backbone.")
    for kind in ("adam", "bare"):
        report = load_weights(network, files[kind])
        assert report.fresh == ()
        assert set(report.loaded) == set(values(network))


@pytest.mark.parametrize("network", ["vehiclepose"], indirect=True)
def test_a_network_inside_a_wrapper_predicts(
    network: nn.Cell, files: dict[str, Path], tmp_path: Path
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    (pose,) = PoseEstimator(network=network, size=(SIDE, SIDE)).estimate([pixels])
    assert pose.keypoints.shape == (36, 3)
    assert export(tmp_path / "pose.onnx", network=network, size=(SIDE, SIDE)).difference < 1e-3


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
        load_weights(nn.Dense(2, 2), files["bare"])
