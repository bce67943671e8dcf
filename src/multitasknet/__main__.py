"""The ``multitasknet`` command, and ``python -m multitasknet``: a process that signals can end."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from types import FrameType
from typing import NoReturn

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def main() -> NoReturn:
    """Run the command of this process's arguments and exit: 128 + n if signal n ended it.

    The first signal raises KeyboardInterrupt, so that whatever is half-written is removed; a
    third one ends the process at once.
    """
    received: list[int] = []

    def interrupt(number: int, _: FrameType | None) -> None:
        received.append(number)
        if len(received) == 1:
            raise KeyboardInterrupt
        if len(received) > 2:
            os._exit(128 + received[0])

    for one in _SIGNALS:
        # A background job of a shell ignores SIGINT, and must keep ignoring it.
        if signal.getsignal(one) is not signal.SIG_IGN:
            signal.signal(one, interrupt)
    try:
        from .cli import main as run

        code = run()
    # An import or a callback from C that is interrupted can raise anything.
    except BaseException:
        if not received:
            raise
        code = 1
        print("multitasknet: interrupted", file=sys.stderr)
    if received and code:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError):
                stream.flush()
        # Threads of libraries may take long to end, or crash.
        os._exit(128 + received[0])
    # All is done, and stays so while Python and its libraries end.
    for one in _SIGNALS:
        signal.signal(one, signal.SIG_IGN)
    sys.exit(code)


if __name__ == "__main__":
    main()
