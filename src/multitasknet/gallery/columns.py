"""The columns of a gallery's table: its own, and the user's, which are checked and typed once."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa

from ..errors import GalleryError
from ..files import reading
from ..inference.origin import EmbeddingOrigin
from ..vehicle.keypoints import NUM_KEYPOINTS
from .rows import utc

META = b"multitasknet"
FORMAT = 2
# LanceDB's own names begin with an underscore, and a dot is a field of a struct.
_NAME = re.compile(r"[^\W\d_][\w -]*")
# With it two writers of one id conflict, and the later one updates, also where no file is locked.
_KEY = {"lance-schema:unenforced-primary-key": "true"}
_NUMBERS = (pa.int64(), pa.float64())
_KINDS = (*_NUMBERS, pa.bool_(), pa.string(), pa.timestamp("us"), pa.date32())


def _halves(count: int) -> Any:
    return pa.list_(pa.float16(), count)


def table_schema(width: int, colors: Sequence[str], types: Sequence[str]) -> Any:
    """The columns that every gallery has, for embeddings ``[width]`` and these classes."""
    columns = {
        "image": pa.string(),
        "camera": pa.string(),
        "time": pa.timestamp("us"),
        "width": pa.int32(),
        "height": pa.int32(),
        "pose_origin": pa.string(),
        "pose_confidence": pa.float32(),
        "keypoints": _halves(3 * NUM_KEYPOINTS),
        "color": pa.string(),
        "color_probability": pa.float32(),
        "color_probabilities": _halves(len(colors)) if colors else None,
        "type": pa.string(),
        "type_probability": pa.float32(),
        "type_probabilities": _halves(len(types)) if types else None,
        "vehicle": pa.int64(),
        "embedding": _halves(width),
        "sha256": pa.binary(32),
        "origin": pa.string(),
    }
    fields = [pa.field(name, kind) for name, kind in columns.items() if kind is not None]
    meta = {"format": FORMAT, "colors": list(colors), "types": list(types)}
    key = pa.field("id", pa.string(), nullable=False, metadata=_KEY)
    return pa.schema([key, *fields], metadata={META: json.dumps(meta)})


OWN_COLUMNS = frozenset(table_schema(1, ["red"], ["van"]).names)


def origin_text(origin: EmbeddingOrigin) -> str:
    """What made an embedding, as the column ``origin`` keeps it."""
    return json.dumps(vars(origin), sort_keys=True)


def origin_in(text: str) -> EmbeddingOrigin:
    """What :func:`origin_text` made a text of."""
    facts = json.loads(text)
    return EmbeddingOrigin(**facts | {"input_size": tuple(facts["input_size"])})


def vectors(column: Any) -> np.ndarray:
    """A column of fixed-size lists as float32 ``[N, D]``."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    flat = column.flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(-1, column.type.list_size).astype(np.float32)


def arrow_table(records: Sequence[Mapping[str, Any]], schema: Any) -> Any:
    """Rows as an Arrow table; GalleryError names a column that cannot hold its values."""
    arrays = []
    for field in schema:
        problem, remedy = f"expected {field.type}", "correct the values"
        with reading(f"column {field.name}", GalleryError, problem, remedy):
            arrays.append(_column([row.get(field.name) for row in records], field.type))
    return pa.Table.from_arrays(arrays, schema=schema)


def _column(values: list[Any], kind: Any) -> Any:
    if not pa.types.is_fixed_size_list(kind) or any(value is None for value in values):
        return pa.array(values, kind)
    with np.errstate(over="ignore"):
        flat = np.concatenate(values).astype(np.float16)
    if not np.isfinite(flat).all():
        raise ValueError("a number that float16 cannot hold")
    if len(flat) != len(values) * kind.list_size:
        raise ValueError(f"{len(flat) // len(values)} values; expected {kind.list_size}")
    return pa.FixedSizeListArray.from_arrays(pa.array(flat, pa.float16()), kind.list_size)


def check_names(names: Iterable[str]) -> None:
    """GalleryError for names of own columns that LanceDB or the table's columns leave no room."""
    taken = {name.casefold() for name in OWN_COLUMNS}
    for name in names:
        if not _NAME.fullmatch(name):
            raise GalleryError(
                f"{name!r} cannot name a column; expected a letter, then letters, digits, "
                f"underscores, spaces or hyphens"
            )
        if name.casefold() in taken:
            raise GalleryError(
                f"there are two columns {name!r}, of which one may be the gallery's own; give each "
                f"another name"
            )
        taken.add(name.casefold())


def parse_cells(cells: Sequence[str]) -> list[object]:
    """A column of text, as a CSV file has it, with its type.

    Numbers only if writing each of them back gives the same text, so that ``00123``, ``1E5`` and
    ``NA`` stay text; None for an empty cell.
    """
    numbers = [None if cell == "" else _number(cell) for cell in cells]
    is_numeric = all(
        (number is None) == (cell == "") for number, cell in zip(numbers, cells, strict=True)
    )
    return list(numbers) if is_numeric else [cell or None for cell in cells]


def _number(text: str) -> int | float | None:
    for kind in (int, float):
        try:
            value = kind(text)
        except ValueError:
            continue
        if str(value) == text and math.isfinite(value) and abs(value) < 1 << 63:
            return value
    return None


def own_values(rows: Sequence[Mapping[str, object]]) -> dict[str, list[object]]:
    """The values of each own column that has any."""
    found: dict[str, list[object]] = {}
    for row in rows:
        for name, value in row.items():
            if value is not None:
                found.setdefault(name, []).append(
                    utc(value) if isinstance(value, datetime) else value
                )
    return found


def kind_of(name: str, values: Sequence[object], stored: Any | None) -> Any:
    """The Arrow type that holds all values of an own column, and what is stored in it.

    Whole numbers become decimals where both come together. GalleryError for values of several
    types, or of another one than the stored.
    """
    remedy = "expected text, numbers, booleans or times, all of one kind"
    with reading(f"column {name}", GalleryError, "it cannot be stored", remedy):
        kind = pa.array(values).type
        if {kind, stored} == {pa.int64(), pa.float64()}:
            pa.array(values, pa.float64())  # an error for a number that is too large
            return pa.float64()
    if kind not in _KINDS:
        raise GalleryError(f"column {name}: its values are {kind}; {remedy}")
    if stored in (None, kind) or (stored == pa.string() and kind in _NUMBERS):
        return stored or kind
    odd = next(value for value in values if pa.scalar(value).type != stored)
    raise GalleryError(
        f"column {name} holds {stored}, which {odd!r} is not; correct the value, or give the "
        f"column another name"
    )


def stored_value(value: object, kind: Any) -> object:
    """A value as a column of that type keeps it."""
    if kind == pa.string() and not isinstance(value, str):
        return str(value)
    return utc(value) if isinstance(value, datetime) else value
