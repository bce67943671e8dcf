"""Installing card and module into a hub folder, so that ``mindspore_hub.load(uid)`` finds both."""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path

from ..errors import MultiTaskNetError
from ..files import PACKAGE
from .cache import INSTALLED_MARKER, default_cache_dir
from .card import CardError, ModelCard, default_card_path, is_plain_name, load_card

# The first release's name for it.
OLD_MARKER = ".laid-by-multitasknet"
_ENTRY_POINTS = ("hub_conf.py", "mindspore_hub_conf.py")


class HubFolderError(MultiTaskNetError, OSError):
    """The hub folder could not be written."""


def hub_install(
    hub_dir: str | Path | None = None,
    *,
    card: str | Path | None = None,
    version: str | None = None,
) -> ModelCard:
    """Install card and module into the hub folder; running it again renews both.

    Afterwards ``mindspore_hub.load(card.uid)`` works. A card or code folder that stands there and
    was not installed by this function is kept beside it under the name ``*.before-multitasknet``.

    Args:
        hub_dir: the hub folder; default as in :func:`multitasknet.hub.cache.default_cache_dir`.
        card: another card than the one that came with this module, such as of a fine-tuned model.
        version: the Hub's version to install it for, such as ``1.9``; default is the card's own.
            The card must list a mirror of that version.

    Returns:
        The card as installed.

    Raises:
        CardError: the card is broken, or lists no mirror of that version.
        HubFolderError: the folder cannot be written.
    """
    source = load_card(default_card_path() if card is None else card)
    text = source.path.read_text(encoding="utf-8")
    if version not in (None, source.version):
        text = _text_for_version(source, text, version)
    root = default_cache_dir() if hub_dir is None else Path(hub_dir).expanduser()
    folder = root / source.folder.with_name(version or source.version)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _install(folder, source, text)
    except OSError as error:
        raise HubFolderError(
            f"{folder}: card and module cannot be installed there ({error}); choose another hub "
            f"folder"
        ) from error
    return load_card(folder / source.path.name)


def _install(folder: Path, source: ModelCard, text: str) -> None:
    from filelock import FileLock

    code_name = source.repo_link.rstrip("/").rpartition("/")[2]
    if not is_plain_name(code_name):
        raise CardError(
            f"{source.path}: field 'repo-link' ends in {code_name!r}; expected a plain name, it "
            f"becomes the code's folder"
        )
    code, card = folder / code_name, folder / source.path.name
    with (
        FileLock(folder / ".hub-install.lock"),
        tempfile.TemporaryDirectory(dir=folder, prefix=".hub-install-") as scratch,
    ):
        new_code, new_card = Path(scratch, "code"), Path(scratch, "card.md")
        _copy_module(new_code, default_card_path(source.network).name, text)
        new_card.write_text(text, encoding="utf-8")
        ours = any((code / marker).is_file() for marker in (INSTALLED_MARKER, OLD_MARKER))
        for old, new in ((code, new_code), (card, new_card)):
            if old.exists() and ours:
                old.rename(Path(scratch, f"old {old.name}"))
            elif old.exists():
                old.rename(_free_name(old))
            new.rename(old)


def _copy_module(target: Path, card_name: str, card_text: str) -> None:
    # In a checkout the entry points stand above src/, in an installation beside the package.
    home = next(place for place in PACKAGE.parents[:2] if (place / _ENTRY_POINTS[0]).is_file())
    shutil.copytree(
        PACKAGE,
        target / "src" / PACKAGE.name,
        ignore=shutil.ignore_patterns("__pycache__", "assets"),
    )
    for name in _ENTRY_POINTS:
        shutil.copy(home / name, target / name)
    (target / "assets").mkdir()
    (target / "assets" / card_name).write_text(card_text, encoding="utf-8")
    (target / INSTALLED_MARKER).touch()


def _text_for_version(card: ModelCard, text: str, version: str) -> str:
    """The same card for another version of the Hub: its own version and URL first."""
    published = card.asset.url
    mirror = next((url for url in card.asset.mirrors if f"/r{version}/" in url), None)
    if mirror is None:
        known = re.findall(r"/r([\d.]+)/", " ".join(card.asset.urls))
        raise CardError(
            f"{card.path}: field 'mirrors' has no URL of version {version!r}; the card knows the "
            f"versions {', '.join(known) or card.version}"
        )
    swap = {published: mirror, mirror: published}
    pattern = "|".join(re.escape(url) for url in swap)
    text = re.sub(pattern, lambda match: swap[match[0]], text)
    return re.sub(r"(?m)^model-version:.*$", f"model-version: {version}", text, count=1)


def _free_name(path: Path) -> Path:
    candidate = path.with_name(f"{path.name}.before-multitasknet")
    number = 1
    while candidate.exists():
        number += 1
        candidate = path.with_name(f"{path.name}.before-multitasknet-{number}")
    return candidate
