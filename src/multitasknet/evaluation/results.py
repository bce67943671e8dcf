"""The results of an evaluation."""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import __version__
from ..data.records import VehicleDataset
from ..files import make_folder, replacing
from ..hub.card import PUBLISHED_METRICS, ModelCard
from ..ranking.metrics import RankingResult
from .embedding import Embeddings
from .figures import (
    RANKS,
    Figure,
    Part,
    breakdown,
    figures,
    figures_as_json,
    ranking_figures,
    table_columns,
)
from .kinds import kinds_of_matches

if TYPE_CHECKING:
    from ..inference.runner import Runner

# What settings name as the weights if they are no file's.
RANDOM = "random values"
# PoseEstNet's card misspells its data set.
_MISSPELT = {"veir": "veri"}


@dataclass(frozen=True, eq=False)
class AttributeResult:
    """How well colour or type was predicted, over query and gallery together.

    Attributes:
        names: the network's classes, then those that it does not know but the data has.
        confusion: int64 ``[C, C]``, images by true and predicted class.
        unlabelled: images without a label; they count nowhere.
        right: float64 ``[N]``, of each image 1 or 0; NaN if it is unlabelled.
    """

    names: tuple[str, ...]
    confusion: np.ndarray
    unlabelled: int
    right: np.ndarray

    @property
    def accuracy(self) -> float:
        """Share of labelled images predicted right, 0..1; NaN if none is labelled."""
        total = self.confusion.sum()
        return float(np.trace(self.confusion) / total) if total else float("nan")


@dataclass(frozen=True)
class CardMetrics:
    """Metrics that a card states, in percent under this package's names, and the data it names."""

    values: dict[str, float]
    data: str


@dataclass(frozen=True, eq=False)
class Evaluation:
    """All results of one evaluation.

    Attributes:
        ranking: plain squared Euclidean distances.
        reranked: the same with k-reciprocal re-ranking, None if not asked for.
        tracks: the same with each gallery image's embedding the mean of its track's; None if the
            protocol does not ask for it, or no track is known.
        color, type: None if the network has no such head.
        query, gallery: the network's answers for the images, as they were compared.
        dataset: the images.
        settings: weights, data and versions that the metrics belong to.
    """

    ranking: RankingResult
    reranked: RankingResult | None
    color: AttributeResult | None
    type: AttributeResult | None
    query: Embeddings
    gallery: Embeddings
    dataset: VehicleDataset
    settings: dict[str, Any]
    tracks: RankingResult | None = None

    @property
    def metrics(self) -> dict[str, float]:
        """Name to value in percent: mAP, mINP, Rank-k, and where images are labelled colour and
        type."""
        metrics = _ranking_metrics(self.ranking)
        for name, result in (("color", self.color), ("type", self.type)):
            if result is not None and result.confusion.any():
                metrics[name] = 100 * result.accuracy
        return metrics

    @property
    def reranked_metrics(self) -> dict[str, float]:
        """The ranking's metrics with re-ranking; empty if not asked for."""
        return _ranking_metrics(self.reranked) if self.reranked else {}

    @property
    def track_metrics(self) -> dict[str, float]:
        """The ranking's metrics by tracks; empty without them."""
        return _ranking_metrics(self.tracks) if self.tracks else {}

    @property
    def deviations(self) -> dict[str, float]:
        """The standard deviation of each metric over a protocol's draws; empty without draws."""
        draws = [_ranking_metrics(one) for one in self.ranking.draws]
        return {name: float(np.std([one[name] for one in draws])) for name in (draws or [{}])[0]}

    @cached_property
    def figures(self) -> dict[str, Figure]:
        """The metrics with their intervals."""
        found = ranking_figures(self.ranking.matches)
        vehicles = np.concatenate(
            [self.dataset.query.vehicle_ids, self.dataset.gallery.vehicle_ids]
        )
        for name, result in (("color", self.color), ("type", self.type)):
            if result is not None and result.confusion.any():
                found |= figures({name: result.right}, vehicles)
        return found

    @cached_property
    def breakdown(self) -> dict[str, dict[str, Part]]:
        """The ranking by camera pair, view, size and so on, and in each by its kinds of match.

        A kind's matches are ranked among the images of other vehicles: matches of other kinds are
        left out. What all matches have in common is not broken down, nor are a protocol's draws.
        """
        if self.ranking.draws:
            return {}
        matches, facts = self.ranking.matches, (self.query.facts, self.gallery.facts)
        kinds = kinds_of_matches(matches, self.dataset, *facts)
        found = {title: breakdown(matches, *one) for title, one in kinds.items()}
        return {title: parts for title, parts in found.items() if len(parts) > 1}

    @property
    def columns(self) -> dict[str, dict[str, str]]:
        """The figures as columns of a table, by heading; the first is headed by the data's name."""
        columns = table_columns(data_name(self.dataset.root), self.figures)
        if self.deviations:
            columns["deviation"] = {name: f"{one:.2f}" for name, one in self.deviations.items()}
        for title, ranking in (("re-ranked", self.reranked), ("by track", self.tracks)):
            if ranking:
                columns |= table_columns(title, ranking_figures(ranking.matches))
        return columns

    def as_json(self) -> dict[str, Any]:
        """Metrics, intervals and settings as plain values."""
        return {
            **figures_as_json(self.figures),
            "reranked": self.reranked_metrics,
            "by_track": self.track_metrics,
            "deviations": self.deviations,
            "valid_queries": self.ranking.valid_queries,
            "queries_without_match": len(self.ranking.skipped_queries),
            "cmc": self.ranking.cmc.tolist(),
            "breakdown": {
                title: {name: part.as_json() for name, part in parts.items()}
                for title, parts in self.breakdown.items()
            },
            "settings": self.settings,
        }


def attribute_result(
    known: tuple[str, ...], truth: Sequence[str | None], predicted: np.ndarray
) -> AttributeResult:
    """Count true classes, None where unlabelled, against predicted indices into ``known``.

    A class that the network does not know can only be predicted wrong.
    """
    labelled = np.array([name is not None for name in truth], dtype=bool)
    named = [name for name in truth if name is not None]
    names = (*known, *sorted(set(named) - set(known)))
    confusion = np.zeros((len(names), len(names)), dtype=np.int64)
    true = np.array([names.index(name) for name in named], dtype=np.int64)
    np.add.at(confusion, (true, predicted[labelled]), 1)
    right = np.full(len(truth), np.nan)
    right[labelled] = true == predicted[labelled]
    return AttributeResult(names, confusion, int((~labelled).sum()), right)


def data_name(root: str | Path) -> str:
    """What figures measured on a folder are headed with."""
    return Path(root).resolve().name


def card_metrics(card: ModelCard, weights_sha256: str, root: str | Path) -> CardMetrics | None:
    """What a card states of the weights that were evaluated, on the data of the folder ``root``.

    None if the weights are not the card's, or no word of the folder's name is the data set that
    the card names: figures of other data do not compare.
    """
    data = card.fields.get("train-dataset", "").lower()
    words = re.split(r"[\W_]+", data_name(root).lower())
    if card.asset.sha256 != weights_sha256 or _MISSPELT.get(data, data) not in words:
        return None
    stated = {name.lower(): value for name, value in card.metrics.items()}
    names = {ours: name.lower() for ours, name in PUBLISHED_METRICS.items()} | {"Mean": "acc"}
    values = {ours: stated[name] for ours, name in names.items() if name in stated}
    return CardMetrics(values, card.fields["train-dataset"]) if values else None


def run_settings(runner: Runner) -> dict[str, Any]:
    """Weights, backend, time and versions that metrics belong to."""
    return {
        "weights": runner.engine.source or RANDOM,
        "weights_sha256": runner.engine.weights_sha256,
        "input_size": list(runner.size),
        "backend": runner.engine.name,
        "precision": runner.engine.precision,
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "versions": {
            "multitasknet": __version__,
            **{name: version(name) for name in ("mindspore", "numpy")},
            "python": platform.python_version(),
        },
    }


def write_metrics(metrics: Mapping[str, Any], path: Path) -> None:
    """Write metrics and settings as JSON, NaN as null; OutputError if that fails."""
    defined = json.loads(json.dumps(metrics), parse_constant=lambda _: None)
    make_folder(path.parent)
    with replacing(path) as temporary:
        temporary.write_text(f"{json.dumps(defined, indent=1)}\n", encoding="utf-8")


def _ranking_metrics(ranking: RankingResult) -> dict[str, float]:
    metrics = {"mAP": 100 * ranking.mAP, "mINP": 100 * ranking.mINP}
    return metrics | {f"Rank-{k}": 100 * ranking.rank(k) for k in RANKS}
