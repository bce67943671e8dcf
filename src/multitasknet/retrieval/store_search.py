"""Searching a store: exactly while that is quick, else by an index of measured recall."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import ceil, sqrt
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError, import_extra
from ..inference.origin import EmbeddingOrigin
from ..ranking.distances import (
    check_count,
    check_embeddings,
    check_same_width,
    nearest,
    squared_distances,
)
from .conditions import all_of, any_of, filter_condition, quoted
from .gallery import Facets, GalleryFilter, GalleryRow, Hit
from .store import EXTRA, GalleryStore, StoreError, vectors

logger = logging.getLogger(__name__)

MEASURED = "measured"
_EMBEDDING = "embedding"
_ROW = ("id", "image", "camera", "time", "color", "type")
# Up to as many rows are searched exactly.
EXACT_BELOW = 100_000
# Lance sums in float16's order of rows; what it finds is ranked again in float64.
_SPARE = 16
_FEWEST_INDEXED = 1_000
_SCALAR = {"id": "BTree", "time": "BTree", "camera": "Bitmap", "color": "Bitmap", "type": "Bitmap"}
# Of a part of the index: rows, and those that its centre is found on, in so many passes.
_PART = 4096
_TRAINED_ON = 48
_ITERATIONS = 16
_TRIED_QUERIES = 200
_TRIED_TOP = 10
_REFINE = 20
_SAMPLE = 2_000


@dataclass(frozen=True)
class Searched:
    """How a store was searched.

    Attributes:
        rows: that the condition keeps, among which was searched.
        exact: whether each of them was compared.
        probes: parts of the index that were looked into, 0 without it.
        refine: times as many candidates as asked for whose stored embeddings were compared.
        recall: what the index was measured to find of the 10 nearest; 1 of an exact search.
    """

    rows: int
    exact: bool
    probes: int = 0
    refine: int = 0
    recall: float = 1.0


@dataclass(frozen=True)
class Setting:
    """What an index was measured to find.

    Attributes:
        probes, refine: as in :class:`Searched`.
        recall: of the 10 nearest of held-out rows, beside exact search.
        queries, rows: how many were searched for, among how many.
    """

    probes: int
    refine: int
    recall: float
    queries: int
    rows: int


class StoreGallery:
    """The rows of a store, to be searched; a :class:`.gallery.Gallery`.

    Args:
        store: a store or its path.
        exact_below: rows up to which search is exact.
        recall: what an index is to find of the nearest; without a setting that does, search is
            exact.

    Raises:
        StoreError: as :class:`.GalleryStore`.
    """

    def __init__(
        self,
        store: GalleryStore | str | Path,
        *,
        exact_below: int = EXACT_BELOW,
        recall: float = 0.95,
    ) -> None:
        self.store = store if isinstance(store, GalleryStore) else GalleryStore(store)
        self.exact_below = exact_below
        self.recall = recall
        # Of one version of the store.
        self._facets: tuple[int, Facets] | None = None
        self._settings: tuple[int, list[Setting]] | None = None

    def __len__(self) -> int:
        return len(self.store)

    @property
    def facets(self) -> Facets:
        version = self.store.table.version
        if self._facets is None or self._facets[0] != version:
            found: dict[str, set[str]] = {"camera": set(), "color": set(), "type": set()}
            for batch in self.store.read(list(found)):
                for name, values in found.items():
                    values.update(batch[name].unique().to_pylist())
            kept = (tuple(sorted(values - {""})) for values in found.values())
            self._facets = version, Facets(*kept)
        return self._facets[1]

    def check_origin(self, origin: EmbeddingOrigin) -> None:
        """StoreError unless queries of that origin can be compared with the rows."""
        self.store.check_origin(origin)

    def row(self, id: str) -> GalleryRow:
        return _gallery_row(self._one(id, _ROW).to_pylist()[0])

    def embedding(self, id: str) -> np.ndarray:
        return vectors(self._one(id, [_EMBEDDING])[_EMBEDDING])[0]

    def nearest(
        self,
        queries: np.ndarray,
        *,
        top: int,
        where: GalleryFilter | None = None,
        max_distance: float | None = None,
    ) -> list[list[Hit]]:
        condition = None if where is None else filter_condition(where)
        return self.find(queries, top=top, where=condition, max_distance=max_distance)[0]

    def find(
        self,
        queries: np.ndarray,
        *,
        top: int,
        where: str | None = None,
        max_distance: float | None = None,
        exact: bool = False,
        group_by: str | None = None,
    ) -> tuple[list[list[Hit]], Searched]:
        """The nearest rows of each query, and how they were found.

        Args:
            queries: finite numbers ``[Q, D]``.
            top: rows a query at most.
            where: SQL; see :func:`.conditions.typed`.
            max_distance: squared Euclidean; none further than this.
            exact: compare all rows that ``where`` keeps, however many they are.
            group_by: a column, of whose every value the nearest row is given alone.

        Raises:
            DataError: queries of another width, or not finite.
            StoreError: a condition that is none.
        """
        queries = check_embeddings("queries", queries)
        check_same_width("queries", queries, "rows", np.empty((1, self.store.width)))
        check_count("top", top)
        searched = self.plan(where, exact=exact)
        found = []
        for query in queries:
            if group_by is None:
                hits = self._nearest(query, top, where, searched)
            else:
                hits = self._nearest_of_each(query, top, where, searched, group_by)
            found.append(
                [one for one in hits if max_distance is None or one.distance <= max_distance]
            )
        return found, searched

    def plan(self, where: str | None = None, *, exact: bool = False) -> Searched:
        """How a search under a condition would go."""
        total = len(self)
        kept = total if where is None else self.store.count(where)
        setting = self._setting()
        if exact or total <= self.exact_below or setting is None:
            return Searched(kept, exact=True)
        # The nearest of fewer rows lie further away, in more parts.
        probes = ceil(setting.probes * sqrt(total / max(kept, 1)))
        return Searched(
            kept, False, min(probes, _parts(setting.rows)), setting.refine, setting.recall
        )

    def build_index(self, recall: float = 0.95) -> list[Setting]:
        """Build the indexes and measure what the vector index finds; what was measured is kept.

        An inverted file with a bit a dimension (RaBitQ: Gao and Long, SIGMOD 2024). Product
        quantisation of float16 rows takes Lance over a hundred times as long, and finds less.

        Args:
            recall: probes are doubled until so many of the 10 nearest are found, of rows that are
                held out of their own answer.

        Raises:
            StoreError: fewer than 1,000 rows.
        """
        index = import_extra("lancedb.index", EXTRA)
        count = len(self)
        if count < _FEWEST_INDEXED:
            raise StoreError(
                f"{self.store.path}: {count} rows are searched exactly in no time; an index takes "
                f"{_FEWEST_INDEXED} or more"
            )
        parts = _parts(count)
        config = index.IvfRq(
            distance_type="l2",
            num_partitions=parts,
            sample_rate=_TRAINED_ON,
            max_iterations=_ITERATIONS,
        )
        with self.store.writing():
            for column, kind in _SCALAR.items():
                self.store.table.create_index(column, config=getattr(index, kind)())
            self.store.table.create_index(_EMBEDDING, config=config)
        measured = self._measure(parts, recall)
        table = import_extra("pyarrow", EXTRA).Table
        self.store.replace(MEASURED, table.from_pylist([asdict(one) for one in measured]))
        self._settings = None
        if measured[-1].recall < recall:
            logger.warning(
                "the index finds %.3f of the nearest with all it has, not %.3f: searches that ask "
                "for more are exact",
                measured[-1].recall,
                recall,
            )
        return measured

    def settings(self) -> list[Setting]:
        """What the index was measured to find; empty without one."""
        version = self.store.table.version
        if self._settings is None or self._settings[0] != version:
            indexes = self.store.table.list_indices()
            has_index = any(one.columns == [_EMBEDDING] for one in indexes)
            rows = self.store.side_table(MEASURED) if has_index else None
            if rows is None:
                return []
            self._settings = version, [Setting(**row) for row in rows.to_pylist()]
        return self._settings[1]

    def false_match_distance(self, rate: float) -> float:
        """The distance that at most that share of pairs of rows are apart.

        Pairs of one vehicle are among them and are the nearest, so the share of different vehicles
        is no larger: the distance is on the safe side.

        Raises:
            DataError: there are too few rows to tell.
        """
        sample = self.sample(_SAMPLE)
        first, second = np.triu_indices(len(sample), k=1)
        allowed = int(rate * len(first))
        if allowed < 1:
            raise DataError(
                f"a false-match rate of {rate:g} cannot be told from {len(first)} pairs of rows; "
                f"ask for more, or give --max-distance"
            )
        return float(np.sort(squared_distances(sample, sample)[first, second])[allowed - 1])

    def sample(self, count: int) -> np.ndarray:
        """Embeddings of some rows, the same ones each time, float32 ``[N, D]``."""
        total = len(self)
        chosen = np.random.default_rng(0).choice(total, min(count, total), replace=False)
        query = self.store.table.take_offsets(sorted(chosen.tolist())).select([_EMBEDDING])
        return vectors(query.to_arrow()[_EMBEDDING].combine_chunks())

    def _one(self, id: str, columns: Sequence[str]) -> Any:
        batches = self.store.read(columns, any_of("id", [id]))
        found = next((batch for batch in batches if batch.num_rows), None)
        if found is None:
            raise KeyError(id)
        return found

    def _nearest(
        self, query: np.ndarray, top: int, where: str | None, searched: Searched
    ) -> list[Hit]:
        table = self._search(query, top + _SPARE, where, searched, [*_ROW, _EMBEDDING])
        if not table.num_rows:
            return []
        distances = squared_distances(query[None], vectors(table[_EMBEDDING].combine_chunks()))[0]
        rows = table.select(_ROW).to_pylist()
        return [
            Hit(_gallery_row(rows[one]), float(distances[one])) for one in nearest(distances, top)
        ]

    def _nearest_of_each(
        self, query: np.ndarray, top: int, where: str | None, searched: Searched, column: str
    ) -> list[Hit]:
        """The nearest row of each value, asking for other values until there are enough."""
        best: dict[str, Hit] = {}
        while len(best) < top:
            others = f"{column} not in ({', '.join(map(quoted, best))})" if best else None
            hits = self._nearest(query, 4 * top, all_of([where, others]), searched)
            for hit in hits:
                best.setdefault(getattr(hit.row, column), hit)
            if not hits:
                break
        return list(best.values())[:top]

    def _search(
        self,
        query: np.ndarray,
        top: int,
        where: str | None,
        searched: Searched,
        columns: Sequence[str],
    ) -> Any:
        search = self.store.table.search(
            query.astype(np.float32), vector_column_name=_EMBEDDING
        ).distance_type("l2")
        if searched.exact:
            search = search.bypass_vector_index()
        else:
            search = search.nprobes(searched.probes).refine_factor(searched.refine)
        search = search.select([*columns, "_distance"]).limit(top)
        return self.store.answer(search, where)

    def _setting(self) -> Setting | None:
        enough = [one for one in self.settings() if one.recall >= self.recall]
        return min(enough, key=lambda one: one.probes, default=None)

    def _measure(self, parts: int, recall: float) -> list[Setting]:
        queries = self.sample(_TRIED_QUERIES)
        truth = self._truth(queries)
        measured: list[Setting] = []
        probes = 4
        while not measured or (measured[-1].recall < recall and measured[-1].probes < parts):
            tried = Searched(len(self), False, min(probes, parts), _REFINE)
            shares = []
            for query, bound in zip(queries, truth, strict=True):
                table = self._search(query, _TRIED_TOP + 1, None, tried, [_EMBEDDING])
                found = squared_distances(query[None], vectors(table[_EMBEDDING].combine_chunks()))[
                    0
                ]
                shares.append((np.count_nonzero(found <= bound) - 1) / _TRIED_TOP)
            share = float(np.clip(shares, 0, 1).mean())
            measured.append(Setting(tried.probes, _REFINE, share, len(queries), tried.rows))
            probes *= 2
        return measured

    def _truth(self, queries: np.ndarray) -> np.ndarray:
        """How far each row's 10th nearest other one is, exactly; in one pass over the store."""
        kept = np.empty((len(queries), 0), np.float32)
        for batch in self.store.read([_EMBEDDING]):
            block = squared_distances(queries, vectors(batch[_EMBEDDING]))
            kept = np.sort(np.concatenate([kept, block], axis=1), axis=1)[:, : _TRIED_TOP + 1]
        return kept[:, -1]


def _parts(rows: int) -> int:
    """How many parts the index of so many rows has."""
    return max(round(rows / _PART), 1)


def _gallery_row(row: dict[str, Any]) -> GalleryRow:
    return GalleryRow(**row | {"image": Path(row["image"])})
