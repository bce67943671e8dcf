"""A gallery on disk or in object storage that grows, is searched and forgets: a LanceDB database.

A store is a folder whose name ends in ``.lance``. Its tables: ``crops``, a row for each picture,
``measured``, what the vector index was measured to find, and ``journeys`` once it was linked. One
process writes at a time, by a lock in the folder; object storage has none, and LanceDB's own
conflict rules apply.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import MultiTaskNetError, import_extra
from ..files import make_folder, reading, reason_of, replacing, writing
from ..inference.origin import EmbeddingOrigin
from ..vehicle.keypoints import NUM_KEYPOINTS
from .conditions import any_of, quoted, typed
from .index import GalleryIndex

if TYPE_CHECKING:
    from ..inference.predictor import Prediction

logger = logging.getLogger(__name__)

SUFFIX = ".lance"
EXTRA = "city"
CROPS = "crops"
JOURNEYS = "journeys"
# Rows that are committed at once: what an interruption can cost.
BATCH = 1000
_FORMAT = 1
_META = "multitasknet"
_ORIGIN = ("weights_sha256", "variant", "precision", "preprocessing")
_SIDES = ("input_height", "input_width")
_ROWS_READ = 8192
_MERGED = 50_000
# Rows of one fragment have addresses with its number in the upper half.
_FRAGMENT_BITS = 32


class StoreError(MultiTaskNetError, ValueError):
    """A store, or a question to one, that cannot be used; names it and the remedy."""


@dataclass(frozen=True)
class NewRow:
    """A picture to be stored, without what the network says of it.

    Attributes:
        id, image, camera, time: as in :class:`.gallery.GalleryRow`.
        fingerprint: sha256 of the picture's bytes and the keypoints given with it.
        width, height: of the picture.
        more: the user's own columns.
    """

    id: str
    image: str
    camera: str
    time: datetime | None
    fingerprint: bytes
    width: int
    height: int
    more: Mapping[str, object]


def is_store(path: str | Path) -> bool:
    """Whether a path names a store, there or not."""
    return str(path).rstrip("/").endswith(SUFFIX)


def check_name(path: str | Path) -> None:
    """StoreError for a name that no store can have; MissingExtraError without LanceDB."""
    if not is_store(path):
        raise StoreError(f"{path}: a store's name ends in {SUFFIX}; call it {path}{SUFFIX}")
    import_extra("lancedb", EXTRA)


class GalleryStore:
    """A store that exists; any number of threads may share it.

    Raises:
        StoreError: there is none, it is damaged, or of another format.
        MissingExtraError: LanceDB is not installed.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = str(path)
        with reading(
            path, StoreError, "this is no gallery store, or a damaged one", "make it anew"
        ):
            self._database = _connect(self.path)
            if not _has_table(self._database, CROPS):
                raise StoreError(
                    f"{path}: there is no gallery store; make one with 'gallery add {path} IMAGES'"
                )
            self.table = self._database.open_table(CROPS)
            meta = json.loads((self.table.schema.metadata or {})[_META.encode()].decode())
            found = meta["format"]
            if found == _FORMAT:
                self.color_names = tuple(map(str, meta["colors"]))
                self.type_names = tuple(map(str, meta["types"]))
        if found != _FORMAT:
            raise StoreError(
                f"{path}: the store is of format {found}, this version reads {_FORMAT}; add its "
                f"pictures to a new store, or use the version of multitasknet that made it"
            )

    @classmethod
    def create(
        cls,
        path: str | Path,
        *,
        width: int,
        colors: Sequence[str] = (),
        types: Sequence[str] = (),
    ) -> GalleryStore:
        """Open a store, or make one for embeddings ``[width]``; OutputError if it cannot be."""
        check_name(path)
        if not _is_remote(str(path)):
            make_folder(Path(path))
        with _writing_alone(str(path)):
            database = _connect(str(path))
            if not _has_table(database, CROPS):
                with writing(Path(path)):
                    database.create_table(CROPS, schema=_schema(width, colors, types))
        return cls(path)

    def __len__(self) -> int:
        return self.table.count_rows()

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(self.table.schema.names)

    @property
    def width(self) -> int:
        """Of an embedding."""
        return self.table.schema.field("embedding").type.list_size

    def count(self, where: str | None = None) -> int:
        """The rows that an SQL condition keeps; StoreError if it is none."""
        with self.asking(where):
            return self.table.count_rows(where and typed(where))

    def read(
        self, columns: Sequence[str], where: str | None = None, *, rows: int = _ROWS_READ
    ) -> Iterator[Any]:
        """Arrow record batches of some columns; StoreError for a condition that is none."""
        query = self.table.search().select(list(columns))
        with self.asking(where):
            yield from (query.where(typed(where)) if where else query).to_batches(rows)

    def answer(self, search: Any, where: str | None) -> Any:
        """What a vector search under a condition finds, Arrow; StoreError as above."""
        with self.asking(where):
            return (search.where(typed(where), prefilter=True) if where else search).to_arrow()

    @contextmanager
    def asking(self, where: str | None) -> Iterator[None]:
        """Turn what LanceDB says of a condition into an error that names the columns."""
        try:
            yield
        # A panic of its Rust is of a class that cannot be imported.
        except Exception as error:
            if where is None:
                raise StoreError(
                    f"{self.path}: the store cannot be read ({reason_of(error)[:300]})"
                ) from error
            raise StoreError(
                f"the condition {where[:200]!r} cannot be used ({_plain(error)}); write SQL such "
                f"as camera = '3' and time > timestamp '2026-11-01', of the columns "
                f"{', '.join(self.columns)}"
            ) from error

    def known(self, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Of those of the ids that are stored ``camera``, ``time``, ``more``, ``fingerprint`` and
        ``origin``."""
        more = [name for name in self.columns if name not in own_columns()]
        columns = ["id", "camera", "time", "fingerprint", *_ORIGIN, *_SIDES, *more]
        rows = (
            row
            for batch in (self.read(columns, any_of("id", ids)) if ids else ())
            for row in batch.to_pylist()
        )
        return {
            row["id"]: {name: row[name] for name in ("camera", "time", "fingerprint")}
            | {"origin": _origin_in(row), "more": {name: row[name] for name in more}}
            for row in rows
        }

    def correct(self, rows: Sequence[Mapping[str, object]]) -> None:
        """Write some columns of rows that are there, each with its id; all of the same columns."""
        if not rows:
            return
        with self.writing():
            self._add_columns(rows)
            kinds = self.table.schema
            names = list(dict.fromkeys(name for row in rows for name in row))
            self._merge(
                self._arrow_rows(rows, _arrow().schema([kinds.field(one) for one in names]))
            )

    def origins(self) -> dict[EmbeddingOrigin, int]:
        """What made the rows, and how many each."""
        counts: Counter[EmbeddingOrigin] = Counter()
        columns = [*_ORIGIN, *_SIDES]
        for batch in self.read(columns):
            rows = _arrow().Table.from_batches([batch])
            for row in rows.group_by(columns).aggregate([([], "count_all")]).to_pylist():
                counts[_origin_in(row)] += row["count_all"]
        return dict(counts)

    def other_origin(self, origin: EmbeddingOrigin) -> str:
        """The condition for rows of any other origin."""
        facts = _facts_of(origin)
        same = " and ".join(f"{name} = {quoted(value)}" for name, value in facts.items())
        return f"not ({same})"

    def check_origin(self, origin: EmbeddingOrigin) -> None:
        """StoreError unless all rows are of one origin, which can be compared with others of it."""
        others = self.read([*_ORIGIN, *_SIDES], self.other_origin(origin), rows=1)
        row = next((row for batch in others for row in batch.to_pylist()), None)
        if row is None:
            return
        other = _origin_in(row)
        raise StoreError(
            f"{self.path}: rows of the store were made by another network "
            f"({other.differences(origin)}); use those weights, or bring the store to the new ones "
            f"with 'gallery add {self.path} --reembed'"
        )

    def commit(
        self,
        rows: Sequence[tuple[NewRow, Prediction]],
        origin: EmbeddingOrigin,
        *,
        reembed: bool = False,
    ) -> None:
        """Store rows, all or none; those of ids that are there are replaced.

        Raises:
            StoreError: rows of another origin are there, unless ``reembed``.
            OutputError: they cannot be written.
        """
        if not rows:
            return
        with self.writing():
            if not reembed:
                self.check_origin(origin)
            facts = _facts_of(origin)
            records = [
                {**row.more, **self._said(prediction), **_own(row), **facts}
                for row, prediction in rows
            ]
            self._add_columns([row.more for row, _ in rows])
            self._merge(self._arrow_rows(records, self.table.schema), insert=True)

    def writing(self) -> AbstractContextManager[None]:
        """Hold the store's lock; whoever writes waits for it."""
        return _writing_alone(self.path)

    def replace(self, name: str, table: Any) -> None:
        """Write a whole side table."""
        with self.writing(), writing(Path(self.path)):
            self._database.create_table(name, table, mode="overwrite")

    def side_table(self, name: str) -> Any | None:
        """A side table, Arrow; None if there is none."""
        if not _has_table(self._database, name):
            return None
        return self._database.open_table(name).to_arrow()

    def update(self, table: Any) -> None:
        """Write the columns of an Arrow table with ids into rows that are there."""
        with self.writing():
            for start in range(0, table.num_rows, _MERGED):
                self._merge(table.slice(start, _MERGED))

    def remove(self, where: str) -> int:
        """Delete rows for good: neither data files nor indexes nor old versions hold them after.

        LanceDB only marks deleted rows, so the other rows of their data files are written again
        first. The indexes and the journeys are dropped: they are to be made anew. What an
        interruption leaves, the same call finishes.

        Returns:
            How many rows were deleted.
        """
        count = self.count(where)
        with self.writing(), writing(Path(self.path)):
            if count:
                self._remove(typed(where))
            self._optimize()
        return count

    def _remove(self, where: str) -> None:
        fragments = {
            int(address) >> _FRAGMENT_BITS
            for batch in self.read(["_rowaddr"], where)
            for address in batch["_rowaddr"].to_numpy()
        }
        for index in self.table.list_indices():
            self.table.drop_index(index.name)
        self._database.drop_table(JOURNEYS, ignore_missing=True)
        for fragment in sorted(fragments):
            self._rewrite(fragment, f"({where}) is not true")
        self.table.delete(where)

    def compact(self) -> None:
        """Join small files, bring new rows into the indexes, and drop old versions."""
        with self.writing(), writing(Path(self.path)):
            self._optimize()

    def size(self) -> int:
        """Bytes of all its files; 0 where that cannot be told, of object storage."""
        return sum(one.stat().st_size for one in Path(self.path).rglob("*") if one.is_file())

    def export(self, target: Path, where: str | None = None) -> int:
        """Write rows as ``.parquet``, or as an ``.npz`` that :class:`.GalleryIndex` reads.

        Returns:
            How many rows were written.

        Raises:
            StoreError: another ending, or no rows.
            OutputError: the file cannot be written.
        """
        if target.suffix not in (".parquet", ".npz"):
            raise StoreError(f"{target}: expected a name that ends in .parquet or .npz")
        count = self.count(where)
        if not count:
            raise StoreError(f"{self.path}: no row is to be exported; give another condition")
        if target.suffix == ".npz":
            self._as_index(where).save(target)
            return count
        parquet = import_extra("pyarrow.parquet", EXTRA)
        with replacing(target) as part, parquet.ParquetWriter(part, self.table.schema) as writer:
            for batch in self.read(self.columns, where):
                writer.write_batch(batch.cast(self.table.schema))
        return count

    def _as_index(self, where: str | None) -> GalleryIndex:
        origins = self.origins()
        if len(origins) > 1:
            raise StoreError(
                f"{self.path}: rows of several networks do not go into one .npz; finish "
                f"'gallery add --reembed', or export Parquet"
            )
        batches = list(self.read(["image", "embedding"], where))
        return GalleryIndex(
            names=tuple(name for batch in batches for name in batch["image"].to_pylist()),
            embeddings=np.concatenate([vectors(batch["embedding"]) for batch in batches]),
            origin=next(iter(origins)),
        )

    def _rewrite(self, fragment: int, where: str) -> None:
        """Write rows of a fragment again, into another one."""
        first = fragment << _FRAGMENT_BITS
        held = f"{where} and _rowaddr between {first} and {first + (1 << _FRAGMENT_BITS) - 1}"
        while True:
            query = self.table.search().where(held).select(list(self.columns)).limit(_MERGED)
            rows = query.to_arrow()
            if not rows.num_rows:
                return
            self._merge(rows.cast(self.table.schema))

    def _merge(self, rows: Any, *, insert: bool = False) -> None:
        merge = self.table.merge_insert("id").when_matched_update_all()
        with writing(Path(self.path)):
            (merge.when_not_matched_insert_all() if insert else merge).execute(rows)

    def _optimize(self) -> None:
        # In object storage another writer's files may not be committed yet.
        alone = not _is_remote(self.path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.table.optimize(
                cleanup_older_than=timedelta(0) if alone else timedelta(days=1),
                delete_unverified=alone,
            )

    def _add_columns(self, rows: Sequence[Mapping[str, object]]) -> None:
        pyarrow = _arrow()
        new: dict[str, list[object]] = {}
        for row in rows:
            for name in row.keys() - set(self.columns):
                new.setdefault(name, []).append(row[name])
        fields = []
        for name, values in new.items():
            kind = pyarrow.array(values).type
            kind = pyarrow.string() if pyarrow.types.is_null(kind) else kind
            fields.append(pyarrow.field(name, kind))
        if fields:
            with writing(Path(self.path)):
                self.table.add_columns(fields)

    def _arrow_rows(self, records: Sequence[Mapping[str, Any]], schema: Any) -> Any:
        arrays = []
        for field in schema:
            problem = f"the store {self.path} keeps {field.type} there, which new values do not fit"
            remedy = "mend the values, or name the new column otherwise"
            with reading(f"column {field.name}", StoreError, problem, remedy):
                arrays.append(_column([row.get(field.name) for row in records], field.type))
        return _arrow().Table.from_arrays(arrays, schema=schema)

    def _said(self, prediction: Prediction) -> dict[str, object]:
        pose = prediction.pose
        return {
            "pose_origin": pose.origin,
            "pose_confidence": pose.confidence,
            "keypoints": pose.keypoints.ravel(),
            "color": prediction.color or "",
            "color_probability": prediction.color_probability,
            "color_probabilities": _ordered(prediction.color_probabilities, self.color_names),
            "type": prediction.type or "",
            "type_probability": prediction.type_probability,
            "type_probabilities": _ordered(prediction.type_probabilities, self.type_names),
            "embedding": prediction.embedding,
        }


def own_columns() -> set[str]:
    """The columns that any store has."""
    return set(_schema(1, ["red"], ["van"]).names)


def vectors(column: Any) -> np.ndarray:
    """A column of fixed-size lists as float32 ``[N, D]``."""
    width = column.type.list_size
    return column.flatten().to_numpy(zero_copy_only=False).reshape(-1, width).astype(np.float32)


def _connect(path: str) -> Any:
    lancedb = import_extra("lancedb", EXTRA)
    # Other processes' commits are seen at once.
    return lancedb.connect(path, read_consistency_interval=timedelta(0))


def _has_table(database: Any, name: str) -> bool:
    return name in database.list_tables().tables


def _is_remote(path: str) -> bool:
    return "://" in path


@contextmanager
def _writing_alone(path: str) -> Iterator[None]:
    from filelock import FileLock

    if _is_remote(path):
        yield
        return
    with writing(Path(path)):
        lock = FileLock(Path(path, ".lock"))
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _arrow() -> Any:
    return import_extra("pyarrow", EXTRA)


def _schema(width: int, colors: Sequence[str], types: Sequence[str]) -> Any:
    pa = _arrow()

    def halves(count: int) -> Any:
        return pa.list_(pa.float16(), count)

    columns = {
        "id": pa.string(),
        "image": pa.string(),
        "camera": pa.string(),
        "time": pa.timestamp("us"),
        "width": pa.int32(),
        "height": pa.int32(),
        "pose_origin": pa.string(),
        "pose_confidence": pa.float32(),
        "keypoints": halves(3 * NUM_KEYPOINTS),
        "color": pa.string(),
        "color_probability": pa.float32(),
        "color_probabilities": halves(len(colors)) if colors else None,
        "type": pa.string(),
        "type_probability": pa.float32(),
        "type_probabilities": halves(len(types)) if types else None,
        "vehicle": pa.int64(),
        "embedding": halves(width),
        "fingerprint": pa.binary(32),
        "weights_sha256": pa.string(),
        "variant": pa.string(),
        "input_height": pa.int32(),
        "input_width": pa.int32(),
        "precision": pa.string(),
        "preprocessing": pa.int32(),
    }
    meta = {"format": _FORMAT, "colors": list(colors), "types": list(types)}
    fields = [pa.field(name, kind) for name, kind in columns.items() if kind is not None]
    return pa.schema(fields, metadata={_META: json.dumps(meta)})


def _own(row: NewRow) -> dict[str, object]:
    return {name: value for name, value in vars(row).items() if name != "more"}


def _facts_of(origin: EmbeddingOrigin) -> dict[str, object]:
    height, width = origin.input_size
    facts: dict[str, object] = {name: getattr(origin, name) for name in _ORIGIN}
    return facts | {"input_height": height, "input_width": width}


def _origin_in(row: Mapping[str, Any]) -> EmbeddingOrigin:
    facts = {name: row[name] for name in _ORIGIN}
    return EmbeddingOrigin(input_size=(row["input_height"], row["input_width"]), **facts)


def _ordered(probabilities: Mapping[str, float], names: Sequence[str]) -> np.ndarray | None:
    return np.array([probabilities[name] for name in names]) if probabilities else None


def _column(values: list[Any], kind: Any) -> Any:
    pa = _arrow()
    if not pa.types.is_fixed_size_list(kind) or any(value is None for value in values):
        return pa.array(values, kind)
    with np.errstate(over="ignore"):
        flat = np.concatenate(values).astype(np.float16)
    if not np.isfinite(flat).all():
        raise ValueError("a number that float16 cannot hold")
    if len(flat) != len(values) * kind.list_size:
        raise ValueError(f"{len(flat) // len(values)} values; expected {kind.list_size}")
    return pa.FixedSizeListArray.from_arrays(pa.array(flat, pa.float16()), kind.list_size)


def _plain(error: Exception) -> str:
    """What LanceDB says, without the places in its own source that it adds."""
    text = reason_of(error).partition(", /")[0].partition(". Valid fields")[0]
    return text.removeprefix("Invalid input, ")[:300]
