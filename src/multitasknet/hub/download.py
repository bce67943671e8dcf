"""Downloading an asset: resumed after a break, whole with the right sha256 or not there.

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
from ..files import file_sha256
from .card import Asset

if TYPE_CHECKING:
    import requests

logger = logging.getLogger(__name__)

_CHUNK = 1 << 20
# Of an asset whose size neither card nor server states: ten times the largest that is published.
_MOST_BYTES = 4 << 30
# Statuses below 500 that pass: request timeout, too early, too many requests.
_PASSING = (408, 425, 429)


@dataclass(frozen=True)
class RetryPolicy:
    """How long to keep trying.

    Attributes:
        rounds: how often every URL is tried without gaining a byte.
        backoff: seconds before the second round, doubled for each further one.
        longest_wait: most seconds to wait for a server that sends ``Retry-After``.
        timeouts: seconds to wait for a connection, and for the next byte.
    """

    rounds: int = 3
    backoff: float = 1.0
    longest_wait: float = 60.0
    timeouts: tuple[float, float] = (10.0, 30.0)

    def wait(self, attempt: int, asked: float) -> float:
        """Seconds before that attempt (the first is 0), where a server asked for some."""
        return max(self.backoff * 2 ** (attempt - 1), min(asked, self.longest_wait))


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
    """Download the asset to ``path`` from the first of its URLs that gives it.

    Raises:
        DownloadError: none does; what came so far is kept beside ``path`` for the next call.
    """
    import requests

    part = path.with_name(f"{path.name}.part")
    failures: dict[str, _TransferError] = {}
    with requests.Session() as session:
        # requests knows REQUESTS_CA_BUNDLE, but not OpenSSL's own variable.
        session.verify = os.environ.get("SSL_CERT_FILE") or True
        session.headers["Accept-Encoding"] = "identity"
        transfer = _Transfer(asset, part, session, progress, policy)
        for attempt in range(policy.rounds):
            live = [url for url in asset.urls if url not in failures or not failures[url].final]
            if attempt and live:
                time.sleep(policy.wait(attempt, max(failures[url].wait for url in live)))
            for url in live:
                try:
                    transfer.run(url)
                except _TransferError as error:
                    logger.info("%s: %s", url, error)
                    failures[url] = error
                else:
                    part.replace(path)
                    return
    reasons = "".join(f"\n  {url}: {reason}" for url, reason in failures.items())
    kept = f"\nThe part at {part} is kept; the next call resumes it." if part.is_file() else ""
    raise DownloadError(
        f"the asset could not be downloaded:{reasons}{kept}\n{by_hand(asset, path)}"
    )


def by_hand(asset: Asset, path: Path) -> str:
    """The remedy where there is no network."""
    return (
        f"To do it by hand, fetch {asset.url} on any machine and copy it to {path}; "
        f"its sha256 must be {asset.sha256}"
    )


@dataclass(frozen=True)
class _Transfer:
    """What all attempts at one file share; ``part`` holds the bytes so far."""

    asset: Asset
    part: Path
    session: requests.Session
    progress: bool
    policy: RetryPolicy

    def run(self, url: str) -> None:
        """Complete the part from one URL, at once again after each break that gained bytes.

        Raises:
            _TransferError: nothing more comes, or another file than the asset does.
        """
        kept = self._size()
        while not kept or file_sha256(self.part) != self.asset.sha256:
            try:
                resumed, is_whole = self._append(url, kept)
            except _TransferError as error:
                if error.final or self._size() <= kept:
                    raise
                kept = self._size()
                logger.info("%s: %s; resuming at byte %d", url, error, kept)
                continue
            if (found := file_sha256(self.part)) == self.asset.sha256:
                return
            fault = f"wrong sha256: expected {self.asset.sha256}, found {found}{self._kind()}"
            self.part.unlink()
            if not resumed:
                raise _TransferError(fault, final=is_whole)
            logger.info("%s: the part does not fit the remote file; starting again", url)
            kept = 0

    def _size(self) -> int:
        return self.part.stat().st_size if self.part.is_file() else 0

    def _append(self, url: str, kept: int) -> tuple[bool, bool]:
        """One request, whose body goes after the first ``kept`` bytes, if the server resumes.

        Returns:
            Whether it does, and whether the end of the body is known to be that of the file:
            without a length, a cut connection looks the same.
        """
        import requests

        headers = {"Range": f"bytes={kept}-"} if kept else {}
        try:
            response = self.session.get(
                url, headers=headers, stream=True, timeout=self.policy.timeouts
            )
        except OSError as error:  # also what requests raises, and a missing certificate file
            raise _TransferError(_reason(error)) from error
        with response:
            if kept and response.status_code == requests.codes.range_not_satisfiable:
                return True, True
            if not response.ok:
                raise _refusal(response)
            resumed = response.status_code == requests.codes.partial_content
            self._store(response, kept if resumed else 0)
            return resumed, "Content-Length" in response.headers

    def _store(self, response: requests.Response, kept: int) -> None:
        import requests
        from tqdm import tqdm

        length = response.headers.get("Content-Length")
        total = kept + int(length) if length else None
        most = 2 * self.asset.size if self.asset.size else total or _MOST_BYTES
        if total and total > most:
            raise _too_large(total, most)
        bar = tqdm(
            total=total,
            initial=kept,
            desc=self.asset.file_name[:40],
            unit="B",
            unit_scale=True,
            # None: drawn on a terminal only
            disable=None if self.progress else True,
        )
        with self.part.open("ab") as file, bar:
            file.truncate(kept)
            try:
                for chunk in response.iter_content(_CHUNK):
                    if (size := file.tell() + len(chunk)) > most:
                        file.truncate(0)
                        raise _too_large(size, most)
                    file.write(chunk)
                    bar.update(len(chunk))
            except requests.RequestException as error:
                raise _TransferError(f"the transfer broke: {_reason(error)}") from error
            file.flush()
            os.fsync(file.fileno())

    def _kind(self) -> str:
        """In words, what is known to come in place of a file; empty for anything else."""
        with self.part.open("rb") as file:
            start = file.read(64).lstrip()
        if start.startswith(b"version https://git-lfs"):
            return " (a Git LFS pointer instead of the file)"
        return " (a web page instead of the file)" if start.startswith(b"<") else ""


def _too_large(size: int, most: int) -> _TransferError:
    return _TransferError(
        f"the body is larger than it may be: {size:,} bytes or more, at most {most:,} expected",
        final=True,
    )


def _refusal(response: requests.Response) -> _TransferError:
    """What an error status means for the next attempt."""
    status = response.status_code
    gone = " (there is no such file at this address)" if status in (404, 410) else ""
    after = response.headers.get("Retry-After", "")
    return _TransferError(
        f"HTTP status {status} {response.reason}{gone}",
        final=400 <= status < 500 and status not in _PASSING,
        wait=float(after) if after.isascii() and after.isdigit() else 0,
    )


def _reason(error: OSError) -> str:
    """The innermost reason; the layers around it only repeat host and URL."""
    cause = error.args[0] if error.args else error
    text = str(getattr(cause, "reason", None) or error)
    return text.partition("): ")[2] or text
