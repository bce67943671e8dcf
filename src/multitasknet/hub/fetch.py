"""A card's files on this machine: beside the card, in the cache, or downloaded into it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import DownloadError
from ..files import PACKAGE, expand, file_sha256
from .card import Asset, ModelCard

if TYPE_CHECKING:
    from .download import RetryPolicy

CACHE_VARIABLE = "MULTITASKNET_CACHE"
# hub-install leaves this file in the code folder that it puts into a hub folder.
INSTALLED_MARKER = ".installed-by-multitasknet"


def fetch_asset(
    card_or_asset: ModelCard | Asset,
    cache_dir: str | Path | None = None,
    offline: bool = False,
    progress: bool = True,
    *,
    policy: RetryPolicy | None = None,
) -> Path:
    """Return the path of the verified asset, downloading it if it is not on this machine.

    A file that is there is hashed, and downloaded again if its sha256 is wrong.

    Args:
        card_or_asset: a card (its checkpoint is meant) or one of its assets. The sidecar that the
            card states for it is fetched as well.
        cache_dir: the cache's root; default as in :func:`default_cache_dir`.
        offline: never touch the network.
        progress: draw a progress bar on a terminal.
        policy: timeouts and retries.

    Raises:
        DownloadError: the asset is neither on this machine nor can it be downloaded, the cache is
            not writable, or the file beside the card is not the one that it states.
    """
    asset = card_or_asset.asset if isinstance(card_or_asset, ModelCard) else card_or_asset
    if asset.side is not None:
        fetch_asset(asset.side, cache_dir, offline, progress, policy=policy)
    path = asset_path(asset, cache_dir)
    found = file_sha256(path) if path.is_file() else ""
    if found == asset.sha256:
        return path
    if asset.beside is not None:
        raise DownloadError(
            f"{path} is damaged: expected sha256 {asset.sha256}, found {found}; install this "
            f"package again if it came with it, else write its card again or move the file away"
        )
    from . import download

    remedy = download.by_hand(asset, path)
    if offline:
        raise DownloadError(f"offline, and no verified copy on this machine. {remedy}")
    from filelock import FileLock

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(f"{path.name}.lock")):
            # Another process may have brought it while this one waited.
            if not path.is_file() or file_sha256(path) != asset.sha256:
                how = policy or download.RetryPolicy()
                download.download(asset, path, progress=progress, policy=how)
    except DownloadError:
        raise
    except OSError as error:
        raise DownloadError(
            f"cannot write to the cache: {error}. Free or repair it, or choose another folder with "
            f"cache_dir=... or {CACHE_VARIABLE}. {remedy}"
        ) from error
    return path


def asset_path(asset: Asset, cache_dir: str | Path | None = None) -> Path:
    """Where the asset is: beside its card, else its place in the cache, where it may be missing."""
    if asset.beside is not None:
        return asset.beside / asset.file_name
    root = default_cache_dir() if cache_dir is None else expand(cache_dir)
    return root / asset.folder / asset.file_name


def default_cache_dir() -> Path:
    """The hub's own folder, so that the Hub client and this package share one file.

    In this order: ``MULTITASKNET_CACHE``; the hub folder that this very module was
    installed into; the folder set in ``mindspore_hub`` if that is imported; ``~/.mscache``.
    """
    if os.environ.get(CACHE_VARIABLE):
        return expand(os.environ[CACHE_VARIABLE])
    # <hub>/<user-id>/<model-version>/<code>/src/multitasknet
    if len(PACKAGE.parents) > 4 and (PACKAGE.parents[1] / INSTALLED_MARKER).is_file():
        return PACKAGE.parents[4]
    manage = getattr(sys.modules.get("mindspore_hub"), "manage", None)
    return expand("~/.mscache" if manage is None else manage.get_hub_dir())
