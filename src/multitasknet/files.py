"""Files: output that is whole or not there, and hashes."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import MultiTaskNetError, OutputError

# This package's folder: in a checkout below src/, in a hub folder below its code's src/.
PACKAGE = Path(__file__).resolve().parent
_CHUNK = 1 << 20


def expand(path: str | Path) -> Path:
    """The path with ``~`` as the user's folder; OutputError if there is no such folder."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise OutputError(
            f"{path}: {error} Set HOME, or give the path in full (of the cache by "
            f"MULTITASKNET_CACHE)"
        ) from error


@contextmanager
def reading(
    path: object, error: type[MultiTaskNetError], problem: str, remedy: str
) -> Iterator[None]:
    """Turn whatever a reader raises for a file into an error of this package that names it.

    NumPy, zipfile, Pillow, protobuf, YAML and MindSpore report damage in many ways, from EOFError
    and struct.error to RecursionError and MemoryError. Errors of this package pass.
    """
    try:
        yield
    except MultiTaskNetError:
        raise
    except Exception as cause:
        raise error(f"{path}: {problem} ({reason_of(cause)}); {remedy}") from cause


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn whatever a library's writer raises, such as on a full disk, into OutputError."""
    with reading(path, OutputError, "cannot be written", "make room, or choose another path"):
        yield


def reason_of(error: Exception) -> str:
    """The first line of an error's message, or its kind if it has none."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    line = next(iter(text.strip().splitlines()), "")
    # A KeyError's message is the key alone.
    return (
        f"{type(error).__name__} {line}"
        if isinstance(error, LookupError)
        else (line or type(error).__name__)
    )


def check_output(target: Path, *, inputs: Iterable[Path] = (), folder: bool = False) -> None:
    """Refuse, before any work is done, an output that could not be written in the end.

    Args:
        target: the file to be, or the folder. The folders above it may be missing.
        inputs: files that are read; none of them may be replaced.
        folder: whether it is a folder, which may be there.

    Raises:
        OutputError: it is one of the inputs, the wrong kind of thing, or cannot be written.
    """
    for source in inputs if target.exists() else ():
        if source.exists() and target.samefile(source):
            raise OutputError(f"{target} is what is read as {source}; give another output")
    if target.is_dir() != folder and target.exists():
        expected = "folder" if folder else "file"
        raise OutputError(f"{target}: expected a {expected} to write; choose another path")
    place = target if folder else target.parent
    existing = next(one for one in (place, *place.absolute().parents) if one.exists())
    # Permissions alone do not show a read-only mount, nor anything to root.
    with writing(target), tempfile.TemporaryFile(dir=existing):
        pass


@contextmanager
def exclusive(target: Path, lock_file: Path) -> Iterator[None]:
    """Hold a target for this process alone, by a lock file that is gone at the end.

    Raises:
        OutputError: another process holds it, or the lock file cannot be written.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(lock_file)
    with writing(target):
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise OutputError(
                f"{target}: another process is writing it; wait for that, or choose another"
            ) from error
    try:
        yield
    finally:
        lock_file.unlink(missing_ok=True)
        lock.release()


def make_folder(folder: Path) -> None:
    """Create a folder and those above it, where they are missing; OutputError if that fails."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)


def file_sha256(path: Path) -> str:
    """The sha256 of a file, as hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Give a path to write to, which becomes ``target`` if the block ends well, else is gone.

    Raises:
        OutputError: it cannot be written.
    """
    make_folder(target.parent)
    try:
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as folder:
            part = Path(folder, target.name)
            yield part
            part.replace(target)
    except MultiTaskNetError:
        raise
    except OSError as error:
        raise OutputError(
            f"{target}: cannot be written ({reason_of(error)}); choose another path"
        ) from error
    except UnicodeEncodeError as error:
        raise OutputError(
            f"{target}: a name in it is not UTF-8 ({error.object[:80]!r}); rename that file"
        ) from error
