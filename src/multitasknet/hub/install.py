"""Installing cards and module into a hub folder, so that ``mindspore_hub.load(uid)`` finds both."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Mapping
from itertools import count
from pathlib import Path

from ..errors import CardError, OutputError
from ..files import PACKAGE, expand, replacing
from ..models import NETWORKS
from .card import SYNTHETIC, ModelCard, default_card_path, load_card, parse_card
from .download import INSTALLED_MARKER, asset_path, default_cache_dir, fetch_asset

_ENTRY_POINTS = ("hub_conf.py", "mindspore_hub_conf.py")


def hub_install(
    hub_dir: str | Path | None = None,
    *,
    card: str | Path | None = None,
    version: str | None = None,
) -> tuple[ModelCard, ...]:
    """Install cards and module into the hub folder; running it again renews both.

    Afterwards ``mindspore_hub.load(card.uid)`` works for each card. Cards whose ``repo-link`` ends
    in the same name share one code folder, which serves every network: by the card installed last,
    or else by the one that came with this module. A card or code folder that was there before, and
    was not installed by this function, is kept beside it as ``*.before-multitasknet``.
    Weights that lie beside their card are copied as well.

    Args:
        hub_dir: the hub folder; default as in :func:`multitasknet.hub.download.default_cache_dir`.
        card: a card to install, such as of a fine-tuned model; default is those of all networks
            that came with this module.
        version: the Hub's version to install for, such as ``1.9``; default is the card's own. Of
            this module's cards, those of shipped weights are left out: no version has them.

    Returns:
        The cards as installed.

    Raises:
        CardError: a card is broken or of no network of this module.
        DownloadError: the weights beside a card are not those that it states.
    """
    root = default_cache_dir() if hub_dir is None else expand(hub_dir)
    paths = _own_cards(published=version is not None) if card is None else [Path(card)]
    # All of them before the first is written.
    sources = [load_card(path) for path in paths]
    for source in sources:
        if source.network not in NETWORKS:
            raise CardError(
                f"{source.path}: field 'model-name' is {source.name!r}; expected "
                f"{' or '.join(NETWORKS)}"
            )
        if source.asset.beside:
            fetch_asset(source)
    return tuple(_install(source, version, root) for source in sources)


def _own_cards(*, published: bool = False) -> list[Path]:
    """The cards of this module, or those alone that the Hub has published."""
    shipped = [default_card_path(name, SYNTHETIC) for name in NETWORKS]
    cards = [default_card_path(name) for name in NETWORKS]
    wanted = [card for card in cards if card not in shipped] if published else [*cards, *shipped]
    return [path for path in dict.fromkeys(wanted) if path.is_file()]


def _install(source: ModelCard, version: str | None, root: Path) -> ModelCard:
    text = source.path.read_text(encoding="utf-8-sig")
    if version is not None:
        line = f"model-version: {version}"
        text = re.sub("(?m)^model-version:.*$", lambda _: line, text, count=1)
    asset = parse_card(source.path, text).asset
    folder = root / asset.folder
    card = folder / source.path.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        own = default_card_path(source.network).name
        _replace(folder / source.code_name, card, own, text.encode())
        for one in (asset, asset.side) if asset.beside else ():
            if one is not None:
                with replacing(folder / one.file_name) as part:
                    shutil.copy(asset_path(one), part)
    except OSError as error:
        raise OutputError(
            f"{folder}: they cannot be installed there ({error}); choose another hub folder"
        ) from error
    return load_card(card)


def _replace(code: Path, card: Path, own: str, content: bytes) -> None:
    """Put module and card there; ``own`` is the name by which the module finds the card."""
    ours = (code / INSTALLED_MARKER).is_file()
    installed = {path.name: path.read_bytes() for path in (code / "assets").glob("*.md") if ours}
    cards = {path.name: path.read_bytes() for path in _own_cards()} | installed
    with tempfile.TemporaryDirectory(dir=card.parent, prefix=".hub-install-") as scratch:
        new_code, new_card = Path(scratch, "code"), Path(scratch, "card.md")
        _copy_module(new_code, cards | {own: content, card.name: content})
        new_card.write_bytes(content)
        # A card that this function put there has its double in the code folder.
        known = card.is_file() and card.read_bytes() in (content, installed.get(own))
        for old, new, disposable in ((code, new_code, ours), (card, new_card, known)):
            if old.exists():
                old.rename(Path(scratch, f"old {old.name}") if disposable else _free_name(old))
            new.rename(old)


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


def _free_name(path: Path) -> Path:
    names = (path.with_name(f"{path.name}.before-multitasknet{'-' * n}") for n in count())
    return next(name for name in names if not name.exists())
