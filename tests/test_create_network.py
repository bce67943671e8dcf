"""``create_network``: what comes from the checkpoint, what from arguments, what is refused."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from dataclasses import replace

import mindspore
import numpy as np
import pytest
from conftest import ASSETS
from safetensors.numpy import save_file

import multitasknet
from multitasknet import (
    CardError,
    CheckpointError,
    DownloadError,
    MultiTaskNet,
    create_network,
    load_weights,
)
from multitasknet.hub import card as card_module
from multitasknet.hub.source import default_weights

pytestmark = pytest.mark.usefixtures("small")


def inputs() -> tuple:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(2, 16, 64, 32)).astype(np.float32)
    p = rng.uniform(-0.5, 0.5, (2, 108)).astype(np.float32)
    return mindspore.Tensor(x), mindspore.Tensor(p)


def values(network) -> dict[str, np.ndarray]:
    return {parameter.name: parameter.asnumpy() for parameter in network.get_parameters()}


def test_the_three_entry_points_are_one_function_and_public_names_exist() -> None:
    """In a process of its own: here, other tests have loaded modules from many places."""
    code = (
        "import hub_conf, mindspore_hub_conf, multitasknet as package; print(len({id(one."
        "create_network) for one in (hub_conf, mindspore_hub_conf, package)}))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ASSETS.parent, capture_output=True)
    assert done.stdout.split() == [b"1"], done.stderr
    assert all(getattr(multitasknet, name) is not None for name in multitasknet.__all__)


def test_weights_by_default_are_those_of_the_variable_else_the_shipped_ones(monkeypatch) -> None:
    monkeypatch.delenv("MULTITASKNET_WEIGHTS", raising=False)
    assert default_weights(["multitasknet"]) == "card", "in tests nothing is shipped"
    monkeypatch.setattr("multitasknet.hub.card.PACKAGE", ASSETS.parent)
    assert default_weights(["poseestnet", "vehiclepose"]) == "synthetic"
    assert default_weights(["poseestnet"]) == "card"
    monkeypatch.setenv("MULTITASKNET_WEIGHTS", "none")
    assert default_weights(["multitasknet"]) is None
    monkeypatch.setenv("MULTITASKNET_WEIGHTS", "mine.ckpt")
    assert default_weights(["multitasknet"]) == "mine.ckpt"
    assert default_weights(["multitasknet"], "card.md") == "card"
    assert default_weights(["vehiclepose"]) == "synthetic", "the variable is for MultiTaskNet"


def test_a_failed_download_names_the_weights_that_are_there(write_card, tmp_path, shipped) -> None:
    card = write_card("http://127.0.0.1:1/model.ckpt")
    with pytest.raises(DownloadError, match="weights 'synthetic' of multitasknet and vehicle"):
        create_network(card=card, cache_dir=tmp_path, offline=True)


def test_each_weights_file_is_hashed_once_and_no_card_of_shipped_ones_is_parsed(
    monkeypatch, shipped
) -> None:
    hashed, sha256 = [], hashlib.sha256
    monkeypatch.setattr(
        hashlib, "sha256", lambda content, **how: hashed.append(content) or sha256(content, **how)
    )
    monkeypatch.setattr(card_module, "parse_card", None)
    create_network("vehiclepose", weights="synthetic")
    names = [f"vehiclepose_synthetic.{kind}" for kind in ("ckpt", "json")]
    assert hashed == [(ASSETS / name).read_bytes() for name in names]


def test_another_class_count_makes_that_classifier_fresh_and_is_kept(
    small_checkpoint, small_arrays, tmp_path
) -> None:
    network = create_network(weights=small_checkpoint, num_ids=np.int64(100), num_types=3)
    fresh = network.load_report.fresh
    assert fresh == tuple(
        f"classifier_{kind}.{one}" for kind in ("vid", "vtype") for one in ("weight", "bias")
    )
    loaded = values(network)
    assert [len(loaded[name]) for name in fresh] == [100, 100, 3, 3]
    kept = set(loaded) - set(fresh)
    assert all(np.array_equal(loaded[name], small_arrays[name]) for name in kept)
    mindspore.save_checkpoint(network, str(tmp_path / "tuned.ckpt"))
    again = create_network(weights=tmp_path / "tuned.ckpt")
    assert (again.spec.num_ids, again.spec.num_types) == (100, 3)
    assert again.spec.type_names == ("type 0", "type 1", "type 2")
    assert all(np.array_equal(loaded[name], value) for name, value in values(again).items())


def test_without_the_top_the_embedding_is_the_same(small_checkpoint, tmp_path) -> None:
    whole = create_network(weights=small_checkpoint)
    bare = create_network(weights=small_checkpoint, include_top=False)
    wanted = whole(*inputs())[3].asnumpy()
    np.testing.assert_allclose(bare(*inputs()).asnumpy(), wanted, rtol=1e-5)
    heads = "fc_vcolor fc_vtype classifier_vid classifier_vcolor classifier_vtype"
    assert {name.partition(".")[0] for name in bare.load_report.left_out} == set(heads.split())
    mindspore.save_checkpoint(bare, str(tmp_path / "bare.ckpt"))
    with pytest.raises(ValueError, match="holds no classifiers; give num_ids"):
        create_network(weights=tmp_path / "bare.ckpt")
    topped = create_network(weights=tmp_path / "bare.ckpt", num_ids=5)
    assert [output.shape[1] for output in topped(*inputs())] == [5, 10, 9, 1024]


def test_by_angle_embeddings_have_length_1_except_in_training(small_checkpoint) -> None:
    network = create_network(weights=small_checkpoint)
    twin = MultiTaskNet(replace(network.spec, distance="cosine"))
    load_weights(twin, small_checkpoint)
    x, p = (0.01 * one for one in inputs())  # embeddings shorter than 1
    features = x.reshape(2, -1)[:, :1024]
    *logits, plain = (output.asnumpy() for output in network.heads(features, p))
    for training in (True, False):
        *others, embedding = (one.asnumpy() for one in twin.set_train(training).heads(features, p))
        assert all(map(np.array_equal, others, logits))
        lengths = 1 if training else np.linalg.norm(plain, axis=1, keepdims=True)
        np.testing.assert_allclose(embedding, plain / lengths, rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "error", "named"),
    [
        ({"name": "resnet50"}, NotImplementedError, "^resnet50 is not implemented in the repo$"),
        ({"weights": "nowhere.ckpt"}, CheckpointError, r"nowhere\.ckpt: there is no such file"),
        ({"weights": "model.h5"}, CheckpointError, r"'\.h5'; expected one of \.ckpt, "),
        ({"weights": "a.ckpt", "card": "a.md"}, CardError, "'a.ckpt' and a card is given"),
        ({"card": "nowhere.md"}, ValueError, r"nowhere\.md: the card cannot be read"),
        ({"weights": None, "variant": "depth"}, ValueError, "segment, heatmap, heatmap"),
        ({"weights": None, "num_ids": 0}, ValueError, "num_ids is 0; expected at least 1"),
        ({"weights": None, "num_ids": "9"}, TypeError, "num_ids must be an integer, not str"),
        ({"num_ids": 3, "include_top": False}, ValueError, "num_ids with include_top=False"),
    ],
)
def test_wrong_arguments_are_named(arguments, error, named) -> None:
    with pytest.raises(error, match=named):
        create_network(**arguments)


@pytest.mark.parametrize(
    ("name", "shape", "named"),
    [
        ("base.norm5.beta", None, "1 missing: base.norm5.beta"),
        ("surprise", (3,), "1 unexpected: surprise"),
        ("base.norm0.beta", (3,), "base.norm0.beta [3], expected [64]"),
        ("base.conv0.weight", None, "no MultiTaskNet checkpoint"),
        ("base.conv0.weight", (64, 5, 7, 7), "takes 5 channels; expected one of 3 (rgb), 16 (seg"),
        ("fc_vid.weight", (1024, 900), "takes 900 columns; expected 1132"),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_name_and_change_nothing(
    small_arrays, tmp_path, name, shape, named
) -> None:
    entries = {key: value for key, value in small_arrays.items() if key != name}
    if shape:
        entries[name] = np.ones(shape, np.float32)
    path = tmp_path / "odd.safetensors"
    save_file(entries, path)
    network = create_network(weights=None, num_ids=5)
    before = values(network)
    with pytest.raises(ValueError, match=re.escape(named)) as refused:
        create_network(weights=path)
    assert str(path) in str(refused.value)
    with pytest.raises(CheckpointError):
        load_weights(network, path)
    assert all(np.array_equal(before[name], value) for name, value in values(network).items())


def test_what_does_not_match_is_left_out_only_when_asked(
    small_arrays, small_checkpoint, tmp_path
) -> None:
    with pytest.raises(ValueError, match=r"variant is 'rgb'.*holds the variant 'segment'"):
        create_network(weights=small_checkpoint, variant="rgb")
    small_arrays["surprise"] = small_arrays.pop("base.norm5.beta")
    save_file(small_arrays, tmp_path / "odd.safetensors")
    network = create_network(weights=None, num_ids=5)
    report = load_weights(network, tmp_path / "odd.safetensors", strict=False)
    assert (report.fresh, report.left_out) == (("base.norm5.beta",), ("surprise",))
    assert network.load_report is report
