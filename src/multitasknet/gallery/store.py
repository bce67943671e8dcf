"""The table of a gallery: its columns, and LanceDB on disk, in object storage or in memory.

A store is a folder whose name ends in ``.lance``, with a table ``crops``. One process writes at a
time, by a lock in the folder; elsewhere the primary key makes two writers of one id conflict.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from datetime import datetime, timedelta
from pathlib import Path
from threading import RLock
from typing import Any, TypeVar

import lancedb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from filelock import FileLock

from ..data.boxes import CORNERS
from ..data.text import utc
from ..errors import GalleryError
from ..files import make_folder, reading, reason_of, writing
from ..inference.prediction import EmbeddingOrigin
from ..vehicle.keypoints import NUM_KEYPOINTS
from .rows import any_of, quoted, with_times

logger = logging.getLogger(__name__)

T = TypeVar("T")

SUFFIX = ".lance"
MEMORY = "memory://"
# What :meth:`Store.keep` calls the rates of strangers.
RATES = "rates"
_CROPS = "crops"
_EMBEDDING = "embedding"
_BATCH = 8192
# Largest whole number that decimals hold, with all below it.
_WHOLE = 1 << 53
# How long compacting keeps old versions, which others may be reading.
_KEPT, _KEPT_REMOTE = timedelta(hours=1), timedelta(days=1)
# Not 0, at which LanceDB warns.
_GONE = timedelta(milliseconds=1)
_TRIES = 5

META = b"multitasknet"
FORMAT = 3
# LanceDB's own names begin with an underscore, and a dot is a field of a struct.
_NAME = re.compile(r"[^\W\d_][\w -]*")
_KEY = {"lance-schema:unenforced-primary-key": "true"}
_NUMBERS = (pa.int64(), pa.float64())
_KINDS = (*_NUMBERS, pa.bool_(), pa.string(), pa.timestamp("us"), pa.date32())


def is_store(path: str | Path) -> bool:
    """Whether a path names a store, present or not."""
    return str(path).rstrip("/").endswith(SUFFIX)


def table_schema(width: int, colors: Sequence[str], types: Sequence[str]) -> Any:
    """The columns that every gallery has, for embeddings ``[width]`` and these classes."""

    def vector(count: int) -> Any:
        return pa.list_(pa.float16(), count)

    columns = {
        "image": pa.string(),
        "box": pa.list_(pa.float32(), len(CORNERS)),  # null is the whole image
        "camera": pa.string(),
        "time": pa.timestamp("us"),
        "track": pa.string(),  # its name, empty for none
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
        "pinned": pa.int64(),  # the vehicle that someone gave it by hand, which linking keeps
        "embedding": vector(width),
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
    """GalleryError for names of own columns that LanceDB, or those stored, leave no room."""
    taken = {name.casefold() for name in (*OWN_COLUMNS, *CORNERS, *stored)}
    for name in names:
        if not _NAME.fullmatch(name):
            raise GalleryError(
                f"{name!r} cannot name a column; expected a letter, then letters, digits, "
                f"underscores, spaces or hyphens"
            )
        if name.casefold() in taken:
            raise GalleryError(f"there is a column {name!r} already; give yours another name")
        taken.add(name.casefold())


def own_types(rows: Iterable[Mapping[str, object]], stored: Any) -> dict[str, Any]:
    """The Arrow type of each own column of rows, for all values given and all that are stored.

    Whole numbers become decimals where both come together, numbers text where text is stored.
    GalleryError for a name that cannot be stored, or values of several types.
    """
    given: dict[str, list[object]] = {}
    for row in rows:
        for name, value in row.items():
            if value is not None:
                given.setdefault(name, []).append(own_value(value))
    check_names([name for name in given if name not in stored.names], stored.names)
    types, expected = {}, "expected text, numbers, booleans or times, all of one kind"
    for name, values in given.items():
        with reading(f"column {name}", GalleryError, "it cannot be stored", expected):
            kind = pa.array(values).type
            if kind not in _KINDS:
                raise ValueError(str(kind))
            if name in stored.names:
                kind = _common(stored.field(name).type, kind)
                pa.array([own_value(one, kind) for one in values], kind)  # too large a number
            types[name] = kind
    return types


def _common(stored: Any, given: Any) -> Any:
    if stored == pa.string() and given in _NUMBERS:
        return stored
    both = [pa.schema({"": one}) for one in (stored, given)]
    return pa.unify_schemas(both, promote_options="permissive").field("").type


def own_value(value: object, kind: Any | None = None) -> object:
    """A value as a column of that type keeps it."""
    if kind == pa.string() and value is not None:
        return str(value)
    return utc(value) if isinstance(value, datetime) else value


class Store:
    """The rows of a gallery as a table; any number of threads may share it.

    Args:
        path: of a store that exists, or :data:`MEMORY` with a schema.
        schema: of :func:`table_schema`, to make the table where it is missing.

    Attributes:
        table: LanceDB's.
        width: of an embedding.
        color_names, type_names: the classes, in the order of the probabilities.

    GalleryError: nothing is there, it is damaged, or of another format; OutputError.
    """

    def __init__(self, path: str | Path, schema: Any | None = None) -> None:
        self.path = str(path)
        if not is_store(path) and path != MEMORY:
            raise GalleryError(f"{path}: a store's name ends in {SUFFIX}; call it {path}{SUFFIX}")
        if schema is not None and not self._is_remote:
            make_folder(Path(path))
        nothing = GalleryError(
            f"{path}: there is no gallery; make one with 'multitasknet gallery add {path} IMAGES'"
        )
        if not self._is_remote and not Path(path).exists():  # LanceDB would make the folder
            raise nothing
        # Taken by each thread in turn, and within itself.
        self._threads, self._lock = RLock(), FileLock(Path(path, ".lock"), thread_local=False)
        damaged = "this is not a gallery, or a damaged one"
        with reading(path, GalleryError, damaged, "make it again"):
            # Commits of other processes are seen at once.
            database = lancedb.connect(self.path, read_consistency_interval=timedelta(0))
            if schema is not None:
                with self.writing():
                    if _CROPS not in database.list_tables().tables:
                        database.create_table(_CROPS, schema=schema)
            if _CROPS not in database.list_tables().tables:
                raise nothing
            self.table = database.open_table(_CROPS)
            meta = json.loads(self.table.schema.metadata[META])
            if (found := meta["format"]) != FORMAT:
                raise GalleryError(
                    f"{path}: a gallery of format {found}, expected {FORMAT}; add its pictures to "
                    f"a new one"
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
        """Keep what was measured of the rows with them, as JSON."""
        with self.writing():
            metadata = {name: json.dumps(value)}
            self.table.update_field_metadata({"path": _EMBEDDING, "metadata": metadata})

    def size(self) -> int:
        """Bytes of all its files; 0 where that is not known: in memory, in object storage."""
        return sum(one.stat().st_size for one in Path(self.path).rglob("*") if one.is_file())

    def condition(self, where: str | None) -> str | None:
        """The condition as LanceDB takes it; GalleryError for text that is not a time."""
        times = (one.name for one in self.table.schema if pa.types.is_timestamp(one.type))
        return with_times(where, times) if where else None

    def count(self, where: str | None = None) -> int:
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
        """What LanceDB answers, asked again if a writer has dropped the version that was read.

        GalleryError in its words, such as for a condition that it cannot use.
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
        """Make room for all rows' own columns, or change nothing; their types. GalleryError."""
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
        """Write columns of rows, dictionaries or Arrow, into those of the same id, all or none.

        Those of other ids are new ones with all columns where ``insert``, else left out.
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
        """Give a few rows, by their ids, another id and image, all or none."""
        with self.writing():
            rows = pa.Table.from_batches(self.read(self.columns, any_of("id", names)))
            new = zip(*(names[one] for one in rows["id"].to_pylist()), strict=True)
            for column, values in zip(("id", "image"), new, strict=True):
                place = rows.schema.get_field_index(column)
                rows = rows.set_column(place, column, pa.array(values))
            merge = self.table.merge_insert("id").when_matched_update_all()
            merge = merge.when_not_matched_insert_all()
            merge = merge.when_not_matched_by_source_delete(any_of("id", names))
            merge.execute(rows.cast(self.table.schema))

    def remove(self, where: str) -> int:
        """Delete rows for good: no data file, index, transaction or old version holds them after.

        LanceDB only marks deleted rows, so all others are written again, without the indexes. What
        an interruption leaves, the same call finishes. In object storage no one may write
        meanwhile. Returns how many were deleted.
        """
        with self.writing():
            if count := self.count(where):
                self.keep(RATES, None)
                self._rewrite(self.table.schema, f"({where}\n) is not true")
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
