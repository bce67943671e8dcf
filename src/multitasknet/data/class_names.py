"""What a data set's words for colours and types mean."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path

from ..vehicle.attributes import COLORS, TYPES
from .text import parse_rows, read_csv, whole_number

logger = logging.getLogger(__name__)

UNKNOWN_WORDS = ("", "unknown", "nan", "none", "null", "-1")
_PUBLISHED = {"color": COLORS, "type": TYPES}
_SPELT = {"grey": "gray", "gold": "golden"}
_SHOWN = 5


class ClassNames:
    """The raw ids of words: those published, and what ``classes.csv`` in the root says.

    Its rows have no header: ``color`` or ``type``, a word, and the class that it means, such as
    ``color,silver,gray``. Words that mean no class are counted, and unknown.
    """

    def __init__(self, root: Path) -> None:
        self._file = root / "classes.csv"
        self._unknown: dict[str, Counter[str]] = {kind: Counter() for kind in _PUBLISHED}
        rows = read_csv(self._file) if self._file.is_file() else ()
        self._stated = parse_rows(rows, _stated)

    def id_of(self, kind: str, text: str, *, numbered: bool = True) -> int | None:
        """The raw id of a colour or type; None if it is unknown.

        Numbers are raw ids themselves, unless the data set numbers its classes in a way of its own
        (not ``numbered``).
        """
        word = text.strip().lower()
        if f"{kind} {word}" in self._stated:
            return self._stated[f"{kind} {word}"]
        if word in UNKNOWN_WORDS:
            return None
        found = _published(kind, word) if numbered or whole_number(word) is None else None
        if found is None:
            self._unknown[kind][word] += 1
        return found

    def warn(self) -> None:
        """Log how many images have a word that means no class."""
        for kind, words in self._unknown.items():
            if words:
                first = ", ".join(f"{word} ({n})" for word, n in words.most_common(_SHOWN))
                logger.warning(
                    "the %s of %d images is no known class and counts as unknown: %s%s; say in %s "
                    "what they mean, such as %s,%s,%s",
                    *(kind, words.total(), first, ", ..." if len(words) > _SHOWN else ""),
                    *(self._file, kind, next(iter(words)), _PUBLISHED[kind][0]),
                )


def _stated(fields: list[str], _: str) -> tuple[str, int | None]:
    if len(fields) != 3 or fields[0].strip().lower() not in _PUBLISHED:
        raise ValueError(f"the row is {','.join(fields)!r}; expected color or type, word, class")
    kind, word, meant = (one.strip().lower() for one in fields)
    known = _published(kind, meant)
    if known is None and meant not in UNKNOWN_WORDS:
        expected = f"a number or one of {', '.join(_PUBLISHED[kind])}"
        raise ValueError(f"the class is {meant!r}; expected {expected}")
    return f"{kind} {word}", known


def _published(kind: str, word: str) -> int | None:
    names, word = _PUBLISHED[kind], _SPELT.get(word, word)
    if word in names:
        return names.index(word) + 1
    value = whole_number(word)
    return None if value is None or value < 0 else value
