"""How the field's data sets are evaluated: which gallery images count, and how they are chosen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np

from .distances import check_embeddings, distance_blocks
from .metrics import Labels, RankingResult, rank_rows
from .reranking import rerank as reranked_rows

_CAMERA_RULE = "gallery images of the query's vehicle under the query's camera are left out"


@dataclass(frozen=True, eq=False)
class Draw:
    """Queries and gallery as rows among a data set's images, a slice where none was drawn."""

    queries: np.ndarray | slice
    gallery: np.ndarray | slice
    labels: Labels


@dataclass(frozen=True)
class Protocol:
    """How a ranking is measured."""

    name: str  # the option's
    text: str  # a sentence for reports
    own_camera: bool = False  # whether gallery images of the query's vehicle and camera count
    most: int | None = None  # how many of the nearest count for mAP; None for all
    # How often one image of each vehicle is drawn to be the gallery, the rest of query and gallery
    # being the queries; 0 where the data set says which images are the gallery.
    draws: int = 0
    tracks: bool = False  # also rank by tracks where they are known

    def drawn(self, vehicles: np.ndarray, cameras: np.ndarray, queries: int) -> list[Draw]:
        """What is ranked, once or as often as is drawn; the same draws every time.

        Of a data set's images, integers ``[N]``, the first are its ``queries``. DataError: no query
        has a match.
        """
        found = []
        for query, gallery in self._splits(vehicles, queries):
            ids, places = (vehicles[query], vehicles[gallery]), (cameras[query], cameras[gallery])
            found.append(Draw(query, gallery, Labels(*ids, *places, self.own_camera)))
        found[0].labels.check_matches()
        return found

    def _splits(
        self, vehicles: np.ndarray, queries: int
    ) -> Iterator[tuple[np.ndarray | slice, np.ndarray | slice]]:
        if not self.draws:
            yield slice(queries), slice(queries, None)
        rng = np.random.default_rng(0)
        for _ in range(self.draws):
            order = rng.permutation(len(vehicles))
            _, firsts = np.unique(vehicles[order], return_index=True)
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
    protocol: Protocol, embeddings: np.ndarray, draws: Sequence[Draw], *, rerank: bool = False
) -> RankingResult:
    """Rank by squared Euclidean distance, or by k-reciprocal re-ranking, as a protocol wants it.

    ``embeddings`` are of the data set's images, finite numbers ``[N, D]``; else DataError.
    """
    check_embeddings("embeddings", embeddings)
    results = []
    for draw in draws:
        pair = embeddings[draw.queries], embeddings[draw.gallery]
        rows = reranked_rows(*pair) if rerank else chain.from_iterable(distance_blocks(*pair))
        results.append(rank_rows(rows, draw.labels, most=protocol.most))
    return _joined(results)


def _joined(results: Sequence[RankingResult]) -> RankingResult:
    starts = np.cumsum([0, *(len(one.vehicles) for one in results[:-1])])
    return replace(
        results[0],
        vehicles=np.concatenate([one.vehicles for one in results]),
        queries=np.concatenate([one.queries + n for one, n in zip(results, starts, strict=True)]),
        images=np.concatenate([one.images for one in results]),
        ranks=np.concatenate([one.ranks for one in results]),
        draws=len(results),
    )
