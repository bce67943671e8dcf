"""Output files that are whole or not there."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import MultiTaskNetError


class OutputError(MultiTaskNetError, OSError):
    """A file that cannot be written."""


def make_folder(folder: Path) -> None:
    """Create a folder and those above it, where they are missing; OutputError if that fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"{folder}: the folder cannot be made ({error.strerror or error}); choose another"
        ) from error


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Give a path to write to, which becomes ``target`` if the block ends well, else is gone.

    Raises:
        OutputError: the folder is missing or cannot be written.
    """
    try:
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as folder:
            part = Path(folder, target.name)
            yield part
            part.replace(target)
    except OSError as error:
        if isinstance(error, MultiTaskNetError):
            raise
        raise OutputError(
            f"{target}: cannot be written ({error.strerror or error}); choose another path, in a "
            f"folder that exists"
        ) from error
