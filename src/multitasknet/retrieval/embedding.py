"""Running a network over a whole split, in pieces that outlive an interruption."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from ..data.records import Record, Split
from ..data.samples import split_fingerprint
from ..files import keep_arrays, make_folder, read_arrays
from ..inference.origin import EmbeddingOrigin

if TYPE_CHECKING:
    from ..inference.predictor import Predictor

logger = logging.getLogger(__name__)

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
        DataError: a folder is given, and an image's file cannot be read.
        OutputError: the folder cannot be written.
    """
    if folder is None:
        return _joined(list(_compute(predictor, split, 0, workers, progress)))
    make_folder(folder)
    key, whole = _key(predictor, split), folder / f"{split.name}.npz"
    if found := _read(whole, key):
        logger.info("%s: read from %s", split.name, whole)
        return found
    starts = range(0, len(split), _PIECE)
    paths = [folder / f"{split.name}.part-{start:08}.npz" for start in starts]
    pieces: list[SplitEmbeddings] = []
    while len(pieces) < len(paths) and (piece := _read(paths[len(pieces)], key)):
        pieces.append(piece)
    done = sum(len(piece.names) for piece in pieces)
    if done:
        logger.warning("%s: going on behind %d finished images", split.name, done)
    computed = _compute(predictor, split, done, workers, progress)
    for path, piece in zip(paths[len(pieces) :], computed, strict=True):
        keep_arrays(path, key, vars(piece))
        pieces.append(piece)
    joined = _joined(pieces)
    keep_arrays(whole, key, vars(joined))
    for path in folder.glob(f"{split.name}.part-*.npz"):
        path.unlink()
    return joined


def origin_of(predictor: Predictor) -> EmbeddingOrigin:
    """What makes the predictor's embeddings."""
    return predictor.origin


def _compute(
    predictor: Predictor, split: Split, done: int, workers: int, progress: bool
) -> Iterator[SplitEmbeddings]:
    """The pieces behind the first ``done`` images."""
    from ..data.pipeline import create_pipeline, read_rows, rows_of

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
            for row in read_rows(rows_of(pipeline), split):
                *inputs, indices = row.values()
                batches.append(predictor.run(*inputs))
                bar.update(len(indices))
            outputs = [np.concatenate(columns) for columns in zip(*batches, strict=True)]
            yield _piece(records, outputs, predictor.spec.has_attributes)


def _piece(
    records: Sequence[Record], outputs: list[np.ndarray], has_attributes: bool
) -> SplitEmbeddings:
    none = np.full(len(records), _NO_CLASS)
    return SplitEmbeddings(
        names=np.array([str(record.image) for record in records]),
        embeddings=outputs[-1].astype(np.float32, copy=False),
        colors=outputs[-3].argmax(axis=1) if has_attributes else none,
        types=outputs[-2].argmax(axis=1) if has_attributes else none,
    )


def _key(predictor: Predictor, split: Split) -> str:
    """What the results depend on; a file with another key is not used."""
    facts = asdict(origin_of(predictor)) | {
        "data": split_fingerprint(split, predictor.spec),
        "batch_size": predictor.batch_size,
        "backend": predictor.engine.name,
    }
    return json.dumps(facts, sort_keys=True)


def _joined(pieces: list[SplitEmbeddings]) -> SplitEmbeddings:
    columns = zip(*(vars(piece).values() for piece in pieces), strict=True)
    return SplitEmbeddings(*map(np.concatenate, columns))


def _read(path: Path, key: str) -> SplitEmbeddings | None:
    """The stored results, None if there are none for this key."""
    names = [field.name for field in fields(SplitEmbeddings)]
    stored = read_arrays(path, key, names)
    return None if stored is None else SplitEmbeddings(**stored)
