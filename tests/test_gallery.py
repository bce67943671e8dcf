"""A gallery, in memory and on disk: what is in it, what is found, and the commands for it."""

from __future__ import annotations

import csv
import io
import json
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import drawn
import numpy as np
import pytest
import stores
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from stores import PixelPredictor

from multitasknet import Calibration, compare
from multitasknet.cli import main
from multitasknet.errors import GalleryError, MultiTaskNetError
from multitasknet.gallery.gallery import Gallery, open_gallery
from multitasknet.gallery.rows import Facets, GalleryRow
from multitasknet.models.multitasknet.spec import MultiTaskNetSpec
from multitasknet.ranking.distances import squared_distances

NOON = datetime(2026, 11, 1, 12)
COUNT = 60


def row_of(number: int) -> dict[str, Any]:
    camera, time = ("", "2", "11")[number % 3], NOON + timedelta(seconds=number)
    more = {"camera": camera, "time": time if number % 10 else None, "my time": NOON}
    return stores.row(f"it's {number}", number, type=("van", "bus")[number % 2], **more)


@pytest.fixture(scope="module", params=["memory", "disk"])
def gallery(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Gallery:
    is_disk = request.param == "disk"
    place = tmp_path_factory.mktemp("city") / "city.lance" if is_disk else "memory://"
    made = stores.open_gallery(place)
    made.add_columns([{"my time": NOON}])
    made.merge(list(map(row_of, range(COUNT))), insert=True)
    return made


FACETS = Facets(("2", "11"), ("red", "blue"), ("van", "bus"))
# Conditions, and the rows that they keep.
PARTS = [
    (None, range(COUNT)),
    (
        FACETS.where(cameras=["2", "11"], colors=["red"], types=["van"]),
        [n for n in range(COUNT) if n % 3 and n % 2 == 0],
    ),
    (
        FACETS.where(
            not_before=NOON + timedelta(seconds=7), not_after=NOON + timedelta(seconds=47)
        ),
        [n for n in range(7, 48) if n % 10],
    ),
]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 99), st.sampled_from(PARTS), st.integers(1, 70), st.none() | st.floats(0, 90))
def test_the_nearest_are_found_among_what_passes(gallery, seed, chosen, top, reach) -> None:
    where, numbers = chosen
    rows = np.stack([row_of(number)["embedding"] for number in numbers]).astype(np.float32)
    queries = np.random.default_rng(1000 + seed).normal(size=(2, stores.WIDTH)).astype(np.float32)
    found = gallery.search(queries, top=top, where=where, max_distance=reach)
    for distances, hits in zip(squared_distances(queries, rows), found, strict=True):
        expected = sorted(zip(map(float, distances), numbers, strict=True))[:top]
        near = [(far, f"it's {n}") for far, n in expected if reach is None or far <= reach]
        assert [(hit.distance, hit.row.id) for hit in hits] == near


def test_a_row_its_embedding_and_the_facets(gallery: Gallery) -> None:
    time = NOON + timedelta(seconds=17)
    assert gallery.row("it's 17") == GalleryRow(
        "it's 17", Path("/17.png"), "11", time, "blue", "bus", first=time, last=time
    )
    np.testing.assert_array_equal(gallery.embedding("it's 17"), row_of(17)["embedding"])
    assert gallery.facets.cameras == ("2", "11") and gallery.facets.colors == ("blue", "red")
    with pytest.raises(KeyError):
        gallery.row("nobody")
    with pytest.raises(ValueError, match="as many columns"):
        gallery.search(np.zeros((1, 3)), top=1)


@pytest.mark.parametrize(
    ("where", "count"),
    [
        ("time > '2026-11-01 12:00:50'", 9),
        ("time >= '2026-11-01 12:01' or time < '2026-11-01 12:00:02'", 1),
        ("time > '2026-11-01T14:00:50+02:00'", 9),
        ("time > timestamp '2026-11-01T12:00:50Z'", 9),
        ("time not between '2026-11-01 12:00' and '2026-11-01 12:00:57.5'", 2),
        ("`my time` = '2026-11-01 12:00'", 60),
        ("id <> 'time > ''2026''' and time is null", 6),
        ("camera in ('2', '11') and color = 'red'", 20),
    ],
)
def test_conditions_are_sql_and_take_times_as_people_write_them(gallery, where, count) -> None:
    assert gallery.count(where) == count


@pytest.mark.parametrize("where", ["nope = 3", "camera", "color = 3", "(", "time > 'noon'"])
def test_conditions_that_cannot_be_used_name_columns_or_value(gallery, where) -> None:
    with pytest.raises(GalleryError, match=r"columns id, image, box, camera|'noon' is not a time"):
        gallery.search(np.zeros((1, stores.WIDTH)), top=1, where=where)


def test_a_folder_is_a_gallery_in_memory(tmp_path: Path) -> None:
    crops, exif = stores.draw(tmp_path / "crops" / "b", 1)[0].parents[1], Image.Exif()
    exif[0x0132] = "2024:02:03 04:05:06"
    for name in ("0001_c002_00000001_0.jpg", "0001_c011_00000002_0.jpg"):
        Image.new("RGB", (50, 40), "teal").save(crops / name, exif=exif)
    (crops / "b" / "broken.png").write_bytes(b"no picture")
    predictor, before = PixelPredictor(), sorted(crops.rglob("*"))
    gallery = open_gallery(crops, predictor, progress=False)
    assert len(gallery) == predictor.embedded == 3 and gallery.facets.cameras == ("2", "11")
    one = gallery.row("0001_c011_00000002_0.jpg")
    assert one.time == datetime(2024, 2, 3, 4, 5, 6) and one.image.is_file()
    (found,) = predictor.stream([one.image])
    assert one.color == found.color and found.sha256 in gallery.find([found.sha256])
    np.testing.assert_allclose(gallery.embedding(one.id), found.embedding, rtol=1e-3, atol=1e-3)
    assert gallery.row("b/0-0000.png").camera == ""
    assert sorted(crops.rglob("*")) == before


def test_a_data_set_gives_its_gallery(tmp_path: Path) -> None:
    root = drawn.pamtri(tmp_path / "data", drawn.plan(2, 2, 2))
    gallery = open_gallery(root, PixelPredictor(), progress=False)
    images = sorted((root / "image_test").iterdir())
    assert len(gallery) == len(images) and gallery.facets.cameras == ("1", "2")
    assert gallery.row(f"image_test/{images[0].name}").image == images[0]
    assert gallery.count("pose_origin = 'given'") == len(images)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere", "expected a store"),
        ("file.txt", "expected a store"),
        ("empty", "no picture found"),
        ("city.lance", "there is no gallery; make one"),
        ("file.lance", "not a gallery, or a damaged one"),
        ("broken", "no picture can be read"),
        ("wide.lance", "other classes"),
    ],
)
def test_what_is_not_a_gallery(tmp_path: Path, name: str, message: str) -> None:
    for file in ("file.txt", "file.lance"):
        (tmp_path / file).touch()
    for folder in ("empty", "city.lance", "broken"):
        (tmp_path / folder).mkdir()
    (tmp_path / "broken" / "a.jpg").write_bytes(b"no picture")
    stores.open_gallery(tmp_path / "wide.lance")
    predictor = PixelPredictor(spec=MultiTaskNetSpec())
    with pytest.raises(MultiTaskNetError, match=message):
        open_gallery(tmp_path / name, predictor, progress=False)
        Gallery.create(tmp_path / name, predictor)


# Commands


@pytest.fixture
def predictor(monkeypatch: pytest.MonkeyPatch) -> PixelPredictor:
    """The commands' network knows pixels alone."""
    made = PixelPredictor()
    stores.use_in_commands(monkeypatch, made)
    return made


@pytest.fixture
def city(tmp_path: Path, predictor: PixelPredictor) -> str:
    """A store of 20 pictures of four cameras."""
    paths = stores.draw(tmp_path / "crops", 20)
    manifest = tmp_path / "m.csv"
    lines = [f"{path},c{n % 4},2026-11-01T08:00:{n:02}" for n, path in enumerate(paths)]
    manifest.write_text("\n".join(["image,camera,time", *lines]))
    assert main(["gallery", "add", str(tmp_path / "city.lance"), "--manifest", str(manifest)]) == 0
    return str(tmp_path / "city.lance")


def printed(capsys: pytest.CaptureFixture[str], *line: object) -> list[dict[str, Any]]:
    capsys.readouterr()
    assert main([*map(str, line), "--json"]) == 0
    return [json.loads(one) for one in capsys.readouterr().out.splitlines()]


def test_a_gallery_from_adding_to_forgetting(city, tmp_path, capsys) -> None:
    (info,) = printed(capsys, "gallery", "info", city)
    assert (info["rows"], info["cameras"], info["index"]) == (20, "c0, c1, c2, c3", "none")
    (linked,) = printed(capsys, "gallery", "link", city, "--false-match-rate", "0.1")
    assert linked["crops"] == 20 and linked["max distance"] > 0
    line = ["group", city, "--output", str(tmp_path / "groups"), "--max-distance", "1"]
    assert main(line) == 0 and "crops" in capsys.readouterr().out
    with (tmp_path / "groups" / "vehicles.csv").open(newline="") as file:
        vehicles = [row["vehicle"] for row in csv.DictReader(file)]
    several = {one for one in vehicles if vehicles.count(one) > 1}
    page = (tmp_path / "groups" / "vehicles.html").read_text()
    assert len(vehicles) == 20 and page.count("<h3>vehicle") == len(several)
    assert page.count("data:image/jpeg") == sum(one in several for one in vehicles)
    assert main(["gallery", "remove", city, "--where", "camera = 'c1'"]) == 0
    assert "5 rows are gone for good" in capsys.readouterr().out
    assert main(["gallery", "compact", city]) == 0
    assert main(["gallery", "export", city, str(tmp_path / "rows.csv")]) == 0
    assert len((tmp_path / "rows.csv").read_text().splitlines()) == 1 + 15
    for line, message in ((["index", city], "in no time"), (["export", city, "a.txt"], "ends in")):
        assert main(["gallery", *line]) == 2 and message in capsys.readouterr().err


def test_pictures_from_a_list_labels_and_broken_ones(
    predictor, tmp_path, monkeypatch, capsys, caplog
) -> None:
    # Tests that run side by side pass on what was logged, and fail on such a name.
    caplog.set_level("ERROR", "multitasknet.gallery.adding")
    paths, store = stores.draw(tmp_path / "crops", 3), tmp_path / "a.lance"
    labels, odd = tmp_path / "labels.csv", tmp_path / "crops" / "a\udcff.png"
    labels.write_text(",".join([paths[1].name, "1", "1", "1", *["2"] * 108]))
    text = "\n".join([*map(str, paths), str(tmp_path / "nowhere.png"), ""])
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode("utf-8-sig"))))
    (report,) = printed(capsys, "gallery", "add", store, "-", "--labels", labels)
    assert report["added"] == 3 and list(report["broken"]) == [str(tmp_path / "nowhere.png")]
    assert [row.image for row in Gallery(store).select("pose_origin = 'given'")] == [paths[1]]
    paths[0].rename(odd)
    paths[2].write_bytes(b"no picture")
    with pytest.raises(SystemExit) as stopped:
        main(["gallery", "add", str(store), str(odd), str(paths[2])])
    shown = capsys.readouterr()
    assert stopped.value.code == 1 and "no picture could be read" in shown.err
    assert "not UTF-8" in shown.out and str(paths[2]) in shown.out


def test_search_prints_what_it_found_and_how(city, predictor, tmp_path, capsys) -> None:
    query = tmp_path / "crops" / "0-0005.png"
    line = ["search", "--gallery", city, "--query", str(query)]
    (found,) = printed(capsys, *line, "--top", "3")
    first = found["matches"][0]
    assert (first["image"], first["camera"]) == (str(query), "c1") and first["distance"] < 1e-3
    assert [first[name] for name in ("rate", "rate_upper", "probability")] == [None] * 3
    assert found["in_gallery"] == str(query)
    where = "time > '2026-11-01 08:00:10' and camera = 'c2'"
    (found,) = printed(capsys, *line, "--where", where)
    assert {one["camera"] for one in found["matches"]} == {"c2"}
    assert found["searched"] == {"rows": 2, "setting": None}
    (every,) = printed(capsys, *line, "--top", "20")
    nearest = {one["camera"]: one for one in every["matches"][::-1]}
    (found,) = printed(capsys, *line, "--group-by", "camera")
    assert len(found["matches"]) == 4 and found["matches"][0] == first
    assert {one["camera"]: one for one in found["matches"]} == nearest
    (found,) = printed(capsys, *line, "--max-distance", "1e-3")
    assert [one["image"] for one in found["matches"]] == [str(query)]
    (found,) = printed(capsys, *line, "--false-match-rate", "0.2")
    assert found["max_distance"] > 0
    page = tmp_path / "page.html"
    assert main([*line, "--output", str(page)]) == 0
    out = capsys.readouterr().out
    assert "of 20 rows, each compared" in out and "camera c1" in out and "%" not in out
    assert f"{query} (in the gallery: {query})" in out
    assert page.read_text().count("data:image/jpeg") == 11
    # Only a probability that the user measured is stated.
    facts = 2.0, 5, 6, "my cars", "ab" * 32, (32, 32), "none", "float32"
    predictor.calibration = Calibration((9.0, -1.0, 0.0), *facts)
    assert main(line) == main(["compare", str(query), str(query), "--gallery", city]) == 0
    out = capsys.readouterr().out
    assert out.count("same vehicle 99 %") >= 2 and out.count("measured on my cars, 5 hits") == 2


def test_a_folder_is_searched_reading_each_picture_once(
    city, tmp_path, monkeypatch, capsys
) -> None:
    from multitasknet import images

    read: list[Path] = []
    whole = images.read_regular
    monkeypatch.setattr(images, "read_regular", lambda path: read.append(path) or whole(path))
    crops = tmp_path / "crops"
    (found,) = printed(capsys, "search", "--gallery", crops, "--query", crops / "0-0005.png")
    assert found["matches"][0]["id"] == found["in_gallery"] == "0-0005.png"
    assert len(read) == 21 and len(set(read)) == 20


def test_a_submission_has_the_100_nearest_by_their_place_in_the_list(
    city, tmp_path, capsys
) -> None:
    root, target = tmp_path / "track2", tmp_path / "out" / "track2.txt"
    names = [path.name for path in stores.draw(root / "image_test", 120)][::-1]
    (root / "name_test.txt").write_text("\n".join(names))
    (root / "train_track.txt").write_text("")
    stores.draw(root / "image_query", 2)
    line = ["search", "--query", str(root / "image_query"), "--submission", str(target)]
    assert main([*line, "--gallery", str(root)]) == 0
    gallery = PixelPredictor().embed([root / "image_test" / one for one in names]).astype(float)
    for row, ranks in enumerate(target.read_text().splitlines()):
        places = [int(one) - 1 for one in ranks.split()]
        distances = ((gallery - gallery[-1 - row]) ** 2).sum(axis=1)
        assert places[0] == 119 - row and len(set(places)) == 100
        np.testing.assert_allclose(distances[places], np.sort(distances)[:100], atol=1e-5)
    assert main([*line, "--gallery", city]) == 2
    assert "give the challenge's folder as gallery" in capsys.readouterr().err


def test_compare_takes_pictures_in_memory() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    result = compare(PixelPredictor(), picture, picture)
    assert result.distance == pytest.approx(0, abs=1e-6) and result.probability is None
