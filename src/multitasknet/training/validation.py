"""The metrics of one epoch, on query and gallery."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from mindspore import Tensor
from tqdm import tqdm

from ..data.records import VehicleDataset
from ..evaluation.run import evaluate_outputs
from ..models.multitasknet.spec import NetworkSpec
from ..retrieval.embedding import SplitEmbeddings
from .batches import Source


def validate(
    forward: Callable[..., tuple[Tensor, ...]],
    spec: NetworkSpec,
    dataset: VehicleDataset,
    sources: Sequence[Source],
    stopped: Callable[[], bool] = lambda: False,
    *,
    batch_size: int,
    show: bool = False,
) -> dict[str, float] | None:
    """Evaluate a network in inference mode.

    Args:
        forward: called with a batch's inputs, returns what a MultiTaskNet does.
        spec: the network.
        dataset: with the splits query and gallery.
        sources: the batches of the two, or none.
        stopped: asked between batches.
        batch_size: images at a time.
        show: draw a progress bar on a terminal.

    Returns:
        What :attr:`.evaluation.results.Evaluation.metrics` is, in percent; empty without sources,
        None if stopped.
    """
    if not sources:
        return {}
    total = sum(len(source.split) for source in sources)
    outputs = []
    with tqdm(total=total, desc="evaluation", unit="image", disable=None if show else True) as bar:
        for source in sources:
            rows = []
            for batch in source.plain(batch_size):
                if stopped():
                    return None
                outputs_of = forward(*batch.inputs)
                rows.append([output.asnumpy().astype(np.float32) for output in outputs_of])
                bar.update(len(batch.indices))
            outputs.append([np.concatenate(column) for column in zip(*rows, strict=True)])
    splits = (_embeddings(source, rows) for source, rows in zip(sources, outputs, strict=True))
    return evaluate_outputs(spec, dataset, *splits).metrics


def _embeddings(source: Source, outputs: list[np.ndarray]) -> SplitEmbeddings:
    none = np.full(len(source.split), -1)
    colors, types = (
        (logits.argmax(axis=1) for logits in outputs[1:3]) if outputs[3:] else (none,) * 2
    )
    names = np.array([str(record.image) for record in source.split.records])
    return SplitEmbeddings(names, outputs[-1], colors, types)
