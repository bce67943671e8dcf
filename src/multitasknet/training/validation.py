"""The figures of one epoch: ranking of the gallery for the queries, colour and type accuracy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from tqdm import tqdm

from ..metrics import evaluate_embeddings
from .batches import Source

_RANKS = (1, 5)


def validate(
    forward: Callable,
    query: Source,
    gallery: Source,
    *,
    batch_size: int,
    progress: bool = False,
    stopped: Callable[[], bool] = lambda: False,
) -> dict[str, float] | None:
    """Evaluate a network in inference mode.

    Args:
        forward: called with a batch's inputs, returns what a MultiTaskNet does.
        query, gallery: the images.
        batch_size: images at a time.
        progress: draw a progress bar.
        stopped: asked between batches.

    Returns:
        ``mAP``, ``rank1``, ``rank5``, and for a multi-task network ``color_accuracy`` and
        ``type_accuracy`` over query and gallery together, where known; 0..1. None if stopped.
    """
    outputs = []
    total = len(query.split) + len(gallery.split)
    with tqdm(total=total, desc="evaluation", unit="image", disable=not progress) as bar:
        for source in (query, gallery):
            rows = []
            for batch in source.plain(batch_size):
                if stopped():
                    return None
                rows.append(_outputs(forward, batch))
                bar.update(len(batch.indices))
            outputs.append([np.concatenate(column) for column in zip(*rows, strict=True)])
    ranking = evaluate_embeddings(
        outputs[0][0],
        outputs[1][0],
        query.split.vehicle_ids,
        gallery.split.vehicle_ids,
        query.split.camera_ids,
        gallery.split.camera_ids,
    )
    metrics = {"mAP": float(ranking.mAP)}
    metrics |= {f"rank{k}": ranking.rank(k) for k in _RANKS}
    names = ("color_accuracy", "type_accuracy")
    right = [np.concatenate(columns) for columns in zip(*(side[1:] for side in outputs))]
    return metrics | {
        name: float(np.nanmean(hits)) for name, hits in zip(names, right) if not np.isnan(hits).all()
    }


def _outputs(forward: Callable, batch) -> list[np.ndarray]:
    """Embeddings; and 1, 0 or NaN for a right, wrong or unknown colour, and type."""
    outputs = [output.asnumpy() for output in forward(*batch.inputs)]
    labels = [column.asnumpy() for column in batch.labels]
    hits = [
        np.where(label < 0, np.nan, logits.argmax(axis=1) == label)
        for logits, label in zip(outputs[1:-1], labels[1:], strict=False)
    ]
    return [outputs[-1], *hits]
