"""Through the Hub client: the lines that users write, each in a process of its own."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import hub_client
import mindspore
import pytest
import toy_network
from conftest import ASSETS, save
from loopback import LoopbackServer

from multitasknet import (
    CardError,
    ClassMaps,
    create_network,
    hub_install,
    load_card,
    read_weights,
)
from multitasknet.hub import publish
from multitasknet.hub.card import default_card_path
from multitasknet.models import NETWORKS
from multitasknet.weights.sidecar import Sidecar, write_sidecar

PRELUDE = """
import json
import mindspore
import numpy as np
import hub_client
mindspore_hub = hub_client.install()
mindspore_hub.manage.set_hub_dir({hub!r})
card = {card!r}
def facts(network):
    report = network.load_report
    return {{
        "type": type(network).__name__,
        "loaded": len(report.loaded) if report else None,
        "fresh": len(report.fresh) if report else None,
        "source": str(report.source) if report else None,
        "ids": getattr(network.spec, "num_ids", None),
        "trainable": len(network.trainable_params()),
    }}
"""
UID = "mindspore/1.7/multitasknet_veri"


@pytest.fixture
def hub(
    tmp_path: Path, server: LoopbackServer, write_card: Callable[..., Path], checkpoint: Path
) -> Path:
    """A hub folder with card and module, whose links lead to loopback."""
    content = checkpoint.read_bytes()
    repo = server.serve("/models/PAMTRI", b"a page")
    card = write_card(server.serve("/weights/model.ckpt", content), content, repo=repo)
    hub_install(tmp_path / "hub", card=card)
    return tmp_path / "hub"


def run(hub: Path, code: str, **environment: str) -> Any:
    """What a user's lines print last, in a process of their own."""
    prelude = PRELUDE.format(hub=str(hub), card=str(hub / f"{UID}.md"))
    process = subprocess.run(
        [sys.executable, "-c", prelude + textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent)} | environment,
    )
    assert process.returncode == 0, process.stderr
    assert "the client downloads" not in process.stdout
    return json.loads(process.stdout.splitlines()[-1])


def downloads(server: LoopbackServer) -> int:
    """Times that the whole asset went over the wire; the client's own probes read nothing."""
    resource = server.resources["/weights/model.ckpt"]
    return len([request for request in resource.requests if "identity" in str(request)])


# The client's rules for cards


@pytest.mark.parametrize("name", sorted(path.name for path in ASSETS.glob("*.md")))
def test_the_clients_validator_takes_every_card_of_this_module(name: str) -> None:
    header = hub_client.check_card((ASSETS / name).read_text(encoding="utf-8"))
    assert header["model-name"].lower() in NETWORKS


@pytest.mark.parametrize("dataset", ["custom data", "veri", "generated vehicles"])
def test_the_clients_validator_takes_every_card_that_is_written(
    dataset: str, checkpoint: Path, tmp_path: Path
) -> None:
    tuned = shutil.copy(checkpoint, tmp_path / "tuned.ckpt")
    spec = read_weights(tuned).spec
    counts = spec.num_ids, spec.num_colors, spec.num_types
    maps = ClassMaps(*(tuple(range(count)) for count in counts))
    write_sidecar(tuned, Sidecar(spec, maps, {"mAP": 71.5, "Rank-1": 92.0}))
    (tmp_path / "body.md").write_text("## Training\n\nOn a bridge:\n\n- 12 cameras\n")
    card = publish.write_card(
        tuned, url="https://example.com/mine", dataset=dataset, body=tmp_path / "body.md"
    )
    text = card.path.read_text(encoding="utf-8")
    header = hub_client.check_card(text)
    assert header.get("train-dataset") == ("veri" if dataset == "veri" else None)
    assert f"trained on {dataset} at 256x256" in text
    assert card.asset.size == tuned.stat().st_size
    (tmp_path / "body.md").write_text("## Training:\n")
    with pytest.raises(CardError, match=r"body\.md:1: the heading ends in a colon"):
        publish.write_card(tuned, url="https://example.com/mine", body=tmp_path / "body.md")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("train-dataset: veri", "train-dataset: veri_custom"),
        ("used-for: inference", "used-for: inference/fun"),
        ("module-type: cv", "module-type: cars"),
        ("fine-tunable: True", "fine-tunable: perhaps"),
        ("author: MindSpore team\n", ""),
        ("license:", "accuracy: high\nlicense:"),
        ("license:", "allow-cache-ckpt: 3\nlicense:"),
        ("license:", "featured-image: https-photo\nlicense:"),
        ("file-format: ckpt", "file-format: zip"),
        ("summary: a card", "summary: a:card"),
        ("## Introduction", "## Introduction:"),
    ],
)
def test_the_stand_in_refuses_what_the_client_refuses(
    write_card: Callable[..., Path], before: str, after: str
) -> None:
    text = write_card("https://example.com/a.ckpt").read_text()
    assert before in text
    hub_client.check_card(text)
    with pytest.raises(ValueError):
        hub_client.check_card(text.replace(before, after, 1))


# What users write


def test_all_four_cards_are_installed_and_load(
    tmp_path: Path,
    server: LoopbackServer,
    checkpoint: Path,
    pose_checkpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The shipped ones as they are, the published ones with links to loopback."""
    monkeypatch.setattr("multitasknet.hub.card.PACKAGE", ASSETS.parent)
    hub_install(tmp_path / "hub")
    for name, weights in (("multitasknet_veri", checkpoint), ("poseestnet_veir", pose_checkpoint)):
        content = weights.read_bytes()
        url = server.serve(f"/{name}.ckpt", content)
        text = (ASSETS / f"{name}.md").read_text(encoding="utf-8")
        text = re.sub(r"(?s)    mirrors:.*?\n\n", "\n", text)
        text = re.sub("asset-link: .*", f"asset-link: <{url}>", text)
        text = re.sub("asset-sha256: .*", f"asset-sha256: {sha256(content).hexdigest()}", text)
        (tmp_path / f"{name}.md").write_text(text, encoding="utf-8")
        hub_install(tmp_path / "hub", card=tmp_path / f"{name}.md")
    for path in {urlsplit(url).path for url in links_of(tmp_path / "hub")}:
        if path not in server.resources:
            server.serve(path, b"asked for, never read")
    found = run(
        tmp_path / "hub",
        """
        uids = ("1.7/multitasknet_veri", "1.7/poseestnet_veir",
                "1.0/multitasknet_synthetic", "1.0/vehiclepose_synthetic")
        print(json.dumps([facts(mindspore_hub.load(f"mindspore/{uid}")) for uid in uids]))
        """,
        **{hub_client.SITE: server.url("")},
    )
    assert [one["type"] for one in found] == [
        "MultiTaskNet",
        "PoseEstNet",
        "MultiTaskNet",
        "VehiclePose",
    ]
    assert [one["loaded"] for one in found] == [616, 1461, 615, 151]
    assert not any(one["fresh"] for one in found)
    assert all(one["source"].startswith(str(tmp_path / "hub")) for one in found)


def links_of(hub: Path) -> set[str]:
    cards = [load_card(path) for path in hub.glob("mindspore/*/*.md")]
    return {url for card in cards for url in (card.repo_link, card.asset.url)}


def test_the_calls_of_the_documentation(hub: Path, server: LoopbackServer) -> None:
    found = run(
        hub,
        """
        load, uid = mindspore_hub.load, "mindspore/1.7/multitasknet_veri"
        fresh = facts(load(uid, pretrained=False, weights=None))
        plain = load(uid)
        import multitasknet
        bare = load(uid, include_top=False)
        x, p = mindspore.ops.zeros((2, 16, 64, 64)), mindspore.ops.zeros((2, 108))
        more = load(uid, pretrained=False, num_ids=100)
        print(json.dumps([fresh, facts(plain), facts(more), bare(x, p).shape,
                          multitasknet.__file__]))
        """,
    )
    fresh, plain, more, shape, module = found
    assert (fresh["ids"], fresh["loaded"], fresh["trainable"]) == (576, None, 374)
    assert (plain["ids"], plain["loaded"], plain["trainable"]) == (575, 616, 374)
    assert (more["ids"], more["loaded"]) == (100, 614)
    assert shape == [2, 1024]
    assert module.startswith(str(hub)), "the folder's own module must run"
    assert downloads(server) == 1


def test_the_cards_path(hub: Path, server: LoopbackServer) -> None:
    """Without set_hub_dir: the asset must still lie beside the card, where the client looks."""
    found = run(
        hub,
        """
        mindspore_hub.manage.set_hub_dir("~/.mscache")
        print(json.dumps(facts(mindspore_hub.load(card, source="local"))))
        """,
    )
    assert found["loaded"] == 616
    assert (hub / "mindspore" / "1.7" / "model.ckpt").is_file()
    assert downloads(server) == 1


def test_two_hub_folders_in_one_process_keep_to_their_own_cards(
    tmp_path: Path,
    server: LoopbackServer,
    write_card: Callable[..., Path],
    checkpoint: Path,
    arrays,
) -> None:
    other = {name: 2 * values for name, values in arrays.items()}
    contents = checkpoint.read_bytes(), save(tmp_path / "other.ckpt", other).read_bytes()
    repo = server.serve("/models/PAMTRI", b"a page")
    hubs = []
    for name, content in zip(("one", "two"), contents, strict=True):
        url = server.serve(f"/{name}/model.ckpt", content)
        card = write_card(url, content, repo=repo, path=tmp_path / name / "multitasknet_veri.md")
        hub_install(tmp_path / f"hub {name}", card=card)
        hubs.append(tmp_path / f"hub {name}")
    biases, sources = run(
        hubs[0],
        f"""
        networks = [mindspore_hub.load("{UID}")]
        mindspore_hub.manage.set_hub_dir({str(hubs[1])!r})
        networks.append(mindspore_hub.load("{UID}", pretrained=False))
        biases = [float(one.fc_vid.bias.asnumpy()[0]) for one in networks]
        print(json.dumps([biases, [str(one.load_report.source) for one in networks]]))
        """,
    )
    first = float(arrays["fc_vid.bias"][0])
    assert biases == pytest.approx([first, 2 * first])
    assert all(source.startswith(str(hub)) for source, hub in zip(sources, hubs, strict=True))


def test_beside_another_model_with_a_src_package(
    hub: Path, server: LoopbackServer, write_card: Callable[..., Path]
) -> None:
    folder = hub / "mindspore" / "1.7"
    repo = server.serve("/models/other", b"a page")
    write_card(server.url("/weights/model.ckpt"), repo=repo, path=folder / "other_veri.md")
    source = folder / "other" / "src"
    source.mkdir(parents=True)
    (source / "__init__.py").touch()
    (source / "network.py").write_text("from mindspore import nn\nNetwork = nn.ReLU\n")
    (folder / "other" / "mindspore_hub_conf.py").write_text(
        "from src.network import Network\n"
        "def create_network(name, *args, **kwargs):\n    return Network()\n"
    )
    order = ["other_veri", "multitasknet_veri", "other_veri", "multitasknet_veri"]
    code = f"""
        def load(name):
            return mindspore_hub.load(f"mindspore/1.7/{{name}}", pretrained="multi" in name)
        print(json.dumps([type(load(name)).__name__ for name in {order!r}]))
    """
    assert run(hub, code) == ["ReLU", "MultiTaskNet"] * 2


def test_installing_again_renews_and_keeps_what_was_not_ours(tmp_path: Path) -> None:
    folder = tmp_path / "mindspore" / "1.7"
    (folder / "PAMTRI").mkdir(parents=True)
    (folder / "PAMTRI" / "mine.py").write_text("x = 1")
    (folder / "multitasknet_veri.md").write_text("an old card")
    (card,) = hub_install(tmp_path, network="multitasknet")
    (folder / "PAMTRI" / "src" / "multitasknet" / "stale.py").touch()
    assert hub_install(tmp_path, network="MultiTaskNet") == (card,)
    assert card.path == folder / "multitasknet_veri.md"
    assert card.uid == "mindspore/1.7/multitasknet_veri"
    assert not (folder / "PAMTRI" / "src" / "multitasknet" / "stale.py").exists()
    kept = sorted(path.name for path in folder.glob("*.before-multitasknet*"))
    assert kept == ["PAMTRI.before-multitasknet", "multitasknet_veri.md.before-multitasknet"]
    assert (folder / kept[0] / "mine.py").read_text() == "x = 1"


@pytest.fixture
def toy_card(write_card: Callable[..., Path], monkeypatch, tmp_path: Path) -> Callable[..., Path]:
    """Write the card of a second network, which is in the table."""
    monkeypatch.setitem(NETWORKS, "toy", toy_network.__name__)

    def write(url: str, content: bytes = b"", **options: str) -> Path:
        card = write_card(url, content, path=tmp_path / "cards" / "toy.md", **options)
        card.write_text(card.read_text().replace("model-name: MultiTaskNet", "model-name: Toy"))
        return card

    return write


def test_two_networks_share_a_code_folder(
    hub: Path, server: LoopbackServer, toy_card: Callable[..., Path], tmp_path: Path
) -> None:
    mindspore.save_checkpoint(
        create_network("toy", weights=None, width=5), str(tmp_path / "a.ckpt")
    )
    content = (tmp_path / "a.ckpt").read_bytes()
    url, repo = server.serve("/weights/toy.ckpt", content), server.url("/models/PAMTRI")
    hub_install(hub, card=toy_card(url, content, repo=repo))
    table = hub / "mindspore" / "1.7" / "PAMTRI" / "src" / "multitasknet" / "models" / "__init__.py"
    table.write_text(f'{table.read_text()}\nNETWORKS["toy"] = "toy_network"\n')
    toy, ours = run(
        hub,
        """
        uids = ("mindspore/1.7/toy", "mindspore/1.7/multitasknet_veri")
        print(json.dumps([facts(mindspore_hub.load(uid)) for uid in uids]))
        """,
    )
    assert (ours["type"], ours["ids"], ours["loaded"]) == ("MultiTaskNet", 575, 616)
    assert (toy["type"], toy["loaded"]) == ("Toy", 5)


def test_the_cards_of_all_networks_are_installed_unless_one_is_named(
    tmp_path: Path,
    toy_card: Callable[..., Path],
    published_cards: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shutil.copytree(published_cards, tmp_path / "module")
    monkeypatch.setattr("multitasknet.hub.card.PACKAGE", tmp_path / "module")
    shutil.copy(toy_card("https://example.com/toy.ckpt"), tmp_path / "module" / "assets")
    folder = tmp_path / "hub" / "mindspore" / "1.7"
    (toy,) = hub_install(tmp_path / "hub", network="Toy")
    assert (toy.path, toy.uid) == (folder / "toy.md", "mindspore/1.7/toy")
    assert sorted(path.name for path in folder.glob("*.md")) == ["toy.md"]
    (folder / "PAMTRI" / "assets" / "toy.md").write_text("installed before")
    hub_install(tmp_path / "hub", network="multitasknet")
    assert (folder / "PAMTRI" / "assets" / "toy.md").read_text() == "installed before"
    toy.path.write_text("from the Hub")
    installed = [card.network for card in hub_install(tmp_path / "hub")]
    assert installed == ["multitasknet", "poseestnet", "toy"]
    assert toy.path.read_bytes() == default_card_path("toy").read_bytes()
    assert (folder / "toy.md.before-multitasknet").read_text() == "from the Hub"
    assert len(list(folder.glob("*.before-multitasknet*"))) == 1
    with pytest.raises(CardError, match=r"'model-name' is 'Toy'.*expected multitasknet"):
        hub_install(tmp_path / "hub", card=default_card_path("toy"), network="multitasknet")


@pytest.mark.parametrize("version", ["1.3", "1.6", "1.8", "1.9", "1.10"])
def test_another_version_of_the_hub(tmp_path: Path, version: str) -> None:
    (card,) = hub_install(tmp_path, version=version, network="multitasknet")
    ours = load_card(default_card_path())
    assert card.uid == f"mindspore/{version}/multitasknet_veri"
    assert f"/r{version}/" in card.asset.url
    assert set(card.asset.urls) == set(ours.asset.urls)
    assert card.asset.sha256 == ours.asset.sha256


def test_a_version_that_the_card_does_not_know(tmp_path: Path) -> None:
    with pytest.raises(CardError, match=r"'2\.0'; the card knows the versions 1\.7, 1\.3, 1\.6"):
        hub_install(tmp_path, version="2.0")
    assert not list(tmp_path.rglob("*.md"))
