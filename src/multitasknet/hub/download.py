"""Downloading an asset: resumed after a break, hashed while it streams, whole or not there.

All URLs of an asset are of one file: what came from one is resumed from any, and its sha256 shows
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
# Of an asset whose size neither card nor server states: ten times the largest that is published.
_MOST_BYTES = 4 << 30
# Statuses below 500 that pass: request timeout, too early, too many requests.
_PASSING = (408, 425, 429)
_LFS_POINTER = b"version https://git-lfs"


@dataclass(frozen=True)
class RetryPolicy:
    """How long to go on trying.

    Attributes:
        rounds: how often every URL is tried without gaining a byte.
        backoff: seconds before the second round, doubled for each further one.
        longest_wait: most seconds to wait for a server that states in ``Retry-After`` when to come
            back.
        connect_timeout: seconds to wait for a connection.
        read_timeout: seconds without a byte after which a transfer counts as stalled.
    """

    rounds: int = 3
    backoff: float = 1.0
    longest_wait: float = 60.0
    connect_timeout: float = 10.0
    read_timeout: float = 30.0


class _TransferError(Exception):
    """One attempt failed.

    Attributes:
        final: this URL need not be tried again.
        wait: seconds after which the server asks to be tried again.
    """

    def __init__(self, message: str, *, final: bool = False, wait: float = 0) -> None:
        super().__init__(message)
        self.final = final
        self.wait = wait


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
        # requests knows REQUESTS_CA_BUNDLE, but not OpenSSL's own variable.
        session.verify = os.environ.get("SSL_CERT_FILE") or True
        session.headers["Accept-Encoding"] = "identity"
        transfer = _Transfer(asset, part, session, progress, policy)
        for attempt in range(policy.rounds):
            live = [url for url in asset.urls if url not in failures or not failures[url].final]
            if attempt and live:
                asked = max(failures[url].wait for url in live)
                time.sleep(
                    max(policy.backoff * 2 ** (attempt - 1), min(asked, policy.longest_wait))
                )
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
        """One request: append the body to what is there, hash all of it, compare."""
        import requests

        with self._request(url, kept) as response:
            resumed = kept > 0 and response.status_code == requests.codes.partial_content
            beyond = kept > 0 and response.status_code == requests.codes.range_not_satisfiable
            if not response.ok and not beyond:
                raise _refusal(response)
            actual = "" if beyond else self._store(response, kept if resumed else 0)
            # Without a length, a cut connection looks like the end of the file.
            whole = "Content-Length" in response.headers
            is_page = response.headers.get("Content-Type", "").startswith("text/html")
        if actual == self.asset.sha256:
            return
        found = "a web page instead of the file" if is_page else self._kind_of_part()
        self.part.unlink(missing_ok=True)
        if not resumed and not beyond:
            wrong = f"wrong sha256: expected {self.asset.sha256}, actual {actual}"
            raise _TransferError(f"{wrong} ({found})" if found else wrong, final=whole)
        logger.info("%s: the part does not fit the remote file; starting again", url)
        self._attempt(url, 0)

    def _kind_of_part(self) -> str:
        """What is known to come in place of a file; empty for anything else."""
        if not self.part.is_file():
            return ""
        with self.part.open("rb") as file:
            start = file.read(64).lstrip().lower()
        if start.startswith(_LFS_POINTER):
            return "a Git LFS pointer instead of the file"
        is_page = start.startswith((b"<!doctype html", b"<html"))
        return "a web page instead of the file" if is_page else ""

    def _request(self, url: str, kept: int) -> requests.Response:
        headers = {"Range": f"bytes={kept}-"} if kept else {}
        timeout = (self.policy.connect_timeout, self.policy.read_timeout)
        try:
            return self.session.get(url, headers=headers, stream=True, timeout=timeout)
        except OSError as error:  # also what requests raises, and a missing certificate file
            raise _TransferError(_reason(error)) from error

    def _store(self, response: requests.Response, kept: int) -> str:
        """Write the body after the first ``kept`` bytes; return the sha256 of the whole file."""
        import requests
        from tqdm import tqdm

        length = response.headers.get("Content-Length")
        total = kept + int(length) if length else None
        most = 2 * self.asset.size if self.asset.size else total or _MOST_BYTES
        if total and total > most:
            raise _too_large(total, most)
        with self.part.open("ab+") as file:
            file.truncate(kept)
            file.seek(0)
            digest = running_sha256(file)
            with tqdm.wrapattr(
                file,
                "write",
                total=total,
                initial=kept,
                desc=self.part.stem[:40],
                # None: drawn on a terminal only
                disable=None if self.progress else True,
            ) as counted:
                try:
                    for chunk in response.iter_content(_CHUNK):
                        kept += len(chunk)
                        if kept > most:
                            file.truncate(0)
                            raise _too_large(kept, most)
                        counted.write(chunk)
                        digest.update(chunk)
                except requests.RequestException as error:
                    raise _TransferError(f"the transfer broke: {_reason(error)}") from error
            file.flush()
            os.fsync(file.fileno())
        return digest.hexdigest()


def _refusal(response: requests.Response) -> _TransferError:
    """What an error status means for the next attempt."""
    status = response.status_code
    text = f"HTTP status {status} {response.reason}"
    if status in (404, 410):
        text += " (there is no such file at this address)"
    after = response.headers.get("Retry-After", "")
    return _TransferError(
        text,
        final=400 <= status < 500 and status not in _PASSING,
        wait=float(after) if after.isascii() and after.isdigit() else 0,
    )


def _too_large(size: int, most: int) -> _TransferError:
    return _TransferError(
        f"the body is larger than it may be: {size:,} bytes or more, at most {most:,} expected",
        final=True,
    )


def _reason(error: OSError) -> str:
    """The innermost reason; the layers around it only repeat host and URL."""
    cause = error.args[0] if error.args else error
    text = str(getattr(cause, "reason", None) or error)
    return text.partition("): ")[2] or text
