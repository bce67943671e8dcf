"""The input pipeline, on ``mindspore.dataset``: from a split to batches of network inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import mindspore.dataset as ds
import numpy as np

from ..images import decode_image, read_image
from ..models import find_network
from ..models.definition import Spec, check_size
from ..runtime import usable_cores
from ..vehicle.attributes import ClassMaps
from ..vehicle.keypoints import pose_or_zeros
from ..vehicle.maps import select_maps
from ..vehicle.sample import Sample
from .pack import inflate_maps
from .records import Record, Split
from .samples import empty_inputs, load_sample

# Takes a sample, its index in the split and its place in the order, so that random draws need no
# state.
Augmentation: TypeAlias = Callable[[Sample, int, int], Sample]

LABEL_COLUMNS = ("identity", "color", "type")


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
) -> ds.Dataset:
    """Build the pipeline for one pass over a split.

    The values depend on the arguments alone: not on the number of workers, nor on earlier passes.

    Args:
        split: folders or a pack.
        spec: the network, which says what its inputs are.
        size: height and width of the network's input.
        batch_size: images a batch; the last one is smaller where it does not divide.
        order: indices of the records, in the order wanted; default is all, as they stand.
        class_maps: adds the columns ``identity``, ``color`` and ``type``.
        augment: called with each sample, its index and its place in ``order``.
        workers: threads that decode and resize, at most one a CPU core.
        drop_remainder: leave out a smaller last batch (for training).

    Returns:
        A dataset with the network's inputs as columns (of MultiTaskNet ``image``, float32
        ``[N, C, H, W]``, and ``pose``, float32 ``[N, 108]``), then ``index`` (int32 ``[N]``) and
        with ``class_maps`` the labels (int32 ``[N]``, -1 where unknown).
    """
    order = list(range(len(split)) if order is None else order)
    prepare = _Preparation(split, spec, check_size(size), class_maps, augment)
    source, columns = _folder_source(order) if split.pack is None else _pack_source(split, order)
    labels = LABEL_COLUMNS if class_maps else ()
    return source.batch(
        batch_size,
        drop_remainder=drop_remainder,
        # Whole batches: the rows are written where they belong instead of being stacked again.
        per_batch_map=prepare.from_folder if split.pack is None else prepare.from_pack,
        input_columns=columns,
        output_columns=[*spec.input_shapes(size), "index", *labels],
        num_parallel_workers=min(workers, usable_cores()),
    )


def read_images(split: Split, indices: Sequence[int]) -> list[np.ndarray]:
    """Some images of a split as they are stored, uint8 ``[H, W, 3]`` each."""
    if split.pack is None:
        return [read_image(split.records[index].image) for index in indices]
    stored = ds.MindDataset(
        str(split.pack), columns_list=["image"], sampler=ds.SubsetSampler(list(indices))
    )
    rows = stored.create_tuple_iterator(num_epochs=1, output_numpy=True)
    return [decode_image(image.tobytes()) for (image,) in rows]


def _folder_source(order: list[int]) -> tuple[ds.Dataset, list[str]]:
    rows = [(np.int32(index), np.int32(place)) for place, index in enumerate(order)]
    columns = ["index", "place"]
    source = ds.GeneratorDataset(rows, columns, shuffle=False, num_parallel_workers=1)
    return source, columns


def _pack_source(split: Split, order: list[int]) -> tuple[ds.Dataset, list[str]]:
    rows = {"index": np.array(order, np.int32), "place": np.arange(len(order), dtype=np.int32)}
    places = ds.NumpySlicesDataset(rows, shuffle=False)
    images = ds.MindDataset(
        str(split.pack), columns_list=["image", "maps"], sampler=ds.SubsetSampler(order)
    )
    return ds.zip((places, images)), ["index", "place", "image", "maps"]


class _Preparation:
    """Records to one batch."""

    def __init__(
        self,
        split: Split,
        spec: Spec,
        size: tuple[int, int],
        class_maps: ClassMaps | None,
        augment: Augmentation | None,
    ) -> None:
        self.records = split.records
        self.spec = spec
        self.network = find_network(spec.network)
        self.size = size
        self.augment = augment
        self.labels = None if class_maps is None else _label_table(split, class_maps)

    # MindSpore compares the signatures with the input columns, and adds its batch information.

    def from_folder(
        self, index: list[np.ndarray], place: list[np.ndarray], _: object
    ) -> tuple[np.ndarray, ...]:
        return self._batch(index, place)

    def from_pack(
        self,
        index: list[np.ndarray],
        place: list[np.ndarray],
        image: list[np.ndarray],
        maps: list[np.ndarray],
        _: object,
    ) -> tuple[np.ndarray, ...]:
        return self._batch(index, place, image, maps)

    def _batch(
        self, indices: list[np.ndarray], places: list[np.ndarray], *packed: list[np.ndarray]
    ) -> tuple[np.ndarray, ...]:
        positions = np.array(indices, dtype=np.int32)
        inputs = empty_inputs(self.spec, self.size, len(positions))
        for row, position in enumerate(positions.tolist()):
            sample = self._sample(position, *(column[row] for column in packed))
            if self.augment:
                sample = self.augment(sample, position, int(places[row]))
            self.network.write_inputs(sample, {name: one[row] for name, one in inputs.items()})
        labels = () if self.labels is None else self.labels[:, positions]
        return (*inputs.values(), positions, *labels)

    def _sample(self, position: int, *packed: np.ndarray) -> Sample:
        record = self.records[position]
        return self._unpack(record, *packed) if packed else load_sample(record, self.spec)

    def _unpack(self, record: Record, image: np.ndarray, maps: np.ndarray) -> Sample:
        stored = inflate_maps(maps.tobytes())
        wanted = select_maps(stored, heatmaps=self.spec.heatmaps, segments=self.spec.segments)
        return Sample(decode_image(image.tobytes()), pose_or_zeros(record.keypoints), wanted)


def _label_table(split: Split, class_maps: ClassMaps) -> np.ndarray:
    """Class indices, int32 ``[3, N]``, in the order of LABEL_COLUMNS."""
    rows = [
        (
            class_maps.identity_index(record.vehicle_id),
            class_maps.color_index(record.color_id),
            class_maps.type_index(record.type_id),
        )
        for record in split.records
    ]
    return np.array(rows, dtype=np.int32).reshape(-1, len(LABEL_COLUMNS)).T
