"""Pictures into a gallery: each is read once, and embedded only if it is new or has changed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np
from tqdm import tqdm

from ..errors import ImageError
from ..images import Picture, open_picture
from ..inference.origin import EmbeddingOrigin
from ..runtime import usable_cores
from .columns import OWN_COLUMNS, origin_text, stored_value
from .rows import AddReport, Entry, any_of, utc
from .store import Store

if TYPE_CHECKING:
    from ..inference.predictor import Prediction, Predictor

logger = logging.getLogger(__name__)

T = TypeVar("T")

# Rows that are committed at once: what an interruption can cost.
BATCH = 1000
# Pictures that are read at once.
_READ = 64
_KNOWN = ("id", "image", "camera", "time", "sha256", "pose_origin", "keypoints", "origin")


@dataclass(frozen=True, eq=False)
class Loaded:
    """A picture that was read, its entry, and its row if the gallery has one."""

    entry: Entry
    picture: Picture
    known: Mapping[str, Any] | None = None


Skip: TypeAlias = Callable[[str, ImageError], object]
# What embeds: from pictures to each with its prediction, in any order.
Embed: TypeAlias = Callable[[Iterator[Loaded], Skip], Iterator[tuple[Loaded, "Prediction"]]]


def add_entries(
    store: Store,
    origin: EmbeddingOrigin,
    entries: Sequence[Entry],
    embed: Embed,
    *,
    reembed: bool = False,
    progress: bool = True,
) -> AddReport:
    """Embed pictures that are new or have changed, and store them, 1,000 rows at once.

    What an earlier, interrupted call has stored is not done again. A camera, time or column that an
    entry does not give stays as it was. A picture that was moved keeps its row.

    Args:
        origin: of what ``embed`` gives.
        reembed: replace rows of another origin.

    Raises:
        GalleryError: rows of another origin are there, unless ``reembed``, or own columns cannot be
            stored; nothing was changed then.
        OutputError: the store cannot be written; what was committed stays.
    """
    if not reembed:
        store.check_origin(origin)
    kinds = store.add_columns([entry.more for entry in entries])
    hidden = None if progress else True
    with tqdm(desc="add", total=len(entries), unit="image", disable=hidden) as bar:
        adding = _Adding(store, origin, kinds, bar)
        try:
            for chunk in chunks(embed(adding.fresh(entries), adding.skip), BATCH):
                if not reembed:
                    store.check_origin(origin)
                store.merge([adding.row(*pair) for pair in chunk], insert=True)
                adding.report.added += len(chunk)
                bar.update(len(chunk))
        except KeyboardInterrupt:
            logger.warning("%d pictures were added; the same command goes on", adding.report.added)
            raise
    return adding.report


def embed_here(predictor: Predictor) -> Embed:
    """Embed in this process."""

    def embed(loaded: Iterator[Loaded], skip: Skip) -> Iterator[tuple[Loaded, Prediction]]:
        waiting: dict[int, Loaded] = {}

        def sources() -> Iterator[Any]:
            for index, one in enumerate(loaded):
                waiting[index] = one
                yield source_of(one)

        for prediction in predictor.stream(sources(), skip=skip):
            yield waiting.pop(prediction.index), prediction

    return embed


def source_of(loaded: Loaded) -> Any:
    """What :meth:`multitasknet.Predictor.stream` takes."""
    record: Any = loaded.entry.record
    return loaded.picture if record is None else replace(record, image=loaded.picture)


def chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """The items, so many at a time."""
    rest = iter(items)
    while chunk := list(islice(rest, size)):
        yield chunk


class _Adding:
    """Reads pictures, passes over those that are known, and makes rows of the others."""

    def __init__(
        self, store: Store, origin: EmbeddingOrigin, kinds: Mapping[str, Any], bar: tqdm[Any]
    ) -> None:
        self.report = AddReport()
        self._store, self._kinds, self._bar = store, kinds, bar
        self._origin = origin_text(origin)
        self._more = [name for name in store.columns if name not in OWN_COLUMNS]

    def skip(self, name: str, error: ImageError) -> None:
        """Note a picture that cannot be read."""
        self.report.broken[name] = str(error).removeprefix(f"{name}: ")
        logger.warning("%s is left out: %s", name, self.report.broken[name])
        self._bar.update(1)

    def fresh(self, entries: Sequence[Entry]) -> Iterator[Loaded]:
        """The pictures that are to be embedded; what is given for the others is corrected."""
        can_move = len(self._store) > 0
        with ThreadPoolExecutor(usable_cores()) as pool:
            for chunk in chunks(entries, BATCH):
                known = self._known(any_of("id", [one.id for one in chunk if _is_text(one.id)]))
                corrections = []
                for part in chunks(chunk, _READ):
                    loaded = [one for one in pool.map(self._load, part) if one is not None]
                    if can_move:
                        known |= self._moved(loaded, known)
                    for one in loaded:
                        row = known.get(one.entry.id)
                        if row is None or not self._is_same(one, row):
                            yield replace(one, known=row)
                        else:
                            corrections += self._correction(one.entry, row)
                            self.report.unchanged += 1
                            self._bar.update(1)
                if corrections:
                    self._store.merge(corrections)

    def row(self, loaded: Loaded, prediction: Prediction) -> dict[str, Any]:
        """A row as the table takes it."""
        given = self._given(loaded.entry, loaded.known)
        return {
            **given,
            "time": given["time"] or loaded.picture.taken_at,
            "origin": self._origin,
            "width": prediction.width,
            "height": prediction.height,
            "sha256": bytes.fromhex(prediction.sha256),
            "pose_origin": prediction.pose.origin,
            "pose_confidence": prediction.pose.confidence,
            "keypoints": prediction.pose.keypoints.ravel(),
            "color": prediction.color or "",
            "color_probability": prediction.color_probability,
            "color_probabilities": _ordered(
                prediction.color_probabilities, self._store.color_names
            ),
            "type": prediction.type or "",
            "type_probability": prediction.type_probability,
            "type_probabilities": _ordered(prediction.type_probabilities, self._store.type_names),
            "embedding": prediction.embedding,
        }

    def _load(self, entry: Entry) -> Loaded | None:
        try:
            if not _is_text(entry.id):
                raise ImageError("its name is not UTF-8; rename it")
            picture = open_picture(entry.image)
            _ = picture.sha256  # in this thread
            return Loaded(entry, picture)
        except ImageError as error:
            self.skip(str(entry.image), error)
            return None

    def _known(self, where: str) -> dict[str, dict[str, Any]]:
        return {row["id"]: row for row in self._store.rows([*_KNOWN, *self._more], where)}

    def _is_same(self, loaded: Loaded, row: Mapping[str, Any]) -> bool:
        """Whether the row is what would be embedded."""
        given = loaded.entry.record and loaded.entry.record.keypoints
        if given is None:
            is_same_pose = row["pose_origin"] != "given"
        else:
            rounded = np.asarray(given, np.float16).ravel()
            is_same_pose = np.array_equal(rounded, np.array(row["keypoints"], np.float16))
        return (
            is_same_pose
            and row["sha256"].hex() == loaded.picture.sha256
            and row["origin"] == self._origin
        )

    def _given(self, entry: Entry, row: Mapping[str, Any] | None) -> dict[str, Any]:
        """What an entry states, and its row where the entry does not."""
        kept = {name: row[name] for name in ("camera", "time", *self._more)} if row else {}
        more = {
            name: stored_value(value, self._kinds[name])
            for name, value in entry.more.items()
            if value is not None
        }
        return {
            **kept,
            **more,
            "id": entry.id,
            "image": str(entry.image),
            "camera": entry.camera or kept.get("camera", ""),
            "time": utc(entry.time) if entry.time else kept.get("time"),
        }

    def _correction(self, entry: Entry, row: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The row's columns that entries give, if one differs."""
        given = self._given(entry, row)
        return [given] if any(given[name] != row[name] for name in given) else []

    def _moved(
        self, loaded: Sequence[Loaded], known: Mapping[str, Any]
    ) -> dict[str, dict[str, Any]]:
        """Rows whose pictures are gone from their paths, and found here at new ones."""
        new = {
            bytes.fromhex(one.picture.sha256): one.entry.id
            for one in loaded
            if one.entry.id not in known and one.entry.id == str(one.entry.image)
        }
        if not new:
            return {}
        same = self._store.rows(("id", "image", "sha256"), any_of("sha256", new))
        ids = {
            new[row["sha256"]]: row["id"]
            for row in same
            if row["id"] == row["image"] and not Path(row["image"]).is_file()
        }
        self._store.rename({old: path for path, old in ids.items()})
        self.report.moved += len(ids)
        return self._known(any_of("id", ids)) if ids else {}


def _ordered(probabilities: Mapping[str, float], names: Sequence[str]) -> np.ndarray | None:
    return np.array([probabilities[name] for name in names]) if probabilities else None


def _is_text(name: str) -> bool:
    """Whether a name can be written as UTF-8."""
    return not any("\ud800" <= letter <= "\udfff" for letter in name)
