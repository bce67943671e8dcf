"""A gallery and the real network: what is stored is what ``predict`` gives, by Ray as well."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import stores

from multitasknet import Predictor
from multitasknet.errors import GalleryError
from multitasknet.gallery.adding import check_same_origin, ray_embedder
from multitasknet.gallery.entries import entries_of
from multitasknet.gallery.gallery import Gallery, open_gallery
from multitasknet.gallery.rows import Entry


@pytest.mark.slow
def test_rows_are_what_predict_gives_by_ray_as_well(checkpoint: Path, tmp_path: Path) -> None:
    settings = {"weights": checkpoint, "size": (32, 32), "pose": "none", "backend": "mindspore"}
    predictor = Predictor(**settings)
    paths = stores.draw(tmp_path / "crops", 10)
    gallery = Gallery.create(tmp_path / "city.lance", predictor)
    gallery.add(predictor, paths[:4], progress=False)
    expected = predictor.predict(paths)

    def check(count: int) -> None:
        for path, one in zip(paths[:count], expected, strict=False):
            found = gallery.embedding(str(path))
            np.testing.assert_allclose(found, one.embedding, rtol=2e-3, atol=2e-3)
            assert gallery.row(str(path)).color == one.color

    check(4)
    pytest.importorskip("ray")
    broken = tmp_path / "nowhere.png"
    entries = [
        Entry(one.id, one.image, camera="7", more={"lane": 2})
        for one in entries_of([*paths, broken])
    ]
    with ray_embedder(settings, predictor.origin, actors=2) as embedder:
        report = gallery.add(embedder, entries, progress=False)
    assert (report.added, report.unchanged, list(report.broken)) == (6, 4, [str(broken)])
    assert gallery.count("camera = '7' and lane = 2") == len(gallery) == 10
    check(10)
    opened = open_gallery(tmp_path / "city.lance", predictor)
    ((hit,),) = opened.search(expected[3].embedding[None], top=1)
    assert hit.row.image == paths[3]
    with pytest.raises(GalleryError, match=r"Ray actor has another network \(weights_sha256"):
        check_same_origin([predictor.origin, stores.PixelPredictor().origin], predictor.origin)
