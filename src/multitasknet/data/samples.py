"""One image in memory with its pose and its maps: what augmentation changes, before sizing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ..keypoints import MAP_SIZE, NUM_KEYPOINTS, pose_vector
from ..labels import LabelError
from ..preprocessing import assemble, draw_maps, pose_or_zeros, read_image
from ..spec import Variant
from .records import Record


@dataclass(frozen=True, eq=False)
class Sample:
    """An image with its pose.

    Attributes:
        pixels: uint8 ``[H, W, 3]``, RGB.
        keypoints: float32 ``[36, 3]`` of x, y (pixels) and confidence.
        maps: uint8 ``[M, 64, 64]``: the variant's heatmaps, then its segments.
    """

    pixels: np.ndarray
    keypoints: np.ndarray
    maps: np.ndarray

    def inputs(
        self, size: tuple[int, int], *, out: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The network's ``x``, float32 ``[3 + M, *size]``, and ``p``, float32 ``[108]``.

        ``x`` is written into ``out`` where that is given.
        """
        height, width = self.pixels.shape[:2]
        pose = pose_vector(self.keypoints, width=width, height=height)
        return assemble(self.pixels, self.maps, size, out=out), pose


def load_sample(record: Record, variant: Variant) -> Sample:
    """Read a record's image, and its maps from disk where present, else from its keypoints.

    Raises:
        ImageError: the image cannot be read.
        LabelError: a stored map is missing or is not 64x64.
    """
    pixels = read_image(record.image)
    pose = pose_or_zeros(record.keypoints)
    return Sample(pixels, pose, load_maps(record, variant, pixels.shape[:2]))


def load_maps(record: Record, variant: Variant, original: tuple[int, int]) -> np.ndarray:
    """The variant's maps, uint8 ``[M, 64, 64]``; ``original`` is the image's height and width."""
    pose = pose_or_zeros(record.keypoints)
    parts = [np.zeros((0, MAP_SIZE, MAP_SIZE), dtype=np.uint8)]
    for wanted, alone, folder in (
        (variant.heatmaps, Variant.HEATMAP, record.heatmaps),
        (variant.segments, Variant.SEGMENT, record.segments),
    ):
        if wanted and folder is None:
            parts.append(draw_maps(pose, alone, original))
        elif wanted:
            parts.append(_read_maps(folder, alone.channels - 3))
    return np.concatenate(parts)


def select_maps(maps: np.ndarray, variant: Variant) -> np.ndarray:
    """The variant's part of all 49 maps."""
    first = 0 if variant.heatmaps else NUM_KEYPOINTS
    last = len(maps) if variant.segments else NUM_KEYPOINTS
    return maps[first:last]


def _read_maps(folder: Path, count: int) -> np.ndarray:
    return np.stack([_read_map(folder / f"{index:02}.jpg") for index in range(count)])


def _read_map(path: Path) -> np.ndarray:
    try:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("L"))
    except (OSError, SyntaxError, ValueError) as error:
        raise LabelError(
            f"{path}: the stored map cannot be read ({error}); store all maps of an image, or none"
        ) from error
    if pixels.shape != (MAP_SIZE, MAP_SIZE):
        raise LabelError(
            f"{path}: the stored map is {pixels.shape[1]}x{pixels.shape[0]}; expected "
            f"{MAP_SIZE}x{MAP_SIZE}"
        )
    return pixels
