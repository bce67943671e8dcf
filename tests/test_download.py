"""The asset: every row of the fault table against a real server."""

from __future__ import annotations

import hashlib
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trustme
from loopback import Answer, LoopbackServer

from multitasknet import DownloadError, fetch_asset, load_card
from multitasknet.hub import download

CONTENT = np.random.default_rng(0).bytes(3_000_000)
HASH = hashlib.sha256(CONTENT).hexdigest()
OTHER = np.random.default_rng(1).bytes(3_000_000)
CUT = Answer(cut_after=2_000_000)
NO_LENGTH = {"Content-Length": ""}
ROUNDS = 2


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = {"_ROUNDS": ROUNDS, "_BACKOFF": 0.01, "_TIMEOUTS": (2, 0.3), "_LONGEST_WAIT": 0.2}
    for name, value in quick.items():
        monkeypatch.setattr(download, name, value)


@dataclass
class Remote:
    """A card whose asset is on a server, and an empty cache."""

    server: LoopbackServer
    card: Path
    cache: Path

    def __post_init__(self) -> None:
        # Where the Hub client looks.
        self.path = self.cache / "mindspore" / "1.7" / "model.ckpt"

    def serve(self, *answers: Answer, content: bytes = CONTENT, path: str = "/model.ckpt") -> str:
        return self.server.serve(path, content, *answers)

    def fetch(self, offline: bool = False, **changes: Any) -> Path:
        asset = replace(load_card(self.card).asset, **changes)
        return fetch_asset(asset, self.cache, offline, progress=False)

    @property
    def requests(self) -> list[dict[str, str]]:
        return self.server.resources["/model.ckpt"].requests

    @property
    def parts(self) -> list[Path]:
        return list(self.cache.rglob("*.part*"))

    def start(self, before: str = "pass") -> subprocess.Popen[str]:
        """A process that fetches the asset."""
        call = f"fetch_asset(load_card({str(self.card)!r}), {str(self.cache)!r})"
        code = f"from multitasknet import fetch_asset, load_card; {before}; print({call})"
        pipe = subprocess.PIPE
        return subprocess.Popen([sys.executable, "-c", code], stdout=pipe, stderr=pipe, text=True)


@pytest.fixture
def remote(write_card: Callable[..., Path], server: LoopbackServer, tmp_path: Path) -> Remote:
    card = write_card(server.serve("/model.ckpt", CONTENT), CONTENT)
    return Remote(server, card, tmp_path / "cache")


def test_the_file_is_where_the_hub_client_looks_and_is_checked_each_time(remote: Remote) -> None:
    assert remote.fetch() == remote.path
    assert remote.path.read_bytes() == CONTENT and not remote.parts
    assert remote.fetch(offline=True) == remote.fetch() == remote.path
    assert len(remote.requests) == 1, "a second fetch asks nobody"
    remote.path.write_bytes(OTHER)
    with pytest.raises(DownloadError, match="offline, and no verified copy"):
        remote.fetch(offline=True)
    assert remote.fetch().read_bytes() == CONTENT


@pytest.mark.parametrize("offline", [True, False])
def test_without_network_the_error_says_what_to_do_by_hand(remote: Remote, offline: bool) -> None:
    url = "http://127.0.0.1:1/model.ckpt"
    with pytest.raises(DownloadError, match=rf"{url}[\s\S]*{remote.path}; its sha256 .*{HASH}"):
        remote.fetch(url=url, offline=offline)


@pytest.mark.parametrize("status", [408, 425, 429, 503])
def test_a_passing_error_is_retried_when_the_server_asks(remote: Remote, status: int) -> None:
    remote.serve(Answer(status, headers={"Retry-After": "86400"}), Answer())
    start = time.monotonic()
    assert remote.fetch().read_bytes() == CONTENT
    assert 0.2 <= time.monotonic() - start < 60, "nobody waits for a day"


@pytest.mark.parametrize(
    ("answer", "content", "named", "requests"),
    [
        (Answer(404), b"", "HTTP status 404", 1),
        (Answer(500), b"", "HTTP status 500", ROUNDS),
        (Answer(302, headers={"Location": "http://a..b/x"}), b"", "label empty or too long", 2),
        (Answer(302, headers={"Location": "http://[::1/x"}), b"", "Invalid IPv6 URL", 2),
        (Answer(headers={"Content-Length": "3, 4"}), b"", "unmatching values", 2),
        (Answer(), OTHER, "wrong sha256: expected", 1),
        (Answer(206), OTHER, "wrong sha256", 1),  # a part that nobody asked for
        (Answer(), b"\n<!DOCTYPE html><p>Log in", "a web page instead of the file", 1),
        (Answer(), b"version https://git-lfs.github.com/spec/v1\noid", "a Git LFS pointer", 1),
        (Answer(), CONTENT * 5, "more than 6,000,000 bytes", 1),
        (Answer(headers=NO_LENGTH), CONTENT * 5, "more than 6,000,000 bytes", 1),
    ],
    ids=range(11),
)
def test_what_is_not_the_file_is_named_and_leaves_nothing(
    remote: Remote, answer: Answer, content: bytes, named: str, requests: int
) -> None:
    remote.serve(answer, content=content)
    with pytest.raises(DownloadError, match=rf"/model\.ckpt: .*{named}"):
        remote.fetch(size=len(CONTENT))
    assert len(remote.requests) == requests
    assert not remote.path.exists() and not any(part.stat().st_size for part in remote.parts)


@pytest.mark.parametrize(
    "answers",
    [
        [CUT, Answer()],
        [Answer(stall_after=2_000_000), Answer()],
        [Answer(cut_after=1_100_000)],
        [Answer(cut_after=1_000_000, headers=NO_LENGTH), Answer()],
        [CUT, Answer(honour_range=False)],
    ],
    ids=["cut", "stalled", "cut again and again", "no length", "range ignored"],
)
def test_a_broken_transfer_ends_with_the_file(remote: Remote, answers: list[Answer]) -> None:
    remote.serve(*answers)
    assert remote.fetch().read_bytes() == CONTENT
    assert not remote.parts
    if answers[-1].honour_range and not answers[0].headers:
        assert remote.requests[1]["Range"].startswith("bytes=")
        assert remote.server.resources["/model.ckpt"].served < len(CONTENT) * 1.5


def test_a_lasting_break_keeps_the_part_for_the_next_call(remote: Remote) -> None:
    remote.serve(CUT, Answer(503))
    with pytest.raises(DownloadError, match="is kept; the next call resumes it"):
        remote.fetch()
    (part,) = remote.parts
    assert not remote.path.exists()
    remote.serve()
    assert remote.fetch().read_bytes() == CONTENT
    assert "Range" in remote.requests[0] and not remote.parts
    remote.path.rename(part)
    assert remote.fetch().read_bytes() == CONTENT
    assert len(remote.requests) == 1, "a whole part is used without asking"


@pytest.mark.parametrize("begun", [CONTENT, OTHER], ids=["same", "other"])
def test_mirrors_are_tried_in_turn_and_go_on_with_what_another_began(
    remote: Remote, begun: bytes
) -> None:
    gone = remote.server.url("/gone.ckpt")
    wrong = remote.serve(path="/wrong.ckpt", content=OTHER)
    right = remote.serve(path="/right.ckpt")
    with pytest.raises(DownloadError, match=r"HTTP status 404.*\n.*wrong sha256"):
        remote.fetch(url=gone, mirrors=(wrong,))
    first = remote.serve(CUT, Answer(503), path="/first.ckpt", content=begun)
    assert remote.fetch(url=first, mirrors=(gone, right)).read_bytes() == CONTENT
    served = remote.server.resources["/right.ckpt"].served
    assert (served < len(CONTENT)) == (begun == CONTENT)


def test_tls_is_always_verified_and_ssl_cert_file_is_honoured(
    remote: Remote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    remote.server.encrypt(context)
    url = remote.server.url("/model.ckpt", "https")
    for variable in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(DownloadError, match="certificate verify failed"):
        remote.fetch(url=url)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    assert remote.fetch(url=url).read_bytes() == CONTENT


def test_the_default_cache_is_the_hubs_own_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    assert download.default_cache_dir() == Path.home() / ".mscache"
    monkeypatch.setenv("MULTITASKNET_CACHE", "mine")
    assert download.default_cache_dir() == Path("mine")


def test_a_full_disk_leaves_nothing_and_the_next_call_recovers(remote: Remote) -> None:
    limit = "resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, resource.RLIM_INFINITY))"
    process = remote.start(before=f"import resource; {limit}")
    _, error = process.communicate(timeout=60)
    assert "DownloadError: cannot use the cache" in error
    assert not remote.path.exists()
    assert remote.fetch().read_bytes() == CONTENT


def test_processes_download_once(remote: Remote) -> None:
    outputs = [process.communicate(timeout=120) for process in [remote.start() for _ in range(4)]]
    assert {output for output, _ in outputs} == {f"{remote.path}\n"}
    assert len(remote.requests) == 1
