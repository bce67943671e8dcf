"""The table of a gallery: LanceDB on disk, in object storage or in memory.

A store is a folder whose name ends in ``.lance``, with a table ``crops``, a row for each picture.
One process writes at a time, by a lock in the folder; in object storage the table's primary key
makes two writers of one id conflict.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from datetime import timedelta
from pathlib import Path
from threading import RLock
from typing import Any, TypeVar

import lancedb
import numpy as np
import pyarrow as pa
from filelock import FileLock

from ..errors import GalleryError
from ..files import make_folder, reading, reason_of, writing
from ..inference.prediction import EmbeddingOrigin
from .columns import FORMAT, META, origin_in, origin_text, own_types, vectors, without_rates
from .rows import GalleryFilter, any_of, quoted, with_times

logger = logging.getLogger(__name__)

T = TypeVar("T")

SUFFIX = ".lance"
MEMORY = "memory://"
_CROPS = "crops"
_EMBEDDING = "embedding"
_BATCH = 8192
# Largest whole number that decimals hold, with all below it.
_WHOLE = 1 << 53
# How long compacting keeps old versions, which others may be reading.
_KEPT = timedelta(hours=1)
_KEPT_REMOTE = timedelta(days=1)
# Not 0, at which LanceDB warns.
_GONE = timedelta(milliseconds=1)
_TRIES = 5


def is_store(path: str | Path) -> bool:
    """Whether a path names a store, present or not."""
    return str(path).rstrip("/").endswith(SUFFIX)


class Store:
    """The rows of a gallery as a table; any number of threads may share it.

    Args:
        path: of a store that exists, or :data:`MEMORY` with a schema.
        schema: of :func:`.table_schema`, to make the table where it is missing.

    Attributes:
        table: LanceDB's.
        width: of an embedding.
        color_names, type_names: the classes, in the order of the probabilities.

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
        damaged = "this is not a gallery, or a damaged one"
        with reading(path, GalleryError, damaged, "make it again"):
            # Commits of other processes are seen at once.
            database = lancedb.connect(self.path, read_consistency_interval=timedelta(0))
            if schema is not None:
                with self.writing():
                    if not _has_crops(database):
                        database.create_table(_CROPS, schema=schema)
            if not _has_crops(database):
                raise GalleryError(
                    f"{path}: there is no gallery; make one with 'multitasknet gallery add {path} "
                    f"IMAGES'"
                )
            self.table = database.open_table(_CROPS)
            meta = json.loads(self.table.schema.metadata[META])
            if (found := meta["format"]) != FORMAT:
                raise GalleryError(
                    f"{path}: a gallery of format {found}, expected {FORMAT}; add its pictures to "
                    f"a new one, or use the version of multitasknet that made it"
                )
            self.color_names, self.type_names = tuple(meta["colors"]), tuple(meta["types"])
            self.width = self.table.schema.field(_EMBEDDING).type.list_size

    def __len__(self) -> int:
        return self.table.count_rows()

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(self.table.schema.names)

    @property
    def _is_remote(self) -> bool:
        return "://" in self.path

    def kept(self, name: str) -> Any:
        """What :meth:`keep` kept under a name; None if there is nothing, or it is damaged."""
        text = (self.table.schema.field(_EMBEDDING).metadata or {}).get(name.encode(), b"null")
        with suppress(ValueError):
            return json.loads(text)
        return None

    def keep(self, name: str, value: object) -> None:
        """Keep what was measured of the rows with them, as JSON, until they are written again."""
        with self.writing():
            metadata = {name: json.dumps(value)}
            self.table.update_field_metadata({"path": _EMBEDDING, "metadata": metadata})

    def size(self) -> int:
        """Bytes of all its files; 0 where that is not known: in memory, in object storage."""
        return sum(one.stat().st_size for one in Path(self.path).rglob("*") if one.is_file())

    def condition(self, where: GalleryFilter | str | None) -> str | None:
        """The condition as LanceDB takes it; GalleryError for text that is not a time."""
        where = where.condition if isinstance(where, GalleryFilter) else where
        if not where:
            return where
        times = (one.name for one in self.table.schema if pa.types.is_timestamp(one.type))
        return with_times(where, times)

    def count(self, where: GalleryFilter | str | None = None) -> int:
        """The rows that a condition keeps; GalleryError if it cannot be used."""
        where = self.condition(where)
        return self.answer(lambda: self.table.count_rows(where), where)

    def read(
        self, columns: Sequence[str], where: str | None = None, *, rows: int = _BATCH
    ) -> Iterator[Any]:
        """Arrow record batches of some columns, all of one version; errors as :meth:`count`."""
        where = self.condition(where)

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

    def embeddings(self, query: Any) -> np.ndarray:
        """Of the rows that a query of LanceDB takes, float32 ``[N, D]``."""
        return vectors(self.answer(query.select([_EMBEDDING]).to_arrow, None)[_EMBEDDING])

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
        # Without the places in its source code and its list of names.
        words = reason_of(error).partition(", /")[0].partition(". Valid fields")[0]
        words = words.removeprefix("Invalid input, ")[:300]
        if where is None:
            return GalleryError(
                f"{self.path}: the gallery cannot be read ({words}); if rows were removed "
                f"meanwhile, try again"
            )
        return GalleryError(
            f"the condition {where[:200]!r} cannot be used ({words}); write SQL such as "
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

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the store's lock, and turn what keeps it from being written into OutputError."""
        lock = nullcontext() if self._is_remote else self._lock
        with self._threads, writing(Path(self.path)), lock:
            yield

    def add_columns(self, rows: Sequence[Mapping[str, object]]) -> dict[str, Any]:
        """Make room for all rows' own columns, or change nothing; the type of each column.

        Raises:
            GalleryError: a name or value that cannot be stored; names the column.
        """
        with self.writing():
            schema = self.table.schema
            types = own_types(rows, schema)
            new = [pa.field(name, kind) for name, kind in types.items() if name not in schema.names]
            fields = [one.with_type(types.get(one.name, one.type)) for one in schema]
            wider = [one.name for one in fields if one.type != schema.field(one.name).type]
            for name in wider:
                if self.count(f"abs(`{name}`) > {_WHOLE}"):
                    raise GalleryError(
                        f"column {name}: a stored number is too large beside decimals; give the "
                        f"new column another name"
                    )
            if wider:  # LanceDB alters no numbers of one kind into another.
                self._rewrite(pa.schema(fields, schema.metadata))
            if new:
                self.table.add_columns(new)
        return types

    def merge(self, rows: Any, *, insert: bool = False) -> None:
        """Write columns of rows into those of the same id, all or none; others are new or left.

        Args:
            rows: dictionaries, or an Arrow table; of the same columns each.
            insert: whether rows of other ids are new ones, which have all columns.
        """
        if not isinstance(rows, pa.Table):
            schema = self.table.schema
            if not insert:
                schema = pa.schema([field for field in schema if field.name in rows[0]])
            with reading(self.path, GalleryError, "a row cannot be stored", "correct its values"):
                rows = pa.Table.from_pylist(rows, schema=schema)
        with self.writing():
            merge = self.table.merge_insert("id").when_matched_update_all()
            (merge.when_not_matched_insert_all() if insert else merge).execute(rows)

    def rename(self, names: Mapping[str, tuple[str, str]]) -> None:
        """Give a few rows, by their ids, another id and image."""
        with self.writing():
            held = pa.Table.from_batches(self.read(["_rowid", *self.columns], any_of("id", names)))
            rows = held.drop_columns(["_rowid", "id", "image"])
            ids, images = zip(*(names[one] for one in held["id"].to_pylist()), strict=True)
            rows = rows.append_column("id", [ids]).append_column("image", [images])
            schema = self.table.schema
            self.merge(rows.select(schema.names).cast(schema), insert=True)
            # By place: a condition would be kept in the transaction, with the ids that it names.
            self.table.delete(any_of("_rowid", held["_rowid"].to_pylist()))

    def remove(self, where: str) -> int:
        """Delete rows for good: no data file, index, transaction or old version holds them after.

        LanceDB only marks deleted rows, also the old ones of rows that were corrected, so all other
        rows are written again, without the indexes. What an interruption leaves, the same call
        finishes. In object storage no one may write meanwhile.

        Returns:
            How many rows were deleted.
        """
        with self.writing():
            if count := self.count(where):
                self._rewrite(without_rates(self.table.schema), f"({where}) is not true")
            # In object storage another writer's files may not be committed yet.
            alone = not self._is_remote
            self.table.optimize(cleanup_older_than=_GONE, delete_unverified=alone)
        return count

    def _rewrite(self, schema: Any, where: str | None = None) -> None:
        """Make the rows that a condition keeps all there are, in one commit, without indexes."""
        version, indexes = self.table.version, list(self.table.list_indices())
        batches = (one.cast(schema) for one in self.read(schema.names, where))
        self.table.add(pa.RecordBatchReader.from_batches(schema, batches), mode="overwrite")
        if self.table.version != version + 1:
            raise GalleryError(
                f"{self.path}: another process has added rows meanwhile, which are lost; add them "
                f"again"
            )
        if indexes:
            logger.warning("%s: its indexes are gone; 'gallery index' makes them", self.path)

    def compact(self) -> None:
        """Join small files, bring new rows into the indexes, and drop versions of an hour ago."""
        with self.writing():
            self.table.optimize(cleanup_older_than=_KEPT_REMOTE if self._is_remote else _KEPT)


def _has_crops(database: Any) -> bool:
    return _CROPS in database.list_tables().tables
