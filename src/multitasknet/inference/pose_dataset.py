"""A data set with estimated poses, in the PAMTRI layout."""

from __future__ import annotations

import csv
import json
import logging
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from tqdm import tqdm

from ..data.labels import LabelRow, write_labels
from ..data.layouts import FOLDERS, camera_in
from ..data.records import Record, VehicleDataset
from ..errors import MultiTaskNetError, OutputError
from ..files import exclusive, fingerprint, make_folder, reading
from ..images import encode_jpeg
from ..interruption import Interrupted, stop_request
from ..models.base import PoseNetwork
from ..vehicle.cameras import UNKNOWN_CAMERA
from ..vehicle.keypoints import NUM_KEYPOINTS
from ..vehicle.maps import draw_segments
from ..vehicle.pose import Pose
from .pose_estimator import PoseEstimator

logger = logging.getLogger(__name__)

Images = Literal["hardlink", "copy"]
IMAGES: tuple[str, ...] = get_args(Images)
# Of all numbers in label files: what PAMTRI's pose network writes.
LABEL_DECIMALS = 3
_RENAMED = "renamed.csv"
_JOURNAL = "journal.jsonl"
# OpenCV's own, with which PAMTRI writes its maps.
_JPEG_QUALITY = 95


class PoseDatasetError(MultiTaskNetError, ValueError):
    """A data set that cannot be given poses, or a place where it cannot be put."""


@dataclass(frozen=True)
class PosedData:
    """A finished data set.

    Attributes:
        root: its folder.
        images: images by split: ``train``, ``query``, ``gallery``.
        renamed: how many of them have another name than where they come from.
    """

    root: Path
    images: dict[str, int]
    renamed: int


@dataclass(frozen=True, eq=False)
class _Task:
    """One image: where it comes from, and the split's folder and the name that it gets."""

    record: Record
    folder: str
    name: str

    def row(self, keypoints: np.ndarray) -> LabelRow:
        record = self.record
        return LabelRow(
            self.name, record.vehicle_id, record.color_id or 0, record.type_id or 0, keypoints
        )

    @property
    def fact(self) -> list[object]:
        """What of it is written, beside its image."""
        record = self.record
        return [self.folder, self.name, record.vehicle_id, record.color_id, record.type_id]


def estimate_dataset(
    estimator: PoseEstimator,
    dataset: VehicleDataset,
    root: str | Path,
    *,
    maps: bool = False,
    images: Images = "hardlink",
    progress: bool = True,
) -> PosedData:
    """Estimate the pose of every image, and write the data set in the PAMTRI layout.

    Until all is done it lies in ``<root>.partial``, which becomes ``root`` at the end. A call that
    is interrupted finishes its batch and leaves that folder, and the same call goes on behind it.

    The layout has cameras in file names alone. An image keeps its name where that says its camera
    (``0002_c002_...``, or none if none is known) and no other image of its split has the same name
    up to the ending, which is the name of its maps. Else it becomes
    ``<vehicle>_c<camera>_<place in the split>``, without camera where that is unknown, and
    ``renamed.csv`` says what it was.

    Args:
        estimator: the pose network.
        dataset: in any layout; poses and maps that it has are passed over.
        root: a new or empty folder.
        maps: write heatmaps and segments as well, as PAMTRI's pose network does: all surfaces that
            are convex, whatever the confidence of their corners; what loads them looks at that.
        images: ``hardlink`` them, where that works, or ``copy`` all of them.
        progress: show a progress bar on stderr, where that is a terminal.

    Raises:
        PoseDatasetError: labels that the layout cannot hold, or ``root`` is not empty, or
            was begun with other images, weights or settings.
        ImageError: an image cannot be read.
        OutputError: the folder cannot be written.
        Interrupted: SIGINT or SIGTERM came; what was done is kept. A KeyboardInterrupt.
    """
    if images not in IMAGES:
        raise ValueError(f"images is {images!r}; expected one of {', '.join(IMAGES)}")
    root = Path(root)
    check_output(root)
    _check_dataset(dataset)
    tasks = [task for split in dataset.splits for task in _plan(split.name, split.records)]
    partial = root.resolve().with_name(f"{root.resolve().name}.partial")
    make_folder(partial)
    with exclusive(root, partial.with_name(f".{partial.name}.lock")), _writing(partial):
        journal = _Journal(partial / _JOURNAL, _key(estimator, tasks, maps))
        todo = tasks[len(journal.poses) :]
        bar = tqdm(
            total=len(tasks),
            initial=len(journal.poses),
            unit="image",
            disable=None if progress else True,
        )
        with bar, stop_request() as stopped:
            for batch in _estimated(estimator, todo, maps):
                journal.add(
                    [_write_one(partial, *one, estimator.definition, images) for one in batch]
                )
                bar.update(len(batch))
                if stopped():
                    raise Interrupted(
                        f"{partial} holds {len(journal.poses)} of {len(tasks)} images; the same "
                        f"command goes on"
                    )
        renamed = _write_lists(partial, tasks, journal.poses)
        if root.is_dir():
            root.rmdir()
        partial.replace(root)
        # Last, so that a whole data set is never begun anew.
        (root / _JOURNAL).unlink()
    logger.info("wrote %d images to %s", len(tasks), root)
    return PosedData(root, {split.name: len(split) for split in dataset.splits}, renamed)


class _Journal:
    """What has been estimated: a key, then the poses of a batch per line.

    ``poses`` are those so far, ``[36, 3]`` each. A line that was cut off is as if it had not been.
    """

    def __init__(self, path: Path, key: str) -> None:
        self.path = path
        self.poses: list[np.ndarray] = []
        head = f"{key}\n".encode()
        lines = path.read_bytes().splitlines(keepends=True) if path.is_file() else []
        lines = [line for line in lines if line.endswith(b"\n")]
        if not lines and all(entry == path for entry in path.parent.iterdir()):
            path.write_bytes(head)
            return
        if not lines or lines[0] != head:
            raise PoseDatasetError(
                f"{path.parent}: begun with other images, weights or options; finish it with those "
                f"or remove it"
            )
        os.truncate(path, sum(map(len, lines)))
        remedy = f"remove {path.parent} to begin anew"
        with reading(path, PoseDatasetError, "what was done cannot be read", remedy):
            for line in lines[1:]:
                self.poses += [
                    np.array(pose, dtype=np.float64).reshape(NUM_KEYPOINTS, 3)
                    for pose in json.loads(line.decode())
                ]
        if self.poses:
            logger.warning("%s: going on behind %d images", path.parent, len(self.poses))

    def add(self, poses: Sequence[np.ndarray]) -> None:
        """Note a batch whose files are all written."""
        with self.path.open("ab") as file:
            file.write(f"{json.dumps([pose.ravel().tolist() for pose in poses])}\n".encode())
        self.poses += poses


def check_output(root: Path) -> None:
    """PoseDatasetError unless it is a new or empty folder."""
    if root.exists() and not (root.is_dir() and not any(root.iterdir())):
        raise PoseDatasetError(f"{root}: something is there already; give a new or empty folder")


def _check_dataset(dataset: VehicleDataset) -> None:
    """Refuse what cannot be written, before anything is."""
    for split in dataset.splits:
        for record in split.records:
            if 0 in (record.color_id, record.type_id):
                raise PoseDatasetError(
                    f"{record.origin}: a colour or type of 0, which in the PAMTRI layout means "
                    f"unknown; count them from 1"
                )


def _plan(split: str, records: Sequence[Record]) -> Iterator[_Task]:
    """The images of a split under names that are told apart and carry their cameras."""
    stems = Counter(record.image.stem for record in records)
    for place, record in enumerate(records, start=1):
        name = record.image.name
        is_kept = (
            stems[record.image.stem] == 1
            and camera_in(name) == record.camera_id
            and name == name.strip()
        )
        if not is_kept:
            name = _new_name(record, place, len(records), stems)
        yield _Task(record, FOLDERS[split], name)


def _new_name(record: Record, place: int, step: int, taken: Counter[str]) -> str:
    known = record.camera_id != UNKNOWN_CAMERA
    camera = f"_c{record.camera_id:03}" if known else ""
    stems = (f"{abs(record.vehicle_id):04}{camera}_{number:08}" for number in count(place, step))
    stem = next(stem for stem in stems if stem not in taken)
    return f"{stem}{record.image.suffix.strip()}"


def _key(estimator: PoseEstimator, tasks: Sequence[_Task], maps: bool) -> str:
    """What the result depends on."""
    made_by = [estimator.origin, estimator.engine.name, maps]
    facts = json.dumps([made_by, [task.fact for task in tasks]]).encode()
    return fingerprint([task.record.image for task in tasks], facts)


def _estimated(
    estimator: PoseEstimator, tasks: Sequence[_Task], maps: bool
) -> Iterator[list[tuple[_Task, np.ndarray, Pose]]]:
    """Batches of images with pixels and pose."""
    start = 0
    for pixels in estimator.read_ahead([task.record.image for task in tasks]):
        batch = tasks[start : start + len(pixels)]
        start += len(pixels)
        poses = estimator.estimate_pixels(pixels, heatmaps=maps)
        yield list(zip(batch, pixels, poses, strict=True))


def _write_one(
    folder: Path,
    task: _Task,
    pixels: np.ndarray,
    pose: Pose,
    network: PoseNetwork,
    images: Images,
) -> np.ndarray:
    """Write an image and its maps, if the pose has any; return its keypoints as they are noted."""
    _place(task.record.image, folder / f"image_{task.folder}" / task.name, images)
    # Rounded as the label file states them, so that the segments agree with it.
    keypoints = pose.keypoints.astype(np.float64).round(LABEL_DECIMALS)
    if pose.heatmaps is not None:
        height, width = pixels.shape[:2]
        sure = np.column_stack((keypoints[:, :2], np.ones(len(keypoints))))
        for kind, group in (
            ("heatmap", network.stored_heatmaps(pose, width=width, height=height)),
            ("segment", draw_segments(sure, width=width, height=height)),
        ):
            place = folder / f"{kind}_{task.folder}" / Path(task.name).stem
            place.mkdir(parents=True, exist_ok=True)
            for index, values in enumerate(group):
                (place / f"{index:02}.jpg").write_bytes(encode_jpeg(values, _JPEG_QUALITY))
    return keypoints


def _place(source: Path, target: Path, images: Images) -> None:
    target.parent.mkdir(exist_ok=True)
    target.unlink(missing_ok=True)
    if images == "hardlink":
        # Not across file systems, nor on all of them.
        with suppress(OSError):
            target.hardlink_to(source.resolve())
            return
    shutil.copyfile(source, target)


def _write_lists(folder: Path, tasks: Sequence[_Task], poses: Sequence[np.ndarray]) -> int:
    """Write the label files, and where renamed images come from; return how many those are."""
    rows: dict[str, list[LabelRow]] = {}
    for task, keypoints in zip(tasks, poses, strict=True):
        rows.setdefault(task.folder, []).append(task.row(keypoints))
    for split, labels in rows.items():
        write_labels(folder / f"label_{split}.csv", labels, decimals=LABEL_DECIMALS)
    renamed = [
        (task.folder, task.name, task.record.image)
        for task in tasks
        if task.name != task.record.image.name
    ]
    if renamed:
        with (folder / _RENAMED).open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerows([("split", "image", "source"), *renamed])
    return len(renamed)


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Whatever keeps a folder from being written, as OutputError."""
    try:
        yield
    except OSError as error:
        if isinstance(error, MultiTaskNetError):
            raise
        raise OutputError(
            f"{folder}: cannot be finished ({error}); mend that, and the same command goes on"
        ) from error
