"""k-reciprocal re-ranking.

Zhong et al., "Re-ranking Person Re-identification with k-reciprocal Encoding", CVPR 2017.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from .distances import (
    check_count,
    check_embedding_pair,
    check_embeddings,
    distance_blocks,
    nearest,
)

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

_PAIRS = 4096


def rerank(
    query_embeddings: ArrayLike,
    gallery_embeddings: ArrayLike,
    *,
    k1: int = 20,
    k2: int = 6,
    lambda_value: float = 0.3,
) -> Iterator[np.ndarray]:
    """Distances that also weigh how far two images share their nearest neighbours.

    The steps are those of the code that the authors released with the paper. Queries and gallery
    form one pool, and an image is its own first neighbour, in addition to k1 others and counted
    among the k2. The distance d is the squared Euclidean one over the largest that p has in the
    pool. The k-reciprocal neighbours R(p, k1) of an image p are joined by R(q, k1 / 2) of each
    member q that has more than two thirds of it in common with them (k1 / 2 rounded, halves to
    even). The set is encoded with weights exp(-d) over their sum; the encodings are averaged over
    the k2 nearest images and compared by Jaccard distance, which is mixed with d.

    The paper itself (section 3) asks for at least two thirds, and does not divide the weights by
    their sum. The metrics of one query depend on the other queries; report them beside the plain
    ones. Never holds more than a block of the distances.

    Args:
        query_embeddings, gallery_embeddings: finite numbers ``[Q, D]`` and ``[G, D]``; DataError.
        k1, k2: neighbours that encode an image, and that its encoding is averaged over; ValueError.
        lambda_value: weight of the original distance, 0..1; ValueError.

    Returns:
        For each query in turn float32 ``[G]``, 0..1, smaller is nearer.
    """
    queries, gallery = check_embedding_pair(
        "query_embeddings", query_embeddings, "gallery_embeddings", gallery_embeddings
    )
    if not 0 <= lambda_value <= 1:
        raise ValueError(f"lambda_value is {lambda_value!r}; expected a number from 0 to 1")
    encodings, scales = _encodings(np.concatenate([queries, gallery]), k1, k2)
    jaccard = _jaccard_rows(encodings[: len(queries)], encodings[len(queries) :])
    plain = chain.from_iterable(distance_blocks(queries, gallery))
    return (
        ((1 - lambda_value) * shared + lambda_value * (distances / scale)).astype(np.float32)
        for shared, distances, scale in zip(jaccard, plain, scales, strict=False)
    )


def jaccard_similarities(
    embeddings: ArrayLike, *, within: float, k1: int = 20, k2: int = 6
) -> csr_matrix:
    """How far each two images of one pool share their nearest neighbours, where they do.

    That is :func:`rerank` with a ``lambda_value`` of 0, of a pool against itself; sparse, since
    most images have no neighbour in common. Float64 ``[N, N]``: 1 less the Jaccard distance, where
    that is at most ``within``, below 1; each image is its own neighbour.
    """
    from scipy.sparse import csr_matrix, vstack

    encodings, _ = _encodings(check_embeddings("embeddings", embeddings), k1, k2)
    rows = (np.where(row <= within, 1 - row, 0) for row in _jaccard_rows(encodings, encodings))
    similarities = vstack([csr_matrix(row) for row in rows], format="csr")
    # Sums that are rounded apart would leave a pair on the edge with one direction.
    return similarities.maximum(similarities.T).tocsr()


def _encodings(pool: np.ndarray, k1: int, k2: int) -> tuple[csr_matrix, np.ndarray]:
    """Of each image the encoding, ``[N, N]``, and the largest distance, ``[N]``."""
    depth = max(check_count("k1", k1) + 1, check_count("k2", k2))
    # Each image first in its own row.
    neighbors = np.empty((len(pool), min(depth, len(pool))), dtype=np.int32)
    scales = np.empty(len(pool))
    for image, row in enumerate(chain.from_iterable(distance_blocks(pool, pool))):
        scales[image] = row.max() or 1
        row[image] = -1
        neighbors[image] = nearest(row, depth)
    members = _expanded(_reciprocal(neighbors, k1 + 1), _reciprocal(neighbors, round(k1 / 2) + 1))
    encodings = _encoded(members, pool, scales)
    return _adjacency(neighbors[:, :k2]) @ encodings / min(k2, len(neighbors)), scales


def _adjacency(neighbors: np.ndarray) -> csr_matrix:
    from scipy.sparse import csr_matrix

    count, width = neighbors.shape
    ends = np.arange(0, neighbors.size + 1, width)
    ones = np.ones(neighbors.size, dtype=np.int32)
    return csr_matrix((ones, neighbors.ravel(), ends), shape=(count, count))


def _reciprocal(neighbors: np.ndarray, width: int) -> csr_matrix:
    adjacency = _adjacency(neighbors[:, :width])
    return adjacency.multiply(adjacency.T).tocsr()


def _expanded(reciprocal: csr_matrix, half: csr_matrix) -> csr_matrix:
    """Each image's set with the half sets of members that share more than two thirds with it."""
    shared = (reciprocal @ half.T).multiply(reciprocal).tocoo()
    sizes = half.getnnz(axis=1)
    shared.data = (3 * shared.data > 2 * sizes[shared.col]).astype(np.int32)
    return (reciprocal + shared.tocsr() @ half).tocsr()


def _encoded(members: csr_matrix, pool: np.ndarray, scales: np.ndarray) -> csr_matrix:
    members.eliminate_zeros()
    rows, columns = members.nonzero()
    distances = np.empty(len(rows))
    for start in range(0, len(rows), _PAIRS):
        part = slice(start, start + _PAIRS)
        difference = pool[rows[part]].astype(np.float64) - pool[columns[part]]
        distances[part] = np.einsum("nd,nd->n", difference, difference)
    weights = np.exp(-distances / scales[rows])
    # CSR lists its entries row by row, as nonzero() does.
    members.data = weights / np.bincount(rows, weights)[rows]
    return members


def _jaccard_rows(queries: csr_matrix, gallery: csr_matrix) -> Iterator[np.ndarray]:
    """Of each query's encoding in turn, the Jaccard distances from the gallery's, ``[G]``."""
    by_member = gallery.tocsc()
    for query in range(queries.shape[0]):
        own = slice(queries.indptr[query], queries.indptr[query + 1])
        common = by_member[:, queries.indices[own]]
        common.data = np.minimum(common.data, np.repeat(queries.data[own], np.diff(common.indptr)))
        smaller = np.asarray(common.sum(axis=1)).ravel()
        # Each encoding's sum is 1, so this is the sum of the greater weights.
        yield 1 - smaller / (2 - smaller)
