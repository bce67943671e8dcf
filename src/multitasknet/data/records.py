"""Labelled vehicle images: one record an image, three splits a data set."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ImageError
from ..images import open_picture
from ..vehicle.cameras import UNKNOWN_CAMERA
from ..vehicle.keypoints import NUM_KEYPOINTS, SURFACES
from .text import refuse

logger = logging.getLogger(__name__)

SPLITS = ("train", "query", "gallery")
# Of Market's crops that show none of the vehicles, and of images whose vehicle is not stated.
NO_VEHICLE = -1
_WORKERS = 4


@dataclass(frozen=True, eq=False)
class Record:
    """One image and all that is known of it.

    Attributes:
        image: the file.
        vehicle_id: which vehicle it shows, -1 if unknown.
        camera_id: which camera took it, -1 if unknown.
        color_id, type_id: raw ids, of ``COLORS`` and ``TYPES`` 1 first; None if unknown.
        keypoints: float32 ``[36, 3]`` of x, y (pixels of the image) and confidence, or None.
        visibility: uint8 ``[36]``, 0 where a keypoint can be seen, 1 where the vehicle itself hides
            it, 2 where something else does or it lies outside; None if only confidences are known.
        estimated: whether a pose network found the keypoints; else the label states them.
        heatmaps, segments: folders of the stored 64x64 maps, None to draw them from the keypoints.
        track: which of the split's tracks it is of, None if unknown.
        time: when it was taken, None if unknown.
        origin: the label's place, ``file:line``.
    """

    image: Path
    vehicle_id: int
    camera_id: int = UNKNOWN_CAMERA
    color_id: int | None = None
    type_id: int | None = None
    keypoints: np.ndarray | None = None
    visibility: np.ndarray | None = None
    estimated: bool = False
    heatmaps: Path | None = None
    segments: Path | None = None
    track: int | None = None
    time: datetime | None = None
    origin: str = ""

    @property
    def marked(self) -> np.ndarray | None:
        """The keypoints with 1 for the visible ones and 0 for the others, where that is known."""
        if self.keypoints is None or self.visibility is None:
            return self.keypoints
        seen = self.visibility == 0
        return np.column_stack([self.keypoints[:, :2], seen]).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Split:
    """The records of one split."""

    name: str
    records: tuple[Record, ...] = ()

    def __len__(self) -> int:
        return len(self.records)

    @property
    def vehicle_ids(self) -> np.ndarray:
        """int64 ``[N]``."""
        return np.array([record.vehicle_id for record in self.records], dtype=np.int64)

    @property
    def camera_ids(self) -> np.ndarray:
        """int64 ``[N]``, -1 where unknown."""
        return np.array([record.camera_id for record in self.records], dtype=np.int64)


@dataclass(frozen=True, eq=False)
class VehicleDataset:
    """A data set: its root and its splits, empty where they were not asked for.

    Attributes:
        layout, protocol, published: see :class:`.layouts.Layout`.
    """

    root: Path
    train: Split = Split("train")
    query: Split = Split("query")
    gallery: Split = Split("gallery")
    layout: str = ""
    protocol: str = "veri"
    published: tuple[int, int] | None = None

    @property
    def splits(self) -> tuple[Split, ...]:
        """The splits that were read."""
        return tuple(split for split in (self.train, self.query, self.gallery) if len(split))

    @property
    def held_out(self) -> Split:
        """Query and gallery as one, queries first."""
        return Split("query and gallery", (*self.query.records, *self.gallery.records))


def mixture(datasets: Iterable[VehicleDataset]) -> VehicleDataset:
    """The train images of several data sets, with vehicles and cameras numbered apart.

    Query and gallery, and all that says how to measure on them, are those of the first that has
    both; the first data set keeps its numbers.
    """
    apart: list[VehicleDataset] = []
    vehicle = camera = 0
    for one in datasets:
        moved: dict[str, Any] = {}
        for split in (one.train, one.query, one.gallery):
            records = []
            for record in split.records:
                shift = 0 if record.camera_id == UNKNOWN_CAMERA else camera
                ids = record.vehicle_id + vehicle, record.camera_id + shift
                records.append(replace(record, vehicle_id=ids[0], camera_id=ids[1]))
            moved[split.name] = Split(split.name, tuple(records))
        apart.append(replace(one, **moved))
        every = [record for split in moved.values() for record in split.records]
        vehicle = max(vehicle, *(1 + record.vehicle_id for record in every))
        camera = max(camera, *(1 + record.camera_id for record in every))
    measured = next((one for one in apart if len(one.query) and len(one.gallery)), apart[0])
    images = tuple(record for one in apart for record in one.train.records)
    return replace(measured, train=Split("train", images))


def check_files(records: Iterable[Record], *, decode: bool = False) -> None:
    """DataError names images that are not there, or lack stored maps.

    None is opened unless each is to be decoded; then those that fail are named, too.
    """
    with ThreadPoolExecutor(_WORKERS) as pool:
        refuse(filter(None, pool.map(partial(_problem, decode=decode), records)))


def warn_about(dataset: VehicleDataset) -> None:
    """Log which query vehicles the gallery lacks, and how many cameras are unknown."""
    missing = np.setdiff1d(dataset.query.vehicle_ids, dataset.gallery.vehicle_ids)
    if len(missing):
        logger.warning(
            "%s: %d query vehicle(s) have no image in the gallery and are left out of the "
            "metrics, such as %d",
            *(dataset.root, len(missing), missing[0]),
        )
    cameras = np.concatenate([dataset.query.camera_ids, dataset.gallery.camera_ids])
    unknown = int((cameras == UNKNOWN_CAMERA).sum())
    if unknown and dataset.protocol != "vehicleid":  # which asks for none
        logger.warning(
            "%s: the camera of %d of %d query and gallery images is unknown, so images of the "
            "query's own camera count as matches, and the metrics are too high",
            *(dataset.root, unknown, len(cameras)),
        )


def map_files(folder: Path | None, count: int) -> list[Path]:
    """The files of an image's stored maps, in order; empty where they are drawn."""
    return [folder / f"{index:02}.jpg" for index in range(count)] if folder else []


def _problem(record: Record, *, decode: bool) -> str | None:
    # Path.is_file fails on names that are too long.
    if not os.path.isfile(record.image):  # noqa: PTH113
        return (
            f"{record.origin}: image {record.image} does not exist, or is no file; add it, or "
            f"remove the label"
        )
    for folder, count in ((record.heatmaps, NUM_KEYPOINTS), (record.segments, len(SURFACES))):
        # Listed once instead of asking the disk for every map.
        there = set(folder.glob("*")) if folder else set()
        missing = next((file for file in map_files(folder, count) if file not in there), None)
        if missing:
            return f"{missing}: the stored map is missing; store all of an image, or none"
    try:
        if decode:
            # JPEGs decode eight times smaller, yet to the last byte: a cut file shows.
            open_picture(record.image).decode((1, 1))
    except ImageError as error:
        return f"{record.origin}: {error}; or remove the label"
    return None
