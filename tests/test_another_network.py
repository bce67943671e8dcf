"""A second network needs a folder and a line in the table: the rooms take it as it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import drawn
import mindspore
import numpy as np
import pytest
import toy_network
from toy_network import ToySpec

from multitasknet import convert, create_network, export, read_dataset, read_weights
from multitasknet.data.pipeline import create_pipeline
from multitasknet.data.samples import batch_inputs, make_sample
from multitasknet.hub.info import describe_weights
from multitasknet.hub.source import WeightsSource
from multitasknet.inference.opening import open_engine
from multitasknet.models import NETWORKS
from multitasknet.vehicle.attributes import ClassMaps
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
    assert (found.network.NAME, found.spec) == ("toy", ToySpec(5))
    network = create_network("Toy", weights=weights)
    assert len(network.load_report.loaded) == 5
    assert not network.load_report.fresh
    info = describe_weights(convert(weights, tmp_path / "b.safetensors"))
    assert (info.spec, info.tensors, info.values) == (ToySpec(5), 5, 5 * 27 + 4 * 5)
    with pytest.raises(TypeError, match="takes a width"):
        create_network("toy", weights=None, num_ids=4)


def test_its_exports_and_engines_agree_at_any_size(weights: Path, tmp_path: Path) -> None:
    ids = ClassMaps((), (), ())
    write_sidecar(weights, Sidecar(replace(ToySpec(5), input_size=(32, 96)), ids))
    cell = create_network("toy", weights=weights)
    (inputs,) = batch_inputs([make_sample(PIXELS, None, cell.spec)] * 3, cell.spec, (64, 32))
    wanted = cell(mindspore.Tensor(inputs)).asnumpy()
    sources = [
        weights,
        export(tmp_path / "toy.onnx", network=cell).path,
        export(tmp_path / "toy.mindir", network=cell, size=(64, 32)).path,
    ]
    for source in sources:
        engine = open_engine(WeightsSource(source, cache_dir=tmp_path / "cache"), "toy")
        assert engine.spec.output_shapes((64, 32)) == {"means": (5,)}
        assert type(engine.spec) is ToySpec
        (got,) = engine.run(inputs)
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-6)
    assert open_engine(WeightsSource(sources[1]), "toy").spec.input_size == (32, 96)


def test_its_inputs_come_from_any_data_set(tmp_path: Path) -> None:
    root = drawn.pamtri(tmp_path / "data", drawn.plan(2, 1, 1))
    split = read_dataset(root).train
    pipeline = create_pipeline(split, ToySpec(), (32, 64), batch_size=2)
    assert pipeline.get_col_names() == ["picture", "index"]
    ((pictures, _),) = pipeline.create_tuple_iterator(num_epochs=1, output_numpy=True)
    assert (pictures.shape, pictures.dtype) == ((2, 3, 32, 64), np.float32)
    assert 0.1 < pictures.mean() < 0.9
