"""The server: its answers, its limits, and what it does with mistakes and attacks."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import re
import signal
import socket
import statistics
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
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from served import Served, serving, until_true

from multitasknet import Calibration, Predictor, compare
from multitasknet.cli import main
from multitasknet.errors import OutputError
from multitasknet.gallery.gallery import Gallery
from multitasknet.runtime import usable_cores
from multitasknet.server.api import create_app
from multitasknet.server.guard import Limits
from multitasknet.server.problems import ProblemError
from multitasknet.server.process import listen, make_server, serve
from multitasknet.server.service import CropIds, Service

QUERY = ASSETS / "demo" / "query" / "0011_c006_00000240_1.jpg"
OTHER = ASSETS / "demo" / "query" / "0012_c003_00000156_0.jpg"
CROP = "0011_c001_00000531_4.jpg"
SECOND = "0012_c002_00000447_3.jpg"
# Which takes long to make; no connection is used twice, since servers close them when they like.
CLIENT = httpx.Client(timeout=60, limits=httpx.Limits(max_keepalive_connections=0))
fuzz = settings(
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


def post(
    served: Served, path: str, *files: Path | tuple[str, bytes], form: Any = None, **query: Any
) -> httpx.Response:
    """Files and other fields as a form, the rest in the query."""
    named = [(one.name, one.read_bytes()) if isinstance(one, Path) else one for one in files]
    return CLIENT.post(
        served.url + path,
        files=[("images", one) for one in named] or None,
        data=form,
        params=query,
    )


def post_raw(served: Served, path: str, content: Any, kind: str = "image/jpeg") -> httpx.Response:
    headers = {"Content-Type": kind}
    return CLIENT.post(served.url + path, content=content, headers=headers)


def picture(kind: str) -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


JPEG = picture("JPEG")
ONE = ("a.jpg", JPEG)


def bomb(side: int) -> bytes:
    """The head of a BMP of that many pixels a side."""
    sizes = (54, 0, 0, 54, 40, side, side, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHIIiiHHIIiiII", *sizes)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A store of pictures of one colour each, and a predictor that takes no time."""
    folder = tmp_path_factory.mktemp("small")
    predictor, store = stores.PixelPredictor(), folder / "city.lance"
    pictures = stores.draw(folder / "crops", 20)
    Gallery.create(store, predictor).add(predictor, pictures, progress=False)
    with serving(Service(predictor, Gallery(store))) as running:
        yield running


def again(served: Served, gallery: Any = None) -> Service:
    """The same predictor for another server."""
    return Service(served.service.predictor, gallery or served.service.gallery)


# Answers


def test_predictions_are_those_of_python(served: Served) -> None:
    predictor: Predictor = served.service.predictor
    expected = [one.as_json() for one in predictor.predict([QUERY, OTHER])]
    found = post(served, "/api/predict", QUERY, OTHER).json()["predictions"]
    found += post_raw(served, "/api/predict", OTHER.read_bytes()).json()["predictions"]
    for one, other in zip(found, [*expected, expected[1]], strict=True):
        assert set(other) < set(one)
        assert one["color"] == other["color"] and one["type"] == other["type"]
        np.testing.assert_allclose(one["embedding"], other["embedding"], rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(
            one["pose"]["keypoints"], other["pose"]["keypoints"], rtol=1e-3, atol=1e-2
        )
    assert [one["image"] for one in found] == [QUERY.name, OTHER.name, "image"]
    assert (found[0]["width"], found[0]["height"]) == Image.open(QUERY).size
    files = [(kind, picture(kind)) for kind in ("JPEG", "PNG", "WEBP", "BMP")]
    found = post(served, "/api/predict", *files).json()["predictions"]
    assert [(one["image"], one["width"]) for one in found] == [(kind, 32) for kind, _ in files]


def test_a_comparison_is_that_of_python(served: Served) -> None:
    expected = compare(served.service.predictor, QUERY, OTHER).as_json()
    found = post(served, "/api/compare", QUERY, OTHER).json()
    assert found["distance"] == pytest.approx(expected["distance"], rel=1e-2)
    assert [found[name]["image"] for name in ("first", "second")] == [QUERY.name, OTHER.name]
    assert found["agreement"] == expected["agreement"]
    assert any(one["seen_in_both"] for one in expected["parts"])
    for one, other in zip(found["parts"], expected["parts"], strict=True):
        assert one["surface"] == other["surface"]
        assert one["contribution"] == pytest.approx(other["contribution"], abs=1e-3)


def test_a_probability_is_only_the_users_own_and_never_certain(served, monkeypatch) -> None:
    def answers() -> Iterator[tuple[float | None, str | None]]:
        one = post(served, "/api/compare", ids=[CROP, SECOND]).json()
        found = post(served, "/api/search", ids=CROP).json()
        yield one["probability"], one["measured_on"]
        for match in found["results"][0]["matches"]:
            yield match["probability"], found["measured_on"]

    assert set(answers()) == {(None, None)}
    about = CLIENT.get(f"{served.url}/api/gallery").json()
    assert about["calibration"] is None
    assert about["rates"]["about"] == (
        "No rates of strangers: 60 rows; rates of strangers take 200 or more."
    )
    predictor = served.service.predictor
    facts = "our yard", "ab" * 32, predictor.size, "none", "float32"
    calibration = Calibration((99.0, -1.0, 0.0), 5.0, 9, 99, *facts)
    monkeypatch.setattr(predictor, "calibration", calibration)
    assert set(answers()) == {(0.99, "our yard")}


def test_search_finds_filters_and_leaves_the_crop_itself_out(served: Served) -> None:
    def search(*files: Path, **query: Any) -> list[dict[str, Any]]:
        (result,) = post(served, "/api/search", *files, **query).json()["results"]
        return result["matches"]

    found = search(QUERY, top=5)
    distances = [match["distance"] for match in found]
    assert [match["rank"] for match in found] == [1, 2, 3, 4, 5] and distances == sorted(distances)
    assert {"id", "name", "camera", "time", "color", "type"} < set(found[0])
    own = search(ids=CROP, top=60)
    assert len(own) == 59 and CROP not in {match["id"] for match in own}
    filtered = search(QUERY, top=60, cameras=["5", "9"], colors="black")
    assert {match["camera"] for match in filtered} == {"5", "9"}
    assert {match["color"] for match in filtered} == {"black"}
    near = search(QUERY, top=60, max_distance=distances[1])
    assert [match["distance"] for match in near] == pytest.approx(distances[:2], rel=1e-4)
    # A colour that the network knows is right, also where no crop has it.
    known, present = served.service.predictor.spec, served.service.gallery.facets
    absent = min(set(known.color_names) - set(present.colors))
    for nothing in ({"max_distance": 0}, {"colors": absent}, {"not_after": "1999-01-01"}):
        assert search(ids=CROP, **nothing) == []
    for wrong, unknown, there_is in (
        ({"cameras": ["1", "c001"]}, "'c001' among its cameras", "the gallery has 1, 2, 3"),
        ({"colors": "Red"}, "'Red' among its colors", "red"),
        ({"types": "spaceship"}, "'spaceship' among its types", "suv"),
    ):
        answer = post(served, "/api/search", ids=CROP, **wrong)
        detail = answer.json()["detail"]
        assert answer.status_code == 400 and unknown in detail and there_is in detail


def test_embeddings_and_crops_search_without_the_network(served, monkeypatch) -> None:
    (prediction,) = post(served, "/api/predict", QUERY).json()["predictions"]
    (by_picture,) = post(served, "/api/search", QUERY, top=3).json()["results"]
    monkeypatch.setattr(served.service.predictor, "predict", None)
    text = json.dumps([prediction["embedding"]] * 64)
    url = f"{served.url}/api/search"
    # As a field and, as curl sends what is in a file, as a file.
    for how in ({"data": {"embeddings": text}}, {"files": {"embeddings": ("e.json", text)}}):
        found = CLIENT.post(url, params={"top": 3}, **how).json()["results"]
        assert len(found) == 64
        for one in found:
            assert [match["id"] for match in one["matches"]] == [
                match["id"] for match in by_picture["matches"]
            ]
    (by_crop,) = post(served, "/api/search", ids=CROP, top=3).json()["results"]
    assert by_crop["query"] == CROP
    large = CLIENT.post(url, files={"embeddings": ("e.json", "[" * 5_000_000)})
    assert large.status_code == 413 and large.json()["field"] == "embeddings"


def test_a_gallery_of_other_weights_is_not_searched(tmp_path: Path) -> None:
    predictor, store = stores.PixelPredictor(), tmp_path / "city.lance"
    pictures = stores.draw(tmp_path, 3)
    gallery = Gallery.create(store, predictor)
    gallery.add(predictor, pictures, progress=False)
    with serving(Service(predictor, Gallery(store))) as running:
        assert post(running, "/api/search", pictures[0]).status_code == 200
        others = stores.PixelPredictor("cd" * 32)
        gallery.add(others, pictures[:1], reembed=True, progress=False)
        for answer in (
            post(running, "/api/search", pictures[0]),
            post(running, "/api/compare", *pictures[:2]),
            CLIENT.get(f"{running.url}/api/vehicles"),
        ):
            assert answer.status_code == 500
            assert "no longer fits this server's weights" in answer.json()["detail"]


def test_only_pictures_of_the_gallery_are_sent(served: Served) -> None:
    good = CLIENT.get(f"{served.url}/gallery/{CROP}")
    assert good.content == (ASSETS / "demo" / "gallery" / CROP).read_bytes()
    assert good.headers["content-type"] == "image/jpeg"
    for place in (
        "/gallery/../query/0011_c006_00000240_1.jpg",
        "/gallery/..%2Fquery%2F0011_c006_00000240_1.jpg",
        "/gallery//etc/passwd",
        "/gallery/%2Fetc%2Fpasswd",
        "/gallery/",
        "/static/../api.py",
        "/static/..%2Fapi.py",
        "/static/%2e%2e/api.py",
        "/gallery/%00",
    ):
        # A client would tidy the path up.
        head = f"GET {place} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
        assert raw(served, head).startswith(b"HTTP/1.1 404"), place


def test_pictures_that_no_browser_shows_are_sent_as_jpeg(tmp_path, monkeypatch) -> None:
    now: list[int] = []
    counts: list[int] = []

    def counted(*_: object) -> bytes:
        now.append(1)
        counts.append(len(now))
        time.sleep(0.02)
        now.pop()
        return b""

    (path,), predictor = stores.draw(tmp_path, 1), stores.PixelPredictor()
    Image.open(path).save(tmp_path / "a.tif")
    gallery = stores.open_gallery()
    gallery.add(predictor, [tmp_path / "a.tif"], progress=False)
    with serving(Service(predictor, gallery)) as running:
        (shown,) = CLIENT.get(f"{running.url}/api/gallery").json()["examples"]
        url = f"{running.url}/gallery/{shown['id']}"
        answer = CLIENT.get(url)
        monkeypatch.setattr("multitasknet.server.api._as_jpeg", counted)
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(CLIENT.get, [url] * 32))
    assert len(counts) == 32 and max(counts) <= usable_cores(), "of large ones few are in memory"
    assert answer.headers["content-type"] == "image/jpeg"
    assert Image.open(io.BytesIO(answer.content)).size == Image.open(path).size


def test_ids_show_no_path_of_the_server_and_are_always_text(monkeypatch) -> None:
    ids = CropIds()
    for plain in ("a.jpg", "cam 1/ä.jpg", "42"):
        assert ids.shown(plain) == plain == ids.own(plain)
    paths = "/srv/crops/a.jpg", "../a.jpg", "C:\\a.jpg", "s3://b/a.jpg"
    for own in (*paths, "a\udcff.jpg", "a\n", ""):
        shown = ids.shown(own)
        assert re.fullmatch("[0-9a-f]{32}", shown) and ids.own(shown) == own
        with pytest.raises(KeyError):
            ids.own(own)
    monkeypatch.setattr("multitasknet.server.service._MOST_REPLACED", 2)
    few = CropIds()
    first, second, _, third = (few.shown(f"/{name}") for name in "abac")
    assert (few.own(first), few.own(third)) == ("/a", "/c"), "the last ones that were shown"
    assert few.own(second) == second


def test_an_error_of_the_server_shows_no_path(small, monkeypatch) -> None:
    def pin(*_: object) -> None:
        raise OutputError("/srv/secret/city.lance: cannot be written")

    monkeypatch.setattr("multitasknet.gallery.journeys.pin", pin)
    answer = CLIENT.post(f"{small.url}/api/vehicles", json={"ids": ["a"]})
    assert answer.status_code == 500 and "secret" not in answer.text


def test_pages_and_health(served: Served) -> None:
    total = 0
    pages = ("/", "/docs", "/vehicles", "/static/page.js", "/static/page.css", "/static/docs.js")
    for place in ("/healthz", "/readyz", f"/gallery/{CROP}", *pages):
        head, page = (CLIENT.request(method, served.url + place) for method in ("HEAD", "GET"))
        assert (head.status_code, page.status_code) == (200, 200)
        assert page.content and not head.content
        assert not re.search(r"(src|href)=\"(https?:)?//", page.text), "from another host"
        assert "default-src 'none'" in page.headers["content-security-policy"]
        total += len(page.content)
    assert total < 150_000
    paths = CLIENT.get(f"{served.url}/openapi.json").json()["paths"]
    for name in ("predict", "search", "compare"):
        content = paths[f"/api/{name}"]["post"]["requestBody"]["content"]
        assert set(content) == {"multipart/form-data", "image/*"}


# Mistakes

BAD: dict[str, Any] = {
    "no picture": ([("note.jpg", b"no picture")], {}, {}, 400, "images[0]", "note.jpg"),
    "format": ([("a.gif", picture("GIF"))], {}, {}, 400, "images[0]", "a.gif"),
    "cut, among others": ([ONE, ("cut.jpg", JPEG[:-200])], {}, {}, 400, "images[1]", "cut.jpg"),
    "empty": ([("none.jpg", b"")], {}, {}, 400, "images[0]", "none.jpg"),
    "bomb": ([ONE, ("b.bmp", bomb(40_000))], {}, {}, 413, "images[1]", "b.bmp"),
    "large": ([("b.bmp", bomb(5000))], {}, {}, 413, "images[0]", "b.bmp"),
    "together": ([("b.bmp", bomb(3900))] * 5, {}, {}, 413, "images[4]", "b.bmp"),
    "script": ([("a.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n")], {}, {}, 400, "images[0]", "a.eps"),
    "too many": ([ONE] * 65, {}, {}, 400, "images", None),
    "unknown field": ([ONE], {"place": "/etc/passwd"}, {}, 400, "place", None),
    "unknown option": ([ONE], {}, {"speed": 3}, 400, "speed", None),
    "text for a file": ([], {"images": "a.jpg"}, {}, 400, "images[0]", None),
    "id": ([], {}, {"ids": "../secret"}, 404, "ids[0]", None),
    "nothing": ([], {}, {}, 400, "images", None),
    "embedding": ([], {"embeddings": "[[1.0]]"}, {}, 400, "embeddings", None),
}
BAD_VEHICLES: dict[str, Any] = {
    "many": ([], {}, {"skip": 10**30}, 400, "skip", None),
    "none": ([], {}, {"vehicle": 10**30}, 400, "vehicle", None),
    "camera": ([], {}, {"cameras": "c001"}, 400, None, None),
}
BAD_COMPARISON = {"one": ([ONE], {}, {}, 400, "images", None)}
BAD_SEARCH: dict[str, Any] = {
    "top": ([ONE], {}, {"top": 0}, 400, "top", None),
    "distance": ([ONE], {}, {"max_distance": -1}, 400, "max_distance", None),
    "no number": ([ONE], {}, {"max_distance": "nan"}, 400, "max_distance", None),
    "time": ([ONE], {}, {"not_before": "soon"}, 400, "not_before", None),
    "zone": ([ONE], {}, {"not_after": "2024-01-01T00:00:00Z"}, 400, "not_after", None),
    "width": ([], {"embeddings": "[[1.0]]"}, {}, 400, "embeddings[0]", None),
    "overflow": ([], {"embeddings": "[[1e300]]"}, {}, 400, "embeddings[0][0]", None),
    "NaN": ([], {"embeddings": "[[NaN]]"}, {}, 400, "embeddings[0][0]", None),
    "no JSON": ([], {"embeddings": "[["}, {}, 400, "embeddings", None),
    "nothing": ([], {}, {}, 400, "images", None),
}


@pytest.mark.parametrize(
    ("path", "case"),
    [
        (path, case)
        for path, cases in (
            *(("predict", BAD), ("compare", BAD_COMPARISON), ("search", BAD_SEARCH)),
            ("vehicles", BAD_VEHICLES),
        )
        for case in cases.items()
    ],
    ids=lambda one: one if isinstance(one, str) else one[0],
)
def test_a_mistake_is_a_problem_that_names_field_and_file(small, path, case) -> None:
    files, form, query, status, field, file = case[1]
    if path == "vehicles":
        answer = CLIENT.get(f"{small.url}/api/vehicles", params={"alone": True} | query)
    else:
        answer = post(small, f"/api/{path}", *files, form=form, **query)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status and problem["detail"]
    assert (problem.get("field"), problem.get("file")) == (field, file)


def test_an_embedding_that_is_no_number_is_a_problem(served, monkeypatch) -> None:
    engine = served.service.predictor.engine
    run = engine._run
    monkeypatch.setattr(engine, "_run", lambda *inputs: [one * np.nan for one in run(*inputs)])
    answer = post(served, "/api/search", QUERY)
    assert answer.status_code == 500 and answer.json()["file"] == QUERY.name
    assert "no finite numbers for it; check the server's weights" in answer.json()["detail"]


def test_bodies_methods_and_places_that_are_refused(small: Served) -> None:
    assert CLIENT.get(f"{small.url}/api/predict").status_code == 405
    assert post_raw(small, "/api/predict", b"{}", "application/json").status_code == 415
    assert CLIENT.get(f"{small.url}/nowhere").headers["content-type"] == "application/problem+json"
    stated = raw(small, HEAD + "Content-Length: 104857600\r\n\r\n")
    assert stated.startswith(b"HTTP/1.1 413") and b"at most 33,554,432 bytes" in stated

    def endless() -> Iterator[bytes]:
        while True:
            yield b"[" * 65536

    # The connection may be closed while the body is being sent.
    with suppress(httpx.TransportError):
        assert post_raw(small, "/api/predict", endless()).status_code == 413


PICTURES = st.binary(max_size=300) | st.builds(
    lambda start, cut, other: JPEG[:start] + other + JPEG[start + cut :],
    st.integers(0, len(JPEG)),
    st.integers(0, 200),
    st.binary(max_size=20),
)
JSON = st.recursive(
    st.none() | st.floats() | st.text(max_size=3) | st.sampled_from([1e300, "9" * 4000]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
)


@fuzz
@given(
    path=st.sampled_from(["/api/predict", "/api/compare", "/api/search"]),
    kind=st.sampled_from(["image/png", "multipart/form-data; boundary=x", "a"]),
    file=st.tuples(st.text("ä/\x00\r", min_size=1), PICTURES),
    option=st.sampled_from(["ids", "top", "cameras", "not_after", "max_distance", "x"]),
    value=st.text(max_size=9),
    text=JSON.map(json.dumps)
    | st.sampled_from(["[" * 30_000, '{"a":' * 2000, "1" * 5000, '"\\ud800"']),
)
def test_no_body_field_or_option_breaks_it(small, path, kind, file, option, value, text) -> None:
    part = b'--x\r\nContent-Disposition: form-data; name="' if "form" in kind else b""
    for answer in (
        post_raw(small, path, part + file[1], kind),
        post(small, path, file),
        post(small, path, ONE, form={"embeddings": text}),
        post(small, path, ONE, **{option: value}),
    ):
        assert answer.status_code < 500, answer.text
        if answer.status_code != 200:
            assert answer.headers["content-type"] == "application/problem+json", answer.text
            assert answer.json()["detail"]


# Batches, loading, the token


def test_callers_at_one_time_share_batches_and_are_answered_rightly(small, monkeypatch) -> None:
    predictor = small.service.predictor
    predict, sizes = predictor.predict, []

    def counted(pictures: Any, keypoints: Any) -> Any:
        sizes.append(len(pictures))
        time.sleep(0.05)
        return predict(pictures, keypoints)

    def answer(path: Path | tuple[str, bytes]) -> Any:
        found = post(small, "/api/predict", path).json()
        return found["predictions"][0]["embedding"] if "predictions" in found else found["file"]

    paths = [QUERY, OTHER, ("cut.jpg", JPEG[:-200])]
    expected = [answer(path) for path in paths]
    assert expected[2] == "cut.jpg"
    monkeypatch.setattr(predictor, "predict", counted)
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(answer, paths * 16)) == expected * 16
    assert 1 < max(sizes) <= predictor.batch_size


def test_too_many_pictures_at_a_time_are_refused() -> None:
    async def run() -> None:
        with pytest.raises(ProblemError, match="too many pictures"):
            await Service(stores.PixelPredictor(), None).predict([None] * 5000)

    asyncio.run(run())


def test_who_comes_while_it_loads_is_answered_afterwards(small: Served) -> None:
    with listen("127.0.0.1", 0) as listening, ThreadPoolExecutor(1) as pool:
        port = listening.getsockname()[1]
        answer = pool.submit(CLIENT.get, f"http://127.0.0.1:{port}/readyz")
        time.sleep(0.2)
        assert not answer.done()
        server = make_server(create_app(again(small)))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        assert answer.result(20).json() == {"ready": True}
        server.should_exit = True
        thread.join()


def test_the_token_is_asked_for(small: Served) -> None:
    with serving(again(small), token="a-long-secret") as guarded:
        right, wrong = ({"Authorization": f"Bearer {one}"} for one in ("a-long-secret", "other"))
        for headers, status in (({}, 401), (wrong, 401), (right, 200)):
            assert CLIENT.get(f"{guarded.url}/api/gallery", headers=headers).status_code == status
        assert CLIENT.get(f"{guarded.url}/gallery/a").status_code == 401
        for place in ("/", "/healthz", "/readyz", "/static/page.js"):
            assert CLIENT.get(guarded.url + place).status_code == 200
        assert CLIENT.post(f"{guarded.url}/api/token", headers=wrong).status_code == 401
        answer = CLIENT.post(f"{guarded.url}/api/token", headers=right)
        assert answer.status_code == 204
        # Other applications on this host have cookies, too, not all of them well-formed.
        own = answer.headers["set-cookie"].partition(";")[0]
        for cookies in (own, f'[]={{"a"}}; {own}', f"{own}; a@b=c d", f"lonely; {own}"):
            headers = {"Cookie": cookies}
            assert CLIENT.get(f"{guarded.url}/api/gallery", headers=headers).status_code == 200


# Limits and deadlines, with real sockets

HEAD = "POST /api/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/jpeg\r\n"


def raw(served: Served, text: str) -> bytes:
    """What is answered to a request, sent as it is, until the connection is closed."""
    with connections(served.address, 1, text) as (caller,):
        return rest(caller)


def rest(connection: socket.socket) -> bytes:
    """What comes until the connection is closed, however."""
    received = b""
    with suppress(ConnectionError):
        while part := connection.recv(65536):
            received += part
    return received


@contextmanager
def connections(
    address: tuple[str, int], count: int, text: str = ""
) -> Iterator[list[socket.socket]]:
    """Callers who send this and no more."""
    with ExitStack() as stack:
        every = [
            stack.enter_context(socket.create_connection(address, timeout=20)) for _ in range(count)
        ]
        for one in every:
            one.sendall(text.encode())
        yield every


@pytest.fixture(scope="module")
def hasty(small: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server of little patience, with a picture larger than what sockets hold."""
    large = tmp_path_factory.mktemp("large") / "large.jpg"
    large.write_bytes(bytes(20 << 20))
    limits = Limits(
        requests=20, head_seconds=0.4, body_seconds=1, stalled_seconds=0.4, answer_seconds=0.3
    )
    gallery = Mock()
    gallery.row.return_value = Mock(image=large, box=None)
    with serving(again(small, gallery), limits=limits) as one:
        yield one


@pytest.mark.parametrize(
    "text", ["", "GET /healthz HTT", HEAD, HEAD + "Content-Length: 9\r\n\r\n{"]
)
def test_silent_callers_stop_nobody_and_are_let_go(hasty: Served, text: str) -> None:
    with connections(hasty.address, 60, text) as every:
        # At once, or when those that were let go have ended.
        until_true(lambda: CLIENT.get(f"{hasty.url}/readyz").status_code == 200, 3)
        start = time.monotonic()
        answers = [rest(one) for one in every]
        assert time.monotonic() - start < 5
    expected = {b"408", b"503"} if "Length" in text else set()
    assert {one[9:12] for one in answers} <= {b"", *expected}


@pytest.mark.parametrize(
    "text", ["GET /healthz HTTP/1.1\r\nX-a: ", HEAD + "Content-Length: 99\r\n\r\n"]
)
def test_who_sends_a_byte_now_and_then_is_let_go(hasty: Served, text: str) -> None:
    with connections(hasty.address, 1, text) as (caller,):
        start = time.monotonic()
        with suppress(OSError):
            while time.monotonic() - start < 5:
                caller.sendall(b"a")
                time.sleep(0.1)
        assert time.monotonic() - start < 4


def test_who_keeps_asking_is_answered_at_once_and_not_let_go(hasty: Served) -> None:
    sockets, times = set(), []
    with httpx.Client(base_url=hasty.url) as client:
        begun = time.monotonic()
        while (start := time.monotonic()) - begun < 1:
            answer = client.get("/readyz")
            times.append(time.monotonic() - start)
            sockets.add(answer.extensions["network_stream"].get_extra_info("client_addr"))
            time.sleep(0.05)
    # A head and a body that wait for an acknowledgement between them take 40 ms.
    assert len(sockets) == 1 and statistics.median(times) < 0.03


def test_who_reads_no_answer_is_let_go(hasty: Served) -> None:
    request = "GET /gallery/large HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    with connections(hasty.address, 1, request) as (caller,):
        time.sleep(1)
        answer = rest(caller)
    assert answer.startswith(b"HTTP/1.1 200") and len(answer) < 20 << 20


def test_small_bodies_pass_beside_large_ones_that_wait(small: Served) -> None:
    limits = Limits(body=1 << 20, small_body=1 << 16, large_bodies=2, body_seconds=3)
    text = HEAD + "Content-Length: 1000000\r\n\r\n" + "a" * 100_000
    with serving(again(small), limits=limits) as one:
        with connections(one.address, 6, text) as every:
            assert post(one, "/api/predict", ONE).status_code == 200
            answers = [rest(caller)[9:12] for caller in every]
        assert set(answers) == {b"408", b"503"}
        large = ("large.png", JPEG + bytes(200_000))
        assert post(one, "/api/predict", large).status_code == 200, "the turns are free again"


def test_the_end_answers_those_who_took_too_long(small, caplog) -> None:
    service: Any = again(small)
    asked = threading.Event()

    async def predict(_: Any) -> None:
        asked.set()
        await asyncio.sleep(60)

    service.predict = predict
    with ThreadPoolExecutor(1) as pool, caplog.at_level(logging.ERROR):
        with serving(service, limits=Limits(drain_seconds=0.3)) as ending:
            answer = pool.submit(post, ending, "/api/predict", QUERY)
            assert asked.wait(20)
        problem = answer.result(20)
    assert problem.status_code == 503 and "shutting down" in problem.json()["detail"]
    assert not [record for record in caplog.records if record.exc_info]


# The command


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--gallery", "nowhere"], "nowhere"),
        (["--weights", "missing.ckpt"], "missing.ckpt"),
        (["--token-file", "missing.txt"], "missing.txt: the token cannot be read"),
        (["--host", "203.0.113.1"], "cannot listen on 203.0.113.1:0"),
        (["--port", "80000"], "cannot listen on 127.0.0.1:80000"),
        (["--port=-1"], "--port from 0 to 65535"),
    ],
)
def test_mistakes_of_the_command(options, said, served, capsys, monkeypatch) -> None:
    monkeypatch.setenv("MULTITASKNET_CACHE", str(served.cache))
    monkeypatch.setattr("multitasknet.hub.card.PACKAGE", ASSETS.parent)
    assert main(["serve", "--port", "0", *options]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("host", "is_local"),
    [("127.0.0.1", True), ("127.0.0.2", True), ("::1", True), ("0.0.0.0", False)],
)
def test_hosts_are_checked_on_this_machine_and_others_warned_of(
    host: str,
    is_local: bool,
    small: Served,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with serving(again(small), host) as one:
        for name, right in ((None, True), ("evil.example", not is_local), ("localhost:80", True)):
            headers = {} if name is None else {"Host": name}
            url = one.url.replace("0.0.0.0", "127.0.0.1")
            answer = CLIENT.get(f"{url}/healthz", headers=headers)
            assert answer.status_code == (200 if right else 400)
    monkeypatch.setattr("uvicorn.Server.run", lambda *_, **__: None)
    with listen(host, 0) as listening:
        serve(again(small), listening, host, None)
    assert is_local != ("set --token-file" in caplog.text)


@pytest.mark.slow
def test_the_process_stands_attacks_and_finishes_what_is_running(served: Served) -> None:
    arguments = [sys.executable, "-m", "multitasknet", "serve", "--gallery", "demo", "--port", "0"]
    environment = os.environ | {"MULTITASKNET_CACHE": str(served.cache)}
    how: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    # As for a shell's background job, which Ctrl-C does not end.
    how["preexec_fn"] = lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)
    with ExitStack() as stack:
        process = stack.enter_context(
            subprocess.Popen(arguments, env=environment, text=True, **how)
        )
        stack.callback(process.kill)
        lines = [process.stdout.readline() for _ in range(4)]
        assert "60 crops" in lines[1], lines
        port = int(lines[2].strip("/\n").rpartition(":")[2])
        url, address = f"http://127.0.0.1:{port}", ("127.0.0.1", port)
        process.send_signal(signal.SIGINT)
        with connections(address, 300):
            assert CLIENT.get(f"{url}/readyz").status_code == 200
        memory = psutil.Process(process.pid).memory_info().rss
        with connections(address, 60, HEAD + "Content-Length: 31000000\r\n\r\n") as every:
            for one in every:
                one.setblocking(False)
                with suppress(BlockingIOError):
                    while one.send(bytes(1 << 20)):
                        pass
            assert CLIENT.get(f"{url}/readyz").status_code == 200
            assert psutil.Process(process.pid).memory_info().rss - memory < 300 << 20
        files = [("images", ("a.jpg", QUERY.read_bytes()))] * 32
        with httpx.Client(timeout=120) as client, ThreadPoolExecutor(1) as pool:
            client.get(f"{url}/healthz")  # connected before the signal
            asked = pool.submit(client.post, f"{url}/api/predict", files=files)
            time.sleep(0.5)
            process.send_signal(signal.SIGTERM)
            assert len(asked.result().json()["predictions"]) == 32
        assert process.wait(60) == 128 + signal.SIGTERM
        assert "Traceback" not in process.stderr.read()
