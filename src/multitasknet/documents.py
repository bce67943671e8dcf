"""JSON and YAML from anywhere, read within limits: size, depth, no aliases in YAML."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

# Bytes: sidecars of a million vehicles stay below the first; PyYAML takes seconds for the second.
MOST_JSON = 1 << 26
MOST_YAML = 1 << 14
DEEPEST = 50
_SHOWN = 100


class DocumentError(ValueError):
    """Text that is no such document, or too large or deep; whoever reads it names the file."""


class PlainLoader(yaml.SafeLoader):
    """PyYAML's safe loader without aliases, of which a few lines can make billions of values."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise DocumentError("it has an alias (*name); write the value out")
        self.depth += 1
        if self.depth > DEEPEST + 1:
            raise DocumentError(f"it is nested more than {DEEPEST} deep")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def read_json(path: Path, *, most: int = MOST_JSON) -> Any:
    """The value in a JSON file, in UTF-8 with or without byte order mark.

    Raises:
        OSError: it cannot be read.
        DocumentError: it is no JSON, larger than ``most`` bytes, or nested more than 50 deep.
    """
    return parse_json(read_text(path, most=most))


def parse_json(text: str) -> Any:
    """The value in JSON; DocumentError as above."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DocumentError(f"it is no JSON ({error})") from error
    _check_depth(value)
    return value


def parse_yaml(text: str, loader: type[PlainLoader] = PlainLoader) -> Any:
    """The value in YAML; DocumentError if it is none, has aliases, or is large or deep."""
    if len(text) > MOST_YAML:
        raise DocumentError(f"it has {len(text):,} characters; expected at most {MOST_YAML:,}")
    try:
        return yaml.load(text, Loader=loader)
    except DocumentError:
        raise
    # Odd tags and dates come out as all kinds of errors.
    except Exception as error:
        raise DocumentError(f"it is not valid YAML: {error}") from error


def read_text(path: Path, *, most: int) -> str:
    """A UTF-8 text file of at most so many bytes; OSError, DocumentError."""
    with path.open("rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise DocumentError(f"it is larger than {most:,} bytes")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DocumentError(f"it is no UTF-8 text ({error})") from error


def shown(value: object) -> str:
    """A value from outside, for a message: its beginning."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _check_depth(value: Any) -> None:
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > DEEPEST + 1:
            raise DocumentError(f"it is nested more than {DEEPEST} deep")
        level = [child for one in level for child in _children(one)]


def _children(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()
