"""The commands ``gallery``, ``search``, ``group`` and ``compare``."""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import stores
from stores import PixelPredictor

from multitasknet import Calibration
from multitasknet.cli import main
from multitasknet.gallery.gallery import Gallery


@pytest.fixture(autouse=True)
def predictor(monkeypatch: pytest.MonkeyPatch) -> PixelPredictor:
    """The commands' network knows pixels alone."""
    made = PixelPredictor()
    stores.use_in_commands(monkeypatch, made)
    return made


@pytest.fixture
def city(tmp_path: Path) -> str:
    """A store of 20 pictures of four cameras."""
    paths = stores.draw(tmp_path / "crops", 20)
    manifest = tmp_path / "m.csv"
    lines = [f"{path},c{n % 4},2026-11-01T08:00:{n:02}" for n, path in enumerate(paths)]
    manifest.write_text("\n".join(["image,camera,time", *lines]))
    assert main(["gallery", "add", str(tmp_path / "city.lance"), "--manifest", str(manifest)]) == 0
    return str(tmp_path / "city.lance")


def printed(capsys: pytest.CaptureFixture[str], *line: str) -> list[dict[str, Any]]:
    capsys.readouterr()
    assert main([*line, "--json"]) == 0
    return [json.loads(one) for one in capsys.readouterr().out.splitlines()]


def query(city: str, number: int = 5) -> str:
    return str(Path(city).parent / "crops" / f"0-{number:04}.png")


def test_a_gallery_from_adding_to_forgetting(
    city: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (info,) = printed(capsys, "gallery", "info", city)
    assert (info["rows"], info["cameras"], info["index"]) == (20, "c0, c1, c2, c3", "none")
    (again,) = printed(capsys, "gallery", "add", city, str(tmp_path / "crops"))
    assert again == {"added": 0, "unchanged": 20, "moved": 0, "low_quality": {}, "broken": {}}
    (linked,) = printed(capsys, "gallery", "link", city, "--false-match-rate", "0.1")
    assert linked["crops"] == 20 and linked["max distance"] > 0
    assert main(["gallery", "remove", city, "--where", "camera = 'c1'"]) == 0
    assert "5 rows are gone for good" in capsys.readouterr().out
    assert main(["gallery", "compact", city]) == 0
    assert main(["gallery", "export", city, str(tmp_path / "rows.csv")]) == 0
    (info,) = printed(capsys, "gallery", "info", city)
    assert info["rows"] == len((tmp_path / "rows.csv").read_text().splitlines()) - 1 == 15
    assert main(["gallery", "index", city]) == 2
    assert "searched exactly in no time" in capsys.readouterr().err


def test_pictures_from_a_list_and_broken_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = stores.draw(tmp_path / "crops", 3)
    text = "\n".join([*map(str, paths), str(tmp_path / "nowhere.png"), ""])
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode("utf-8-sig"))))
    (report,) = printed(capsys, "gallery", "add", str(tmp_path / "a.lance"), "-")
    assert report["added"] == 3 and list(report["broken"]) == [str(tmp_path / "nowhere.png")]
    paths[0].write_bytes(b"no picture")
    for place, code in (("b.lance", 1), ("a.lance", 1)):
        with pytest.raises(SystemExit) as stopped:
            main(["gallery", "add", str(tmp_path / place), str(paths[0])])
        assert stopped.value.code == code
        assert "no picture could be read" in capsys.readouterr().err


def test_labels_give_keypoints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, _ = stores.draw(tmp_path / "crops", 2)
    (tmp_path / "labels.csv").write_text(",".join([first.name, "1", "1", "1", *["2"] * 108]))
    store, labels = str(tmp_path / "city.lance"), str(tmp_path / "labels.csv")
    printed(capsys, "gallery", "add", store, str(first.parent), "--labels", labels)
    gallery = Gallery(store)
    assert len(gallery) == 2
    assert [row.image for row in gallery.select("pose_origin = 'given'")] == [first]


def test_search_prints_what_it_found_and_how(
    city: str, predictor: PixelPredictor, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["search", "--gallery", city, "--query", query(city)]
    (found,) = printed(capsys, *line, "--top", "3")
    first = found["matches"][0]
    assert (first["image"], first["camera"]) == (query(city), "c1")
    assert first["distance"] < 1e-3
    assert [first[name] for name in ("rate", "rate_upper", "probability")] == [None] * 3
    assert found["in_gallery"] == query(city)
    assert found["searched"] == {"rows": 20, "setting": None}
    where = "time > '2026-11-01 08:00:10' and camera = 'c2'"
    (found,) = printed(capsys, *line, "--where", where)
    assert {one["camera"] for one in found["matches"]} == {"c2"}
    assert found["searched"]["rows"] == len(found["matches"]) == 2
    (found,) = printed(capsys, *line, "--group-by", "camera")
    assert sorted(one["camera"] for one in found["matches"]) == ["c0", "c1", "c2", "c3"]
    (found,) = printed(capsys, *line, "--max-distance", "1e-3")
    assert [one["image"] for one in found["matches"]] == [query(city)]
    assert main([*line, "--false-match-rate", "0.00001"]) == 2
    assert "cannot be known from 190 pairs" in capsys.readouterr().err
    both = printed(capsys, *line, query(city, 6), "--false-match-rate", "0.2")
    assert [one["in_gallery"] for one in both] == [query(city), query(city, 6)]
    assert both[0]["max_distance"] > 0
    page = Path(city).parent / "page.html"
    assert main([*line, "--output", str(page)]) == 0
    out = capsys.readouterr().out
    assert "of 20 rows, each compared" in out and "camera c1" in out and "%" not in out
    assert f"{query(city)} (in the gallery: {query(city)})" in out
    assert page.read_text().count("data:image/jpeg") == 11


def test_probabilities_are_those_that_the_user_measured(
    city: str, predictor: PixelPredictor, capsys: pytest.CaptureFixture[str]
) -> None:
    predictor.calibration = Calibration(
        (9.0, -1.0, 0.0), 2.0, 5, 6, "my cars", "ab" * 32, (32, 32), "none", "float32"
    )
    line = ["search", "--gallery", city, "--query", query(city)]
    (found,) = printed(capsys, *line)
    assert found["matches"][0]["probability"] == 0.99 and found["measured_on"] == "my cars"
    both = ["compare", query(city), query(city), "--gallery", city]
    assert main(line) == main(both) == 0
    out = capsys.readouterr().out
    assert out.count("same vehicle 99 %") >= 2 and out.count("measured on my cars, 5 hits") == 2


def test_a_folder_is_searched_reading_each_picture_once(
    city: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from multitasknet import images

    read: list[Path] = []
    whole = images.read_regular
    monkeypatch.setattr(images, "read_regular", lambda path: read.append(path) or whole(path))
    crops = Path(city).parent / "crops"
    (found,) = printed(capsys, "search", "--gallery", str(crops), "--query", query(city))
    assert found["matches"][0]["id"] == found["in_gallery"] == "0-0005.png"
    assert len(read) == 21 and len(set(read)) == 20
    assert len(list(crops.iterdir())) == 20


def test_a_submission_names_the_100_nearest_of_each_query_by_their_place_in_the_list(
    predictor: PixelPredictor, city: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, target = tmp_path / "track2", tmp_path / "out" / "track2.txt"
    names = [path.name for path in stores.draw(root / "image_test", 120)][::-1]
    (root / "name_test.txt").write_text("\n".join(names))
    (root / "train_track.txt").write_text("")
    stores.draw(root / "image_query", 2)
    line = ["search", "--query", str(root / "image_query"), "--submission", str(target)]
    assert main([*line, "--gallery", str(root)]) == 0
    assert capsys.readouterr().out == f"{target}\n"
    crops = list(predictor.stream([root / "image_test" / name for name in names]))
    gallery = np.stack([one.embedding for one in crops]).astype(np.float64)
    for row, ranks in enumerate(target.read_text().splitlines()):
        places = [int(one) - 1 for one in ranks.split()]
        distances = ((gallery - gallery[-1 - row]) ** 2).sum(axis=1)
        assert places[0] == 119 - row and len(set(places)) == 100
        np.testing.assert_allclose(distances[places], np.sort(distances)[:100], atol=1e-5)
    assert main([*line, "--gallery", city]) == 2
    assert "give the challenge's folder as gallery" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["city.lance", "crops"])
def test_groups_are_written_as_a_table_and_a_contact_sheet(
    city: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    output = tmp_path / "groups"
    line = ["group", str(tmp_path / place), "--output", str(output), "--max-distance", "1"]
    assert main(line) == 0
    printed = capsys.readouterr().out
    counts = {name: int(value) for name, value in re.findall(r"^(.+?)  +(\d+)$", printed, re.M)}
    with (output / "vehicles.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    vehicles = [row["vehicle"] for row in rows]
    assert len(rows) == counts["crops"] == 20 and len(set(vehicles)) == counts["vehicles"] < 20
    assert all(Path(row["image"]).is_file() for row in rows)
    several = {one for one in vehicles if vehicles.count(one) > 1}
    page = (output / "vehicles.html").read_text()
    assert page.count("<h3>vehicle") == len(several) == counts["with several crops"]
    assert page.count("data:image/jpeg") == sum(one in several for one in vehicles)
