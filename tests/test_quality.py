"""Is this one vehicle? What the shipped weights say of drawn pictures, and what follows from it."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import stores
from conftest import ASSETS
from PIL import Image
from served import serving

from multitasknet import PoseEstimator
from multitasknet.cli import main
from multitasknet.gallery.gallery import Gallery
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


class Judging(stores.PixelPredictor):
    """Calls red pictures several vehicles, and blue ones doubtful."""

    def one(self, pixels: np.ndarray, keypoints: np.ndarray | None = None) -> Any:
        found = super().one(pixels, keypoints)
        if found.color == "red":
            return replace(found, quality=0.25, reason="several vehicles")
        return replace(found, quality=0.75)


@pytest.fixture
def gallery(tmp_path: Path) -> Gallery:
    """240 pictures of strangers."""
    made = stores.open_gallery(tmp_path / "strangers.lance")
    made.add(Judging(), stores.draw(tmp_path / "crops", 240), progress=False)
    return made


def test_galleries_leave_low_quality_out(gallery: Gallery, tmp_path: Path) -> None:
    red = gallery.count("quality < 0.5")
    assert 0 < red == gallery.count("color = 'red' and quality = 0.25") < len(gallery) == 240
    for least, left_out in ((0.5, {}), (0.8, {"doubtful": 240 - red})):
        few = stores.open_gallery()
        report = few.add(Judging(), [tmp_path / "crops"], min_quality=least, progress=False)
        assert report.low_quality == {"several vehicles": red} | left_out
        assert len(few) == 240 - sum(report.low_quality.values())


def test_searches_and_comparisons_by_it_say_so_first_and_get_no_rate(
    gallery, tmp_path, monkeypatch, capsys
) -> None:
    stores.use_in_commands(monkeypatch, Judging())
    red, blue = (next(gallery.select(f"color = '{color}'")).id for color in ("red", "blue"))
    how, page = ["--gallery", gallery.path, "--json"], tmp_path / "page.html"
    assert main(["search", "--query", red, blue, "--output", str(page), *how]) == 0
    assert f"{red}: several vehicles (quality 0.25)" in page.read_text()
    bad, good = map(json.loads, capsys.readouterr().out.splitlines())
    assert (bad["reason"], good["reason"]) == ("several vehicles", None)
    assert main(["compare", red, blue, *how]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["first"]["reason"], found["rate"]) == ("several vehicles", None)
    assert (found["parts"], found["agreement"]) == ([], "which surfaces both show is not known")
    with serving(Service(Judging(), gallery)) as served:
        rows = [served.service.row_as_json(gallery.row(one)) for one in (red, blue)]
        asked = {"ids": [row["id"] for row in rows]}
        form = {"embeddings": json.dumps([gallery.embedding(blue).tolist()])}
        answer = httpx.post(f"{served.url}/api/search", params=asked, data=form)
    low, high, bare = answer.json()["results"]
    assert (low["quality"], low["reason"]) == (0.25, "low quality")
    assert (high["quality"], high["reason"]) == (0.75, None)
    for matches in (bad["matches"], low["matches"]):
        assert {match["rate"] for match in matches} == {None}
    for matches in (good["matches"], high["matches"], bare["matches"]):
        assert None not in {match["rate"] for match in matches}
