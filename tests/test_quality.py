"""Is this one vehicle? What the shipped weights say of drawn pictures, and what follows from it."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib import import_module
from typing import Any

import httpx
import numpy as np
import pytest
import stores
from conftest import ASSETS, PHOTO
from PIL import Image
from served import serving

from multitasknet import PoseEstimator, Predictor
from multitasknet.cli import main
from multitasknet.gallery.gallery import Gallery
from multitasknet.gallery.rows import Entry
from multitasknet.gallery.store import origin_text
from multitasknet.server.service import Service
from multitasknet.vehicle.quality import find_quality

CROPS = sorted((ASSETS / "demo").rglob("*.jpg"))


@pytest.fixture(scope="module")
def estimator() -> PoseEstimator:
    return PoseEstimator(ASSETS / "vehiclepose_synthetic.ckpt", flip_test=False)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("good", None),
        ("mosaic", "several vehicles"),
        ("empty_street", "no vehicle"),
        ("noise", "no vehicle"),
        ("people", "no vehicle"),
        ("interior", "no vehicle"),
        ("text", "no vehicle"),
    ],
)
def test_what_is_not_one_vehicle_is_flagged(kind, reason, estimator, monkeypatch) -> None:
    monkeypatch.syspath_prepend(ASSETS.parent / "examples")
    pictures = import_module("quality_pictures")
    sources = pictures.Sources([np.array(Image.open(crop)) for crop in CROPS], [], seed=8)
    rng = np.random.default_rng(1)
    shown = [getattr(pictures, kind)(sources, rng) for _ in range(20)]
    shown += CROPS if reason is None else []
    found = [shot.quality.reason for shot in estimator.stream(shown)]
    assert found.count(None) >= 0.98 * len(found) if reason is None else found.count(None) <= 1
    assert found.count(reason) >= 0.75 * len(found)


@pytest.mark.parametrize(
    ("pixels", "contents", "expected"),
    [
        ((23, 20, 200), None, (0.0, "too small")),
        ((100, 80, 20), [1, 0, 0, 0], (0.0, "too dark")),
        ((100, 80, 90), None, (1.0, None)),
        ((100, 80, 90), [0.75, 0.25, 0, 0], (0.75, None)),
        ((100, 80, 90), [0.25, 0.25, 0.5, 0], (0.25, "several vehicles")),
        ((100, 80, 90), [0.25, 0, 0.25, 0.5], (0.25, "cut off")),
    ],
)
def test_a_reason_is_given_below_one_half(pixels, contents, expected) -> None:
    height, width, tone = pixels
    picture = np.full((height, width, 3), tone, np.uint8)
    shown = None if contents is None else np.array(contents, np.float32)
    assert find_quality(picture, shown) == expected


def test_commands_say_it_first_and_give_no_rate(estimator, tmp_path, monkeypatch, capsys) -> None:
    predictor = Predictor(ASSETS / "multitasknet_synthetic.ckpt", pose=estimator)
    for place in ("predict", "search"):
        monkeypatch.setattr(f"multitasknet.cli.{place}.make_predictor", lambda _: predictor)
    rng = np.random.default_rng(0)
    gallery = Gallery.create(tmp_path / "strangers.lance", predictor)
    vectors = rng.normal(size=(240, gallery.width))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    origin = origin_text(predictor.origin)
    rows = [stores.row(f"{n}", n, embedding=one, origin=origin) for n, one in enumerate(vectors)]
    gallery.merge(rows, insert=True)
    noise, page = tmp_path / "noise.png", tmp_path / "page.html"
    Image.fromarray(rng.integers(0, 256, (90, 120, 3), np.uint8)).save(noise)
    assert main(["predict", str(noise)]) == 0
    assert f"{noise}: no vehicle (quality 0." in capsys.readouterr().out.partition("colour")[0]
    how = ["--gallery", str(gallery.path), "--json"]
    assert main(["search", "--query", str(noise), str(PHOTO), "--output", str(page), *how]) == 0
    assert f"{noise}: no vehicle (quality 0." in page.read_text()
    bad, good = map(json.loads, capsys.readouterr().out.splitlines())
    assert (bad["reason"], good["reason"]) == ("no vehicle", None)
    assert {hit["rate"] for hit in bad["matches"]} == {None}
    assert None not in {hit["rate"] for hit in good["matches"]}
    assert main(["compare", str(noise), str(CROPS[0]), *how]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["first"]["reason"], found["rate"]) == ("no vehicle", None)
    assert (found["parts"], found["agreement"]) == ([], "which surfaces both show is not known")
    assert main(["compare", str(CROPS[0]), str(CROPS[1]), *how]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["rate"] is not None and len(found["parts"]) == 13


class Judging(stores.PixelPredictor):
    """Calls red pictures several vehicles, and blue ones doubtful."""

    def one(self, pixels: np.ndarray, keypoints: np.ndarray | None = None) -> Any:
        found = super().one(pixels, keypoints)
        if found.color == "red":
            return replace(found, quality=0.25, reason="several vehicles")
        return replace(found, quality=0.75)


def test_galleries_leave_low_quality_out_and_searches_by_it_get_no_rate(tmp_path) -> None:
    entries = [Entry(one.name, one) for one in stores.draw(tmp_path, 240)]
    gallery = stores.open_gallery()
    assert gallery.add(Judging(), entries, progress=False).added == 240
    red = gallery.count("quality < 0.5")
    assert 0 < red == gallery.count("color = 'red' and quality = 0.25") < 240
    for least, left_out in ((0.5, {}), (0.8, {"doubtful": 240 - red})):
        few = stores.open_gallery()
        report = few.add(Judging(), entries, min_quality=least, progress=False)
        assert report.low_quality == {"several vehicles": red} | left_out
        assert len(few) == 240 - sum(report.low_quality.values())
    crops = {row["color"]: row["id"] for row in gallery.rows(["id", "color"])}
    asked = {"ids": [crops["red"], crops["blue"]], "top": 3}
    form = {"embeddings": json.dumps([gallery.embedding(crops["blue"]).tolist()])}
    with serving(Service(Judging(), gallery)) as served:
        answer = httpx.post(f"{served.url}/api/search", params=asked, data=form)
    red, blue, bare = answer.json()["results"]
    assert (red["quality"], red["reason"]) == (0.25, "low quality")
    assert (blue["quality"], blue["reason"]) == (0.75, None)
    assert {match["rate"] for match in red["matches"]} == {None}
    assert None not in {match["rate"] for match in blue["matches"] + bare["matches"]}
