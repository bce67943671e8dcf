"""All errors of this package: one base class, and those that callers distinguish."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

_SHOWN = 100


class MultiTaskNetError(Exception):
    """A mistake in input, files or environment; the message names the thing and the remedy."""


class CardError(MultiTaskNetError, ValueError):
    """A model card that cannot be used; names the file, the field and the remedy."""


class CheckpointError(MultiTaskNetError, ValueError):
    """Weights or their sidecar that cannot be read, or do not fit the network."""


class DataError(MultiTaskNetError, ValueError):
    """Labels, lists or arrays of numbers that cannot be used; names the file and line."""


class DownloadError(MultiTaskNetError, OSError):
    """An asset that could not be downloaded; names URL, path, hash and the remedy."""


class EngineError(MultiTaskNetError, ValueError):
    """A backend, precision, device or exported file that cannot run the network."""


class GalleryError(MultiTaskNetError, ValueError):
    """A gallery, or a question to one, that cannot be used."""


class ImageError(MultiTaskNetError, ValueError):
    """An image that cannot be read or has the wrong shape."""


class MissingExtraError(MultiTaskNetError, ImportError):
    """A package that only some users need, and that is not installed."""


class OutputError(MultiTaskNetError, OSError):
    """A file or folder that cannot be written."""


class TrainingError(MultiTaskNetError, ValueError):
    """Settings, data or a kept state that cannot be trained with, or a training that failed."""


def shown(value: object) -> str:
    """The beginning of a value, for a message."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def import_extra(module: str, extra: str) -> ModuleType:
    """Import an optional package; MissingExtraError names what to install."""
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"this needs the package {module.partition('.')[0]!r} ({error}); install it from the "
            f"folder of this project with: pip install '.[{extra}]'"
        ) from error
