"""SIGINT and SIGTERM as a request that the training loop answers between two steps."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """Training was interrupted and has been kept; says how to go on."""


class StopRequest:
    """Notes the first signal; a second one acts as if this were not here. A context manager."""

    def __init__(self) -> None:
        self._received = False
        self._before: dict[int, Any] = {}

    def is_set(self) -> bool:
        """Whether a signal has come."""
        return self._received

    def __enter__(self) -> StopRequest:
        try:
            for number in _SIGNALS:
                self._before[number] = signal.signal(number, self._note)
        except ValueError:
            # Only the main thread may set handlers; elsewhere there is nothing to catch.
            self._before = {}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._received = True
        self.__exit__()
