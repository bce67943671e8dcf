"""The gallery index: what is written is read, and search is exact."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multitasknet import EmbeddingOrigin, GalleryIndex
from multitasknet.files import OutputError
from multitasknet.ranking.distances import EmbeddingError
from multitasknet.retrieval import index
from multitasknet.retrieval.index import GalleryIndexError

ORIGIN = EmbeddingOrigin("ab" * 32, "segment", (256, 256))


def make(embeddings: np.ndarray) -> GalleryIndex:
    embeddings = np.asarray(embeddings, dtype=np.float32)
    return GalleryIndex(tuple(f"{n}.jpg" for n in range(len(embeddings))), embeddings, ORIGIN)


def whole_numbers(seed: int, count: int, spread: int = 3) -> np.ndarray:
    """Embeddings whose distances are exact and often equal."""
    return np.random.default_rng(seed).integers(-spread, spread + 1, (count, 4)).astype(np.float32)


def brute_force(queries: np.ndarray, gallery: np.ndarray, top: int) -> tuple[list, list]:
    distances = ((queries[:, None] - gallery) ** 2).sum(axis=2)
    order = np.argsort(distances, axis=1, kind="stable")[:, :top]
    return np.take_along_axis(distances, order, axis=1).tolist(), order.tolist()


def test_an_index_is_read_as_it_was_written(tmp_path: Path) -> None:
    names = ("a.jpg", "träger/b c.png", "汽车.jpg")
    written = GalleryIndex(names, np.random.default_rng(0).normal(size=(3, 8)).astype("f4"), ORIGIN)
    path = tmp_path / "gallery.npz"
    written.save(path)
    read = GalleryIndex.load(path, expected=ORIGIN)
    assert (read.names, read.origin) == (names, ORIGIN)
    assert read.embeddings.dtype == np.float32
    np.testing.assert_array_equal(read.embeddings, written.embeddings)
    assert [file.name for file in tmp_path.iterdir() if file.is_file()] == ["gallery.npz"]


@pytest.mark.parametrize(
    ("origin", "named"),
    [
        (EmbeddingOrigin("cd" * 32, "segment", (256, 256)), "weights_sha256 abab"),
        (EmbeddingOrigin("ab" * 32, "rgb", (256, 256)), "variant segment, not rgb"),
        (EmbeddingOrigin("ab" * 32, "segment", (256, 256), "int8"), "precision float32, not int8"),
        (EmbeddingOrigin("ab" * 32, "segment", (64, 64)), r"input_size \(256, 256\), not \(64"),
    ],
)
def test_an_index_of_another_network_is_refused(
    tmp_path: Path, origin: EmbeddingOrigin, named: str
) -> None:
    path = tmp_path / "gallery.npz"
    make(np.eye(4)).save(path)
    with pytest.raises(GalleryIndexError, match=named):
        GalleryIndex.load(path, expected=origin)


def test_a_failed_write_leaves_the_old_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "gallery.npz"
    make(np.eye(4)).save(path)

    def full(file: object, **arrays: np.ndarray) -> None:
        file.write(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OutputError, match=r"gallery\.npz: cannot be written .No sp"):
        make(np.zeros((2, 2))).save(path)
    assert len(GalleryIndex.load(path).names) == 4
    assert [file.name for file in tmp_path.iterdir() if file.is_file()] == ["gallery.npz"]


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="nowhere"):
        make(np.eye(2)).save(tmp_path / "nowhere" / "gallery.npz")
    with pytest.raises(GalleryIndexError, match="there is no such file; build the index first"):
        GalleryIndex.load(tmp_path / "gallery.npz")


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_damaged_file_is_refused_in_words(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("damage") / "gallery.npz"
    make(np.eye(5)).save(path)
    content = bytearray(path.read_bytes())
    for position in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=3)):
        content[position] ^= data.draw(st.integers(1, 255))
    del content[data.draw(st.integers(0, len(content))) :]
    path.write_bytes(content)
    try:
        read = GalleryIndex.load(path)
    except GalleryIndexError as error:
        assert str(error).startswith(f"{path}: this is no gallery index, or a damaged one")
    else:  # damage where nothing is read, such as a date
        np.testing.assert_array_equal(read.embeddings, np.eye(5))


def test_a_pickle_is_never_run(tmp_path: Path) -> None:
    path = tmp_path / "gallery.npz"
    np.savez(path, names=np.array([{}], dtype=object), embeddings=np.eye(1), origin=np.array("{}"))
    with pytest.raises(GalleryIndexError, match=r"gallery\.npz"):
        GalleryIndex.load(path)


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 6), st.integers(1, 40), st.integers(1, 45), st.integers(0, 2**32 - 1))
def test_search_is_a_stable_sort_by_distance(
    queries: int, images: int, top: int, seed: int
) -> None:
    gallery, wanted = whole_numbers(seed, images, 1), whole_numbers(seed + 1, queries, 1)
    distances, indices = make(gallery).search(wanted, top)
    assert (distances.tolist(), indices.tolist()) == brute_force(wanted, gallery, top)
    assert (distances.dtype, indices.dtype) == (np.float32, np.int64)


def test_search_is_exact_across_its_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "_PAIRS", 300)
    gallery, queries = whole_numbers(0, 100, 1), whole_numbers(1, 8, 1)
    distances, indices = make(gallery).search(queries, 20)
    assert (distances.tolist(), indices.tolist()) == brute_force(queries, gallery, 20)


@pytest.mark.parametrize("scale", [1e-10, 1.0, 1e15])
def test_near_neighbours_far_from_the_origin_come_in_exact_order(scale: float) -> None:
    rng = np.random.default_rng(0)
    gallery = (scale * (1 + rng.normal(scale=1e-4, size=(500, 64)))).astype(np.float32)
    query = gallery[:2].astype(np.float64)
    expected = ((query[:, None] - gallery) ** 2).sum(axis=2)
    _, indices = make(gallery).search(gallery[:2], top=10)
    found = np.take_along_axis(expected, indices, axis=1)
    np.testing.assert_allclose(
        found, np.sort(expected, axis=1)[:, :10], rtol=1e-6, atol=1e-10 * scale**2
    )


def test_an_index_of_the_first_release_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "old.npz"
    origin = {"weights_sha256": "ab" * 32, "variant": "segment", "input_size": [256, 256]}
    np.savez(
        path, names=np.array(["a"]), embeddings=np.ones((1, 2), "f4"), origin=json.dumps(origin)
    )
    with pytest.raises(GalleryIndexError, match=r"earlier release wrote it.*build it again"):
        GalleryIndex.load(path)


def test_a_gallery_image_finds_itself_first() -> None:
    gallery = np.random.default_rng(0).normal(size=(300, 64)).astype(np.float32)
    distances, indices = make(gallery).search(gallery, top=1)
    assert indices[:, 0].tolist() == list(range(300))
    assert distances.max() < 1e-9


def test_faiss_finds_the_same_distances() -> None:
    pytest.importorskip("faiss")
    gallery, queries = whole_numbers(0, 500), whole_numbers(1, 30)
    found = make(gallery).search(queries, 9, use_faiss=True)
    np.testing.assert_array_equal(found[0], make(gallery).search(queries, 9)[0])
    actual = ((queries[:, None] - gallery[found[1]]) ** 2).sum(axis=2)
    np.testing.assert_array_equal(found[0], actual)


def test_a_large_gallery_is_searched_without_faiss_unless_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    gallery = whole_numbers(0, 100_001, 9)
    with pytest.raises(GalleryIndexError, match=r"pip install multitasknet\[search\]"):
        make(gallery).search(gallery[:1], use_faiss=True)
    _, indices = make(gallery).search(gallery[-1:], top=2)
    assert indices.tolist() == brute_force(gallery[-1:], gallery, 2)[1]
    assert "searching 100001 images exactly in NumPy" in caplog.text
    _, indices = make(gallery).search(gallery[-1:], top=2, use_faiss=False)
    assert indices.tolist() == brute_force(gallery[-1:], gallery, 2)[1]
    make(gallery[:-1]).search(gallery[:1])


@pytest.mark.parametrize(
    ("queries", "top", "named"),
    [
        (np.zeros((1, 3)), 1, r"queries is \[1, 3\] and embeddings \[4, 4\]; expected"),
        (np.full((1, 4), np.nan), 1, "queries has NaN or infinity in row 0"),
        (np.zeros(4), 1, r"queries is float64 \[4\]"),
        (np.zeros((1, 4)), 0, "top is 0; expected an integer"),
    ],
)
def test_bad_queries_are_named(queries: np.ndarray, top: int, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        make(np.eye(4)).search(queries, top)


@pytest.mark.parametrize(
    ("names", "embeddings"),
    [
        (("a",), np.zeros((2, 3), dtype=np.float32)),
        (("a", "b"), np.zeros((2, 3))),
        ((), np.zeros((0, 3), dtype=np.float32)),
        (("a",), np.full((1, 3), np.inf, dtype=np.float32)),
    ],
)
def test_an_index_holds_finite_float32_rows_by_name(
    names: tuple[str, ...], embeddings: np.ndarray
) -> None:
    with pytest.raises(EmbeddingError, match="embeddings "):
        GalleryIndex(names, embeddings, ORIGIN)
