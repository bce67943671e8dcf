"""Vehicles: rows that are linked by looks, cameras and times, their ways, and put right by hand."""

from __future__ import annotations

import csv
import importlib
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import stores
from browser import CHROMIUM, Browser, check_page
from hypothesis import given, settings
from hypothesis import strategies as st
from served import Served, serving

from multitasknet.cli import main
from multitasknet.errors import DataError, GalleryError
from multitasknet.gallery import journeys as ways
from multitasknet.gallery import linking
from multitasknet.gallery.gallery import Gallery
from multitasknet.gallery.journeys import journeys, pin, vehicles
from multitasknet.gallery.linking import Sightings, link, travel_times
from multitasknet.gallery.pages import write_journeys
from multitasknet.gallery.rows import Entry
from multitasknet.ranking.distances import nearest, squared_distances
from multitasknet.server.service import Service

NOON = datetime(2026, 11, 1, 12)
# The least and most seconds from camera 1 to 2, back, or both.
SLOW = dict.fromkeys([(1, 2), (2, 1)], (30.0, 90.0))


def seen(cameras: Any, first: Any, last: Any = None, pinned: Any = None, **more: Any) -> Sightings:
    count, last = len(cameras), first if last is None else last
    return Sightings(
        range(int(max(cameras)) + 1),
        np.array(cameras),
        *(np.array(one, np.float64) for one in (first, last)),
        window=np.full(count, more.pop("window", 1.0)),
        tracks=np.arange(count),
        pinned=np.full(count, -1) if pinned is None else np.array(pinned),
        **more,
    )


def link_points(points: np.ndarray, sight: Sightings, limit: float, count: int = 50) -> np.ndarray:
    distances = squared_distances(points, points)
    near = np.stack([nearest(row, min(count, len(points))) for row in distances])
    far = np.take_along_axis(distances, near, axis=1)
    return link(points, near, far, sight, max_distance=limit)


@pytest.mark.parametrize(
    ("points", "cameras", "first", "more", "vehicles"),
    [
        # Mutual neighbours across cameras.
        ([0, 0.1, 5, 5.1, 9], [1, 2, 1, 2, 3], [0, 9, 0, 9, 20], {}, [0, 0, 1, 1, 2]),
        # The second is the first's nearest of camera 1, but has a nearer one in camera 2.
        ([0.55, 0.3, 0.06], [2, 1, 2], [0, 9, 20], {"limit": 0.2}, [0, 1, 1]),
        # Each is the next one's neighbour, 0.9 apart; the ends of three are 3.24 apart.
        ([0, 0.9, 1.81, 2.73], [1, 2, 3, 4], [0, 9, 20, 30], {}, [0, 0, 1, 1]),
        # A camera sees a vehicle once in a window.
        ([0, 0.1, 0.2], [1, 1, 2], [0, 0.5, 9], {}, [0, 1, 1]),
        ([0, 0.1, 0.2], [1, 1, 2], [0, 0.5, 9], {"window": [1e-6, 1, 1]}, [0, 0, 0]),
        ([0, 0.1, 0.2], [1, 1, 2], [0, np.nan, 9], {}, [0, 0, 0]),
        ([0, 0.1, 0.2], [-1, -1, -1], [0, 0, 0], {}, [0, 0, 0]),
        # Tracks of one camera overlap, or do not.
        ([0, 0.1, 0.2], [1, 1, 2], [0, 4, 60], {"last": [5, 9, 65], "window": 1e-6}, [0, 1, 1]),
        ([0, 0.1, 0.2], [1, 1, 2], [0, 5.1, 60], {"last": [5, 9, 65], "window": 1e-6}, [0, 0, 0]),
        # Rows of one time may have gone either way.
        ([0, 0.1], [1, 2], [5, 5], {"bounds": {(2, 1): (30, 90)}}, [0, 0]),
        ([0, 0.1], [1, 2], [5, 5], {"bounds": SLOW}, [0, 1]),
        # The first's nearest of camera 2 was there too early, which does not hide the next one.
        ([0, 0.1, -0.3], [1, 2, 2], [0, 5, 60], {"bounds": SLOW}, [0, 1, 0]),
        # What was pinned stays together and apart.
        ([0, 0.1, 0.2, 9], [1, 2, 3, 4], [0, 9, 20, 30], {"pinned": [7, 8, -1, 7]}, [0, 1, 1, 0]),
    ],
)  # fmt: skip
def test_which_images_are_one_vehicle(points, cameras, first, more, vehicles) -> None:
    sight = {name: one for name, one in more.items() if name != "limit"}
    array = np.array(points, np.float32)[:, None]
    found = link_points(array, seen(cameras, first, **sight), more.get("limit", 1.0))
    assert found.tolist() == vehicles


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 9999), st.integers(3, 40))
def test_no_vehicle_is_in_two_places_or_too_fast_or_too_slow(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(count, 2)).astype(np.float32)
    first = rng.uniform(0, 300, count)
    first[rng.random(count) < 0.1] = np.nan
    last = first + rng.uniform(0, 20, count)
    pinned = np.where(rng.random(count) < 0.2, rng.integers(3, size=count), -1)
    bounds = {(a, b): (20.0, 80.0) for a in range(3) for b in range(3) if a != b}
    where = np.append([0, 1, 2], rng.integers(-1, 3, count - 3))
    groups = link_points(points, seen(where, first, last, pinned, window=1e-6, bounds=bounds), 4)
    for group in range(groups.max() + 1):
        rows = np.flatnonzero(groups == group)
        pins = {*pinned[rows].tolist()} - {-1}
        assert len(pins) <= 1
        # What was pinned together is believed, whatever its times.
        rows = [row for row in rows if not pins and not np.isnan(first[row])]
        rows.sort(key=first.__getitem__)
        for a, b in combinations(rows, 2):
            if min(where[a], where[b]) >= 0:
                assert first[b] - last[a] >= (1e-6 if where[a] == where[b] else 20)
        for a, b in pairwise(rows):
            if where[a] != where[b] and min(where[a], where[b]) >= 0:
                assert first[b] - last[a] <= 80


def precision_and_recall(found: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Of pairs of images in one group."""
    first, second = np.triu_indices(len(found), k=1)
    together, same = found[first] == found[second], truth[first] == truth[second]
    right = (together & same).sum()
    return right / together.sum(), right / same.sum()


def test_learned_travel_times_tell_apart_what_looks_alike() -> None:
    # 80 vehicles of 8 looks pass three cameras, 40 and 70 seconds apart.
    rng = np.random.default_rng(1)
    looks = rng.normal(size=(8, 32))
    truth, cameras = np.repeat(np.arange(80), 3), np.tile([0, 1, 2], 80)
    start = np.repeat(rng.uniform(0, 3600, 80), 3) + np.tile([0, 45, 120], 80)
    start += 3 * rng.normal(size=240)
    points = looks[truth % 8] + 0.4 * rng.normal(size=(240, 32))
    points = (points + 0.3 * rng.normal(size=(80, 32))[truth]).astype(np.float32)
    sight = seen(cameras, start, start + 5, window=1e-6)
    plain = link_points(points, sight, 12)
    learned = travel_times(plain, sight)
    assert learned[0, 1].median == pytest.approx(40, abs=3)
    assert learned[1, 2].median == pytest.approx(70, abs=3)
    bounds = {way: one.bounds for way, one in learned.items()}
    bounded = link_points(points, seen(cameras, start, start + 5, window=1e-6, bounds=bounds), 12)
    before, after = (precision_and_recall(one, truth) for one in (plain, bounded))
    assert after[0] > before[0] + 0.1 and after[1] > before[1]


def test_no_two_of_a_linked_vehicle_are_too_far_apart_in_a_dense_gallery() -> None:
    # Far more rows of one look than neighbours that are looked at: what is not among these is
    # unknown, which is not near.
    rng = np.random.default_rng(0)
    truth = np.repeat(np.arange(60), 10)
    embeddings = rng.normal(size=(60, stores.WIDTH))[truth]
    embeddings = (embeddings + 0.7 * rng.normal(size=embeddings.shape)).astype(np.float32)
    distances = squared_distances(embeddings, embeddings)
    limit = float(np.quantile(distances[truth[:, None] < truth], 0.01))
    unknown = seen(np.full(len(truth), -1), np.full(len(truth), np.nan))
    found = link_points(embeddings, unknown, limit, count=8)
    assert distances[found[:, None] == found].max() <= 1.5 * limit
    assert np.bincount(found).max() <= 20
    assert precision_and_recall(found, truth)[0] > 0.5


def test_a_gallery_knows_its_vehicles() -> None:
    colors = ((250, 0, 0), (0, 250, 0), (248, 0, 0), (0, 0, 250), (249, 2, 0))
    rows = []
    for n, color in enumerate(colors):
        look = stores.PixelPredictor().one(np.full((4, 4, 3), color, np.uint8)).embedding
        row = stores.row(f"{n}", n, camera=f"c{n}", embedding=look)
        rows.append(row | {"time": NOON - timedelta(hours=n)})
    gallery = stores.filled(*rows)
    expected = {"crops": 5, "vehicles": 3, "with several crops": 1, "max distance": 0.1}
    for _ in range(2):
        assert gallery.link(max_distance=0.1, progress=False).counts == expected
    assert stores.column(gallery, "vehicle") == [0, None, 0, None, 0]
    assert gallery.group(max_distance=0.1).vehicles.tolist() == [0, 1, 0, 2, 0]
    with pytest.raises(GalleryError, match="no rows to group"):
        stores.open_gallery().group(max_distance=0.1)


def test_a_long_track_finds_other_cameras() -> None:
    # 60 rows of each track, nearer each other than another camera's.
    rng, rows = np.random.default_rng(0), []
    for vehicle in range(4):
        look = rng.normal(size=stores.WIDTH)
        for place, camera in enumerate("ab"):
            light = look + 0.2 * rng.normal(size=stores.WIDTH)
            start = NOON + timedelta(seconds=100 * vehicle + 60 * place)
            rows += [
                stores.row(f"{vehicle}{camera}{n}", n, camera=camera, track=f"t{vehicle}")
                | {"time": start + timedelta(seconds=n / 10)}
                | {"embedding": stores.halves(light + 0.05 * rng.normal(size=stores.WIDTH))}
                for n in range(60)
            ]
    assert stores.filled(*rows).link(max_distance=8, progress=False).counts["vehicles"] == 4


@pytest.mark.parametrize("camera", ["a", ""])
def test_rows_of_a_track_are_one_vehicle(camera: str) -> None:
    # Two tracks whose times cross; where cameras are unknown, tracks of two folders.
    rows = [
        stores.row(f"{n}", 10 * n, camera=camera, track="tu"[n % 2] if camera else "t")
        | {"image": f"/{n % 2}/{n}.png", "time": NOON + timedelta(seconds=n)}
        for n in range(6)
    ]
    groups = stores.filled(*rows).link(max_distance=1e-6, progress=False).vehicles
    assert groups.tolist() == [0, 1, 0, 1, 0, 1]


# Journeys


def track(name: str, camera: str, look: int, start: float) -> dict:
    """A row of a track of 5 seconds; those of one look are near each other."""
    first, last = (NOON + timedelta(seconds=one) for one in (start, start + 5))
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
    ends = ways.origins_and_destinations([first, second, third])
    assert {way: (one.vehicles, one.median) for way, one in ends.items()} == {
        ("a", "c"): (2, 115),
        ("c", "a"): (1, 195),
    }
    assert list(ways.ways([first, second, third])) == [("a", "b"), ("b", "c"), ("c", "a")]


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
    pin(town, ["a2", "b2", "c2", "b4"])
    for found in (numbers(town), linked(town)):
        assert found["a2"] == found["b2"] == found["c2"] == found["b4"] != found["a1"]
        assert found["a1"] == found["c1"] != found["b1"] is not None
        assert found["a3"] == found["c3"]
    # What comes later may join.
    town.merge([track("d1", "d", 1, 180)], insert=True)
    found = linked(town)
    assert found["d1"] in (found["a1"], found["b1"])
    for ids, message in ((["a1", "nobody"], "no row has the id 'nobody'"), ([], "no row is named")):
        with pytest.raises(GalleryError, match=message):
            pin(town, ids)


def test_what_is_put_right_by_hand_is_not_lost(town, monkeypatch) -> None:
    linked(town)
    with monkeypatch.context() as patch:
        plain = linking.link
        patch.setattr(linking, "link", lambda *of, **how: pin(town, ["b1"]) and plain(*of, **how))
        with pytest.raises(GalleryError, match="put right by hand meanwhile; link again"):
            linked(town)
    found = linked(town)
    assert found["a1"] == found["c1"] != found["b1"]
    # A row that is corrected, or embedded again, stays pinned.
    pin(town, ["b4", "a2"])
    (row,) = town.rows(["image"], "id = 'b4'")
    for camera, weights in (("b", "ab"), ("d", "ab"), ("d", "cd")):
        entry = Entry("b4", Path(row["image"]), camera=camera)
        town.add(stores.PixelPredictor(weights * 32), [entry], reembed=True, progress=False)
    found = linked(town)
    assert found["b4"] == found["a2"] is not None and town.row("b4").camera == "d"


# The server and its page


@pytest.fixture
def server(town: Gallery) -> Iterator[Served]:
    linked(town)
    with serving(Service(stores.PixelPredictor(), town)) as running:
        yield running


def test_the_server_lists_vehicles_and_keeps_what_a_caller_puts_right(server, town) -> None:
    address = f"{server.url}/api/vehicles"

    def found_by(**options: object) -> dict:
        return httpx.get(address, params=options).raise_for_status().json()

    found = found_by(top=2)
    assert found["total"] == 3 and len(found["vehicles"]) == 2
    assert [crop["camera"] for crop in found["vehicles"][0]["crops"]] == ["a", "b", "c"]
    (third,) = found_by(skip=2)["vehicles"]
    assert found_by(vehicle=third["vehicle"])["vehicles"] == [third]
    assert found_by(cameras="b")["total"] == 2
    assert found_by(alone=True)["vehicles"][0]["crops"][0]["id"] == "b4"
    number = httpx.post(address, json={"ids": ["b4", "c3"]}).json()["vehicle"]
    rows = numbers(town)
    assert rows["b4"] == rows["c3"] == number != rows["a3"]
    assert httpx.post(address, json={"ids": ["b4", "/etc/passwd"]}).status_code == 404
    # What a page of another site can send without asking.
    plain = {"Content-Type": "text/plain"}
    assert httpx.post(address, content='{"ids": ["b4"]}', headers=plain).status_code == 400
    assert numbers(town) == rows


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_the_page_splits_and_merges_vehicles(server: Served, town: Gallery, tmp_path: Path) -> None:
    pytest.importorskip("websocket", reason="needs websocket-client")
    with closing(Browser(tmp_path / "profile")) as browser:
        browser.go(f"{server.url}/vehicles", width=390)
        browser.wait("document.body.dataset.ready")
        assert browser.run("document.documentElement.scrollWidth") == 390
        label = browser.run("document.querySelector('.timeline').getAttribute('aria-label')")
        assert label.startswith("Camera a at 12:00:00, Camera b at 12:01:00, Camera c at 12:02:00")
        status, button = "document.querySelector('#status')", "document.querySelector('#pin')"
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
        browser.run("document.querySelector('.crop input').click()")
        browser.run(f"{button}.click()")
        browser.wait(f"{status}.innerText.startsWith('4 pictures are vehicle')")
        assert not [text for text in browser.messages if not text.startswith("[DOM]")]
    sizes = Counter(row["vehicle"] for row in town.rows(["vehicle"], "vehicle is not null"))
    assert sorted(sizes.values()) == [1, 2, 2, 4] and town.count("pinned is null") == 2


# Files


def test_the_command_writes_tables_lines_and_a_page(town, tmp_path, capsys, caplog) -> None:
    times = tmp_path / "times.csv"
    times.write_text("from,to,least,most\na,b,10,90\nb,c,10,90\nnowhere,b,1,2\n")
    link = ["gallery", "link", town.path, "--max-distance", "2", "--travel-times"]
    written = {kind: tmp_path / f"journeys.{kind}" for kind in ("csv", "geojson", "html")}
    line = ["gallery", "journeys", town.path, "--output"]
    assert main([*line, str(written["csv"])]) == 2
    assert "'gallery link' finds them first" in capsys.readouterr().err
    assert main([*link, "learn", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["travel_times"] == []
    assert main([*link, str(times)]) == 0
    assert "with several crops  3" in capsys.readouterr().out
    assert "cameras that no row has: nowhere" in caplog.text
    cameras = tmp_path / "cameras.csv"
    cameras.write_text("name,latitude,longitude\na,52.5,13.4\nb,52.51,13.41\nc,52.5,13.42\n")
    for path in written.values():
        assert main([*line, str(path), "--cameras", str(cameras)]) == 0
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
    assert main([*line, str(written["csv"]), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["vehicles"] == found["of several cameras"] == 3
    way = {"from": "a", "to": "c", "vehicles": 2, "median": 115.0, "spread": 0.0}
    assert found["origins_and_destinations"][0] == way
    assert main([*line, str(tmp_path / "a.txt")]) == 2
    assert "ends in .html, .csv or .geojson" in capsys.readouterr().err
    with pytest.raises(GalleryError, match="camera 'c' is not among a, b"):
        found = journeys(town, vehicles(town))
        write_journeys(tmp_path / "a.geojson", found, {"a": (0, 0), "b": (0, 0)})


@pytest.mark.parametrize(
    ("read", "text", "message"),
    [
        (ways.read_cameras, "name,latitude\na,1\n", "longitude must be there"),
        (ways.read_cameras, "name,latitude,longitude\na,91,0\n", "2: latitude is '91'; expected"),
        (ways.read_travel_times, "from,to,least,most\na,b,9,nan\n", "most is 'nan'"),
        (ways.read_travel_times, "from,to,least,most\na,b,9,3\n", "least is 9 and most 3"),
        (
            ways.read_travel_times,
            "from,to,least,most\na,b,1,3\na,c,1,3\na,b,2,3\n",
            "4: there is a row of from and to a, b already",
        ),
        (ways.read_cameras, "name,latitude,longitude\na,1,0\na,2,0\n", "row of name a already"),
    ],
)
def test_faulty_files_name_the_line(tmp_path: Path, read, text: str, message: str) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        read(tmp_path / "a.csv")


# The benchmark: its IDF1, by hand


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    return importlib.import_module("journeys")


# Of vehicles a and b before cameras 1 and 2, in two frames each: the names that are found.
@pytest.mark.parametrize(
    ("names", "idf1"),
    [
        ("ab ab ab ab", 1),
        ("ab ab cd cd", 8 / 16),  # each has another number before each camera: one of two counts
        ("xx xx xx xx", 8 / 16),
        ("ab ab ab ba", 12 / 16),
        ("-- x- -- x-", 4 / 10),
    ],
)
def test_idf1_by_hand(benchmark, names: str, idf1: float) -> None:
    def seen(names: str, x: int) -> list:
        boxes = [(left, 0, left + 10, 10) for left in (x, x + 20)]
        places = [(camera, frame, box) for camera in "12" for frame in range(2) for box in boxes]
        found = zip(places, names.replace(" ", ""), strict=True)
        return [benchmark.Seen(*one[:2], name, one[2]) for one, name in found if name != "-"]

    true = seen("ab ab ab ab", 0)
    assert benchmark.idf1(true, seen(names, 3)) == pytest.approx(idf1)
    assert benchmark.idf1(true, seen(names, 4)) == 0  # they overlap by 6 of 14, less than a half
