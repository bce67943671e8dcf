"""The table of a gallery: LanceDB on disk, in object storage or in memory.

A store is a folder whose name ends in ``.lance``. Its tables: ``crops``, a row for each picture,
and ``measured``, what the vector index was measured to find. One process writes at a time, by a
lock in the folder; in object storage the table's primary key makes two writers of one id conflict.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from threading import RLock
from typing import Any, TypeVar

import lancedb
import pyarrow as pa
from filelock import FileLock

from ..errors import GalleryError
from ..files import make_folder, reading, reason_of, writing
from ..inference.origin import EmbeddingOrigin
from .columns import (
    FORMAT,
    META,
    arrow_table,
    check_names,
    kind_of,
    origin_in,
    origin_text,
    own_values,
)
from .rows import any_of, quoted, with_times

T = TypeVar("T")

SUFFIX = ".lance"
MEMORY = "memory://"
_CROPS = "crops"
_BATCH = 8192
_MERGED = 50_000
# Rows of one fragment have addresses with its number in the upper half.
_FRAGMENT_BITS = 32
# How long compacting keeps old versions, which others may be reading.
_KEPT = timedelta(hours=1)
_KEPT_REMOTE = timedelta(days=1)
_TRIES = 5


def is_store(path: str | Path) -> bool:
    """Whether a path names a store, present or not."""
    return str(path).rstrip("/").endswith(SUFFIX)


class Store:
    """The rows of a gallery as a table; any number of threads may share it.

    Args:
        path: of a store that exists, or :data:`MEMORY` with a schema.
        schema: of :func:`.table_schema`, to make the table where it is missing.

    Raises:
        GalleryError: nothing is there, it is damaged, or of another format.
        OutputError: it cannot be made.
    """

    def __init__(self, path: str | Path, schema: Any | None = None) -> None:
        self.path = str(path)
        if not is_store(path) and path != MEMORY:
            raise GalleryError(f"{path}: a store's name ends in {SUFFIX}; call it {path}{SUFFIX}")
        if schema is not None and not self._is_remote:
            make_folder(Path(path))
        # Taken by each thread in turn, and within itself.
        self._threads, self._lock = RLock(), FileLock(Path(path, ".lock"), thread_local=False)
        with reading(
            path, GalleryError, "this is not a gallery, or a damaged one", "make it again"
        ):
            # Commits of other processes are seen at once.
            self._database = lancedb.connect(self.path, read_consistency_interval=timedelta(0))
            if schema is not None:
                self._create(schema)
            if not self._has_table(_CROPS):
                raise GalleryError(
                    f"{path}: there is no gallery; make one with 'multitasknet gallery add {path} "
                    f"IMAGES'"
                )
            self.table = self._database.open_table(_CROPS)
            meta = json.loads(self.table.schema.metadata[META])
            if (found := meta["format"]) != FORMAT:
                raise GalleryError(
                    f"{path}: a gallery of format {found}, expected {FORMAT}; add its pictures to "
                    f"a new one, or use the version of multitasknet that made it"
                )
            self.color_names, self.type_names = tuple(meta["colors"]), tuple(meta["types"])

    def _create(self, schema: Any) -> None:
        with self.writing():
            if not self._has_table(_CROPS):
                self._database.create_table(_CROPS, schema=schema)

    def __len__(self) -> int:
        return self.table.count_rows()

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(self.table.schema.names)

    @property
    def width(self) -> int:
        """Of an embedding."""
        return self.table.schema.field("embedding").type.list_size

    @property
    def _is_remote(self) -> bool:
        return "://" in self.path

    def count(self, where: str | None = None) -> int:
        """The rows that an SQL condition keeps; GalleryError if it cannot be used."""
        where = where and with_times(where)
        return self.answer(lambda: self.table.count_rows(where), where)

    def read(
        self, columns: Sequence[str], where: str | None = None, *, rows: int = _BATCH
    ) -> Iterator[Any]:
        """Arrow record batches of some columns; errors as :meth:`count`."""
        where = where and with_times(where)

        def start() -> tuple[Iterator[Any], Any]:
            query = self.table.search().select(list(columns))
            batches = iter((query.where(where) if where else query).to_batches(rows))
            return batches, next(batches, None)

        batches, batch = self.answer(start, where)
        while batch is not None:
            yield batch
            try:
                batch = next(batches, None)
            except Exception as error:
                # Going on at a newer version would give rows twice, or not at all.
                raise self._explained(error, None) from error

    def rows(self, columns: Sequence[str], where: str | None = None) -> Iterator[dict[str, Any]]:
        """Rows as dictionaries."""
        for batch in self.read(columns, where):
            yield from batch.to_pylist()

    def answer(self, ask: Callable[[], T], where: str | None) -> T:
        """What LanceDB answers; GalleryError in its words, for a condition that it cannot use.

        Asked again if a writer has dropped the version meanwhile that was read.
        """
        for _ in range(_TRIES):
            version = self.table.version
            try:
                return ask()
            # A panic of its Rust is of a class that cannot be imported.
            except Exception as error:
                failure = error
            if self.table.version == version:
                raise self._explained(failure, where) from failure
        raise self._explained(failure, None) from failure

    def _explained(self, error: Exception, where: str | None) -> GalleryError:
        if where is None:
            return GalleryError(
                f"{self.path}: the gallery cannot be read ({_plain(error)}); if rows were removed "
                f"meanwhile, try again"
            )
        return GalleryError(
            f"the condition {where[:200]!r} cannot be used ({_plain(error)}); write SQL such as "
            f"camera = '3' and time > '2026-11-01', with the columns {', '.join(self.columns)}"
        )

    def check_origin(self, origin: EmbeddingOrigin) -> None:
        """GalleryError unless all rows are of that origin, so that they can be compared."""
        row = next(self.rows(["origin"], f"origin <> {quoted(origin_text(origin))}"), None)
        if row is not None:
            raise GalleryError(
                f"{self.path}: rows of the gallery were made by another network "
                f"({origin_in(row['origin']).differences(origin)}); use those weights, or embed "
                f"all rows again with 'multitasknet gallery add {self.path} --reembed'"
            )

    def search(
        self, query: Any, columns: Sequence[str], where: str | None, *, top: int, index: Any = None
    ) -> Any:
        """The rows nearest to an embedding under a condition, Arrow; with an index's setting."""
        search = self.table.search(query, vector_column_name="embedding").distance_type("l2")
        if index is None:
            search = search.bypass_vector_index()
        else:
            search = search.nprobes(index.probes).refine_factor(index.refine)
        search = search.select([*columns, "_distance"]).limit(top)
        where = where and with_times(where)
        if where:
            search = search.where(where, prefilter=True)
        return self.answer(search.to_arrow, where)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the store's lock, and turn what keeps it from being written into OutputError."""
        with self._threads, writing(Path(self.path)):
            if self._is_remote:
                yield
                return
            with self._lock:
                yield

    def add_columns(self, rows: Sequence[Mapping[str, object]]) -> dict[str, Any]:
        """Make room for all rows' own columns, or change nothing; the type of each column.

        Raises:
            GalleryError: a name or value that cannot be stored; names the column.
        """
        values = own_values(rows)
        schema = self.table.schema
        stored = {name: schema.field(name).type for name in values if name in schema.names}
        check_names([name for name in values if name not in stored])
        kinds = {name: kind_of(name, of, stored.get(name)) for name, of in values.items()}
        new = [pa.field(name, kind) for name, kind in kinds.items() if name not in stored]
        wider = [name for name, kind in stored.items() if kinds[name] != kind]
        if new or wider:
            with self.writing(), self._undone():
                for name in wider:
                    self._widen(name)
                if new:
                    self.table.add_columns(new)
        return kinds

    def _widen(self, name: str) -> None:
        if self.count(f"abs(`{name}`) > {1 << 53}"):
            raise GalleryError(f"column {name}: a stored number is too large beside decimals")
        # LanceDB alters no numbers of one kind into another.
        self.table.add_columns({f"{name} wider": f"cast(`{name}` as double)"})
        self.table.drop_columns([name])
        self.table.alter_columns({"path": f"`{name} wider`", "rename": name})

    @contextmanager
    def _undone(self) -> Iterator[None]:
        """Go back to the version before if the block fails."""
        version = self.table.version
        try:
            yield
        except BaseException:
            self.table.checkout(version)
            self.table.restore()
            raise

    def merge(self, records: Sequence[Mapping[str, Any]], *, insert: bool = False) -> None:
        """Write columns of rows, all or none, into rows of the same id; others are new or left."""
        schema = self.table.schema
        if not insert:
            schema = pa.schema([field for field in schema if field.name in records[0]])
        self.merge_table(arrow_table(records, schema), insert=insert)

    def merge_table(self, rows: Any, *, insert: bool = False) -> None:
        """:meth:`merge` for an Arrow table."""
        with self.writing():
            merge = self.table.merge_insert("id").when_matched_update_all()
            merge = merge.when_not_matched_insert_all() if insert else merge
            for start in range(0, rows.num_rows, _MERGED):
                merge.execute(rows.slice(start, _MERGED))

    def rename(self, ids: Mapping[str, str]) -> None:
        """Give rows of some ids others, which are their pictures' paths."""
        if not ids:
            return
        with self.writing():
            held = self.read(["_rowid", *self.columns], any_of("id", ids))
            rows = pa.Table.from_batches(list(held))
            places = rows["_rowid"].to_pylist()
            names = pa.array([ids[one] for one in rows["id"].to_pylist()])
            for column in ("id", "image"):
                place = rows.column_names.index(column)
                rows = rows.set_column(place, column, names)
            self.merge_table(rows.drop_columns("_rowid").cast(self.table.schema), insert=True)
            self._delete(places)

    def remove(self, where: str) -> int:
        """Delete rows for good: no data file, index, transaction or old version holds them after.

        LanceDB only marks deleted rows, so the other rows of their data files are written again
        first. The indexes are dropped, to be built again. What an interruption leaves, the same
        call finishes.

        Returns:
            How many rows were deleted.
        """
        where = with_times(where)
        with self.writing():
            places = [row["_rowid"] for row in self.rows(["_rowid"], where)]
            if places:
                for index in self.table.list_indices():
                    self.table.drop_index(index.name)
                for fragment in sorted({place >> _FRAGMENT_BITS for place in places}):
                    self._rewrite(fragment, f"({where}) is not true")
                self._delete(places)
            self._optimize(timedelta(0))
        return len(places)

    def _delete(self, places: Sequence[int]) -> None:
        # By place: a condition would be kept in the transaction, with the ids that it names.
        for start in range(0, len(places), _MERGED):
            some = ", ".join(map(str, places[start : start + _MERGED]))
            self.table.delete(f"_rowid in ({some})")

    def _rewrite(self, fragment: int, where: str) -> None:
        """Write rows of a fragment again, into another one."""
        first = fragment << _FRAGMENT_BITS
        held = f"{where} and _rowaddr between {first} and {first + (1 << _FRAGMENT_BITS) - 1}"
        while True:
            query = self.table.search().where(held).select(list(self.columns)).limit(_MERGED)
            rows = query.to_arrow()
            if not rows.num_rows:
                return
            self.merge_table(rows.cast(self.table.schema))

    def compact(self) -> None:
        """Join small files, bring new rows into the indexes, and drop versions of an hour ago."""
        with self.writing():
            self._optimize(_KEPT_REMOTE if self._is_remote else _KEPT)

    def _optimize(self, keep: timedelta) -> None:
        # In object storage another writer's files may not be committed yet.
        alone = not self._is_remote
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.table.optimize(cleanup_older_than=keep, delete_unverified=alone and not keep)

    def replace(self, name: str, table: Any) -> None:
        """Write a whole side table."""
        with self.writing():
            mode = "overwrite" if self._has_table(name) else "create"
            self._database.create_table(name, table, mode=mode)

    def side_table(self, name: str) -> Any | None:
        """A side table, Arrow; None if there is none."""
        return self._database.open_table(name).to_arrow() if self._has_table(name) else None

    def size(self) -> int:
        """Bytes of all its files; 0 where that is not known: in memory, in object storage."""
        return sum(one.stat().st_size for one in Path(self.path).rglob("*") if one.is_file())

    def _has_table(self, name: str) -> bool:
        return name in self._database.list_tables().tables


def _plain(error: Exception) -> str:
    """What LanceDB says, without the places in its source code and its list of names."""
    text = reason_of(error).partition(", /")[0].partition(". Valid fields")[0]
    return text.removeprefix("Invalid input, ")[:300]
