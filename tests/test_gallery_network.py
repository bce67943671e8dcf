"""Stores and the real network: one pass gives what predict gives, here, on Ray, and after kills."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import stores

from multitasknet import Predictor
from multitasknet.retrieval.adding import add_pictures, entries_of, open_for
from multitasknet.retrieval.embedding import origin_of
from multitasknet.retrieval.opening import open_gallery
from multitasknet.retrieval.store import GalleryStore
from multitasknet.retrieval.store_search import StoreGallery

pytest.importorskip("lancedb")


@pytest.fixture(scope="module")
def settings(checkpoint: Path) -> dict:
    return {"weights": checkpoint, "size": (32, 32), "pose": "none", "backend": "mindspore"}


@pytest.fixture(scope="module")
def predictor(settings: dict) -> Predictor:
    return Predictor(**settings)


def embeddings(store: GalleryStore) -> dict[str, np.ndarray]:
    gallery = StoreGallery(store)
    ids = [row["id"] for batch in store.read(["id"]) for row in batch.to_pylist()]
    assert len(ids) == len(set(ids))
    return {one: gallery.embedding(one) for one in sorted(ids)}


def test_rows_are_what_predict_says(predictor: Predictor, tmp_path: Path) -> None:
    paths = stores.draw(tmp_path / "crops", 19)
    store = open_for(tmp_path / "city.lance", predictor)
    add_pictures(store, predictor, entries_of(paths), progress=False)
    found = embeddings(store)
    said = predictor.predict(paths)
    for path, one in zip(paths, said, strict=True):
        np.testing.assert_allclose(found[str(path)], one.embedding, rtol=2e-3, atol=2e-3)
    query = predictor.embed(paths[3:4])
    gallery = open_gallery(tmp_path / "city.lance", predictor)
    assert gallery.nearest(query, top=1)[0][0].row.image == paths[3]
    assert {
        row["color"] for batch in store.read(["color"]) for row in batch.to_pylist()
    } == {one.color for one in said}  # fmt: skip


@pytest.mark.slow
def test_ray_gives_the_same_rows(predictor: Predictor, settings: dict, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    from multitasknet.retrieval.ray_adding import add_with_ray

    paths = [*stores.draw(tmp_path / "crops", 10), tmp_path / "nowhere.png"]
    here, there = (open_for(tmp_path / f"{name}.lance", predictor) for name in ("a", "b"))
    add_pictures(here, predictor, entries_of(paths[:10]), progress=False)
    # What is there already is not embedded again.
    add_pictures(there, predictor, entries_of(paths[:4]), progress=False)
    how = {"settings": settings, "progress": False}
    report = add_with_ray(there, predictor, entries=entries_of(paths), **how)
    assert (report.added, report.unchanged, list(report.broken)) == (6, 4, [str(paths[10])])
    for (one, a), (other, b) in zip(
        embeddings(here).items(), embeddings(there).items(), strict=True
    ):
        assert one == other
        np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-3)
    assert there.origins() == {origin_of(predictor): 10}
