"""The server: its answers, its limits, and what it does with mistakes and attacks."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import httpx
import numpy as np
import psutil
import pytest
import stores
from conftest import ASSETS
from PIL import Image
from served import Served, serving, until_true

from multitasknet import Calibration, Predictor, compare
from multitasknet.cli import main
from multitasknet.errors import GalleryError, OutputError
from multitasknet.gallery.gallery import Gallery
from multitasknet.server.guard import Limits
from multitasknet.server.process import listen, read_token, serve
from multitasknet.server.service import CropIds, Service

QUERY = ASSETS / "demo" / "query" / "0011_c006_00000240_1.jpg"
OTHER = ASSETS / "demo" / "query" / "0012_c003_00000156_0.jpg"
CROP = "0011_c001_00000531_4.jpg"
# No connection is used twice, since servers close them when they like.
CLIENT = httpx.Client(timeout=60, limits=httpx.Limits(max_keepalive_connections=0))
HEAD = "POST /api/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/jpeg\r\n"


def post(
    served: Served, path: str, *files: Path | tuple[str, bytes], form: Any = None, **query: Any
) -> httpx.Response:
    """Files and other fields as a form, the rest in the query."""
    named = [(one.name, one.read_bytes()) if isinstance(one, Path) else one for one in files]
    images = [("images", one) for one in named] or None
    return CLIENT.post(f"{served.url}/api/{path}", files=images, data=form, params=query)


def picture(kind: str) -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


JPEG = picture("JPEG")
ONE = ("a.jpg", JPEG)
CUT = ("cut.jpg", JPEG[:-200])


def bomb(side: int) -> tuple[str, bytes]:
    """The head of a BMP of that many pixels a side."""
    sizes = (54, 0, 0, 54, 40, side, side, 1, 24, 0, 0, 0, 0, 0, 0)
    return "b.bmp", b"BM" + struct.pack("<IHHIIiiHHIIiiII", *sizes)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A store of pictures of one colour each, and a predictor that takes no time."""
    folder = tmp_path_factory.mktemp("small")
    predictor, store = stores.PixelPredictor(), folder / "city.lance"
    Gallery.create(store, predictor).add(predictor, stores.draw(folder, 20), progress=False)
    with serving(Service(predictor, Gallery(store))) as running:
        yield running


def again(served: Served, gallery: Any = None) -> Service:
    """The same predictor for another server."""
    return Service(served.service.predictor, gallery or served.service.gallery)


# Answers


def test_predictions_and_comparisons_are_those_of_python(served, monkeypatch) -> None:
    predictor: Predictor = served.service.predictor
    expected = compare(predictor, QUERY, OTHER)
    found = post(served, "predict", QUERY, OTHER).json()["predictions"]
    raw = {"content": OTHER.read_bytes(), "headers": {"Content-Type": "image/jpeg"}}
    found += CLIENT.post(f"{served.url}/api/predict", **raw).json()["predictions"]
    for one, other in zip(found, (expected.first, *[expected.second] * 2), strict=True):
        assert (one["color"], one["type"]) == (other.color, other.type)
        np.testing.assert_allclose(one["embedding"], other.embedding, rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(one["pose"]["keypoints"], other.pose.keypoints, 1e-3, 1e-2)
    assert [one["image"] for one in found] == [QUERY.name, OTHER.name, "image"]
    facts = "our yard", "ab" * 32, predictor.size, "none", "float32"
    calibration = Calibration((99.0, -1, 0), 5.0, 9, 99, *facts)
    for known, likely in ((None, (None, None)), (calibration, (0.99, "our yard"))):
        monkeypatch.setattr(predictor, "calibration", known)
        found = post(served, "compare", QUERY, OTHER).json()
        assert (found["probability"], found["measured_on"]) == likely
    assert found["distance"] == pytest.approx(expected.distance, rel=1e-2)
    assert [found[name]["image"] for name in ("first", "second")] == [QUERY.name, OTHER.name]
    assert any(part.seen_in_both for part in expected.parts)
    for one, part in zip(found["parts"], expected.parts, strict=True):
        assert one["contribution"] == pytest.approx(part.contribution, abs=1e-3)


def test_search_finds_and_filters(served: Served) -> None:
    def search(**query: Any) -> list[dict[str, Any]]:
        (result,) = post(served, "search", QUERY, **query).json()["results"]
        return result["matches"]

    found = search(top=5)
    distances = [match["distance"] for match in found]
    assert [match["rank"] for match in found] == [1, 2, 3, 4, 5] and distances == sorted(distances)
    filtered = search(top=60, cameras=["5", "9"], colors="black")
    assert {match["camera"] for match in filtered} == {"5", "9"}
    assert {match["color"] for match in filtered} == {"black"}
    near = search(max_distance=distances[1])
    assert [match["distance"] for match in near] == pytest.approx(distances[:2], rel=1e-4)
    # A colour that the network knows is right, also where no crop has it.
    known, present = served.service.predictor.spec, served.service.gallery.facets
    absent = min(set(known.color_names) - set(present.colors))
    for nothing in ({"max_distance": 0}, {"colors": absent}, {"not_after": "1999-01-01"}):
        assert search(**nothing) == []
    for wrong, said in (
        ({"cameras": ["1", "c001"]}, "'c001'.*the gallery has 1, 2, 3"),
        ({"colors": "Red"}, "'Red'.*red"),
        ({"types": "spaceship"}, "'spaceship'.*suv"),
    ):
        answer = post(served, "search", QUERY, **wrong)
        assert answer.status_code == 400 and re.search(said, answer.json()["detail"])


def test_embeddings_and_crops_search_without_the_network(served, monkeypatch) -> None:
    def found(answer: httpx.Response) -> list[list[str]]:
        results = answer.json()["results"]
        return [[match["id"] for match in result["matches"]] for result in results]

    (prediction,) = post(served, "predict", QUERY).json()["predictions"]
    by_picture = found(post(served, "search", QUERY, top=10))
    monkeypatch.setattr(served.service.predictor, "predict", None)
    text, url = json.dumps([prediction["embedding"]] * 64), f"{served.url}/api/search"
    assert found(CLIENT.post(url, data={"embeddings": text})) == by_picture * 64
    # As curl sends what is in a file.
    assert found(CLIENT.post(url, files={"embeddings": ("e.json", text)})) == by_picture * 64
    large = CLIENT.post(url, files={"embeddings": ("e.json", "[" * 5_000_000)})
    assert large.status_code == 413 and large.json()["field"] == "embeddings"
    assert len(found(post(served, "search", ids=CROP, top=60))[0]) == 59, "not the crop itself"


def test_a_gallery_of_other_weights_is_not_searched(tmp_path: Path) -> None:
    predictor, store = stores.PixelPredictor(), tmp_path / "city.lance"
    pictures = stores.draw(tmp_path, 3)
    gallery = Gallery.create(store, predictor)
    gallery.add(predictor, pictures, progress=False)
    with serving(Service(predictor, Gallery(store))) as running:
        assert post(running, "search", pictures[0]).status_code == 200
        others = stores.PixelPredictor("cd" * 32)
        gallery.add(others, pictures[:1], reembed=True, progress=False)
        answers = [post(running, path, *pictures[:2]) for path in ("search", "compare")]
        for answer in (*answers, CLIENT.get(f"{running.url}/api/vehicles")):
            assert answer.status_code == 500 and str(tmp_path) not in answer.text
            assert "no longer fits this server's weights" in answer.json()["detail"]


REFUSED = [
    ("GET /gallery/../query/0011_c006_00000240_1.jpg", "", 404),
    ("GET /gallery/..%2Fquery%2F0011_c006_00000240_1.jpg", "", 404),
    ("GET /gallery//etc/passwd", "", 404),
    ("GET /gallery/%2Fetc%2Fpasswd", "", 404),
    ("GET /gallery/%00", "", 404),
    ("GET /static/..%2Fapi.py", "", 404),
    ("GET /api/predict", "", 405),
    ("GET /api/vehicles?skip=1000000000000", "", 400),
    ("POST /api/predict", "Content-Type: application/json\r\nContent-Length: 2", 415),
    ("POST /api/predict", "Content-Length: 33554433", 413),
]


@pytest.mark.parametrize(("line", "header", "status"), REFUSED)
def test_places_methods_and_bodies_that_are_refused(served, line, header, status) -> None:
    # As it is: a client would tidy the path up.
    text = f"{line} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n{header}\r\n\r\n{{}}"
    with connections(served, 1, text) as (caller,):
        assert rest(caller).startswith(f"HTTP/1.1 {status}".encode())


def test_a_picture_that_no_browser_shows_is_sent_as_jpeg(tmp_path: Path) -> None:
    (path,), predictor = stores.draw(tmp_path, 1), stores.PixelPredictor()
    Image.open(path).save(tmp_path / "a.tif")
    gallery = stores.open_gallery()
    gallery.add(predictor, [tmp_path / "a.tif"], progress=False)
    with serving(Service(predictor, gallery)) as running:
        (shown,) = CLIENT.get(f"{running.url}/api/gallery").json()["examples"]
        url = f"{running.url}/gallery/{shown['id']}"
        assert Image.open(io.BytesIO(CLIENT.get(url).content)).format == "JPEG"
        (tmp_path / "a.tif").unlink()
        for gone in (CLIENT.get(url), post(running, "predict", ids=shown["id"])):
            assert gone.status_code == 410 and str(tmp_path) not in gone.text


def test_ids_show_no_path_of_the_server_and_are_always_text() -> None:
    ids = CropIds()
    for plain in ("a.jpg", "cam 1/ä.jpg", "42"):
        assert ids.shown(plain) == plain == ids.own(plain)
    for own in ("/srv/a.jpg", "../a.jpg", "C:\\a.jpg", "s3://b/a.jpg", "a\udcff.jpg", "a\n", ""):
        shown = ids.shown(own)
        assert re.fullmatch("[0-9a-f]{32}", shown) and ids.own(shown) == own
        with pytest.raises(KeyError):
            ids.own(own)


def test_an_error_of_the_server_shows_no_path(small, monkeypatch) -> None:
    error = OutputError("/srv/secret/city.lance: cannot be written")
    monkeypatch.setattr("multitasknet.gallery.journeys.pin", Mock(side_effect=error))
    answer = CLIENT.post(f"{small.url}/api/vehicles", json={"ids": ["a"]})
    assert answer.status_code == 500 and "secret" not in answer.text
    # Nor does a gallery that is damaged, which is no mistake of the caller.
    error = GalleryError("/srv/secret/city.lance: the gallery cannot be read")
    monkeypatch.setattr("multitasknet.gallery.journeys.vehicles", Mock(side_effect=error))
    answer = CLIENT.get(f"{small.url}/api/vehicles")
    assert answer.status_code == 500 and "secret" not in answer.text


def test_pages_and_health(served: Served) -> None:
    for place in ("/readyz", f"/gallery/{CROP}", "/", "/docs", "/vehicles", "/static/page.js"):
        head, page = (CLIENT.request(method, served.url + place) for method in ("HEAD", "GET"))
        assert (head.status_code, page.status_code) == (200, 200)
        assert page.content and not head.content
        assert "default-src 'none'" in page.headers["content-security-policy"]


# Mistakes

BAD: list[tuple[str, list[Any], dict[str, Any], int, str | None]] = [
    ("predict", [("note.jpg", b"no picture")], {}, 400, "images[0]"),
    ("predict", [("a.gif", picture("GIF"))], {}, 400, "images[0]"),
    ("predict", [ONE, CUT], {}, 400, "images[1]"),
    ("predict", [ONE, bomb(40_000)], {}, 413, "images[1]"),
    ("predict", [bomb(5000)], {}, 413, "images[0]"),
    ("predict", [bomb(3900)] * 5, {}, 413, "images[4]"),
    ("predict", [ONE] * 65, {}, 400, "images"),
    ("predict", [ONE], {"form": {"place": "/etc/passwd"}}, 400, "place"),
    ("predict", [ONE], {"speed": 3}, 400, "speed"),
    ("predict", [], {"ids": "../secret"}, 404, "ids[0]"),
    ("predict", [], {}, 400, "images"),
    ("predict", [], {"form": {"embeddings": "[[1.0]]"}}, 400, "embeddings"),
    ("compare", [ONE], {}, 400, "images"),
    ("search", [ONE], {"top": 0}, 400, "top"),
    ("search", [ONE], {"max_distance": "nan"}, 400, "max_distance"),
    ("search", [ONE], {"not_after": "2024-01-01T00:00:00Z"}, 400, "not_after"),
    ("search", [], {"form": {"embeddings": "[[1.0]]"}}, 400, "embeddings[0]"),
    ("search", [], {"form": {"embeddings": "[[1e300]]"}}, 400, "embeddings[0][0]"),
    ("search", [], {"form": {"embeddings": "[" * 30_000}}, 400, "embeddings"),
    ("search", [], {}, 400, "images"),
]


@pytest.mark.parametrize(("path", "files", "options", "status", "field"), BAD)
def test_a_mistake_is_a_problem_that_names_field_and_file(
    small, path, files, options, status, field
) -> None:
    answer = post(small, path, *files, **options)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status and problem["detail"] and problem["field"] == field
    place = re.fullmatch(r"images\[(\d)\]", field)
    assert problem.get("file") == (files[int(place[1])][0] if place and files else None)


def test_a_body_without_a_stated_length_is_limited(small: Served) -> None:
    endless = (b"[" * 65536 for _ in range(10_000))
    # The connection may be closed while it is being sent.
    with suppress(httpx.TransportError):
        assert CLIENT.post(f"{small.url}/api/predict", content=endless).status_code == 413


def test_every_documented_format_is_read(small: Served) -> None:
    files = [(kind, picture(kind)) for kind in ("JPEG", "PNG", "WEBP", "BMP")]
    assert len(post(small, "predict", *files).json()["predictions"]) == 4


# Batches and the token


def test_callers_at_one_time_share_batches_and_are_answered_rightly(small, monkeypatch) -> None:
    predictor = small.service.predictor
    predict, sizes = predictor.predict, []

    def counted(pictures: Any, keypoints: Any) -> Any:
        sizes.append(len(pictures))
        time.sleep(0.05)
        return predict(pictures, keypoints)

    def answer(path: Path | tuple[str, bytes]) -> Any:
        found = post(small, "predict", path).json()
        return found["predictions"][0]["embedding"] if "predictions" in found else found["file"]

    paths = [QUERY, OTHER, CUT]
    expected = [answer(path) for path in paths]
    assert expected[2] == "cut.jpg"
    monkeypatch.setattr(predictor, "predict", counted)
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(answer, paths * 16)) == expected * 16
    assert 1 < max(sizes) <= predictor.batch_size


def test_the_token_is_asked_for(small: Served, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("a-long-secret\nand a note\n")
    with serving(again(small), token=read_token(tmp_path / "token")) as guarded:
        right, wrong = ({"Authorization": f"Bearer {one}"} for one in ("a-long-secret", "other"))
        gallery, login = f"{guarded.url}/api/gallery", f"{guarded.url}/api/token"
        for headers, status in (({}, 401), (wrong, 401), (right, 200)):
            assert CLIENT.get(gallery, headers=headers).status_code == status
        assert CLIENT.get(f"{guarded.url}/gallery/a").status_code == 401
        for place in ("/", "/readyz", "/static/page.js"):
            assert CLIENT.get(guarded.url + place).status_code == 200
        assert CLIENT.post(login, headers=wrong).status_code == 401
        answer = CLIENT.post(login, headers=right)
        # Other applications on this host have cookies, too, not all of them well-formed.
        own = answer.headers["set-cookie"].partition(";")[0]
        for cookies in (own, f'[]={{"a"}}; {own}', f"{own}; a@b=c d", f"lonely; {own}"):
            assert CLIENT.get(gallery, headers={"Cookie": cookies}).status_code == 200


# Limits and deadlines, with real sockets


def rest(connection: socket.socket) -> bytes:
    """What comes until the connection is closed, however."""
    received = b""
    with suppress(ConnectionError):
        while part := connection.recv(65536):
            received += part
    return received


@contextmanager
def connections(served: Served, count: int, text: str) -> Iterator[list[socket.socket]]:
    """Callers who send this and no more."""
    address = "127.0.0.1", int(served.url.rpartition(":")[2])
    with ExitStack() as stack:
        every = [socket.create_connection(address, timeout=20) for _ in range(count)]
        for one in every:
            stack.enter_context(one).sendall(text.encode())
        yield every


@pytest.fixture(scope="module")
def hasty(small: Served) -> Iterator[Served]:
    """A server of little patience."""
    limits = Limits(requests=20, head_seconds=0.4, body_seconds=1, stalled_seconds=0.4)
    with serving(again(small), limits=limits) as one:
        yield one


@pytest.mark.parametrize(
    "text", ["", "GET /readyz HTTP/1.1\r\nX-a: ", HEAD, HEAD + "Content-Length: 99\r\n\r\n{"]
)
def test_silent_and_slow_callers_stop_nobody_and_are_let_go(hasty: Served, text: str) -> None:
    with connections(hasty, 60, text) as every:
        # At once, or when those that were let go have ended.
        until_true(lambda: CLIENT.get(f"{hasty.url}/readyz").status_code == 200, 3)
        start = time.monotonic()
        with suppress(OSError):
            while time.monotonic() - start < 5:
                every[-1].sendall(b"a")
                time.sleep(0.1)
        answers = [rest(one) for one in every[:-1]]
        assert time.monotonic() - start < 4
    expected = {b"408", b"503"} if "Length" in text else set()
    assert {one[9:12] for one in answers} <= {b"", *expected}


def test_who_keeps_asking_is_answered_at_once_and_not_let_go(hasty: Served) -> None:
    sockets, times = set(), []
    with httpx.Client(base_url=hasty.url) as client:
        begun = time.monotonic()
        while time.monotonic() - begun < 1:
            answer = client.get("/readyz")
            times.append(answer.elapsed.total_seconds())
            sockets.add(answer.extensions["network_stream"].get_extra_info("client_addr"))
            time.sleep(0.02)
    # A head and a body that wait for an acknowledgement between them take 40 ms.
    assert len(sockets) == 1 and np.median(times) < 0.03


def test_who_reads_no_answer_is_let_go(small: Served, tmp_path: Path) -> None:
    large = tmp_path / "large.jpg"  # larger than what sockets hold
    large.write_bytes(bytes(20 << 20))
    gallery, asked = Mock(), "GET /gallery/large HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    gallery.row.return_value = Mock(image=large, box=None)
    hasty = serving(again(small, gallery), limits=Limits(answer_seconds=0.3))
    with hasty as one, connections(one, 1, asked) as (caller,):
        time.sleep(1.5)
        answer = rest(caller)
    assert answer.startswith(b"HTTP/1.1 200") and len(answer) < 20 << 20


def test_small_bodies_pass_beside_large_ones_that_wait(small: Served) -> None:
    limits = Limits(body=1 << 20, small_body=1 << 16, large_bodies=2, body_seconds=3)
    text = HEAD + "Content-Length: 1000000\r\n\r\n" + "a" * 100_000
    with serving(again(small), limits=limits) as one:
        with connections(one, 6, text) as every:
            assert post(one, "predict", ONE).status_code == 200
            answers = [rest(caller)[9:12] for caller in every]
        assert set(answers) == {b"408", b"503"}
        large = ("large.png", JPEG + bytes(200_000))
        assert post(one, "predict", large).status_code == 200, "the turns are free again"


def test_the_end_answers_those_who_took_too_long(small, caplog) -> None:
    service, asked = again(small), threading.Event()

    async def predict(_: Any) -> None:
        asked.set()
        await asyncio.sleep(60)

    service.predict = predict
    with ThreadPoolExecutor(1) as pool:
        with serving(service, limits=Limits(drain_seconds=0.3)) as ending:
            answer = pool.submit(post, ending, "predict", QUERY)
            assert asked.wait(20)
        problem = answer.result(20)
    assert problem.status_code == 503 and "shutting down" in problem.json()["detail"]
    assert not [record for record in caplog.records if record.exc_info]


# The command


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--gallery", "nowhere"], "nowhere"),
        (["--token-file", "missing.txt"], "missing.txt: No such file"),
        (["--token-file", os.devnull], "expected 8 or more letters"),
        (["--host", "203.0.113.1"], "cannot listen on 203.0.113.1:0"),
        (["--port", "80000"], "--port from 0 to 65535"),
    ],
)
def test_mistakes_of_the_command_come_before_the_weights(
    options, said, capsys, monkeypatch
) -> None:
    load = Mock()
    monkeypatch.setattr("multitasknet.cli.serve.make_predictor", load)
    assert main(["serve", "--port", "0", *options]) == 2
    assert said in capsys.readouterr().err
    assert load.called == ("--gallery" in options)


@pytest.mark.parametrize(
    ("host", "is_local"),
    [("127.0.0.1", True), ("127.0.0.2", True), ("::1", True), ("0.0.0.0", False)],
)
def test_hosts_are_checked_on_this_machine_and_others_warned_of(
    host, is_local, small, caplog, monkeypatch
) -> None:
    with serving(again(small), host) as one:
        for name, right in ((None, True), ("evil.example", not is_local), ("localhost:80", True)):
            headers = {} if name is None else {"Host": name}
            url = one.url.replace("0.0.0.0", "127.0.0.1")
            answer = CLIENT.get(f"{url}/readyz", headers=headers)
            assert answer.status_code == (200 if right else 400)
    monkeypatch.setattr("uvicorn.Server.run", lambda *_, **__: None)
    with listen(host, 0) as listening:
        serve(again(small), listening, host, None)
    assert is_local != ("set --token-file" in caplog.text)


@pytest.mark.slow
def test_the_process_keeps_its_memory_and_finishes_what_is_running(served: Served) -> None:
    arguments = [sys.executable, "-m", "multitasknet", "serve", "--gallery", "demo", "--port", "0"]
    environment = os.environ | {"MULTITASKNET_CACHE": str(served.cache)}
    with ExitStack() as stack:
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        process = stack.enter_context(subprocess.Popen(arguments, env=environment, **pipes))
        stack.callback(process.kill)
        lines = [process.stdout.readline() for _ in range(4)]
        assert "60 crops" in lines[1], lines
        running = Served(lines[2].split()[1].rstrip("/"), None)
        memory = psutil.Process(process.pid).memory_info().rss
        with connections(running, 60, HEAD + "Content-Length: 31000000\r\n\r\n") as every:
            for one in every:
                one.setblocking(False)
                with suppress(BlockingIOError):
                    while one.send(bytes(1 << 20)):
                        pass
            assert CLIENT.get(f"{running.url}/readyz").status_code == 200
            assert psutil.Process(process.pid).memory_info().rss - memory < 300 << 20
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(post, running, "predict", *[QUERY] * 32)
            time.sleep(0.5)
            process.send_signal(signal.SIGTERM)
            assert len(asked.result().json()["predictions"]) == 32
        assert process.wait(60) == 128 + signal.SIGTERM
        assert "Traceback" not in process.stderr.read()
