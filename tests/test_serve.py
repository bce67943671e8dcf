"""The server: the API, the Open Inference Protocol, limits, and what goes wrong."""

from __future__ import annotations

import base64
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
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
from conftest import ASSETS
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from served import Served, serving, until_ready
from test_fuzz import altered, damaged, fuzz, hostile_json

from multitasknet import Predictor, compare
from multitasknet.cli import main
from multitasknet.server.batching import Batcher, OverloadError

QUERY = ASSETS / "demo" / "query" / "0011_c006_00000240_1.jpg"
OTHER = ASSETS / "demo" / "query" / "0012_c003_00000156_0.jpg"
CROP = "0011_c001_00000531_4.jpg"
SECOND = "0012_c002_00000447_3.jpg"


def post(served: Served, path: str, *files: Path | tuple[str, bytes], **fields: Any) -> Any:
    """Files as multipart, with other fields; else the fields as JSON."""
    if not files:
        return httpx.post(served.url + path, json=fields, timeout=60)
    named = [(one.name, one.read_bytes()) if isinstance(one, Path) else one for one in files]
    return httpx.post(
        served.url + path, files=[("images", one) for one in named], data=fields, timeout=60
    )


def encoded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


# What it says


def test_predictions_are_those_of_python(served: Served) -> None:
    predictor: Predictor = served.service.predictor
    expected = [one.as_json() for one in predictor.predict([QUERY, OTHER])]
    found = post(served, "/api/predict", QUERY, OTHER).json()["predictions"]
    for one, other in zip(found, expected, strict=True):
        assert set(other) < set(one)
        assert one["image"] == Path(other["image"]).name
        assert one["color"] == other["color"] and list(one["type_probabilities"]) == list(
            other["type_probabilities"]
        )
        np.testing.assert_allclose(one["embedding"], other["embedding"], rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(
            one["pose"]["keypoints"], other["pose"]["keypoints"], rtol=1e-3, atol=1e-2
        )
    height, width = np.asarray(Image.open(QUERY)).shape[:2]
    assert (found[0]["width"], found[0]["height"]) == (width, height)
    assert found[0]["seconds"]["pose"] > 0 and found[0]["seconds"]["network"] > 0


def test_files_base64_and_ids_are_the_same_picture(served: Served) -> None:
    crop = ASSETS / "demo" / "gallery" / CROP
    answers = (
        post(served, "/api/embed", crop),
        post(served, "/api/embed", images=[encoded(crop)], names=[CROP]),
        post(served, "/api/embed", ids=[CROP]),
    )
    for answer in answers:
        assert answer.json()["images"] == [CROP]
        np.testing.assert_allclose(
            answer.json()["embeddings"][0],
            served.service.gallery.embedding(CROP),
            rtol=1e-3,
            atol=1e-3,
        )


def test_poses_and_given_keypoints(served: Served) -> None:
    (found,) = post(served, "/api/pose", QUERY).json()["poses"]
    assert found["origin"] == "estimated" and len(found["keypoints"]) == 36
    given_ = [[[1.0, 2.0, 0.9]] * 36, None]
    mixed = post(served, "/api/predict", QUERY, OTHER, keypoints=json.dumps(given_))
    first, second = mixed.json()["predictions"]
    assert first["pose_given"] and not second["pose_given"]
    assert first["pose"]["origin"] == "given" and second["pose"]["origin"] == "estimated"


def test_a_comparison_is_that_of_python(served: Served) -> None:
    expected = compare(served.service.predictor, QUERY, OTHER)
    found = post(served, "/api/compare", QUERY, OTHER).json()
    assert found["distance"] == pytest.approx(expected.distance, rel=1e-2)
    assert found["probability"] == pytest.approx(expected.probability, rel=1e-2)
    assert [found[name]["image"] for name in ("first", "second")] == [QUERY.name, OTHER.name]


def test_search_finds_filters_and_leaves_the_crop_itself_out(served: Served) -> None:
    (result,) = post(served, "/api/search", QUERY, top=5).json()["results"]
    distances = [match["distance"] for match in result["matches"]]
    assert len(distances) == 5 and distances == sorted(distances)
    assert result["query"] == QUERY.name
    assert set(result["matches"][0]) == {
        *("id", "camera", "time", "color", "type", "distance", "probability")
    }
    (own,) = post(served, "/api/search", ids=[CROP], top=60).json()["results"]
    assert len(own["matches"]) == 59 and CROP not in {match["id"] for match in own["matches"]}
    (filtered,) = post(
        served, "/api/search", QUERY, top=60, cameras=["5", "9"], colors="black"
    ).json()["results"]
    assert filtered["matches"]
    assert {match["camera"] for match in filtered["matches"]} <= {"5", "9"}
    assert {match["color"] for match in filtered["matches"]} == {"black"}
    (near,) = post(served, "/api/search", QUERY, top=60, max_distance=distances[1]).json()[
        "results"
    ]
    assert [match["distance"] for match in near["matches"]] == distances[:2]
    for nothing in ({"max_distance": 0}, {"cameras": ["77"]}, {"not_after": "1999-01-01T00:00:00"}):
        (empty,) = post(served, "/api/search", ids=[CROP], **nothing).json()["results"]
        assert empty["matches"] == []


def test_an_embedding_searches_as_its_picture_does(served: Served) -> None:
    (embedding,) = post(served, "/api/embed", QUERY).json()["embeddings"]
    by_embedding = post(served, "/api/search", embeddings=[embedding], top=3).json()["results"]
    by_picture = post(served, "/api/search", QUERY, top=3).json()["results"]
    ids = [[match["id"] for match in one[0]["matches"]] for one in (by_embedding, by_picture)]
    assert ids[0] == ids[1]


def test_only_pictures_of_the_gallery_are_sent(served: Served) -> None:
    good = httpx.get(f"{served.url}/gallery/{CROP}")
    assert good.content == (ASSETS / "demo" / "gallery" / CROP).read_bytes()
    assert good.headers["content-type"] == "image/jpeg"
    for place in (
        "/gallery/../query/0011_c006_00000240_1.jpg",
        "/gallery/..%2Fquery%2F0011_c006_00000240_1.jpg",
        "/gallery//etc/passwd",
        "/gallery/%2Fetc%2Fpasswd",
        "/gallery/",
        "/static/../app.py",
        "/static/..%2Fapp.py",
        "/static/%2e%2e/app.py",
        "/gallery/\x00".replace("\x00", "%00"),
    ):
        # A client would tidy the path up.
        assert raw(
            served, f"GET {place} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
        ).startswith(b"HTTP/1.1 404"), place


def test_what_is_not_the_api(served: Served) -> None:
    assert httpx.get(f"{served.url}/healthz").json() == {"live": True, "ready": True}
    post(served, "/api/embed", QUERY)
    text = httpx.get(f"{served.url}/metrics").text
    assert re.search(r'multitasknet_requests_total\{route="/api/embed",status="200"\} \d', text)
    assert re.search(r'multitasknet_batch_size_count\{batcher="predict"\} \d', text)
    assert "multitasknet_ready 1.0" in text
    paths = httpx.get(f"{served.url}/openapi.json").json()["paths"]
    for name in ("predict", "embed", "pose", "search", "compare"):
        content = paths[f"/api/{name}"]["post"]["requestBody"]["content"]
        assert set(content) == {"application/json", "multipart/form-data"}
    served_bytes = 0
    for place in ("/", "/docs", "/static/page.js", "/static/page.css", "/static/docs.js"):
        page = httpx.get(served.url + place)
        assert not re.search(r"(src|href)=\"(https?:)?//", page.text), "from another host"
        assert "default-src 'none'" in page.headers["content-security-policy"]
        served_bytes += len(page.content)
    assert served_bytes < 150_000
    assert httpx.get(served.url, headers={"Host": "evil.example"}).status_code == 400


# What goes wrong


def jpeg(width: int = 32, height: int = 32) -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, "JPEG")
    return file.getvalue()


def png_bomb(side: int) -> bytes:
    """A PNG of that many pixels a side, all black, in few bytes."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content))
            + kind
            + content
            + struct.pack(">I", zlib.crc32(kind + content))
        )

    head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    rows = zlib.compress(bytes(1 + side) * 100)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


BAD = {
    "no picture": ([("note.jpg", b"no picture")], {}, 400, "images[0]", "note.jpg"),
    "cut": ([("cut.jpg", jpeg()[:-200])], {}, 400, "images[0]", "cut.jpg"),
    "empty": ([("none.jpg", b"")], {}, 400, "images[0]", "none.jpg"),
    "bomb": ([("a.jpg", jpeg()), ("b.png", png_bomb(40_000))], {}, 413, "images[1]", "b.png"),
    "script": ([("a.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")], {}, 400, None, 0),
    "too many": ([("a.jpg", jpeg())] * 65, {}, 400, None, None),
    "poses": ([("a.jpg", jpeg())], {"keypoints": "[null, null]"}, 400, "keypoints", None),
    "pose": ([("a.jpg", jpeg())], {"keypoints": "[[[1, 2, 3]]]"}, 400, "keypoints[0]", "a.jpg"),
    "pose's text": ([("a.jpg", jpeg())], {"keypoints": "[["}, 400, "keypoints", None),
    "unknown field": ([("a.jpg", jpeg())], {"place": "/etc/passwd"}, 400, "place", None),
    "base64": ([], {"images": ["*"]}, 400, "images[0]", "image 0"),
    "type": ([], {"images": [7]}, 400, "images[0]", None),
    "id": ([], {"ids": ["../secret"]}, 404, "ids[0]", None),
    "nothing": ([], {}, 400, None, None),
    "names": ([], {"images": [], "names": ["a"]}, 400, "names", None),
}


@pytest.mark.parametrize("case", BAD)
def test_a_mistake_is_a_problem_that_names_field_and_file(served: Served, case: str) -> None:
    files, fields, status, field, file = BAD[case]
    answer = post(served, "/api/predict", *files, **fields)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status and problem["detail"]
    if file != 0:
        assert problem.get("field", problem.get("file")) == field or field is None
        assert problem.get("file") == file or file is None


@pytest.mark.parametrize(
    ("path", "fields", "field"),
    [
        ("/api/search", {"ids": [CROP], "top": 0}, "top"),
        ("/api/search", {"ids": [CROP], "max_distance": -1}, "max_distance"),
        ("/api/search", {"ids": [CROP], "not_before": "soon"}, "not_before"),
        ("/api/search", {"ids": [CROP], "not_before": "2024-01-01T00:00:00Z"}, "not_before"),
        ("/api/search", {"embeddings": [[1.0]]}, "embeddings[0]"),
        ("/api/search", {"embeddings": [[1e300] * 1024]}, None),
        ("/api/search", {}, "images"),
        ("/api/compare", {"ids": [CROP]}, "images"),
    ],
)
def test_a_mistake_in_other_fields(served: Served, path: str, fields: Any, field: str) -> None:
    answer = post(served, path, **fields)
    assert answer.status_code == 400
    assert answer.json().get("field") == field


def test_bodies_and_methods_that_are_refused(served: Served) -> None:
    url = f"{served.url}/api/predict"
    assert httpx.get(url).status_code == 405
    assert httpx.post(url, content=b"x").status_code == 415
    assert httpx.get(f"{served.url}/nowhere").headers["content-type"] == "application/problem+json"
    large = "POST /api/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    stated = raw(served, large + "Content-Length: 104857600\r\n\r\n")
    assert stated.startswith(b"HTTP/1.1 413") and b"at most 33,554,432 bytes" in stated

    def endless() -> Any:
        while True:
            yield b"[" * 65536

    headers = {"Content-Type": "application/json"}
    # The connection may be closed while the body is being sent.
    with suppress(httpx.TransportError):
        assert httpx.post(url, content=endless(), headers=headers, timeout=60).status_code == 413


def raw(served: Served, text: str, *, wait: bool = True) -> bytes:
    """Send a request as it stands; all that is answered, if the connection is closed then."""
    place = urlsplit(served.url)
    with socket.create_connection((place.hostname, place.port), timeout=20) as connection:
        connection.sendall(text.encode())
        return b"".join(iter(lambda: connection.recv(65536), b"")) if wait else b""


def test_callers_who_go_or_dawdle_stop_nobody(served: Served) -> None:
    head = "POST /api/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    for rest in ("", "Content-Length: 500\r\n\r\n", 'Content-Length: 500\r\n\r\n{"images":["'):
        raw(served, head + rest, wait=False)
    place = urlsplit(served.url)
    idle = [socket.create_connection((place.hostname, place.port)) for _ in range(20)]
    for one in idle:
        one.sendall((head + "Content-Length: 500\r\n\r\n{").encode())
    assert post(served, "/api/embed", QUERY).status_code == 200
    for one in idle:
        one.close()


JSON = {
    "images": [encoded(QUERY)[:200]],
    "ids": [CROP],
    "keypoints": [None, [[1.0, 2.0, 0.5]]],
    "top": 3,
    "cameras": ["1"],
}
INFER = {
    "id": "1",
    "inputs": [
        {"name": "image", "shape": [1, 2], "datatype": "FP32", "data": [1.0, 2.0]},
        {"name": "pose", "shape": [1], "datatype": "FP32", "parameters": {"binary_data_size": 4}},
    ],
    "outputs": [{"name": "embedding", "parameters": {"binary_data": True}}],
}
PATHS = st.sampled_from(
    [f"/api/{one}" for one in ("predict", "embed", "pose", "search", "compare")]
)
JSON_TEXT = altered(JSON).map(json.dumps) | hostile_json | altered(INFER).map(json.dumps)


@fuzz
@given(PATHS | st.just("/v2/models/multitasknet/infer"), JSON_TEXT, st.none() | st.integers(-1, 99))
def test_no_json_breaks_it(served: Served, path: str, text: str, head: int | None) -> None:
    headers = {"Content-Type": "application/json"}
    if head is not None:
        headers["Inference-Header-Content-Length"] = str(head)
    content = text.encode(errors="surrogatepass")
    answer = httpx.post(served.url + path, content=content, headers=headers, timeout=60)
    check(answer)


@fuzz
@given(PATHS, damaged(QUERY.read_bytes()) | damaged(png_bomb(20)), st.text(max_size=8))
def test_no_picture_breaks_it(served: Served, path: str, content: bytes, name: str) -> None:
    check(post(served, path, (name or "a", content)))


@fuzz
@given(PATHS, st.binary(max_size=300))
def test_no_form_breaks_it(served: Served, path: str, content: bytes) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    body = b'--x\r\nContent-Disposition: form-data; name="' + content
    check(httpx.post(served.url + path, content=body, headers=headers, timeout=60))


def check(answer: httpx.Response) -> None:
    assert answer.status_code < 500, answer.text
    if answer.status_code != 200:
        assert answer.headers["content-type"] == "application/problem+json", answer.text
        assert answer.json()["detail"]


# The Open Inference Protocol, by Triton's own client


@pytest.fixture
def triton(served: Served) -> Any:
    client = pytest.importorskip("tritonclient.http")
    with client.InferenceServerClient(served.url.removeprefix("http://")) as one:
        yield one


def inputs_of(served: Served, name: str, rows: int) -> dict[str, np.ndarray]:
    runner = served.service.runners[name]
    rng = np.random.default_rng(rows)
    return {
        one: rng.random((rows, *shape)).astype(np.float32)
        for one, shape in runner.spec.input_shapes(runner.size).items()
    }


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("name", ["multitasknet", "vehiclepose"])
def test_triton_clients_run_each_network(
    served: Served, triton: Any, name: str, binary: bool
) -> None:
    from tritonclient.http import InferInput, InferRequestedOutput

    assert triton.is_server_live() and triton.is_server_ready() and triton.is_model_ready(name)
    assert not triton.is_model_ready("other")
    assert triton.get_server_metadata()["name"] == "multitasknet"
    about = triton.get_model_metadata(name)
    values = inputs_of(served, name, 3)
    assert [one["name"] for one in about["inputs"]] == list(values)
    sent = []
    for one, array in values.items():
        sent.append(InferInput(one, list(array.shape), "FP32"))
        sent[-1].set_data_from_numpy(array, binary_data=binary)
    wanted = [InferRequestedOutput(one["name"], binary_data=binary) for one in about["outputs"]]
    result = triton.infer(name, sent, outputs=wanted, request_id="7")
    assert result.get_response()["id"] == "7"
    expected = served.service.runners[name].run(*values.values())
    for one, array in zip(about["outputs"], expected, strict=True):
        np.testing.assert_allclose(result.as_numpy(one["name"]), array, rtol=1e-3, atol=1e-3)
    everything = triton.infer(name, sent)
    assert everything.as_numpy(about["outputs"][-1]["name"]).shape == expected[-1].shape


def test_the_example_of_the_docs_runs(
    served: Served, triton: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    described = httpx.get(f"{served.url}/openapi.json", timeout=20).json()
    (sample,) = described["paths"]["/v2/models/{name}/infer"]["post"]["x-codeSamples"]
    exec(sample["source"].replace("127.0.0.1:8000", served.url.removeprefix("http://")), {})
    assert capsys.readouterr().out == "(1, 1024)\n"


def test_triton_clients_are_told_what_is_wrong(served: Served, triton: Any) -> None:
    from tritonclient.http import InferInput
    from tritonclient.utils import InferenceServerException

    one = InferInput("image", [1, 3, 8, 8], "FP32")
    one.set_data_from_numpy(np.zeros((1, 3, 8, 8), np.float32))
    with pytest.raises(InferenceServerException, match="expected"):
        triton.infer("multitasknet", [one])
    with pytest.raises(InferenceServerException, match="there are multitasknet, vehiclepose"):
        triton.infer("nothing", [one])


# Batches, loading, the token, the command


def test_callers_at_one_time_share_batches() -> None:
    sizes: list[int] = []

    def run(items: Any) -> list[int]:
        time.sleep(0.02)
        return [2 * item for item in items]

    batcher: Batcher[int, int] = Batcher(run, most=8, on_batch=sizes.append)
    futures = [batcher.submit(item) for item in range(64)]
    assert [future.result(20) for future in futures] == list(range(0, 128, 2))
    assert max(sizes) <= 8 and len(sizes) <= 16
    batcher.close()


def test_one_bad_item_fails_alone_and_the_end_finishes_what_was_asked() -> None:
    def run(items: Any) -> list[float]:
        return [1 / item for item in items]

    batcher: Batcher[int, float] = Batcher(run, most=4)
    futures = [batcher.submit(item) for item in (1, 0, 2)]
    batcher.close()
    assert futures[0].result(0) == 1 and futures[2].result(0) == 0.5
    assert isinstance(futures[1].exception(0), ZeroDivisionError)


def test_too_much_is_refused() -> None:
    held = threading.Event()
    batcher: Batcher[int, int] = Batcher(
        lambda items: held.wait(20) and list(items), most=1, queued=2
    )
    with pytest.raises(OverloadError):
        for item in range(9):
            batcher.submit(item)
    held.set()
    batcher.close()


def test_many_callers_are_all_answered_rightly(served: Served) -> None:
    expected = post(served, "/api/embed", QUERY).json()["embeddings"][0]
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: post(served, "/api/embed", QUERY), range(48)))
    for answer in answers:
        np.testing.assert_allclose(answer.json()["embeddings"][0], expected, rtol=1e-3, atol=1e-3)


def test_it_is_ready_when_the_weights_are_loaded(served: Served) -> None:
    loaded = threading.Event()

    def opens(_: Any) -> Any:
        loaded.wait(60)
        return Borrowed(served.service)

    with serving(opens) as loading:
        assert httpx.get(f"{loading.url}/healthz").json() == {"live": True, "ready": False}
        assert httpx.get(f"{loading.url}/v2/health/live").status_code == 200
        for place in ("/v2/health/ready", "/api/gallery"):
            answer = httpx.get(loading.url + place)
            assert answer.status_code == 503 and answer.headers["retry-after"] == "1"
        loaded.set()
        until_ready(loading)
        assert httpx.get(f"{loading.url}/v2/health/ready").status_code == 200


class Borrowed:
    """Another server's service, which its owner closes."""

    def __init__(self, service: Any) -> None:
        self._service = service

    def __getattr__(self, name: str) -> Any:
        return getattr(self._service, name)

    def close(self) -> None: ...


def test_the_token_is_asked_for(served: Served) -> None:
    with serving(lambda _: Borrowed(served.service), token="a-long-secret") as guarded:
        until_ready(guarded)
        right, wrong = ({"Authorization": f"Bearer {one}"} for one in ("a-long-secret", "other"))
        for place in ("/api/gallery", f"/gallery/{CROP}", "/metrics", "/v2/models/multitasknet"):
            assert httpx.get(guarded.url + place).status_code == 401
            assert httpx.get(guarded.url + place, headers=wrong).status_code == 401
            assert httpx.get(guarded.url + place, headers=right).status_code == 200
        for place in ("/", "/healthz", "/static/page.js"):
            assert httpx.get(guarded.url + place).status_code == 200
        with httpx.Client(base_url=guarded.url) as browser:
            assert browser.post("/api/token", headers=wrong).status_code == 401
            assert browser.post("/api/token", headers=right).status_code == 204
            assert browser.get(f"/gallery/{CROP}").status_code == 200


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--gallery", "nowhere", "--weights", "none"], "nowhere: expected a store"),
        (["--weights", "missing.ckpt"], "missing.ckpt"),
        (["--token-file", "missing.txt"], "missing.txt: the token cannot be read"),
    ],
)
def test_mistakes_of_the_command(
    options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert main(["serve", "--port", str(port), *options]) == 2
    assert said in capsys.readouterr().err


def test_a_port_that_is_taken_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["serve", "--port", str(port), "--weights", "none"]) == 2
    assert f"127.0.0.1:{port} cannot be listened on" in capsys.readouterr().err


@pytest.mark.slow
def test_sigterm_finishes_what_is_running(served: Served) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "multitasknet", "serve", "--port", str(port)]
    environment = os.environ | {"MULTITASKNET_CACHE": str(served.cache)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(4)]
        assert "60 crops" in said[1] and f"http://127.0.0.1:{port}/" in said[2]
        url = f"http://127.0.0.1:{port}/api/embed"
        files = [("images", ("a.jpg", QUERY.read_bytes()))] * 64
        with httpx.Client(timeout=120) as client, ThreadPoolExecutor(1) as pool:
            client.get(f"http://127.0.0.1:{port}/healthz")  # connected before the signal
            asked = pool.submit(client.post, url, files=files)
            time.sleep(0.5)
            process.send_signal(signal.SIGTERM)
            assert len(asked.result().json()["embeddings"]) == 64
        assert process.wait(60) == 128 + signal.SIGTERM
