"""The one base class of errors that a user can mend, and the error of a missing extra."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType


class MultiTaskNetError(Exception):
    """A mistake in input, files or environment; the message names the thing and the remedy."""


class MissingExtraError(MultiTaskNetError, ImportError):
    """A package that only some users need, and that is not installed."""


def import_extra(module: str, extra: str) -> ModuleType:
    """Import an optional package; MissingExtraError that names the ``pip install`` without it."""
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"this needs the package {module.partition('.')[0]!r} ({error}); "
            f"pip install 'multitasknet[{extra}]'"
        ) from error
