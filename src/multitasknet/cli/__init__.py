"""The ``multitasknet`` command: parses, calls the package, prints."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence

from .. import __version__
from ..errors import MultiTaskNetError
from . import adapt, data, demo, doctor, evaluate_pose, export, hub, inference, pose, training

_COMMANDS = (
    inference,
    pose,
    evaluate_pose,
    training,
    adapt,
    demo,
    data,
    hub,
    export,
    doctor,
)
_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code: 0, 2 for a user's mistake, 130 for Ctrl-C."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(
        level=logging.INFO if options.verbose else logging.WARNING,
        format="multitasknet: %(message)s",
    )
    try:
        options.run(options)
    except MultiTaskNetError as error:
        print(f"multitasknet: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as interruption:
        print(f"multitasknet: {str(interruption) or 'interrupted'}", file=sys.stderr)
        return _INTERRUPTED
    except BrokenPipeError:
        # The reader of a pipe has gone; keep Python from complaining at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


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
