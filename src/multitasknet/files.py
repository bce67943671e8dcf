"""Files: output that is whole or not there, and hashes."""

from __future__ import annotations

import hashlib
import logging
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from .errors import MultiTaskNetError

if TYPE_CHECKING:
    import numpy as np

logger = logging.getLogger(__name__)

# This package's folder: in a checkout below src/, in a hub folder below its code's src/.
PACKAGE = Path(__file__).resolve().parent
_CHUNK = 1 << 20


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


def file_sha256(path: Path) -> str:
    """The sha256 of a file, as hexadecimal digits."""
    with path.open("rb") as file:
        return running_sha256(file).hexdigest()


def running_sha256(file: BinaryIO) -> hashlib._Hash:
    """The hash of an open file from where it stands to its end, to go on with."""
    digest = hashlib.sha256()
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
    return digest


def fingerprint(files: Iterable[Path], *facts: bytes) -> str:
    """What a kept result depends on, as hexadecimal digits: the files' contents, and other facts.

    Neither names nor sizes nor times count, which two files can share. OSError where a file cannot
    be read.
    """
    digest = hashlib.sha256()
    for part in (*(file_sha256(file).encode() for file in files), *facts):
        digest.update(b"%d:" % len(part) + part)
    return digest.hexdigest()


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


def keep(folder: Path, key: str, suffix: str, content: bytes) -> Path:
    """Keep what can be made again, under a name that holds its key and its own sha256.

    Raises:
        OutputError: the folder cannot be written.
    """
    make_folder(folder)
    path = folder / f"{key}-{hashlib.sha256(content).hexdigest()}{suffix}"
    with replacing(path) as part:
        part.write_bytes(content)
    return path


def find_kept(folder: Path, key: str, suffix: str) -> Path | None:
    """What :func:`keep` wrote for that key; None if it is not there, or not to the last byte."""
    for path in sorted(folder.glob(f"{key}-*{suffix}")):
        if path.stem.endswith(file_sha256(path)):
            return path
        logger.warning("%s is damaged; it is made again", path)
        path.unlink()
    return None


def keep_arrays(path: Path, key: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays that can be computed again, with the key of what made them; OutputError."""
    import numpy as np

    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, key=np.array(key), **arrays)


def read_arrays(path: Path, key: str, names: Sequence[str]) -> dict[str, np.ndarray] | None:
    """What :func:`keep_arrays` wrote under that key; None if there is nothing that can be used."""
    import numpy as np

    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as stored:
            if stored["key"].item() != key:
                return None
            return {name: stored[name] for name in names}
    # NumPy, zipfile and zlib report damage in many ways, from EOFError to RuntimeError.
    except Exception as error:
        logger.warning("%s is damaged (%r); computing it again", path, error)
        return None
