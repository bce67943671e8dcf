"""Journeys: linked with times that bound what can be, written, and put right by hand."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import httpx
import numpy as np
import pytest
import stores
from browser import CHROMIUM, Browser, check_page
from served import Served, serving

from multitasknet.cli import main
from multitasknet.errors import DataError, GalleryError
from multitasknet.gallery import linking
from multitasknet.gallery.gallery import Gallery
from multitasknet.gallery.journeys import (
    journeys,
    origins_and_destinations,
    pin,
    read_cameras,
    read_travel_times,
    vehicles,
    ways,
)
from multitasknet.gallery.pages import write_journeys
from multitasknet.gallery.rows import Entry
from multitasknet.server.service import Service

NOON = datetime(2026, 11, 1, 12)


def track(name: str, camera: str, look: int, start: float, seconds: float = 5) -> dict:
    """A row of a track; those of one look are near each other."""
    first, last = (NOON + timedelta(seconds=one) for one in (start, start + seconds))
    noise = np.random.default_rng([look, int(start)]).normal(size=stores.WIDTH)
    embedding = np.random.default_rng(look).normal(size=stores.WIDTH) + 0.05 * noise
    times = {"time": first, "first": first, "last": last, "type": "van"}
    return stores.row(name, look, camera=camera, track=name, embedding=embedding) | times


def numbers(gallery: Gallery) -> dict[str, int | None]:
    return {row.id: row.vehicle for row in gallery.select("true")}


def linked(gallery: Gallery) -> dict[str, int | None]:
    gallery.link(max_distance=2.0, progress=False)
    return numbers(gallery)


@pytest.fixture
def town(tmp_path: Path) -> Gallery:
    """Two vehicles from a by b to c, one from c to a, and one at b alone."""
    rows = [
        *(track(f"{camera}1", camera, 1, n * 60) for n, camera in enumerate("abc")),
        *(track(f"{camera}2", camera, 2, 7 + n * 60) for n, camera in enumerate("abc")),
        *(track(f"{camera}3", camera, 3, 30 + n * 200) for n, camera in enumerate("ca")),
        track("b4", "b", 4, 90),
    ]
    pictures = stores.draw(tmp_path / "crops", 5)
    rows = [row | {"image": str(pictures[int(row["id"][1])])} for row in rows]
    return stores.filled(*rows, path=tmp_path / "town.lance")


# Journeys


def test_a_journey_has_its_cameras_in_turn(town: Gallery) -> None:
    found = linked(town)
    assert found["b4"] is None and len({*found.values()}) == 4
    order = vehicles(town)
    assert order[-1] == found["c3"]
    first, second, third = journeys(town, order)
    assert [stop.camera for stop in first.stops] == [stop.camera for stop in second.stops]
    assert [stop.seconds for stop in first.stops] == [None, 55, 55]
    assert [row.id for row in third.rows] == ["c3", "a3"]
    assert vehicles(town, "camera = 'c' and time < '2026-11-01 12:01'") == [found["c3"]]
    ends = origins_and_destinations([first, second, third])
    assert {way: (one.vehicles, one.median) for way, one in ends.items()} == {
        ("a", "c"): (2, 115),
        ("c", "a"): (1, 195),
    }
    assert list(ways([first, second, third])) == [("a", "b"), ("b", "c"), ("c", "a")]


def test_crops_without_tracks_have_journeys_too() -> None:
    rows = [
        track(f"{k}{n}", camera, 1, 60 * k + 2 * n) | {"track": "", "first": None, "last": None}
        for k, camera in enumerate("aba")
        for n in range(3)
    ]
    rows.append(rows[0] | {"id": "unknown", "camera": "", "time": None})
    gallery = stores.filled(*rows)
    pin(gallery, [row["id"] for row in rows])
    (one,) = journeys(gallery, vehicles(gallery))
    assert [(stop.camera, len(stop.rows)) for stop in one.stops] == [("a", 3), ("b", 3), ("a", 3)]
    assert [stop.seconds for stop in one.stops] == [None, 56, 56]
    assert one.rows[-1].id == "unknown" and one.rows[0].last == NOON


def test_vehicles_are_split_and_merged_by_hand_and_linking_keeps_it(town: Gallery) -> None:
    before = linked(town)
    number = pin(town, ["b1"])
    assert numbers(town) == before | {"b1": number} and number not in before.values()
    merged = pin(town, ["a2", "b2", "c2", "b4"])
    for found in (numbers(town), linked(town)):
        assert found["a2"] == found["b2"] == found["c2"] == found["b4"] != found["a1"]
        assert found["a1"] == found["c1"] != found["b1"] is not None
        assert found["a3"] == found["c3"]
    assert merged > number
    # What comes later may join.
    town.merge([track("d1", "d", 1, 180)], insert=True)
    found = linked(town)
    assert found["d1"] in (found["a1"], found["b1"])
    with pytest.raises(GalleryError, match="no row has the id 'nobody'"):
        pin(town, ["a1", "nobody"])
    with pytest.raises(GalleryError, match="no row is named"):
        pin(town, [])


def test_what_is_put_right_while_others_write_is_not_lost(
    town: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    linked(town)
    with monkeypatch.context() as patch:
        plain = linking.link
        patch.setattr(linking, "link", lambda *of, **how: pin(town, ["b1"]) and plain(*of, **how))
        with pytest.raises(GalleryError, match="put right by hand meanwhile; link again"):
            linked(town)
    found = linked(town)
    assert found["a1"] == found["c1"] != found["b1"]
    # A camera is corrected: the row was read before it is pinned, and written after.
    (row,) = town.rows(["image", "sha256"], "id = 'b4'")
    predictor, merge = stores.PixelPredictor(), town.merge
    entry = Entry("b4", Path(row["image"]), camera="b")
    town.add(predictor, [entry], reembed=True, progress=False)

    def pinned_meanwhile(rows: object, **how: object) -> None:
        monkeypatch.undo()
        pin(town, ["b4", "a2"])
        merge(rows, **how)

    monkeypatch.setattr(town, "merge", pinned_meanwhile)
    town.add(predictor, [replace(entry, camera="d")], progress=False)
    pins = {row["id"]: row["pinned"] for row in town.rows(["id", "pinned"])}
    assert pins["b4"] == pins["a2"] is not None
    assert town.row("b4").camera == "d"


def test_a_pinned_row_that_is_embedded_again_stays_pinned(tmp_path: Path) -> None:
    paths = stores.draw(tmp_path / "crops", 2)
    predictor = stores.PixelPredictor()
    gallery = Gallery.create(tmp_path / "a.lance", predictor)
    gallery.add(predictor, paths, progress=False)
    pin(gallery, [str(one) for one in paths])
    gallery.add(stores.PixelPredictor("cd" * 32), paths, reembed=True, progress=False)
    assert len({*linked(gallery).values()} - {None}) == 1


# The server and its page


@pytest.fixture
def server(town: Gallery) -> Iterator[Served]:
    linked(town)
    with serving(Service(stores.PixelPredictor(), town)) as running:
        yield running


def found_by(server: Served, **options: object) -> dict:
    return httpx.get(f"{server.url}/api/vehicles", params=options).raise_for_status().json()


def test_the_server_lists_vehicles_and_keeps_what_a_caller_puts_right(
    server: Served, town: Gallery
) -> None:
    found = found_by(server, top=2)
    assert found["total"] == 3 and len(found["vehicles"]) == 2
    crops = found["vehicles"][0]["crops"]
    assert [crop["camera"] for crop in crops] == ["a", "b", "c"]
    assert {crop["vehicle"] for crop in crops} == {found["vehicles"][0]["vehicle"]}
    assert crops[0]["last"] > crops[0]["first"] == crops[0]["time"]
    (third,) = found_by(server, skip=2)["vehicles"]
    assert found_by(server, vehicle=third["vehicle"])["vehicles"] == [third]
    assert found_by(server, cameras="b")["total"] == 2
    alone = found_by(server, alone=True)
    assert alone["total"] == 1 and alone["vehicles"][0]["crops"][0]["id"] == "b4"
    address = f"{server.url}/api/vehicles"
    number = httpx.post(address, json={"ids": ["b4", "c3"]}).json()["vehicle"]
    rows = numbers(town)
    assert rows["b4"] == rows["c3"] == number != rows["a3"]
    before = town.table.version
    for status, sent in (
        (404, {"json": {"ids": ["b4", "/etc/passwd"]}}),
        (404, {"json": {"ids": ["nobody"]}}),
        (400, {"json": {"ids": []}}),
        # What a page of another site can send without asking.
        (400, {"content": '{"ids": ["b4"]}', "headers": {"Content-Type": "text/plain"}}),
        (400, {"content": '{"ids": ["b4"]}'}),
    ):
        answer = httpx.post(address, **sent)
        assert answer.status_code == status, (sent, answer.text)
    assert town.table.version == before


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_the_page_splits_and_merges_vehicles(server: Served, town: Gallery, tmp_path: Path) -> None:
    pytest.importorskip("websocket", reason="needs websocket-client")
    with closing(Browser(tmp_path / "profile")) as browser:
        for width in (390, 1280):
            browser.go("about:blank")
            browser.wait("location.href === 'about:blank'")
            browser.go(f"{server.url}/vehicles", width=width, dark=width < 500)
            browser.wait("document.body.dataset.ready")
            assert browser.run("document.documentElement.scrollWidth") == width
        label = browser.run("document.querySelector('.timeline').getAttribute('aria-label')")
        assert label.startswith("Camera a at 12:00:00, Camera b at 12:01:00, Camera c at 12:02:00")
        bars = "[...document.querySelectorAll('.vehicle:first-child i')].map(i => i.style.left)"
        assert browser.run(bars) == ["0%", "48%", "96%"]
        status, button = "document.querySelector('#status')", "document.querySelector('#pin')"
        assert browser.run(f"{status}.innerText") == "3 of 3 vehicles shown"
        # By keyboard: one picture of the first vehicle, then the button.
        browser.run("document.querySelector('.crop input').focus()")
        browser.press(" ", 32, " ")
        assert browser.run(f"{button}.innerText") == "Split off as another vehicle"
        browser.run(f"{button}.focus()")
        browser.press("Enter", 13, "\r")
        browser.wait(f"{status}.innerText.startsWith('1 picture is vehicle')")
        assert browser.run("document.activeElement.id") == "results"
        # A whole vehicle, and what no vehicle has.
        browser.run("document.querySelector('.vehicle h3 input').click()")
        browser.run("document.querySelector('[name=view][value=alone]').click()")
        browser.wait("document.querySelectorAll('.crop').length === 1")
        assert "alone" in browser.run("location.search")
        browser.run("document.querySelector('.crop input').click()")
        assert browser.run(f"{button}.innerText") == "Make them one vehicle"
        browser.run(f"{button}.click()")
        browser.wait(f"{status}.innerText.startsWith('4 pictures are vehicle')")
        tree = browser.call("Accessibility.getFullAXTree")["nodes"]
        assert all(
            node.get("name", {}).get("value")
            for node in tree
            if not node.get("ignored") and node["role"]["value"] in ("button", "checkbox", "image")
        )
        assert not [text for text in browser.messages if not text.startswith("[DOM]")]
    sizes = Counter(row["vehicle"] for row in town.rows(["vehicle"], "vehicle is not null"))
    assert sorted(sizes.values()) == [1, 2, 2, 4] and town.count("pinned is null") == 2


# Files


def test_the_command_writes_tables_lines_and_a_page(
    town: Gallery,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    times = tmp_path / "times.csv"
    times.write_text("from,to,least,most\na,b,10,90\nb,c,10,90\nnowhere,b,1,2\n")
    store, limit = town.path, ["--max-distance", "2"]
    assert main(["gallery", "link", store, *limit, "--travel-times", "learn", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["travel_times"] == []
    assert main(["gallery", "link", store, *limit, "--travel-times", str(times)]) == 0
    assert "with several crops  3" in capsys.readouterr().out
    assert "cameras that no row has: nowhere" in caplog.text
    cameras = tmp_path / "cameras.csv"
    cameras.write_text("name,latitude,longitude\na,52.5,13.4\nb,52.51,13.41\nc,52.5,13.42\n")
    written = {kind: tmp_path / f"journeys.{kind}" for kind in ("csv", "geojson", "html")}
    for path in written.values():
        line = ["gallery", "journeys", store, "--output", str(path), "--cameras", str(cameras)]
        assert main(line) == 0
        assert "a -> c" in capsys.readouterr().out
    with written["csv"].open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8 and [row["seconds"] for row in rows[:3]] == ["", "55.0", "55.0"]
    assert [row["camera"] for row in rows[:3]] == ["a", "b", "c"] and rows[1]["stop"] == "2"
    features = json.loads(written["geojson"].read_text())["features"]
    lines = [one for one in features if one["geometry"]["type"] == "LineString"]
    assert len(features) == 6 and len(lines) == 3
    assert lines[0]["geometry"]["coordinates"] == [[13.4, 52.5], [13.41, 52.51], [13.42, 52.5]]
    assert lines[0]["properties"]["first"][1] == "2026-11-01T12:01:00"
    page = written["html"].read_text()
    assert page.count("<h3>Vehicle") == 3 and page.count("data:image/jpeg") == 8
    assert "a → b → c" in page and ">2</text>" in page and "55 s later" in page
    if CHROMIUM:
        check_page(written["html"], 500)
    (found,) = main_json(capsys, "gallery", "journeys", store, "--output", str(written["csv"]))
    assert found["vehicles"] == found["of several cameras"] == 3
    assert found["origins_and_destinations"][0] == {
        "from": "a",
        "to": "c",
        "vehicles": 2,
        "median": 115.0,
        "spread": 0.0,
    }


def main_json(capsys: pytest.CaptureFixture[str], *line: str) -> list[dict]:
    assert main([*line, "--json"]) == 0
    return [json.loads(one) for one in capsys.readouterr().out.splitlines()]


def test_what_cannot_be_written_says_why(
    town: Gallery, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["gallery", "journeys", town.path, "--output"]
    assert main([*line, str(tmp_path / "a.csv")]) == 2
    assert "'gallery link' finds them first" in capsys.readouterr().err
    assert main([*line, str(tmp_path / "a.txt")]) == 2
    assert "ends in .html, .csv or .geojson" in capsys.readouterr().err
    linked(town)
    with pytest.raises(GalleryError, match="camera 'c' is not among a, b"):
        write_journeys(
            tmp_path / "a.geojson", journeys(town, vehicles(town)), {"a": (0, 0), "b": (0, 0)}
        )


@pytest.mark.parametrize(
    ("read", "text", "message"),
    [
        (read_cameras, "name,latitude\na,1\n", "longitude must be there"),
        (
            read_cameras,
            "name,latitude,longitude\na,91,0\n",
            "2: latitude is '91'; expected a number",
        ),
        (read_travel_times, "from,to,least,most\na,b,9,x\n", "most is 'x'"),
        (read_travel_times, "from,to,least,most\na,b,9,nan\n", "most is 'nan'"),
        (read_travel_times, "from,to,least,most\na,b,9,3\n", "least is 9 and most 3"),
    ],
)
def test_faulty_files_name_the_line(tmp_path: Path, read, text: str, message: str) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        read(tmp_path / "a.csv")
