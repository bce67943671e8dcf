"""A second network trains by the same machinery: its task is a module, its settings a class."""

from __future__ import annotations

import json
from pathlib import Path

import drawn
import pytest
import toy_network
import toy_task
from mindspore import Tensor, nn, ops
from toy_task import ToySettings

from multitasknet import FinetuneResult, create_network, finetune
from multitasknet.errors import TrainingError
from multitasknet.models import NETWORKS
from multitasknet.training.settings import SETTINGS

TOY = {
    "network": "toy",
    "weights": "none",
    "size": 32,
    "epochs": 4,
    "batch_size": 8,
    "lr": 0.03,
    "schedule": "steps",
    "milestones": [3],
    "progress": False,
}


class Steep(nn.Cell):
    """A finite loss whose slope is not."""

    def construct(self, outputs: Tensor, colors: Tensor, weights: Tensor) -> tuple:
        loss = ops.sqrt(0 * outputs).mean()
        return loss, ops.stack((loss,))


@pytest.fixture(autouse=True)
def _in_the_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(NETWORKS, "toy", toy_network.__name__)
    monkeypatch.setitem(SETTINGS, "toy", ToySettings)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return drawn.pamtri(tmp_path_factory.mktemp("data"), drawn.plan(6, 2, 3))


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> FinetuneResult:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(NETWORKS, "toy", toy_network.__name__)
        patch.setitem(SETTINGS, "toy", ToySettings)
        return finetune(data, tmp_path_factory.mktemp("toy") / "run", **TOY)


def test_it_trains_validates_and_keeps_the_best_by_its_own_metric(trained: FinetuneResult) -> None:
    result = trained
    records = result.history.epochs
    assert [set(record.losses) for record in records] == [{"total", "distance"}] * 4
    assert records[-1].losses["distance"] < records[0].losses["distance"] / 2
    assert records[3].rate == pytest.approx(records[2].rate / 10)
    errors = [record.metrics["error"] for record in records]
    assert min(errors) < result.history.before["error"]
    assert "undefined" not in records[0].metrics
    assert result.best.metrics["error"] == min(errors)
    written = json.loads((result.output / "history.json").read_text())
    assert (written["metric"], written["higher_is_better"]) == ("error", False)
    assert written["settings"]["network"] == "toy"
    assert "margin" not in written["settings"]
    page = (result.output / "report.html").read_text()
    assert f"the best by error is epoch {result.best.epoch}" in page
    network = create_network("toy", weights=result.checkpoint)
    assert network.spec.input_size == (32, 32)
    sidecar = json.loads(result.checkpoint.with_suffix(".json").read_text())
    assert (sidecar["network"], sidecar["metrics"]) == ("toy", result.best.metrics)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"margin": 0.3}, "unknown setting 'margin'; expected some of .*, noise"),
        ({"noise": -1.0}, "noise is -1.0; expected greater than or equal to 0"),
        (
            {"network": "zoo"},
            "network is 'zoo'; expected one of multitasknet, poseestnet, vehiclereid, toy",
        ),
        ({"batch_size": 40}, "1 batches of 40 images .* the data have 36"),
    ],
)
def test_it_has_settings_and_checks_of_its_own(data, tmp_path, settings, message) -> None:
    with pytest.raises(TrainingError, match=message):
        finetune(data, tmp_path / "run", **TOY | settings)


def test_a_loss_scale_that_falls_to_one_ends_with_the_batchs_images(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(toy_task, "Distance", Steep)
    # Four batches an epoch: 2**14 falls to 1 in 14 of them, and the 15th is the last.
    with pytest.raises(TrainingError, match=r"epoch 4, batch 3: a gradient is not finite.*\.jpg"):
        finetune(data, tmp_path / "run", **TOY | {"precision": "mixed", "epochs": 9})
    history = json.loads((tmp_path / "run" / "history.json").read_text())
    assert [record["skipped"] for record in history["epochs"]] == [4, 4, 4]
