"""The rates of strangers of a gallery: measured on a sample of its rows, and kept with it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict

import numpy as np
import pyarrow as pa

from ..ranking.strangers import Moments, StrangerRates
from .columns import RATES
from .index import sample
from .store import Store

# Rows at random, and rows of moments, that rates are measured on at most.
SAMPLE = 2_000
# Rows of one moment are this many seconds apart at most: clocks of whole seconds differ by one.
_MOMENT = 2
# They are measured again once the gallery has grown or shrunk by this share.
_GROWN = 0.1


def kept(store: Store) -> StrangerRates | None:
    """The rates that are kept with a gallery.

    None if it has changed by a tenth since, or if they are damaged: they can be measured again.
    """
    with suppress(ValueError, TypeError, AttributeError, LookupError):
        values = store.kept(RATES)
        rows, rates = values.pop("rows"), StrangerRates.from_json(values)
        return rates if abs(len(store) - rows) <= _GROWN * rows else None
    return None


def keep(store: Store) -> None:
    """Measure the rates, and keep them with the gallery."""
    store.keep(RATES, {"rows": len(store), **asdict(measure(store))})


def measure(store: Store) -> StrangerRates:
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
