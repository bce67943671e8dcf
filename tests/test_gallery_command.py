"""The commands of galleries: ``gallery`` and ``search --gallery STORE``."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest
import stores
from stores import PixelPredictor

from multitasknet import Calibration
from multitasknet.cli import main
from multitasknet.errors import MissingExtraError

pytest.importorskip("lancedb")

RANDOM = ["--weights", "none", "--size", "32", "--variant", "rgb", "--offline"]


@pytest.fixture(autouse=True)
def _pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands' network tells of pixels alone."""
    import numpy as np

    from multitasknet.images import read_image

    class Pixels(PixelPredictor):
        calibration = Calibration((0.0, 100.0), (0.9, 0.1), 0.5, 5, 5, (32, 32), "crops")

        def embed(self, images: list[Path], keypoints: list) -> np.ndarray:
            pairs = zip(map(read_image, images), keypoints, strict=True)
            told = [self.one(*pair) for pair in pairs]
            return np.stack([one.embedding for one in told])

    made = {"embedding": (stores.WIDTH,)}
    monkeypatch.setattr(type(PixelPredictor().spec), "output_shapes", lambda *_: made)
    for module in ("gallery", "inference"):
        monkeypatch.setattr(f"multitasknet.cli.{module}.make_predictor", lambda options: Pixels())


@pytest.fixture
def city(tmp_path: Path) -> str:
    """A store of 20 pictures of four cameras."""
    paths = stores.draw(tmp_path / "crops", 20)
    manifest = tmp_path / "m.csv"
    lines = [f"{path},c{n % 4},2026-11-01T08:00:{n:02}" for n, path in enumerate(paths)]
    manifest.write_text("\n".join(["image,camera,time", *lines]))
    assert main(["gallery", "add", str(tmp_path / "city.lance"), "--manifest", str(manifest)]) == 0
    return str(tmp_path / "city.lance")


def told(capsys: pytest.CaptureFixture[str], *line: str) -> list[dict]:
    capsys.readouterr()
    assert main([*line, "--json"]) == 0
    return [json.loads(one) for one in capsys.readouterr().out.splitlines()]


def query(city: str, number: int = 5) -> str:
    return str(Path(city).parent / "crops" / f"0-{number:04}.png")


def test_a_gallery_from_adding_to_forgetting(
    city: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (info,) = told(capsys, "gallery", "info", city)
    assert (info["rows"], info["cameras"], info["index"]) == (20, 4, "none")
    (again,) = told(capsys, "gallery", "add", city, str(tmp_path / "crops"))
    assert again == {"added": 0, "unchanged": 20, "broken": {}}
    assert main(["gallery", "remove", city, "--where", "camera = 'c1'"]) == 0
    assert "5 rows are gone for good" in capsys.readouterr().out
    assert main(["gallery", "compact", city]) == 0
    assert main(["gallery", "export", city, str(tmp_path / "rows.parquet")]) == 0
    assert main(["gallery", "export", city, str(tmp_path / "rows.npz")]) == 0
    (info,) = told(capsys, "gallery", "info", city)
    assert (info["rows"], info["versions"]) == (15, 1)
    assert main(["gallery", "index", city]) == 2


def test_pictures_from_a_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = stores.draw(tmp_path / "crops", 3)
    text = "\n".join([*map(str, paths), str(tmp_path / "nowhere.png"), ""])
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    (report,) = told(capsys, "gallery", "add", str(tmp_path / "a.lance"), "-")
    assert report["added"] == 3
    assert list(report["broken"]) == [str(tmp_path / "nowhere.png")]


def test_search_says_what_it_found_and_how(city: str, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["search", "--gallery", city, "--query", query(city)]
    (found,) = told(capsys, *line, "--top", "3")
    first = found["matches"][0]
    assert (first["image"], first["camera"]) == (query(city), "c1")
    assert first["distance"] < 1e-3
    assert first["probability"] == pytest.approx(0.9, abs=1e-4)
    assert 0.1 <= found["matches"][-1]["probability"] < 0.9
    assert found["searched"] == {
        "rows": 20, "exact": True, "probes": 0, "refine": 0, "recall": 1.0
    }  # fmt: skip
    (found,) = told(capsys, *line, "--where", "camera = 'c2' and time > '2026-11-01 08:00:10'")
    assert {one["camera"] for one in found["matches"]} == {"c2"}
    assert found["searched"]["rows"] == len(found["matches"]) == 2
    (found,) = told(capsys, *line, "--group-by", "camera")
    assert sorted(one["camera"] for one in found["matches"]) == ["c0", "c1", "c2", "c3"]
    (found,) = told(capsys, *line, "--max-distance", "1e-3")
    assert [one["image"] for one in found["matches"]] == [query(city)]
    (found,) = told(capsys, *line, "--not-after", "2026-11-01T08:00:03", "--exact")
    assert found["searched"]["rows"] == 4
    (found,) = told(capsys, *line, query(city, 6), "--track", "--false-match-rate", "0.5")
    assert found["max_distance"] > 0
    assert main([*line, "--output", str(Path(city).parent / "page.html")]) == 0
    out = capsys.readouterr().out
    assert (
        "of 20 rows, each compared" in out
        and "camera c1" in out
        and "same vehicle 90 % (measured on crops" in out
    )


def test_travel_times_need_a_place_and_a_time(
    city: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    times = tmp_path / "times.csv"
    times.write_text("from,to,least,most\nc1,c2,1,5\n")
    line = ["search", "--gallery", city, "--travel-times", str(times), "--query"]
    (found,) = told(capsys, *line, query(city))
    assert {one["time"][-2:] for one in found["matches"]} == {"02", "06", "10"}
    (elsewhere,) = stores.draw(tmp_path / "elsewhere", 1)
    assert main([*line, str(elsewhere)]) == 2
    assert "--from-camera" in capsys.readouterr().err
    more = ["--from-camera", "c2", "--from-time", "2026-11-01T08:00:02Z"]
    (found,) = told(capsys, *line, str(elsewhere), *more)
    assert {one["camera"] for one in found["matches"]} == {"c1"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("search --gallery {city} --query {query} --where nope=3", "columns id, image"),
        ("search --gallery {city} --query {query} --travel-times nowhere", "nowhere"),
        ("search --gallery nowhere.lance --query {query}", "gallery add"),
        ("gallery add {city} --manifest nowhere.csv", "nowhere.csv"),
        ("gallery add {city} nowhere.png", "nowhere.png does not exist"),
        ("gallery add city {query}", "ends in .lance"),
        ("gallery remove {city} --where (", "columns id, image"),
        ("gallery export {city} rows.txt", "ends in"),
        ("gallery info {query}", "no gallery store"),
        ("gallery info {city}/crops.lance", "no gallery store"),
    ],
)
def test_mistakes_get_one_clear_message(
    city: str, capsys: pytest.CaptureFixture[str], line: str, message: str
) -> None:
    capsys.readouterr()
    assert main(line.format(city=city, query=query(city)).split()) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("multitasknet: error:") == 1


@pytest.mark.parametrize(
    "line",
    [
        ["gallery", "add", "a.lance"],
        ["search", "--gallery", ".", "--query", "a.png", "--where", "camera = 3"],
        ["search", "--gallery", "a.lance", "--index", "b.npz", "--query", "a.png"],
    ],
)
def test_options_that_do_not_go_together(line: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(line)


def test_without_the_extra_stores_name_the_install(
    city: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def without(module: str, extra: str) -> None:
        raise MissingExtraError(f"no {module}; pip install 'multitasknet[{extra}]'")

    monkeypatch.setattr("multitasknet.retrieval.store.import_extra", without)
    for line in (["info", city], ["add", city, query(city)], ["remove", city, "--where", "true"]):
        assert main(["gallery", *line]) == 2
        assert "multitasknet[city]" in capsys.readouterr().err
    assert main(["search", "--gallery", city, "--query", query(city)]) == 2
    assert "multitasknet[city]" in capsys.readouterr().err
