"""Evaluation: ranking of the gallery by a protocol, colour and type accuracy."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.records import VehicleDataset, warn_about
from ..errors import DataError
from ..models.embedding import EmbeddingSpec
from ..ranking import centering
from ..ranking.calibration import Calibration, LabelledHits, save_calibration
from ..ranking.protocols import Protocol, evaluate_by, protocol_named
from ..vehicle.attributes import COLORS, TYPES, class_name
from ..vehicle.cameras import UNKNOWN_CAMERA, same_camera
from .embedding import Embeddings, embed_records
from .results import (
    RANDOM,
    Evaluation,
    attribute_result,
    run_settings,
    write_metrics,
)

if TYPE_CHECKING:
    from ..inference.predictor import Predictor

logger = logging.getLogger(__name__)

# These files hold their calibration themselves, and are made from a checkpoint.
_EXPORTED = (".onnx", ".mindir")


def evaluate(
    predictor: Predictor,
    dataset: VehicleDataset,
    *,
    protocol: str | None = None,
    rerank: bool = False,
    center_cameras: bool = False,
    output: str | Path | None = None,
    progress: bool = True,
) -> Evaluation:
    """Evaluate a network on a data set's query and gallery.

    Args:
        dataset: with the splits ``query`` and ``gallery``.
        protocol: ``veri``, ``cityflow``, ``vehicleid`` or ``veriwild``; default is the data set's.
        rerank: also report k-reciprocal re-ranking (Zhong et al., CVPR 2017).
        center_cameras: take each camera's mean embedding away first, over query and gallery
            together, see :func:`.centering.center_cameras`.
        output: a folder for ``metrics.json``.

    Raises:
        DataError: images are missing, no query has a match in the gallery, or no camera has enough
            images for ``center_cameras``.
        ImageError: an image cannot be read.
        OutputError: the results cannot be written.
    """
    rules = protocol_named(protocol or dataset.protocol)
    query, gallery = _embed(predictor, dataset, progress)
    if center_cameras:
        query, gallery = _centered(dataset, query, gallery)
    settings = {
        "data": str(dataset.root),
        "layout": dataset.layout,
        "protocol": rules.text,
        "not_comparable": caveats(dataset, rules),
        "query_images": len(dataset.query),
        "gallery_images": len(dataset.gallery),
        "variant": str(predictor.spec.variant),
        "poses": _poses(predictor, Counter(query.poses) + Counter(gallery.poses)),
        "distance": predictor.spec.measure,
        "center_cameras": center_cameras,
        **run_settings(predictor),
    }
    evaluation = evaluate_outputs(
        predictor.spec, dataset, query, gallery, protocol=rules, rerank=rerank, settings=settings
    )
    if output is not None:
        write_metrics(evaluation.as_json(), Path(output) / "metrics.json")
    return evaluation


def evaluate_outputs(
    spec: EmbeddingSpec,
    dataset: VehicleDataset,
    query: Embeddings,
    gallery: Embeddings,
    *,
    protocol: Protocol | None = None,
    rerank: bool = False,
    settings: Mapping[str, Any] | None = None,
) -> Evaluation:
    """Evaluate a network's answers for query and gallery; see :func:`evaluate`."""
    protocol = protocol or protocol_named(dataset.protocol)
    embeddings = query.embeddings, gallery.embeddings
    rank = partial(evaluate_by, protocol, labels=_labels(dataset))
    tracks = [record.track for record in dataset.gallery.records]
    by_track = protocol.tracks and any(track is not None for track in tracks)
    records = (*dataset.query.records, *dataset.gallery.records)
    colors = types = None
    if spec.has_attributes:
        true_colors = _names((record.color_id for record in records), COLORS, "color")
        true_types = _names((record.type_id for record in records), TYPES, "type")
        found_colors = np.concatenate([query.colors, gallery.colors])
        found_types = np.concatenate([query.types, gallery.types])
        colors = attribute_result(spec.color_names, true_colors, found_colors)
        types = attribute_result(spec.type_names, true_types, found_types)
    return Evaluation(
        ranking=rank(embeddings),
        reranked=rank(embeddings, rerank=True) if rerank else None,
        tracks=rank((embeddings[0], track_means(embeddings[1], tracks))) if by_track else None,
        color=colors,
        type=types,
        query=query,
        gallery=gallery,
        dataset=dataset,
        settings=dict(settings or {}),
    )


def caveats(dataset: VehicleDataset, protocol: Protocol) -> list[str]:
    """Why figures on a data set do not compare with those that are published, in words."""
    found = []
    if protocol.name != dataset.protocol:
        found.append(f"the protocol of this data set is {dataset.protocol}")
    counts = len(dataset.query), len(dataset.gallery)
    if dataset.published not in (None, counts):
        ours, theirs = (
            f"{queries:,} queries and {gallery:,} gallery images"
            for queries, gallery in (counts, dataset.published)
        )
        found.append(f"published figures are of {theirs}, these of {ours}")
    cameras = np.concatenate([dataset.query.camera_ids, dataset.gallery.camera_ids])
    if not protocol.own_camera and (cameras == UNKNOWN_CAMERA).any():
        found.append("where a camera is unknown, images of the query's own camera count")
    return found


def track_means(embeddings: np.ndarray, tracks: Sequence[int | None]) -> np.ndarray:
    """The embeddings, with the mean of its track's for each image of a known track."""
    means = embeddings.copy()
    of_image = np.array([-1 if track is None else track for track in tracks])
    for track in np.unique(of_image[of_image >= 0]):
        means[of_image == track] = embeddings[of_image == track].mean(axis=0)
    return means


def calibrate(
    predictor: Predictor,
    dataset: VehicleDataset,
    *,
    vehicle_rows: float | None = None,
    progress: bool = True,
) -> Calibration:
    """Measure how likely hits show the query's vehicle; see :class:`multitasknet.Calibration`.

    Args:
        dataset: with the splits ``query`` and ``gallery``; its protocol says whether the query's
            own camera counts.
        vehicle_rows: rows that galleries have of one vehicle; as many as the data set's by default.

    Raises:
        DataError: the hits are all right, or all wrong; or as :func:`evaluate` raises errors.
    """
    query, gallery = _embed(predictor, dataset, progress)
    own_camera = protocol_named(dataset.protocol).own_camera
    hits = LabelledHits.of(
        query.embeddings, gallery.embeddings, *_labels(dataset), own_camera=own_camera
    )
    return Calibration(
        coefficients=hits.coefficients(),
        vehicle_rows=vehicle_rows or hits.vehicle_rows,
        hits=len(hits.same),
        vehicles=hits.vehicles,
        measured_on=dataset.root.resolve().name,
        weights=predictor.engine.weights_sha256,
        input_size=predictor.size,
        pose=predictor.pose_setting,
        precision=predictor.engine.precision,
    )


def keep_calibration(predictor: Predictor, calibration: Calibration) -> Path:
    """Write a calibration into the sidecar of the predictor's weights, and say where that is.

    Raises:
        DataError: the weights are not a checkpoint of the user's own.
        OutputError: the sidecar cannot be written.
    """
    path = predictor.weights_file
    if path is None or not predictor.weights_are_own or path.suffix in _EXPORTED:
        raise DataError(
            f"{path or 'random weights'}: it has no sidecar of yours to write to; give --weights a "
            f"checkpoint, such as a copy of this one with its sidecar"
        )
    return save_calibration(path, predictor.spec, calibration)


def _embed(
    predictor: Predictor, dataset: VehicleDataset, progress: bool
) -> tuple[Embeddings, Embeddings]:
    """The answers for query and gallery."""
    if not len(dataset.query) or not len(dataset.gallery):
        raise ValueError("the data set has no query or no gallery; read both splits")
    warn_about(dataset)
    query, gallery = (
        embed_records(
            predictor, split.records, description=f"embed {split.name}", progress=progress
        )
        for split in (dataset.query, dataset.gallery)
    )
    _warn_of_shared_images(dataset, query, gallery)
    return query, gallery


def _centered(
    dataset: VehicleDataset, query: Embeddings, gallery: Embeddings
) -> tuple[Embeddings, Embeddings]:
    embeddings = centering.center_cameras(
        np.concatenate([query.embeddings, gallery.embeddings]),
        np.concatenate([dataset.query.camera_ids, dataset.gallery.camera_ids]),
    )
    parts = np.split(embeddings, [len(query.embeddings)])
    return replace(query, embeddings=parts[0]), replace(gallery, embeddings=parts[1])


def _warn_of_shared_images(dataset: VehicleDataset, query: Embeddings, gallery: Embeddings) -> None:
    """A query that is in the gallery, under any name, is its own first match.

    Unless it is left out, as images of the query's vehicle and camera are.
    """
    places: dict[str, list[int]] = {}
    for place, content in enumerate(gallery.sha256):
        places.setdefault(content, []).append(place)
    query_ids, gallery_ids, query_cameras, gallery_cameras = _labels(dataset)

    def finds_itself(row: int) -> bool:
        copies = np.array(places.get(query.sha256[row], ()), dtype=np.int64)
        left_out = gallery_ids[copies] == query_ids[row]
        left_out &= same_camera(gallery_cameras[copies], query_cameras[row])
        return bool((~left_out).any())

    shared = sum(map(finds_itself, range(len(query.sha256))))
    if shared:
        logger.warning(
            "%s: %d of the queries are in the gallery themselves, under no camera that would leave "
            "them out: they find themselves, and the metrics are too high",
            dataset.root,
            shared,
        )


def _labels(dataset: VehicleDataset) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """As :func:`multitasknet.evaluate_ranking` takes them after the distances."""
    query, gallery = dataset.query, dataset.gallery
    return query.vehicle_ids, gallery.vehicle_ids, query.camera_ids, gallery.camera_ids


def _names(ids: Iterable[int | None], published: tuple[str, ...], kind: str) -> list[str | None]:
    """The true colours or types; None where unknown."""
    return [None if raw is None else class_name(raw, published, kind) for raw in ids]


def _poses(predictor: Predictor, counts: Mapping[str, int]) -> str:
    """Where the poses are from, in words."""
    if not predictor.spec.uses_pose:
        return "not used"
    estimator = predictor.pose_estimator if counts.get("estimated") else None
    words = {origin: f"{count} {origin}" for origin, count in counts.items()}
    if estimator:
        words["estimated"] += f" by {estimator.engine.source or RANDOM}"
    return "given" if set(counts) == {"given"} else ", ".join(words.values())
