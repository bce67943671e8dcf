"""Is this one vehicle? What the shipped weights say of drawn pictures, and what follows from it."""

from __future__ import annotations

import json
from collections.abc import Callable
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

from multitasknet import (
    PoseEstimator,
    Predictor,
    convert,
)
from multitasknet.cli import main
from multitasknet.gallery.gallery import Gallery
from multitasknet.gallery.rows import Entry
from multitasknet.gallery.store import origin_text
from multitasknet.server.service import Service
from multitasknet.vehicle.quality import CONTENTS, find_quality

SHIPPED = ASSETS / "vehiclepose_synthetic.ckpt"
IDENTITY = ASSETS / "multitasknet_synthetic.ckpt"
PHOTO = ASSETS / "example.jpg"
CROPS = sorted((ASSETS / "demo").rglob("*.jpg"))


@pytest.fixture(scope="module")
def pictures() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ASSETS.parent / "examples")
        return import_module("quality_pictures")


@pytest.fixture(scope="module")
def sources(pictures: Any) -> Any:
    return pictures.Sources([np.array(Image.open(crop)) for crop in CROPS], [], seed=8)


@pytest.fixture(scope="module")
def estimator() -> PoseEstimator:
    return PoseEstimator(SHIPPED, flip_test=False)


@pytest.fixture(scope="module")
def reasons(estimator: PoseEstimator) -> Callable[[list[np.ndarray]], list[str | None]]:
    return lambda images: [shot.quality.reason for shot in estimator.stream(images)]


def test_one_vehicle_is_seldom_flagged(reasons, sources, pictures) -> None:
    rng = np.random.default_rng(0)
    good = [*CROPS, *(pictures.good(sources, rng) for _ in range(60))]
    assert len(CROPS) > 50
    assert sum(one is not None for one in reasons(good)) <= 0.02 * len(good)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("mosaic", "several vehicles"),
        ("empty_street", "no vehicle"),
        ("noise", "no vehicle"),
        ("people", "no vehicle"),
        ("interior", "no vehicle"),
        ("text", "no vehicle"),
    ],
)
def test_what_is_not_one_vehicle_is_flagged(kind, reason, reasons, sources, pictures) -> None:
    rng = np.random.default_rng(1)
    found = reasons([getattr(pictures, kind)(sources, rng) for _ in range(20)])
    assert sum(one is not None for one in found) >= 0.95 * len(found)
    assert found.count(reason) >= 0.75 * len(found)


def test_its_poses_are_those_of_the_weights_without_it(
    estimator: PoseEstimator, tmp_path: Path
) -> None:
    bare = convert(SHIPPED, tmp_path / "bare.ckpt", without=["quality_head"], float16=True)
    without = PoseEstimator(bare, flip_test=False, cache_dir=tmp_path)
    x = np.random.default_rng(0).normal(size=(2, 3, 96, 128)).astype(np.float32)
    facing, visibility, quality, maps = estimator.engine.run(x)
    assert quality.shape == (2, len(CONTENTS))
    for one, other in zip((facing, visibility, maps), without.engine.run(x), strict=True):
        np.testing.assert_array_equal(one, other)
    # Without the head only the pixels are judged.
    (black, white) = without.stream([np.full((40, 40, 3), tone, np.uint8) for tone in (0, 255)])
    assert (black.quality, white.quality) == ((0.0, "too dark"), (1.0, None))


@pytest.mark.parametrize(
    ("pixels", "contents", "expected"),
    [
        ((23, 20, 200), None, (0.0, "too small")),
        ((100, 80, 20), [1, 0, 0, 0], (0.0, "too dark")),
        ((100, 80, 90), None, (1.0, None)),
        ((100, 80, 90), [0.75, 0.25, 0, 0], (0.75, None)),
        ((100, 80, 90), [0.25, 0.5, 0.25, 0], (0.25, "no vehicle")),
        ((100, 80, 90), [0.25, 0.25, 0.5, 0], (0.25, "several vehicles")),
        ((100, 80, 90), [0.25, 0, 0.25, 0.5], (0.25, "cut off")),
    ],
)
def test_a_reason_is_given_below_one_half(pixels, contents, expected) -> None:
    height, width, tone = pixels
    picture = np.full((height, width, 3), tone, np.uint8)
    shown = None if contents is None else np.array(contents, np.float32)
    assert find_quality(picture, shown) == expected


@pytest.fixture(scope="module")
def predictor(estimator: PoseEstimator) -> Predictor:
    return Predictor(IDENTITY, pose=estimator)


def test_predictions_have_it_as_far_as_it_is_known(predictor: Predictor) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    crop, bad = predictor.predict([PHOTO, noise])
    assert (crop.quality > 0.9, crop.reason) == (True, None)
    assert (bad.quality < 0.5, bad.reason) == (True, "no vehicle")
    assert bad.as_json()["reason"] == "no vehicle"
    given, tiny = predictor.predict([noise, noise[:20, :20]], [crop.pose.keypoints] * 2)
    assert (given.quality, given.reason) == (1.0, None)
    assert (tiny.quality, tiny.reason) == (0.0, "too small")


def test_commands_say_it_first_and_give_no_rate(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    for place in ("predict", "search"):
        monkeypatch.setattr(f"multitasknet.cli.{place}.make_predictor", lambda _: predictor)
    rng = np.random.default_rng(0)
    gallery = Gallery.create(tmp_path / "strangers.lance", predictor)
    vectors = rng.normal(size=(240, gallery.width))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    origin = origin_text(predictor.origin)
    gallery.merge(
        [stores.row(f"{n}", n, embedding=one, origin=origin) for n, one in enumerate(vectors)],
        insert=True,
    )
    noise, page = tmp_path / "noise.png", tmp_path / "page.html"
    Image.fromarray(rng.integers(0, 256, (90, 120, 3), np.uint8)).save(noise)
    assert main(["predict", str(noise)]) == 0
    assert f"{noise}: no vehicle (quality 0." in capsys.readouterr().out.partition("colour")[0]
    how = ["--gallery", str(gallery.path), "--json"]
    asked = ["--query", str(noise), str(CROPS[0]), "--output", str(page)]
    assert main(["search", *asked, *how]) == 0
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


def test_the_pose_command_says_it_first(tmp_path: Path, capsys) -> None:
    image = tmp_path / "grey.png"
    Image.fromarray(np.full((90, 120, 3), 128, np.uint8)).save(image)
    assert main(["pose", str(image), "--weights", str(SHIPPED)]) == 0
    assert capsys.readouterr().out.startswith(f"{image}: no vehicle; ")


class Judging(stores.PixelPredictor):
    """Calls red pictures several vehicles, and blue ones doubtful."""

    def one(self, pixels: np.ndarray, keypoints: np.ndarray | None = None) -> Any:
        found = super().one(pixels, keypoints)
        if found.color == "red":
            return replace(found, quality=0.25, reason="several vehicles")
        return replace(found, quality=0.75)


def test_a_gallery_leaves_low_quality_out_and_counts_it(tmp_path: Path) -> None:
    images = stores.draw(tmp_path, 20)
    every = stores.open_gallery()
    assert every.add(Judging(), images, progress=False).added == len(images)
    red = every.count("quality < 0.5")
    assert 0 < red < len(images)
    assert every.count("color = 'red' and quality = 0.25") == red
    some = stores.open_gallery()
    report = some.add(Judging(), images, min_quality=0.5, progress=False)
    assert (report.added, report.low_quality) == (len(images) - red, {"several vehicles": red})
    assert len(some) == len(images) - red
    report = stores.open_gallery().add(Judging(), images, min_quality=0.8, progress=False)
    assert report.low_quality == {"several vehicles": red, "doubtful": len(images) - red}


def test_a_search_by_a_crop_of_low_quality_gets_no_rate(tmp_path: Path) -> None:
    images = stores.draw(tmp_path, 240)
    gallery = stores.open_gallery()
    gallery.add(Judging(), [Entry(one.name, one) for one in images], progress=False)
    crops = {row["color"]: row["id"] for row in gallery.rows(["id", "color"])}
    own = gallery.embedding(crops["blue"]).tolist()
    asked = {"ids": [crops["red"], crops["blue"]], "top": 3}
    with serving(Service(Judging(), gallery)) as served:
        form = {"embeddings": json.dumps([own])}
        answer = httpx.post(f"{served.url}/api/search", params=asked, data=form)
    red, blue, bare = answer.json()["results"]
    assert (red["quality"], red["reason"]) == (0.25, "low quality")
    assert (blue["quality"], blue["reason"]) == (0.75, None)
    assert "quality" not in bare
    assert {match["rate"] for match in red["matches"]} == {None}
    assert None not in {match["rate"] for match in blue["matches"] + bare["matches"]}
