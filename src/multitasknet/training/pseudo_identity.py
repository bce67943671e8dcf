"""One round of :mod:`.adaptation` as a :class:`~.task.Task`: identities are clusters of crops.

The images carry the network's own answers as colour and type, so that these heads go with the
backbone; all three are class indices, not raw ids.
"""

from __future__ import annotations

import numpy as np
from mindspore import Tensor

from ..hub.create_network import create_from
from ..models.multitasknet.network import MultiTaskNet
from ..ranking.clustering import OUTLIER, centroids
from ..vehicle.attributes import ClassMaps
from .identity import (
    HIGHER_IS_BETTER,
    LOSSES,
    METRIC,
    create_loss,
    create_sampler,
    create_sources,
)
from .task import Job, Parts

__all__ = [
    "HIGHER_IS_BETTER",
    "LOSSES",
    "METRIC",
    "complete",
    "create_network",
    "create_sampler",
    "prepare",
]

# What the logits of a centroid and of an image at the mean distance differ by.
_SHARPNESS = 10.0


def complete(job: Job) -> Job:
    return job


def create_network(job: Job) -> MultiTaskNet:
    """The network with a fresh class for each cluster."""
    clusters = len(np.unique(job.dataset.train.vehicle_ids))
    network = create_from(job.weights, num_ids=clusters)
    network.load_report = None
    return network


def prepare(job: Job, network: MultiTaskNet) -> Parts:
    """Loss and batches; there is nothing to validate on."""
    spec = network.spec
    counts = spec.num_ids, spec.num_colors, spec.num_types
    classes = ClassMaps(*(tuple(range(count)) for count in counts))
    forward, (source,) = create_sources(job, network, classes)
    return Parts(forward, create_loss(job), source, lambda stopped: {}, classes)


def start_classifier(network: MultiTaskNet, embeddings: np.ndarray, labels: np.ndarray) -> None:
    """Let the identity classifier begin as the nearest centroid: logits of -s |f - c|^2.

    Fresh random rows would pull the embeddings about before they mean anything. What is the same
    for all classes, -s |f|^2, is left out; s is ten times the inverse of two images' mean distance.

    Args:
        embeddings: float32 ``[N, 1024]``, of the crops.
        labels: int64 ``[N]``, the cluster of each, -1 for none.
    """
    kept = embeddings[labels != OUTLIER]
    scale = _SHARPNESS / max(2 * kept.var(axis=0).sum(), 1e-12)
    centers = centroids(embeddings, labels)
    classifier = network.classifier_vid
    classifier.weight.set_data(Tensor((2 * scale * centers).astype(np.float32)))
    biases = -scale * np.einsum("nd,nd->n", centers, centers)
    classifier.bias.set_data(Tensor(biases.astype(np.float32)))
