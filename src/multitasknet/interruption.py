"""SIGINT and SIGTERM, answered between two steps."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """What was interrupted has been kept; says how to go on."""

    number = int(signal.SIGINT)


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
        Interrupted.number = number
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
