"""Shared parts: a loopback server that can misbehave, and checkpoints in the published layout."""

from __future__ import annotations

import os

# Before any import of MindSpore: its convolutions are 40 times slower on AVX-512 CPUs without it.
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX2")

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from loopback import LoopbackServer
from served import Served, serving
from small import small_networks

# The same examples for the same code, so that a run says what the last one said. For new ones,
# a profile's number for each test: --hypothesis-profile deep.
settings.register_profile("same", derandomize=True)
settings.register_profile("deep", max_examples=1000)
settings.load_profile("same")

ASSETS = Path(__file__).resolve().parents[1] / "assets"
PHOTO = ASSETS / "example.jpg"
MANIFEST = Path(__file__).parent / "checkpoint_manifest.json"


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tests' own home, one for all processes: networks that are kept in it are made once."""
    base = tmp_path_factory.getbasetemp()
    home = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "home"
    home.mkdir(exist_ok=True)
    return home


@pytest.fixture(autouse=True)
def _no_foreign_cache(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the user's own cache, nor finds what libraries leave there."""
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("MULTITASKNET_CACHE", raising=False)


@pytest.fixture(scope="session")
def published_cards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an ``assets/`` that holds the published cards, and no weights."""
    folder = tmp_path_factory.mktemp("module")
    (folder / "assets").mkdir()
    for card in ("multitasknet_veri.md", "poseestnet_veir.md"):
        shutil.copy(ASSETS / card, folder / "assets")
    return folder


@pytest.fixture(autouse=True)
def _nothing_shipped(published_cards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images without keypoints stay without in all tests, whatever weights this version ships."""
    monkeypatch.setattr("multitasknet.hub.card.PACKAGE", published_cards)


@pytest.fixture
def shipped(_nothing_shipped: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """This module's cards and weights, in a test that is about them."""
    monkeypatch.setattr("multitasknet.hub.card.PACKAGE", ASSETS.parent)


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    with LoopbackServer() as running:
        yield running


@pytest.fixture
def write_card(tmp_path: Path) -> Callable[..., Path]:
    """Write a card like the published one, with any URL and sha256."""

    def write(
        url: str,
        content: bytes = b"",
        *,
        repo: str = "http://127.0.0.1/models/PAMTRI",
        path: Path = tmp_path / "cards" / "multitasknet_veri.md",
    ) -> Path:
        text = (ASSETS / "multitasknet_veri.md").read_text().partition("## Introduction")[0]
        changed = {
            "repo-link": f"<{repo}>",
            "asset-link": f"<{url}>",
            "asset-sha256": hashlib.sha256(content).hexdigest(),
        }
        for field, value in changed.items():
            text = re.sub(f"{field}: .*", f"{field}: {value}", text)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(re.sub(r"    mirrors:\n(        - .*\n)+", "", text))
        return path

    return write


@pytest.fixture(scope="session")
def arrays() -> dict[str, np.ndarray]:
    """Values for every name of the published layout that keep activations finite."""
    manifest = json.loads(MANIFEST.read_text())["parameters"]
    rng = np.random.default_rng(0)

    def draw(name: str, shape: list[int]) -> np.ndarray:
        if name.endswith(("gamma", "moving_variance")):
            return rng.uniform(0.5, 1.5, shape).astype(np.float32)
        scale = 1 / np.sqrt(max(np.prod(shape[1:]), 1))
        return rng.normal(0, scale, shape).astype(np.float32)

    return {name: draw(name, shape) for name, shape in manifest}


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, arrays: dict[str, np.ndarray]) -> Path:
    """A file in the layout of the published asset."""
    return save(tmp_path_factory.mktemp("weights") / "published.ckpt", arrays)


@pytest.fixture(scope="module")
def small() -> Iterator[None]:
    """For a whole module, see :func:`small_networks`."""
    with small_networks():
        yield


@pytest.fixture(scope="session")
def small_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A MultiTaskNet that modules with ``small`` can load, of random values."""
    from multitasknet import create_network, save_weights

    path = tmp_path_factory.mktemp("small") / "small.ckpt"
    with small_networks():
        save_weights(create_network(weights=None, num_ids=5), path)
    return path


@pytest.fixture
def small_arrays(small_checkpoint: Path) -> dict[str, np.ndarray]:
    """The values of that file."""
    from multitasknet import read_weights

    return {name: one.copy() for name, one in read_weights(small_checkpoint).arrays.items()}


@pytest.fixture(scope="session")
def pose_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_pose_weights(tmp_path_factory.mktemp("pose") / "pose.ckpt")


def save_pose_weights(path: Path) -> Path:
    """Random weights of a scale that keeps the maps around one."""
    import mindspore

    from multitasknet import create_network

    network = create_network("poseestnet", weights=None)
    for parameter in network.get_parameters():
        if parameter.name.endswith("weight"):
            scale = 40 if parameter.name.startswith("final_layer") else 0.6
            parameter.set_data(parameter * scale)
    mindspore.save_checkpoint(network, str(path))
    return path


def save(path: Path, arrays: dict[str, np.ndarray]) -> Path:
    """Write arrays with MindSpore's own ``save_checkpoint``."""
    import mindspore

    entries = [{"name": name, "data": mindspore.Tensor(value)} for name, value in arrays.items()]
    mindspore.save_checkpoint(entries, str(path))
    return path


@pytest.fixture(scope="session")
def served(home: Path) -> Iterator[Served]:
    """The shipped networks and the demo's gallery behind a server, for all tests of a process."""
    from multitasknet import Predictor
    from multitasknet.gallery.gallery import open_gallery
    from multitasknet.server.service import Service

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("multitasknet.hub.card.PACKAGE", ASSETS.parent)
        cache = home / ".mscache"
        patch.setenv("MULTITASKNET_CACHE", str(cache))
        predictor = Predictor("synthetic", pose="synthetic", progress=False)
        gallery = open_gallery("demo", predictor, progress=False)
    with serving(Service(predictor, gallery)) as running:
        yield replace(running, cache=cache)
