"""Batches as a ``mindspore.dataset``, for training loops of the user's own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import mindspore.dataset as ds
import numpy as np

from ..data.records import Split
from ..data.samples import LABEL_COLUMNS, read_batches
from ..models.base import Spec


def create_pipeline(
    split: Split, spec: Spec, size: tuple[int, int], *, batch_size: int, **options: Any
) -> ds.Dataset:
    """One pass over a split as a dataset, for MindSpore's ``Model.train``.

    Args:
        split, spec, size, batch_size: as in :func:`.data.samples.read_batches`.
        options: its others: ``order``, ``class_maps``, ``augment``, ``workers``,
            ``drop_remainder``.

    Returns:
        A dataset whose columns are what that function yields.
    """
    order = options.get("order")
    images = len(split) if order is None else len(order)
    whole, rest = divmod(images, batch_size)
    batches = whole + bool(rest and not options.get("drop_remainder"))
    labels = LABEL_COLUMNS if options.get("class_maps") else ()
    arguments = {"split": split, "spec": spec, "size": size, "batch_size": batch_size, **options}
    columns = [*spec.input_shapes(size), "index", *labels]
    return ds.GeneratorDataset(_Rows(arguments, batches), columns, shuffle=False)


@dataclass(frozen=True, eq=False)
class _Rows:
    """Each pass over it reads the batches again."""

    arguments: dict[str, Any]
    batches: int

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[tuple[np.ndarray, ...]]:
        return (tuple(row.values()) for row in read_batches(**self.arguments))
