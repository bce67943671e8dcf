"""Evaluation: ranking of the gallery by a protocol, colour and type accuracy."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.records import Record, VehicleDataset, warn_about
from ..errors import DataError
from ..models.embedding import EmbeddingSpec
from ..ranking import centering
from ..ranking.calibration import Calibration, LabelledHits, save_calibration
from ..ranking.protocols import Draw, Protocol, evaluate_by, protocol_named
from ..vehicle.attributes import COLORS, TYPES
from ..vehicle.cameras import UNKNOWN_CAMERA
from .embedding import Embeddings, embed_records
from .results import (
    RANDOM,
    AttributeResult,
    Evaluation,
    data_name,
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
    draws, images = _draws(dataset, rules), dataset.held_out
    if center_cameras:
        centering.check_cameras(images.camera_ids)  # an error now, not after embedding
    outputs = _embed(predictor, dataset, images.records, draws, progress)
    if center_cameras:
        centered = centering.center_cameras(outputs.embeddings, images.camera_ids)
        outputs = replace(outputs, embeddings=centered)
    settings = {
        "data": str(dataset.root),
        "layout": dataset.layout,
        "protocol": rules.text,
        "not_comparable": caveats(dataset, rules),
        "query_images": len(dataset.query),
        "gallery_images": len(dataset.gallery),
        "variant": str(predictor.spec.variant),
        "poses": _poses(predictor, outputs.poses),
        "distance": predictor.spec.measure,
        "center_cameras": center_cameras,
        **run_settings(predictor),
    }
    evaluation = evaluate_outputs(
        predictor.spec, dataset, outputs, protocol=rules, rerank=rerank, settings=settings
    )
    if output is not None:
        write_metrics(evaluation.as_json(), output)
    return evaluation


def evaluate_outputs(
    spec: EmbeddingSpec,
    dataset: VehicleDataset,
    outputs: Embeddings,
    *,
    protocol: Protocol | None = None,
    rerank: bool = False,
    settings: Mapping[str, Any] | None = None,
) -> Evaluation:
    """Evaluate a network's answers for query and then gallery; see :func:`evaluate`."""
    rules = protocol or protocol_named(dataset.protocol)
    draws, records = _draws(dataset, rules), dataset.held_out.records
    rankings = {"plain": evaluate_by(rules, outputs.embeddings, draws)}
    if rerank:
        rankings["re-ranked"] = evaluate_by(rules, outputs.embeddings, draws, rerank=True)
    if rules.tracks and any(one.track is not None for one in dataset.gallery.records):
        rankings["by track"] = evaluate_by(rules, track_means(spec, dataset, outputs), draws)
    attributes = {}
    if spec.has_attributes:
        colors, types = [one.color_id for one in records], [one.type_id for one in records]
        attributes = {
            "color": AttributeResult.of(spec.color_names, COLORS, "color", colors, outputs.colors),
            "type": AttributeResult.of(spec.type_names, TYPES, "type", types, outputs.types),
        }
    labelled = {name: one for name, one in attributes.items() if (one.truth >= 0).any()}
    return Evaluation(rankings, labelled, outputs, draws[0], dataset, dict(settings or {}))


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
    if (dataset.held_out.camera_ids == UNKNOWN_CAMERA).any() and not protocol.own_camera:
        found.append("where a camera is unknown, images of the query's own camera count")
    return found


def track_means(spec: EmbeddingSpec, dataset: VehicleDataset, outputs: Embeddings) -> np.ndarray:
    """The embeddings ``[N, D]`` of query and gallery, each of a known track of the gallery replaced
    by its track's mean, of length 1 where they are compared by angle."""
    tracks = np.array([-1 if one.track is None else one.track for one in dataset.gallery.records])
    means = outputs.embeddings.copy()
    for track in np.unique(tracks[tracks >= 0]):
        rows = len(dataset.query) + np.flatnonzero(tracks == track)
        mean = outputs.embeddings[rows].mean(axis=0)
        means[rows] = mean / np.linalg.norm(mean) if spec.distance == "cosine" else mean
    return means


def calibrate(
    predictor: Predictor,
    dataset: VehicleDataset,
    *,
    vehicle_rows: float | None = None,
    progress: bool = True,
) -> Calibration:
    """Measure how likely hits show the query's vehicle; see :class:`multitasknet.Calibration`.

    Poses are the predictor's, as in a search, also where the data set has keypoints.

    Args:
        dataset: with the splits ``query`` and ``gallery``; its protocol says whether the query's
            own camera counts.
        vehicle_rows: rows that galleries have of one vehicle; as many as the data set's by default.

    Raises:
        DataError: the hits are all right, or all wrong; or as :func:`evaluate` raises errors.
    """
    draws = _draws(dataset, protocol_named(dataset.protocol))
    without: dict[str, Any] = {"keypoints": None, "heatmaps": None, "segments": None}
    records = [replace(record, **without) for record in dataset.held_out.records]
    embeddings, draw = _embed(predictor, dataset, records, draws, progress).embeddings, draws[0]
    hits = LabelledHits.of(embeddings[draw.queries], embeddings[draw.gallery], draw.labels)
    return Calibration(
        coefficients=hits.coefficients(),
        vehicle_rows=vehicle_rows or hits.vehicle_rows,
        hits=len(hits.same),
        vehicles=hits.vehicles,
        measured_on=data_name(dataset.root),
        weights=predictor.engine.weights_sha256,
        input_size=predictor.size,
        pose=predictor.pose_setting,
        precision=predictor.engine.precision,
    )


def keep_calibration(predictor: Predictor, calibration: Calibration) -> Path:
    """Write a calibration into the sidecar of the predictor's weights, and return its path.

    DataError: the weights are not a checkpoint of the user's own. OutputError: it cannot be
    written.
    """
    path = predictor.weights_file
    if path is None or not predictor.weights_are_own or path.suffix in _EXPORTED:
        raise DataError(
            f"{path or 'random weights'}: it has no sidecar of yours to write to; give --weights a "
            f"checkpoint, such as a copy of this one with its sidecar"
        )
    return save_calibration(path, predictor.spec, calibration)


def _draws(dataset: VehicleDataset, protocol: Protocol) -> list[Draw]:
    """What is ranked; DataError if no query has a match."""
    if not len(dataset.query) or not len(dataset.gallery):
        raise ValueError("the data set has no query or no gallery; read both splits")
    images = dataset.held_out
    return protocol.drawn(images.vehicle_ids, images.camera_ids, len(dataset.query))


def _embed(
    predictor: Predictor,
    dataset: VehicleDataset,
    records: Sequence[Record],
    draws: Sequence[Draw],
    progress: bool,
) -> Embeddings:
    """The answers for query and gallery; warns of queries that are in the gallery themselves."""
    warn_about(dataset)
    outputs = embed_records(predictor, records, progress=progress)
    shared = max(_finding_themselves(np.array(outputs.sha256), draw) for draw in draws)
    if shared:
        logger.warning(
            "%s: %d of the queries are in the gallery themselves, under no camera that would leave "
            "them out: they find themselves, and the metrics are too high",
            dataset.root,
            shared,
        )
    return outputs


def _finding_themselves(contents: np.ndarray, draw: Draw) -> int:
    """How many queries rank an image of the same content, under any name."""
    queries, gallery = contents[draw.queries], contents[draw.gallery]
    suspects = np.flatnonzero(np.isin(queries, gallery))
    found = (draw.labels.ranked(row) & (gallery == queries[row]) for row in suspects)
    return sum(bool(one.any()) for one in found)


def _poses(predictor: Predictor, counts: Mapping[str, int]) -> str:
    """Where the poses are from, in words."""
    if not predictor.spec.uses_pose:
        return "not used"
    estimator = predictor.pose_estimator if counts.get("estimated") else None
    words = {origin: f"{count} {origin}" for origin, count in counts.items()}
    if estimator:
        words["estimated"] += f" by {estimator.engine.source or RANDOM}"
    return "given" if set(counts) == {"given"} else ", ".join(words.values())
