"""Markdown tables of what was measured."""

from __future__ import annotations

from collections.abc import Iterable


def row(*cells: object) -> str:
    return "| " + " | ".join(map(str, cells)).replace("*", "\\*") + " |"


def head(*columns: object) -> str:
    """The names of columns, the first to the left and figures to the right."""
    return f"{row(*columns)}\n{row('---', *['---:'] * (len(columns) - 1))}"


def table(columns: Iterable[object], rows: Iterable[Iterable[object]]) -> str:
    return "\n".join([head(*columns), *(row(*cells) for cells in rows)])
