"""Text files as people's tools write them: one place finds the encoding."""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import BinaryIO

from ..errors import DataError
from ..files import reading

_MARKS = (
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (codecs.BOM_UTF8, "utf-8-sig"),
)
_DECLARED = re.compile(rb"\s*<\?xml[^>]{0,200}?encoding\s*=\s*[\"']([\w.-]{1,40})[\"']")
# What is called gb2312 or GBK often has characters of the larger set, which contains both.
_CHINESE = ("gb2312", "gb_2312-80", "gbk", "cp936", "936")
_LOOKED_AT = 512
_DELIMITERS = ",;\t"


def read_text(source: str | Path | BinaryIO) -> str:
    """The text of a file, or of an open binary file such as ``sys.stdin.buffer``.

    In the encoding that its byte order mark states, else the one that an XML declaration names
    (gb2312 is read as gb18030), else UTF-8.

    Raises:
        DataError: it cannot be read, or is no text in any of these.
    """
    name = source if isinstance(source, str | Path) else "standard input"
    with reading(name, DataError, "the file cannot be read", "check path and file"):
        if not isinstance(source, str | Path):
            return _decoded(source.read())
        return _decoded(Path(source).read_bytes())


def read_lines(source: str | Path | BinaryIO) -> Iterator[tuple[str, str]]:
    """The lines that are not blank, stripped, each after its place ``file:line``; DataError."""
    name = source if isinstance(source, str | Path) else "standard input"
    for number, line in enumerate(read_text(source).splitlines(), start=1):
        if line.strip():
            yield f"{name}:{number}", line.strip()


def read_csv(path: Path) -> Iterator[tuple[str, list[str]]]:
    """The rows that are not blank, each after its place, ``file:line``.

    Fields are separated by commas, semicolons or tabs, whichever the first line has most of.
    """
    text = read_text(path)
    first = next((line for line in text.splitlines() if line.strip()), "")
    rows = csv.reader(StringIO(text, newline=""), delimiter=max(_DELIMITERS, key=first.count))
    try:
        yield from ((f"{path}:{rows.line_num}", fields) for fields in rows if any(fields))
    except csv.Error as error:
        raise DataError(f"{path}:{rows.line_num}: {error}; expected CSV") from error


def _decoded(content: bytes) -> str:
    for encoding in _encodings(content):
        try:
            return content.decode(encoding)
        except (UnicodeDecodeError, LookupError):
            continue
    raise ValueError("it is not text in UTF-8, nor in the encoding it declares; save it as UTF-8")


def _encodings(content: bytes) -> Iterator[str]:
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            yield encoding
            return
    declared = _DECLARED.match(content[:_LOOKED_AT])
    if declared:
        named = declared[1].decode("ascii").lower()
        # Its declaration was readable as ASCII, so it is not UTF-16, whatever it declares.
        if not named.startswith(("utf-16", "utf16", "ucs")):
            yield "gb18030" if named in _CHINESE else named
    yield "utf-8"
