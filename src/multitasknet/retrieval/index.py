"""A gallery of embeddings on disk, and exact search in it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..errors import MultiTaskNetError
from ..files import replacing
from ..ranking.distances import (
    EmbeddingError,
    check_count,
    check_embedding_pair,
    check_embeddings,
    nearest,
    squared_distances,
)

FAISS_FROM = 100_000
_QUERIES = 256
_IMAGES = 8192


class GalleryIndexError(MultiTaskNetError, ValueError):
    """An index that cannot be read, written or used; names the file and the remedy."""


@dataclass(frozen=True)
class EmbeddingOrigin:
    """What made embeddings; those of different origins cannot be compared.

    Attributes:
        weights_sha256: of the weights file.
        variant: the network's input variant.
        input_size: height and width that images were brought to.
    """

    weights_sha256: str
    variant: str
    input_size: tuple[int, int]


@dataclass(frozen=True, eq=False)
class GalleryIndex:
    """Embeddings by image name.

    Attributes:
        names: one for each image.
        embeddings: finite float32 ``[N, D]``.
        origin: what made them.

    Raises:
        EmbeddingError: the embeddings are something else, or as many as there are names.
    """

    names: tuple[str, ...]
    embeddings: np.ndarray
    origin: EmbeddingOrigin

    def __post_init__(self) -> None:
        check_embeddings("embeddings", self.embeddings)
        if self.embeddings.dtype != np.float32 or len(self.embeddings) != len(self.names):
            raise EmbeddingError(
                f"embeddings is {self.embeddings.dtype} {list(self.embeddings.shape)}; expected "
                f"float32, one row for each of the {len(self.names)} names"
            )

    @classmethod
    def load(cls, path: str | Path, expected: EmbeddingOrigin | None = None) -> GalleryIndex:
        """Read what :meth:`save` wrote.

        Args:
            path: the file.
            expected: what will make the queries' embeddings.

        Raises:
            GalleryIndexError: no such file, a damaged one, or one of another origin.
        """
        path = Path(path).expanduser()
        if not path.is_file():
            raise GalleryIndexError(f"{path}: there is no such file; build the index first")
        try:
            index = cls._read(path)
        # NumPy and zipfile report damage in many ways, from KeyError to zlib's own.
        except Exception as error:
            raise GalleryIndexError(
                f"{path}: this is no gallery index, or a damaged one ({error}); build it again"
            ) from error
        if expected is not None:
            index._check_origin(path, expected)
        return index

    def save(self, path: str | Path) -> None:
        """Write an ``.npz`` file, whole or not at all; OutputError if it cannot be."""
        path = Path(path).expanduser()
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.savez(
                file,
                names=np.array(self.names, dtype=np.str_),
                embeddings=self.embeddings,
                origin=np.array(json.dumps(asdict(self.origin))),
            )

    def search(
        self, queries: ArrayLike, top: int = 10, *, use_faiss: bool | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The nearest gallery images of each query.

        Exact either way. In NumPy equal distances come by index; FAISS is faster in a large
        gallery, computes in float32 and leaves the order of equal distances open.

        Args:
            queries: finite numbers ``[Q, D]``.
            top: images a query; all of them if the gallery has fewer.
            use_faiss: default is to use it above 100,000 images.

        Returns:
            Squared distances, float32 ``[Q, top]`` ascending, and rows of the gallery, int64
            ``[Q, top]``.

        Raises:
            EmbeddingError: queries of another width, empty, or not finite.
            GalleryIndexError: FAISS is wanted and not installed.
            ValueError: ``top`` is no integer of at least 1.
        """
        queries, _ = check_embedding_pair("queries", queries, "embeddings", self.embeddings)
        top = min(check_count("top", top), len(self.names))
        if use_faiss is None:
            use_faiss = len(self.names) > FAISS_FROM
        if use_faiss:
            return self._faiss.search(np.ascontiguousarray(queries, dtype=np.float32), top)
        parts = [
            self._search_part(queries[start : start + _QUERIES], top)
            for start in range(0, len(queries), _QUERIES)
        ]
        distances, indices = zip(*parts, strict=True)
        return np.concatenate(distances), np.concatenate(indices)

    def _search_part(self, queries: np.ndarray, top: int) -> tuple[np.ndarray, np.ndarray]:
        best = [np.empty(0, dtype=np.float32)] * len(queries)
        indices = [np.empty(0, dtype=np.int64)] * len(queries)
        for start in range(0, len(self.names), _IMAGES):
            block = squared_distances(queries, self.embeddings[start : start + _IMAGES])
            numbers = np.arange(start, start + block.shape[1])
            for query, row in enumerate(block):
                # What was found so far stands first and in order, so ties stay in order too.
                found = np.concatenate([best[query], row])
                chosen = nearest(found, top)
                best[query] = found[chosen]
                indices[query] = np.concatenate([indices[query], numbers])[chosen]
        return np.stack(best), np.stack(indices)

    @cached_property
    def _faiss(self) -> Any:
        try:
            import faiss
        except ImportError as error:
            raise GalleryIndexError(
                f"searching {len(self.names)} images with FAISS needs the package faiss; run "
                f"'pip install multitasknet[search]', or pass use_faiss=False to search in NumPy"
            ) from error
        flat = faiss.IndexFlatL2(self.embeddings.shape[1])
        flat.add(np.ascontiguousarray(self.embeddings))
        return flat

    @classmethod
    def _read(cls, path: Path) -> GalleryIndex:
        with np.load(path, allow_pickle=False) as arrays:
            origin = json.loads(arrays["origin"].item())
            origin["input_size"] = tuple(origin["input_size"])
            return cls(
                names=tuple(arrays["names"].tolist()),
                embeddings=arrays["embeddings"],
                origin=EmbeddingOrigin(**origin),
            )

    def _check_origin(self, path: Path, expected: EmbeddingOrigin) -> None:
        differing = [
            f"{field.name} {getattr(self.origin, field.name)}, not {getattr(expected, field.name)}"
            for field in fields(EmbeddingOrigin)
            if getattr(self.origin, field.name) != getattr(expected, field.name)
        ]
        if differing:
            raise GalleryIndexError(
                f"{path}: the index was built by another network ({'; '.join(differing)}); build "
                f"it again with the weights to search with, or search with those of the index"
            )
