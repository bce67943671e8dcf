"""The ``multitasknet`` command: parses, calls the package, prints."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from io import TextIOWrapper

from .. import __version__
from ..errors import MultiTaskNetError
from . import (
    adapt,
    data,
    demo,
    doctor,
    evaluate_pose,
    export,
    gallery,
    hub,
    inference,
    pose,
    serve,
    synthesize,
    training,
)

_COMMANDS = (
    inference,
    gallery,
    pose,
    evaluate_pose,
    training,
    adapt,
    demo,
    data,
    synthesize,
    hub,
    export,
    serve,
    doctor,
)
_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code: 0, 2 for a user's mistake, 130 for Ctrl-C."""
    # File names may hold bytes that are no text, and terminals may know few letters.
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    options = _parser().parse_args(arguments)
    logging.basicConfig(
        level=logging.INFO if options.verbose else logging.WARNING,
        format="multitasknet: %(message)s",
    )
    try:
        options.run(options)
        sys.stdout.flush()
    except MultiTaskNetError as error:
        return _fail(str(error))
    except KeyboardInterrupt as interruption:
        print(f"multitasknet: {str(interruption) or 'interrupted'}", file=sys.stderr)
        return _INTERRUPTED
    except BrokenPipeError:
        # The reader of a pipe has gone; keep Python from complaining at exit.
        _discard_output()
    except OSError as error:
        # Of no file that this package reads or writes with care: a full disk behind a pipe, a name
        # that is too long, a folder that may not be entered.
        _discard_output()
        place = "standard output" if error.filename is None else os.fsdecode(error.filename)
        return _fail(f"{place:.200}: {error.strerror or error}")
    except MemoryError as error:
        return _fail(f"there is not enough memory ({error}); ask for less at a time")
    return 0


def _fail(message: str) -> int:
    print(f"multitasknet: error: {message}", file=sys.stderr)
    return 2


def _discard_output() -> None:
    with suppress(OSError):  # of a stream that is no file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="multitasknet",
        description="Vehicle re-identification with colour and type (PAMTRI) for MindSpore Hub.",
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="say more on stderr")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in _COMMANDS:
        command.add_parsers(commands)
    return parser
