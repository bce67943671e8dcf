"""A gallery of embeddings on disk, and exact search in it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..errors import DataError, MultiTaskNetError
from ..files import expand, reading, replacing, stored_array
from ..inference.origin import EmbeddingOrigin
from ..ranking.distances import (
    check_count,
    check_embeddings,
    check_same_width,
    nearest,
    squared_distances,
)

logger = logging.getLogger(__name__)

FAISS_FROM = 100_000
_INSTALL = "'pip install multitasknet[search]'"
# Pairs of a query and an image that are compared at once.
_PAIRS = 1 << 24
# Largest squared distance that is left to float32.
_FLOAT32_REACH = 1e37


class GalleryIndexError(MultiTaskNetError, ValueError):
    """An index that cannot be read, written or used; names the file and the remedy."""


@dataclass(frozen=True, eq=False)
class GalleryIndex:
    """Embeddings by image name.

    Attributes:
        names: one for each image.
        embeddings: finite float32 ``[N, D]``.
        origin: what made them.
        fingerprints: of each image when it was embedded, so that :func:`multitasknet.build_index`
            knows a picture that changed; empty for embeddings that are none of its own.

    Raises:
        DataError: the embeddings are something else, or as many as there are names.
    """

    names: tuple[str, ...]
    embeddings: np.ndarray
    origin: EmbeddingOrigin
    fingerprints: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_embeddings("embeddings", self.embeddings)
        if self.embeddings.dtype != np.float32 or len(self.embeddings) != len(self.names):
            raise DataError(
                f"embeddings is {self.embeddings.dtype} {list(self.embeddings.shape)}; expected "
                f"float32, one row for each of the {len(self.names)} names"
            )
        if self.fingerprints and len(self.fingerprints) != len(self.names):
            raise DataError(
                f"{len(self.fingerprints)} fingerprints for {len(self.names)} names; expected one "
                f"for each, or none"
            )

    @classmethod
    def load(cls, path: str | Path, expected: EmbeddingOrigin | None = None) -> GalleryIndex:
        """Read what :meth:`save` wrote; ``expected`` will make the queries' embeddings.

        Raises:
            GalleryIndexError: no such file, a damaged one, or one of another origin.
        """
        path = expand(path)
        if not path.is_file():
            raise GalleryIndexError(f"{path}: there is no such file; build the index first")
        problem = "this is no gallery index, or a damaged one"
        with reading(path, GalleryIndexError, problem, "build it again"):
            index = cls._read(path)
        if expected is not None and index.origin != expected:
            raise GalleryIndexError(
                f"{path}: the index was built by another network "
                f"({index.origin.differences(expected)}); build it again with the weights to "
                f"search with, or search with those of the index"
            )
        return index

    def save(self, path: str | Path) -> None:
        """Write an ``.npz`` file, whole or not at all; OutputError if it cannot be."""
        path = expand(path)
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.savez(
                file,
                names=np.array(self.names, dtype=np.str_),
                embeddings=self.embeddings,
                origin=np.array(json.dumps(asdict(self.origin))),
                fingerprints=np.array(self.fingerprints, dtype=np.str_),
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
            use_faiss: default is to use it above 100,000 images, if it is installed.

        Returns:
            Squared distances, float32 ``[Q, top]`` ascending, and rows of the gallery, int64
            ``[Q, top]``.

        Raises:
            DataError: queries of another width, empty, or not finite.
            GalleryIndexError: FAISS is wanted and not installed.
            ValueError: ``top`` is no integer of at least 1.
        """
        queries = check_embeddings("queries", queries)
        check_same_width("queries", queries, "embeddings", self.embeddings)
        top = min(check_count("top", top), len(self.names))
        if use_faiss or (use_faiss is None and len(self.names) > FAISS_FROM):
            if self._faiss is not None:
                return self._faiss.search(np.ascontiguousarray(queries, dtype=np.float32), top)
            if use_faiss:
                raise GalleryIndexError(
                    f"searching {len(self.names)} images with FAISS needs the package faiss; run "
                    f"{_INSTALL}, or pass use_faiss=False to search in NumPy"
                )
            logger.warning(
                "searching %d images exactly in NumPy; FAISS is faster (%s)",
                len(self.names),
                _INSTALL,
            )
        step = max(_PAIRS // len(self.names), 1)
        blocks = (queries[start : start + step] for start in range(0, len(queries), step))
        found = [one for block in blocks for one in self._search_block(block, top)]
        distances, indices = zip(*found, strict=True)
        return np.stack(distances), np.stack(indices)

    def _search_block(
        self, queries: np.ndarray, top: int
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        exact = queries.astype(np.float64)
        for query, rows in zip(exact, self._candidates(exact, top), strict=True):
            distances = squared_distances(query[None], self.embeddings[rows])[0]
            chosen = nearest(distances, top)
            yield distances[chosen], rows[chosen]

    def _candidates(self, queries: np.ndarray, top: int) -> list[np.ndarray]:
        """Of each float64 query the rows that can be among its nearest, as float32 tells it."""
        reach = np.linalg.norm(queries, axis=1) + np.sqrt(self._squared_norms.max())
        if reach.max() ** 2 > _FLOAT32_REACH:
            return [np.arange(len(self.names))] * len(queries)
        # Smaller by the query's own norm, which changes no order.
        rough = queries.astype(np.float32) @ self.embeddings.T
        rough *= -2
        rough += self._squared_norms.astype(np.float32)
        # What rounding can add up to in a sum of so many products.
        slack = (queries.shape[1] + 8) * (2.0**-24 * reach**2 + 2.0**-140)
        bounds = np.partition(rough, top - 1, axis=1)[:, top - 1] + 2 * slack
        return [np.flatnonzero(row <= bound) for row, bound in zip(rough, bounds, strict=True)]

    @cached_property
    def _squared_norms(self) -> np.ndarray:
        """float64 ``[N]``."""
        return np.einsum("nd,nd->n", self.embeddings, self.embeddings, dtype=np.float64)

    @cached_property
    def _faiss(self) -> Any | None:
        """FAISS's index of the same rows; None if it is not installed."""
        try:
            import faiss
        except ImportError:
            return None
        flat = faiss.IndexFlatL2(self.embeddings.shape[1])
        flat.add(np.ascontiguousarray(self.embeddings))
        return flat

    @classmethod
    def _read(cls, path: Path) -> GalleryIndex:
        with np.load(path, allow_pickle=False) as arrays:
            origin = json.loads(arrays["origin"].item())
            origin["input_size"] = tuple(origin["input_size"])
            if "preprocessing" not in origin:
                raise ValueError("an earlier release wrote it, and not what made each embedding")
            return cls(
                names=tuple(stored_array(arrays, "names", "U").tolist()),
                embeddings=arrays["embeddings"],
                origin=EmbeddingOrigin(**origin),
                fingerprints=tuple(stored_array(arrays, "fingerprints", "U").tolist()),
            )
