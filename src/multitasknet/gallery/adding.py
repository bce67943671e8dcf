"""Pictures into a gallery: each is read once, and embedded only if it is new or has changed."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
from tqdm import tqdm

from ..data.text import utc
from ..errors import GalleryError, ImageError
from ..images import Frame, Picture
from ..inference.prediction import EmbeddingOrigin
from ..runtime import usable_cores
from .columns import OWN_COLUMNS, halves, origin_text, own_value
from .rows import AddReport, Entry, any_of, corners, name_of
from .store import Store

if TYPE_CHECKING:
    from ..inference.predictor import Prediction

logger = logging.getLogger(__name__)

T = TypeVar("T")

# Rows that are committed at once: what an interruption can cost.
BATCH = 1000
# Pictures and frames that are read at once.
_READ = 64
# Of a row that is embedded again these stay; an entry cannot state them.
_UNSTATED = frozenset(("pinned", "first", "last", "heading"))
_STATED = ("camera", "time", "track")
_KNOWN = (
    *("id", "image", "box", "sha256", "pose_origin", "keypoints", "origin"),
    *_STATED,
    *_UNSTATED,
)


class Embedder(Protocol):
    """What embeds: :class:`multitasknet.Predictor`, or :class:`.RayEmbedder`."""

    @property
    def origin(self) -> EmbeddingOrigin: ...

    def stream(
        self, images: Iterable[Any], *, skip: Callable[[str, ImageError], object]
    ) -> Iterator[Prediction]: ...


def add_entries(
    store: Store,
    embedder: Embedder,
    entries: Sequence[Entry],
    *,
    min_quality: float = 0.0,
    reembed: bool = False,
    progress: bool = True,
) -> AddReport:
    """Embed pictures that are new or have changed, and store them, 1,000 rows at once.

    What an earlier, interrupted call has stored is not done again. A camera, time or column that an
    entry does not give stays as it was. A picture that was moved keeps its row. Arguments and
    errors are those of :meth:`.Gallery.add`; faulty own columns change nothing.
    """
    twice = [id for id, count in Counter(one.id for one in entries).items() if count > 1]
    if twice:
        raise GalleryError(
            f"{len(twice)} ids occur twice, such as {twice[0]!r}; give each row an id of its own"
        )
    if not reembed:
        store.check_origin(embedder.origin)
    types = store.add_columns([entry.more for entry in entries])
    hidden = None if progress else True
    with tqdm(desc="add", total=len(entries), unit="image", disable=hidden) as bar:
        adding = _Adding(store, embedder.origin, types, bar)
        try:
            for chunk in chunks(adding.rows(embedder, entries, min_quality), BATCH):
                if not reembed:
                    store.check_origin(embedder.origin)
                store.merge(chunk, insert=True)
                adding.report.added += len(chunk)
                bar.update(len(chunk))
        except KeyboardInterrupt:
            logger.warning("%d pictures were added; the same command goes on", adding.report.added)
            raise
    return adding.report


def chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """The items, so many at a time."""
    rest = iter(items)
    while chunk := list(islice(rest, size)):
        yield chunk


def predicted(prediction: Prediction, store: Store) -> dict[str, Any]:
    """The columns of a row that a prediction gives, as a store takes them."""

    def ordered(probabilities: Mapping[str, float], names: Sequence[str]) -> np.ndarray | None:
        return halves([probabilities[name] for name in names]) if probabilities else None

    return {
        "width": prediction.width,
        "height": prediction.height,
        "quality": prediction.quality,
        "sha256": bytes.fromhex(prediction.sha256),
        "pose_origin": prediction.pose.origin,
        "pose_confidence": prediction.pose.confidence,
        "keypoints": halves(prediction.pose.keypoints),
        "color": prediction.color or "",
        "color_probability": prediction.color_probability,
        "color_probabilities": ordered(prediction.color_probabilities, store.color_names),
        "type": prediction.type or "",
        "type_probability": prediction.type_probability,
        "type_probabilities": ordered(prediction.type_probabilities, store.type_names),
        "embedding": halves(prediction.embedding),
    }


class _Adding:
    """Reads pictures, passes over those that are known, and makes rows of the others."""

    def __init__(
        self, store: Store, origin: EmbeddingOrigin, types: Mapping[str, Any], bar: tqdm[Any]
    ) -> None:
        self.report = AddReport()
        self._store, self._types, self._bar = store, types, bar
        self._origin = origin_text(origin)
        self._own = [name for name in store.columns if name not in OWN_COLUMNS]
        self._can_move = len(store) > 0
        # What is known of the pictures that are being embedded, by their place among these.
        self._waiting: dict[int, dict[str, Any]] = {}

    def skip(self, name: str, error: ImageError) -> None:
        """Note a picture that cannot be read."""
        self.report.broken[name] = str(error).removeprefix(f"{name}: ")
        logger.warning("%s is left out: %s", name, self.report.broken[name])
        self._bar.update(1)

    def rows(
        self, embedder: Embedder, entries: Sequence[Entry], min_quality: float
    ) -> Iterator[dict[str, Any]]:
        """Rows as the table takes them, of what is new or has changed and is good enough."""
        for one in embedder.stream(self._sources(entries), skip=self.skip):
            given = self._waiting.pop(one.index)
            if one.quality >= min_quality:
                made = {"origin": self._origin, "crops": 1, **predicted(one, self._store)}
                yield given | made
                continue
            reason = one.reason or "doubtful"
            self.report.low_quality[reason] = self.report.low_quality.get(reason, 0) + 1
            self._bar.update(1)

    def _sources(self, entries: Sequence[Entry]) -> Iterator[Any]:
        """What is to be embedded; what is given for the other pictures is corrected."""
        place = 0
        with ThreadPoolExecutor(usable_cores()) as pool:
            for chunk in chunks(entries, BATCH):
                known, corrections = self._known([one.id for one in chunk]), []
                for part in chunks(_by_image(chunk), _READ):
                    loaded = list(chain.from_iterable(pool.map(self._load, part)))
                    known |= self._moved(loaded, known)
                    for entry, picture in loaded:
                        row = known.get(entry.id)
                        given = self._given(entry, row)
                        if row is None or not self._is_same(entry, picture, row):
                            given["time"] = given["time"] or picture.taken_at
                            self._waiting[place] = given
                            place += 1
                            record: Any = entry.record
                            yield picture if record is None else replace(record, image=picture)
                            continue
                        if any(given[name] != row[name] for name in given):
                            stated = given.keys() - _UNSTATED
                            corrections.append({name: given[name] for name in stated})
                        self.report.unchanged += 1
                        self._bar.update(1)
                if corrections:
                    self._store.merge(corrections)

    def _load(self, entries: Sequence[Entry]) -> list[tuple[Entry, Picture]]:
        """What entries of one image show; nothing is decoded."""
        frame = Frame(entries[0].image)
        loaded = []
        for entry in entries:
            try:
                if not _is_text(entry.id):
                    raise ImageError("its name is not UTF-8; rename it")
                picture = frame.crop(entry.box) if entry.box else frame.picture
                _ = picture.sha256  # in this thread
                loaded.append((entry, picture))
            except ImageError as error:
                self.skip(str(entry.image), error)
        return loaded

    def _known(self, ids: Iterable[str]) -> dict[str, dict[str, Any]]:
        where = any_of("id", [one for one in ids if _is_text(one)])
        return {row["id"]: row for row in self._store.rows([*_KNOWN, *self._own], where)}

    def _is_same(self, entry: Entry, picture: Picture, row: Mapping[str, Any]) -> bool:
        """Whether the row is what would be embedded."""
        given = entry.record and entry.record.keypoints
        if given is None:
            is_same_pose = row["pose_origin"] != "given"
        else:
            is_same_pose = np.array_equal(halves(given), np.float16(row["keypoints"]))
        is_same_picture = row["sha256"].hex() == picture.sha256
        return is_same_pose and is_same_picture and row["origin"] == self._origin

    def _given(self, entry: Entry, row: Mapping[str, Any] | None) -> dict[str, Any]:
        """What an entry states, and its row where the entry does not."""
        kept = {name: row[name] for name in (*_STATED, *_UNSTATED, *self._own)} if row else {}
        own = {
            name: own_value(value, self._types[name])
            for name, value in entry.more.items()
            if value is not None
        }
        return {
            **kept,
            **own,
            "id": entry.id,
            "image": str(entry.image),
            "box": entry.box and list(entry.box),
            "track": entry.track or kept.get("track", ""),
            "camera": entry.camera or kept.get("camera", ""),
            "time": utc(entry.time) if entry.time else kept.get("time"),
        }

    def _moved(
        self, loaded: Sequence[tuple[Entry, Picture]], known: Mapping[str, Any]
    ) -> dict[str, dict[str, Any]]:
        """Rows whose pictures are gone from their paths, and found here at new ones."""
        new = {
            bytes.fromhex(picture.sha256): entry
            for entry, picture in loaded
            if entry.id not in known and entry.id == name_of(entry.image, entry.box)
        }
        if not new or not self._can_move:
            return {}
        gone = {
            row["sha256"]: row["id"]
            for row in self._store.rows(("id", "image", "box", "sha256"), any_of("sha256", new))
            if row["id"] == name_of(row["image"], corners(row["box"]))
            and not Path(row["image"]).is_file()
        }
        if not gone:
            return {}
        moved = {id: new[sha256] for sha256, id in gone.items()}
        self._store.rename({id: (one.id, str(one.image)) for id, one in moved.items()})
        self.report.moved += len(moved)
        return self._known([one.id for one in moved.values()])


def _by_image(entries: Iterable[Entry]) -> list[list[Entry]]:
    """Boxes of one frame together, so that it is read and decoded once."""
    found: dict[Path, list[Entry]] = {}
    for entry in entries:
        found.setdefault(entry.image, []).append(entry)
    return list(found.values())


def _is_text(name: str) -> bool:
    """Whether a name can be written as UTF-8."""
    return not any("\ud800" <= letter <= "\udfff" for letter in name)
