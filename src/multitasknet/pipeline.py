"""The input pipeline, on ``mindspore.dataset``: from a split to batches of network inputs."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Sequence
from typing import TypeAlias

import mindspore.dataset as ds
import numpy as np
from PIL import Image

from .pack import inflate_maps
from .preprocessing import pose_or_zeros, read_image
from .records import ClassMaps, Split
from .samples import Sample, load_sample, select_maps
from .spec import Variant, check_size

# Takes a sample and its index in the split, so that random draws need no state.
Augmentation: TypeAlias = Callable[[Sample, int], Sample]

LABEL_COLUMNS = ("identity", "color", "type")


def create_pipeline(
    split: Split,
    variant: Variant,
    size: tuple[int, int],
    *,
    batch_size: int,
    order: Sequence[int] | None = None,
    class_maps: ClassMaps | None = None,
    augment: Augmentation | None = None,
    workers: int = 1,
    drop_remainder: bool = False,
) -> ds.Dataset:
    """Build the pipeline for one pass over a split.

    The values depend on the arguments alone: not on the number of workers, nor on earlier passes.

    Args:
        split: folders or a pack.
        variant: which maps follow the image.
        size: height and width of the network's input.
        batch_size: images a batch; the last one is smaller where it does not divide.
        order: indices of the records, in the order wanted; default is all, as they stand.
        class_maps: adds the columns ``identity``, ``color`` and ``type``.
        augment: called with each sample and its index.
        workers: threads that decode and resize, at most one a CPU core.
        drop_remainder: leave out a smaller last batch (for training).

    Returns:
        A dataset with the columns ``image`` (float32 ``[N, C, H, W]``), ``pose`` (float32
        ``[N, 108]``), ``index`` (int32 ``[N]``) and with ``class_maps`` the labels (int32 ``[N]``,
        -1 where unknown).
    """
    order = list(range(len(split)) if order is None else order)
    prepare = _Preparation(split, Variant.parse(variant), check_size(size), class_maps, augment)
    source, columns = _folder_source(order) if split.pack is None else _pack_source(split, order)
    labels = LABEL_COLUMNS if class_maps else ()
    dataset = source.map(
        prepare,
        input_columns=columns,
        output_columns=["image", "pose", "index", *labels],
        num_parallel_workers=min(workers, os.cpu_count() or 1),
    )
    return dataset.batch(batch_size, drop_remainder=drop_remainder)


def _folder_source(order: list[int]) -> tuple[ds.Dataset, list[str]]:
    source = ds.GeneratorDataset(
        [(np.int32(index),) for index in order], ["index"], shuffle=False, num_parallel_workers=1
    )
    return source, ["index"]


def _pack_source(split: Split, order: list[int]) -> tuple[ds.Dataset, list[str]]:
    indices = ds.NumpySlicesDataset(np.array(order, dtype=np.int32), ["index"], shuffle=False)
    images = ds.MindDataset(
        str(split.pack), columns_list=["image", "maps"], sampler=ds.SubsetSampler(order)
    )
    return ds.zip((indices, images)), ["index", "image", "maps"]


class _Preparation:
    """One record to one row; a class, so that worker processes can take it along."""

    def __init__(
        self,
        split: Split,
        variant: Variant,
        size: tuple[int, int],
        class_maps: ClassMaps | None,
        augment: Augmentation | None,
    ) -> None:
        self.records = split.records
        self.variant = variant
        self.size = size
        self.class_maps = class_maps
        self.augment = augment

    def __call__(self, index: np.ndarray, *packed: np.ndarray) -> tuple[np.ndarray, ...]:
        position = int(index)
        sample = self._unpack(position, *packed) if packed else self._load(position)
        if self.augment:
            sample = self.augment(sample, position)
        return (*sample.inputs(self.size), np.int32(position), *self._labels(position))

    def _load(self, position: int) -> Sample:
        return load_sample(self.records[position], self.variant)

    def _unpack(self, position: int, image: np.ndarray, maps: np.ndarray) -> Sample:
        with Image.open(io.BytesIO(image.tobytes())) as file:
            pixels = read_image(file)
        stored = select_maps(inflate_maps(maps.tobytes()), self.variant)
        return Sample(pixels, pose_or_zeros(self.records[position].keypoints), stored)

    def _labels(self, position: int) -> tuple[np.ndarray, ...]:
        if self.class_maps is None:
            return ()
        record = self.records[position]
        return (
            np.int32(self.class_maps.identity_index(record.vehicle_id)),
            np.int32(self.class_maps.color_index(record.color_id)),
            np.int32(self.class_maps.type_index(record.type_id)),
        )
