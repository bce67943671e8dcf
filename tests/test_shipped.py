"""Weights that travel inside the package: taken from beside their card, by name, offline."""

from __future__ import annotations

import configparser
import fnmatch
import io
import json
import shutil
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path

import drawn
import mindspore
import numpy as np
import pytest
from conftest import ASSETS, PHOTO, save
from loopback import LoopbackServer

from multitasknet import (
    CardError,
    CheckpointError,
    ClassMaps,
    DownloadError,
    Predictor,
    convert,
    create_network,
    evaluate,
    fetch_asset,
    hub_install,
    load_card,
    read_dataset,
    read_weights,
    write_card,
)
from multitasknet.cli import main
from multitasknet.files import file_sha256
from multitasknet.hub.card import default_card_path
from multitasknet.inference.pose import open_pose_estimator
from multitasknet.models import EMBEDDING_NETWORKS, NETWORKS, POSE_NETWORKS, find_network
from multitasknet.models.base import PoseNetwork
from multitasknet.models.embedding import EmbeddingNetwork
from multitasknet.vehicle.attributes import COLORS, TYPES
from multitasknet.weights.sidecar import Sidecar, read_sidecar, sidecar_path, write_sidecar

SIZE = (64, 64)
LINK = "https://127.0.0.1:1/assets"
SHIPPED = sorted(ASSETS.glob("*_synthetic.md"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all tests, so that the weights become ONNX files once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def pose_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of VehiclePose as training leaves them."""
    path = tmp_path_factory.mktemp("trained") / "light.ckpt"
    network = create_network("vehiclepose", weights=None)
    mindspore.save_checkpoint(network, str(path))
    origin = {"seed": 3, "data": "/home/someone/data", "data_sha256": "abc", "nested": {"a": 1}}
    spec = replace(network.spec, input_size=SIZE)
    write_sidecar(path, Sidecar(spec, ClassMaps((), (), ()), {"PCK@0.1": 97.25}, origin))
    return path


@pytest.fixture(scope="module")
def identity_source(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Path:
    """The same of MultiTaskNet, with its classifiers."""
    path = shutil.copy(checkpoint, tmp_path_factory.mktemp("trained") / "best.ckpt")
    spec = replace(read_weights(path).spec, input_size=SIZE, pose_convention="visibility")
    ids = ClassMaps(*(tuple(range(n)) for n in (spec.num_ids, spec.num_colors, spec.num_types)))
    write_sidecar(path, Sidecar(spec, ids, {"mAP": 80.5}, {"seed": 4}))
    return path


@pytest.fixture
def module(tmp_path: Path, published_cards: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that a module without shipped weights takes its cards from."""
    folder = tmp_path / "module"
    shutil.copytree(published_cards, folder)
    monkeypatch.setattr("multitasknet.hub.card.PACKAGE", folder)
    return folder / "assets"


@pytest.fixture
def light(module: Path, pose_source: Path) -> Path:
    """The light pose network, dropped into that folder as a release does."""
    return drop_in(module / "vehiclepose_synthetic.ckpt", pose_source)


@pytest.fixture
def identity(module: Path, identity_source: Path) -> Path:
    """The same of MultiTaskNet, without its identity classifier."""
    target = module / "multitasknet_synthetic.ckpt"
    return drop_in(target, identity_source, "--without", "classifier_vid")


def drop_in(target: Path, source: Path, *options: str) -> Path:
    said("convert", source, target, "--float16", *options)
    said("write-card", target, "--url", LINK, "--field", "train-dataset=generated")
    return target


def said(*command: object) -> str:
    with redirect_stdout(io.StringIO()) as printed:
        assert main([*map(str, command)]) == 0
    return printed.getvalue()


@pytest.mark.parametrize("card", SHIPPED, ids=lambda card: card.stem)
def test_what_is_shipped_is_what_its_card_states(card: Path) -> None:
    stated = load_card(card).asset
    assert stated.url.startswith("https://")
    files = [stated, *filter(None, [stated.side])]
    for asset in files:
        assert file_sha256(ASSETS / asset.file_name) == asset.sha256
    weights = read_weights(ASSETS / stated.file_name)
    assert weights.spec.is_complete
    assert "not trained on real traffic" in " ".join(card.read_text(encoding="utf-8").split())


def test_all_that_is_shipped_travels_in_the_wheel() -> None:
    setup = configparser.ConfigParser()
    setup.read(ASSETS.parent / "setup.cfg")
    patterns = setup["options.package_data"]["multitasknet.assets"].split(", ")
    for suffix in ("md", "ckpt", "json"):
        assert any(fnmatch.fnmatch(f"vehiclepose_synthetic.{suffix}", one) for one in patterns)


def test_what_is_not_shipped_is_said(module: Path, capsys) -> None:
    for ask, networks in (
        (lambda: create_network("vehiclepose"), "'vehiclepose'"),
        (lambda: create_network("vehiclepose", weights="synthetic"), "'vehiclepose'"),
        (lambda: Predictor("synthetic"), "'multitasknet' or 'vehiclereid'"),
        (lambda: open_pose_estimator("synthetic"), "'poseestnet' or 'vehiclepose'"),
    ):
        with pytest.raises(CardError, match=f"no weights of {networks} are shipped.*Give a file"):
            ask()
    for command in ("info --network vehiclepose", f"pose {PHOTO} --weights synthetic"):
        assert main(command.split()) == 2
        assert "are shipped with this version" in capsys.readouterr().err


@pytest.mark.parametrize("weights", ["card", "synthetic"])
def test_the_light_network_loads_by_its_name(light: Path, pose_source: Path, weights: str) -> None:
    network = create_network("vehiclepose", weights=weights, offline=True)
    report = network.load_report
    assert (report.source, report.fresh, report.left_out) == (light, (), ())
    assert network.spec.input_size == SIZE
    wanted = read_weights(pose_source).arrays
    for name, parameter in network.parameters_dict().items():
        assert parameter.dtype == mindspore.float32
        exact = wanted[name] if wanted[name].ndim < 2 else wanted[name].astype(np.float16)
        np.testing.assert_array_equal(parameter.asnumpy(), exact)
    assert light.stat().st_size < 0.55 * pose_source.stat().st_size


def test_multitasknet_loads_without_its_identity_classifier(identity: Path) -> None:
    with pytest.raises(CardError, match="there are synthetic ones of multitasknet"):
        create_network("vehiclepose")
    network = create_network(weights="synthetic", offline=True)
    assert (network.load_report.source, network.load_report.fresh) == (identity, ())
    spec = network.spec
    assert (spec.num_ids, spec.color_names, spec.type_names) == (0, COLORS, TYPES)
    assert (spec.input_size, spec.pose_convention) == (SIZE, "visibility")
    assert list(spec.output_shapes(SIZE)) == ["color_logits", "type_logits", "embedding"]
    fresh = create_network(weights="synthetic", num_ids=7)
    assert fresh.spec.num_ids == 7
    assert fresh.load_report.fresh == ("classifier_vid.weight", "classifier_vid.bias")
    features = create_network(weights="synthetic", include_top=False)
    assert features.spec.include_top is False
    assert "classifier_vcolor.weight" in features.load_report.left_out


def test_a_crop_goes_through_both(identity: Path, light: Path, cache: Path, tmp_path: Path) -> None:
    for word in ("synthetic", "auto"):
        predictor = Predictor("synthetic", pose=word, cache_dir=cache, offline=True)
        assert predictor.size == SIZE
        (found,) = predictor.predict([PHOTO])
        assert found.pose.origin == "estimated"
        assert found.color in COLORS
        assert found.type in TYPES
        assert predictor.pose_estimator.spec.network == "vehiclepose"
    cell = create_network(weights="synthetic")
    (same,) = Predictor(network=cell, pose="none").predict([PHOTO], [found.pose.keypoints])
    np.testing.assert_allclose(same.embedding, found.embedding, rtol=1e-3, atol=1e-4)
    assert same.color_probability == pytest.approx(found.color_probability, abs=1e-4)
    dataset = read_dataset(drawn.pamtri(tmp_path / "data", drawn.plan(2, 2, 2)))
    metrics = evaluate(predictor, dataset).metrics
    assert {"mAP", "color", "type"} <= set(metrics)


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


def test_without_the_file_its_card_leads_to_a_download(
    light: Path, server: LoopbackServer, tmp_path: Path
) -> None:
    for path in (light, sidecar_path(light)):
        url = server.serve(f"/assets/{path.name}", path.read_bytes())
    write_card(light, url=url.rpartition("/")[0])
    light.unlink()
    fetched = fetch_asset(load_card(default_card_path("vehiclepose")), tmp_path)
    assert fetched == tmp_path / "mindspore" / "1.0" / light.name
    assert read_sidecar(fetched, read_weights(fetched).spec) is not None


def test_the_commands_know_the_entry(light: Path, identity: Path, cache: Path) -> None:
    info = json.loads(said("info", "--network", "vehiclepose", "--json"))
    assert (info["file"], info["input size"]) == (str(light), "64x64")
    assert info["trained on"] == "see the card"
    info = json.loads(said("info", "--weights", "synthetic", "--json"))
    assert info["file"] == str(identity)
    assert info["classes"] == "no identities, 10 colours, 9 types"
    assert said("download", "--network", "vehiclepose").strip() == str(light)
    pose = json.loads(said("pose", PHOTO, "--weights", "synthetic", "--json"))
    card = light.with_suffix(".md")
    assert json.loads(said("pose", PHOTO, "--weights", card, "--json")) == pose
    words = ["--weights", "synthetic", "--pose", "synthetic", "--json"]
    predicted = json.loads(said("predict", PHOTO, *words))["pose"]
    assert predicted["origin"] == "estimated"
    np.testing.assert_allclose(predicted["keypoints"], pose["keypoints"], atol=0.1)


def test_the_card_says_what_file_and_sidecar_say(light: Path) -> None:
    card = write_card(light, url=LINK, fields={"license": "MIT"})
    assert card.path == light.with_suffix(".md")
    assert (card.network, card.uid) == ("vehiclepose", "mindspore/1.0/vehiclepose_synthetic")
    assert (card.metrics, card.fields["license"]) == ({"PCK@0.1acc": 97.25}, "MIT")
    assert card.asset.sha256 == file_sha256(light)
    text = card.path.read_text(encoding="utf-8")
    assert "- seed: 3\n- data_sha256: abc\n" in text
    assert "/home/someone" not in text
    for fields, said in (({"licence": "MIT"}, "no field 'licence'"), ({"summary": "a:b"}, "colon")):
        with pytest.raises(CardError, match=said):
            write_card(light, url=LINK, fields=fields)


def test_an_install_for_another_version_passes_over_them(light: Path, tmp_path: Path) -> None:
    cards = hub_install(tmp_path, version="1.9")
    assert [card.network for card in cards] == ["multitasknet", "poseestnet"]


@pytest.mark.parametrize(
    ("network", "part", "reason"),
    [
        ("pose", "stem", "'stem' cannot be left out of vehiclepose"),
        ("identity", "classifier", r"'classifier' cannot be left out.*classifier_vid"),
        ("identity", "classifier_vcolor", "2 missing: classifier_vcolor"),
    ],
)
def test_convert_leaves_out_only_what_a_network_can_do_without(
    request, tmp_path: Path, network: str, part: str, reason: str
) -> None:
    with pytest.raises(CheckpointError, match=reason):
        convert(
            request.getfixturevalue(f"{network}_source"), tmp_path / "small.ckpt", without=[part]
        )
    assert not any(tmp_path.iterdir())


def test_values_beyond_float16_are_refused(pose_source: Path, tmp_path: Path) -> None:
    arrays = dict(read_weights(pose_source).arrays)
    name = next(name for name, array in arrays.items() if array.ndim == 4)
    arrays[name] = np.full_like(arrays[name], 1e5)
    source = save(tmp_path / "large.ckpt", arrays)
    with pytest.raises(CheckpointError, match=f"{name} has values beyond float16's range"):
        convert(source, tmp_path / "half.ckpt", float16=True)
    assert convert(source, tmp_path / "whole.ckpt").is_file()


def test_the_table_has_each_network_where_it_belongs() -> None:
    for kind, names in ((PoseNetwork, POSE_NETWORKS), (EmbeddingNetwork, EMBEDDING_NETWORKS)):
        assert names == tuple(one for one in NETWORKS if isinstance(find_network(one), kind))
