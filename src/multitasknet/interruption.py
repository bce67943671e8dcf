"""SIGINT and SIGTERM: an end at any moment, or a request answered between two steps.

A command runs under :func:`run_until_signal`: a thread waits for the signals, which are blocked
everywhere else. So it makes no difference that MindSpore puts handlers of its own in place when it
is imported, nor that the main thread is in the middle of a long computation.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, NoReturn

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# What wakes the main thread from whatever it waits for.
_WAKE = getattr(signal, "SIGUSR1", 0)
_POLL = 0.02
# Seconds to end in before the process is ended; a batch in work takes a few.
_PATIENCE = 60.0
_IMPORTING = "<frozen importlib._bootstrap>"


class Interrupted(KeyboardInterrupt):
    """What was interrupted has been kept; says how to go on."""


def run_until_signal(command: Callable[[], int]) -> NoReturn:
    """Run a command and end the process: with its exit code, or 128 + n if signal n came.

    The command is told by a KeyboardInterrupt, so that it can clear up, or by its own
    :func:`stop_request`; an import is finished first, which Python and MindSpore do not bear to be
    cut short. A third signal ends the process at once, and so does a minute in which it has neither
    ended nor been told.
    """
    received: list[int] = []
    if not hasattr(signal, "pthread_sigmask"):  # Windows, where only Ctrl-C is known
        sys.exit(command())
    watch = _Watch(received)
    watch.start()
    code = 1
    try:
        code = command()
    except KeyboardInterrupt:
        _say_interrupted()
    # An interruption in the wrong place, such as in a callback from C, comes out as anything.
    except BaseException:
        if not received:
            raise
        _say_interrupted()
    finally:
        watch.over = True
        # Threads and libraries may take long, or crash, on the way out of an interrupted process.
        if received:
            if code == 0:  # it came when all was done, or a library took it for its own
                _say_interrupted()
            _flush()
            os._exit(128 + received[0])
        # All is done, and stays so: signals wait until Python is out, which an alarm bounds.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(round(_PATIENCE))
    sys.exit(code)


class _Watch(threading.Thread):
    """Waits for the signals and passes them to the main thread when it can take them."""

    def __init__(self, received: list[int]) -> None:
        super().__init__(name="signals", daemon=True)
        self.received = received
        self.over = False
        self._answered = self._delivering = False
        self._main = threading.main_thread().ident
        signal.signal(_WAKE, self._deliver)
        for number in _SIGNALS:
            # A background job of a shell ignores SIGINT, and asked for just that.
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._interrupt)
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)

    def run(self) -> None:
        while True:
            number = signal.sigwait(_SIGNALS)
            if signal.getsignal(number) is signal.SIG_IGN:
                continue
            self.received.append(number)
            if len(self.received) > 2:
                os._exit(128 + number)
            if len(self.received) == 1:
                threading.Thread(target=self._lose_patience, daemon=True).start()
            while self._is_importing():
                time.sleep(_POLL)
            self._wake()

    def _wake(self) -> None:
        if not self.over and self._main is not None:
            signal.pthread_kill(self._main, _WAKE)

    def _deliver(self, _: int, frame: FrameType | None) -> None:
        if _is_deaf(frame):
            threading.Timer(_POLL, self._wake).start()
            return
        handler = signal.getsignal(self.received[-1])
        self._answered |= handler not in (self._interrupt, _go_on)
        self._delivering = True
        try:
            if callable(handler):
                handler(self.received[-1], frame)
        finally:
            self._delivering = False

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if not self._delivering:
            # Starting a worker process unblocks them; this one goes the usual way all the same.
            signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
            os.kill(os.getpid(), number)
            return
        for one in _SIGNALS:  # a second one shall not cut the clearing up short
            signal.signal(one, _go_on)
        raise KeyboardInterrupt

    def _is_importing(self) -> bool:
        frame = sys._current_frames().get(self._main or 0)
        while frame is not None:
            if frame.f_code.co_filename == _IMPORTING:
                return True
            frame = frame.f_back
        return False

    def _lose_patience(self) -> None:
        time.sleep(_PATIENCE)
        if not self._answered:
            _say_interrupted()
            os._exit(128 + self.received[0])


def _is_deaf(frame: FrameType | None) -> bool:
    """Whether Python would pass over an exception there: in a ``__del__``, or what it calls."""
    while frame is not None:
        if frame.f_code.co_name == "__del__":
            return True
        frame = frame.f_back
    return False


def _go_on(_: int, frame: FrameType | None) -> None:
    pass


def _say_interrupted() -> None:
    print("multitasknet: interrupted", file=sys.stderr)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()


def begin_worker() -> None:
    """Make a worker process end with its parent, however that ends, and leave Ctrl-C to it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Blocked in the parent, and so inherited.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: Any) -> None:
    parent.join()
    os._exit(1)


@contextmanager
def stop_request() -> Iterator[Callable[[], bool]]:
    """Give what says whether a signal has come; a second one acts as if this were not here."""
    received = False
    before: dict[int, Any] = {}

    def restore() -> None:
        while before:
            signal.signal(*before.popitem())

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal received
        received = True
        restore()

    try:
        for number in _SIGNALS:
            before[number] = signal.signal(number, note)
    except ValueError:
        # Only the main thread may set handlers; elsewhere there is nothing to catch.
        before.clear()
    try:
        yield lambda: received
    finally:
        restore()
