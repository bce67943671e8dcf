"""Pictures into a gallery: each is read once, and embedded only if it is new or has changed.

It is embedded here, or by many machines: this process reads and commits, Ray's actors embed.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
from tqdm import tqdm

from ..data.file_names import camera_in
from ..errors import GalleryError, ImageError, import_extra
from ..files import reading
from ..images import Frame, Picture
from ..inference.prediction import EmbeddingOrigin
from ..runtime import usable_cores
from ..vehicle.cameras import camera_name
from .rows import AddReport, Entry, any_of, corners, name_of
from .store import OWN_COLUMNS, Store, halves, origin_text, own_value

if TYPE_CHECKING:
    from ..inference.predictor import Prediction

logger = logging.getLogger(__name__)

T = TypeVar("T")

# Rows that are committed at once: what an interruption can cost.
BATCH = 1000
# Pictures and frames that are read, or that an actor gets, at once.
_PART = 64
# What an entry can state, and what stays when a row is embedded again.
_STATED, _UNSTATED = ("camera", "time", "track"), ("pinned", "vehicle", "first", "last", "heading")
_COMPARED = ("id", "image", "box", "sha256", "pose_origin", "keypoints", "origin")


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
    min_quality: float,
    reembed: bool,
    progress: bool,
) -> AddReport:
    """Embed and store what is new or has changed; arguments, errors as of :meth:`.Gallery.add`."""
    twice = [id for id, times in Counter(one.id for one in entries).items() if times > 1]
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
        for chunk in chunks(adding.rows(embedder, entries, min_quality), BATCH):
            with store.writing():
                if not reembed:
                    store.check_origin(embedder.origin)
                store.merge(chunk, insert=True)
            adding.report.added += len(chunk)
            bar.update(len(chunk))
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
        self._origin, self._can_move = origin_text(origin), len(store) > 0
        self._stated = [*_STATED, *(name for name in store.columns if name not in OWN_COLUMNS)]

    def skip(self, name: str, error: ImageError) -> None:
        self.report.broken[name] = str(error).removeprefix(f"{name}: ")
        logger.warning("%s is left out: %s", name, self.report.broken[name])
        self._bar.update(1)

    def rows(
        self, embedder: Embedder, entries: Sequence[Entry], min_quality: float
    ) -> Iterator[dict[str, Any]]:
        """Rows as the table takes them, of what is new or has changed and is good enough."""
        # What is known of the pictures that are being embedded, by their place among these.
        waiting: dict[int, dict[str, Any]] = {}

        def sources() -> Iterator[Any]:
            places = count()
            with ThreadPoolExecutor(usable_cores()) as pool:
                for chunk in chunks(entries, BATCH):
                    for known, source in self._changed(chunk, pool):
                        waiting[next(places)] = known
                        yield source

        for one in embedder.stream(sources(), skip=self.skip):
            known = waiting.pop(one.index)
            # A row that is there is never left out: it would stay one of other weights.
            if one.quality >= min_quality or "pinned" in known:
                yield known | {"origin": self._origin, "crops": 1} | predicted(one, self._store)
                continue
            reason = one.reason or "doubtful"
            self.report.low_quality[reason] = self.report.low_quality.get(reason, 0) + 1
            self._bar.update(1)

    def _changed(
        self, entries: Sequence[Entry], pool: ThreadPoolExecutor
    ) -> Iterator[tuple[dict[str, Any], Any]]:
        """Pictures to embed, each after what is known of it; rows of the others are corrected."""
        rows, corrections = self._rows_of(one.id for one in entries), []
        # Boxes of one frame together, so that it is read and decoded once.
        frames: dict[Path, list[Entry]] = {}
        for entry in entries:
            frames.setdefault(entry.image, []).append(entry)
        for part in chunks(frames.values(), _PART):
            loaded = [both for some in pool.map(self._load, part) for both in some]
            rows |= self._moved(loaded, rows)
            for entry, picture in loaded:
                row, given = rows.get(entry.id, {}), self._given(entry)
                if self._is_same(entry, picture, row):
                    if any(row[name] != value for name, value in given.items()):
                        corrections.append({one: row[one] for one in self._stated} | given)
                    self.report.unchanged += 1
                    self._bar.update(1)
                    continue
                kept = {name: row[name] for name in (*self._stated, *_UNSTATED) if row}
                camera = camera_name(camera_in(entry.image.name))
                known = {"camera": camera, "track": ""} | kept | given
                known["time"] = known.get("time") or picture.taken_at
                record: Any = entry.record
                yield known, picture if record is None else replace(record, image=picture)
        if corrections:
            self._store.merge(corrections)

    def _load(self, entries: Sequence[Entry]) -> list[tuple[Entry, Picture]]:
        frame, loaded = Frame(entries[0].image), []
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

    def _rows_of(self, ids: Iterable[str]) -> dict[str, dict[str, Any]]:
        columns = [*_COMPARED, *self._stated, *_UNSTATED]
        rows = self._store.rows(columns, any_of("id", [id for id in ids if _is_text(id)]))
        return {row["id"]: row for row in rows}

    def _given(self, entry: Entry) -> dict[str, Any]:
        stated = {**entry.more, "camera": entry.camera, "track": entry.track, "time": entry.time}
        given = {
            name: own_value(value, self._types.get(name))
            for name, value in stated.items()
            if value not in (None, "")
        }
        box = entry.box and list(entry.box)
        return given | {"id": entry.id, "image": str(entry.image), "box": box}

    def _is_same(self, entry: Entry, picture: Picture, row: Mapping[str, Any]) -> bool:
        if not row or row["origin"] != self._origin or row["sha256"].hex() != picture.sha256:
            return False
        if entry.record is None or entry.record.keypoints is None:
            return True
        return np.array_equal(halves(entry.record.keypoints), np.float16(row["keypoints"]))

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
        rows = self._store.rows(("id", "image", "box", "sha256"), any_of("sha256", new))
        gone = {
            row["id"]: new[row["sha256"]]
            for row in rows
            if row["id"] == name_of(row["image"], corners(row["box"]))
            and not Path(row["image"]).is_file()
        }
        # Of several rows with these bytes one moves.
        moved = {entry.id: id for id, entry in gone.items()}
        if moved:
            self._store.rename({id: (gone[id].id, str(gone[id].image)) for id in moved.values()})
            self.report.moved += len(moved)
        return self._rows_of(moved)


def _is_text(name: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in name)


@dataclass(frozen=True)
class RayEmbedder:
    """Embeds on Ray."""

    origin: EmbeddingOrigin
    actors: Sequence[Any]

    def stream(
        self, images: Iterable[Any], *, skip: Callable[[str, ImageError], object]
    ) -> Iterator[Prediction]:
        from ray.util import ActorPool

        pool, first = ActorPool(self.actors), 0

        def finished() -> Iterator[Prediction]:
            predictions, broken = pool.get_next_unordered()
            for name, error in broken.items():
                skip(name, error)
            yield from predictions

        for task in chunks(images, _PART):
            if not pool.has_free():
                yield from finished()
            pool.submit(lambda actor, asked: actor.embed.remote(*asked), (first, task))
            first += len(task)
        while pool.has_next():
            yield from finished()


@contextmanager
def ray_embedder(
    settings: Mapping[str, Any], origin: EmbeddingOrigin, *, address: str = "local"
) -> Iterator[RayEmbedder]:
    """A network on each machine of a Ray cluster; only this process reads pictures.

    Args:
        settings: arguments of :class:`multitasknet.Predictor`, with which each actor makes its own.
        origin: of what they must give.
        address: of a running cluster; ``local`` starts one on this machine.

    GalleryError for no such cluster, one that failed, or an actor of other weights;
    MissingExtraError without Ray.
    """
    ray = import_extra("ray", "ray")
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as OnNode

    problem, remedy = "the Ray job cannot go on", "look at its log; the same command goes on"
    with reading(f"Ray at {address}", GalleryError, problem, remedy):
        ray.init(address, log_to_driver=False)
        try:
            actor = ray.remote(_Actor)
            places = [OnNode(one["NodeID"], soft=False) for one in ray.nodes() if one["Alive"]]
            made = [
                actor.options(scheduling_strategy=place).remote(dict(settings)) for place in places
            ]
            check_same_origin(ray.get([one.origin.remote() for one in made]), origin)
            yield RayEmbedder(origin, made)
        finally:
            ray.shutdown()


def check_same_origin(found: Sequence[EmbeddingOrigin], origin: EmbeddingOrigin) -> None:
    """GalleryError if an actor's embeddings could not be compared with this process's."""
    for one in found:
        if one != origin:
            raise GalleryError(
                f"a Ray actor has another network ({one.differences(origin)}); put the same "
                f"weights at that path on all machines"
            )


class _Actor:
    def __init__(self, settings: Mapping[str, Any]) -> None:
        from ..inference.predictor import Predictor

        self._predictor = Predictor(**settings)

    def origin(self) -> EmbeddingOrigin:
        return self._predictor.origin

    def embed(self, first: int, images: Sequence[Any]) -> tuple[list[Prediction], dict[str, Any]]:
        broken: dict[str, Any] = {}
        found = self._predictor.stream(images, skip=broken.__setitem__)
        return [replace(one, index=first + one.index) for one in found], broken
