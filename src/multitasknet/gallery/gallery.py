"""A gallery of vehicle crops: added to, searched, grouped, linked, exported, and forgotten from.

On disk it is a LanceDB table, for a folder of crops the same table in memory.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import chain
from pathlib import Path
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from pyarrow import csv, parquet
from tqdm import tqdm

from ..data.file_names import camera_in
from ..data.layouts import has_split, read_dataset
from ..data.records import Record
from ..errors import GalleryError
from ..files import expand, make_folder, replacing
from ..hub.card import assets_folder
from ..images import find_images
from ..ranking.distances import (
    check_count,
    check_embeddings,
    check_same_width,
    distance_blocks,
    nearest,
    squared_distances,
)
from ..vehicle.cameras import UNKNOWN_CAMERA
from . import index
from .adding import Embed, add_entries, embed_here
from .columns import origin_in, origin_text, table_schema, vectors
from .entries import entries_in, entries_of
from .index import EXACT_BELOW, RECALL, Searched, Setting
from .linking import complete_linkage, link
from .rows import AddReport, Entry, Facets, GalleryFilter, GalleryRow, Hit, all_of, any_of, quoted
from .store import MEMORY, Store, is_store

if TYPE_CHECKING:
    from ..inference.origin import EmbeddingOrigin
    from ..inference.predictor import Predictor

DEMO = "demo"
_ROW = ("id", "image", "camera", "time", "color", "type")
_EMBEDDING = "embedding"
# LanceDB sums in float32; what it finds is ranked again in float64.
_SPARE = 16
_SAMPLE = 2_000
# Of a false-match rate.
_FEWEST = 10
_VECTORS = ("keypoints", "color_probabilities", "type_probabilities", "embedding", "sha256")


@dataclass(frozen=True, eq=False)
class Groups:
    """Rows as vehicles.

    Attributes:
        ids, images: of the rows.
        vehicles: int64 ``[N]``, the vehicle of each, from 0 in the order of their first rows.
        max_distance: squared Euclidean, that no two rows of one vehicle are further apart.
    """

    ids: tuple[str, ...]
    images: tuple[Path, ...]
    vehicles: np.ndarray
    max_distance: float

    def write(self, path: Path) -> Path:
        """Write a CSV with the columns ``image`` and ``vehicle``; OutputError."""
        make_folder(path.parent)
        with replacing(path) as part:
            csv.write_csv(
                pa.table({"image": list(map(str, self.images)), "vehicle": self.vehicles}), part
            )
        return path


@dataclass(frozen=True)
class LinkReport:
    """What linking found.

    Attributes:
        rows: of the gallery.
        vehicles: groups of at least two rows.
        linked: rows in them.
        max_distance: squared Euclidean, of a pair.
    """

    rows: int
    vehicles: int
    linked: int
    max_distance: float


class Gallery:
    """The rows of a gallery; any number of threads may share it.

    Args:
        store: a store that exists, or its path.
        exact_below: rows up to which search is exact.
        recall: share of the nearest that an index is to find; without a setting that does, search
            is exact.

    Raises:
        GalleryError: there is no such store, or it is damaged.
    """

    def __init__(
        self,
        store: Store | str | Path,
        *,
        exact_below: int = EXACT_BELOW,
        recall: float = RECALL,
    ) -> None:
        self.store = store if isinstance(store, Store) else Store(store)
        self.exact_below, self.recall = exact_below, recall
        # Of one version of the store.
        self._facets: tuple[int, Facets] | None = None
        self._settings: tuple[int, list[Setting]] | None = None

    @classmethod
    def create(cls, path: str | Path, predictor: Predictor) -> Gallery:
        """Open the store that a predictor's rows go into, made if it is not there yet.

        Raises:
            GalleryError: its embeddings have another width, or it has other classes.
            OutputError: it cannot be made.
        """
        spec = predictor.spec
        colors, types = (spec.color_names, spec.type_names) if spec.has_attributes else ((), ())
        (width,) = spec.output_shapes(predictor.size)[_EMBEDDING]
        store = Store(path, table_schema(width, colors, types))
        found = store.width, store.color_names, store.type_names
        if found != (width, tuple(colors), tuple(types)):
            raise GalleryError(
                f"{path}: its embeddings have {store.width} numbers, or other classes than this "
                f"network's; add the pictures to a new gallery"
            )
        return cls(store)

    def __len__(self) -> int:
        return len(self.store)

    @property
    def facets(self) -> Facets:
        """The values that rows have, to choose from in a filter."""
        version = self.store.table.version
        if self._facets is None or self._facets[0] != version:
            found: dict[str, set[str]] = {"camera": set(), "color": set(), "type": set()}
            for batch in self.store.read(list(found)):
                for name, values in found.items():
                    values.update(batch[name].unique().to_pylist())
            self._facets = version, Facets(*map(_sorted, found.values()))
        return self._facets[1]

    def row(self, id: str) -> GalleryRow:
        """One row; KeyError if no row has that id."""
        return _gallery_row(self._one(id, _ROW).to_pylist()[0])

    def embedding(self, id: str) -> np.ndarray:
        """Its embedding, float32 ``[D]``; KeyError if no row has that id."""
        return vectors(self._one(id, [_EMBEDDING])[_EMBEDDING])[0]

    def find(self, sha256s: Iterable[str]) -> dict[str, GalleryRow]:
        """Rows of pictures with these bytes, by sha256."""
        wanted = any_of("sha256", map(bytes.fromhex, sha256s))
        rows = self.store.rows([*_ROW, "sha256"], wanted)
        return {row.pop("sha256").hex(): _gallery_row(row) for row in rows}

    def search(
        self,
        queries: np.ndarray,
        *,
        top: int,
        where: GalleryFilter | str | None = None,
        max_distance: float | None = None,
        exact: bool = False,
        group_by: str | None = None,
    ) -> list[list[Hit]]:
        """The nearest rows of each query, nearest first; equal ones in the gallery's order.

        Args:
            queries: finite numbers ``[Q, D]``.
            top: rows for each query, at most.
            where: a filter, or LanceDB's SQL, such as ``camera = '3' and lane > 1``.
            max_distance: squared Euclidean; rows further away are left out.
            exact: compare all rows that ``where`` keeps, however many they are. Embeddings are
                stored as float16: distances closer than its steps may come in another order.
            group_by: a column, of whose every value only the nearest row is given.

        Raises:
            DataError: queries of another width, or not finite.
            GalleryError: a condition that cannot be used.
        """
        queries = check_embeddings("queries", queries)
        check_same_width("queries", queries, "rows", np.empty((1, self.store.width)))
        check_count("top", top)
        condition = _condition(where)
        setting = self.plan(condition, exact=exact).setting
        found = []
        for query in queries:
            if group_by is None:
                hits = self._nearest(query, top, condition, setting)
            else:
                hits = self._nearest_of_each(query, top, condition, setting, group_by)
            found.append(
                [one for one in hits if max_distance is None or one.distance <= max_distance]
            )
        return found

    def plan(self, where: GalleryFilter | str | None = None, *, exact: bool = False) -> Searched:
        """How a search under a condition would go: exactly, unless the index has the recall."""
        total, condition = len(self), _condition(where)
        kept = total if condition is None else self.store.count(condition)
        enough = [one for one in self._measured() if one.recall >= self.recall]
        if exact or total <= self.exact_below or not enough:
            return Searched(kept)
        best = min(enough, key=lambda one: one.probes)
        return Searched(kept, index.narrowed(best, total, kept))

    def _measured(self) -> list[Setting]:
        version = self.store.table.version
        if self._settings is None or self._settings[0] != version:
            found = index.measured(self.store)
            # It may be measured without a new version.
            self._settings = (version, found) if found else None
            return found
        return self._settings[1]

    def add(
        self,
        predictor: Predictor,
        entries: Iterable[str | Path | Entry],
        *,
        embed: Embed | None = None,
        reembed: bool = False,
        progress: bool = True,
    ) -> AddReport:
        """Embed pictures that are new or have changed, and store them, 1,000 rows at once.

        Args:
            entries: pictures and folders, or entries such as those of :func:`.read_manifest`.
            embed: what embeds; default is the predictor, in this process.
            reembed: replace rows of other weights.

        Raises:
            GalleryError: rows of other weights are there, unless ``reembed``; own columns that
                cannot be stored.
            OutputError: the store cannot be written; what was committed stays.
        """
        given = list(entries)
        known = [one for one in given if isinstance(one, Entry)]
        paths = [Path(one) for one in given if not isinstance(one, Entry)]
        return add_entries(
            self.store,
            predictor.origin,
            [*known, *entries_of(paths)],
            embed or embed_here(predictor),
            reembed=reembed,
            progress=progress,
        )

    def stale(self, origin: EmbeddingOrigin) -> list[Entry]:
        """The pictures of rows of other weights, to be embedded again."""
        rows = self.store.rows(["id", "image"], f"origin <> {quoted(origin_text(origin))}")
        return [Entry(row["id"], Path(row["image"])) for row in rows]

    def origins(self) -> dict[EmbeddingOrigin, int]:
        """What made the rows, and how many each."""
        counts: Counter[str] = Counter()
        for batch in self.store.read(["origin"]):
            counts.update(batch["origin"].to_pylist())
        return {origin_in(text): count for text, count in counts.items()}

    def remove(self, where: str) -> int:
        """Delete rows for good, see :meth:`.Store.remove`; how many they were."""
        return self.store.remove(where)

    def compact(self) -> None:
        """Join small files, bring new rows into the index, measure that again, drop old versions.

        Versions of the last hour are kept, for those who are reading them.
        """
        self.store.compact()
        if not index.measured(self.store):
            index.measure(self.store, self.recall)

    def build_index(self, recall: float = RECALL) -> list[Setting]:
        """Build the indexes of a large gallery, see :func:`.index.build_index`."""
        return index.build_index(self.store, recall)

    def export(self, target: str | Path, where: str | None = None) -> int:
        """Write rows as ``.parquet`` with all columns, or as ``.csv`` without lists of numbers.

        Returns:
            How many rows were written.

        Raises:
            GalleryError: another ending, or no rows.
            OutputError: the file cannot be written.
        """
        target = Path(target)
        if target.suffix not in (".parquet", ".csv"):
            raise GalleryError(f"{target}: expected a name that ends in .parquet or .csv")
        schema, writer = self.store.table.schema, parquet.ParquetWriter
        if target.suffix == ".csv":
            schema = pa.schema([one for one in schema if one.name not in _VECTORS])
            writer = csv.CSVWriter
        if not (count := self.store.count(where)):
            raise GalleryError(f"{self.store.path}: no row is to be exported; change the condition")
        with replacing(target) as part, writer(part, schema) as file:
            for batch in self.store.read(schema.names, where):
                file.write_batch(batch.cast(schema))
        return count

    def false_match_distance(self, rate: float) -> float:
        """The squared distance that this share of pairs of different vehicles lies within.

        Estimated on the gallery's own rows: squared distances between different vehicles, sums over
        many dimensions, are nearly normal, and the quartiles of all pairs are taken for theirs. So
        most pairs must be of different vehicles, as those of ten vehicles or more are.

        Raises:
            GalleryError: there are too few rows, or the rate is too small for them.
        """
        rows = index.sample(self.store, _SAMPLE)
        if len(rows) < _FEWEST:
            raise GalleryError(
                f"{len(rows)} rows; a false-match rate takes {_FEWEST} or more: give a distance"
            )
        pairs = np.triu_indices(len(rows), k=1)
        lower, upper = np.quantile(squared_distances(rows, rows)[pairs], (0.25, 0.75))
        normal = NormalDist()
        sigma = (upper - lower) / (2 * normal.inv_cdf(0.75))
        distance = float((lower + upper) / 2 + sigma * normal.inv_cdf(rate))
        if distance <= 0:
            raise GalleryError(
                f"no distance has a false-match rate of {rate:g} here: different vehicles are "
                f"expected that near; ask for a larger rate, or give a distance"
            )
        return distance

    def group(
        self,
        *,
        false_match_rate: float | None = None,
        max_distance: float | None = None,
        where: str | None = None,
    ) -> Groups:
        """Rows as vehicles, by complete linkage: no two of one vehicle are further apart.

        Args:
            false_match_rate: as in :meth:`false_match_distance`.
            max_distance: squared Euclidean; give this or the rate.
            where: the rows, as in :meth:`search`.

        Raises:
            GalleryError: no rows, or more than 20,000.
        """
        limit = self._limit(false_match_rate, max_distance)
        rows, embeddings = self._rows(["id", "image"], where)
        if not len(embeddings):
            raise GalleryError(f"{self.store.path}: there are no rows to group")
        return Groups(
            tuple(rows["id"].to_pylist()),
            tuple(map(Path, rows["image"].to_pylist())),
            complete_linkage(embeddings.astype(np.float32), limit),
            limit,
        )

    def link(
        self,
        *,
        false_match_rate: float | None = None,
        max_distance: float | None = None,
        window: float = 1.0,
        neighbors: int = 50,
        progress: bool = True,
    ) -> LinkReport:
        """Link rows across cameras and times, see :func:`.linking.link`.

        Writes the column ``vehicle``, null for rows that are alone. The embeddings of all rows are
        held in memory: 2 KB each.

        Args:
            false_match_rate, max_distance: as in :meth:`group`, of a pair.
            window: seconds between two appearances at one camera, at least.
            neighbors: of each row that are looked at.

        Raises:
            GalleryError: there are no rows.
        """
        limit = self._limit(false_match_rate, max_distance)
        # In one pass, so that all is of one version.
        rows, embeddings = self._rows(["id", "camera", "time"])
        if not len(embeddings):
            raise GalleryError(f"{self.store.path}: there are no rows to link; add pictures first")
        names = rows["camera"].to_pylist()
        numbers = {name: number for number, name in enumerate(sorted(set(names) - {""}))}
        groups = link(
            embeddings,
            *self._neighbors(rows["id"].to_pylist(), embeddings, neighbors + 1, progress),
            cameras=np.array([numbers.get(name, UNKNOWN_CAMERA) for name in names]),
            times=[_seconds(time) for time in rows["time"].to_pylist()],
            max_distance=limit,
            window=window,
        )
        counts = np.bincount(groups)
        together = counts[groups] > 1
        vehicles = np.full(len(groups), -1)
        vehicles[together] = np.unique(groups[together], return_inverse=True)[1]
        schema = self.store.table.schema
        fields = pa.schema([schema.field("id"), schema.field("vehicle")])
        labels = pa.array(vehicles, pa.int64(), mask=~together)
        # Rows that were removed meanwhile are not written.
        self.store.merge_table(pa.Table.from_arrays([rows["id"], labels], schema=fields))
        return LinkReport(len(groups), int((counts > 1).sum()), int(together.sum()), limit)

    def _limit(self, false_match_rate: float | None, max_distance: float | None) -> float:
        if (false_match_rate is None) == (max_distance is None):
            raise ValueError("expected either false_match_rate or max_distance")
        if max_distance is not None:
            return float(max_distance)
        assert false_match_rate is not None
        return self.false_match_distance(false_match_rate)

    def _rows(self, columns: Sequence[str], where: str | None = None) -> tuple[Any, np.ndarray]:
        """Columns of rows, Arrow, and their embeddings, float16 ``[N, D]``."""
        parts, halves = [], []
        for batch in self.store.read([*columns, _EMBEDDING], where):
            parts.append(batch.select(columns))
            halves.append(vectors(batch[_EMBEDDING]).astype(np.float16))
        if not parts:
            return None, np.empty((0, self.store.width), np.float16)
        return pa.Table.from_batches(parts), np.concatenate(halves)

    def _neighbors(
        self, ids: Sequence[str], embeddings: np.ndarray, count: int, progress: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """Rows and distances of each row's nearest, ``[N, count]``, itself among them."""
        count = min(count, len(ids))
        near = np.full((len(ids), count), -1)
        far = np.full((len(ids), count), np.inf)
        places = {id: place for place, id in enumerate(ids)}
        blocks = chain.from_iterable(distance_blocks(embeddings, embeddings))
        is_exact = self.plan().setting is None
        hidden = None if progress else True
        for place in tqdm(range(len(ids)), "link", disable=hidden, unit="row"):
            if is_exact:
                distances = next(blocks)
                found = nearest(distances, count)
                near[place], far[place] = found, distances[found]
                continue
            (hits,) = self.search(embeddings[place : place + 1].astype(np.float32), top=count)
            kept = [hit for hit in hits if hit.row.id in places]
            near[place, : len(kept)] = [places[hit.row.id] for hit in kept]
            far[place, : len(kept)] = [hit.distance for hit in kept]
        return near, far

    def _one(self, id: str, columns: Sequence[str]) -> Any:
        batches = self.store.read(columns, f"id = {quoted(id)}")
        found = next((batch for batch in batches if batch.num_rows), None)
        if found is None:
            raise KeyError(id)
        return found

    def _nearest(
        self, query: np.ndarray, top: int, where: str | None, setting: Setting | None
    ) -> list[Hit]:
        columns = [*_ROW, _EMBEDDING]
        vector = query.astype(np.float32)
        table = self.store.search(vector, columns, where, top=top + _SPARE, index=setting)
        if not table.num_rows:
            return []
        distances = squared_distances(query[None], vectors(table[_EMBEDDING]))[0]
        rows = table.select(_ROW).to_pylist()
        return [
            Hit(_gallery_row(rows[one]), float(distances[one])) for one in nearest(distances, top)
        ]

    def _nearest_of_each(
        self, query: np.ndarray, top: int, where: str | None, setting: Setting | None, column: str
    ) -> list[Hit]:
        """The nearest row of each value, asking for other values until there are enough."""
        best: dict[str, Hit] = {}
        while len(best) < top:
            others = f"not ({any_of(column, best)})" if best else None
            hits = self._nearest(query, 4 * top, all_of([where, others]), setting)
            for hit in hits:
                best.setdefault(getattr(hit.row, column), hit)
            if not hits:
                break
        return list(best.values())[:top]


def open_gallery(place: str | Path, predictor: Predictor, *, progress: bool = True) -> Gallery:
    """Open a gallery to search with a predictor.

    Args:
        place: a store (its name ends in ``.lance``), a folder of vehicle crops, a data set in any
            layout of :func:`read_dataset` (its split ``gallery``), or ``demo``: the generated crops
            in the package. Pictures are embedded into a gallery in memory; nothing is written.
        predictor: the network that searches.
        progress: draw a progress bar.

    Raises:
        GalleryError: nothing, or nothing that is a gallery, is there; a store of other weights, or
            a folder of which no picture can be read.
        DataError, ImageError: faulty labels, or no picture in a folder.
    """
    found = find_gallery(place)
    if isinstance(found, Store):
        found.check_origin(predictor.origin)
        return Gallery(found)
    gallery = Gallery.create(MEMORY, predictor)
    report = gallery.add(predictor, entries_in(found, _records(found)), progress=progress)
    if not len(gallery):
        image, problem = next(iter(report.broken.items()))
        raise GalleryError(f"{place}: no picture can be read, such as {image}: {problem}")
    return gallery


def find_gallery(place: str | Path) -> Store | Path:
    """The store, or the folder of crops, that a place names; GalleryError if nothing is there."""
    if is_store(place):
        return Store(place)
    folder = assets_folder() / "demo" / "gallery" if place == DEMO else expand(place)
    # Path.is_dir fails on names that are too long.
    if not os.path.isdir(folder):  # noqa: PTH112
        raise GalleryError(
            f"{place}: expected a store (.lance), a folder of vehicle crops, a data set, or "
            f"{DEMO!r}"
        )
    return folder


def _records(folder: Path) -> Sequence[Record]:
    if has_split(folder, "gallery"):
        return read_dataset(folder, ["gallery"], check=False).gallery.records
    return [Record(one, 0, camera_in(one.name)) for one in find_images(folder)]


def _condition(where: GalleryFilter | str | None) -> str | None:
    return where.condition if isinstance(where, GalleryFilter) else where


def _sorted(values: Iterable[str]) -> tuple[str, ...]:
    """Those that are there, numbers by their size."""
    return tuple(
        sorted(
            set(values) - {""},
            key=lambda one: (not one.isdigit(), len(one) if one.isdigit() else 0, one),
        )
    )


def _gallery_row(row: dict[str, Any]) -> GalleryRow:
    named = {name: row[name] for name in _ROW}
    return GalleryRow(**named | {"image": Path(row["image"])})


def _seconds(time: datetime | None) -> float:
    return float("nan") if time is None else time.replace(tzinfo=timezone.utc).timestamp()
