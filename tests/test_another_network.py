"""Another network needs a folder and a line in the table, its training a module and settings."""

from __future__ import annotations

import json
from pathlib import Path

import drawn
import mindspore
import pytest
import toy_network
import toy_task
from conftest import PHOTO
from mindspore import Tensor, nn, ops
from toy_network import ToySpec

from multitasknet import convert, create_network, finetune, read_weights
from multitasknet.cli import main
from multitasknet.errors import TrainingError
from multitasknet.models import NETWORKS
from multitasknet.training.settings import SETTINGS

TOY = {"network": "toy", "weights": "none", "size": 32, "epochs": 4, "batch_size": 8, "lr": 0.03}
TOY |= {"schedule": "steps", "milestones": [3], "progress": False}


class Steep(nn.Cell):
    """A finite loss whose slope is not."""

    def construct(self, outputs: Tensor, colors: Tensor, weights: Tensor) -> tuple:
        loss = ops.sqrt(0 * outputs).mean()
        return loss, ops.stack((loss,))


@pytest.fixture(autouse=True)
def _in_the_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(NETWORKS, "toy", toy_network.__name__)
    monkeypatch.setitem(SETTINGS, "toy", toy_task.ToySettings)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "a.ckpt"
    mindspore.save_checkpoint(create_network("toy", weights=None, width=5), str(path))
    return path


def test_it_is_created_loaded_and_told_by_its_names(weights: Path, tmp_path: Path, capsys) -> None:
    network = create_network("Toy", weights=weights)
    assert (len(network.load_report.loaded), network.load_report.fresh) == (5, ())
    converted = read_weights(convert(weights, tmp_path / "b.safetensors"))
    assert (converted.network.name, converted.spec) == ("toy", ToySpec(5))
    with pytest.raises(TypeError, match="toy takes width"):
        create_network("toy", weights=None, num_ids=4)
    assert main(["info", "--weights", str(weights), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["width"] == "5 means"


def test_another_network_than_asked_for_is_refused(
    weights: Path, tmp_path: Path, write_card, capsys
) -> None:
    published = write_card("http://127.0.0.1/a.ckpt")
    output = ["--output", tmp_path / "b.onnx"]
    for source in ("none", weights):
        exporting = ["export", "--weights", source, "--network", "toy", *output]
        assert main(list(map(str, exporting))) == 0
    for source, asked, command in (
        (weights, "multitasknet", ["info", "--weights", weights]),
        (weights, "multitasknet", ["export", "--weights", weights, *output]),
        (weights, None, ["predict", PHOTO, "--weights", weights]),
        (published, "toy", ["info", "--weights", published]),
        (published, "toy", ["export", "--weights", published, *output]),
    ):
        stated = ["--network", asked] if asked else []
        assert main([*map(str, command), *stated]) == 2
        assert capsys.readouterr().err.startswith(f"multitasknet: error: {source}: ")


# Its training


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return drawn.pamtri(tmp_path_factory.mktemp("data"), drawn.plan(6, 2, 3))


def test_it_trains_and_keeps_the_best_by_its_own_metric(data: Path, tmp_path: Path) -> None:
    result = finetune(data, tmp_path / "run", **TOY)
    records = result.history.epochs
    assert [set(record.losses) for record in records] == [{"total", "distance"}] * 4
    assert records[-1].losses["distance"] < records[0].losses["distance"] / 2
    assert records[3].rate == pytest.approx(records[2].rate / 10)
    least = min(record.metrics["error"] for record in records)
    assert result.history.best.metrics["error"] == least < result.history.before["error"]
    network = create_network("toy", weights=result.checkpoint)
    assert network.spec.input_size == (32, 32)


def test_a_loss_scale_that_falls_to_one_ends_with_the_batchs_images(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(toy_task, "Distance", Steep)
    # Four batches an epoch: 2**14 falls to 1 in 14 of them, and the 15th is the last.
    with pytest.raises(TrainingError, match=r"epoch 4, batch 3: a gradient is not finite.*\.jpg"):
        finetune(data, tmp_path / "run", **TOY | {"precision": "mixed", "epochs": 9})
    history = json.loads((tmp_path / "run" / "history.json").read_text())
    assert [record["skipped"] for record in history["epochs"]] == [4, 4, 4]
