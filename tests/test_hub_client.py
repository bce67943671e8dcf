"""Cards, and the lines that users write for the Hub client, each in a process of its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hub_client
import pytest
from conftest import ASSETS, save
from loopback import LoopbackServer

from multitasknet import CardError, hub_install, load_card
from multitasknet.hub.card import default_card_path
from multitasknet.models import NETWORKS

PRELUDE = """
import json
import mindspore
import hub_client
mindspore_hub = hub_client.install({hub!r})
def facts(network):
    report = network.load_report
    return {{
        "type": type(network).__name__,
        "loaded": len(report.loaded) if report else None,
        "fresh": len(report.fresh) if report else None,
        "source": str(report.source) if report else None,
        "ids": getattr(network.spec, "num_ids", None),
    }}
"""
UID = "mindspore/1.7/multitasknet_veri"


def run(hub: Path, code: str) -> Any:
    """What a user's lines print last, in a process of their own."""
    prelude = PRELUDE.format(hub=str(hub))
    process = subprocess.run(
        [sys.executable, "-c", prelude + textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent)},
    )
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout.splitlines()[-1])


# Each a list of nine of the one before: 9 ** 29 in all.
ALIASES = "".join(f"x{n}: &x{n} [{', '.join([f'*x{n - 1}'] * 9)}]\n" for n in range(1, 30))


def test_our_card_states_what_the_hub_published() -> None:
    card = load_card(default_card_path())
    assert (card.name, card.uid) == ("MultiTaskNet", UID)
    assert (card.fields["fine-tunable"], card.fields["update-time"]) == ("True", "2022-06-22")
    assert card.metrics == {"top1acc": 75.57, "coloracc": 93.2, "typeacc": 91.5}
    assert card.asset.sha256.startswith("c3f784ae3bc2de07be2f7585b57abcfd")
    versions = [re.search(r"/r([\d.]+)/.*_v(\d+)_", url).groups() for url in card.asset.urls]
    assert [minor for minor, _ in versions] == ["1.7", "1.3", "1.6", "1.8", "1.9", "1.10"]
    assert ["".join(f"{minor}0".split(".")) for minor, _ in versions] == [v for _, v in versions]


@pytest.mark.parametrize(
    ("before", "after", "named"),
    [
        ("model-name: MultiTaskNet", "model-name", "YAML"),
        ("model-name: MultiTaskNet\n", "", "'model-name' is missing"),
        ("author: MindSpore team", "author: [a, b]", "'author' is a list"),
        ("model-version: 1.7", "model-version: ..", "'model-version' is '..'"),
        ("file-format: ckpt", "file-format: mindir", "'asset' has no entry"),
        ("asset-sha256: ", "asset-sha256: x", "'asset-sha256' is 'x"),
        ("<https://example.com/a.ckpt>", "file:///etc/passwd", "'asset-link' is"),
        ("/a.ckpt>", "/..%2F..%2Fup.ckpt>", "no plain file name"),
        ("/a.ckpt>", "/.bashrc>", "no plain file name"),
        ("/a.ckpt>", f"/{200 * 'a'}.ckpt>", "no plain file name"),
        ("summary: P", "summary: !!python/object/apply:os.getpid [1]\nx: P", "'summary' is a list"),
        ("summary: P", f"x0: &x0 []\n{ALIASES}summary: *x29\nrest: a", "'summary' is a list"),
        ("models/PAMTRI>", "models/PAMTRI#/.>", "'repo-link' ends in '.'"),
        ("license:", "    mirrors: [x]\nlicense:", "'mirrors' is 'x'"),
    ],
    ids=range(14),
)
def test_a_broken_card_is_refused_by_file_and_field(
    write_card: Callable[..., Path], before: str, after: str, named: str
) -> None:
    path = write_card("https://example.com/a.ckpt")
    path.write_text(path.read_text().replace(before, after, 1))
    with pytest.raises(CardError) as refused:
        load_card(path)
    assert str(path) in str(refused.value)
    assert named in str(refused.value)


def test_the_clients_validator_takes_every_card_of_this_module() -> None:
    for path in ASSETS.glob("*.md"):
        header = hub_client.check_card(path.read_text(encoding="utf-8"))
        assert header["model-name"].lower() in NETWORKS


def test_the_shipped_cards_are_installed_and_load(tmp_path: Path, shipped) -> None:
    hub_install(tmp_path)
    names = ("multitasknet", "vehiclepose", "vehiclereid")
    code = f"""
        uids = [f"mindspore/1.0/{{name}}_synthetic" for name in {names}]
        print(json.dumps([facts(mindspore_hub.load(uid)) for uid in uids]))
    """
    found = run(tmp_path, code)
    loaded = [("MultiTaskNet", 615), ("VehiclePose", 153), ("VehicleReID", 255)]
    assert [(one["type"], one["loaded"]) for one in found] == loaded
    assert all(one["source"].startswith(str(tmp_path)) and not one["fresh"] for one in found)


def test_the_calls_of_the_documentation_in_two_hub_folders_beside_another_model(
    tmp_path: Path,
    server: LoopbackServer,
    write_card: Callable[..., Path],
    checkpoint: Path,
    arrays,
) -> None:
    other = {name: 2 * values for name, values in arrays.items()}
    contents = checkpoint.read_bytes(), save(tmp_path / "other.ckpt", other).read_bytes()
    one, two = hubs = tmp_path / "hub 1", tmp_path / "hub 2"
    for hub, content in zip(hubs, contents, strict=True):
        url = server.serve(f"/{hub.name[-1]}/model.ckpt", content)
        hub_install(hub, card=write_card(url, content))
    # Every model of the model zoo has a top-level package named src.
    folder = one / "mindspore" / "1.7"
    write_card("http://x/a.ckpt", repo="http://x/other", path=folder / "other_veri.md")
    source = folder / "other" / "src"
    source.mkdir(parents=True)
    (source / "network.py").write_text("from mindspore import nn\nNetwork = nn.ReLU\n")
    (folder / "other" / "mindspore_hub_conf.py").write_text(
        "from src.network import Network\n"
        "def create_network(name, *args, **kwargs):\n    return Network()\n"
    )
    zoo, fresh, plain, more, shape, local, biases, sources, module = run(
        one,
        f"""
        load, uid = mindspore_hub.load, "{UID}"
        zoo = type(load("mindspore/1.7/other_veri", pretrained=False)).__name__
        fresh = load(uid, pretrained=False, weights=None)
        plain = load(uid)
        import multitasknet
        bare = load(uid, include_top=False)
        x, p = mindspore.ops.zeros((2, 16, 64, 64)), mindspore.ops.zeros((2, 108))
        more = load(uid, pretrained=False, num_ids=100)
        local = load({str(one / f"{UID}.md")!r}, source="local")
        mindspore_hub.manage.set_hub_dir({str(two)!r})
        networks = plain, load(uid, pretrained=False)
        biases = [float(one.fc_vid.bias.asnumpy()[0]) for one in networks]
        sources = [str(one.load_report.source) for one in networks]
        print(json.dumps([zoo, facts(fresh), facts(plain), facts(more), bare(x, p).shape,
                          facts(local), biases, sources, multitasknet.__file__]))
        """,
    )
    assert (zoo, shape) == ("ReLU", [2, 1024])
    assert (fresh["ids"], fresh["loaded"]) == (576, None)
    assert (plain["ids"], plain["loaded"], local["loaded"]) == (575, 616, 616)
    assert (more["ids"], more["loaded"]) == (100, 614)
    first = float(arrays["fc_vid.bias"][0])
    assert biases == pytest.approx([first, 2 * first])
    assert all(source.startswith(str(hub)) for source, hub in zip(sources, hubs, strict=True))
    assert module.startswith(str(one)), "the folder's own module must run"
    assert len(server.resources["/1/model.ckpt"].requests) == 1


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


def test_cards_for_another_version_of_the_hub_and_of_no_network(tmp_path: Path, write_card) -> None:
    cards = hub_install(tmp_path, version="1.10")
    assert [card.uid for card in cards] == [
        "mindspore/1.10/multitasknet_veri",
        "mindspore/1.10/poseestnet_veir",
    ]
    assert cards[0].asset.sha256 == load_card(default_card_path()).asset.sha256
    card = write_card("https://example.com/a.ckpt")
    card.write_text(card.read_text().replace("model-name: MultiTaskNet", "model-name: Toy"))
    with pytest.raises(CardError, match=r"'model-name' is 'Toy'.*expected multitasknet"):
        hub_install(tmp_path / "hub", card=card)
    assert not (tmp_path / "hub").exists()
