"""``create_network``: what comes from the checkpoint, what from arguments, what is refused."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys

import mindspore
import numpy as np
import pytest
from conftest import ASSETS
from safetensors.numpy import save_file

import multitasknet
from multitasknet import (
    COLORS,
    TYPES,
    CheckpointError,
    DownloadError,
    create_network,
    load_weights,
)
from multitasknet.hub import card as card_module
from multitasknet.hub.source import default_weights


def values(network) -> dict[str, np.ndarray]:
    return {parameter.name: parameter.asnumpy() for parameter in network.get_parameters()}


def test_the_three_entry_points_are_one_function() -> None:
    """In a process of its own: here, other tests have loaded modules from many places."""
    code = (
        "import hub_conf, mindspore_hub_conf, multitasknet as package; print(len({id(one."
        "create_network) for one in (hub_conf, mindspore_hub_conf, package)}))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ASSETS.parent, capture_output=True)
    assert done.stdout.split() == [b"1"], done.stderr


def test_the_cards_asset_is_downloaded_verified_and_loaded(
    server, write_card, checkpoint, arrays, tmp_path
) -> None:
    content = checkpoint.read_bytes()
    card = write_card(server.serve("/model.ckpt", content), content)
    network = create_network(card=card, cache_dir=tmp_path, progress=False)
    loaded = values(network)
    assert all(np.array_equal(loaded[name], arrays[name]) for name in arrays)
    assert len(network.load_report.loaded) == 616
    assert network.load_report.fresh == network.load_report.left_out == ()
    spec = network.spec
    assert (str(spec.variant), spec.channels, spec.num_ids) == ("segment", 16, 575)
    assert (spec.keypoint_aware, spec.multi_task, spec.input_size) == (True, True, (256, 256))
    assert (spec.color_names, spec.type_names) == (COLORS, TYPES)
    again = create_network(card=card, cache_dir=tmp_path, offline=True)
    assert again.load_report.source == tmp_path / "mindspore" / "1.7" / "model.ckpt"


def test_weights_by_default_are_those_of_the_variable_else_the_shipped_ones(
    write_card, monkeypatch
) -> None:
    monkeypatch.delenv("MULTITASKNET_WEIGHTS", raising=False)
    assert default_weights(["multitasknet"]) == "card", "in tests nothing is shipped"
    monkeypatch.setattr("multitasknet.hub.card.PACKAGE", ASSETS.parent)
    assert default_weights(["multitasknet"]) == "synthetic"
    assert default_weights(["poseestnet", "vehiclepose"]) == "synthetic"
    assert default_weights(["poseestnet"]) == "card"
    assert default_weights(["multitasknet"], write_card("http://127.0.0.1/a.ckpt")) == "card"
    monkeypatch.setenv("MULTITASKNET_WEIGHTS", "none")
    assert default_weights(["multitasknet"]) is None
    monkeypatch.setenv("MULTITASKNET_WEIGHTS", "mine.ckpt")
    assert default_weights(["multitasknet"]) == "mine.ckpt"
    assert default_weights(["vehiclepose"]) == "synthetic", "the variable is for MultiTaskNet"


def test_a_failed_download_names_the_weights_that_are_there(write_card, tmp_path) -> None:
    card = write_card("http://127.0.0.1:1/model.ckpt")
    with pytest.raises(DownloadError, match="offline, and no verified copy") as failed:
        create_network(card=card, cache_dir=tmp_path, offline=True)
    assert "synthetic" not in str(failed.value), "in tests nothing is shipped"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("multitasknet.hub.card.PACKAGE", ASSETS.parent)
        with pytest.raises(DownloadError, match="weights 'synthetic' of multitasknet and vehicle"):
            create_network(card=card, cache_dir=tmp_path, offline=True)


def test_each_weights_file_is_hashed_once_and_no_card_of_shipped_ones_is_parsed(
    monkeypatch,
) -> None:
    monkeypatch.setattr("multitasknet.hub.card.PACKAGE", ASSETS.parent)
    hashed, parsed = [], []
    sha256, parse = hashlib.sha256, card_module.parse_card

    def counted(content: bytes = b"", **options: bool) -> object:
        hashed.append(len(content))
        return sha256(content, **options)

    monkeypatch.setattr(hashlib, "sha256", counted)
    monkeypatch.setattr(
        card_module,
        "parse_card",
        lambda path, text: parsed.append(path.name) or parse(path, text),
    )
    network = create_network(weights="synthetic")
    names = [f"multitasknet_synthetic.{kind}" for kind in ("ckpt", "json")]
    assert hashed == [(ASSETS / name).stat().st_size for name in names]
    assert parsed == []
    assert network.load_report.fresh == ()


def test_another_class_count_makes_that_classifier_fresh_and_is_kept(
    checkpoint, arrays, tmp_path
) -> None:
    network = create_network(weights=checkpoint, num_ids=np.int64(100), num_types=3)
    fresh = network.load_report.fresh
    assert fresh == tuple(
        f"classifier_{kind}.{one}" for kind in ("vid", "vtype") for one in ("weight", "bias")
    )
    loaded = values(network)
    assert [len(loaded[name]) for name in fresh] == [100, 100, 3, 3]
    assert all(np.array_equal(loaded[name], arrays[name]) for name in arrays if name not in fresh)
    assert len(network.trainable_params()) == 374
    mindspore.save_checkpoint(network, str(tmp_path / "tuned.ckpt"))
    again = create_network(weights=tmp_path / "tuned.ckpt")
    assert (again.spec.num_ids, again.spec.num_types) == (100, 3)
    assert again.spec.type_names == ("type 0", "type 1", "type 2")
    assert all(np.array_equal(loaded[name], value) for name, value in values(again).items())


def test_without_the_top_the_embedding_is_the_same(checkpoint, tmp_path) -> None:
    x = mindspore.Tensor(np.random.default_rng(0).normal(size=(1, 16, 64, 64)).astype(np.float32))
    p = mindspore.ops.zeros((1, 108))
    whole = create_network(weights=checkpoint)
    bare = create_network(weights=checkpoint, include_top=False)
    np.testing.assert_allclose(bare(x, p).asnumpy(), whole(x, p)[3].asnumpy(), rtol=1e-5)
    heads = "fc_vcolor fc_vtype classifier_vid classifier_vcolor classifier_vtype"
    assert {name.partition(".")[0] for name in bare.load_report.left_out} == set(heads.split())
    mindspore.save_checkpoint(bare, str(tmp_path / "bare.ckpt"))
    with pytest.raises(ValueError, match="holds no classifiers; give num_ids"):
        create_network(weights=tmp_path / "bare.ckpt")
    topped = create_network(weights=tmp_path / "bare.ckpt", num_ids=5)
    assert [output.shape[1] for output in topped(x, p)] == [5, 10, 9, 1024]


@pytest.mark.parametrize(
    ("arguments", "error", "named"),
    [
        ({"name": "resnet50"}, NotImplementedError, "^resnet50 is not implemented in the repo$"),
        ({"weights": "nowhere.ckpt"}, CheckpointError, r"nowhere\.ckpt: there is no such file"),
        ({"weights": "model.h5"}, CheckpointError, r"ends in \.ckpt, .* or \.tar, got '\.h5'"),
        ({"weights": "a.ckpt", "card": "a.md"}, ValueError, "'a.ckpt' and a card is given"),
        ({"card": "nowhere.md"}, ValueError, r"nowhere\.md: the card cannot be read"),
        ({"weights": None, "variant": "depth"}, ValueError, "rgb, segment, heatmap, heatmap+"),
        ({"weights": None, "num_ids": 0}, ValueError, "num_ids is 0; expected at least 1"),
        ({"weights": None, "num_ids": "9"}, TypeError, "num_ids must be an integer, not str"),
        ({"weights": None, "include_top": 1}, TypeError, "include_top must be True or False"),
        ({"num_ids": 3, "include_top": False}, ValueError, "num_ids with include_top=False"),
    ],
)
def test_wrong_arguments_are_named(arguments, error, named) -> None:
    pattern = named if named.startswith("^") else named.replace("heatmap+", r"heatmap\+")
    with pytest.raises(error, match=pattern):
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
def test_weights_that_do_not_fit_are_refused_by_name(arrays, tmp_path, name, shape, named) -> None:
    entries = {key: value for key, value in arrays.items() if key != name}
    if shape:
        entries[name] = np.ones(shape, np.float32)
    path = tmp_path / "odd.safetensors"
    save_file(entries, path)
    with pytest.raises(ValueError, match=re.escape(named)) as refused:
        create_network(weights=path)
    assert str(path) in str(refused.value)


def test_what_does_not_match_is_left_out_only_when_asked(arrays, checkpoint, tmp_path) -> None:
    with pytest.raises(ValueError, match=r"variant is 'rgb'.*holds the variant 'segment'"):
        create_network(weights=checkpoint, variant="rgb")
    entries = dict(arrays) | {"surprise": np.ones(3, np.float32)}
    del entries["base.norm5.beta"]
    save_file(entries, tmp_path / "odd.safetensors")
    network = create_network(weights=None, num_ids=575)
    before = values(network)
    with pytest.raises(CheckpointError):
        load_weights(network, tmp_path / "odd.safetensors")
    assert all(np.array_equal(before[name], value) for name, value in values(network).items())
    report = load_weights(network, tmp_path / "odd.safetensors", strict=False)
    assert report.fresh == ("base.norm5.beta",)
    assert report.left_out == ("surprise",)
    assert network.load_report is report


def test_an_unknown_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'creat_network'"):
        _ = multitasknet.creat_network
    assert "create_network" in dir(multitasknet)
    assert all(getattr(multitasknet, name) is not None for name in multitasknet.__all__)
