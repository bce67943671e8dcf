"""A split as batches of network inputs, which threads prepare ahead of their use."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeAlias, TypeVar

import numpy as np

from ..models.base import Spec, check_memory, check_size
from ..runtime import usable_workers
from ..vehicle.attributes import ClassMaps
from ..vehicle.sample import Sample
from .records import Split
from .samples import batch_inputs, load_sample

# Takes a sample, its index in the split and its place in the order, so that random draws need no
# state.
Augmentation: TypeAlias = Callable[[Sample, int, int], Sample]
Item = TypeVar("Item")
Made = TypeVar("Made")

LABEL_COLUMNS = ("identity", "color", "type")


def read_batches(
    split: Split,
    spec: Spec,
    size: tuple[int, int],
    *,
    batch_size: int,
    order: Sequence[int] | None = None,
    class_maps: ClassMaps | None = None,
    augment: Augmentation | None = None,
    workers: int = 1,
    drop_remainder: bool = False,
) -> Iterator[dict[str, np.ndarray]]:
    """Read the images of a split once, a batch at a time.

    The values depend on the arguments alone: not on the number of workers, nor on earlier passes.

    Args:
        split: whose images.
        spec: the network, which defines its inputs.
        size: height and width of the network's input.
        batch_size: images a batch; the last one is smaller where it does not divide.
        order: indices of the records, in the order wanted; default is all, as they are.
        class_maps: adds the columns ``identity``, ``color`` and ``type``.
        augment: called with each sample, its index and its place in ``order``.
        workers: threads that decode and resize, at most 8 and one a CPU core.
        drop_remainder: leave out a smaller last batch (for training).

    Yields:
        The network's inputs by name (of MultiTaskNet ``image``, float32 ``[N, C, H, W]``, and
        ``pose``, float32 ``[N, 108]``), then ``index`` (int32 ``[N]``) and with ``class_maps`` the
        labels (int32 ``[N]``, -1 where unknown).

    Raises:
        ImageError, DataError: an image or a stored map cannot be read.
        EngineError: a batch needs more memory than is free.
    """
    check_memory(spec, check_size(size), batch_size)
    places = np.arange(len(split) if order is None else len(order))
    indices = places if order is None else np.array(order, dtype=np.int64)
    labels = {} if class_maps is None else _labels(split, class_maps)
    end = len(places) // batch_size * batch_size if drop_remainder else len(places)

    def sample_of(place: int) -> Sample:
        index = int(indices[place])
        sample = load_sample(split.records[index], spec)
        return augment(sample, index, place) if augment else sample

    def batch_from(start: int) -> dict[str, np.ndarray]:
        chosen = places[start : min(start + batch_size, end)]
        inputs = batch_inputs([sample_of(int(place)) for place in chosen], spec, size)
        rows = indices[chosen]
        return {
            **dict(zip(spec.input_shapes(size), inputs, strict=True)),
            "index": rows.astype(np.int32),
            **{name: column[rows] for name, column in labels.items()},
        }

    return prepared(batch_from, range(0, end, batch_size), min(workers, usable_workers()))


def prepared(make: Callable[[Item], Made], items: Iterable[Item], workers: int) -> Iterator[Made]:
    """What ``make`` makes of each item, in order, by threads that stay one item a thread ahead."""
    waiting: deque[Future[Made]] = deque()
    pool = ThreadPoolExecutor(workers)
    try:
        for item in items:
            waiting.append(pool.submit(make, item))
            if len(waiting) > workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _labels(split: Split, class_maps: ClassMaps) -> dict[str, np.ndarray]:
    """Each record's classes, int32 ``[N]`` by column."""
    rows = [
        (
            class_maps.identity_index(record.vehicle_id),
            class_maps.color_index(record.color_id),
            class_maps.type_index(record.type_id),
        )
        for record in split.records
    ]
    columns = np.array(rows, dtype=np.int32).reshape(-1, len(LABEL_COLUMNS)).T
    return dict(zip(LABEL_COLUMNS, columns, strict=True))
