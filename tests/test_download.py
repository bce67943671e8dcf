"""The asset: every row of the fault table against a real server."""

from __future__ import annotations

import hashlib
import os
import ssl
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import trustme
from loopback import Answer, LoopbackServer

from multitasknet import DownloadError, fetch_asset, load_card
from multitasknet.hub.card import ModelCard
from multitasknet.hub.download import RetryPolicy
from multitasknet.hub.fetch import asset_path, default_cache_dir

CONTENT = os.urandom(3_000_000)
OTHER = os.urandom(3_000_000)
QUICK = RetryPolicy(rounds=2, backoff=0.01, timeouts=(2, 0.5))
CUT = Answer(cut_after=2_000_000)


@dataclass
class Remote:
    """A card whose asset is on a server, and an empty cache."""

    server: LoopbackServer
    card: ModelCard
    cache: Path

    def serve(self, *answers: Answer, content: bytes = CONTENT) -> None:
        self.server.serve("/model.ckpt", content, *answers)

    def fetch(self, card: Any = None, **options: Any) -> Path:
        policy = options.pop("policy", QUICK)
        return fetch_asset(card or self.card, self.cache, progress=False, policy=policy, **options)

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

    def place(self, content: bytes, name: str = "model.ckpt") -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.with_name(name).write_bytes(content)


@pytest.fixture
def remote(write_card: Callable[..., Path], server: LoopbackServer, tmp_path: Path) -> Remote:
    card = load_card(write_card(server.serve("/model.ckpt", CONTENT), CONTENT))
    return Remote(server, card, tmp_path / "cache")


def test_a_first_fetch_stores_the_file_where_the_hub_client_looks(remote: Remote) -> None:
    assert remote.fetch() == remote.path == asset_path(remote.card.asset, remote.cache)
    assert remote.path.read_bytes() == CONTENT
    assert not remote.parts
    remote.fetch(remote.card.asset)
    remote.fetch(offline=True)
    assert len(remote.requests) == 1, "a second fetch asks nobody"


def test_a_copy_in_the_cache_is_checked_each_time(remote: Remote) -> None:
    remote.place(CONTENT)
    assert remote.fetch(offline=True) == remote.path
    remote.place(OTHER)
    with pytest.raises(DownloadError, match="offline"):
        remote.fetch(offline=True)
    assert remote.fetch().read_bytes() == CONTENT


@pytest.mark.parametrize("offline", [True, False])
def test_without_network_the_error_says_what_to_do_by_hand(
    remote: Remote, write_card: Callable[..., Path], offline: bool
) -> None:
    card = load_card(write_card("http://127.0.0.1:1/model.ckpt", CONTENT))
    with pytest.raises(DownloadError) as failed:
        remote.fetch(card, offline=offline)
    for fact in (card.asset.url, str(remote.path), card.asset.sha256):
        assert fact in str(failed.value)


@pytest.mark.parametrize(("status", "requests"), [(404, 1), (403, 1), (500, QUICK.rounds)])
def test_an_error_status_names_url_and_status(remote: Remote, status: int, requests: int) -> None:
    remote.serve(Answer(status))
    with pytest.raises(DownloadError, match=rf"/model\.ckpt: HTTP status {status}"):
        remote.fetch()
    assert len(remote.requests) == requests


@pytest.mark.parametrize("status", [408, 425, 429, 503])
def test_a_passing_error_is_retried_when_the_server_asks(remote: Remote, status: int) -> None:
    remote.serve(Answer(status, retry_after="86400"), Answer())
    start = time.monotonic()
    # Nobody waits for a day.
    assert remote.fetch(policy=replace(QUICK, longest_wait=0.3)).read_bytes() == CONTENT
    assert time.monotonic() - start >= 0.3


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (OTHER, f"found {hashlib.sha256(OTHER).hexdigest()}"),
        (b"\n<!DOCTYPE html><p>Log in", "a web page instead of the file"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "a Git LFS pointer instead"),
    ],
    ids=["other", "page", "pointer"],
)
def test_a_wrong_file_is_refused_by_what_it_is_and_leaves_nothing(
    remote: Remote, content: bytes, named: str
) -> None:
    remote.serve(content=content)
    with pytest.raises(DownloadError, match=f"expected {remote.card.asset.sha256}.*{named}"):
        remote.fetch()
    assert not remote.path.exists() and not remote.parts


@pytest.mark.parametrize("send_length", [True, False])
def test_a_body_of_more_than_twice_the_stated_size_is_cut_off(
    remote: Remote, send_length: bool
) -> None:
    remote.serve(Answer(send_length=send_length), content=CONTENT * 5)
    with pytest.raises(DownloadError, match=r"larger than it may be.* at most 6,000,000 expected"):
        remote.fetch(replace(remote.card.asset, size=len(CONTENT)))
    assert len(remote.requests) == 1
    assert sum(path.stat().st_size for path in remote.parts) == 0


def test_a_file_beside_its_card_needs_no_network(remote: Remote) -> None:
    beside = remote.card.path.with_name("model.ckpt")
    beside.write_bytes(CONTENT)
    asset = load_card(remote.card.path).asset
    assert remote.fetch(asset, offline=True) == beside
    assert not remote.cache.exists(), "nothing is copied or written"
    beside.write_bytes(OTHER)
    with pytest.raises(DownloadError, match=r"is damaged.*move the file away"):
        remote.fetch(asset)


@pytest.mark.parametrize(
    "answers",
    [
        pytest.param([CUT, Answer()], id="cut"),
        pytest.param([Answer(stall_after=2_000_000), Answer()], id="stalled"),
        pytest.param([Answer(cut_after=1_100_000)], id="cut again and again"),
        pytest.param([Answer(cut_after=1_000_000, send_length=False), Answer()], id="no length"),
        pytest.param([CUT, Answer(honour_range=False)], id="range ignored"),
    ],
)
def test_a_broken_transfer_ends_with_the_file(remote: Remote, answers: list[Answer]) -> None:
    remote.serve(*answers)
    assert remote.fetch().read_bytes() == CONTENT
    assert not remote.parts
    if answers[-1].honour_range and answers[0].send_length:
        assert remote.requests[1]["Range"].startswith("bytes=")
        assert remote.server.resources["/model.ckpt"].served < len(CONTENT) * 1.5


def test_a_lasting_break_keeps_the_part_for_the_next_call(remote: Remote) -> None:
    remote.serve(CUT, Answer(503))
    with pytest.raises(DownloadError, match="is kept; the next call resumes it"):
        remote.fetch()
    assert remote.parts and not remote.path.exists()
    remote.serve()
    assert remote.fetch().read_bytes() == CONTENT
    assert "Range" in remote.requests[0]
    assert not remote.parts


def test_a_whole_part_is_used_without_asking(remote: Remote) -> None:
    remote.place(CONTENT, "model.ckpt.part")
    assert remote.fetch().read_bytes() == CONTENT
    assert not remote.requests


def test_mirrors_are_tried_in_turn(remote: Remote, write_card: Callable[..., Path]) -> None:
    gone = remote.server.url("/gone.ckpt")
    wrong = remote.server.serve("/wrong.ckpt", OTHER)
    right = remote.server.serve("/right.ckpt", CONTENT)
    with pytest.raises(DownloadError, match=r"HTTP status 404.*\n.*wrong sha256"):
        remote.fetch(load_card(write_card(gone, CONTENT, mirrors=(wrong,))))
    card = load_card(write_card(gone, CONTENT, mirrors=(wrong, right)))
    assert remote.fetch(card).read_bytes() == CONTENT


@pytest.mark.parametrize("begun", [CONTENT, OTHER], ids=["same", "other"])
def test_what_one_url_began_another_goes_on_with(
    remote: Remote, write_card: Callable[..., Path], begun: bytes
) -> None:
    right = remote.server.serve("/right.ckpt", CONTENT)
    first = remote.server.serve("/first.ckpt", begun, CUT, Answer(503))
    card = load_card(write_card(first, CONTENT, mirrors=(right,)))
    assert remote.fetch(card).read_bytes() == CONTENT
    served = remote.server.resources["/right.ckpt"].served
    assert (served < len(CONTENT)) == (begun == CONTENT)


def test_tls_is_always_verified_and_ssl_cert_file_is_honoured(
    remote: Remote,
    write_card: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    remote.server.encrypt(context)
    card = load_card(write_card(remote.server.url("/model.ckpt", "https"), CONTENT))
    for variable in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(DownloadError, match="certificate verify failed"):
        remote.fetch(card)
    certificates = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(certificates))
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates))
    assert remote.fetch(card).read_bytes() == CONTENT


def test_a_cache_that_cannot_be_written_is_named(remote: Remote) -> None:
    remote.cache.write_text("not a folder")
    with pytest.raises(DownloadError, match=r"cannot write to the cache[\s\S]*sha256 must be"):
        remote.fetch()


def test_the_default_cache_is_the_hubs_own_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert default_cache_dir() == Path.home() / ".mscache"
    monkeypatch.setenv("MULTITASKNET_CACHE", str(tmp_path / "mine"))
    assert default_cache_dir() == tmp_path / "mine"


# In processes of their own


def start(remote: Remote, before: str = "") -> subprocess.Popen[str]:
    code = f"""
        import resource, sys
        from multitasknet import DownloadError, fetch_asset, load_card
        {before}
        card, cache = load_card({str(remote.card.path)!r}), {str(remote.cache)!r}
        try:
            print(fetch_asset(card, cache, progress=False))
        except DownloadError as error:
            sys.exit(str(error))
    """
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_full_disk_leaves_nothing_and_the_next_call_recovers(remote: Remote) -> None:
    limit = "resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, resource.RLIM_INFINITY))"
    process = start(remote, before=limit)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "cannot write to the cache" in error
    assert not remote.path.exists()
    assert remote.fetch().read_bytes() == CONTENT


def test_a_killed_process_leaves_a_part_that_the_next_call_resumes(remote: Remote) -> None:
    remote.serve(Answer(stall_after=2_000_000), Answer())
    process = start(remote)
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
    outputs = [process.communicate(timeout=120) for process in [start(remote) for _ in range(4)]]
    assert {output for output, _ in outputs} == {f"{remote.path}\n"}
    assert len(remote.requests) == 1
