"""A card's files on this machine: beside the card, in the cache, or downloaded into it.

A download is resumed after a break, and is whole with the right sha256 or not there. All URLs of an
asset are of one file: what came from one is resumed from any, and its sha256 shows whether the
parts fit.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import DownloadError
from ..files import PACKAGE, expand, file_sha256
from .card import Asset, ModelCard

if TYPE_CHECKING:
    import requests

logger = logging.getLogger(__name__)

CACHE_VARIABLE = "MULTITASKNET_CACHE"
# hub-install leaves this file in the code folder that it puts into a hub folder.
INSTALLED_MARKER = ".installed-by-multitasknet"
# How often every URL is tried without gaining a byte; seconds before the second round, doubled for
# each further one; at most for a server that sends Retry-After; for a connection, for a byte.
_ROUNDS = 3
_BACKOFF = 1.0
_LONGEST_WAIT = 60.0
_TIMEOUTS = (10.0, 30.0)
_CHUNK = 1 << 20
# Of an asset whose size the card does not state: ten times the largest that is published.
_MOST_BYTES = 4 << 30
# Statuses below 500 that pass: request timeout, too early, too many requests.
_PASSING = (408, 425, 429)


def fetch_asset(
    card_or_asset: ModelCard | Asset,
    cache_dir: str | Path | None = None,
    offline: bool = False,
    progress: bool = True,
) -> Path:
    """Return the path of the verified asset, downloading it if it is not on this machine.

    A file that is there is hashed, and downloaded again if its sha256 is wrong. Of several
    processes one downloads, the others wait for it.

    Args:
        card_or_asset: a card (its checkpoint is meant) or one of its assets. The sidecar that the
            card states for it is fetched as well.
        cache_dir: the cache's root; default as in :func:`default_cache_dir`.
        offline: never touch the network.
        progress: draw a progress bar on a terminal.

    Raises:
        DownloadError: the asset is neither on this machine nor can it be downloaded, the cache is
            not writable, or the file beside the card is not the one that it states.
    """
    from filelock import FileLock

    asset = card_or_asset.asset if isinstance(card_or_asset, ModelCard) else card_or_asset
    if asset.side is not None:
        fetch_asset(asset.side, cache_dir, offline, progress)
    path = asset_path(asset, cache_dir)
    by_hand = (
        f"To do it by hand, fetch {asset.url} on any machine and copy it to {path}; its sha256 "
        f"must be {asset.sha256}"
    )
    try:
        found = file_sha256(path) if path.is_file() else ""
        if found == asset.sha256:
            return path
        if asset.beside is not None:
            raise DownloadError(
                f"{path} is damaged: expected sha256 {asset.sha256}, found {found}; install this "
                f"package again, or write its card again"
            )
        if offline:
            raise DownloadError(f"offline, and no verified copy on this machine. {by_hand}")
        path.parent.mkdir(parents=True, exist_ok=True)
        download = _Download(asset, path, progress)
        with FileLock(path.with_name(f"{path.name}.lock")):
            # Another process may have brought it while this one waited.
            if path.is_file() and file_sha256(path) == asset.sha256:
                return path
            failures = download.run()
        if failures:
            reasons = "".join(f"\n  {url}: {reason}" for url, reason in failures.items())
            if download.part.is_file():
                reasons += f"\nThe part at {download.part} is kept; the next call resumes it."
            raise DownloadError(f"the asset could not be downloaded:{reasons}\n{by_hand}")
    except DownloadError:
        raise
    except OSError as error:
        raise DownloadError(
            f"cannot use the cache: {error}. Free or repair it, or choose another folder with "
            f"cache_dir=... or {CACHE_VARIABLE}. {by_hand}"
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


class _TransferError(Exception):
    """One attempt failed; a final one need not be repeated, others after ``wait`` seconds."""

    def __init__(self, message: str, *, final: bool = False, wait: float = 0) -> None:
        super().__init__(message)
        self.final, self.wait = final, wait


@dataclass(frozen=True)
class _Download:
    """An asset on its way to ``path``; ``part`` beside it holds the bytes so far."""

    asset: Asset
    path: Path
    progress: bool

    @property
    def part(self) -> Path:
        return self.path.with_name(f"{self.path.name}.part")

    def run(self) -> dict[str, _TransferError]:
        """Download from the first URL that gives the file; if none does, the reason of each."""
        import requests

        failures: dict[str, _TransferError] = {}
        live = self.asset.urls
        with requests.Session() as session:
            # requests knows REQUESTS_CA_BUNDLE, but not OpenSSL's own variable.
            session.verify = os.environ.get("SSL_CERT_FILE") or True
            session.headers["Accept-Encoding"] = "identity"
            for attempt in range(_ROUNDS):
                if attempt and live:
                    asked = min(max(failures[url].wait for url in live), _LONGEST_WAIT)
                    time.sleep(max(_BACKOFF * 2 ** (attempt - 1), asked))
                for url in live:
                    try:
                        self._complete(session, url)
                    except _TransferError as error:
                        logger.info("%s: %s", url, error)
                        failures[url] = error
                    else:
                        self.part.replace(self.path)
                        return {}
                live = tuple(url for url in live if not failures[url].final)
        return failures

    def _complete(self, session: requests.Session, url: str) -> None:
        """Complete the part from one URL, at once again after each break that gained bytes;
        _TransferError if nothing more comes, or another file than the asset."""
        while (kept := self._size()) == 0 or file_sha256(self.part) != self.asset.sha256:
            try:
                resumed, is_whole = self._append(session, url, kept)
            except _TransferError as error:
                if error.final or self._size() <= kept:
                    raise
                continue
            if (found := file_sha256(self.part)) == self.asset.sha256:
                return
            kind = self._kind()
            self.part.unlink()
            # A part that did not fit this URL's file is gone now, and the file is asked for whole.
            if not resumed:
                raise _TransferError(
                    f"wrong sha256: expected {self.asset.sha256}, found {found}{kind}",
                    final=is_whole,
                )

    def _size(self) -> int:
        return self.part.stat().st_size if self.part.is_file() else 0

    def _append(self, session: requests.Session, url: str, kept: int) -> tuple[bool, bool]:
        """One request, whose body goes after the first ``kept`` bytes, if the server resumes.

        Whether it does, and whether the end of the body is known to be that of the file: without a
        length, a cut connection looks the same.
        """
        from urllib3.exceptions import HTTPError

        headers = {"Range": f"bytes={kept}-"} if kept else {}
        try:
            response = session.get(url, headers=headers, stream=True, timeout=_TIMEOUTS)
        # requests' own errors and a missing certificate file; what urllib3 refuses passes it.
        except (OSError, ValueError, HTTPError) as error:
            raise _TransferError(_reason(error)) from error
        with response:
            status = response.status_code
            if kept and status == 416:  # nothing comes after these bytes
                return True, True
            if not response.ok:
                after = response.headers.get("Retry-After", "")
                raise _TransferError(
                    f"HTTP status {status} {response.reason}",
                    final=status < 500 and status not in _PASSING,
                    wait=float(after) if after.isascii() and after.isdigit() else 0,
                )
            # Without a Range, a server that answers with a part has misunderstood.
            resumed = kept > 0 and status == 206
            return resumed, self._store(response, kept if resumed else 0)

    def _store(self, response: requests.Response, size: int) -> bool:
        """Write a body after the first ``size`` bytes; whether its length was stated."""
        import requests
        from tqdm import tqdm

        # Of a body that comes compressed all the same, the header states another length.
        is_plain = not response.headers.get("Content-Encoding")
        length = response.raw.length_remaining if is_plain else None
        total = None if length is None else size + length
        most = 2 * self.asset.size if self.asset.size else _MOST_BYTES
        bar = tqdm(
            total=total,
            initial=size,
            desc=self.asset.file_name[:40],
            unit="B",
            unit_scale=True,
            disable=None if self.progress else True,  # None: drawn on a terminal only
        )
        kept = size
        with self.part.open("ab") as file, bar:
            file.truncate(kept)
            try:
                for chunk in response.iter_content(_CHUNK):
                    size += len(chunk)
                    if max(size, total or 0) > most:
                        file.truncate(kept)
                        raise _TransferError(
                            f"the body is larger than it may be: more than {most:,} bytes",
                            final=True,
                        )
                    file.write(chunk)
                    bar.update(len(chunk))
            except requests.RequestException as error:
                raise _TransferError(f"the transfer broke: {_reason(error)}") from error
            finally:
                file.flush()
                os.fsync(file.fileno())
        return total is not None

    def _kind(self) -> str:
        """In words, what is known to come in place of a file; empty for anything else."""
        with self.part.open("rb") as file:
            start = file.read(64).lstrip()
        if start.startswith(b"version https://git-lfs"):
            return " (a Git LFS pointer instead of the file)"
        return " (a web page instead of the file)" if start.startswith(b"<") else ""


def _reason(error: Exception) -> str:
    """The innermost reason; the layers around it only repeat host and URL."""
    cause = error.args[0] if error.args else error
    text = str(getattr(cause, "reason", None) or error)
    return text.partition("): ")[2] or text
