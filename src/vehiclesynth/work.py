"""Output folders that appear whole, worker processes, and checks of arguments."""

from __future__ import annotations

import csv
import ctypes
import multiprocessing
import os
import platform
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import cv2

from .prior import PRIORS

Job = TypeVar("Job")
Made = TypeVar("Made")
# Parameters of glibc's mallopt(3).
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEPT = 1 << 30


class SyntheticError(ValueError):
    """A data set that cannot be made as asked for; nothing has been written."""


def run(make: Callable[[Job], Made], jobs: list[Job], workers: int) -> Iterable[Made]:
    """What ``make`` makes of each job, in order, in that many processes."""
    if workers == 1:
        yield from map(make, jobs)
        return
    # A forked copy of a process that has loaded MindSpore can hang; a fresh one cannot.
    context = multiprocessing.get_context("spawn")
    count = min(workers, len(jobs))
    with ProcessPoolExecutor(count, mp_context=context, initializer=_begin_worker) as pool:
        try:
            # Processes that are starting leave Ctrl-C to this one, too.
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            try:
                made = pool.map(make, jobs)
            finally:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
            yield from made
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
    cv2.setNumThreads(1)
    # glibc is to keep what is freed, as pages that come back are zeroed each time.
    if platform.libc_ver()[0] == "glibc":
        for threshold in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD):
            ctypes.CDLL(None).mallopt(threshold, _KEPT)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def check(prior: str, seed: int, **ranges: tuple[float, float, float]) -> None:
    """Raise SyntheticError for a value (the first of three) that is not between the others."""
    if prior not in PRIORS:
        raise SyntheticError(f"prior is {prior!r}; expected {' or '.join(PRIORS)}")
    for name, (value, least, most) in (ranges | {"seed": (seed, 0, 2**63)}).items():
        if not least <= value <= most:
            raise SyntheticError(f"{name} is {value}; expected {least} to {most}")


@contextmanager
def whole_folder(root: Path) -> Iterator[Path]:
    """A hidden folder beside ``root`` that takes its place at the end, or leaves no trace.

    Raises:
        SyntheticError: ``root`` is no new or empty folder, or cannot be written.
    """
    if root.exists() and not root.is_dir():
        raise SyntheticError(f"{root} is a file; expected a new or empty folder")
    if root.is_dir() and any(root.iterdir()):
        raise SyntheticError(f"{root} is not empty; give a new folder, or empty this one first")
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


def write_csv(path: Path, rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
