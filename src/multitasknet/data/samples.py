"""Records and pictures as samples in memory, and samples as batches of network inputs.

Threads prepare those of a split ahead of their use.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeAlias, TypeVar

import numpy as np

from ..errors import DataError
from ..files import reading
from ..images import decode_gray, read_image, read_regular
from ..models import find_network
from ..models.base import Spec, Variant, check_memory, check_size
from ..runtime import usable_workers
from ..vehicle.attributes import ClassMaps
from ..vehicle.keypoints import NUM_KEYPOINTS, SURFACES, pose_or_zeros
from ..vehicle.maps import MAP_SIZE, draw_maps, gate_segments
from ..vehicle.sample import Sample
from .records import Record, Split, map_files

# Takes a sample, its index in the split and its place in the order, so that random draws need no
# state.
Augmentation: TypeAlias = Callable[[Sample, int, int], Sample]
Item = TypeVar("Item")
Made = TypeVar("Made")

LABEL_COLUMNS = ("identity", "color", "type")


def make_sample(pixels: np.ndarray, keypoints: np.ndarray | None, spec: Spec) -> Sample:
    """A picture and its pose, with the maps that the network takes drawn from the pose."""
    pose, kinds = pose_or_zeros(keypoints), spec.variant
    height, width = pixels.shape[:2]
    maps = draw_maps(
        pose, heatmaps=kinds.heatmaps, segments=kinds.segments, height=height, width=width
    )
    return Sample(pixels, pose, maps)


def load_sample(record: Record, spec: Spec) -> Sample:
    """Read a record's image, and its maps from disk where present, else from its keypoints.

    ImageError; DataError for a stored map that is missing or is not 64x64.
    """
    pixels = read_image(record.image)
    maps = load_maps(record, (pixels.shape[0], pixels.shape[1]), spec.variant)
    return Sample(pixels, pose_or_zeros(record.keypoints), maps)


def load_maps(record: Record, original: tuple[int, int], kinds: Variant) -> np.ndarray:
    """A record's maps, uint8 ``[M, 64, 64]``; ``original`` is the image's height and width.

    Stored segments are blacked where a corner's confidence is below 0.5, as drawn ones are: what
    writes them does not look at the confidence, what PAMTRI loads them with does.
    """
    pose = pose_or_zeros(record.keypoints)
    parts = [
        draw_maps(
            pose,
            heatmaps=kinds.heatmaps and record.heatmaps is None,
            segments=kinds.segments and record.segments is None,
            height=original[0],
            width=original[1],
        )
    ]
    if kinds.heatmaps and record.heatmaps:
        parts.insert(0, _read_maps(record.heatmaps, NUM_KEYPOINTS))
    if kinds.segments and record.segments:
        stored = _read_maps(record.segments, len(SURFACES))
        parts.append(stored if record.keypoints is None else gate_segments(stored, pose))
    return np.concatenate(parts)


def batch_inputs(
    samples: Sequence[Sample], spec: Spec, size: tuple[int, int]
) -> tuple[np.ndarray, ...]:
    """The network's inputs for some samples, in its order, float32."""
    network = find_network(spec.network)
    inputs = {
        name: np.empty((len(samples), *shape), np.float32)
        for name, shape in spec.input_shapes(size).items()
    }
    for row, sample in enumerate(samples):
        network.write_inputs(sample, {name: array[row] for name, array in inputs.items()})
    return tuple(inputs.values())


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
    classes = class_maps.indices(split.records) if class_maps else ()
    labels = dict(zip(LABEL_COLUMNS, classes, strict=False))
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


def _read_maps(folder: Path, count: int) -> np.ndarray:
    maps = np.empty((count, MAP_SIZE, MAP_SIZE), np.uint8)
    for path, found in zip(map_files(folder, count), maps, strict=True):
        with reading(path, DataError, "the stored map cannot be read", "store all maps, or none"):
            pixels = decode_gray(read_regular(path))
            if pixels is None or pixels.shape != found.shape:
                raise ValueError(f"it is no JPEG of {list(found.shape)} pixels")
            found[:] = pixels
    return maps
