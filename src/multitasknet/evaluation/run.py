"""Evaluation by VeRi's protocol: ranking of the gallery, colour and type accuracy."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..data.records import VehicleDataset, warn_about
from ..inference.kept_poses import complete_poses
from ..models.multitasknet.spec import MultiTaskNetSpec
from ..ranking import reranking
from ..ranking.metrics import evaluate_embeddings, evaluate_ranking
from ..ranking.threshold import Roc, roc_of_embeddings
from ..retrieval.embedding import SplitEmbeddings, embed_split
from ..vehicle.attributes import COLORS, TYPES, class_name
from ..vehicle.cameras import UNKNOWN_CAMERA
from .results import (
    RANDOM,
    AttributeResult,
    Evaluation,
    attribute_result,
    run_settings,
    write_metrics,
)

if TYPE_CHECKING:
    from ..inference.predictor import Predictor

logger = logging.getLogger(__name__)


def evaluate(
    predictor: Predictor,
    dataset: VehicleDataset,
    *,
    rerank: bool = False,
    output: str | Path | None = None,
    workers: int = 1,
    progress: bool = True,
) -> Evaluation:
    """Evaluate a network on a data set's query and gallery.

    With ``output``, the embeddings are kept in ``<output>/embeddings``, from which an interrupted
    or repeated evaluation goes on, and the metrics are written to ``<output>/metrics.json``.

    Args:
        dataset: with the splits ``query`` and ``gallery``.
        rerank: also report k-reciprocal re-ranking (Zhong et al., CVPR 2017).
        workers: threads that decode and resize.

    Raises:
        RankingError: no query has a match in the gallery.
        OutputError: the results cannot be written.
    """
    query, gallery = _embed(predictor, dataset, output, workers, progress)
    settings = _settings(predictor, dataset)
    evaluation = evaluate_outputs(
        predictor.spec, dataset, query, gallery, rerank=rerank, settings=settings
    )
    if output is not None:
        write_metrics(evaluation.as_json(), Path(output) / "metrics.json")
    return evaluation


def evaluate_outputs(
    spec: MultiTaskNetSpec,
    dataset: VehicleDataset,
    query: SplitEmbeddings,
    gallery: SplitEmbeddings,
    *,
    rerank: bool = False,
    settings: Mapping[str, Any] | None = None,
) -> Evaluation:
    """Evaluate what a network has said of query and gallery already; see :func:`evaluate`."""
    embeddings, labels = (query.embeddings, gallery.embeddings), _labels(dataset)
    colors = np.concatenate([query.colors, gallery.colors])
    types = np.concatenate([query.types, gallery.types])
    has_both = spec.has_attributes
    return Evaluation(
        ranking=evaluate_embeddings(*embeddings, *labels),
        reranked=evaluate_ranking(reranking.rerank(*embeddings), *labels) if rerank else None,
        color=_attribute("color", dataset, spec.color_names, colors) if has_both else None,
        type=_attribute("type", dataset, spec.type_names, types) if has_both else None,
        query=query,
        gallery=gallery,
        settings=dict(settings or {}),
    )


def dataset_roc(
    predictor: Predictor,
    dataset: VehicleDataset,
    *,
    output: str | Path | None = None,
    workers: int = 1,
    progress: bool = True,
) -> Roc:
    """The ROC of all pairs of query and gallery images; arguments as in :func:`evaluate`."""
    outputs = _embed(predictor, dataset, output, workers, progress)
    splits = dataset.query, dataset.gallery
    return roc_of_embeddings(
        np.concatenate([one.embeddings for one in outputs]),
        np.concatenate([split.vehicle_ids for split in splits]),
        np.concatenate([split.camera_ids for split in splits]),
    )


def _embed(
    predictor: Predictor,
    dataset: VehicleDataset,
    output: str | Path | None,
    workers: int,
    progress: bool,
) -> list[SplitEmbeddings]:
    """What the network says of query and gallery."""
    if not len(dataset.query) or not len(dataset.gallery):
        raise ValueError("the data set has no query or no gallery; read both splits")
    warn_about(dataset)
    _warn_of_shared_images(dataset)
    splits = [
        complete_poses(predictor, split, folder=dataset.root, progress=progress)
        for split in (dataset.query, dataset.gallery)
    ]
    folder = None if output is None else Path(output) / "embeddings"
    return [
        embed_split(predictor, split, folder=folder, workers=workers, progress=progress)
        for split in splits
    ]


def _warn_of_shared_images(dataset: VehicleDataset) -> None:
    """Without its camera, a query that is in the gallery too is its own first match."""
    shown = {record.image for record in dataset.gallery.records}
    shared = sum(
        record.image in shown and record.camera_id == UNKNOWN_CAMERA
        for record in dataset.query.records
    )
    if shared:
        logger.warning(
            "%s: %d of the queries are in the gallery themselves, without a camera that would "
            "leave them out: they find themselves, and the metrics are too high",
            dataset.root,
            shared,
        )


def _labels(dataset: VehicleDataset) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """As :func:`multitasknet.evaluate_ranking` takes them behind the distances."""
    query, gallery = dataset.query, dataset.gallery
    return query.vehicle_ids, gallery.vehicle_ids, query.camera_ids, gallery.camera_ids


def _attribute(
    kind: Literal["color", "type"],
    dataset: VehicleDataset,
    known: tuple[str, ...],
    predicted: np.ndarray,
) -> AttributeResult:
    published = COLORS if kind == "color" else TYPES
    records = (*dataset.query.records, *dataset.gallery.records)
    ids = (getattr(record, f"{kind}_id") for record in records)
    truth = [None if raw is None else class_name(raw, published, kind) for raw in ids]
    return attribute_result(known, truth, predicted)


def _settings(predictor: Predictor, dataset: VehicleDataset) -> dict[str, Any]:
    return {
        "data": str(dataset.root),
        "query_images": len(dataset.query),
        "gallery_images": len(dataset.gallery),
        "variant": str(predictor.spec.variant),
        "poses": _poses(predictor, dataset),
        "distance": "squared Euclidean",
        **run_settings(predictor),
    }


def _poses(predictor: Predictor, dataset: VehicleDataset) -> str:
    """Where the poses are from, in words."""
    records = (*dataset.query.records, *dataset.gallery.records)
    missing = sum(record.keypoints is None for record in records)
    if not missing or not predictor.spec.uses_pose:
        return "given" if predictor.spec.uses_pose else "not used"
    estimator = predictor.pose_estimator
    rest = "neutral" if estimator is None else f"estimated by {estimator.engine.source or RANDOM}"
    return f"{len(records) - missing} given, {missing} {rest}"
