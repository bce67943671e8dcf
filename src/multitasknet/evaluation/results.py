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
from ..ranking.protocols import Draw
from ..vehicle.attributes import class_name
from .embedding import Embeddings
from .figures import (
    Figure,
    Part,
    figures_as_json,
    kinds_of_matches,
    parts_of,
    ranking_figures,
    ranking_shares,
    table_columns,
    values_of,
)

if TYPE_CHECKING:
    from ..inference.runner import Runner

# What settings name as the weights if they are no file's.
RANDOM = "random values"
# PoseEstNet's card misspells its data set.
_MISSPELT = {"veir": "veri"}


@dataclass(frozen=True, eq=False)
class AttributeResult:
    """How colour or type was predicted, over query and gallery together."""

    # The network's classes, then those that only the data has, which cannot be predicted right.
    names: tuple[str, ...]
    truth: np.ndarray  # int64 ``[N]``, places in ``names``; -1 where unlabelled
    predicted: np.ndarray  # int64 ``[N]``, places in ``names``

    @classmethod
    def of(
        cls,
        known: tuple[str, ...],
        published: tuple[str, ...],
        kind: str,
        ids: Sequence[int | None],
        predicted: np.ndarray,
    ) -> AttributeResult:
        """Of true raw ids, None where unlabelled, and of places in ``known``, the network's names.

        ``published`` and ``kind`` name the ids, see :func:`.attributes.class_name`.
        """
        truth = [None if raw is None else class_name(raw, published, kind) for raw in ids]
        names = (*known, *sorted({name for name in truth if name is not None} - set(known)))
        places = {name: place for place, name in enumerate(names)} | {None: -1}
        return cls(names, np.array([places[name] for name in truth], dtype=np.int64), predicted)

    @property
    def confusion(self) -> np.ndarray:
        """int64 ``[C, C]``, labelled images by true and predicted class."""
        counts = np.zeros((len(self.names), len(self.names)), dtype=np.int64)
        labelled = self.truth >= 0
        np.add.at(counts, (self.truth[labelled], self.predicted[labelled]), 1)
        return counts

    @property
    def unlabelled(self) -> int:
        """Images without a label; they count nowhere."""
        return int((self.truth < 0).sum())

    @property
    def right(self) -> np.ndarray:
        """float64 ``[N]``, of each image 1 or 0; NaN if it is unlabelled."""
        return np.where(self.truth < 0, np.nan, self.truth == self.predicted)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """All results of one evaluation."""

    # ``plain``, by squared Euclidean distance; where it was asked for ``re-ranked``; and ``by
    # track``, with the mean of its track for each gallery image's embedding, if the protocol ranks
    # so and tracks are known.
    rankings: dict[str, RankingResult]
    # ``color`` and ``type``, if the network has such heads and images are labelled.
    attributes: dict[str, AttributeResult]
    outputs: Embeddings  # of the network for query and gallery, as they were compared
    draw: Draw  # what was ranked, by a protocol that draws the gallery at first
    dataset: VehicleDataset
    settings: dict[str, Any]  # weights, data and versions that the metrics belong to

    @property
    def ranking(self) -> RankingResult:
        """The plain one."""
        return self.rankings["plain"]

    @property
    def metrics(self) -> dict[str, float]:
        """In percent by name: mAP, mINP, Rank-k, and where images are labelled color and type."""
        return values_of(self.figures)

    @property
    def deviations(self) -> dict[str, float]:
        """The standard deviation of each metric over a protocol's draws; empty without draws."""
        draws = self.ranking.draws
        shares = ranking_shares(self.ranking) if draws > 1 else {}
        return {
            name: float(100 * one.reshape(draws, -1).mean(axis=1).std())
            for name, one in shares.items()
        }

    @cached_property
    def figures(self) -> dict[str, Figure]:
        """The metrics with their intervals."""
        vehicles = self.dataset.held_out.vehicle_ids
        right = {name: Figure.of(one.right, vehicles) for name, one in self.attributes.items()}
        return ranking_figures(self.ranking) | right

    @cached_property
    def breakdown(self) -> dict[str, dict[str, Part]]:
        """The ranking by camera pair, view, size and quality, and in each by its kinds of match.

        What all matches have in common is left out; empty where a protocol draws the gallery.
        """
        if self.ranking.draws > 1:
            return {}
        cameras, queries = self.dataset.held_out.camera_ids, len(self.dataset.query)
        kinds = kinds_of_matches(self.ranking, cameras, self.outputs.facts, queries)
        found = {title: parts_of(self.ranking, *one) for title, one in kinds.items()}
        return {title: parts for title, parts in found.items() if len(parts) > 1}

    @property
    def columns(self) -> dict[str, dict[str, str]]:
        """The figures as columns of a table, by heading; the first is headed by the data's name."""
        columns = table_columns(data_name(self.dataset.root), self.figures)
        if self.deviations:
            columns["deviation"] = {name: f"{one:.2f}" for name, one in self.deviations.items()}
        for title, ranking in list(self.rankings.items())[1:]:
            columns |= table_columns(title, ranking_figures(ranking))
        return columns

    def as_json(self) -> dict[str, Any]:
        """Metrics, intervals and settings as plain values."""
        others = {
            title: values_of(ranking_figures(ranking)) for title, ranking in self.rankings.items()
        }
        return {
            **figures_as_json(self.figures),
            "reranked": others.get("re-ranked", {}),
            "by_track": others.get("by track", {}),
            "deviations": self.deviations,
            "valid_queries": self.ranking.valid_queries,
            "queries_without_match": len(self.ranking.skipped_queries),
            "cmc": self.ranking.cmc.tolist(),
            "breakdown": {
                title: {
                    name: {"queries": part.queries, "vehicles": part.vehicles}
                    | figures_as_json(part.figures)
                    for name, part in parts.items()
                }
                for title, parts in self.breakdown.items()
            },
            "settings": self.settings,
        }


@dataclass(frozen=True)
class CardMetrics:
    """Metrics that a card states, in percent under this package's names, and the data it names."""

    values: dict[str, float]
    data: str


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
    if not data or card.asset.sha256 != weights_sha256 or _MISSPELT.get(data, data) not in words:
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


def write_metrics(metrics: Mapping[str, Any], folder: str | Path) -> None:
    """Write metrics and settings as ``metrics.json``, NaN as null; OutputError if that fails."""
    defined = json.loads(json.dumps(metrics), parse_constant=lambda _: None)
    make_folder(Path(folder))
    with replacing(Path(folder, "metrics.json")) as temporary:
        temporary.write_text(f"{json.dumps(defined, indent=1)}\n", encoding="utf-8")
