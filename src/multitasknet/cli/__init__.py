"""The ``multitasknet`` command: parses, calls the package, prints."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from difflib import get_close_matches
from importlib import import_module
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from .. import __version__
from ..errors import MultiTaskNetError

# Module to its commands, in the order of the help; a module is imported when one of them is run.
_COMMANDS = {
    "predict": ("predict",),
    "pose": ("pose",),
    "search": ("search", "group", "compare"),
    "gallery": ("gallery",),
    "track": ("track",),
    "evaluate": ("evaluate", "evaluate-pose", "calibrate", "check-data"),
    "training": ("finetune", "adapt"),
    "demo": ("demo",),
    "synthesize": ("synthesize",),
    "weights": ("info", "download", "convert", "write-card", "hub-install"),
    "export": ("export", "quantize"),
    "serve": ("serve",),
}
_PATHS_OR_WORDS = ("weights", "pose", "gallery")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code: 0, 1 or 2 for a user's mistake, 130 for Ctrl-C."""
    # File names may hold bytes that are no text, and terminals may know few letters.
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    options = _parse(sys.argv[1:] if arguments is None else arguments)
    logging.basicConfig(
        level=logging.INFO if options.verbose else logging.WARNING,
        format="multitasknet: %(message)s",
    )
    try:
        code: int | None = options.run(options)  # 1 if nothing could be read
        sys.stdout.flush()
        return code or 0
    except MultiTaskNetError as error:
        return _fail(str(error))
    except KeyboardInterrupt as interruption:
        print(f"multitasknet: {str(interruption) or 'interrupted'}", file=sys.stderr)
        return 128 + signal.SIGINT
    except OSError as error:
        # Of no file that this package reads or writes with care: a full disk after a pipe, a name
        # that is too long, a folder without permission.
        _discard_output()
        if isinstance(error, BrokenPipeError):  # the reader of a pipe has gone
            return 0
        place = "standard output" if error.filename is None else os.fsdecode(error.filename)
        return _fail(f"{place:.200}: {error.strerror or error}")
    except MemoryError as error:
        return _fail(f"there is not enough memory ({error}); ask for less at a time")


def _fail(message: str) -> int:
    print(f"multitasknet: error: {message}", file=sys.stderr)
    return 2


def _discard_output() -> None:
    """Keep Python from complaining at exit."""
    with suppress(OSError):  # of a stream that is no file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options; a usage error, exit code 2, for a command or value that cannot be meant."""
    parser = _parser(next(iter(arguments), None))
    known = [name for names in _COMMANDS.values() for name in names]
    command = next((word for word in arguments if not word.startswith("-")), "")
    if command not in known and (close := get_close_matches(command, known, n=1)):
        parser.error(f"there is no command {command!r}; did you mean {close[0]!r}?")
    for word in arguments:
        # argparse turns "--name=--" into an empty list, whatever the option's type.
        if not word or (word.startswith("--") and word.endswith("=--")):
            parser.error(f"{word.removesuffix('=--') or 'an argument'} is empty; give it a value")
    return parser.parse_args(arguments)


def _parser(command: str | None = None) -> argparse.ArgumentParser:
    """The parser of the module of a command alone, or of all if there is no such command."""
    parser = argparse.ArgumentParser(
        prog="multitasknet",
        description="Vehicle re-identification with colour and type (PAMTRI) for MindSpore Hub.",
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="print progress on stderr")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    parser.add_argument(
        "--print-completion",
        action=_PrintCompletion,
        choices=("bash", "zsh", "tcsh"),
        help="print a completion script for your shell",
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for module in [one for one, names in _COMMANDS.items() if command in names] or _COMMANDS:
        import_module(f".{module}", __name__).add_parsers(commands)
    return parser


class _PrintCompletion(argparse.Action):
    """Prints the script, which offers files wherever an argument is a path, and ends."""

    def __call__(self, parser: argparse.ArgumentParser, _: object, shell: Any, *__: Any) -> None:
        import shtab  # which takes a tenth of the time of predicting a picture to import

        for action in _all_actions(parser):
            if action.type is Path or action.dest in _PATHS_OR_WORDS:
                action.complete = shtab.FILE  # type: ignore[attr-defined]
        print(shtab.complete(parser, shell))
        parser.exit(0)


def _all_actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for one in action.choices.values():
                yield from _all_actions(one)
