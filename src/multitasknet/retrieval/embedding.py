"""Running a network over a whole split, in pieces that outlive an interruption."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from ..data.records import Record, Split
from ..data.samples import split_fingerprint
from ..files import arrays_in_pieces, join_arrays
from ..models import find_network
from .index import EmbeddingOrigin

if TYPE_CHECKING:
    from ..inference.predictor import Predictor

# Images whose results are written at once: what an interruption can cost.
_PIECE = 512
_NO_CLASS = -1


@dataclass(frozen=True, eq=False)
class SplitEmbeddings:
    """What the network says of a split.

    Attributes:
        names: image paths, ``[N]``.
        embeddings: float32 ``[N, 1024]``.
        colors, types: int64 ``[N]``, the likeliest class's index; -1 if there is no such head.
    """

    names: np.ndarray
    embeddings: np.ndarray
    colors: np.ndarray
    types: np.ndarray


def embed_split(
    predictor: Predictor,
    split: Split,
    *,
    folder: Path | None = None,
    workers: int = 1,
    progress: bool = True,
) -> SplitEmbeddings:
    """Embed all images of a split.

    With a folder, the result is saved there as ``<split>.npz``, and a later call with the same
    weights, precision, backend, settings and pictures reads it; an interrupted call leaves the
    pieces that it had finished, and the next one goes on behind them.

    Raises:
        LabelError: a folder is given, and an image's file cannot be read.
        OutputError: the folder cannot be written.
    """

    def compute(done: int) -> Iterator[dict[str, np.ndarray]]:
        return _compute(predictor, split, done, workers, progress)

    if folder is None:
        return SplitEmbeddings(**join_arrays(compute(0)))
    stored = arrays_in_pieces(
        folder,
        split.name,
        _key(predictor, split),
        rows=len(split),
        piece=_PIECE,
        columns=[field.name for field in fields(SplitEmbeddings)],
        compute=compute,
    )
    return SplitEmbeddings(**stored)


def origin_of(predictor: Predictor) -> EmbeddingOrigin:
    """What makes the predictor's embeddings; only those of one origin can be compared."""
    return EmbeddingOrigin(
        weights_sha256=predictor.engine.weights_sha256,
        variant=str(predictor.spec.variant),
        input_size=predictor.size,
        precision=predictor.engine.precision,
        preprocessing=find_network(predictor.spec.network).PREPROCESSING,
    )


def _compute(
    predictor: Predictor, split: Split, done: int, workers: int, progress: bool
) -> Iterator[dict[str, np.ndarray]]:
    """The pieces behind the first ``done`` images."""
    from ..data.pipeline import create_pipeline

    hidden = None if progress else True
    bar = tqdm(
        desc=f"embed {split.name}", total=len(split), initial=done, unit="image", disable=hidden
    )
    with bar:
        for start in range(done, len(split), _PIECE):
            records = split.records[start : start + _PIECE]
            pipeline = create_pipeline(
                split,
                predictor.spec,
                predictor.size,
                batch_size=predictor.batch_size,
                order=range(start, start + len(records)),
                workers=workers,
            )
            batches = []
            for *inputs, indices in pipeline.create_tuple_iterator(num_epochs=1, output_numpy=True):
                batches.append(predictor.run(*inputs))
                bar.update(len(indices))
            outputs = [np.concatenate(columns) for columns in zip(*batches, strict=True)]
            yield _piece(records, outputs, predictor.spec.has_attributes)


def _piece(
    records: Sequence[Record], outputs: list[np.ndarray], has_attributes: bool
) -> dict[str, np.ndarray]:
    """The columns of SplitEmbeddings."""
    none = np.full(len(records), _NO_CLASS)
    return {
        "names": np.array([str(record.image) for record in records]),
        "embeddings": outputs[-1].astype(np.float32, copy=False),
        "colors": outputs[1].argmax(axis=1) if has_attributes else none,
        "types": outputs[2].argmax(axis=1) if has_attributes else none,
    }


def _key(predictor: Predictor, split: Split) -> str:
    """What the results depend on; a file with another key is not used."""
    facts = asdict(origin_of(predictor)) | {
        "data": split_fingerprint(split, predictor.spec),
        "batch_size": predictor.batch_size,
        "backend": predictor.engine.name,
    }
    return json.dumps(facts, sort_keys=True)
