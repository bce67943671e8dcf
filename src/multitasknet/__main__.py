"""The ``multitasknet`` command, and ``python -m multitasknet``: a process that signals can end."""

from __future__ import annotations

from typing import NoReturn

from .interruption import run_until_signal


def main() -> NoReturn:
    """Run the command of this process's arguments."""
    run_until_signal(_run)


def _run() -> int:
    # Not above: what a signal cuts short must be inside.
    from .cli import main

    return main()


if __name__ == "__main__":
    main()
