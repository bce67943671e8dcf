"""Write a whole synthetic data set in the PAMTRI layout."""

from __future__ import annotations

import csv
import ctypes
import logging
import multiprocessing
import os
import platform
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import astuple, dataclass, replace
from functools import lru_cache
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from tqdm import tqdm

from multitasknet.vehicle.keypoints import NUM_KEYPOINTS
from multitasknet.vehicle.maps import draw_maps

from .look import draw_look
from .model import build_model
from .plan import SPLITS, Picture, SyntheticError, VehiclePlan, make_plan
from .prior import View
from .scene import Shot, Station, draw_station, shoot
from .trace import import_embree

_LOG = logging.getLogger(__name__)
_SMALLEST, _LARGEST = 32, 2048
_MOST_CAMERAS = 9999
# Parameters of glibc's mallopt(3).
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEPT = 1 << 30
# What a random stream is for; with the seed, these keep the streams of a data set apart.
_FOR_VEHICLE, _FOR_CAMERA, _FOR_PICTURE = 1, 2, 3


@dataclass(frozen=True)
class SyntheticData:
    """A finished data set.

    Attributes:
        root: its folder.
        vehicles: identities by part: train and test (query and gallery share theirs).
        images: pictures by split: train, query, test.
    """

    root: Path
    vehicles: dict[str, int]
    images: dict[str, int]


@dataclass(frozen=True)
class _Job:
    """What a worker needs to make one vehicle's pictures."""

    plan: VehiclePlan
    folder: Path
    seed: int
    pixels: int
    prior: str
    heatmaps: bool
    segments: bool


@dataclass(frozen=True, eq=False)
class _Taken:
    """What is known of one picture; keypoints are float32 ``[36, 3]``."""

    image: str
    label: tuple[int, int, int]  # raw vehicle, colour and type id
    keypoints: np.ndarray
    visibility: np.ndarray
    view: View


def synthesize(
    root: str | Path,
    *,
    vehicles: int = 60,
    test_vehicles: int | None = None,
    images: int = 12,
    cameras: int = 6,
    pixels: int = 256,
    prior: str = "even",
    seed: int = 0,
    workers: int = 1,
    heatmaps: bool = False,
    segments: bool = False,
    progress: bool = False,
) -> SyntheticData:
    """Write synthetic vehicles in the PAMTRI layout; the same seed gives the same bytes.

    The folder appears whole at the end: until then all is written to a hidden one beside it.
    With ``workers`` above 1, a script must call this under ``if __name__ == "__main__"``.

    Args:
        root: the new folder; it must not exist, or be empty.
        vehicles: identities for training.
        test_vehicles: identities for query and gallery; default is a third as many as for
            training, and at least 10.
        images: pictures of each vehicle.
        cameras: camera ids.
        pixels: the longer side of the pictures, 32 to 2048.
        prior: ``even``, for training: wide ranges, all sides, colours and types; or ``real``: as on
            traffic crops, of many sizes about ``pixels``.
        seed: of everything that is random.
        workers: processes.
        heatmaps, segments: whether to write the pose maps as files as well.
        progress: whether to show a progress bar on stderr, where that is a terminal.
    Raises:
        SyntheticError: an argument or the folder cannot be used, or the renderer is not installed;
            nothing has been written.
    """
    root = Path(root)
    _check_arguments(pixels, cameras, workers)
    _check_folder(root)
    plans = make_plan(vehicles, images, cameras, seed, prior=prior, test_vehicles=test_vehicles)
    import_embree()
    with _whole_folder(root) as folder:
        for split in SPLITS:
            (folder / f"image_{split}").mkdir()
        jobs = [_Job(plan, folder, seed, pixels, prior, heatmaps, segments) for plan in plans]
        rows: dict[str, list[_Taken]] = {split: [] for split in SPLITS}
        with tqdm(
            total=len(plans) * images, unit="image", disable=None if progress else True
        ) as bar:
            for job, taken in zip(jobs, _run(jobs, workers), strict=True):
                for picture, one in zip(job.plan.pictures, taken, strict=True):
                    rows[picture.split].append(one)
                bar.update(len(taken))
        for split, taken in rows.items():
            _write_labels(folder, split, taken)
    _LOG.info("wrote %d images to %s", len(plans) * images, root)
    return SyntheticData(
        root=root,
        vehicles={"train": vehicles, "test": len(plans) - vehicles},
        images={split: len(taken) for split, taken in rows.items()},
    )


def take_picture(
    plan: VehiclePlan, picture: Picture, *, seed: int = 0, pixels: int = 256, prior: str = "even"
) -> Shot:
    """Take one picture of a plan, the very one that :func:`synthesize` writes."""
    return next(_shots(replace(plan, pictures=(picture,)), seed, pixels, prior))


def _shots(plan: VehiclePlan, seed: int, pixels: int, prior: str) -> Iterator[Shot]:
    identity = _stream(seed, _FOR_VEHICLE, plan.vehicle_id)
    model = build_model(draw_look(identity, plan.type_id, plan.color_id))
    for picture in plan.pictures:
        rng = _stream(seed, _FOR_PICTURE, picture.vehicle_id, picture.index)
        station = _station(seed, picture.camera, prior)
        yield shoot(model, station, rng, pixels=pixels, prior=prior)


@lru_cache(maxsize=96)
def _station(seed: int, camera: int, prior: str) -> Station:
    """Cameras are as costly to draw as several pictures, and each worker meets all of them."""
    return draw_station(_stream(seed, _FOR_CAMERA, camera), prior)


def _stream(seed: int, *purpose: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=purpose))


def _run(jobs: list[_Job], workers: int) -> Iterable[list[_Taken]]:
    if workers == 1:
        yield from map(_make_vehicle, jobs)
        return
    # A forked copy of a process that has loaded MindSpore can hang; a fresh one cannot.
    context = multiprocessing.get_context("spawn")
    count = min(workers, len(jobs))
    with ProcessPoolExecutor(count, mp_context=context, initializer=_begin_worker) as pool:
        try:
            yield from pool.map(_make_vehicle, jobs)
        except BrokenProcessPool as error:
            raise SyntheticError(
                "a worker process died, perhaps for want of memory; ask for fewer workers"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _begin_worker() -> None:
    """A worker uses one thread, leaves Ctrl-C to its parent, and ends when that ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _keep_freed_memory()
    cv2.setNumThreads(1)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _keep_freed_memory() -> None:
    """Have glibc keep what this process frees, as pages that come back are zeroed each time."""
    if platform.libc_ver()[0] == "glibc":
        for threshold in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD):
            ctypes.CDLL(None).mallopt(threshold, _KEPT)


def _make_vehicle(job: _Job) -> list[_Taken]:
    """Take and write all pictures of one vehicle; return what the label files hold."""
    taken = []
    plan = job.plan
    for picture, shot in zip(
        plan.pictures, _shots(plan, job.seed, job.pixels, job.prior), strict=True
    ):
        # Rounded as the label file states them, so that drawn maps agree with it.
        keypoints = shot.keypoints.round(2)
        (job.folder / f"image_{picture.split}" / picture.name).write_bytes(shot.jpeg)
        if job.heatmaps or job.segments:
            _write_maps(job, picture, shot.jpeg, keypoints)
        label = plan.vehicle_id, plan.color_id, plan.type_id
        taken.append(_Taken(picture.name, label, keypoints, shot.visibility, shot.view))
    return taken


def _write_labels(folder: Path, split: str, taken: list[_Taken]) -> None:
    """The label file, and what it has no column for: exact visibility, and the camera's view."""
    numbers = [
        [*one.label, *(f"{value:.2f}" for value in one.keypoints.ravel().tolist())] for one in taken
    ]
    for name, columns in (
        ("label", numbers),
        ("visibility", [one.visibility.tolist() for one in taken]),
        ("view", [[f"{value:.2f}" for value in astuple(one.view)] for one in taken]),
    ):
        with (folder / f"{name}_{split}.csv").open("w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file, lineterminator="\n")
            rows.writerows([one.image, *row] for one, row in zip(taken, columns, strict=True))


def _write_maps(job: _Job, picture: Picture, jpeg: bytes, keypoints: np.ndarray) -> None:
    with Image.open(BytesIO(jpeg)) as image:
        width, height = image.size
    maps = draw_maps(
        keypoints, heatmaps=job.heatmaps, segments=job.segments, height=height, width=width
    )
    count = NUM_KEYPOINTS if job.heatmaps else 0
    for name, group in (("heatmap", maps[:count]), ("segment", maps[count:])):
        if not len(group):
            continue
        folder = job.folder / f"{name}_{picture.split}" / Path(picture.name).stem
        folder.mkdir(parents=True)
        for index, values in enumerate(group):
            Image.fromarray(values).save(folder / f"{index:02}.jpg", quality=95)


def _check_arguments(pixels: int, cameras: int, workers: int) -> None:
    if cameras > _MOST_CAMERAS:
        raise SyntheticError(f"cameras is {cameras}; expected at most {_MOST_CAMERAS}")
    if not _SMALLEST <= pixels <= _LARGEST:
        raise SyntheticError(f"pixels is {pixels}; expected {_SMALLEST} to {_LARGEST} pixels")
    if workers < 1:
        raise SyntheticError(f"workers is {workers}; expected at least 1")


def _check_folder(root: Path) -> None:
    if root.exists() and not root.is_dir():
        raise SyntheticError(f"{root} is a file; expected a new or empty folder")
    if root.is_dir() and any(root.iterdir()):
        raise SyntheticError(f"{root} is not empty; give a new folder, or empty this one first")


@contextmanager
def _whole_folder(root: Path) -> Iterator[Path]:
    """A hidden folder beside ``root`` that takes its place at the end, or leaves no trace."""
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        workshop = Path(tempfile.mkdtemp(prefix=f".{root.name}.", dir=root.parent))
    except OSError as error:
        raise SyntheticError(
            f"{root} cannot be made ({error}); give a folder that you may write to"
        ) from error
    try:
        folder = workshop / "data"
        folder.mkdir()
        yield folder
        if root.is_dir():
            root.rmdir()
        folder.replace(root)
    except OSError as error:
        raise SyntheticError(
            f"{root} could not be finished ({error}) and was removed again; "
            f"fix that and start again"
        ) from error
    finally:
        shutil.rmtree(workshop, ignore_errors=True)
