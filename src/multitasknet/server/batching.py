"""What several callers ask for at about the same time, run as one batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from queue import Empty, Full, Queue
from threading import Thread
from typing import Generic, TypeVar

from .problems import busy

T = TypeVar("T")
R = TypeVar("R")

# While one batch is in the network, the next one is read and drawn.
_THREADS = 2
_QUEUED = 2048


class Batcher(Generic[T, R]):
    """Runs items in batches, in threads; any number of callers may submit.

    Items that arrive while a batch runs go into the next one, so no item waits for others.

    Args:
        run: from some items to as many results. If it fails, each item is run alone, so that one
            caller's mistake reaches no other.
        most: items in a batch.
        queued: items that may wait.
        on_batch: called with each batch's size.
    """

    def __init__(
        self,
        run: Callable[[Sequence[T]], Sequence[R]],
        *,
        most: int,
        queued: int = _QUEUED,
        on_batch: Callable[[int], object] = lambda size: None,
    ) -> None:
        self._run = run
        self._most = most
        self._on_batch = on_batch
        self._queue: Queue[tuple[T, Future[R]] | None] = Queue(queued)
        self._threads = [Thread(target=self._work, daemon=True) for _ in range(_THREADS)]
        for thread in self._threads:
            thread.start()

    def submit(self, item: T) -> Future[R]:
        """The future result; ProblemError (503) if too many are waiting."""
        future: Future[R] = Future()
        try:
            self._queue.put_nowait((item, future))
        except Full as error:
            raise busy("too many pictures are waiting; try again in a moment") from error
        return future

    def close(self) -> None:
        """Finish what was submitted."""
        self._queue.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while True:
            taken = [self._queue.get()]
            with suppress(Empty):
                while len(taken) < self._most and taken[-1] is not None:
                    taken.append(self._queue.get_nowait())
            batch = [one for one in taken if one and one[1].set_running_or_notify_cancel()]
            if batch:
                self._on_batch(len(batch))
                self._finish(batch)
            if taken[-1] is None:
                self._queue.put(None)  # for the other thread
                return

    def _finish(self, batch: list[tuple[T, Future[R]]]) -> None:
        try:
            results = self._run([item for item, _ in batch])
        except Exception as error:
            if len(batch) > 1:
                for one in batch:
                    self._finish([one])
            else:
                batch[0][1].set_exception(error)
            return
        for (_, future), result in zip(batch, results, strict=True):
            future.set_result(result)
