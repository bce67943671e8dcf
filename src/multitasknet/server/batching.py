"""What several callers ask for at about the same time, done as one batch."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from queue import Empty, Full, Queue
from threading import Lock, Thread
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")

# Seconds that an item waits for others at most.
WAIT = 0.01
# While one batch is in the network, the next one is prepared.
_THREADS = 2


class OverloadError(Exception):
    """More is asked for than can be done soon."""


class Batcher(Generic[T, R]):
    """Runs items in batches, in threads of its own; any number of callers may submit.

    Args:
        run: from some items to as many results; should it fail, each item is tried alone, so that
            nobody suffers from another's.
        most: items in a batch.
        queued: items that may wait.
        on_batch: is told each batch's size.
    """

    def __init__(
        self,
        run: Callable[[Sequence[T]], Sequence[R]],
        *,
        most: int,
        queued: int = 2048,
        on_batch: Callable[[int], object] = lambda size: None,
    ) -> None:
        self._run = run
        self._most = most
        self._on_batch = on_batch
        self._queue: Queue[tuple[T, Future[R]] | None] = Queue(queued)
        self._collecting = Lock()
        self._threads = [Thread(target=self._work, daemon=True) for _ in range(_THREADS)]
        for thread in self._threads:
            thread.start()

    def submit(self, item: T) -> Future[R]:
        """The result to be; OverloadError if too many are waiting."""
        future: Future[R] = Future()
        try:
            self._queue.put_nowait((item, future))
        except Full as error:
            raise OverloadError from error
        return future

    def close(self) -> None:
        """Finish what was submitted."""
        self._queue.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while batch := self._collect():
            self._on_batch(len(batch))
            self._finish(batch)

    def _collect(self) -> list[tuple[T, Future[R]]]:
        """The next items; none at the end."""
        batch: list[tuple[T, Future[R]]] = []
        with self._collecting:
            until = None
            while len(batch) < self._most:
                left = None if until is None else max(until - time.monotonic(), 0)
                try:
                    one = self._queue.get(timeout=left)
                except Empty:
                    break
                if one is None:
                    # For the other threads, and for this one's next turn.
                    self._queue.put(None)
                    break
                until = until or time.monotonic() + WAIT
                if one[1].set_running_or_notify_cancel():
                    batch.append(one)
        return batch

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
