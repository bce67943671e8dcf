"""Through the Hub client: the lines that users write, each in a process of its own."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import mindspore
import pytest
import toy_network
from conftest import save
from loopback import LoopbackServer

from multitasknet import CardError, create_network, hub_install, load_card
from multitasknet.hub.card import default_card_path
from multitasknet.models import NETWORKS

PRELUDE = """
    import json, logging, sys
    import mindspore
    sys.path.insert(0, {tests!r})
    import hub_client
    mindspore_hub = hub_client.install()
    mindspore_hub.manage.set_hub_dir({hub!r})
    card = {card!r}
    def say(network, **more):
        import multitasknet
        print(json.dumps({{
            "type": type(network).__name__,
            "module": multitasknet.__file__,
            "ids": network.spec.num_ids,
            "top": network.spec.include_top,
            "loaded": len(network.load_report.loaded) if network.load_report else None,
            "trainable": len(network.trainable_params()),
            **more,
        }}))
"""


@pytest.fixture
def hub(
    tmp_path: Path, server: LoopbackServer, write_card: Callable[..., Path], checkpoint: Path
) -> Path:
    """A hub folder with card and module laid, whose links lead to loopback."""
    content = checkpoint.read_bytes()
    repo = server.serve("/models/PAMTRI", b"a page")
    card = write_card(server.serve("/weights/model.ckpt", content), content, repo=repo)
    hub_install(tmp_path / "hub", card=card)
    return tmp_path / "hub"


def run(hub: Path, code: str) -> dict:
    prelude = PRELUDE.format(
        tests=str(Path(__file__).parent),
        hub=str(hub),
        card=str(hub / "mindspore" / "1.7" / "multitasknet_veri.md"),
    )
    script = textwrap.dedent(prelude) + textwrap.dedent(code)
    process = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False
    )
    assert process.returncode == 0, process.stderr
    assert "the client downloads" not in process.stdout
    return json.loads(process.stdout.splitlines()[-1])


def downloads(server: LoopbackServer) -> int:
    """Times that the whole asset went over the wire; the client's own probes read nothing."""
    resource = server.resources["/weights/model.ckpt"]
    return len([request for request in resource.requests if "identity" in str(request)])


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
    said = run(
        hubs[0],
        f"""
        networks = [mindspore_hub.load("mindspore/1.7/multitasknet_veri")]
        mindspore_hub.manage.set_hub_dir({str(hubs[1])!r})
        networks.append(mindspore_hub.load("mindspore/1.7/multitasknet_veri", pretrained=False))
        say(
            networks[0],
            bias=[float(one.fc_vid.bias.asnumpy()[0]) for one in networks],
            sources=[str(one.load_report.source) for one in networks],
        )
        """,
    )
    first = float(arrays["fc_vid.bias"][0])
    assert said["bias"] == pytest.approx([first, 2 * first])
    own = [source.startswith(str(hub)) for source, hub in zip(said["sources"], hubs, strict=True)]
    assert all(own)


def test_the_plain_call(hub: Path, server: LoopbackServer) -> None:
    said = run(hub, 'say(mindspore_hub.load("mindspore/1.7/multitasknet_veri"))')
    assert said["type"] == "MultiTaskNet"
    assert (said["ids"], said["loaded"], said["trainable"]) == (575, 616, 374)
    assert said["module"].startswith(str(hub)), "the folder's own module must run"
    assert downloads(server) == 1


def test_the_cards_path(hub: Path, server: LoopbackServer) -> None:
    # Without set_hub_dir: the asset must still land beside the card, where the client looks.
    code = """
        mindspore_hub.manage.set_hub_dir("~/.mscache")
        say(mindspore_hub.load(card, source="local"))
    """
    assert run(hub, code)["loaded"] == 616
    assert (hub / "mindspore" / "1.7" / "model.ckpt").is_file()
    assert downloads(server) == 1


def test_without_the_top(hub: Path) -> None:
    code = """
        import numpy as np
        network = mindspore_hub.load("mindspore/1.7/multitasknet_veri", include_top=False)
        x, p = mindspore.ops.zeros((2, 16, 64, 64)), mindspore.ops.zeros((2, 108))
        say(network, shape=network(x, p).shape)
    """
    said = run(hub, code)
    assert said["top"] is False
    assert said["shape"] == [2, 1024]


def test_another_number_of_identities(hub: Path) -> None:
    code = """
        say(mindspore_hub.load(
            "mindspore/1.7/multitasknet_veri", pretrained=False, num_ids=100
        ))
    """
    said = run(hub, code)
    assert (said["ids"], said["loaded"], said["trainable"]) == (100, 614, 374)


def test_without_weights_nothing_is_downloaded(hub: Path, server: LoopbackServer) -> None:
    code = """
        say(mindspore_hub.load(
            "mindspore/1.7/multitasknet_veri", pretrained=False, weights=None
        ))
    """
    said = run(hub, code)
    assert (said["ids"], said["loaded"], said["trainable"]) == (576, None, 374)
    assert downloads(server) == 0


@pytest.mark.parametrize("order", [("other", "ours", "other"), ("ours", "other", "ours")])
def test_beside_another_model_with_a_src_package(
    hub: Path, server: LoopbackServer, write_card: Callable[..., Path], order: tuple[str, ...]
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
    code = f"""
        load = {{
            "other": lambda: mindspore_hub.load("mindspore/1.7/other_veri", pretrained=False),
            "ours": lambda: mindspore_hub.load("mindspore/1.7/multitasknet_veri"),
        }}
        networks = [load[name]() for name in {order!r}]
        names = [type(network).__name__ for network in networks]
        say(networks[{order.index("ours")}], names=names)
    """
    said = run(hub, code)
    assert said["names"] == [{"other": "ReLU", "ours": "MultiTaskNet"}[name] for name in order]
    assert said["loaded"] == 616


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
    said = run(
        hub,
        """
        toy = mindspore_hub.load("mindspore/1.7/toy")
        ours = mindspore_hub.load("mindspore/1.7/multitasknet_veri")
        say(ours, toy=[type(toy).__name__, toy.spec.width, len(toy.load_report.loaded)])
        """,
    )
    assert (said["type"], said["ids"], said["loaded"]) == ("MultiTaskNet", 575, 616)
    assert said["toy"] == ["Toy", 5, 5]


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


def test_the_pose_network_loads_by_its_published_name(
    tmp_path: Path,
    server: LoopbackServer,
    write_card: Callable[..., Path],
    checkpoint: Path,
    pose_checkpoint: Path,
) -> None:
    repo = server.serve("/models/PAMTRI", b"a page")
    for name, weights in (("multitasknet_veri", checkpoint), ("poseestnet_veir", pose_checkpoint)):
        url = server.serve(f"/{name}.ckpt", weights.read_bytes())
        path = tmp_path / "cards" / f"{name}.md"
        card = write_card(url, weights.read_bytes(), repo=repo, path=path)
        if weights is pose_checkpoint:
            card.write_text(
                card.read_text().replace("model-name: MultiTaskNet", "model-name: PoseEstNet")
            )
        hub_install(tmp_path / "hub", card=card)
    said = run(
        tmp_path / "hub",
        """
        pose = mindspore_hub.load("mindspore/1.7/poseestnet_veir")
        identity = mindspore_hub.load("mindspore/1.7/multitasknet_veri")
        say(identity, pose=[type(pose).__name__, len(pose.load_report.loaded)])
        """,
    )
    assert said["pose"] == ["PoseEstNet", 1461]
    assert (said["type"], said["loaded"]) == (
        "MultiTaskNet",
        len(create_network(weights=checkpoint).load_report.loaded),
    )
