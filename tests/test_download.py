"""The asset: every row of the fault table against a real server."""

from __future__ import annotations

import hashlib
import os
import signal
import ssl
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import trustme
from loopback import Answer, LoopbackServer

from multitasknet import DownloadError, fetch_asset, load_card
from multitasknet.hub.card import Asset, ModelCard
from multitasknet.hub.download import RetryPolicy
from multitasknet.hub.fetch import cached_path, default_cache_dir

CONTENT = os.urandom(3_000_000)
OTHER = os.urandom(3_000_000)
QUICK = RetryPolicy(rounds=2, backoff=0.01, connect_timeout=2, read_timeout=0.5)


@pytest.fixture
def card(write_card: Callable[..., Path], server: LoopbackServer) -> ModelCard:
    return load_card(write_card(server.serve("/model.ckpt", CONTENT), CONTENT))


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def fetch(card: ModelCard | Asset, cache: Path, **options) -> Path:
    return fetch_asset(card, cache, progress=False, policy=QUICK, **options)


def leftovers(cache: Path) -> list[str]:
    return [path.name for path in cache.rglob("*.part*")]


def test_a_first_fetch_stores_the_file_where_the_hub_client_looks(
    card: ModelCard, cache: Path
) -> None:
    path = fetch(card, cache)
    assert path == cache / "mindspore" / "1.7" / "model.ckpt"
    assert path.read_bytes() == CONTENT
    assert not leftovers(cache)


def test_a_second_fetch_asks_nobody(card: ModelCard, cache: Path, server: LoopbackServer) -> None:
    fetch(card, cache)
    fetch(card.asset, cache)
    fetch(card, cache, offline=True)
    assert len(server.resources["/model.ckpt"].requests) == 1


def test_a_file_copied_by_hand_is_accepted_after_a_check(card: ModelCard, cache: Path) -> None:
    path = cached_path(card.asset, cache)
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    assert fetch(card, cache, offline=True) == path


def test_a_damaged_copy_is_fetched_again(card: ModelCard, cache: Path) -> None:
    path = cached_path(card.asset, cache)
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT[:-1])
    with pytest.raises(DownloadError, match="offline"):
        fetch(card, cache, offline=True)
    assert fetch(card, cache).read_bytes() == CONTENT


def test_the_record_is_trusted_until_size_or_time_change_or_verify_asks(
    card: ModelCard, cache: Path
) -> None:
    path = fetch(card, cache)
    times = path.stat()
    path.write_bytes(OTHER)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert fetch(card, cache).read_bytes() == OTHER
    assert fetch(card, cache, verify=True).read_bytes() == CONTENT
    path.write_bytes(OTHER)
    assert fetch(card, cache).read_bytes() == CONTENT


@pytest.mark.parametrize("offline", [True, False])
def test_without_network_the_error_says_what_to_do_by_hand(
    write_card: Callable[..., Path], cache: Path, offline: bool
) -> None:
    card = load_card(write_card("http://127.0.0.1:1/model.ckpt", CONTENT))
    with pytest.raises(DownloadError) as failed:
        fetch(card, cache, offline=offline)
    for fact in (card.asset.url, str(cached_path(card.asset, cache)), card.asset.sha256):
        assert fact in str(failed.value)


@pytest.mark.parametrize(
    ("status", "requests"), [(404, 1), (403, 1), (500, QUICK.rounds), (503, QUICK.rounds)]
)
def test_an_error_status_names_url_and_status(
    card: ModelCard, cache: Path, server: LoopbackServer, status: int, requests: int
) -> None:
    server.serve("/model.ckpt", CONTENT, Answer(status))
    with pytest.raises(DownloadError, match=rf"HTTP status {status}[\s\S]*/model\.ckpt"):
        fetch(card, cache)
    assert len(server.resources["/model.ckpt"].requests) == requests


@pytest.mark.parametrize("status", [408, 425, 429, 503])
def test_a_passing_error_is_retried_when_the_server_asks(
    card: ModelCard, cache: Path, server: LoopbackServer, status: int
) -> None:
    server.serve("/model.ckpt", CONTENT, Answer(status, headers={"Retry-After": "1"}), Answer())
    start = time.monotonic()
    assert fetch(card, cache).read_bytes() == CONTENT
    assert time.monotonic() - start >= 1


def test_a_server_that_asks_for_a_day_is_not_waited_for_that_long(
    card: ModelCard, cache: Path, server: LoopbackServer
) -> None:
    server.serve("/model.ckpt", CONTENT, Answer(429, headers={"Retry-After": "86400"}), Answer())
    hasty = replace(QUICK, longest_wait=0.1)
    assert fetch_asset(card, cache, progress=False, policy=hasty).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("content", "headers", "named"),
    [
        (b"<!DOCTYPE html><p>Log in", {}, "a web page instead of the file"),
        (b"sorry", {"Content-Type": "text/html; charset=utf-8"}, "a web page instead of the file"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 3\n",
            {},
            "a Git LFS pointer instead of the file",
        ),
    ],
)
def test_what_comes_in_place_of_a_file_is_named(
    card: ModelCard,
    cache: Path,
    server: LoopbackServer,
    content: bytes,
    headers: dict[str, str],
    named: str,
) -> None:
    server.serve("/model.ckpt", content, Answer(headers=headers))
    with pytest.raises(DownloadError, match=f"wrong sha256.*{named}"):
        fetch(card, cache)
    assert not leftovers(cache)


@pytest.mark.parametrize("send_length", [True, False])
def test_a_body_of_more_than_twice_the_stated_size_is_cut_off(
    card: ModelCard, cache: Path, server: LoopbackServer, send_length: bool
) -> None:
    server.serve("/model.ckpt", CONTENT * 5, Answer(send_length=send_length))
    asset = replace(card.asset, size=len(CONTENT))
    with pytest.raises(DownloadError, match=r"larger than it may be.* at most 6,000,000 expected"):
        fetch(asset, cache)
    assert len(server.resources["/model.ckpt"].requests) == 1
    assert sum(path.stat().st_size for path in cache.rglob("*.part")) == 0


def test_a_file_beside_its_card_needs_no_network(card: ModelCard, cache: Path) -> None:
    beside = card.path.with_name("model.ckpt")
    beside.write_bytes(CONTENT)
    asset = load_card(card.path).asset
    assert fetch(asset, cache, offline=True) == beside
    assert not cache.exists(), "nothing is copied or written"
    beside.write_bytes(OTHER)
    with pytest.raises(DownloadError, match="write its card again, or move the file away"):
        fetch(asset, cache)


@pytest.mark.parametrize(
    "broken",
    [Answer(cut_after=2_000_000), Answer(stall_after=2_000_000)],
    ids=["cut", "stalled"],
)
def test_a_broken_transfer_is_resumed(
    card: ModelCard, cache: Path, server: LoopbackServer, broken: Answer
) -> None:
    server.serve("/model.ckpt", CONTENT, broken, Answer())
    assert fetch(card, cache).read_bytes() == CONTENT
    served = server.resources["/model.ckpt"]
    assert served.requests[1]["Range"].startswith("bytes=")
    assert served.served < len(CONTENT) * 1.5


def test_many_breaks_are_fine_as_long_as_each_try_gains(
    card: ModelCard, cache: Path, server: LoopbackServer
) -> None:
    server.serve("/model.ckpt", CONTENT, Answer(cut_after=1_100_000))
    assert fetch(card, cache).read_bytes() == CONTENT


def test_a_short_body_without_a_length_is_never_taken_for_the_asset(
    card: ModelCard, cache: Path, server: LoopbackServer
) -> None:
    short = Answer(cut_after=1_000_000, send_length=False)
    server.serve("/model.ckpt", CONTENT, short, Answer())
    assert fetch(card, cache).read_bytes() == CONTENT


def test_a_lasting_break_keeps_the_part_for_the_next_call(
    card: ModelCard, cache: Path, server: LoopbackServer
) -> None:
    server.serve("/model.ckpt", CONTENT, Answer(cut_after=2_000_000), Answer(503))
    with pytest.raises(DownloadError, match="is kept; the next call resumes it"):
        fetch(card, cache)
    assert not cached_path(card.asset, cache).exists()
    assert leftovers(cache)
    server.serve("/model.ckpt", CONTENT)
    assert fetch(card, cache).read_bytes() == CONTENT
    assert "Range" in server.resources["/model.ckpt"].requests[0]
    assert not leftovers(cache)


def test_a_whole_part_is_used_without_asking(
    card: ModelCard, cache: Path, server: LoopbackServer
) -> None:
    path = cached_path(card.asset, cache)
    path.parent.mkdir(parents=True)
    path.with_name("model.ckpt.part").write_bytes(CONTENT)
    assert fetch(card, cache).read_bytes() == CONTENT
    assert not server.resources["/model.ckpt"].requests


def test_a_server_that_ignores_range_makes_it_start_again(
    card: ModelCard, cache: Path, server: LoopbackServer
) -> None:
    server.serve("/model.ckpt", CONTENT, Answer(cut_after=2_000_000), Answer(honour_range=False))
    assert fetch(card, cache).read_bytes() == CONTENT


@pytest.mark.parametrize("etags", [('"old"', '"new"'), (None, None)], ids=["etag", "no validator"])
def test_a_remote_file_that_changed_is_never_mixed(
    card: ModelCard, cache: Path, server: LoopbackServer, etags: tuple[str | None, str | None]
) -> None:
    server.serve("/model.ckpt", OTHER, Answer(cut_after=2_000_000), Answer(503), etag=etags[0])
    with pytest.raises(DownloadError):
        fetch(card, cache)
    server.serve("/model.ckpt", CONTENT, etag=etags[1])
    assert fetch(card, cache).read_bytes() == CONTENT


def test_a_wrong_file_is_refused_and_leaves_nothing(
    card: ModelCard, cache: Path, server: LoopbackServer
) -> None:
    server.serve("/model.ckpt", OTHER)
    with pytest.raises(DownloadError) as failed:
        fetch(card, cache)
    assert f"expected {card.asset.sha256}" in str(failed.value)
    assert f"actual {hashlib.sha256(OTHER).hexdigest()}" in str(failed.value)
    assert not cached_path(card.asset, cache).exists()
    assert not leftovers(cache)


def test_mirrors_are_tried_in_turn(
    write_card: Callable[..., Path], cache: Path, server: LoopbackServer
) -> None:
    gone = server.url("/gone.ckpt")
    wrong = server.serve("/wrong.ckpt", OTHER)
    right = server.serve("/right.ckpt", CONTENT)
    card = load_card(write_card(gone, CONTENT, mirrors=(wrong, right)))
    assert fetch(card, cache).read_bytes() == CONTENT
    with pytest.raises(DownloadError) as failed:
        fetch(load_card(write_card(gone, CONTENT, mirrors=(wrong,))), cache / "2")
    assert "HTTP status 404" in str(failed.value)
    assert "wrong sha256" in str(failed.value)


def test_tls_is_always_verified_and_ssl_cert_file_is_honoured(
    write_card: Callable[..., Path],
    cache: Path,
    server: LoopbackServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.serve("/model.ckpt", CONTENT)
    card = load_card(write_card(server.url("/model.ckpt", "https"), CONTENT))
    for variable in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(DownloadError, match="certificate verify failed"):
        fetch(card, cache)
    certificates = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(certificates))
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates))
    assert fetch(card, cache).read_bytes() == CONTENT


def test_a_cache_that_cannot_be_written_is_named(card: ModelCard, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(DownloadError, match=r"cannot write to the cache[\s\S]*sha256 must be"):
        fetch(card, tmp_path / "file")


def test_a_read_only_cache_with_the_file_in_it_is_enough(
    card: ModelCard, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = fetch(card, cache)
    path.with_name("model.ckpt.verified.json").unlink()

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError("read-only file system")

    # Root, which runs many a CI, may write everywhere: take the right away in Python.
    monkeypatch.setattr(Path, "write_text", refuse)
    assert fetch(card, cache, offline=True) == path


def test_a_record_that_cannot_be_written_fails_no_download(card: ModelCard, cache: Path) -> None:
    cached_path(card.asset, cache).with_name("model.ckpt.verified.json").mkdir(parents=True)
    assert fetch(card, cache).read_bytes() == CONTENT
    assert fetch(card, cache, offline=True).read_bytes() == CONTENT


def run_fetch(card: ModelCard, cache: Path, before: str = "") -> subprocess.Popen[str]:
    """Fetch in a process of its own."""
    code = f"""
        import resource, signal, sys
        # A background job ignores it, and its children inherit that.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        from multitasknet import DownloadError, fetch_asset, load_card
        {before}
        try:
            print(fetch_asset(load_card({str(card.path)!r}), {str(cache)!r}, progress=False))
        except DownloadError as error:
            sys.exit(str(error))
    """
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_full_disk_leaves_nothing_and_the_next_call_recovers(
    card: ModelCard, cache: Path
) -> None:
    limit = "resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, resource.RLIM_INFINITY))"
    process = run_fetch(card, cache, before=limit)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "cannot write to the cache" in error
    assert not cached_path(card.asset, cache).exists()
    assert fetch(card, cache).read_bytes() == CONTENT


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_process_leaves_a_part_that_the_next_call_resumes(
    card: ModelCard, cache: Path, server: LoopbackServer, how: signal.Signals
) -> None:
    server.serve("/model.ckpt", CONTENT, Answer(stall_after=2_000_000), Answer())
    process = run_fetch(card, cache)
    part = cached_path(card.asset, cache).with_name("model.ckpt.part")
    deadline = time.monotonic() + 30
    while not (part.is_file() and part.stat().st_size > 500_000):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(how)
    process.communicate(timeout=30)
    assert not cached_path(card.asset, cache).exists()
    assert fetch(card, cache).read_bytes() == CONTENT
    assert "Range" in server.resources["/model.ckpt"].requests[1]


def test_eight_processes_download_once(
    card: ModelCard, cache: Path, server: LoopbackServer
) -> None:
    processes = [run_fetch(card, cache) for _ in range(8)]
    outputs = [process.communicate(timeout=120) for process in processes]
    assert {output for output, _ in outputs} == {f"{cached_path(card.asset, cache)}\n"}
    assert len(server.resources["/model.ckpt"].requests) == 1


def test_the_default_cache_is_the_hubs_own_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert default_cache_dir() == Path.home() / ".mscache"
    monkeypatch.setenv("MULTITASKNET_CACHE", str(tmp_path / "mine"))
    assert default_cache_dir() == tmp_path / "mine"


def test_what_is_no_card_is_refused(cache: Path) -> None:
    with pytest.raises(TypeError, match="ModelCard or an Asset, not str"):
        fetch_asset("card.md", cache)


def test_what_one_url_began_another_goes_on_with(
    write_card: Callable[..., Path], cache: Path, server: LoopbackServer
) -> None:
    right = server.serve("/right.ckpt", CONTENT)
    for name, begun in (("half", CONTENT), ("wrong", OTHER)):
        url = server.serve(f"/{name}.ckpt", begun, Answer(cut_after=2_000_000), Answer(503))
        served = server.resources["/right.ckpt"].served
        card = load_card(write_card(url, CONTENT, mirrors=(right,)))
        assert fetch(card, cache / name).read_bytes() == CONTENT
        served = server.resources["/right.ckpt"].served - served
        assert (served < len(CONTENT)) == (begun == CONTENT), name
