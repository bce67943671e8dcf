"""Clusters of images that show one vehicle: DBSCAN on re-ranked distances.

Ester et al., "A Density-Based Algorithm for Discovering Clusters in Large Spatial Databases with
Noise", KDD 1996; on Jaccard distances as in Ge et al., "Self-paced Contrastive Learning with Hybrid
Memory for Domain Adaptive Object Re-ID", NeurIPS 2020, section 3.2. Of several clusterings the best
is that with the largest silhouette: Rousseeuw, J. Comput. Appl. Math. 20, 1987.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ..errors import import_extra
from ..vehicle.cameras import UNKNOWN_CAMERA
from .centering import center_cameras, large_cameras
from .distances import check_embeddings, check_integers, squared_distances
from .reranking import jaccard_similarities

OUTLIER = -1
# Of re-ranking; and neighbours, itself among them, that make an image a core of its cluster.
_K2, _CORE = 6, 2
_DISTANCES = tuple(round(0.2 + 0.05 * step, 2) for step in range(13))
# Two halves of all images can be further apart than their vehicles are.
_LARGEST = 0.25
# A sample of so many images is enough for the silhouette.
_JUDGED = 4096


@dataclass(frozen=True, eq=False)
class Clustering:
    """Which images show one vehicle."""

    labels: np.ndarray  # int64 ``[N]``, the cluster of each image, 0 to ``count - 1``; -1 if none
    count: int
    eps: float  # the largest Jaccard distance of neighbours
    one_camera: int  # images that are in no cluster because theirs is one camera's
    # -1 to 1, the mean over all images of how much nearer the centroid of the next cluster is than
    # their own; 0 for those left out, and if there are not two clusters.
    silhouette: float

    @property
    def outliers(self) -> int:
        """Images that are in no cluster."""
        return int((self.labels == OUTLIER).sum()) - self.one_camera


def cluster(
    embeddings: ArrayLike,
    cameras: ArrayLike | None = None,
    *,
    eps: float | None = None,
    k1: int = 20,
) -> Clustering:
    """Find the images that show one vehicle.

    What the images of each camera have in common is removed first where a camera took enough of
    them, see :func:`.centering.center_cameras`. A cluster of one camera's images, often a part of a
    vehicle, is left out where there are several cameras. Both as in Song et al., Exploring the
    Camera Bias of Person Re-identification, ICLR 2025.

    Several ``eps`` are tried, unless one is given, and the one with the largest silhouette is
    taken, of those where no cluster holds more than a quarter of the images.

    Args:
        embeddings: finite numbers ``[N, D]``.
        cameras: integers ``[N]``, -1 where unknown; None if they all are.
        eps: the largest Jaccard distance of neighbours, between 0 and 1, instead of 0.2, 0.25, ...,
            0.8. A smaller one leaves out more images, a larger one joins vehicles.
        k1: as in :func:`.reranking.rerank`. Fewer give purer but smaller clusters.

    MissingExtraError without scikit-learn; DataError and ValueError as :func:`.reranking.rerank`.
    """
    images = check_embeddings("embeddings", embeddings)
    if eps is not None and not 0 < eps < 1:
        raise ValueError(f"eps is {eps!r}; expected a number between 0 and 1")
    places = np.full(len(images), UNKNOWN_CAMERA)
    if cameras is not None:
        places = check_integers("cameras", cameras, len(images), "image")
    dbscan = import_extra("sklearn.cluster", "adapt").DBSCAN
    tried = _DISTANCES if eps is None else (eps,)
    compared = center_cameras(images, places) if len(large_cameras(places)) else images
    jaccard = jaccard_similarities(compared, within=tried[-1], k1=k1, k2=min(k1, _K2))
    # What is not stored is too far; a distance of zero stays stored. Sums can pass 1 by rounding.
    jaccard.data = np.maximum(1 - jaccard.data, 0)

    def clustering(distance: float) -> Clustering:
        found = dbscan(eps=distance, min_samples=_CORE, metric="precomputed").fit(jaccard)
        return _clustering(images, found.labels_.astype(np.int64), places, distance)

    return max(map(clustering, tried), key=_merit)


def _merit(one: Clustering) -> tuple[bool, float, float]:
    sizes = np.bincount(one.labels[one.labels != OUTLIER], minlength=1)
    return bool(sizes.max() <= _LARGEST * len(one.labels)), one.silhouette, one.eps


def _clustering(
    images: np.ndarray, labels: np.ndarray, cameras: np.ndarray, eps: float
) -> Clustering:
    found = labels != OUTLIER
    labels = np.where(_of_one_camera(labels, cameras), OUTLIER, labels)
    kept = labels != OUTLIER
    names, labels[kept] = np.unique(labels[kept], return_inverse=True)
    silhouette = _silhouette(images, labels) if len(names) > 1 else 0.0
    return Clustering(labels, len(names), eps, int(found.sum() - kept.sum()), silhouette)


def centroids(embeddings: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The mean of each cluster 0, 1, ..., ``[clusters, D]``; -1 is an outlier."""
    return np.stack([embeddings[labels == label].mean(axis=0) for label in range(labels.max() + 1)])


def _of_one_camera(labels: np.ndarray, cameras: np.ndarray) -> np.ndarray:
    """bool ``[N]``: whether one known camera took a whole cluster, and others took other images."""
    if len(np.unique(cameras[cameras != UNKNOWN_CAMERA])) < 2:
        return np.zeros(len(labels), dtype=bool)
    pairs = np.unique(np.stack([labels, cameras], axis=1), axis=0)
    names, first, seen = np.unique(pairs[:, 0], return_index=True, return_counts=True)
    alone = names[(seen == 1) & (pairs[first, 1] != UNKNOWN_CAMERA) & (names != OUTLIER)]
    return np.isin(labels, alone)


def _silhouette(embeddings: np.ndarray, labels: np.ndarray) -> float:
    """The simplified silhouette, of distances from centroids; of very many images a sample's."""
    centers = centroids(embeddings, labels)
    if len(labels) > _JUDGED:
        drawn = np.random.default_rng(0).choice(len(labels), _JUDGED, replace=False)
        embeddings, labels = embeddings[drawn], labels[drawn]
    kept = np.flatnonzero(labels != OUTLIER)
    distances = squared_distances(embeddings[kept], centers)
    np.sqrt(distances, out=distances)
    own = np.arange(len(kept)), labels[kept]
    within = distances[own]
    distances[own] = np.inf
    other = distances.min(axis=1)
    nearer = (other - within) / np.maximum(np.maximum(other, within), 1e-12)
    return float(nearer.sum(dtype=np.float64) / len(labels))
