"""Weights that travel inside the package: taken from beside their card, by name, offline."""

from __future__ import annotations

import configparser
import fnmatch
import json
import shutil
from pathlib import Path

import hub_client
import numpy as np
import onnx
import pytest
from conftest import ASSETS, PHOTO

from multitasknet import (
    CardError,
    CheckpointError,
    DownloadError,
    Predictor,
    create_network,
    fetch_asset,
    hub_install,
    load_card,
    quantize,
    read_weights,
    write_card,
)
from multitasknet.cli import main
from multitasknet.files import file_sha256
from multitasknet.hub.card import default_card_path
from multitasknet.inference.pose import open_pose_estimator
from multitasknet.vehicle.attributes import COLORS, TYPES

LIGHT = "vehiclepose_synthetic"


@pytest.fixture
def light(tmp_path: Path, published_cards: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The light pose network's checkpoint, in a module that ships nothing else."""
    folder = tmp_path / "module"
    shutil.copytree(published_cards, folder)
    for suffix in ("ckpt", "json", "md"):
        shutil.copy(ASSETS / f"{LIGHT}.{suffix}", folder / "assets")
    monkeypatch.setattr("multitasknet.hub.card.PACKAGE", folder)
    return folder / "assets" / f"{LIGHT}.ckpt"


def test_what_is_shipped_is_what_its_card_states_and_travels_in_the_wheel() -> None:
    setup = configparser.ConfigParser()
    setup.read(ASSETS.parent / "setup.cfg")
    patterns = setup["options.package_data"]["multitasknet.assets"].split(", ")
    for card in ASSETS.glob("*_synthetic.md"):
        asset = load_card(card).asset
        assert asset.url.startswith("https://") and asset.side is not None
        for one in (asset, asset.side):
            assert file_sha256(ASSETS / one.file_name) == one.sha256
            assert any(fnmatch.fnmatch(one.file_name, pattern) for pattern in patterns)
        assert read_weights(ASSETS / asset.file_name).spec.is_complete
        text = " ".join(card.read_text(encoding="utf-8").split())
        assert "not trained on real traffic" in text


def test_what_is_not_shipped_is_said(light: Path) -> None:
    with pytest.raises(CardError, match=r"no weights of 'multitasknet' or.*of vehiclepose. Give"):
        Predictor("synthetic")
    light.with_suffix(".md").unlink()
    with pytest.raises(CardError, match="no weights of 'poseestnet' or 'vehiclepose' are shipped"):
        open_pose_estimator("synthetic")


def test_they_load_by_name_as_float32_and_without_the_identity_classifier(shipped) -> None:
    for weights in ("card", "synthetic", "vehiclepose"):
        network = create_network("vehiclepose", weights=weights, offline=True)
        report = network.load_report
        assert (report.source, report.fresh, report.left_out) == (ASSETS / f"{LIGHT}.ckpt", (), ())
        assert all(one.asnumpy().dtype == np.float32 for one in network.get_parameters())
    spec = create_network(weights="synthetic", offline=True).spec
    assert (spec.num_ids, spec.color_names, spec.type_names) == (0, COLORS, TYPES)
    assert list(spec.output_shapes((64, 64))) == ["color_logits", "type_logits", "embedding"]
    fresh = create_network(weights="synthetic", num_ids=7).load_report.fresh
    assert fresh == ("classifier_vid.weight", "classifier_vid.bias")


@pytest.mark.parametrize("suffix", [".ckpt", ".json"])
def test_a_tampered_file_is_refused(light: Path, tmp_path: Path, suffix: str) -> None:
    path = light.with_suffix(suffix)
    stated = file_sha256(path)
    path.write_bytes(path.read_bytes() + b" ")
    damage = rf"{path.name} is damaged: expected sha256 {stated}, found {file_sha256(path)}"
    for ask in (
        lambda: create_network("vehiclepose"),
        lambda: fetch_asset(load_card(light.with_suffix(".md"))),
        lambda: hub_install(tmp_path / "hub"),
    ):
        with pytest.raises((CheckpointError, DownloadError), match=damage):
            ask()


def test_without_the_file_its_card_leads_to_a_download(light: Path, server, tmp_path: Path) -> None:
    for path in (light, light.with_suffix(".json")):
        url = server.serve(f"/assets/{path.name}", path.read_bytes())
    write_card(light, url=url.rpartition("/")[0])
    light.unlink()
    fetched = fetch_asset(load_card(default_card_path("vehiclepose")), tmp_path)
    assert fetched == tmp_path / "mindspore" / "1.0" / light.name
    assert read_weights(fetched).sidecar is not None


def test_the_commands_know_them(light: Path, tmp_path: Path, capsys) -> None:
    card, hub = light.with_suffix(".md"), tmp_path / "hub"
    for command, fact in (
        ("info --network vehiclepose", light),
        (f"info --weights {light} --json", '"network": "vehiclepose"'),
        ("download --network vehiclepose", light),
        (
            f"write-card {light} --url https://x.org --field author=ME",
            f"https://x.org/{LIGHT}.json",
        ),
        (f"hub-install --hub-dir {hub} --card {card}", f'load("mindspore/1.0/{LIGHT}")'),
    ):
        assert main(command.split()) == 0
        assert str(fact) in capsys.readouterr().out


def test_a_written_card_says_what_file_and_sidecar_say(light: Path, tmp_path: Path) -> None:
    side = json.loads(light.with_suffix(".json").read_text())
    side["origin"] = {"seed": 3, "data": "/home/someone/data", "nested": {"a": 1}}
    side["metrics"] = {"PCK@0.1": 97.25}
    light.with_suffix(".json").write_text(json.dumps(side))
    url = "https://127.0.0.1:1/assets"
    card = write_card(light, url=url, fields={"license": "MIT", "train-dataset": "drawn"})
    assert card.path == light.with_suffix(".md")
    assert (card.network, card.uid) == ("vehiclepose", f"mindspore/1.0/{LIGHT}")
    assert (card.metrics, card.fields["license"]) == ({"PCK@0.1acc": 97.25}, "MIT")
    assert (card.asset.sha256, card.asset.size) == (file_sha256(light), light.stat().st_size)
    text = card.path.read_text(encoding="utf-8")
    assert "train-dataset" not in hub_client.check_card(text), "the client does not know it"
    assert "- seed: 3\n" in text and "trained on drawn" in text and "/home/someone" not in text
    for fields, said in (({"licence": "MIT"}, "no field 'licence'"), ({"summary": "a:b"}, "colon")):
        with pytest.raises(CardError, match=said):
            write_card(light, url=url, fields=fields)
    # Shipped weights belong to no version of the Hub.
    cards = hub_install(tmp_path, version="1.9")
    assert [card.network for card in cards] == ["multitasknet", "poseestnet"]


def test_a_predictor_takes_vehiclereid_without_poses_and_int8_keeps_its_stem(
    shipped, tmp_path: Path
) -> None:
    predictor = Predictor("vehiclereid", size=64, backend="onnx", cache_dir=tmp_path)
    (found,) = predictor.predict([PHOTO])
    assert (predictor.spec.network, found.embedding.shape) == ("vehiclereid", (512,))
    assert found.color and found.type
    assert (found.pose.origin, found.quality) == ("neutral", 1)
    assert (predictor.pose_setting, predictor.pose_estimator) == ("not used", None)
    assert (predictor.origin.variant, predictor.origin.distance) == ("rgb", "cosine")
    report = quantize(tmp_path / "int8.onnx", predictor, [PHOTO] * 4, min_cosine=-1)
    graph = onnx.load(report.path).graph
    (stem,) = (one for one in graph.node if one.op_type == "Conv" and "image" in one.input)
    assert stem.input[1] in {one.name for one in graph.initializer}, "the stem is float32"
