"""Another network needs a folder and a line in the table, its training a module and settings."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import drawn
import mindspore
import numpy as np
import pytest
import toy_network
import toy_task
from conftest import PHOTO
from mindspore import Tensor, nn, ops
from toy_network import ToySpec

from multitasknet import convert, create_network, export, finetune, read_weights
from multitasknet.cli import main
from multitasknet.data.samples import batch_inputs, make_sample
from multitasknet.errors import TrainingError
from multitasknet.inference.conversion import open_mindir
from multitasknet.inference.engines import open_engine
from multitasknet.models import NETWORKS
from multitasknet.training.settings import SETTINGS
from multitasknet.vehicle.attributes import ClassMaps
from multitasknet.weights.read import WeightsFile
from multitasknet.weights.sidecar import Sidecar, write_sidecar

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)


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


def test_its_exports_and_engines_agree_at_any_size(weights: Path, tmp_path: Path) -> None:
    ids = ClassMaps((), (), ())
    write_sidecar(weights, Sidecar(replace(ToySpec(5), input_size=(32, 96)), ids))
    cell = create_network("toy", weights=weights)
    (inputs,) = batch_inputs([make_sample(PIXELS, None, cell.spec)] * 3, cell.spec, (64, 32))
    wanted = cell(mindspore.Tensor(inputs)).asnumpy()
    files = [
        export(tmp_path / name, network=cell, size=(64, 32)).path
        for name in ("toy.onnx", "toy.mindir")
    ]
    engines = [open_engine(one, cache_dir=tmp_path) for one in (WeightsFile(weights), files[0])]
    assert [engine.spec.input_size for engine in engines] == [(32, 96), (64, 32)]
    for run in (*(engine.run for engine in engines), open_mindir(files[1])):
        (got,) = run(inputs)
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-6)


def test_another_network_than_asked_for_is_refused(
    weights: Path, tmp_path: Path, write_card, capsys
) -> None:
    published = write_card("http://127.0.0.1/a.ckpt")
    output = ["--output", tmp_path / "b.onnx"]
    assert main(list(map(str, ["export", "--weights", weights, "--network", "toy", *output]))) == 0
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
    assert result.best.metrics["error"] == least < result.history.before["error"]
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
