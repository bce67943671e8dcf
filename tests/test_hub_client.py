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
import pytest
from conftest import ASSETS, save
from loopback import LoopbackServer, Resource

from multitasknet import (
    CardError,
    ClassMaps,
    hub_install,
    load_card,
    read_weights,
    write_card,
)
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
    prelude = PRELUDE.format(hub=str(hub))
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


# The client's rules for cards


@pytest.mark.parametrize("name", sorted(path.name for path in ASSETS.glob("*.md")))
def test_the_clients_validator_takes_every_card_of_this_module(name: str) -> None:
    header = hub_client.check_card((ASSETS / name).read_text(encoding="utf-8"))
    assert header["model-name"].lower() in NETWORKS


@pytest.mark.parametrize("dataset", ["my crossing", "veri"])
def test_the_clients_validator_takes_every_card_that_is_written(
    dataset: str, checkpoint: Path, tmp_path: Path
) -> None:
    tuned = shutil.copy(checkpoint, tmp_path / "tuned.ckpt")
    spec = read_weights(tuned).spec
    counts = spec.num_ids, spec.num_colors, spec.num_types
    maps = ClassMaps(*(tuple(range(count)) for count in counts))
    write_sidecar(tuned, Sidecar(spec, maps, {"mAP": 71.5, "Rank-1": 92.0}))
    url = "https://example.com/mine"
    card = write_card(tuned, url=url, fields={"train-dataset": dataset})
    text = card.path.read_text(encoding="utf-8")
    header = hub_client.check_card(text)
    assert header.get("train-dataset") == ("veri" if dataset == "veri" else None)
    assert f"trained on {dataset} at 256x256" in text
    assert card.asset.size == tuned.stat().st_size


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
    for card in map(load_card, (tmp_path / "hub").glob("mindspore/*/*.md")):
        for path in (urlsplit(url).path for url in (card.repo_link, card.asset.url)):
            server.resources.setdefault(path, Resource(b"asked for, never read"))
    found = run(
        tmp_path / "hub",
        """
        uids = ("1.7/multitasknet_veri", "1.7/poseestnet_veir",
                "1.0/multitasknet_synthetic", "1.0/vehiclepose_synthetic",
                "1.0/vehiclereid_synthetic")
        print(json.dumps([facts(mindspore_hub.load(f"mindspore/{uid}")) for uid in uids]))
        """,
        **{hub_client.SITE: server.url("")},
    )
    loaded = [("MultiTaskNet", 616), ("PoseEstNet", 1461), ("MultiTaskNet", 615)]
    loaded += [("VehiclePose", 153), ("VehicleReID", 255)]
    assert [(one["type"], one["loaded"]) for one in found] == loaded
    assert not any(one["fresh"] for one in found)
    assert all(one["source"].startswith(str(tmp_path / "hub")) for one in found)


def test_the_calls_of_the_documentation(hub: Path, server: LoopbackServer) -> None:
    local, fresh, plain, more, shape, module = run(
        hub,
        f"""
        load, uid = mindspore_hub.load, "{UID}"
        # Of a card by its path: the asset must still lie beside it, where the client looks.
        mindspore_hub.manage.set_hub_dir("~/.mscache")
        local = facts(load({str(hub / f"{UID}.md")!r}, source="local"))
        mindspore_hub.manage.set_hub_dir({str(hub)!r})
        fresh = facts(load(uid, pretrained=False, weights=None))
        plain = load(uid)
        import multitasknet
        bare = load(uid, include_top=False)
        x, p = mindspore.ops.zeros((2, 16, 64, 64)), mindspore.ops.zeros((2, 108))
        more = load(uid, pretrained=False, num_ids=100)
        print(json.dumps([local, fresh, facts(plain), facts(more), bare(x, p).shape,
                          multitasknet.__file__]))
        """,
    )
    assert local["loaded"] == 616
    assert (hub / "mindspore" / "1.7" / "model.ckpt").is_file()
    assert (fresh["ids"], fresh["loaded"], fresh["trainable"]) == (576, None, 374)
    assert (plain["ids"], plain["loaded"], plain["trainable"]) == (575, 616, 374)
    assert (more["ids"], more["loaded"]) == (100, 614)
    assert shape == [2, 1024]
    assert module.startswith(str(hub)), "the folder's own module must run"
    # The client's own probes read nothing.
    requests = server.resources["/weights/model.ckpt"].requests
    assert len([one for one in requests if "identity" in str(one)]) == 1


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
    cards = hub_install(tmp_path)
    assert [card.uid for card in cards] == [UID, "mindspore/1.7/poseestnet_veir"]
    assert cards[0].path == folder / "multitasknet_veri.md"
    (folder / "PAMTRI" / "src" / "multitasknet" / "stale.py").touch()
    (folder / "PAMTRI" / "assets" / "toy.md").write_text("installed before")
    assert hub_install(tmp_path) == cards
    assert not (folder / "PAMTRI" / "src" / "multitasknet" / "stale.py").exists()
    assert (folder / "PAMTRI" / "assets" / "toy.md").read_text() == "installed before"
    kept = sorted(path.name for path in folder.glob("*.before-multitasknet*"))
    assert kept == ["PAMTRI.before-multitasknet", "multitasknet_veri.md.before-multitasknet"]
    assert (folder / kept[0] / "mine.py").read_text() == "x = 1"


def test_another_version_of_the_hub(tmp_path: Path) -> None:
    cards = hub_install(tmp_path, version="1.10")
    assert [card.uid for card in cards] == [
        "mindspore/1.10/multitasknet_veri",
        "mindspore/1.10/poseestnet_veir",
    ]
    assert cards[0].asset.sha256 == load_card(default_card_path()).asset.sha256
    with pytest.raises(CardError, match="'model-version' is '1"):
        hub_install(tmp_path, version=r"1\q")


def test_a_card_of_no_network_is_refused(tmp_path: Path, write_card: Callable[..., Path]) -> None:
    card = write_card("https://example.com/a.ckpt")
    card.write_text(card.read_text().replace("model-name: MultiTaskNet", "model-name: Toy"))
    with pytest.raises(CardError, match=r"'model-name' is 'Toy'.*expected multitasknet"):
        hub_install(tmp_path / "hub", card=card)
    assert not (tmp_path / "hub").exists()
