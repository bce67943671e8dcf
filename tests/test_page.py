"""The page, in a real Chromium."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import stores
from browser import CHROMIUM, Browser
from conftest import ASSETS
from PIL import Image
from served import Served, serving
from stores import PixelPredictor

from multitasknet import Calibration, StrangerRates
from multitasknet.gallery.rows import Entry, GalleryRow
from multitasknet.server.service import Service

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")

QUERIES = sorted((ASSETS / "demo" / "query").iterdir())
CROP = "0016_c003_00000596_4.jpg"
HITS = "document.querySelectorAll('.hit').length"
READY = "document.body.dataset.ready"
RATES = StrangerRates((1e-3, 1e3), (1e-4, 1.0), (1e-3, 1.0), 10_000, False, "")


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture
def browser(chromium: Browser) -> Iterator[Browser]:
    """A browser whose pages log no error."""
    chromium.messages.clear()
    yield chromium
    # Hints begin so.
    assert not [text for text in chromium.messages if not text.startswith("[DOM]")]


def go(browser: Browser, served: Served, address: str = "", **window: int) -> None:
    browser.go("about:blank")
    browser.wait("location.href === 'about:blank'")
    browser.go(f"{served.url}/{address}", **window)
    browser.wait(READY)


def search(browser: Browser, served: Served, address: str = f"?id={CROP}") -> None:
    go(browser, served, address)
    browser.wait(f"{HITS} === 24")


def ids(browser: Browser) -> list[str]:
    return browser.run("[...document.querySelectorAll('.hit')].map(hit => hit.dataset.id)")


def click(browser: Browser, selector: str) -> None:
    browser.run(f"document.querySelector({selector!r}).click()")


def text(browser: Browser, selector: str) -> str:
    return browser.run(f"document.querySelector({selector!r}).innerText")


def change(browser: Browser, selector: str, value: str, event: str = "change") -> None:
    browser.run(
        f"(() => {{ const one = document.querySelector({selector!r}); one.value = {value!r};"
        f"one.dispatchEvent(new Event({event!r}, {{bubbles: true}})); }})()"
    )


def test_photos_are_understood_and_found(browser: Browser, served: Served) -> None:
    go(browser, served)
    assert browser.run("document.querySelectorAll('#examples img').length") > 5
    browser.upload("#file", *QUERIES[:3])
    browser.wait(f"{HITS} === 24")
    prediction = served.service.predictor.predict([QUERIES[0]])[0]
    bars = text(browser, "#bars")
    assert prediction.color in bars and prediction.type in bars
    assert browser.run("document.querySelectorAll('#shown circle').length") == 36
    shown = "getComputedStyle(document.querySelector('#shown svg')).display"
    assert browser.run(shown) != "none"
    click(browser, "#overlay")
    assert browser.run(shown) == "none"
    assert "%" not in text(browser, "main") and "1. distance" in text(browser, ".hit")
    first = ids(browser)
    click(browser, "#photos li:nth-child(2) button")
    browser.wait(f"document.querySelector('.hit').dataset.id !== {first[0]!r}")


def test_filters_and_the_slider_are_kept_in_the_address(browser: Browser, served: Served) -> None:
    search(browser, served)
    click(browser, "#chips input[name=camera][value='8']")
    browser.wait(f"{HITS} && {HITS} < 24")
    facts = browser.run("[...document.querySelectorAll('.facts')].map(facts => facts.innerText)")
    assert all("Camera 8\n" in one for one in facts)
    shown = ids(browser)
    change(browser, "#reach", "500", "input")
    fewer = ids(browser)
    assert fewer == shown[: len(fewer)] and len(fewer) < len(shown)
    click(browser, "[name=view][value=camera]")
    go(browser, served, browser.run("location.search"))
    browser.wait("document.querySelector('#tools').hidden === false")
    assert ids(browser) == fewer
    assert "Camera 8" in text(browser, "#found h3")
    change(browser, "#reach", "0", "input")
    assert ids(browser) == [] and "Nothing in the gallery is this near" in text(browser, "#status")
    click(browser, "#clear")
    change(browser, "#reach", "1000", "input")
    browser.wait(f"{HITS} === 24")


def test_a_users_probabilities_and_a_journey(browser, served, monkeypatch) -> None:
    service, predictor = served.service, served.service.predictor
    as_json = service.row_as_json

    def with_some_times(row: GalleryRow) -> dict[str, Any]:
        """Every third crop has no time, and the others one with a fraction."""
        is_timed = row.time and sum(row.id.encode()) % 3
        return as_json(row) | {"time": f"{row.time.isoformat()}.8" if is_timed else None}

    facts = "our yard", "ab" * 32, predictor.size, "none", "float32"
    calibration = Calibration((4.0, -4.0, 0.0), 5.0, 9, 99, *facts)
    monkeypatch.setattr(predictor, "calibration", calibration)
    monkeypatch.setattr(service.gallery, "_rates", lambda version: RATES)
    monkeypatch.setattr(service, "row_as_json", with_some_times)
    search(browser, served, f"?id={CROP}&view=journey")
    assert re.search(r"distance [\d.]+, 1 in [\d,.]+ pairs of strangers", text(browser, "#certain"))
    hit = text(browser, ".hit")
    assert re.search(r"1 in [\d,.]+ strangers as near", hit)
    assert re.search(r"\d+ % likely the same vehicle \(measured on our yard\)", hit)
    assert "100 %" not in text(browser, "main")
    times = browser.run("[...document.querySelectorAll('.journey time')].map(t => t.innerText)")
    assert len(times) > 5 and times == sorted(times)
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", one) for one in times)
    assert "Time unknown" in text(browser, "#found h3")
    start = times[len(times) // 2].replace(" ", "T")
    change(browser, "#from", start)
    later = f"[...document.querySelectorAll('time')].every(t => t.dateTime >= '{start}')"
    browser.wait(f"{HITS} && {later}")


def test_side_by_side_similar_to_this_and_back(browser: Browser, served: Served) -> None:
    search(browser, served)
    click(browser, ".hit .actions button:nth-child(2)")
    browser.wait("document.querySelector('#pair').open")
    assert browser.run("document.querySelectorAll('#two circle').length") == 72
    assert "Rank 1, distance" in text(browser, "#verdict")
    assert "surfaces seen in both" in text(browser, "#parts")
    agreeing = browser.run("document.querySelectorAll('#parts tr.agrees').length")
    assert browser.run("document.querySelectorAll('#two polygon').length") == 2 * agreeing > 0
    browser.press("Escape", 27)
    browser.wait("!document.querySelector('#pair').open")
    second = ids(browser)[0]
    click(browser, ".hit .actions button")
    browser.wait(f"document.querySelector('#shown img').src.endsWith({second!r})")
    browser.run("history.back()")
    browser.wait(f"document.querySelector('#shown img').src.endsWith({CROP!r})")


def test_marks_become_labels(browser: Browser, served: Served) -> None:
    search(browser, served)
    first, second, third, *_ = ids(browser)
    for place, kind in ((1, "yes"), (2, "no"), (3, "yes"), (3, "yes")):
        click(browser, f"li:nth-child({place}) .{kind}")
    assert text(browser, "#marked") == "1 marked right, 1 wrong"
    browser.run(
        "URL.createObjectURL = (blob) => {"
        " blob.text().then(text => { window.labels = text }); return '#' }"
    )
    click(browser, "#download")
    rows = list(csv.DictReader(io.StringIO(browser.wait("window.labels"))))
    vehicles = {one["image"]: one["vehicle_id"] for one in rows}
    assert vehicles[CROP] == vehicles[first] != vehicles[second] and third not in vehicles
    click(browser, "#forget")
    assert browser.run("document.querySelector('#marks').hidden") is True


def test_after_a_failed_upload_nothing_old_is_left(browser, served, tmp_path) -> None:
    note = tmp_path / "note.jpg"
    note.write_bytes(b"no picture")
    search(browser, served)
    for _ in range(2):  # the same file can be chosen again
        browser.upload("#file", note)
        problem = browser.wait("document.querySelector('#status.problem')?.innerText")
        assert "note.jpg: not a picture" in problem and browser.run(HITS) == 0
        browser.wait("!document.querySelector('#file').value")
        browser.run("document.querySelector('#status').className = ''")
    # The browser logs every answer that is no success.
    browser.messages[:] = [one for one in browser.messages if "status of 400" not in one]


def test_it_can_be_used_by_keyboard_and_names_its_parts(browser: Browser, served: Served) -> None:
    go(browser, served)
    for button in ("#examples button", ".hit .actions button"):
        browser.run(f"document.querySelector({button!r}).focus()")
        before = browser.run("location.search")
        browser.press("Enter", 13, "\r")
        browser.wait(f"{HITS} === 24 && location.search !== {before!r}")
        browser.wait("document.activeElement.id === 'results'")
    tree = browser.call("Accessibility.getFullAXTree")["nodes"]
    nameless = [
        node["role"]["value"]
        for node in tree
        if not node.get("ignored")
        and node["role"]["value"] in ("button", "slider", "checkbox", "radio", "link", "image")
        and not node.get("name", {}).get("value")
    ]
    assert not nameless


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_nothing_is_cut_off(browser: Browser, served: Served, width: int, dark: bool) -> None:
    go(browser, served, f"?id={CROP}&view=journey&camera=8", width=width, dark=dark)
    browser.wait(f"{HITS} > 1")
    assert browser.run("document.documentElement.scrollWidth") == width
    browser.wait("[...document.images].every(i => i.loading === 'lazy' || i.naturalWidth)")
    clipped = (
        "[...document.querySelectorAll('button, .facts, .bars')]"
        ".filter(e => e.scrollWidth > e.clientWidth + 2 && e.offsetParent).length"
    )
    assert browser.run(clipped) == 0


def test_the_docs_examples_work(browser: Browser, served: Served) -> None:
    go(browser, served, "docs")
    browser.run("document.querySelectorAll('.operation button').forEach(one => one.click())")
    shown = "[...document.querySelectorAll('.operation button')].map(b => b.nextSibling)"
    browser.wait(f"{shown}.every(out => !out.hidden)")
    results = browser.run(f"{shown}.map(out => out.textContent.slice(0, 4))")
    assert len(results) == 6
    assert all(code == "200\n" for code in results), results


def test_the_token_is_asked_for_until_it_is_right(browser: Browser) -> None:
    with serving(Service(PixelPredictor(), None), token="a%b<c>^d") as served:
        browser.go(f"{served.url}/docs")
        field = "document.querySelector('#login[open] input')"
        browser.wait(f"!!{field}")
        for typed, seen in (
            ("ä€", "#login .problem:not(:empty)"),
            ("a%b<c>^d", "[data-ready]"),
        ):
            browser.run(f"{field}.value = {typed!r}")
            click(browser, "#login button")
            browser.wait(f"!!document.querySelector({seen!r})")
        go(browser, served)  # which the cookie opens
        assert "no gallery" in text(browser, "#about")
        browser.upload("#file", QUERIES[0])
        browser.wait("document.querySelector('#status').innerText.includes('with --gallery')")
    browser.messages[:] = [one for one in browser.messages if "status of 401" not in one]


def test_a_box_shows_its_crop_and_on_a_click_the_frame(browser: Browser, tmp_path: Path) -> None:
    frame = np.zeros((300, 400, 3), np.uint8)
    frame[100:200, 50:250] = 255
    image = tmp_path / "1.png"
    Image.fromarray(frame).save(image)
    predictor, boxes = PixelPredictor(), [(50, 100, 250, 200), (0, 0, 60, 60)]
    gallery = stores.open_gallery()
    gallery.add(predictor, [Entry(str(box), image, box=box) for box in boxes], progress=False)
    with serving(Service(predictor, gallery)) as served:
        go(browser, served, f"?id={boxes[1]}")
        size = "(({naturalWidth, naturalHeight}) => `${naturalWidth} ${naturalHeight}`)"
        browser.wait(f"{size}(document.querySelector('.hit img')) === '200 100'")
        click(browser, ".hit .bare")
        browser.wait(f"{size}(document.querySelector('#cut-out img')) === '400 300'")
        browser.wait("document.querySelector('#cut-out rect').getAttribute('width') === '200'")
