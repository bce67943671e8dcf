"""A gallery of vehicle crops: added to, searched, grouped, linked, exported, and forgotten from.

On disk it is a LanceDB table, for a folder of crops the same table in memory.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from pyarrow import csv, parquet
from tqdm import tqdm

from ..data.boxes import boxes_of
from ..data.records import NO_VEHICLE, Record
from ..errors import GalleryError
from ..files import expand, replacing
from ..hub.card import assets_folder
from ..images import find_images
from ..ranking.calibration import Calibration, surroundings
from ..ranking.centering import center_cameras as centered
from ..ranking.distances import (
    check_count,
    check_embedding_pair,
    distance_blocks,
    nearest,
    squared_distances,
)
from ..ranking.strangers import Rate, StrangerRates
from . import index, linking
from .adding import Embedder, add_entries, predicted
from .entries import entries_of, entries_of_boxes, write_crops
from .index import RECALL, Setting
from .linking import Groups, Sightings, Travel, Way
from .rows import ROW, AddReport, Entry, Facets, GalleryRow, Hit, all_of, any_of, corners, quoted
from .store import (
    MEMORY,
    OWN_COLUMNS,
    RATES,
    Store,
    is_store,
    origin_in,
    origin_text,
    table_schema,
    vectors,
    with_corners,
)

if TYPE_CHECKING:
    from ..inference.prediction import EmbeddingOrigin
    from ..inference.predictor import Prediction, Predictor

logger = logging.getLogger(__name__)

DEMO = "demo"
_EMBEDDING = "embedding"
# LanceDB sums in float32; what it finds is ranked again in float64.
_SPARE = 16
# Neighbours of each row that are looked at to link.
_NEIGHBORS = 50
# Rows that say how many of all are near a query.
_AROUND = 1_000
_VECTORS = ("keypoints", "color_probabilities", "type_probabilities", "embedding", "sha256")


class Gallery(Store):
    """The rows of a gallery; arguments and errors are those of :class:`.Store`.

    Up to 100,000 rows each is compared with a query; above, an index is used once it was built and
    measured to find as many of the nearest as it was to.
    """

    def __init__(self, path: str | Path, schema: Any | None = None) -> None:
        super().__init__(path, schema)
        # Computed again for each version of the table.
        self._facets = lru_cache(maxsize=1)(lambda version: self._read_facets())
        self._measured = lru_cache(maxsize=1)(lambda version: index.measured(self))
        self._rates = lru_cache(maxsize=1)(
            lambda version: index.kept_rates(self) or index.measure_rates(self)
        )
        self._around = lru_cache(maxsize=1)(lambda version: index.sample(self, _AROUND))

    @classmethod
    def create(cls, path: str | Path, predictor: Predictor) -> Gallery:
        """Open the store that a predictor's rows go into, made if it is not there yet.

        GalleryError if its embeddings have another width, or it has other classes; OutputError.
        """
        spec = predictor.spec
        colors, types = (spec.color_names, spec.type_names) if spec.has_attributes else ((), ())
        (width,) = spec.output_shapes(predictor.size)[_EMBEDDING]
        gallery = cls(path, table_schema(width, colors, types))
        found = gallery.width, gallery.color_names, gallery.type_names
        if found != (width, tuple(colors), tuple(types)):
            raise GalleryError(
                f"{path}: its embeddings have {gallery.width} numbers, or other classes than this "
                f"network's; add the pictures to a new gallery"
            )
        return gallery

    @property
    def facets(self) -> Facets:
        """The values that rows have, to choose from in a filter."""
        return self._facets(self.table.version)

    def _read_facets(self) -> Facets:
        found: dict[str, set[str]] = {"camera": set(), "color": set(), "type": set()}
        for batch in self.read(list(found)):
            for name, values in found.items():
                values.update(batch[name].unique().to_pylist())
        return Facets(*(tuple(sorted(one - {""}, key=_by_size)) for one in found.values()))

    @property
    def rates(self) -> StrangerRates:
        """How near strangers come here, see :mod:`.ranking.strangers`; kept with the gallery, and
        measured again once it has grown by a tenth, or rows were removed."""
        return self._rates(self.table.version)

    def judged(
        self, query: np.ndarray, distances: Sequence[float], calibration: Calibration | None = None
    ) -> list[tuple[Rate | None, float | None]]:
        """Of each squared distance from a query ``[D]`` its rate of strangers, None where
        :attr:`rates` are in doubt, and the probability that a row so far away shows the query's
        vehicle, None without a calibration."""
        likely: list[float | None] = [None] * len(distances)
        if calibration is not None and len(self):
            around = squared_distances(query[None], self._around(self.table.version))
            (scale,) = surroundings(around)
            likely = calibration.probability(distances, float(scale), len(self)).tolist()
        return list(zip(map(self.rates.rate, distances), likely, strict=True))

    def row(self, id: str) -> GalleryRow:
        """One row; KeyError if no row has that id."""
        return GalleryRow.of(self._one(id, ROW))

    def embedding(self, id: str) -> np.ndarray:
        """Its embedding, float32 ``[D]``; KeyError if no row has that id."""
        return np.array(self._one(id, [_EMBEDDING])[_EMBEDDING], np.float32)

    def _one(self, id: str, columns: Sequence[str]) -> dict[str, Any]:
        for row in self.rows(columns, f"id = {quoted(id)}"):
            return row
        raise KeyError(id)

    def select(self, where: str) -> Iterator[GalleryRow]:
        """The rows that an SQL condition keeps; GalleryError if it cannot be used."""
        return map(GalleryRow.of, self.rows(ROW, where))

    def find(self, sha256s: Iterable[str]) -> dict[str, GalleryRow]:
        """Rows of pictures with these bytes, by sha256."""
        rows = self.rows([*ROW, "sha256"], any_of("sha256", map(bytes.fromhex, sha256s)))
        return {row["sha256"].hex(): GalleryRow.of(row) for row in rows}

    def search(
        self,
        queries: np.ndarray,
        *,
        top: int,
        where: str | None = None,
        max_distance: float | None = None,
        exact: bool = False,
        group_by: str | None = None,
        calibration: Calibration | None = None,
    ) -> list[list[Hit]]:
        """The nearest rows of each query, nearest first; equal ones in the gallery's order.

        Args:
            queries: finite numbers ``[Q, D]``.
            top: rows for each query, at most.
            where: LanceDB's SQL, such as ``camera = '3' and lane > 1``.
            max_distance: squared Euclidean; rows further away are left out.
            exact: compare all rows that ``where`` keeps. Embeddings are stored as float16:
                distances closer than its steps may come in another order.
            group_by: ``camera``: of each only the nearest row is given.
            calibration: of the network that made queries and rows, for the hits' probabilities.

        DataError for queries of another width, or not finite; GalleryError for a condition or
        column that cannot be used.
        """
        if group_by not in (None, "camera"):
            raise GalleryError(f"group_by is {group_by!r}; expected camera")
        queries, _ = check_embedding_pair("queries", queries, "rows", np.zeros((1, self.width)))
        check_count("top", top)
        condition = self.condition(where)
        setting = None if exact else self.plan(condition)
        found = []
        find = self._nearest if group_by is None else self._nearest_of_each_camera
        for query in queries:
            hits = find(query, top, condition, setting)
            hits = [one for one in hits if max_distance is None or one.distance <= max_distance]
            meant = self.judged(query, [one.distance for one in hits], calibration)
            found.append(
                [Hit(hit.row, hit.distance, *one) for hit, one in zip(hits, meant, strict=True)]
            )
        return found

    def plan(self, where: str | None = None) -> Setting | None:
        """How the index is searched under a condition; None where each row is compared.

        That is where there are few rows, or no index that was measured to have the recall wanted.
        """
        total = len(self)
        setting = self._measured(self.table.version) if total > index.EXACT_BELOW else None
        if setting is None or setting.recall < setting.wanted:
            return None
        return index.narrowed(setting, total, self.count(where))

    def _nearest(
        self, query: np.ndarray, top: int, where: str | None, setting: Setting | None
    ) -> list[Hit]:
        vector, columns = query.astype(np.float32), [*ROW, _EMBEDDING]
        table = index.search(self, vector, columns, where, top=top + _SPARE, setting=setting)
        if not table.num_rows:
            return []
        distances = squared_distances(query[None], vectors(table[_EMBEDDING]))[0]
        rows = table.select(ROW).to_pylist()
        return [
            Hit(GalleryRow.of(rows[one]), float(distances[one])) for one in nearest(distances, top)
        ]

    def _nearest_of_each_camera(
        self, query: np.ndarray, top: int, where: str | None, setting: Setting | None
    ) -> list[Hit]:
        best: dict[str, Hit] = {}
        while len(best) < top:
            others = f"not ({any_of('camera', best)})" if best else None
            condition = all_of([where, others])
            hits = self._nearest(query, 4 * top, condition, setting and self.plan(condition))
            if not hits:
                break
            for hit in hits:
                best.setdefault(hit.row.camera, hit)
        return list(best.values())[:top]

    def add(
        self,
        predictor: Embedder,
        entries: Iterable[str | Path | Entry],
        *,
        min_quality: float = 0.0,
        reembed: bool = False,
        progress: bool = True,
    ) -> AddReport:
        """Embed pictures that are new or have changed, and store them, 1,000 rows at once.

        What an interrupted call has stored is not done again. A camera, time or column that an
        entry does not give stays as it was; of a new picture the camera is that in its file name,
        and the time that of its EXIF data. A picture that was moved keeps its row.

        Args:
            predictor: what embeds, here or on Ray.
            entries: pictures and folders, or entries such as those of :func:`.read_manifest`.
            min_quality: new pictures of less, 0..1, are left out and counted by reason.
            reembed: replace rows of other weights.

        GalleryError for rows of other weights, unless ``reembed``, for ids that occur twice, and
        for own columns that cannot be stored, which change nothing; OutputError if the store cannot
        be written, where what was committed stays.
        """
        given = list(entries)
        known = [one for one in given if isinstance(one, Entry)]
        known += entries_of(Path(one) for one in given if not isinstance(one, Entry))
        if reembed:
            self.keep(RATES, None)  # also for a call that is killed before it measures them again
        report = add_entries(
            self, predictor, known, min_quality=min_quality, reembed=reembed, progress=progress
        )
        others = f"origin <> {quoted(origin_text(predictor.origin))}"
        if reembed and (left := self.count(others)):
            logger.warning(
                "%s: %d rows are still of other weights, such as those of pictures that cannot be "
                "read; nothing is found before they are embedded too, or removed by --where %r",
                *(self.path, left, others),
            )
        self._keep_rates()
        return report

    def add_predicted(
        self, origin: EmbeddingOrigin, rows: Iterable[tuple[Prediction, Mapping[str, object]]]
    ) -> None:
        """Store predictions, each with the other columns of its row; errors as :meth:`add`."""
        made = {"origin": origin_text(origin)}
        records = [{**predicted(one, self), **given, **made} for one, given in rows]
        with self.writing():
            self.check_origin(origin)
            self.merge(records, insert=True)
        self._keep_rates()

    def _keep_rates(self) -> None:
        # Of a gallery in memory they are measured when they are asked for.
        if self.path != MEMORY and len(self) and index.kept_rates(self) is None:
            index.keep_rates(self)

    def stale(self, origin: EmbeddingOrigin) -> list[Entry]:
        """The pictures of rows of other weights, to be embedded again, with keypoints of labels."""
        columns = ["id", "image", "box", "pose_origin", "keypoints"]
        found = []
        for row in self.rows(columns, f"origin <> {quoted(origin_text(origin))}"):
            entry = Entry(row["id"], Path(row["image"]), box=corners(row["box"]))
            if row["pose_origin"] == "given":
                points = np.array(row["keypoints"], np.float32).reshape(-1, 3)
                entry = replace(entry, record=Record(entry.image, NO_VEHICLE, keypoints=points))
            found.append(entry)
        return found

    def origins(self) -> dict[EmbeddingOrigin, int]:
        """What made the rows, and how many each."""
        counts = Counter(row["origin"] for row in self.rows(["origin"]))
        return {origin_in(text): count for text, count in counts.items()}

    def compact(self) -> None:
        """As :meth:`.Store.compact`, and measure an index that changed."""
        super().compact()
        if index.measured(self) is None:
            index.measure(self)

    def build_index(self, recall: float = RECALL) -> list[Setting]:
        """Build the indexes of a large gallery, see :func:`.index.build_index`."""
        return index.build_index(self, recall)

    def export(self, target: str | Path, where: str | None = None) -> int:
        """Write rows as ``.parquet`` with all columns, or as ``.csv`` without lists of numbers.

        A box is four columns there, x1 to y2. A name without suffix is a new folder, for what the
        rows show: JPEG files, and ``crops.csv``, a manifest of them with your own columns; rows
        whose pictures cannot be read are left out, which is logged. Returns how many were written.
        GalleryError for another ending, or no rows; OutputError.
        """
        target = Path(target)
        if target.suffix not in ("", ".parquet", ".csv"):
            raise GalleryError(f"{target}: expected a name that ends in .parquet or .csv")
        if not (count := self.count(where)):
            raise GalleryError(f"{self.path}: no row is to be exported; change the condition")
        if not target.suffix:
            own = [name for name in self.columns if name not in OWN_COLUMNS]
            return write_crops(target, self.rows([*ROW, *own], where), own)
        stored, writer = self.table.schema, parquet.ParquetWriter
        if target.suffix == ".csv":
            stored = pa.schema([one for one in stored if one.name not in _VECTORS])
            writer = csv.CSVWriter
        schema = with_corners(stored.empty_table()).schema
        with replacing(target) as part, writer(part, schema) as file:
            for batch in self.read(stored.names, where):
                file.write_batch(with_corners(batch).cast(schema))
        return count

    def centered_rates(self) -> StrangerRates:
        """:attr:`rates`, of what ``center_cameras`` of :meth:`group` and :meth:`link` compares."""
        _, embeddings = self._embedded([], True)
        chosen = np.random.default_rng(0).permutation(len(embeddings))[: index.SAMPLE]
        return StrangerRates.of(embeddings[chosen])

    def group(self, *, max_distance: float, center_cameras: bool = False) -> Groups:
        """Rows as vehicles, by complete linkage: no two of one vehicle are further apart.

        Args:
            max_distance: squared Euclidean, such as ``rates.distance_at(0.001)``.
            center_cameras: take each camera's mean embedding away before, see
                :func:`.centering.center_cameras`; distances become others.

        GalleryError for no rows, or more than 20,000; DataError where no camera has enough rows.
        """
        rows, embeddings = self._embedded(["image", "box"], center_cameras)
        groups = linking.complete_linkage(embeddings.astype(np.float32), max_distance)
        images, boxes = map(Path, rows["image"].to_pylist()), map(corners, rows["box"].to_pylist())
        return Groups(tuple(images), groups, max_distance, boxes=tuple(boxes))

    def link(
        self,
        *,
        max_distance: float,
        window: float = 1.0,
        travel_times: Mapping[tuple[str, str], tuple[float, float]] | None = None,
        learn: bool = False,
        center_cameras: bool = False,
        progress: bool = True,
    ) -> Groups:
        """Link rows across cameras and times, see :func:`.linking.link`.

        Writes the column ``vehicle``, null for rows that are alone. Rows of one track are one
        vehicle; tracks of one camera that overlap in time are two. What :func:`.journeys.pin` put
        together or apart stays so. The embeddings of all rows are held in memory: 2 KB each.

        Args:
            max_distance: squared Euclidean, of a pair.
            window: seconds between two crops without a track at one camera, at least.
            travel_times: the least and most seconds from one camera to the next, by both names.
            learn: find out those that are not given, by linking without them first.
            center_cameras: as in :meth:`group`; takes 4 KB for each row, and compares each with
                each, as an index knows the stored embeddings alone.

        GalleryError for no rows, or if vehicles were pinned meanwhile; DataError as :meth:`group`.
        """
        columns = ["id", "image", "time", "track", "first", "last", "pinned"]
        rows, embeddings = self._embedded(columns, center_cameras)
        seen = Sightings.of(rows, window, travel_times or {})
        setting = None if center_cameras else self.plan()
        near = self._neighbors(rows["id"].to_pylist(), embeddings, seen.tracks, setting, progress)
        groups = linking.link(embeddings, *near, seen, max_distance=max_distance)
        learned: dict[Way, Travel] = {}
        if learn:
            learned = linking.travel_times(groups, seen)
            bounds = {way: one.bounds for way, one in learned.items()}
            seen = replace(seen, bounds={**bounds, **seen.bounds})
            groups = linking.link(embeddings, *near, seen, max_distance=max_distance)
        together = (np.bincount(groups)[groups] > 1) | (seen.pinned >= 0)
        vehicles = np.full(len(groups), -1)
        vehicles[together] = np.unique(groups[together], return_inverse=True)[1]
        labels = pa.array(vehicles, pa.int64(), mask=~together)
        schema = pa.schema([self.table.schema.field(name) for name in ("id", "vehicle")])
        with self.writing():
            if self.count(f"pinned > {seen.pinned.max()}"):
                raise GalleryError(
                    f"{self.path}: vehicles were put right by hand meanwhile; link again, which "
                    f"keeps that"
                )
            # Rows that were removed meanwhile are not written.
            self.merge(pa.Table.from_arrays([rows["id"], labels], schema=schema))
        return Groups(tuple(map(Path, rows["image"].to_pylist())), groups, max_distance, learned)

    def _embedded(self, columns: Sequence[str], center_cameras: bool) -> tuple[Any, np.ndarray]:
        """Columns of rows and ``camera``, Arrow, and embeddings, float16, or float32 if centred."""
        parts, halves = [], []
        for batch in self.read([*columns, "camera", _EMBEDDING]):
            parts.append(batch.select([*columns, "camera"]))
            halves.append(vectors(batch[_EMBEDDING]).astype(np.float16))
        if not parts:
            raise GalleryError(f"{self.path}: there are no rows to group; add pictures first")
        rows, embeddings = pa.Table.from_batches(parts), np.concatenate(halves)
        if center_cameras:
            embeddings = centered(embeddings, linking.numbered_cameras(rows["camera"])[0])
        return rows, embeddings

    def _neighbors(
        self,
        ids: Sequence[str],
        embeddings: np.ndarray,
        tracks: np.ndarray,
        setting: Setting | None,
        progress: bool,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Rows and distances of each row's nearest ones of other tracks, ``[N, 50]``."""
        near = np.full((len(ids), _NEIGHBORS), -1)
        far = np.full((len(ids), _NEIGHBORS), np.inf)
        # A long track's own rows would be all its neighbours.
        counts = np.minimum(np.bincount(tracks)[tracks] + _NEIGHBORS, len(ids)).tolist()
        places = {id: place for place, id in enumerate(ids)}
        blocks = chain.from_iterable(distance_blocks(embeddings, embeddings))
        for place in tqdm(range(len(ids)), "link", disable=None if progress else True, unit="row"):
            if setting is None:
                distances = next(blocks)
                found = nearest(distances, counts[place])
                distances = distances[found]
            else:
                hits = self._nearest(embeddings[place], counts[place], None, setting)
                found = np.array([places.get(hit.row.id, place) for hit in hits], np.int64)
                distances = np.array([hit.distance for hit in hits])
            others = np.flatnonzero(tracks[found] != tracks[place])[:_NEIGHBORS]
            near[place, : len(others)] = found[others]
            far[place, : len(others)] = distances[others]
        return near, far


def open_gallery(
    place: str | Path | Gallery,
    predictor: Predictor,
    *,
    boxes: str | Path | None = None,
    progress: bool = True,
) -> Gallery:
    """Open a gallery to search with a predictor.

    Args:
        place: a store (its name ends in ``.lance``), open already or not, a folder of vehicle
            crops, a data set in any layout of :func:`read_dataset` (its split ``gallery``), or
            ``demo``: the generated crops in the package. Pictures are embedded into a gallery in
            memory; nothing is written.
        boxes: a file of :func:`.read_boxes`, if the folder's pictures are frames.

    GalleryError for what is no gallery, a store of other weights, or a folder of which no picture
    can be read; DataError for faulty labels; ImageError for no picture.
    """
    found = place if isinstance(place, Gallery) else find_gallery(place)
    if isinstance(found, Gallery):
        if boxes is not None:
            raise GalleryError(f"{found.path}: boxes are of a folder's pictures, not of a store's")
        found.check_origin(predictor.origin)
        return found
    if boxes is None:
        entries = entries_of([found], found)
    else:
        entries = entries_of_boxes(boxes_of(find_images(found), Path(boxes)))
    gallery = Gallery.create(MEMORY, predictor)
    report = gallery.add(predictor, entries, progress=progress)
    if not len(gallery):
        image, problem = next(iter(report.broken.items()))
        raise GalleryError(f"{place}: no picture can be read, such as {image}: {problem}")
    return gallery


def find_gallery(place: str | Path) -> Gallery | Path:
    """The store, or the folder of crops, that a place names; GalleryError if nothing is there."""
    if is_store(place):
        return Gallery(place)
    folder = assets_folder() / "demo" / "gallery" if place == DEMO else expand(place)
    # Path.is_dir fails on names that are too long.
    if not os.path.isdir(folder):  # noqa: PTH112
        raise GalleryError(
            f"{place}: expected a store (.lance), a folder of vehicle crops, a data set, or "
            f"{DEMO!r}"
        )
    return folder


def _by_size(name: str) -> tuple[bool, int, str]:
    return (False, len(name), name) if name.isdigit() else (True, 0, name)
