"""Records and pictures as samples in memory, and samples as batches of network inputs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..errors import DataError
from ..files import reading
from ..images import decode_gray, read_image, read_regular
from ..models import find_network
from ..models.base import Spec
from ..vehicle.keypoints import NUM_KEYPOINTS, SURFACES, pose_or_zeros
from ..vehicle.maps import MAP_SIZE, draw_heatmaps, draw_maps, draw_segments, gate_segments
from ..vehicle.sample import Sample
from .records import Record, map_files


def make_sample(pixels: np.ndarray, keypoints: np.ndarray | None, spec: Spec) -> Sample:
    """A picture and its pose, with the maps that the network takes drawn from the pose."""
    pose = pose_or_zeros(keypoints)
    height, width = pixels.shape[:2]
    maps = draw_maps(
        pose, heatmaps=spec.heatmaps, segments=spec.segments, height=height, width=width
    )
    return Sample(pixels, pose, maps)


def load_sample(record: Record, spec: Spec) -> Sample:
    """Read a record's image, and its maps from disk where present, else from its keypoints.

    Raises:
        ImageError: the image cannot be read.
        DataError: a stored map is missing or is not 64x64.
    """
    pixels = read_image(record.image)
    original = pixels.shape[0], pixels.shape[1]
    maps = load_maps(record, original, heatmaps=spec.heatmaps, segments=spec.segments)
    return Sample(pixels, pose_or_zeros(record.keypoints), maps)


def load_maps(
    record: Record, original: tuple[int, int], *, heatmaps: bool = True, segments: bool = True
) -> np.ndarray:
    """A record's maps, uint8 ``[M, 64, 64]``; ``original`` is the image's height and width.

    Stored segments are blacked where a corner's confidence is below 0.5, as drawn ones are: what
    writes them does not look at the confidence, what PAMTRI loads them with does.
    """
    height, width = original
    pose = pose_or_zeros(record.keypoints)
    parts = [np.zeros((0, MAP_SIZE, MAP_SIZE), dtype=np.uint8)]
    if heatmaps and record.heatmaps:
        parts.append(_read_maps(record.heatmaps, NUM_KEYPOINTS))
    elif heatmaps:
        parts.append(draw_heatmaps(pose, width=width, height=height))
    if segments and record.segments:
        stored = _read_maps(record.segments, len(SURFACES))
        parts.append(stored if record.keypoints is None else gate_segments(stored, pose))
    elif segments:
        parts.append(draw_segments(pose, width=width, height=height))
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


def _read_maps(folder: Path, count: int) -> np.ndarray:
    return np.stack([_read_map(file) for file in map_files(folder, count)])


def _read_map(path: Path) -> np.ndarray:
    remedy = "store all maps of an image, or none"
    with reading(path, DataError, "the stored map cannot be read", remedy):
        pixels = decode_gray(read_regular(path))
    if pixels.shape != (MAP_SIZE, MAP_SIZE):
        raise DataError(
            f"{path}: the stored map is {pixels.shape[1]}x{pixels.shape[0]}; expected "
            f"{MAP_SIZE}x{MAP_SIZE}"
        )
    return pixels
