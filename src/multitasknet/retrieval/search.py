"""Searching a folder of vehicle crops by example."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..data.labels import LabelRow, keypoints_of
from ..data.records import Record, Split, check_images
from ..data.samples import sample_fingerprint
from ..images import read_image
from ..inference.kept_poses import complete_poses
from ..report.page import Panel, Shot, thumbnail, write_page
from .comparing import same_vehicle
from .embedding import embed_split, origin_of
from .index import GalleryIndex

if TYPE_CHECKING:
    from ..inference.predictor import Predictor
    from ..ranking.calibration import Calibration

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Match:
    """A gallery image found for a query.

    Attributes:
        name: its path, as in the index.
        distance: squared Euclidean, smaller is nearer.
        probability: that it is the same vehicle; None where the weights are not calibrated.
    """

    name: str
    distance: float
    probability: float | None = None


def build_index(
    predictor: Predictor,
    images: Sequence[str | Path],
    *,
    labels: Mapping[str, LabelRow] | None = None,
    known: GalleryIndex | None = None,
    folder: str | Path | None = None,
    workers: int = 1,
    progress: bool = True,
) -> GalleryIndex:
    """Embed images for searching.

    Args:
        images: their paths; they become the index's names.
        labels: keypoints by file name, see :func:`multitasknet.read_labels`.
        known: an index whose embeddings are taken over where network, picture and keypoints are
            still the same.
        folder: where estimated poses are kept, such as the folder of the images; default is the
            cache.
        workers: threads that decode and resize.

    Raises:
        DataError: an image is missing or cannot be read.
    """
    origin = origin_of(predictor)
    records = _records("gallery", images, labels)
    check_images(record for record in records if not record.image.is_file())
    kept = None if folder is None else Path(folder)
    records = _complete(predictor, Split("gallery", records), kept, progress).records
    prints = tuple(sample_fingerprint(record, predictor.spec) for record in records)
    rows: dict[str, np.ndarray] = {}
    if known is not None and known.origin == origin and known.fingerprints:
        rows = dict(zip(known.fingerprints, known.embeddings, strict=True))
    fresh = {key: record for key, record in zip(prints, records, strict=True) if key not in rows}
    if fresh:
        split = Split("gallery", tuple(fresh.values()))
        rows |= zip(fresh, _embed(predictor, split, workers, progress), strict=True)
    embeddings = np.stack([rows[key] for key in prints])
    return GalleryIndex(tuple(map(str, images)), embeddings, origin, prints)


def search(
    predictor: Predictor,
    index: GalleryIndex,
    queries: Sequence[str | Path],
    *,
    top: int = 10,
    labels: Mapping[str, LabelRow] | None = None,
    use_faiss: bool | None = None,
    progress: bool = True,
) -> list[list[Match]]:
    """The nearest gallery images of each query, nearest first.

    Args:
        predictor: the network that built the index.
        queries: paths of vehicle crops.
        top: images a query.
        labels: keypoints by file name.
        use_faiss: as in :meth:`multitasknet.GalleryIndex.search`.

    Raises:
        DataError: an image is missing or cannot be read.
    """
    records = _records("queries", queries, labels)
    inside = len({record.image for record in records} & set(map(Path, index.names)))
    if inside:
        logger.warning(
            "%d of the queries are in the gallery themselves, and find themselves", inside
        )
    queried = _complete(predictor, Split("queries", records), None, progress)
    embedded = _embed(predictor, queried, 1, progress)
    found = zip(*index.search(embedded, top, use_faiss=use_faiss), strict=True)
    return [
        [
            Match(index.names[row], float(distance), same_vehicle(predictor, distance))
            for distance, row in zip(*one, strict=True)
        ]
        for one in found
    ]


def write_search_report(
    path: str | Path,
    queries: Sequence[str | Path],
    found: Sequence[Sequence[Match]],
    *,
    gallery: int,
    weights: str = "",
    calibration: Calibration | None = None,
) -> Path:
    """Write a self-contained page with each query and what :func:`search` found for it.

    Args:
        gallery: images searched in.
        weights: where the weights are from; empty if they are random.
        calibration: how probable the matches are; None to show distances alone.
    """
    panels = [
        Panel(
            str(query),
            (
                _shot(query, "query", "query"),
                *(_match_shot(match, calibration) for match in matches),
            ),
        )
        for query, matches in zip(queries, found, strict=True)
    ]
    return write_page(
        path,
        "search.html",
        title="MultiTaskNet search",
        panels=panels,
        queries=len(queries),
        gallery=gallery,
        weights=weights,
        calibration=calibration,
        random=not weights,
    )


def _shot(image: str | Path, caption: str, verdict: str = "") -> Shot:
    return Shot(thumbnail(read_image(image)), caption, str(image), verdict)


def _match_shot(match: Match, calibration: Calibration | None) -> Shot:
    certain = f", {calibration.words(match.distance)}" if calibration else ""
    return _shot(match.name, f"{match.distance:.3g}{certain}")


def _records(
    origin: str, images: Sequence[str | Path], labels: Mapping[str, LabelRow] | None
) -> tuple[Record, ...]:
    paths = [Path(image) for image in images]
    poses = keypoints_of(paths, labels)
    return tuple(
        Record(image, vehicle_id=0, keypoints=pose, origin=origin)
        for image, pose in zip(paths, poses, strict=True)
    )


def _complete(predictor: Predictor, split: Split, folder: Path | None, progress: bool) -> Split:
    """The split with estimated poses where there are none."""
    if predictor.pose_estimator is not None:
        check_images(one for one in split.records if one.keypoints is None)
    return complete_poses(predictor, split, folder=folder, progress=progress)


def _embed(predictor: Predictor, split: Split, workers: int, progress: bool) -> np.ndarray:
    check_images(split.records)
    return embed_split(predictor, split, workers=workers, progress=progress).embeddings
