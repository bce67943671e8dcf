"""Running a network over a whole split, in pieces that outlive an interruption."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from ..data.records import Split
from ..data.samples import pose_bytes, sample_fingerprint
from ..files import file_sha256, keep_arrays, make_folder, read_arrays
from ..models import find_network
from .index import EmbeddingOrigin

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

    Args:
        predictor: the network.
        split: its images.
        folder: where results are kept.
        workers: threads that decode and resize.
        progress: draw a progress bar on a terminal.
    """
    if folder is None:
        pieces = [piece for _, piece in _compute(predictor, split, 0, workers, progress)]
        return _joined(pieces)
    make_folder(folder)
    whole = folder / f"{split.name}.npz"
    key = _key(predictor, split)
    found = _read(whole, key)
    if found is not None:
        logger.info("%s: read from %s", split.name, whole)
        return found
    pieces = _finished_pieces(folder, split, key)
    if pieces:
        logger.warning("%s: going on behind %d finished images", split.name, _count(pieces))
    for start, piece in _compute(predictor, split, _count(pieces), workers, progress):
        _write(_piece_path(folder, split, start), piece, key)
        pieces.append(piece)
    joined = _joined(pieces)
    _write(whole, joined, key)
    for path in folder.glob(f"{split.name}.part-*.npz"):
        path.unlink()
    return joined


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
) -> Iterator[tuple[int, SplitEmbeddings]]:
    """The pieces behind the first ``done`` images, each with its first image's index."""
    from ..data.pipeline import create_pipeline

    total = len(split)
    with tqdm(
        desc=f"embed {split.name}",
        initial=done,
        total=total,
        unit="image",
        disable=None if progress else True,
    ) as bar:
        for start in range(done, total, _PIECE):
            stop = min(start + _PIECE, total)
            pipeline = create_pipeline(
                split,
                predictor.spec,
                predictor.size,
                batch_size=predictor.batch_size,
                order=range(start, stop),
                workers=workers,
            )
            batches = []
            rows = pipeline.create_tuple_iterator(num_epochs=1, output_numpy=True)
            for *inputs, indices in rows:
                batches.append(predictor.run(*inputs))
                bar.update(len(indices))
            yield start, _piece(predictor, split, start, stop, batches)


def _piece(
    predictor: Predictor,
    split: Split,
    start: int,
    stop: int,
    batches: list[tuple[np.ndarray, ...]],
) -> SplitEmbeddings:
    outputs = [np.concatenate(columns) for columns in zip(*batches, strict=True)]
    has_attributes = predictor.spec.has_attributes
    none = np.full(stop - start, _NO_CLASS)
    return SplitEmbeddings(
        names=np.array([str(record.image) for record in split.records[start:stop]]),
        embeddings=outputs[-1].astype(np.float32, copy=False),
        colors=outputs[1].argmax(axis=1) if has_attributes else none,
        types=outputs[2].argmax(axis=1) if has_attributes else none,
    )


def _key(predictor: Predictor, split: Split) -> str:
    """What the results depend on; a file with another key is not used."""
    data = hashlib.sha256()
    for record in split.records:
        packed = split.pack is not None
        content = (
            pose_bytes(record) if packed else sample_fingerprint(record, predictor.spec).encode()
        )
        data.update(os.fsencode(record.image) + b"\0" + content)
    if split.pack is not None:
        data.update(file_sha256(split.pack).encode())
    facts = asdict(origin_of(predictor)) | {
        "data": data.hexdigest(),
        "batch_size": predictor.batch_size,
        "backend": predictor.engine.name,
    }
    return json.dumps(facts, sort_keys=True)


def _finished_pieces(folder: Path, split: Split, key: str) -> list[SplitEmbeddings]:
    pieces = []
    for start in range(0, len(split), _PIECE):
        piece = _read(_piece_path(folder, split, start), key)
        if piece is None:
            break
        pieces.append(piece)
    return pieces


def _piece_path(folder: Path, split: Split, start: int) -> Path:
    return folder / f"{split.name}.part-{start:08}.npz"


def _count(pieces: list[SplitEmbeddings]) -> int:
    return sum(len(piece.names) for piece in pieces)


def _joined(pieces: list[SplitEmbeddings]) -> SplitEmbeddings:
    columns = ([getattr(piece, name) for piece in pieces] for name in _COLUMNS)
    return SplitEmbeddings(*(np.concatenate(column) for column in columns))


_COLUMNS = ("names", "embeddings", "colors", "types")


def _write(path: Path, piece: SplitEmbeddings, key: str) -> None:
    keep_arrays(path, key, {name: getattr(piece, name) for name in _COLUMNS})


def _read(path: Path, key: str) -> SplitEmbeddings | None:
    """The stored results, None if there are none for this key."""
    stored = read_arrays(path, key, _COLUMNS)
    return None if stored is None else SplitEmbeddings(**stored)
