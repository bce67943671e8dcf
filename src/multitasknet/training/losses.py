"""The losses: MultiTaskNet's cross entropies and batch-hard triplets, PoseEstNet's heatmaps."""

from __future__ import annotations

from mindspore import Tensor, nn, ops
from mindspore import dtype as mstype

UNKNOWN = -1
# Of identity, triplet, colour and type in the sum: PAMTRI's (ICCV 2019, section 3.2).
PUBLISHED_WEIGHTS = (1.0, 1.0, 0.125, 0.125)
# Keeps the square root's slope finite where two embeddings coincide.
_TINY = 1e-12


def cross_entropy(logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    """Label-smoothed cross entropy, averaged over the batch.

    An image of unknown class adds nothing, and counts in the batch's size: so the mean over two
    devices is the one of their joined batch. Source: Szegedy et al., Rethinking the Inception
    Architecture, CVPR 2016, section 7.

    Args:
        logits: ``[N, classes]``; computed on in float32.
        labels: int32 ``[N]``, -1 for unknown.
    """
    log_probabilities = ops.log_softmax(logits.astype(mstype.float32), -1)
    # one_hot leaves a row of zeros for -1, on every device.
    known = (labels != UNKNOWN).astype(mstype.float32).expand_dims(1)
    classes = logits.shape[1]
    target = ops.one_hot(labels, classes, Tensor(1.0), Tensor(0.0))
    target = known * ((1 - smoothing) * target + smoothing / classes)
    return -(target * log_probabilities).sum() / logits.shape[0]


def batch_hard_triplet(
    embeddings: Tensor, identities: Tensor, margin: float | None = 0.3
) -> Tensor:
    """Batch-hard triplet loss with Euclidean distances, averaged over the batch.

    Each image meets its farthest of the same vehicle and its nearest of another one; an image that
    lacks either adds nothing. Source: Hermans et al., In Defense of the Triplet Loss, 2017,
    equation 5.

    Args:
        embeddings: ``[N, D]``; computed on in float32.
        identities: int32 ``[N]``.
        margin: in units of the distance; None for the soft margin, log(1 + exp(.)).
    """
    embeddings = embeddings.astype(mstype.float32)
    same = identities.expand_dims(1) == identities.expand_dims(0)
    # Mined on fast but rounded distances; the two that count are computed exactly.
    norms, products = (embeddings * embeddings).sum(1), ops.matmul(embeddings, embeddings.T)
    squares = norms.expand_dims(1) + norms.expand_dims(0) - 2 * products
    distances = ops.stop_gradient(squares)
    # Not infinity, which the first Ascend series does not have.
    least, most = distances.min() - 1, distances.max() + 1
    farthest = ops.argmax(ops.select(same, distances, ops.zeros_like(distances) + least), 1)
    nearest = ops.argmin(ops.select(same, ops.zeros_like(distances) + most, distances), 1)
    excess = _distance(embeddings, farthest) - _distance(embeddings, nearest)
    loss = ops.softplus(excess) if margin is None else ops.relu(excess + margin)
    positives = same.astype(mstype.float32).sum(1)
    complete = ops.logical_and(positives > 1, positives < embeddings.shape[0])
    return (loss * complete.astype(mstype.float32)).mean()


def _distance(embeddings: Tensor, chosen: Tensor) -> Tensor:
    difference = embeddings - ops.gather(embeddings, chosen, 0)
    return ops.sqrt((difference * difference).sum(1) + _TINY)


class MultiTaskLoss(nn.Cell):
    """The weighted sum of identity, triplet, colour and type losses.

    It is called with what a network with classifiers returns and the three labels, int32 ``[N]``,
    -1 for unknown; it returns the total, a float32 scalar, and the unweighted parts, float32
    ``[2]`` (identity, triplet) or ``[4]`` (with colour and type).

    Args:
        weights: of the four in the sum.
        smoothing, margin: as of :func:`cross_entropy` and :func:`batch_hard_triplet`.
    """

    def __init__(
        self,
        weights: tuple[float, ...] = PUBLISHED_WEIGHTS,
        *,
        smoothing: float = 0.1,
        margin: float | None = 0.3,
    ) -> None:
        super().__init__()
        self.weights, self.smoothing, self.margin = weights, smoothing, margin

    def construct(
        self, outputs: tuple[Tensor, ...], identity: Tensor, color: Tensor, type: Tensor
    ) -> tuple[Tensor, Tensor]:
        parts: tuple[Tensor, ...] = (
            cross_entropy(outputs[0], identity, self.smoothing),
            batch_hard_triplet(outputs[-1], identity, self.margin),
        )
        if len(outputs) == 4:
            parts = (*parts, cross_entropy(outputs[1], color), cross_entropy(outputs[2], type))
        total = parts[0] * self.weights[0]
        for index in range(1, len(parts)):
            total = total + parts[index] * self.weights[index]
        return total, ops.stack(parts)


class HeatmapLoss(nn.Cell):
    """Half the mean squared error of the maps whose weight is 1, averaged over all 36 keypoints.

    NVlabs' division by 36; the model zoo's port multiplies by 36^3 instead, see the card.
    """

    def construct(self, maps: Tensor, targets: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        difference = (maps.astype(targets.dtype) - targets) * weights[:, :, None, None]
        loss = 0.5 * ops.square(difference).mean()
        return loss, ops.stack((loss,))
