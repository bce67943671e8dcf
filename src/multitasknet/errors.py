"""The one base class of errors that a user can mend."""

from __future__ import annotations


class MultiTaskNetError(Exception):
    """A mistake in input, files or environment; the message names the thing and the remedy."""
