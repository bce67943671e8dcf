"""What made a row's embedding, as columns: only rows of one origin can be compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from ..errors import GalleryError
from ..inference.origin import EmbeddingOrigin
from .columns import ORIGIN
from .rows import quoted
from .store import Store


def origin_columns(origin: EmbeddingOrigin) -> dict[str, object]:
    """An origin's facts by column."""
    height, width = origin.input_size
    return {**vars(origin), "input_height": height, "input_width": width}


def origin_in(row: Mapping[str, Any]) -> EmbeddingOrigin:
    """The origin that a row's columns state."""
    facts = {name: row[name] for name in ORIGIN if not name.startswith("input_")}
    return EmbeddingOrigin(input_size=(row["input_height"], row["input_width"]), **facts)


def origins_of(store: Store) -> dict[EmbeddingOrigin, int]:
    """What made the rows, and how many each."""
    counts: Counter[EmbeddingOrigin] = Counter()
    for batch in store.read(ORIGIN):
        rows = pa.Table.from_batches([batch])
        for row in rows.group_by(list(ORIGIN)).aggregate([([], "count_all")]).to_pylist():
            counts[origin_in(row)] += row["count_all"]
    return dict(counts)


def other_origin(origin: EmbeddingOrigin) -> str:
    """The condition for rows of any other origin."""
    facts = origin_columns(origin)
    return f"not ({' and '.join(f'{name} = {quoted(facts[name])}' for name in ORIGIN)})"


def check_origin(store: Store, origin: EmbeddingOrigin) -> None:
    """GalleryError unless all rows are of one origin, which can be compared with others of it."""
    row = next(store.rows(ORIGIN, other_origin(origin)), None)
    if row is not None:
        raise GalleryError(
            f"{store.path}: rows of the gallery were made by another network "
            f"({origin_in(row).differences(origin)}); use those weights, or embed all rows again "
            f"with 'multitasknet gallery add {store.path} --reembed'"
        )
