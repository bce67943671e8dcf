"""A second network needs a folder and a line in the table: the rooms take it as it is."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import drawn
import mindspore
import numpy as np
import pytest
import toy_network
from conftest import PHOTO
from toy_network import ToySpec

from multitasknet import convert, create_network, export, read_dataset, read_weights
from multitasknet.cli import main
from multitasknet.data.samples import batch_inputs, make_sample, read_batches
from multitasknet.inference.conversion import open_mindir
from multitasknet.inference.engines import open_engine
from multitasknet.models import NETWORKS
from multitasknet.vehicle.attributes import ClassMaps
from multitasknet.weights.read import WeightsFile
from multitasknet.weights.sidecar import Sidecar, write_sidecar

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)


@pytest.fixture(autouse=True)
def _in_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(NETWORKS, "toy", toy_network.__name__)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    mindspore.save_checkpoint(
        create_network("toy", weights=None, width=5), str(tmp_path / "a.ckpt")
    )
    return tmp_path / "a.ckpt"


def test_it_is_created_loaded_and_told_by_its_names(weights: Path, tmp_path: Path) -> None:
    found = read_weights(weights)
    assert (found.network.name, found.spec) == ("toy", ToySpec(5))
    network = create_network("Toy", weights=weights)
    assert len(network.load_report.loaded) == 5
    assert not network.load_report.fresh
    converted = read_weights(convert(weights, tmp_path / "b.safetensors"))
    assert (converted.spec, converted.shapes) == (ToySpec(5), found.shapes)
    with pytest.raises(TypeError, match="toy takes width"):
        create_network("toy", weights=None, num_ids=4)


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
    for source in (WeightsFile(weights), files[0]):
        engine = open_engine(source, folder=tmp_path / "cache")
        assert engine.spec.output_shapes((64, 32)) == {"means": (5,)}
        assert type(engine.spec) is ToySpec
        (got,) = engine.run(inputs)
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-6)
    (got,) = open_mindir(files[1])(inputs)
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-6)
    assert open_engine(WeightsFile(weights)).spec.input_size == (32, 96)


def test_its_inputs_come_from_any_data_set(tmp_path: Path) -> None:
    root = drawn.pamtri(tmp_path / "data", drawn.plan(2, 1, 1))
    split = read_dataset(root).train
    (row,) = read_batches(split, ToySpec(), (32, 64), batch_size=2)
    assert list(row) == ["picture", "index"]
    pictures = row["picture"]
    assert (pictures.shape, pictures.dtype) == ((2, 3, 32, 64), np.float32)
    assert 0.1 < pictures.mean() < 0.9


def test_the_commands_tell_it_by_its_weights(weights: Path, tmp_path: Path, capsys) -> None:
    def exported(*options: object) -> int:
        target = tmp_path / "a.onnx"
        assert main(["export", "--output", str(target), *map(str, options)]) == 0
        return open_engine(target).spec.width

    assert main(["info", "--weights", str(weights), "--json"]) == 0
    info = json.loads(capsys.readouterr().out)
    assert (info["network"], info["width"]) == ("toy", "5 means")
    for stated in ([], ["--network", "toy"]):
        assert exported("--weights", weights, *stated) == 5
    assert exported("--network", "toy", "--weights", "none") == 4


def test_its_card_is_taken_for_its_name(write_card, tmp_path: Path, monkeypatch, capsys) -> None:
    card = write_card("http://127.0.0.1/toy.ckpt", path=tmp_path / "assets" / "toy.md")
    card.write_text(card.read_text().replace("model-name: MultiTaskNet", "model-name: Toy"))
    monkeypatch.setattr("multitasknet.hub.card.PACKAGE", tmp_path)
    assert main(["info", "--network", "toy"]) == 0
    assert "Toy (PAMTRI)" in capsys.readouterr().out
    assert main(["download", "--network", "toy"]) == 2
    assert "toy.ckpt" in capsys.readouterr().err


def test_another_network_than_asked_for_is_refused(
    weights: Path, tmp_path: Path, write_card, capsys
) -> None:
    best = weights.rename(tmp_path / "best.ckpt")
    published = write_card("http://127.0.0.1/a.ckpt")
    output = ["--output", tmp_path / "b.onnx"]
    for source, asked, command in (
        (best, "multitasknet", ["info", "--weights", best]),
        (best, "multitasknet", ["export", "--weights", best, *output]),
        (best, None, ["predict", PHOTO, "--weights", best]),
        (published, "toy", ["info", "--weights", published]),
        (published, "toy", ["export", "--weights", published, *output]),
    ):
        stated = ["--network", asked] if asked else []
        assert main([*map(str, command), *stated]) == 2
        assert capsys.readouterr().err.startswith(f"multitasknet: error: {source}: ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.ckpt", "cards"]
