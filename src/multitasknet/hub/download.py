"""Downloading an asset: resumed after a break, hashed while it streams, whole or not there."""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import MultiTaskNetError
from ..files import file_sha256, read_json, running_sha256, write_json
from .card import Asset

if TYPE_CHECKING:
    import requests

logger = logging.getLogger(__name__)

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


class _TransferError(Exception):
    """One attempt failed; ``final`` says that this URL need not be tried again."""

    def __init__(self, message: str, *, final: bool = False) -> None:
        super().__init__(message)
        self.final = final


def download(asset: Asset, path: Path, *, progress: bool, policy: RetryPolicy) -> None:
    """Bring the asset to ``path`` from the first of its URLs that gives it.

    Raises:
        DownloadError: none does; what came so far is kept beside ``path`` for the next call.
    """
    import requests

    failures: dict[str, _TransferError] = {}
    with requests.Session() as session:
        # requests knows REQUESTS_CA_BUNDLE, OpenSSL's own variable it does not.
        session.verify = os.environ.get("SSL_CERT_FILE") or True
        session.headers["Accept-Encoding"] = "identity"
        transfer = _Transfer(asset, path, session, progress, policy)
        part = transfer.part
        if part.is_file() and file_sha256(part) == asset.sha256:
            return transfer.finish()
        for attempt in range(policy.rounds):
            live = [url for url in asset.urls if url not in failures or not failures[url].final]
            if attempt and live:
                time.sleep(policy.backoff * 2 ** (attempt - 1))
            for url in live:
                try:
                    transfer.run(url)
                except _TransferError as error:
                    logger.info("%s: %s", url, error)
                    failures[url] = error
                else:
                    return transfer.finish()
    kept = f"\nThe part at {part} is kept; the next call resumes it." if part.is_file() else ""
    raise DownloadError(
        f"the asset could not be downloaded:{_by_reason(failures)}{kept}\n{by_hand(asset, path)}"
    )


def by_hand(asset: Asset, path: Path) -> str:
    """The remedy where there is no network."""
    return (
        f"To do it by hand, fetch {asset.url} on any machine and copy it to {path}; "
        f"its sha256 must be {asset.sha256}"
    )


def _by_reason(failures: dict[str, _TransferError]) -> str:
    """The reasons, a line each, and below each the URLs that failed for it."""
    groups: dict[str, str] = {}
    for url, reason in failures.items():
        groups[str(reason)] = f"{groups.get(str(reason), '')}\n    {url}"
    return "".join(f"\n  {reason}{urls}" for reason, urls in groups.items())


@dataclass(frozen=True)
class _Transfer:
    """What all attempts at one file share."""

    asset: Asset
    path: Path
    session: requests.Session
    progress: bool
    policy: RetryPolicy

    @property
    def part(self) -> Path:
        """The bytes so far."""
        return self.path.with_name(f"{self.path.name}.part")

    @property
    def origin(self) -> Path:
        """Which remote file they belong to."""
        return self.path.with_name(f"{self.path.name}.part.json")

    def finish(self) -> None:
        self.part.replace(self.path)
        self.origin.unlink(missing_ok=True)

    def run(self, url: str) -> None:
        """Try one URL again, at once, as long as each broken attempt got further than the last."""
        while True:
            before = self._kept(url)
            try:
                return self._attempt(url, before)
            except _TransferError as error:
                reached = self._kept(url)
                if error.final or reached <= before:
                    raise
                logger.info("%s: %s; resuming at byte %d", url, error, reached)

    def _kept(self, url: str) -> int:
        """Bytes so far that are of this URL."""
        ours = self.part.is_file() and read_json(self.origin).get("url") == url
        return self.part.stat().st_size if ours else 0

    def _attempt(self, url: str, kept: int) -> None:
        """One request: stream the body behind what is there, hash all of it, compare."""
        import requests

        with self._request(url, kept) as response:
            resumed = response.status_code == requests.codes.partial_content
            if response.status_code == requests.codes.requested_range_not_satisfiable or (
                resumed
                and not response.headers.get("Content-Range", "").startswith(f"bytes {kept}-")
            ):
                self._discard()
                raise _TransferError("the partial file does not fit the remote one; starting again")
            if not response.ok:
                status = f"HTTP status {response.status_code} {response.reason}"
                raise _TransferError(status, final=400 <= response.status_code < 500)
            try:
                actual = self._store(response, url, kept if resumed else 0)
            except requests.RequestException as error:
                raise _TransferError(f"the transfer broke: {_reason(error)}") from error
            # Without a length, a cut connection looks like the end of the file.
            whole = "Content-Length" in response.headers and not resumed
        if actual != self.asset.sha256:
            self._discard()
            raise _TransferError(
                f"wrong sha256: expected {self.asset.sha256}, actual {actual}", final=whole
            )

    def _discard(self) -> None:
        # The bytes go before their origin: never a mix of two files.
        self.part.unlink(missing_ok=True)
        self.origin.unlink(missing_ok=True)

    def _request(self, url: str, kept: int) -> requests.Response:
        timeout = (self.policy.connect_timeout, self.policy.read_timeout)
        validator = read_json(self.origin).get("validator")
        headers = {"Range": f"bytes={kept}-", "If-Range": validator} if kept else {}
        try:
            return self.session.get(url, headers=headers, stream=True, timeout=timeout)
        except OSError as error:  # also what requests raises, and a missing certificate file
            raise _TransferError(_reason(error)) from error

    def _store(self, response: requests.Response, url: str, kept: int) -> str:
        """Write the body behind the first ``kept`` bytes; return the sha256 of the whole file."""
        from tqdm import tqdm

        if not kept:
            self._discard()
            write_json(self.origin, {"url": url, "validator": _validator(response)})
        length = response.headers.get("Content-Length")
        with self.part.open("ab+") as file:
            file.seek(0)
            digest = running_sha256(file)
            with tqdm.wrapattr(
                file,
                "write",
                total=kept + int(length) if length else None,
                initial=kept,
                desc=self.path.name[:40],
                # None: drawn on a terminal only
                disable=None if self.progress else True,
            ) as counted:
                for chunk in response.iter_content(_CHUNK):
                    counted.write(chunk)
                    digest.update(chunk)
            file.flush()
            os.fsync(file.fileno())
        return digest.hexdigest()


def _validator(response: requests.Response) -> str | None:
    """What If-Range can be asked with: a strong ETag, else the modification date."""
    etag = response.headers.get("ETag")
    return etag if etag and not etag.startswith("W/") else response.headers.get("Last-Modified")


def _reason(error: OSError) -> str:
    """The innermost reason; the layers around it only repeat host and URL."""
    cause = error.args[0] if error.args else error
    text = str(getattr(cause, "reason", None) or error)
    return text.partition("): ")[2] or text
