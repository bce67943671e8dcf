"""Installing cards and module into a hub folder, so that ``mindspore_hub.load(uid)`` finds both."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from itertools import count
from pathlib import Path

from ..errors import CardError, OutputError
from ..files import PACKAGE, expand, replacing
from ..models import NETWORKS, find_network
from .card import (
    ModelCard,
    default_card_path,
    is_plain_name,
    load_card,
    own_card,
    own_card_paths,
)
from .fetch import INSTALLED_MARKER, default_cache_dir, fetch_asset

_ENTRY_POINTS = ("hub_conf.py", "mindspore_hub_conf.py")


def hub_install(
    hub_dir: str | Path | None = None,
    *,
    card: str | Path | None = None,
    version: str | None = None,
    network: str | None = None,
) -> tuple[ModelCard, ...]:
    """Install cards and module into the hub folder; running it again renews both.

    Afterwards ``mindspore_hub.load(card.uid)`` works for each card. Cards whose ``repo-link`` ends
    in the same name share one code folder, which serves every network: by the card installed last,
    or else by the one that came with this module. A card or code folder that was there before, and
    was not installed by this function, is kept beside it as ``*.before-multitasknet``.
    Weights that lie beside their card are copied as well.

    Args:
        hub_dir: the hub folder; default as in :func:`multitasknet.hub.fetch.default_cache_dir`.
        card: a card to install, such as of a fine-tuned model; default is those of all networks
            that came with this module.
        version: the Hub's version to install for, such as ``1.9``; default is the card's own. The
            card must list a mirror of that version; of this module's, those without mirrors, which
            no version of the Hub has, are passed over.
        network: install this network's cards only.

    Returns:
        The cards as installed.

    Raises:
        CardError: a card is broken, is of another network, or lists no mirror of that version; or
            the network has none.
        DownloadError: the weights beside a card are not those that it states.
        OutputError: the folder cannot be written.
        NotImplementedError: an unknown network.
    """
    root = default_cache_dir() if hub_dir is None else expand(hub_dir)
    wanted = tuple(NETWORKS) if network is None else (find_network(network).name,)
    sources = _own_cards(wanted, version) if card is None else [load_card(card)]
    for source in sources:
        if source.network not in wanted:
            raise CardError(
                f"{source.path}: field 'model-name' is {source.name!r}, in lower case the "
                f"network's name; expected {' or '.join(wanted)}"
            )
    # All of them before the first is written.
    texts = [_text_for_version(source, version or source.version) for source in sources]
    weights = [_beside(source) for source in sources]
    return tuple(
        _install(source, text, files, root / source.folder.with_name(version or source.version))
        for source, text, files in zip(sources, texts, weights, strict=True)
    )


def _own_cards(networks: tuple[str, ...], version: str | None) -> list[ModelCard]:
    cards = [load_card(path) for path in own_card_paths(networks)] or [own_card(networks)]
    if version is None:
        return cards
    return [card for card in cards if card.asset.mirrors] or cards


def _beside(card: ModelCard) -> list[Path]:
    """The card's files that lie beside it, verified."""
    if not card.asset.beside:
        return []
    files = filter(None, (card.asset, card.asset.side))
    return [fetch_asset(asset) for asset in files]


def _install(source: ModelCard, text: str, weights: list[Path], folder: Path) -> ModelCard:
    card = folder / source.path.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _replace(folder / _code_name(source), card, source.network, text.encode())
        for file in weights:
            with replacing(folder / file.name) as part:
                shutil.copy(file, part)
    except OSError as error:
        raise OutputError(
            f"{folder}: card and module cannot be installed there ({error}); choose another hub "
            f"folder"
        ) from error
    return load_card(card)


def _code_name(card: ModelCard) -> str:
    name = card.repo_link.rstrip("/").rpartition("/")[2]
    if not is_plain_name(name):
        raise CardError(
            f"{card.path}: field 'repo-link' ends in {name!r}; expected a plain name, it becomes "
            f"the code's folder"
        )
    return name


def _replace(code: Path, card: Path, network: str, content: bytes) -> None:
    from filelock import FileLock

    with (
        FileLock(card.with_name(".hub-install.lock")),
        tempfile.TemporaryDirectory(dir=card.parent, prefix=".hub-install-") as scratch,
    ):
        own = default_card_path(network).name
        ours = (code / INSTALLED_MARKER).is_file()
        installed = _contents((code / "assets").glob("*.md")) if ours else {}
        renewed = {own: content, card.name: content}
        cards = _contents(own_card_paths(NETWORKS)) | installed | renewed
        new_code, new_card = Path(scratch, "code"), Path(scratch, "card.md")
        _copy_module(new_code, cards)
        new_card.write_bytes(content)
        # A card that this function put there has its double in the code folder.
        known = card.is_file() and card.read_bytes() in (content, installed.get(own))
        for old, new, disposable in ((code, new_code, ours), (card, new_card, known)):
            if old.exists():
                old.rename(Path(scratch, f"old {old.name}") if disposable else _free_name(old))
            new.rename(old)


def _contents(files: Iterable[Path]) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in files if file.is_file()}


def _copy_module(target: Path, cards: Mapping[str, bytes]) -> None:
    # In a checkout the entry points are above src/, in an installation beside the package.
    home = next(place for place in PACKAGE.parents[:2] if (place / _ENTRY_POINTS[0]).is_file())
    unwanted = shutil.ignore_patterns("__pycache__", "assets")
    shutil.copytree(PACKAGE, target / "src" / PACKAGE.name, ignore=unwanted)
    for name in _ENTRY_POINTS:
        shutil.copy(home / name, target / name)
    (target / "assets").mkdir()
    for name, content in cards.items():
        (target / "assets" / name).write_bytes(content)
    (target / INSTALLED_MARKER).touch()


def _text_for_version(card: ModelCard, version: str) -> str:
    """The card for a version of the Hub: that version and its URL first."""
    text = card.path.read_text(encoding="utf-8")
    if version == card.version:
        return text
    published = card.asset.url
    mirror = next((url for url in card.asset.mirrors if f"/r{version}/" in url), None)
    if mirror is None:
        known = re.findall(r"/r([\d.]+)/", " ".join(card.asset.urls))
        raise CardError(
            f"{card.path}: field 'mirrors' has no URL of version {version!r}; the card knows the "
            f"versions {', '.join(known) or card.version}"
        )
    swap = {published: mirror, mirror: published}
    text = re.sub("|".join(map(re.escape, swap)), lambda match: swap[match[0]], text)
    return re.sub(r"(?m)^model-version:.*$", f"model-version: {version}", text, count=1)


def _free_name(path: Path) -> Path:
    kept = f"{path.name}.before-multitasknet"
    names = (kept if number == 1 else f"{kept}-{number}" for number in count(1))
    return next(path.with_name(name) for name in names if not path.with_name(name).exists())
