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
import pyarrow.compute as pc

from ..data.boxes import CORNERS
from ..data.text import utc
from ..errors import GalleryError
from ..files import reading
from ..inference.prediction import EmbeddingOrigin
from ..vehicle.keypoints import NUM_KEYPOINTS

META = b"multitasknet"
FORMAT = 3
# What :meth:`.Store.keep` calls the rates of strangers.
RATES = "rates"
# LanceDB's own names begin with an underscore, and a dot is a field of a struct.
_NAME = re.compile(r"[^\W\d_][\w -]*")
# With it two writers of one id conflict, and the later one updates, also where no file is locked.
_KEY = {"lance-schema:unenforced-primary-key": "true"}
_NUMBERS = (pa.int64(), pa.float64())
_KINDS = (*_NUMBERS, pa.bool_(), pa.string(), pa.timestamp("us"), pa.date32())


def table_schema(width: int, colors: Sequence[str], types: Sequence[str]) -> Any:
    """The columns that every gallery has, for embeddings ``[width]`` and these classes."""

    def vector(count: int) -> Any:
        return pa.list_(pa.float16(), count)

    columns = {
        "image": pa.string(),
        # x1, y1, x2, y2 in pixels of the image; null is the whole of it.
        "box": pa.list_(pa.float32(), len(CORNERS)),
        "camera": pa.string(),
        "time": pa.timestamp("us"),
        # What shows one vehicle before one camera without a break: its name, empty for none.
        "track": pa.string(),
        # Its first and last moment in UTC, its direction in the picture in degrees (0 to the
        # right, 90 up), and of how many crops the embedding is the mean.
        "first": pa.timestamp("us"),
        "last": pa.timestamp("us"),
        "heading": pa.float32(),
        "crops": pa.int32(),
        "width": pa.int32(),
        "height": pa.int32(),
        "quality": pa.float32(),
        "pose_origin": pa.string(),
        "pose_confidence": pa.float32(),
        "keypoints": vector(3 * NUM_KEYPOINTS),
        "color": pa.string(),
        "color_probability": pa.float32(),
        "color_probabilities": vector(len(colors)) if colors else None,
        "type": pa.string(),
        "type_probability": pa.float32(),
        "type_probabilities": vector(len(types)) if types else None,
        "vehicle": pa.int64(),
        # The vehicle that someone gave it by hand, which linking keeps.
        "pinned": pa.int64(),
        "embedding": vector(width),
        "sha256": pa.binary(32),
        "origin": pa.string(),
    }
    fields = [pa.field(name, kind) for name, kind in columns.items() if kind is not None]
    meta = {"format": FORMAT, "colors": list(colors), "types": list(types)}
    key = pa.field("id", pa.string(), nullable=False, metadata=_KEY)
    return pa.schema([key, *fields], metadata={META: json.dumps(meta)})


def without_rates(schema: Any) -> Any:
    """The columns, without the rates of strangers that were measured on their rows."""
    place = schema.get_field_index("embedding")
    field = schema.field(place)
    kept = {name: value for name, value in (field.metadata or {}).items() if name != RATES.encode()}
    return schema.set(place, field.with_metadata(kept))


OWN_COLUMNS = frozenset(table_schema(1, ["red"], ["van"]).names)


def origin_text(origin: EmbeddingOrigin) -> str:
    """What made an embedding, as the column ``origin`` keeps it."""
    return json.dumps(vars(origin), sort_keys=True)


def origin_in(text: str) -> EmbeddingOrigin:
    """What :func:`origin_text` made a text of; GalleryError for another."""
    with reading("origin", GalleryError, "the column is damaged", "add the pictures again"):
        facts = json.loads(text)
        return EmbeddingOrigin(**facts | {"input_size": tuple(facts["input_size"])})


def vectors(column: Any) -> np.ndarray:
    """A column of fixed-size lists as float32 ``[N, D]``."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    flat = column.flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(-1, column.type.list_size).astype(np.float32)


def with_corners(rows: Any) -> Any:
    """A record batch or table with each box as four columns, which pandas and CSV can have."""
    for place, name in enumerate(CORNERS):
        rows = rows.append_column(name, pc.list_element(rows["box"], place))
    return rows.remove_column(rows.schema.get_field_index("box"))


def halves(values: Any) -> np.ndarray:
    """Numbers as float16, one after another; GalleryError for one that is too large."""
    with np.errstate(over="ignore"):
        found = np.asarray(values).astype(np.float16).ravel()
    if not np.isfinite(found).all():
        raise GalleryError(
            "a number is larger than float16 holds, as which keypoints and embeddings are kept; "
            "correct the labels, or use other weights"
        )
    return found


def check_names(names: Iterable[str], stored: Iterable[str] = ()) -> None:
    """GalleryError for names of own columns that LanceDB or the other columns leave no room.

    Args:
        stored: own columns that are there.
    """
    every = {name.casefold() for name in (*OWN_COLUMNS, *CORNERS)}
    taken = {name.casefold() for name in stored}
    for name in names:
        if not _NAME.fullmatch(name):
            raise GalleryError(
                f"{name!r} cannot name a column; expected a letter, then letters, digits, "
                f"underscores, spaces or hyphens"
            )
        if name.casefold() in every:
            raise GalleryError(
                f"{name!r} is a column of every gallery; leave it out, or give yours another name"
            )
        if name.casefold() in taken:
            raise GalleryError(f"there are two columns {name!r}; give each another name")
        taken.add(name.casefold())


def parse_cells(cells: Sequence[str]) -> list[object]:
    """A column of text, as a CSV file has it, with its type.

    Numbers only if writing each of them back gives the same text, so that ``00123``, ``1E5`` and
    ``NA`` stay text; None for an empty cell.
    """
    numbers = [_number(cell) for cell in cells]
    if all(number is not None or not cell for number, cell in zip(numbers, cells, strict=True)):
        return list(numbers)
    return [cell or None for cell in cells]


def _number(text: str) -> int | float | None:
    for kind in (int, float):
        try:
            value = kind(text)
        except ValueError:
            continue
        if str(value) == text and math.isfinite(value) and abs(value) < 1 << 63:
            return value
    return None


def own_types(rows: Iterable[Mapping[str, object]], stored: Any) -> dict[str, Any]:
    """The Arrow type of each own column, which holds all values given and all that are stored.

    Whole numbers become decimals where both come together, numbers text where text is stored.

    Args:
        rows: own columns of each row; None where there is no value.
        stored: the table's schema.

    Raises:
        GalleryError: a name that cannot be stored, or values of several types.
    """
    given: dict[str, list[object]] = {}
    for row in rows:
        for name, value in row.items():
            if value is not None:
                given.setdefault(name, []).append(own_value(value))
    check_names([name for name in given if name not in stored.names], stored.names)
    return {
        name: _type_of(name, values, stored.field(name) if name in stored.names else None)
        for name, values in given.items()
    }


def _type_of(name: str, values: list[object], stored: Any | None) -> Any:
    expected = "expected text, numbers, booleans or times, all of one kind"
    with reading(f"column {name}", GalleryError, "it cannot be stored", expected):
        found = pa.field(name, pa.array(values).type)
        if found.type not in _KINDS:
            raise ValueError(str(found.type))
        if stored is None or (stored.type == pa.string() and found.type in _NUMBERS):
            return (stored or found).type
        both = [pa.schema([one.remove_metadata()]) for one in (stored, found)]
        kind = pa.unify_schemas(both, promote_options="permissive").field(name).type
        pa.array(values, kind)  # an error for a number that is too large beside decimals
        return kind


def own_value(value: object, kind: Any | None = None) -> object:
    """A value as a column of that type keeps it."""
    if kind == pa.string() and value is not None:
        return str(value)
    return utc(value) if isinstance(value, datetime) else value
