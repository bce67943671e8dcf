"""What is measured of a gallery's rows and kept with them: its index's recall, its rates."""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from math import ceil
from secrets import token_hex
from typing import Any

import numpy as np
import pyarrow as pa
from lancedb import index as kinds

from ..errors import GalleryError
from ..ranking.distances import squared_distances
from ..ranking.strangers import Moments, StrangerRates
from .store import RATES, Store, vectors

logger = logging.getLogger(__name__)

# Up to as many rows are searched exactly.
EXACT_BELOW = 100_000
RECALL = 0.95
_MEASURED = "measured"
_EMBEDDING = "embedding"
_FEWEST = 1_000
_SCALAR = {
    **dict.fromkeys(("id", "sha256", "time"), kinds.BTree),
    **dict.fromkeys(("camera", "color", "type"), kinds.Bitmap),
}
# Rows of a part of the index.
_PART = 4096
_QUERIES = 200
_TOP = 10
# Times as many candidates as asked for whose stored embeddings are compared.
_REFINE = 20

# Rows at random, and rows of moments, that rates are measured on at most.
SAMPLE = 2_000
# Rows of one moment are this many seconds apart at most: clocks of whole seconds differ by one.
_MOMENT = 2
# Rates are measured again once the gallery has grown or shrunk by this share.
_GROWN = 0.1


@dataclass(frozen=True)
class Setting:
    """How an index is searched, and what it was measured to find so."""

    probes: int  # parts of the index that are looked into
    recall: float  # share of the 10 nearest that is found, beside exact search
    wanted: float  # the share that it was to find
    rows: int  # of the gallery when it was measured
    index: str  # name of the index that was measured


def search(
    store: Store,
    query: np.ndarray,
    columns: list[str],
    where: str | None,
    *,
    top: int,
    setting: Setting | None,
) -> Any:
    """The rows nearest to an embedding under a condition, Arrow; without a setting exactly."""
    found = store.table.search(query, vector_column_name=_EMBEDDING).distance_type("l2")
    if setting is None:
        found = found.bypass_vector_index()
    else:
        found = found.nprobes(setting.probes).refine_factor(_REFINE)
    found = found.select([*columns, "_distance"]).limit(top)
    if where:
        found = found.where(where, prefilter=True)
    return store.answer(found.to_arrow, where)


def narrowed(setting: Setting, total: int, kept: int) -> Setting:
    """The setting for a condition that keeps some of all rows."""
    # The nearest of fewer rows lie further away, in more parts.
    probes = min(ceil(setting.probes * total / max(kept, 1)), _parts(setting.rows))
    return replace(setting, probes=probes)


def measured(store: Store) -> Setting | None:
    """What the index was measured to find; None without one, or if it has changed since."""
    name, setting = index_name(store), _kept(store)
    if name is None or setting is None or setting.index != name:
        return None
    # Rows that were added since are compared one by one; those brought into it are not measured.
    return setting if store.table.index_stats(name).num_indexed_rows <= setting.rows else None


def _kept(store: Store) -> Setting | None:
    # What is damaged is as if it had not been measured.
    with suppress(TypeError):
        return Setting(**store.kept(_MEASURED))
    return None


def index_name(store: Store) -> str | None:
    """The name of the index of embeddings; None without one."""
    names = (one.name for one in store.table.list_indices() if one.columns == [_EMBEDDING])
    return next(names, None)


def index_state(store: Store) -> str:
    """The index in words."""
    if index_name(store) is None:
        return "none"
    if (setting := measured(store)) is None:
        return "not measured since it changed: 'gallery compact' measures it"
    return f"recall {setting.recall:.3f} by {setting.probes} probes"


def build_index(store: Store, recall: float) -> list[Setting]:
    """Build the indexes, and measure what that of the embeddings finds: what was tried.

    An inverted file with a bit a dimension (RaBitQ: Gao and Long, SIGMOD 2024). Product
    quantisation of float16 rows takes Lance over a hundred times as long, and finds less.
    """
    count = len(store)
    if count < _FEWEST:
        raise GalleryError(
            f"{store.path}: {count} rows are searched exactly in no time; an index takes {_FEWEST} "
            f"or more"
        )
    with store.writing():
        for column, kind in _SCALAR.items():
            store.table.create_index(column, config=kind())
        if (old := index_name(store)) is not None:
            store.table.drop_index(old)
        # A name of its own, so that no measurement of another index is taken for this one's.
        config = kinds.IvfRq(num_partitions=_parts(count), sample_rate=48, max_iterations=16)
        store.table.create_index(_EMBEDDING, config=config, name=f"embedding_{token_hex(4)}")
    return measure(store, recall)


def measure(store: Store, recall: float | None = None) -> list[Setting]:
    """Measure the index with more and more probes until the recall is reached; keep the last.

    By 200 rows; the recall is that wanted before, if None.
    """
    name, before = index_name(store), _kept(store)
    if name is None:
        return []
    wanted = recall or (before.wanted if before else RECALL)
    queries = sample(store, _QUERIES)
    truth, tried = _truth(store, queries), list[Setting]()
    rows, probes = len(store), 4
    while not tried or (tried[-1].recall < wanted and tried[-1].probes < _parts(rows)):
        setting = Setting(min(probes, _parts(rows)), 0.0, wanted, rows, name)
        tried.append(replace(setting, recall=_recall(store, queries, truth, setting)))
        probes *= 2
    store.keep(_MEASURED, asdict(tried[-1]))
    if (found := tried[-1].recall) < wanted:
        logger.warning("the index finds %.3f, not %.3f: searches are exact", found, wanted)
    return tried


def sample(store: Store, count: int) -> np.ndarray:
    """Embeddings of some rows, the same ones each time, float32 ``[N, D]``."""
    total = len(store)
    chosen = np.random.default_rng(0).choice(total, min(count, total), replace=False)
    return store.embeddings(store.table.take_offsets(sorted(chosen.tolist())))


def _recall(store: Store, queries: np.ndarray, truth: np.ndarray, tried: Setting) -> float:
    shares = []
    for query, bound in zip(queries, truth, strict=True):
        rows = search(store, query, [_EMBEDDING], None, top=_TOP + 1, setting=tried)
        distances = squared_distances(query[None], vectors(rows[_EMBEDDING]))[0]
        shares.append((np.count_nonzero(distances <= bound) - 1) / _TOP)
    return float(np.clip(shares, 0, 1).mean())


def _truth(store: Store, queries: np.ndarray) -> np.ndarray:
    """How far each row's 10th nearest other one is, exactly; in one pass over the store."""
    kept = np.empty((len(queries), 0), np.float32)
    for batch in store.read([_EMBEDDING]):
        block = squared_distances(queries, vectors(batch[_EMBEDDING]))
        kept = np.sort(np.concatenate([kept, block], axis=1), axis=1)[:, : _TOP + 1]
    return kept[:, -1]


def _parts(rows: int) -> int:
    return max(round(rows / _PART), 1)


def kept_rates(store: Store) -> StrangerRates | None:
    """The rates that are kept with a gallery; None if it has changed by a tenth since."""
    # What is damaged is as if it had not been measured.
    with suppress(ValueError, TypeError, AttributeError, LookupError):
        values = store.kept(RATES)
        rows, rates = values.pop("rows"), StrangerRates.from_json(values)
        return rates if abs(len(store) - rows) <= _GROWN * rows else None
    return None


def keep_rates(store: Store) -> None:
    """Measure the rates, and keep them with the gallery."""
    store.keep(RATES, {"rows": len(store), **asdict(measure_rates(store))})


def measure_rates(store: Store) -> StrangerRates:
    """The rates as 2,000 rows at random show them, or where times are known 2,000 of moments."""
    return StrangerRates.of(sample(store, SAMPLE), _moments(store))


def _moments(store: Store) -> Moments | None:
    """Rows of moments that several cameras saw, drawn at random; None if there are none."""
    known = "time is not null and camera <> ''"
    parts = list(store.read(["_rowid", "camera", "time"], known))
    if not parts:
        return None
    rows = pa.Table.from_batches(parts)
    seconds = rows["time"].cast(pa.int64()).to_numpy() // (_MOMENT * 1_000_000)
    cameras = rows["camera"].combine_chunks().dictionary_encode().indices.to_numpy()
    moments = np.unique(seconds, return_inverse=True)[1]
    seen = np.unique(np.stack([moments, cameras]), axis=1)[0]
    drawn = np.random.default_rng(0).permutation(moments.max() + 1)[moments]
    several = np.flatnonzero(np.bincount(seen)[moments] > 1)
    chosen = several[np.argsort(drawn[several], kind="stable")[:SAMPLE]]
    if not len(chosen):
        return None
    ids = rows["_rowid"].to_numpy()
    chosen = chosen[np.argsort(ids[chosen])]  # LanceDB gives them in this order
    found = store.embeddings(store.table.take_row_ids(ids[chosen].tolist()))
    return Moments(found, moments[chosen], cameras[chosen])
