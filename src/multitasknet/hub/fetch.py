"""A card's files on this machine: beside the card, in the cache, or downloaded into it."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import DownloadError, OutputError
from ..files import PACKAGE, expand, file_sha256, replacing
from .card import Asset, ModelCard
from .download import RetryPolicy, by_hand, download

if TYPE_CHECKING:
    from filelock import AcquireReturnProxy

logger = logging.getLogger(__name__)

CACHE_VARIABLE = "MULTITASKNET_CACHE"
# hub-install leaves this file in the code folder that it puts into a hub folder.
INSTALLED_MARKER = ".installed-by-multitasknet"


def fetch_asset(
    card_or_asset: ModelCard | Asset,
    cache_dir: str | Path | None = None,
    offline: bool = False,
    progress: bool = True,
    *,
    verify: bool = False,
    policy: RetryPolicy | None = None,
) -> Path:
    """Return the path of the verified asset, downloading it if it is not on this machine.

    A file beside its card is hashed every time. A cached one is hashed the first time it is seen;
    later calls rely on the size and modification time recorded then, unless ``verify`` is set.

    Args:
        card_or_asset: a card (its checkpoint is meant) or one of its assets. A side file that the
            card states for it is fetched as well, and lies beside it.
        cache_dir: the cache's root; default as in :func:`default_cache_dir`.
        offline: never touch the network.
        progress: draw a progress bar on a terminal.
        verify: hash a cached file again, whatever was recorded.
        policy: timeouts and retries.

    Raises:
        DownloadError: the asset is neither on this machine nor can it be downloaded, the cache is
            not writable, or the file beside the card is not the one that it states.
    """
    asset = card_or_asset.asset if isinstance(card_or_asset, ModelCard) else card_or_asset
    if not isinstance(asset, Asset):
        raise TypeError(
            f"card_or_asset must be a ModelCard or an Asset, not {type(card_or_asset).__name__}"
        )
    if asset.side is not None:
        fetch_asset(asset.side, cache_dir, offline, progress, verify=verify, policy=policy)
    found = find_asset(asset, cache_dir, again=verify)
    if found is not None:
        return found
    path = cached_path(asset, cache_dir)
    if offline:
        raise DownloadError(
            f"offline, and no verified copy on this machine. {by_hand(asset, path)}"
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _lock(path):
            # Another process may have brought it while this one waited.
            if not is_verified(path, asset):
                download(asset, path, progress=progress, policy=policy or RetryPolicy())
                _keep_record(*_record(path, asset))
    except DownloadError:
        raise
    except OSError as error:
        raise DownloadError(
            f"cannot write to the cache: {error}. Free or repair it, or choose another folder with "
            f"cache_dir=... or {CACHE_VARIABLE}. {by_hand(asset, path)}"
        ) from error
    return path


def find_asset(
    asset: Asset, cache_dir: str | Path | None = None, *, again: bool = False
) -> Path | None:
    """The verified file on this machine; None if there is none.

    Raises:
        DownloadError: the file beside the card is not the one that it states.
    """
    path = cached_path(asset, cache_dir)
    if asset.beside is None or asset.beside == path:
        return path if is_verified(path, asset, again=again) else None
    actual = file_sha256(asset.beside)
    if actual != asset.sha256:
        raise DownloadError(
            f"{asset.beside} is damaged: expected sha256 {asset.sha256}, found {actual}; "
            + (
                "install this package again"
                if asset.is_shipped
                else "write its card again, or move the file away"
            )
        )
    return asset.beside


def cached_path(asset: Asset, cache_dir: str | Path | None = None) -> Path:
    """Where the asset is, or would be, in the cache."""
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
    if manage is not None:
        return Path(manage.get_hub_dir())
    try:
        return Path.home() / ".mscache"
    except RuntimeError as error:
        raise OutputError(f"{error} Set {CACHE_VARIABLE} to a folder for downloads") from error


def is_verified(path: Path, asset: Asset, *, again: bool = False) -> bool:
    """Whether the asset lies there with the right sha256: as recorded, or hashed ``again``."""
    if not path.is_file():
        return False
    record, state = _record(path, asset)
    if not again and record.is_file() and record.read_bytes() == state.encode():
        logger.debug("%s: unchanged since it was verified", path)
        return True
    actual = file_sha256(path)
    if actual == asset.sha256:
        _keep_record(record, state)
        return True
    logger.warning("%s is damaged: expected sha256 %s, found %s", path, asset.sha256, actual)
    with contextlib.suppress(OSError):
        record.unlink()
    return False


def _record(path: Path, asset: Asset) -> tuple[Path, str]:
    """Where the record of a verified file is, and what it holds if the file has not changed."""
    status = path.stat()
    state = {"sha256": asset.sha256, "size": status.st_size, "mtime_ns": status.st_mtime_ns}
    return path.with_name(f"{path.name}.verified.json"), json.dumps(state)


def _keep_record(record: Path, state: str) -> None:
    # Without a record, as in a read-only cache, the file is hashed on every call instead.
    with contextlib.suppress(OSError), replacing(record) as part:
        part.write_text(state, encoding="utf-8")


def _lock(path: Path) -> AcquireReturnProxy:
    """A context in which no other process fetches that file."""
    from filelock import FileLock, Timeout

    lock = FileLock(path.with_name(f"{path.name}.lock"))
    try:
        return lock.acquire(timeout=0)
    except Timeout:
        logger.info("another process is fetching %s; waiting for it", path.name)
        return lock.acquire()
