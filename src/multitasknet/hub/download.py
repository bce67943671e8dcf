"""Downloading an asset: resumed after a break, hashed while it streams, whole or not there.

All URLs of an asset are of one file: what came from one is resumed from any, and its sha256 tells
whether the parts fit.
"""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import DownloadError
from ..files import file_sha256, running_sha256
from .card import Asset

if TYPE_CHECKING:
    import requests

logger = logging.getLogger(__name__)

_CHUNK = 1 << 20


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

    part = path.with_name(f"{path.name}.part")
    if part.is_file() and file_sha256(part) == asset.sha256:
        part.replace(path)
        return
    failures: dict[str, _TransferError] = {}
    with requests.Session() as session:
        # requests knows REQUESTS_CA_BUNDLE, OpenSSL's own variable it does not.
        session.verify = os.environ.get("SSL_CERT_FILE") or True
        session.headers["Accept-Encoding"] = "identity"
        transfer = _Transfer(asset, part, session, progress, policy)
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
                    part.replace(path)
                    return
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
    """What all attempts at one file share; ``part`` holds the bytes so far."""

    asset: Asset
    part: Path
    session: requests.Session
    progress: bool
    policy: RetryPolicy

    def run(self, url: str) -> None:
        """Try one URL again, at once, as long as each broken attempt got further than the last."""
        while True:
            before = self._kept()
            try:
                return self._attempt(url, before)
            except _TransferError as error:
                if error.final or self._kept() <= before:
                    raise
                logger.info("%s: %s; resuming at byte %d", url, error, self._kept())

    def _kept(self) -> int:
        return self.part.stat().st_size if self.part.is_file() else 0

    def _attempt(self, url: str, kept: int) -> None:
        """One request: stream the body behind what is there, hash all of it, compare."""
        import requests

        with self._request(url, kept) as response:
            resumed = kept > 0 and response.status_code == requests.codes.partial_content
            beyond = kept > 0 and response.status_code == requests.codes.range_not_satisfiable
            if not response.ok and not beyond:
                status = f"HTTP status {response.status_code} {response.reason}"
                raise _TransferError(status, final=400 <= response.status_code < 500)
            actual = "" if beyond else self._store(response, kept if resumed else 0)
            # Without a length, a cut connection looks like the end of the file.
            whole = "Content-Length" in response.headers
        if actual == self.asset.sha256:
            return
        self.part.unlink(missing_ok=True)
        if not resumed and not beyond:
            wrong = f"wrong sha256: expected {self.asset.sha256}, actual {actual}"
            raise _TransferError(wrong, final=whole)
        logger.info("%s: the part does not fit the remote file; starting again", url)
        self._attempt(url, 0)

    def _request(self, url: str, kept: int) -> requests.Response:
        headers = {"Range": f"bytes={kept}-"} if kept else {}
        timeout = (self.policy.connect_timeout, self.policy.read_timeout)
        try:
            return self.session.get(url, headers=headers, stream=True, timeout=timeout)
        except OSError as error:  # also what requests raises, and a missing certificate file
            raise _TransferError(_reason(error)) from error

    def _store(self, response: requests.Response, kept: int) -> str:
        """Write the body behind the first ``kept`` bytes; return the sha256 of the whole file."""
        import requests
        from tqdm import tqdm

        length = response.headers.get("Content-Length")
        with self.part.open("ab+") as file:
            file.truncate(kept)
            file.seek(0)
            digest = running_sha256(file)
            with tqdm.wrapattr(
                file,
                "write",
                total=kept + int(length) if length else None,
                initial=kept,
                desc=self.part.stem[:40],
                # None: drawn on a terminal only
                disable=None if self.progress else True,
            ) as counted:
                try:
                    for chunk in response.iter_content(_CHUNK):
                        counted.write(chunk)
                        digest.update(chunk)
                except requests.RequestException as error:
                    raise _TransferError(f"the transfer broke: {_reason(error)}") from error
            file.flush()
            os.fsync(file.fileno())
        return digest.hexdigest()


def _reason(error: OSError) -> str:
    """The innermost reason; the layers around it only repeat host and URL."""
    cause = error.args[0] if error.args else error
    text = str(getattr(cause, "reason", None) or error)
    return text.partition("): ")[2] or text
