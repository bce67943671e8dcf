"""Squared Euclidean distances between embeddings, a block at a time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike

from ..errors import DataError

# Most distances, and most rows, that are held at once; most columns in float64.
_PAIRS = 1 << 25
_ROWS = 256
_COLUMNS = 1 << 16


def squared_distances(a: ArrayLike, b: ArrayLike) -> np.ndarray:
    """Squared Euclidean distances of embeddings ``[N, D]`` from ``[M, D]``, float32 ``[N, M]``.

    They are rounded from float64: what float32 alone would lose between near neighbours counts in
    a ranking. DataError: wrong shapes, empty, or values that are not finite.
    """
    a, b = check_embedding_pair("a", a, "b", b)
    distances, start = np.empty((len(a), len(b)), dtype=np.float32), 0
    for block in distance_blocks(a, b):
        distances[start : start + len(block)] = block
        start += len(block)
    return distances


def distance_blocks(a: np.ndarray, b: np.ndarray) -> Iterator[np.ndarray]:
    """``squared_distances(a, b)``, some rows at a time, of a pair that was checked already.

    No more of ``b`` than 65,536 rows is held in float64.
    """
    rows = max(min(_PAIRS // len(b), _ROWS), 1)
    starts = range(0, len(b), _COLUMNS)
    whole = b.astype(np.float64) if len(starts) == 1 else None
    b_norms = np.concatenate([_squared_norms(b[one : one + _COLUMNS]) for one in starts])
    for start in range(0, len(a), rows):
        part = a[start : start + rows].astype(np.float64)
        norms = _squared_norms(part)[:, None]
        distances = np.empty((len(part), len(b)), np.float32)
        for first in starts:
            columns = slice(first, first + _COLUMNS)
            other = b[columns].astype(np.float64) if whole is None else whole
            block = (-2 * part) @ other.T
            block += norms
            block += b_norms[columns]
            # Rounding can leave equal embeddings slightly below zero.
            distances[:, columns] = np.maximum(block, 0, out=block)
        yield distances


def _squared_norms(rows: np.ndarray) -> np.ndarray:
    exact = rows.astype(np.float64, copy=False)
    return np.einsum("nd,nd->n", exact, exact)


def nearest(distances: np.ndarray, count: int) -> np.ndarray:
    """Indices of the ``count`` smallest of ``distances`` ``[N]``, nearest first, ties by index."""
    if count >= len(distances):
        return np.argsort(distances, kind="stable")
    bound = np.partition(distances, count - 1)[count - 1]
    # argpartition would choose among those at the bound at will.
    candidates = np.flatnonzero(distances <= bound)
    return candidates[np.argsort(distances[candidates], kind="stable")[:count]]


def check_embedding_pair(
    first_name: str, first: ArrayLike, second_name: str, second: ArrayLike
) -> tuple[np.ndarray, np.ndarray]:
    """Both as arrays of finite numbers with as many columns; else DataError."""
    first, second = check_embeddings(first_name, first), check_embeddings(second_name, second)
    if first.shape[1] != second.shape[1]:
        raise DataError(
            f"{first_name} is {list(first.shape)} and {second_name} {list(second.shape)}; expected "
            f"as many columns in both"
        )
    return first, second


def check_embeddings(name: str, values: ArrayLike) -> np.ndarray:
    """``values`` as an array ``[N, D]`` of finite numbers; DataError unless they are one."""
    array = check_numbers(name, values)
    if not np.isfinite([array.min(), array.max()]).all():
        row = np.flatnonzero(~np.isfinite(array).all(axis=1))[0]
        raise DataError(
            f"{name} has NaN or infinity in row {row}; check the weights and the image of this row"
        )
    return array


def check_numbers(name: str, values: ArrayLike) -> np.ndarray:
    """``values`` as an array of real numbers, at least one by one; else DataError."""
    array = np.asarray(values)
    if array.ndim != 2 or not array.size or array.dtype.kind not in "fiu":
        raise DataError(
            f"{name} is {array.dtype} {list(array.shape)}; expected real numbers, at least one by "
            f"at least one"
        )
    return array


def check_integers(name: str, values: ArrayLike, count: int, counted: str) -> np.ndarray:
    """``values`` as an integer array ``[count]``, one for each of ``counted``; else an error."""
    array = np.asarray(values)
    if array.shape != (count,) or array.dtype.kind not in "iu":
        raise DataError(
            f"{name} is {array.dtype} {list(array.shape)}; expected integers [{count}], one for "
            f"each {counted}"
        )
    return array


def check_count(name: str, value: int) -> int:
    """``value`` if it is an integer of at least 1; else ValueError."""
    if value < 1:
        raise ValueError(f"{name} is {value!r}; expected an integer of at least 1")
    return value
