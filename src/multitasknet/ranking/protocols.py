"""How the field's data sets are evaluated: which gallery images count, and how they are chosen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from .metrics import Matches, RankingResult, evaluate_embeddings, evaluate_ranking
from .reranking import rerank as reranked_distances

_CAMERA_RULE = "gallery images of the query's vehicle under the query's camera are left out"


@dataclass(frozen=True)
class Protocol:
    """How a ranking is measured.

    Attributes:
        name: the option's.
        text: a sentence for reports.
        own_camera: whether gallery images of the query's vehicle and camera count.
        most: how many of the nearest count for mAP; None for all.
        draws: how often one image of each vehicle is drawn to be the gallery, the rest of query and
            gallery being the queries; 0 where the data set says which images are the gallery.
        tracks: also rank by tracks where they are known.
    """

    name: str
    text: str
    own_camera: bool = False
    most: int | None = None
    draws: int = 0
    tracks: bool = False

    def drawn(self, vehicle_ids: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Rows of queries and of the gallery, a pair a draw; the same draws every time."""
        rng = np.random.default_rng(0)
        for _ in range(self.draws):
            order = rng.permutation(len(vehicle_ids))
            _, firsts = np.unique(vehicle_ids[order], return_index=True)
            yield np.delete(order, firsts), order[firsts]


PROTOCOLS = {
    one.name: one
    for one in (
        Protocol("veri", f"VeRi's protocol (Liu et al., ECCV 2016): {_CAMERA_RULE}."),
        Protocol(
            "cityflow",
            "CityFlow-ReID's protocol (Tang et al., CVPR 2019): the 100 nearest alone count for "
            f"mAP, over at most 100 matches; {_CAMERA_RULE}.",
            most=100,
            tracks=True,
        ),
        Protocol(
            "vehicleid",
            "VehicleID's protocol (Liu et al., CVPR 2016): one image of each vehicle, drawn at "
            "random, is the gallery, all others are queries, and the query's camera counts; the "
            "mean of 10 draws.",
            own_camera=True,
            draws=10,
        ),
        Protocol(
            "veriwild",
            "VERI-Wild's protocol (Lou et al., CVPR 2019): the queries of a test set against its "
            f"gallery; {_CAMERA_RULE}.",
        ),
    )
}


def protocol_named(name: str) -> Protocol:
    """The protocol of that name; ValueError if there is none."""
    if name not in PROTOCOLS:
        raise ValueError(f"protocol is {name!r}; expected {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]


def evaluate_by(
    protocol: Protocol,
    embeddings: tuple[np.ndarray, np.ndarray],
    labels: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
    *,
    rerank: bool = False,
) -> RankingResult:
    """Rank by squared Euclidean distance as a protocol wants it.

    Args:
        protocol: the protocol.
        embeddings: of queries and gallery, ``[Q, D]`` and ``[G, D]``.
        labels: vehicles of queries and gallery, cameras of queries and gallery.
        rerank: by k-reciprocal re-ranking.

    Raises:
        DataError: as :func:`multitasknet.evaluate_ranking` raises it.
    """

    def measure(query: np.ndarray, gallery: np.ndarray, *labels: Any) -> RankingResult:
        rules: dict[str, Any] = {"own_camera": protocol.own_camera, "most": protocol.most}
        if rerank:
            return evaluate_ranking(reranked_distances(query, gallery), *labels, **rules)
        return evaluate_embeddings(query, gallery, *labels, **rules)

    if not protocol.draws:
        return measure(*embeddings, *labels)
    columns = [*map(np.concatenate, (embeddings, labels[:2], labels[2:]))]
    draws = [*protocol.drawn(columns[1])]
    results = [measure(*(column[rows] for column in columns for rows in draw)) for draw in draws]
    precisions = np.full((len(draws), len(columns[1])), np.nan)
    for row, (query, _), result in zip(precisions, draws, results, strict=True):
        row[query] = result.average_precisions
    return _mean(results, precisions[:, : len(embeddings[0])])


def _mean(results: list[RankingResult], precisions: np.ndarray) -> RankingResult:
    """The mean of draws, with the queries' average precisions in each, NaN where it was none."""
    times = (~np.isnan(precisions)).sum(axis=0)
    sums = np.nansum(precisions, axis=0)
    return RankingResult(
        cmc=np.mean([one.cmc for one in results], axis=0),
        mAP=float(np.mean([one.mAP for one in results])),
        mINP=float(np.mean([one.mINP for one in results])),
        valid_queries=results[0].valid_queries,
        skipped_queries=np.array([], dtype=np.int64),
        matches=_joined([one.matches for one in results]),
        average_precisions=np.divide(sums, times, out=np.full(len(sums), np.nan), where=times > 0),
        draws=tuple(results),
    )


def _joined(draws: list[Matches]) -> Matches:
    """The matches of all draws, as if their queries were different ones."""
    starts = np.cumsum([0, *(len(one.vehicles) for one in draws[:-1])])
    return Matches(
        np.concatenate([one.vehicles for one in draws]),
        np.concatenate([one.queries + start for one, start in zip(draws, starts, strict=True)]),
        np.concatenate([one.images for one in draws]),
        np.concatenate([one.ranks for one in draws]),
        draws[0].most,
    )
