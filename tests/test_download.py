"""The asset: every row of the fault table against a real server."""

from __future__ import annotations

import gzip
import hashlib
import ssl
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trustme
from loopback import Answer, LoopbackServer
from urllib3 import HTTPResponse

from multitasknet import DownloadError, fetch_asset, load_card
from multitasknet.hub.card import Asset
from multitasknet.hub.download import RetryPolicy, asset_path, default_cache_dir


def hash_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


# The same in each process that collects the tests, whose names show the hashes.
CONTENT = np.random.default_rng(0).bytes(3_000_000)
OTHER = np.random.default_rng(1).bytes(3_000_000)
QUICK = RetryPolicy(rounds=2, backoff=0.01, timeouts=(2, 0.3))
CUT = Answer(cut_after=2_000_000)
NO_LENGTH = {"Content-Length": ""}


@dataclass
class Remote:
    """A card whose asset is on a server, and an empty cache."""

    server: LoopbackServer
    card: Path
    cache: Path

    @property
    def asset(self) -> Asset:
        return load_card(self.card).asset

    def serve(self, *answers: Answer, content: bytes = CONTENT, path: str = "/model.ckpt") -> str:
        return self.server.serve(path, content, *answers)

    def fetch(self, policy: RetryPolicy = QUICK, offline: bool = False, **changes: Any) -> Path:
        asset = replace(self.asset, **changes)
        return fetch_asset(asset, self.cache, offline, progress=False, policy=policy)

    @property
    def requests(self) -> list[dict[str, str]]:
        return self.server.resources["/model.ckpt"].requests

    @property
    def path(self) -> Path:
        """Where the asset belongs."""
        return self.cache / "mindspore" / "1.7" / "model.ckpt"

    @property
    def parts(self) -> list[Path]:
        return list(self.cache.rglob("*.part*"))

    def start(self, before: str = "") -> subprocess.Popen[str]:
        """A process that fetches the asset."""
        code = f"""
            import resource, sys
            from multitasknet import DownloadError, fetch_asset, load_card
            {before}
            card, cache = load_card({str(self.card)!r}), {str(self.cache)!r}
            try:
                print(fetch_asset(card, cache, progress=False))
            except DownloadError as error:
                sys.exit(str(error))
        """
        pipe = subprocess.PIPE
        command = [sys.executable, "-c", textwrap.dedent(code)]
        return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True)


@pytest.fixture
def remote(write_card: Callable[..., Path], server: LoopbackServer, tmp_path: Path) -> Remote:
    card = write_card(server.serve("/model.ckpt", CONTENT), CONTENT)
    return Remote(server, card, tmp_path / "cache")


def test_the_file_is_where_the_hub_client_looks_and_is_checked_each_time(remote: Remote) -> None:
    assert remote.fetch() == remote.path == asset_path(remote.asset, remote.cache)
    assert remote.path.read_bytes() == CONTENT
    assert not remote.parts
    remote.fetch(offline=True)
    assert remote.fetch() == remote.path
    assert len(remote.requests) == 1, "a second fetch asks nobody"
    remote.path.write_bytes(OTHER)
    with pytest.raises(DownloadError, match="offline, and no verified copy"):
        remote.fetch(offline=True)
    assert remote.fetch().read_bytes() == CONTENT


@pytest.mark.parametrize("offline", [True, False])
def test_without_network_the_error_says_what_to_do_by_hand(remote: Remote, offline: bool) -> None:
    with pytest.raises(DownloadError) as failed:
        remote.fetch(url="http://127.0.0.1:1/model.ckpt", offline=offline)
    for fact in ("http://127.0.0.1:1/model.ckpt", str(remote.path), remote.asset.sha256):
        assert fact in str(failed.value)


@pytest.mark.parametrize("status", [408, 425, 429, 503])
def test_a_passing_error_is_retried_when_the_server_asks(remote: Remote, status: int) -> None:
    remote.serve(Answer(status, headers={"Retry-After": "86400"}), Answer())
    start = time.monotonic()
    # Nobody waits for a day.
    assert remote.fetch(replace(QUICK, longest_wait=0.2)).read_bytes() == CONTENT
    assert time.monotonic() - start >= 0.2


@pytest.mark.parametrize(
    ("answer", "content", "named", "requests"),
    [
        (Answer(404), b"", "HTTP status 404", 1),
        (Answer(500), b"", "HTTP status 500", QUICK.rounds),
        (Answer(302, headers={"Location": "http://a..b/x"}), b"", "label empty or too long", 2),
        (Answer(302, headers={"Location": "http://[::1/x"}), b"", "Invalid IPv6 URL", 2),
        (Answer(headers={"Content-Length": "3, 4"}), b"", "unmatching values", 2),
        (Answer(), OTHER, f"expected {hash_of(CONTENT)}, found {hash_of(OTHER)}", 1),
        # A part that nobody asked for.
        (Answer(206), OTHER, f"found {hash_of(OTHER)}", 1),
        (Answer(), b"\n<!DOCTYPE html><p>Log in", "a web page instead of the file", 1),
        (Answer(), b"version https://git-lfs.github.com/spec/v1\noid", "a Git LFS pointer", 1),
        (Answer(), CONTENT * 5, "more than the 6,000,000 bytes expected", 1),
        (Answer(headers=NO_LENGTH), CONTENT * 5, "more than the 6,000,000 bytes expected", 1),
    ],
)
def test_what_is_not_the_file_is_named_and_leaves_nothing(
    remote: Remote, answer: Answer, content: bytes, named: str, requests: int
) -> None:
    remote.serve(answer, content=content)
    with pytest.raises(DownloadError, match=rf"/model\.ckpt: .*{named}"):
        remote.fetch(size=len(CONTENT))
    assert len(remote.requests) == requests
    assert not remote.path.exists() and not any(part.stat().st_size for part in remote.parts)


def test_a_body_that_comes_compressed_is_taken(remote: Remote) -> None:
    plain = bytes(100_000)
    remote.serve(Answer(headers={"Content-Encoding": "gzip"}), content=gzip.compress(plain))
    assert remote.fetch(sha256=hash_of(plain)).read_bytes() == plain


def test_a_file_beside_its_card_needs_no_network(remote: Remote) -> None:
    beside = remote.card.with_name("model.ckpt")
    beside.write_bytes(CONTENT)
    assert remote.fetch(offline=True) == beside
    assert not remote.cache.exists(), "nothing is copied or written"
    beside.write_bytes(OTHER)
    with pytest.raises(DownloadError, match=r"is damaged.*move the file away"):
        remote.fetch()


@pytest.mark.parametrize("checks_length", [True, False], ids=["", "urllib3 1"])
@pytest.mark.parametrize(
    "answers",
    [
        pytest.param([CUT, Answer()], id="cut"),
        pytest.param([Answer(stall_after=2_000_000), Answer()], id="stalled"),
        pytest.param([Answer(cut_after=1_100_000)], id="cut again and again"),
        pytest.param([Answer(cut_after=1_000_000, headers=NO_LENGTH), Answer()], id="no length"),
        pytest.param([CUT, Answer(honour_range=False)], id="range ignored"),
    ],
)
def test_a_broken_transfer_ends_with_the_file(
    remote: Remote, answers: list[Answer], checks_length: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not checks_length:
        ignored = property(lambda _: False, lambda *_: None)
        monkeypatch.setattr(HTTPResponse, "enforce_content_length", ignored, raising=False)
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
    assert "Range" in remote.requests[0]
    assert not remote.parts
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
    certificates = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(certificates))
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates))
    assert remote.fetch(url=url).read_bytes() == CONTENT


def test_a_cache_that_cannot_be_used_is_named(
    remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote.cache.write_text("not a folder")
    with pytest.raises(DownloadError, match=r"cannot use the cache[\s\S]*sha256 must be"):
        remote.fetch()
    remote.cache.unlink()
    remote.fetch()

    def read(path: Path) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    # Root, as whom CI runs, may read everything.
    monkeypatch.setattr("multitasknet.hub.download.file_sha256", read)
    with pytest.raises(DownloadError, match=r"cannot use the cache: .*Permission denied"):
        remote.fetch()


def test_the_default_cache_is_the_hubs_own_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert default_cache_dir() == Path.home() / ".mscache"
    monkeypatch.setenv("MULTITASKNET_CACHE", str(tmp_path / "mine"))
    assert default_cache_dir() == tmp_path / "mine"


def test_a_full_disk_leaves_nothing_and_the_next_call_recovers(remote: Remote) -> None:
    limit = "resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, resource.RLIM_INFINITY))"
    process = remote.start(before=limit)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "cannot use the cache" in error
    assert not remote.path.exists()
    assert remote.fetch().read_bytes() == CONTENT


def test_a_killed_process_leaves_a_part_that_the_next_call_resumes(remote: Remote) -> None:
    remote.serve(Answer(stall_after=2_000_000), Answer())
    process = remote.start()
    deadline = time.monotonic() + 30
    while not any(part.stat().st_size > 500_000 for part in remote.parts):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()
    process.communicate(timeout=30)
    assert not remote.path.exists()
    assert remote.fetch().read_bytes() == CONTENT
    assert "Range" in remote.requests[1]


def test_processes_download_once(remote: Remote) -> None:
    outputs = [process.communicate(timeout=120) for process in [remote.start() for _ in range(4)]]
    assert {output for output, _ in outputs} == {f"{remote.path}\n"}
    assert len(remote.requests) == 1
