"""A gallery that fits in memory: a folder of crops, a data set, or an index."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from ..data.layouts import camera_in, has_split, read_dataset
from ..data.records import Record, Split, check_images
from ..data.samples import split_fingerprint
from ..errors import MultiTaskNetError
from ..files import keep_arrays, make_folder, read_arrays
from ..hub.fetch import default_cache_dir
from ..images import find_images, open_picture
from ..inference.origin import EmbeddingOrigin
from ..vehicle.cameras import UNKNOWN_CAMERA
from .embedding import origin_of
from .gallery import Facets, GalleryFilter, GalleryRow, Hit, find_rows
from .index import GalleryIndex

if TYPE_CHECKING:
    from ..inference.predictor import Predictor

logger = logging.getLogger(__name__)

_PIECE = 256
_KEPT = ("embeddings", "colors", "types")


class GalleryError(MultiTaskNetError, ValueError):
    """A gallery that cannot be opened or shown; says what is expected."""


class MemoryGallery:
    """Rows with their embeddings; a :class:`.gallery.Gallery`.

    Args:
        rows: the crops.
        embeddings: finite float32 ``[N, D]``, one for each.
        origin: what made them.
    """

    def __init__(
        self, rows: Sequence[GalleryRow], embeddings: np.ndarray, origin: EmbeddingOrigin
    ) -> None:
        self._rows = tuple(rows)
        self._index = GalleryIndex(tuple(row.id for row in rows), embeddings, origin)
        self._places = {row.id: place for place, row in enumerate(rows)}
        # Of the filters that are in use: what they leave in.
        self._within = lru_cache(maxsize=8)(self._find_within)

    def __len__(self) -> int:
        return len(self._rows)

    @cached_property
    def facets(self) -> Facets:
        return Facets(
            _sorted_values(row.camera for row in self._rows),
            _sorted_values(row.color for row in self._rows),
            _sorted_values(row.type for row in self._rows),
        )

    def row(self, id: str) -> GalleryRow:
        return self._rows[self._places[id]]

    def embedding(self, id: str) -> np.ndarray:
        return self._index.embeddings[self._places[id]]

    def nearest(
        self,
        queries: np.ndarray,
        *,
        top: int,
        where: GalleryFilter | None = None,
        max_distance: float | None = None,
    ) -> list[list[Hit]]:
        places, index = self._within(where)
        if index is None:
            return [[] for _ in queries]
        reach = np.inf if max_distance is None else max_distance
        return [
            [
                Hit(self._rows[places[found]], float(distance))
                for distance, found in zip(*one, strict=True)
                if distance <= reach
            ]
            for one in zip(*index.search(queries, top), strict=True)
        ]

    def _find_within(self, where: GalleryFilter | None) -> tuple[np.ndarray, GalleryIndex | None]:
        places = find_rows(self._rows, where)
        if len(places) == len(self._rows):
            return places, self._index
        if not len(places):
            return places, None
        names = tuple(self._rows[place].id for place in places)
        return places, GalleryIndex(names, self._index.embeddings[places], self._index.origin)


def open_folder(path: Path, predictor: Predictor, *, progress: bool = True) -> MemoryGallery:
    """The crops of a folder and below; or, of a data set, those of its split ``gallery``.

    Colours and types are what the network says; cameras, what the data set or a file's name does;
    times stand in the pictures. What the network says is kept in the cache.

    Raises:
        DataError: no picture, one that cannot be read, or faulty labels.
    """
    if has_split(path, "gallery"):
        split = read_dataset(path, ["gallery"]).gallery
    else:
        images = find_images(path)
        split = Split(
            "gallery",
            tuple(Record(one, 0, camera_in(one.name), origin="gallery") for one in images),
        )
        check_images(split.records)
    said = _read_or_embed(path, predictor, split, progress)
    spec = predictor.spec
    colors, types = (spec.color_names, spec.type_names) if spec.has_attributes else ((), ())
    rows = [
        GalleryRow(
            id=record.image.relative_to(path).as_posix(),
            image=record.image,
            camera="" if record.camera_id == UNKNOWN_CAMERA else str(record.camera_id),
            time=open_picture(record.image).taken_at,
            color=colors[color] if colors else "",
            type=types[type_] if types else "",
        )
        for record, color, type_ in zip(split.records, said["colors"], said["types"], strict=True)
    ]
    return MemoryGallery(rows, said["embeddings"], origin_of(predictor))


def open_index(path: Path, predictor: Predictor) -> MemoryGallery:
    """The crops of an index that ``multitasknet search`` wrote; it holds no colours and types.

    Raises:
        GalleryIndexError: no index, or one of another network.
        GalleryError: a picture is where it was no more.
    """
    index = GalleryIndex.load(path, origin_of(predictor))
    images = [Path(name) for name in index.names]
    missing = next((one for one in images if not one.is_file()), None)
    if missing is not None:
        raise GalleryError(
            f"{path}: the picture {missing} is not there (from the folder that this runs in); "
            f"build the index again, with whole paths"
        )
    folder = Path(os.path.commonpath([one.absolute().parent for one in images]))
    rows = [
        GalleryRow(
            id=one.absolute().relative_to(folder).as_posix(),
            image=one,
            camera="" if (camera := camera_in(one.name)) == UNKNOWN_CAMERA else str(camera),
            time=open_picture(one).taken_at,
        )
        for one in images
    ]
    return MemoryGallery(rows, index.embeddings, index.origin)


def _read_or_embed(
    path: Path, predictor: Predictor, split: Split, progress: bool
) -> Mapping[str, np.ndarray]:
    """What the network says of a split, from the cache where nothing has changed."""
    estimator = predictor.pose_estimator
    facts = asdict(origin_of(predictor)) | {
        "data": split_fingerprint(split, predictor.spec),
        "pose": None if estimator is None else estimator.engine.weights_sha256,
    }
    key = json.dumps(facts, sort_keys=True)
    name = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:16]
    kept = default_cache_dir() / "galleries" / f"{name}.npz"
    if (found := read_arrays(kept, key, _KEPT)) is not None:
        return found
    said = _embed(predictor, split, progress)
    try:
        make_folder(kept.parent)
        keep_arrays(kept, key, said)
    except OSError as error:
        logger.warning("%s: what the network says of the gallery is not kept (%s)", kept, error)
    return said


def _embed(predictor: Predictor, split: Split, progress: bool) -> dict[str, np.ndarray]:
    embeddings, colors, types = [], [], []
    hidden = None if progress else True
    with tqdm(desc="gallery", total=len(split), unit="image", disable=hidden) as bar:
        for start in range(0, len(split), _PIECE):
            records = split.records[start : start + _PIECE]
            said = predictor.predict(
                [one.image for one in records], [one.keypoints for one in records]
            )
            embeddings += [one.embedding for one in said]
            if predictor.spec.has_attributes:
                colors += [predictor.spec.color_names.index(one.color) for one in said]
                types += [predictor.spec.type_names.index(one.type) for one in said]
            bar.update(len(records))
    none = np.full(len(split), -1)
    return {
        "embeddings": np.stack(embeddings).astype(np.float32, copy=False),
        "colors": np.array(colors) if colors else none,
        "types": np.array(types) if types else none,
    }


def _sorted_values(values: Iterable[str]) -> tuple[str, ...]:
    """Those that are there, numbers by their size."""
    return tuple(sorted(set(values) - {""}, key=lambda one: (not one.isdigit(), len(one), one)))
