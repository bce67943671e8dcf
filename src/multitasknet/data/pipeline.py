"""The input pipeline, on ``mindspore.dataset``: from a split to batches of network inputs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import mindspore.dataset as ds
import numpy as np

from ..errors import DataError
from ..files import reading
from ..models.base import Spec, check_memory, check_size
from ..runtime import restore_signal_handlers, usable_workers
from ..vehicle.attributes import ClassMaps
from ..vehicle.sample import Sample
from .records import Record, Split
from .samples import batch_inputs, load_sample

# Takes a sample, its index in the split and its place in the order, so that random draws need no
# state.
Augmentation: TypeAlias = Callable[[Sample, int, int], Sample]

Row = TypeVar("Row")

# This package's errors in MindSpore's own, which hold the traceback as text.
_OWN_ERROR = re.compile(r"^multitasknet\w*\.\w[\w.]*Error: (.+)$", re.MULTILINE)
LABEL_COLUMNS = ("identity", "color", "type")
# Batches that wait between two operations; MindSpore's 16 are gigabytes.
_QUEUE = 2


def create_pipeline(
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
    raw: bool = False,
) -> ds.Dataset:
    """Build the pipeline for one pass over a split.

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
        raw: give MultiTaskNet's ``image`` as pixels, uint8, to be normalised on a device.

    Returns:
        A dataset with the network's inputs as columns (of MultiTaskNet ``image``, float32
        ``[N, C, H, W]``, and ``pose``, float32 ``[N, 108]``), then ``index`` (int32 ``[N]``) and
        with ``class_maps`` the labels (int32 ``[N]``, -1 where unknown).
    """
    check_memory(spec, check_size(size), batch_size)
    order = list(range(len(split)) if order is None else order)
    labels = LABEL_COLUMNS if class_maps else ()
    rows = {"index": np.array(order, np.int32), "place": np.arange(len(order), dtype=np.int32)}
    source = ds.NumpySlicesDataset(rows, shuffle=False, num_parallel_workers=1)
    return source.batch(
        batch_size,
        drop_remainder=drop_remainder,
        # Whole batches: the rows are written where they belong instead of being stacked again.
        per_batch_map=_Preparation(
            split.records, spec, size, _label_table(split, class_maps), augment, raw
        ),
        output_columns=[*spec.input_shapes(size), "index", *labels],
        num_parallel_workers=min(workers, usable_workers()),
    )


def rows_of(pipeline: ds.Dataset) -> Iterator[dict[str, np.ndarray]]:
    """The batches of a pipeline, by column; few of them are made ahead."""
    before = ds.config.get_prefetch_size()
    ds.config.set_prefetch_size(_QUEUE)
    try:
        rows = pipeline.create_dict_iterator(num_epochs=1, output_numpy=True)
    finally:
        ds.config.set_prefetch_size(before)
    for row in rows:
        restore_signal_handlers()
        yield row


def read_rows(rows: Iterable[Row], split: Split) -> Iterator[Row]:
    """What a pipeline's iterator gives; DataError for whatever MindSpore raises on the way."""
    remedy = "a picture has changed since it was checked"
    with reading(split.name, DataError, "its images cannot be read", remedy):
        try:
            yield from rows
        except RuntimeError as error:
            own = _OWN_ERROR.findall(str(error))
            if not own:
                raise
            raise DataError(own[-1]) from error


@dataclass(frozen=True, eq=False)
class _Preparation:
    """Records to one batch."""

    records: Sequence[Record]
    spec: Spec
    size: tuple[int, int]
    labels: np.ndarray
    augment: Augmentation | None
    raw: bool

    def __call__(
        self, indices: list[np.ndarray], places: list[np.ndarray], _: Any
    ) -> tuple[np.ndarray, ...]:
        positions = np.array(indices, dtype=np.int32)
        samples = list(map(self._sample, positions.tolist(), places))
        inputs = batch_inputs(samples, self.spec, self.size, raw=self.raw)
        return (*inputs, positions, *self.labels[:, positions])

    def _sample(self, position: int, place: np.ndarray) -> Sample:
        sample = load_sample(self.records[position], self.spec)
        return self.augment(sample, position, int(place)) if self.augment else sample


def _label_table(split: Split, class_maps: ClassMaps | None) -> np.ndarray:
    """Class indices, int32 ``[3, N]``, in the order of LABEL_COLUMNS; none without class maps."""
    if class_maps is None:
        return np.empty((0, len(split)), dtype=np.int32)
    rows = [
        (
            class_maps.identity_index(record.vehicle_id),
            class_maps.color_index(record.color_id),
            class_maps.type_index(record.type_id),
        )
        for record in split.records
    ]
    return np.array(rows, dtype=np.int32).reshape(-1, len(LABEL_COLUMNS)).T
