"""Galleries in memory: what is in them, and what is found."""

from __future__ import annotations

import shutil
from datetime import datetime
from pathlib import Path
from typing import Any

import drawn
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from multitasknet import MultiTaskNetError, Predictor, build_index
from multitasknet.retrieval.gallery import GalleryFilter, GalleryRow, passes
from multitasknet.retrieval.index import EmbeddingOrigin
from multitasknet.retrieval.memory_gallery import GalleryError, MemoryGallery
from multitasknet.retrieval.opening import open_gallery

ORIGIN = EmbeddingOrigin("0" * 64, "segment", (64, 64))


def row(place: int) -> GalleryRow:
    return GalleryRow(
        id=f"{place}",
        image=Path(f"{place}.jpg"),
        camera=str(place % 3),
        time=datetime(2024, 1, 1 + place % 20) if place % 4 else None,
        color=("red", "blue")[place % 2],
        type=("", "van", "bus")[place % 3],
    )


filters = st.builds(
    GalleryFilter,
    cameras=st.lists(st.sampled_from("0129"), max_size=2).map(tuple),
    colors=st.lists(st.sampled_from(["red", "blue"]), max_size=1).map(tuple),
    types=st.lists(st.sampled_from(["van", "bus"]), max_size=1).map(tuple),
    not_before=st.none() | st.just(datetime(2024, 1, 5)),
    not_after=st.none() | st.just(datetime(2024, 1, 12)),
)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 40), filters | st.none(), st.integers(1, 50), st.none() | st.floats(0, 8))
def test_the_nearest_are_found_among_what_passes(
    count: int, where: GalleryFilter | None, top: int, reach: float | None
) -> None:
    rows = [row(place) for place in range(count)]
    rng = np.random.default_rng(count)
    embeddings = rng.normal(size=(count, 4)).astype(np.float32)
    queries = rng.normal(size=(2, 4)).astype(np.float32)
    gallery = MemoryGallery(rows, embeddings, ORIGIN)
    found = gallery.nearest(queries, top=top, where=where, max_distance=reach)
    for query, hits in zip(queries, found, strict=True):
        expected = sorted(
            (float(((query - embedding) ** 2).sum()), one.id)
            for one, embedding in zip(rows, embeddings, strict=True)
            if where is None or passes(one, where)
        )[:top]
        near = [one for one in expected if reach is None or one[0] <= reach]
        assert [hit.row.id for hit in hits] == [id for _, id in near]
        np.testing.assert_allclose([hit.distance for hit in hits], [d for d, _ in near], rtol=1e-4)


def test_rows_embeddings_and_facets() -> None:
    embeddings = np.eye(14, dtype=np.float32)
    rows = [GalleryRow(f"{place}", Path("a.jpg"), camera=str(place)) for place in range(14)]
    gallery = MemoryGallery(rows, embeddings, ORIGIN)
    assert len(gallery) == 14 and gallery.row("3") is rows[3]
    np.testing.assert_array_equal(gallery.embedding("3"), embeddings[3])
    assert gallery.facets.cameras == tuple(map(str, range(14)))
    assert gallery.facets.colors == ()
    for of in (gallery.row, gallery.embedding):
        with pytest.raises(KeyError):
            of("14")


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor(None, pose="none", size=(32, 32), progress=False)


@pytest.fixture
def crops(tmp_path: Path) -> Path:
    """Two VeRi-like names and one that tells nothing, below each other."""
    folder = tmp_path / "crops"
    (folder / "b").mkdir(parents=True)
    exif = Image.Exif()
    exif[0x0132] = "2024:02:03 04:05:06"
    rng = np.random.default_rng(0)
    for name in ("0001_c002_00000001_0.jpg", "0001_c011_00000002_0.jpg", "b/car.png"):
        picture = Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8))
        picture.save(folder / name, **({"exif": exif} if "c011" in name else {}))
    return folder


def test_a_folder(predictor: Predictor, crops: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("MULTITASKNET_CACHE", str(tmp_path / "cache"))
    gallery = open_gallery(crops, predictor, progress=False)
    assert len(gallery) == 3 and gallery.facets.cameras == ("2", "11")
    one = gallery.row("0001_c011_00000002_0.jpg")
    assert one.time == datetime(2024, 2, 3, 4, 5, 6) and one.image.is_file()
    said = predictor.predict([one.image])[0]
    assert (one.color, one.type) == (said.color, said.type)
    np.testing.assert_allclose(gallery.embedding(one.id), said.embedding, rtol=1e-3, atol=1e-4)
    assert gallery.row("b/car.png").camera == ""

    def fail(*_: Any) -> None:
        pytest.fail("it embeds again what is in the cache")

    with monkeypatch.context() as patch:
        patch.setattr(predictor, "predict", fail)
        again = open_gallery(crops, predictor, progress=False)
    np.testing.assert_array_equal(again.embedding(one.id), gallery.embedding(one.id))
    shutil.copy(crops / "b" / "car.png", crops / "new.png")
    assert len(open_gallery(crops, predictor, progress=False)) == 4


def test_a_data_set_and_an_index(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MULTITASKNET_CACHE", str(tmp_path / "cache"))
    root = drawn.pamtri(tmp_path / "data", drawn.plan(2, 2, 2))
    gallery = open_gallery(root, predictor, progress=False)
    images = sorted((root / "image_test").iterdir())
    assert len(gallery) == len(images) and gallery.facets.cameras == ("1", "2")
    assert gallery.row(f"image_test/{images[0].name}").image == images[0]

    index = build_index(predictor, images, progress=False)
    index.save(tmp_path / "index.npz")
    listed = open_gallery(tmp_path / "index.npz", predictor)
    np.testing.assert_array_equal(listed.embedding(images[1].name), index.embeddings[1])
    assert listed.facets.cameras == ("1", "2") and listed.facets.colors == ()
    images[0].unlink()
    with pytest.raises(GalleryError, match=images[0].name):
        open_gallery(tmp_path / "index.npz", predictor)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nowhere", "expected a store"),
        ("file.txt", "expected a store"),
        ("empty", "no image ends in"),
        ("city.lance", "there is no gallery store"),
        ("broken", "cannot be read"),
    ],
)
def test_what_is_no_gallery(predictor: Predictor, tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "file.txt").touch()
    for folder in ("empty", "city.lance", "broken"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "broken" / "a.jpg").write_bytes(b"no picture")
    with pytest.raises(MultiTaskNetError, match=said):
        open_gallery(tmp_path / name, predictor, progress=False)
