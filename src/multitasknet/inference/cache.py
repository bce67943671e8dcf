"""Networks that can be made again, kept between processes. Nothing here ever fails a command."""

from __future__ import annotations

import hashlib
import logging
import os
from contextlib import suppress
from pathlib import Path

from ..files import make_folder, reason_of, replacing

logger = logging.getLogger(__name__)

# Bytes of a folder; what was used least recently is removed first.
MOST_BYTES = 1 << 29


def find(folder: Path | None, key: str) -> bytes | None:
    """What :func:`keep` wrote under that key, read once and verified; None if it is not there."""
    if folder is None:
        return None
    try:
        for path in sorted(folder.glob(f"{key}-*.onnx")):
            content = path.read_bytes()
            if path.stem.endswith(hashlib.sha256(content).hexdigest()):
                with suppress(OSError):  # of a cache that is read-only
                    os.utime(path)
                return content
            logger.warning("%s is damaged; it is made again", path)
            path.unlink()
    except OSError as error:
        logger.info("%s cannot be used (%s)", folder, reason_of(error))
    return None


def keep(folder: Path | None, key: str, content: bytes) -> None:
    """Keep a content under its key and its own sha256; a warning if that is not possible."""
    if folder is None:
        return
    path = folder / f"{key}-{hashlib.sha256(content).hexdigest()}.onnx"
    try:
        make_folder(folder)
        with replacing(path) as part:
            part.write_bytes(content)
        _remove_oldest(folder, path)
    except OSError as error:
        logger.warning("%s: the network is not kept (%s)", folder, reason_of(error))


def _remove_oldest(folder: Path, newest: Path) -> None:
    left = MOST_BYTES - newest.stat().st_size
    others = [(path.stat(), path) for path in folder.glob("*.onnx") if path != newest]
    for status, path in sorted(others, key=lambda one: one[0].st_mtime_ns, reverse=True):
        left -= status.st_size
        if left < 0:
            path.unlink(missing_ok=True)
