"""Pictures into a store: each is read once, and embedded only if it is new or has changed."""

from __future__ import annotations

import hashlib
import logging
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from tqdm import tqdm

from ..data.labels import LabelRow, Labels
from ..errors import ImageError, MultiTaskNetError, import_extra
from ..files import reading, reason_of
from ..images import find_images, picture_of, read_regular
from ..inference.origin import EmbeddingOrigin
from ..interruption import Interrupted, stop_request
from ..runtime import usable_cores
from .conditions import parse_time
from .embedding import origin_of
from .store import BATCH, EXTRA, GalleryStore, NewRow, StoreError, own_columns

if TYPE_CHECKING:
    from ..inference.predictor import Prediction, Predictor

logger = logging.getLogger(__name__)

T = TypeVar("T")
_GIVEN = ("id", "image", "camera", "time")
_SHOWN = 5


class ManifestError(MultiTaskNetError, ValueError):
    """A manifest that cannot be used; names the file, what is wrong and the remedy."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A picture to add, and what its owner knows of it; see :class:`.gallery.GalleryRow`.

    Attributes:
        more: the user's own columns.
    """

    id: str
    image: Path
    camera: str = ""
    time: datetime | None = None
    more: Mapping[str, object] = field(default_factory=dict)


@dataclass
class AddReport:
    """What became of pictures.

    Attributes:
        added: rows that are new, or were written again.
        unchanged: pictures whose rows were there.
        broken: pictures that could not be read, and why.
    """

    added: int = 0
    unchanged: int = 0
    broken: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Loaded:
    """A picture that was read: to be embedded, or why it is not.

    Attributes:
        row: None if it is not.
        problem: what kept it from being read; empty if nothing did.
    """

    entry: Entry
    row: NewRow | None = None
    pixels: np.ndarray | None = None
    keypoints: np.ndarray | None = None
    problem: str = ""


def entries_of(images: Iterable[Path]) -> list[Entry]:
    """Pictures, and all those in folders and below, each once; DataError for an empty folder."""
    found: dict[str, Entry] = {}
    for image in images:
        for path in find_images(image) if image.is_dir() else [image]:
            whole = path.absolute()
            found[str(whole)] = Entry(str(whole), whole)
    return list(found.values())


def read_manifest(path: Path) -> list[Entry]:
    """Pictures from a CSV with a header, or a Parquet file.

    Columns: ``image`` (relative ones lie beside the file), and as wanted ``id`` (the image's path
    without it), ``camera``, ``time`` (ISO 8601, or seconds since 1970; UTC if a zone is given) and
    any others, which become columns of the store.

    Raises:
        ManifestError: no such file, a damaged one, faulty times, double ids, missing pictures.
    """
    table = _read_table(path)
    taken = sorted((set(table.column_names) & own_columns()) - set(_GIVEN))
    if taken or "image" not in table.column_names:
        what = f"{taken[0]} is a column of the store itself" if taken else "no column is image"
        raise ManifestError(
            f"{path}: {what}; expected image, and as wanted id, camera, time and columns of your "
            f"own by other names"
        )
    entries = [
        _entry(path, number, row)
        for number, row in enumerate(
            (one for batch in table.to_batches() for one in batch.to_pylist()), start=1
        )
    ]
    ids = [one.id for one in entries]
    _refuse(path, "ids stand there twice", _doubles(ids), "give each row an id of its own")
    # Unlike Path's, it bears names that are too long.
    missing = (str(one.image) for one in entries if not os.path.isfile(one.image))  # noqa: PTH113
    _refuse(path, "pictures are missing", missing, "fetch them, or take their rows out")
    if not entries:
        raise ManifestError(f"{path}: there are no rows; give at least one picture")
    return entries


def stored_entries(store: GalleryStore, origin: EmbeddingOrigin) -> list[Entry]:
    """Pictures of the store whose rows are of another origin."""
    return [
        Entry(row["id"], Path(row["image"]))
        for batch in store.read(["id", "image"], store.other_origin(origin))
        for row in batch.to_pylist()
    ]


def add_pictures(
    store: GalleryStore,
    predictor: Predictor,
    entries: Sequence[Entry],
    *,
    labels: Mapping[str, LabelRow] | None = None,
    reembed: bool = False,
    progress: bool = True,
) -> AddReport:
    """Embed pictures that are new or have changed, and store them, 1,000 rows at once.

    What an earlier, interrupted call has stored is not done again. A camera, time or column that an
    entry does not give stays as it was.

    Args:
        labels: keypoints by file name.
        reembed: replace rows of another origin.

    Raises:
        StoreError: the store holds rows of another origin, unless ``reembed``.
        OutputError: the store cannot be written; what was committed stays.
        Interrupted: Ctrl-C or SIGTERM came; what was embedded is stored.
    """
    origin = origin_of(predictor)
    if not reembed:
        store.check_origin(origin)
    hidden = None if progress else True
    with (
        stop_request() as stopped,
        tqdm(desc="add", total=len(entries), unit="image", disable=hidden) as bar,
    ):
        known = Labels(labels or {})
        adding = _Adding(store, origin, known, predictor.batch_size, stopped, bar.update)
        rows: list[tuple[NewRow, Prediction]] = []
        for predictions in predictor.predict_pictures(adding.batches(entries)):
            rows += [(adding.waiting.popleft(), one) for one in predictions]
            bar.update(len(predictions))
            if len(rows) >= BATCH or stopped():
                adding.commit(rows, reembed)
                rows = []
            if stopped():
                break
        adding.commit(rows, reembed)
        if stopped():
            raise Interrupted(
                f"interrupted; {adding.report.added} pictures were added, and the same command "
                f"goes on behind them"
            )
    return adding.report


def load(
    entry: Entry,
    known: Mapping[str, Any] | None,
    keypoints: np.ndarray | None,
    origin: EmbeddingOrigin,
) -> Loaded:
    """Read a picture, and decode it unless its row is ``known`` and what it would be."""
    try:
        content = read_regular(entry.image)
        entry.id.encode()
        given = b"" if keypoints is None else keypoints.tobytes()
        fingerprint = hashlib.sha256(content + given).digest()
        if known and (known["fingerprint"], known["origin"]) == (fingerprint, origin):
            return Loaded(entry)
        pixels, _ = picture_of(content, str(entry.image)).decode()
    except UnicodeEncodeError:
        return Loaded(entry, problem="its name is not UTF-8; rename it")
    except (OSError, ImageError) as error:
        return Loaded(entry, problem=reason_of(error))
    kept = known or {"camera": "", "time": None, "more": {}}
    row = NewRow(
        id=entry.id,
        image=str(entry.image),
        camera=entry.camera or kept["camera"],
        time=entry.time or kept["time"],
        fingerprint=fingerprint,
        width=pixels.shape[1],
        height=pixels.shape[0],
        more=kept["more"] | dict(entry.more),
    )
    return Loaded(entry, row, pixels, keypoints)


def chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """The items, so many at a time."""
    rest = iter(items)
    while chunk := list(islice(rest, size)):
        yield chunk


def pictures_of(
    loaded: Sequence[Loaded],
) -> tuple[list[np.ndarray], list[np.ndarray | None]]:
    """What :meth:`multitasknet.Predictor.predict_pictures` takes of a batch."""
    pixels = [one.pixels for one in loaded if one.pixels is not None]
    return pixels, [one.keypoints for one in loaded]


class _Adding:
    """Reads pictures ahead, and keeps the rows whose predictions are to come, in order."""

    def __init__(
        self,
        store: GalleryStore,
        origin: EmbeddingOrigin,
        labels: Labels,
        batch_size: int,
        stopped: Callable[[], bool],
        passed: Callable[[int], object],
    ) -> None:
        self.waiting: deque[NewRow] = deque()
        self.report = AddReport()
        self._store, self._origin, self._labels = store, origin, labels
        self._batch_size, self._stopped, self._passed = batch_size, stopped, passed

    def commit(self, rows: Sequence[tuple[NewRow, Prediction]], reembed: bool) -> None:
        self._store.commit(rows, self._origin, reembed=reembed)
        self.report.added += len(rows)

    def batches(
        self, entries: Sequence[Entry]
    ) -> Iterator[tuple[list[np.ndarray], list[np.ndarray | None]]]:
        """Pictures to embed, with the keypoints given."""
        for fresh in chunks(self._fresh(entries), self._batch_size):
            self.waiting.extend(one.row for one in fresh if one.row)
            yield pictures_of(fresh)

    def _fresh(self, entries: Sequence[Entry]) -> Iterator[Loaded]:
        with ThreadPoolExecutor(usable_cores()) as pool:
            for chunk in chunks(entries, BATCH):
                known = self._store.known([one.id for one in chunk if is_text(one.id)])
                self._store.correct(_corrections(chunk, known))
                for part in chunks(chunk, self._batch_size):
                    if self._stopped():
                        return
                    for loaded in pool.map(partial(self._load, known=known), part):
                        if loaded.row is not None:
                            yield loaded
                        else:
                            self._pass(loaded)

    def _load(self, entry: Entry, known: Mapping[str, Mapping[str, Any]]) -> Loaded:
        label = self._labels.find(entry.image)
        keypoints = None if label is None else label.keypoints
        return load(entry, known.get(entry.id), keypoints, self._origin)

    def _pass(self, loaded: Loaded) -> None:
        note(self.report, loaded)
        self._passed(1)


def note(report: AddReport, loaded: Loaded) -> None:
    """Count a picture that is not embedded."""
    if loaded.problem:
        report.broken[str(loaded.entry.image)] = loaded.problem
        logger.warning("%s is left out: %s", loaded.entry.image, loaded.problem)
    else:
        report.unchanged += 1


def _corrections(
    entries: Sequence[Entry], known: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Rows whose camera, time or further columns are given otherwise than they are stored."""
    corrections = []
    for entry in entries:
        stored = known.get(entry.id)
        if stored is None:
            continue
        facts = {
            "camera": entry.camera or stored["camera"],
            "time": entry.time or stored["time"],
            "more": stored["more"] | dict(entry.more),
        }
        if any(facts[name] != stored[name] for name in facts):
            own = {"id": entry.id, "camera": facts["camera"], "time": facts["time"]}
            corrections.append(own | facts["more"])
    return corrections


def _read_table(path: Path) -> Any:
    csv, parquet = (import_extra(f"pyarrow.{one}", EXTRA) for one in ("csv", "parquet"))
    pyarrow = import_extra("pyarrow", EXTRA)
    remedy = "expected a CSV file with a header, or Parquet"
    with reading(path, ManifestError, "the manifest cannot be read", remedy):
        if path.suffix.lower() == ".parquet":
            return parquet.read_table(path)
        as_text = dict.fromkeys(("id", "image", "camera"), pyarrow.string())
        options = csv.ConvertOptions(column_types=as_text)
        return csv.read_csv(path, convert_options=options)


def _entry(path: Path, number: int, row: dict[str, Any]) -> Entry:
    if not row["image"]:
        raise ManifestError(f"{path}: row {number} has no image; give its path")
    with reading(f"{path}, row {number}", ManifestError, "cannot be used", "mend the row"):
        time = parse_time(row.get("time"))
        image = (path.absolute().parent / str(row["image"])).absolute()
    camera = row.get("camera")
    return Entry(
        id=str(row.get("id") or image),
        image=image,
        camera="" if camera is None else str(camera),
        time=time,
        more={name: value for name, value in row.items() if name not in _GIVEN},
    )


def _doubles(ids: Sequence[str]) -> Iterator[str]:
    seen: set[str] = set()
    for one in ids:
        if one in seen:
            yield one
        seen.add(one)


def _refuse(path: Path, what: str, found: Iterable[str], remedy: str) -> None:
    """ManifestError if anything was found, of which the first are named."""
    every = list(found)
    if every:
        more = f" and {len(every) - _SHOWN} more" if len(every) > _SHOWN else ""
        raise ManifestError(
            f"{path}: {len(every)} {what}: {', '.join(every[:_SHOWN])}{more}; {remedy}"
        )


def is_text(name: str) -> bool:
    """Whether a name can be written as UTF-8."""
    return not any("\ud800" <= letter <= "\udfff" for letter in name)


def open_for(path: str | Path, predictor: Predictor) -> GalleryStore:
    """The store that a predictor's rows go into, made if it is not there yet.

    Raises:
        StoreError: it is none, or keeps embeddings of another width or other classes.
        OutputError: it cannot be made.
    """
    spec = predictor.spec
    colors, types = (spec.color_names, spec.type_names) if spec.has_attributes else ((), ())
    (width,) = spec.output_shapes(predictor.size)["embedding"]
    store = GalleryStore.create(path, width=width, colors=colors, types=types)
    if (store.width, store.color_names, store.type_names) != (width, tuple(colors), tuple(types)):
        raise StoreError(
            f"{path}: the store keeps {store.width} numbers a picture and other classes than this "
            f"network tells; add the pictures to a new store"
        )
    return store
