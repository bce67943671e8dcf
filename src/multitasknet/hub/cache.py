"""Fetching a card's asset: resumed, verified, and moved into the cache only when it is whole."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import MultiTaskNetError
from ..files import PACKAGE, file_sha256, replacing, running_sha256
from .card import Asset, ModelCard

if TYPE_CHECKING:
    import requests
    from tqdm import tqdm

logger = logging.getLogger(__name__)

CACHE_VARIABLE = "MULTITASKNET_CACHE"
# hub-install leaves this file in the code folder that it puts into a hub folder.
INSTALLED_MARKER = ".installed-by-multitasknet"
# The first release's name for it.
OLD_MARKER = ".laid-by-multitasknet"
_CHUNK = 1 << 20


class DownloadError(MultiTaskNetError, OSError):
    """The asset could not be had; names URL, path, hash and the remedy."""


@dataclass(frozen=True)
class RetryPolicy:
    """How long to go on trying.

    Attributes:
        rounds: how often every URL is tried without gaining a byte.
        backoff: seconds before the second round, doubled for each further one.
        connect_timeout: seconds to wait for a connection.
        read_timeout: seconds without a byte after which a transfer counts as stalled.
    """

    rounds: int = 3
    backoff: float = 1.0
    connect_timeout: float = 10.0
    read_timeout: float = 30.0


def fetch_asset(
    card_or_asset: ModelCard | Asset,
    cache_dir: str | Path | None = None,
    offline: bool = False,
    progress: bool = True,
    *,
    verify: bool = False,
    policy: RetryPolicy | None = None,
) -> Path:
    """Return the path of the verified asset, downloading it if it is not in the cache.

    A cached file is hashed whole the first time it is seen; later calls rely on the size and
    modification time recorded then, unless ``verify`` is set.

    Args:
        card_or_asset: a card (its checkpoint is meant) or one of its assets. A side file that the
            card states for it is fetched as well, and lies beside it.
        cache_dir: the cache's root; default as in :func:`default_cache_dir`.
        offline: never touch the network.
        progress: draw a progress bar on a terminal.
        verify: hash a cached file again, whatever was recorded.
        policy: timeouts and retries.

    Raises:
        DownloadError: the asset is neither cached nor to be had, or the cache is not writable.
    """
    asset = card_or_asset.asset if isinstance(card_or_asset, ModelCard) else card_or_asset
    if not isinstance(asset, Asset):
        raise TypeError(
            f"card_or_asset must be a ModelCard or an Asset, not {type(card_or_asset).__name__}"
        )
    if asset.side is not None:
        fetch_asset(asset.side, cache_dir, offline, progress, verify=verify, policy=policy)
    path = cached_path(asset, cache_dir)
    if _is_verified(path, asset, anew=verify):
        return path
    if offline:
        raise DownloadError(f"offline, and no verified copy at hand. {_by_hand(path, asset)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path):
            # Another process may have brought it while this one waited.
            if not _is_verified(path, asset):
                _download(asset, path, progress=progress, policy=policy or RetryPolicy())
    except DownloadError:
        raise
    except OSError as error:
        raise DownloadError(
            f"cannot write to the cache: {error}. Free or repair it, or choose another folder with "
            f"cache_dir=... or {CACHE_VARIABLE}. {_by_hand(path, asset)}"
        ) from error
    return path


def cached_path(asset: Asset, cache_dir: str | Path | None = None) -> Path:
    """Where the asset is, or would be, in the cache."""
    root = default_cache_dir() if cache_dir is None else Path(cache_dir).expanduser()
    return root / asset.folder / asset.file_name


def is_verified(asset: Asset, cache_dir: str | Path | None = None) -> bool:
    """Whether a copy with the right sha256 lies in the cache."""
    return _is_verified(cached_path(asset, cache_dir), asset)


def default_cache_dir() -> Path:
    """The hub's own folder, so that the Hub client and this package share one file.

    In this order: ``MULTITASKNET_CACHE``; the hub folder that this very module was installed into;
    the folder set in ``mindspore_hub`` if that is imported; ``~/.mscache``.
    """
    if os.environ.get(CACHE_VARIABLE):
        return Path(os.environ[CACHE_VARIABLE]).expanduser()
    enclosing = _enclosing_hub_dir()
    if enclosing is not None:
        return enclosing
    manage = getattr(sys.modules.get("mindspore_hub"), "manage", None)
    if manage is not None:
        return Path(manage.get_hub_dir())
    return Path.home() / ".mscache"


def _enclosing_hub_dir() -> Path | None:
    # <hub>/<user-id>/<model-version>/<code>/src/multitasknet, a card beside <code>
    parents = PACKAGE.parents
    installed = len(parents) > 4 and (parents[1] / INSTALLED_MARKER).is_file()
    return parents[4] if installed else None


# Verification of what is in the cache


def _is_verified(path: Path, asset: Asset, anew: bool = False) -> bool:
    if not path.is_file():
        return False
    record = _record_of(path)
    state = _state(path, asset)
    if not anew and _read_json(record) == state:
        logger.debug(
            "%s: unchanged since it was verified; 'multitasknet download --verify' hashes it again",
            path,
        )
        return True
    actual = file_sha256(path)
    if actual != asset.sha256:
        with contextlib.suppress(OSError):
            record.unlink(missing_ok=True)
        logger.warning("%s is damaged: expected sha256 %s, found %s", path, asset.sha256, actual)
        return False
    with contextlib.suppress(OSError):  # a read-only cache is verified on every call instead
        _write_json(record, state)
    return True


def _record_of(path: Path) -> Path:
    return path.with_name(path.name + ".verified.json")


def _state(path: Path, asset: Asset) -> dict[str, Any]:
    status = path.stat()
    return {"sha256": asset.sha256, "size": status.st_size, "mtime_ns": status.st_mtime_ns}


def _by_hand(path: Path, asset: Asset) -> str:
    return (
        f"To do it by hand, fetch {asset.url} on any machine and copy it to {path}; "
        f"its sha256 must be {asset.sha256}"
    )


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    from filelock import FileLock, Timeout

    lock = FileLock(path.with_name(path.name + ".lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        logger.info("another process is fetching %s; waiting for it", path.name)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


# The download itself


class _TransferError(Exception):
    """One attempt failed; ``final`` says that this URL need not be tried again."""

    def __init__(self, message: str, *, final: bool = False) -> None:
        super().__init__(message)
        self.final = final


@dataclass(frozen=True)
class _Partial:
    """An unfinished download: the bytes so far, and which remote file they belong to."""

    path: Path
    origin: Path

    def resumable_from(self, url: str) -> tuple[int, str | None]:
        """Bytes that can be kept for this URL, and the validator they were sent with."""
        origin = _read_json(self.origin)
        if not origin or origin.get("url") != url or not self.path.is_file():
            return 0, None
        return self.path.stat().st_size, origin.get("validator")

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
        self.origin.unlink(missing_ok=True)


def _download(asset: Asset, path: Path, *, progress: bool, policy: RetryPolicy) -> None:
    import requests

    partial = _Partial(
        path.with_name(path.name + ".part"), path.with_name(path.name + ".part.json")
    )
    if partial.path.is_file() and file_sha256(partial.path) == asset.sha256:
        return _finish(partial, path, asset)
    failures: dict[str, str] = {}
    live = list(asset.urls)
    with requests.Session() as session:
        # requests knows REQUESTS_CA_BUNDLE, OpenSSL's own variable it does not.
        session.verify = os.environ.get("SSL_CERT_FILE") or True
        for attempt in range(policy.rounds):
            if attempt:
                time.sleep(policy.backoff * 2 ** (attempt - 1))
            for url in tuple(live):
                try:
                    _transfer_while_gaining(session, url, asset, partial, progress, policy)
                except _TransferError as error:
                    failures[url] = str(error)
                    logger.info("%s: %s", url, error)
                    if error.final:
                        live.remove(url)
                else:
                    return _finish(partial, path, asset)
            if not live:
                break
    reasons = "".join(f"\n  {reason}\n    {urls}" for reason, urls in _grouped(failures).items())
    kept = f"\nThe part at {partial.path} is kept; the next call resumes it."
    raise DownloadError(
        f"the asset could not be downloaded:{reasons}"
        f"{kept if partial.path.is_file() else ''}\n{_by_hand(path, asset)}"
    )


def _grouped(failures: dict[str, str]) -> dict[str, str]:
    """Reason to the URLs that failed for it, a line each."""
    groups: dict[str, list[str]] = {}
    for url, reason in failures.items():
        groups.setdefault(reason, []).append(url)
    return {reason: "\n    ".join(urls) for reason, urls in groups.items()}


def _finish(partial: _Partial, path: Path, asset: Asset) -> None:
    partial.path.replace(path)
    partial.origin.unlink(missing_ok=True)
    _write_json(_record_of(path), _state(path, asset))


def _transfer_while_gaining(
    session: requests.Session,
    url: str,
    asset: Asset,
    partial: _Partial,
    progress: bool,
    policy: RetryPolicy,
) -> None:
    """Try one URL again, at once, as long as each broken attempt got further than all before."""
    furthest = partial.resumable_from(url)[0]
    while True:
        try:
            return _transfer(session, url, asset, partial, progress, policy)
        except _TransferError as error:
            reached = partial.resumable_from(url)[0]
            if error.final or reached <= furthest:
                raise
            logger.info("%s: %s; resuming at byte %d", url, error, reached)
            furthest = reached


def _transfer(
    session: requests.Session,
    url: str,
    asset: Asset,
    partial: _Partial,
    progress: bool,
    policy: RetryPolicy,
) -> None:
    """One request: stream the body behind what is there, hash all of it, compare."""
    import requests

    kept, validator = partial.resumable_from(url)
    with _request(session, url, kept, validator, policy) as response:
        resumed = response.status_code == requests.codes.partial_content
        if response.status_code == requests.codes.requested_range_not_satisfiable or (
            resumed and not _continues(response, kept)
        ):
            partial.remove()
            raise _TransferError("the partial file does not fit the remote one; starting again")
        if not response.ok:
            status = f"HTTP status {response.status_code} {response.reason}"
            raise _TransferError(status, final=400 <= response.status_code < 500)
        try:
            digest = _store(response, url, partial, kept if resumed else 0, progress)
        except requests.RequestException as error:
            raise _TransferError(f"the transfer broke: {_reason(error)}") from error
        # Without a length, a cut connection looks like the end of the file.
        whole = "Content-Length" in response.headers and not resumed
    if digest == asset.sha256:
        return
    partial.remove()
    raise _TransferError(f"wrong sha256: expected {asset.sha256}, actual {digest}", final=whole)


def _request(
    session: requests.Session, url: str, kept: int, validator: str | None, policy: RetryPolicy
) -> requests.Response:
    headers = {"Accept-Encoding": "identity"}
    if kept:
        headers["Range"] = f"bytes={kept}-"
        if validator:
            headers["If-Range"] = validator
    timeout = (policy.connect_timeout, policy.read_timeout)
    try:
        return session.get(url, headers=headers, stream=True, timeout=timeout)
    except OSError as error:  # also what requests raises, and a missing certificate file
        raise _TransferError(_reason(error)) from error


def _reason(error: OSError) -> str:
    """The innermost reason; the layers around it only repeat host and URL."""
    cause = error.args[0] if error.args else error
    text = str(getattr(cause, "reason", None) or error)
    return text.partition("): ")[2] or text


def _continues(response: requests.Response, kept: int) -> bool:
    return response.headers.get("Content-Range", "").startswith(f"bytes {kept}-")


def _store(
    response: requests.Response, url: str, partial: _Partial, kept: int, progress: bool
) -> str:
    """Write the body behind the first ``kept`` bytes; return the sha256 of the whole file."""
    if not kept:
        # The old bytes go before their origin is overwritten: never a mix of two files.
        partial.path.unlink(missing_ok=True)
        _write_json(partial.origin, {"url": url, "validator": _validator(response)})
    with partial.path.open("ab+") as file:
        file.seek(0)
        digest = running_sha256(file)
        length = response.headers.get("Content-Length")
        with _progress_bar(partial, kept, int(length) if length else None, progress) as bar:
            for chunk in response.iter_content(_CHUNK):
                file.write(chunk)
                digest.update(chunk)
                bar.update(len(chunk))
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def _validator(response: requests.Response) -> str | None:
    """What If-Range can be asked with: a strong ETag, else the modification date."""
    etag = response.headers.get("ETag")
    if etag and not etag.startswith("W/"):
        return etag
    return response.headers.get("Last-Modified")


def _progress_bar(partial: _Partial, kept: int, length: int | None, progress: bool) -> tqdm:
    from tqdm import tqdm

    return tqdm(
        desc=partial.path.name.removesuffix(".part")[:40],
        initial=kept,
        total=None if length is None else kept + length,
        unit="B",
        unit_scale=True,
        unit_divisor=1024,
        # None: drawn on a terminal only
        disable=None if progress else True,
    )


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _write_json(path: Path, value: dict[str, Any]) -> None:
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value), encoding="utf-8")
