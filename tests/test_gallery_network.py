"""A gallery and the real network: what is stored is what ``predict`` gives, by Ray as well."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import stores

from multitasknet import Predictor
from multitasknet.errors import GalleryError
from multitasknet.gallery.entries import entries_of
from multitasknet.gallery.gallery import Gallery, open_gallery
from multitasknet.gallery.ray import check_same_origin, embed_with_ray
from multitasknet.gallery.rows import Entry


@pytest.fixture(scope="module")
def settings(checkpoint: Path) -> dict[str, Any]:
    return {"weights": checkpoint, "size": (32, 32), "pose": "none", "backend": "mindspore"}


@pytest.fixture(scope="module")
def predictor(settings: dict[str, Any]) -> Predictor:
    return Predictor(**settings)


def test_rows_are_what_predict_gives(predictor: Predictor, tmp_path: Path) -> None:
    paths = stores.draw(tmp_path / "crops", 19)
    gallery = Gallery.create(tmp_path / "city.lance", predictor)
    gallery.add(predictor, paths, progress=False)
    found = predictor.predict(paths)
    for path, one in zip(paths, found, strict=True):
        row = gallery.embedding(str(path))
        np.testing.assert_allclose(row, one.embedding, rtol=2e-3, atol=2e-3)
        assert gallery.row(str(path)).color == one.color
    opened = open_gallery(tmp_path / "city.lance", predictor)
    ((hit,),) = opened.search(predictor.embed(paths[3:4]), top=1)
    assert hit.row.image == paths[3]


def test_actors_with_other_weights_are_refused(predictor: Predictor) -> None:
    check_same_origin([predictor.origin], predictor.origin)
    with pytest.raises(GalleryError, match=r"Ray actor has another network \(weights_sha256 ab"):
        check_same_origin([stores.PixelPredictor().origin], predictor.origin)


@pytest.mark.slow
def test_ray_gives_the_same_rows_and_corrections(
    predictor: Predictor, settings: dict[str, Any], tmp_path: Path
) -> None:
    pytest.importorskip("ray")
    paths = [*stores.draw(tmp_path / "crops", 10), tmp_path / "nowhere.png"]
    gallery = Gallery.create(tmp_path / "city.lance", predictor)
    gallery.add(predictor, paths[:4], progress=False)
    entries = [Entry(one.id, one.image, camera="7", more={"lane": 2}) for one in entries_of(paths)]
    with embed_with_ray(settings, predictor.origin, actors=2) as embed:
        report = gallery.add(predictor, entries, embed=embed, progress=False)
    assert (report.added, report.unchanged, list(report.broken)) == (6, 4, [str(paths[10])])
    assert gallery.store.count("camera = '7' and lane = 2") == len(gallery) == 10
    for path, expected in zip(paths[:10], predictor.embed(paths[:10]), strict=True):
        found = gallery.embedding(str(path))
        np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-3)
    other = stores.PixelPredictor().origin
    with (
        pytest.raises(GalleryError, match="another network"),
        embed_with_ray(settings, other),
    ):
        pass
