"""``evaluate``, ``search`` and ``threshold``."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .options import (
    add_json,
    add_network_options,
    add_workers,
    check_images,
    make_predictor,
    positive,
    print_json,
    share,
)

if TYPE_CHECKING:
    from ..evaluation.results import Evaluation
    from ..retrieval.search import Match


def add_parsers(commands: Any) -> None:
    evaluate = commands.add_parser("evaluate", help="mAP, Rank-k, colour and type on a data set")
    evaluate.add_argument("--data", type=Path, required=True, help="PAMTRI, VeRi, CSV or pack")
    evaluate.add_argument("--rerank", action="store_true", help="k-reciprocal re-ranking as well")
    evaluate.add_argument(
        "--output", type=Path, metavar="DIR", help="for embeddings, metrics.json and report.html"
    )
    add_json(evaluate)
    add_workers(evaluate)
    add_network_options(evaluate, batch=32)
    evaluate.set_defaults(run=_evaluate)

    search = commands.add_parser("search", help="find the vehicles of some images in a gallery")
    search.add_argument("--gallery", type=Path, metavar="DIR", help="a folder of vehicle crops")
    search.add_argument("--index", type=Path, metavar="FILE", help="keep the embeddings (.npz)")
    search.add_argument("--query", type=Path, nargs="+", required=True, metavar="IMAGE")
    search.add_argument("--labels", type=Path, help="PAMTRI label CSV with keypoints")
    search.add_argument("--top", type=positive, default=10, help="images a query (10)")
    search.add_argument("--faiss", action="store_true", default=None, help="search with FAISS")
    search.add_argument("--output", type=Path, metavar="HTML", help="a page with the pictures")
    add_json(search)
    add_workers(search)
    add_network_options(search, batch=32)
    search.set_defaults(run=_search, usage=search.error)

    threshold = commands.add_parser(
        "threshold", help="the distance at a wanted false-match rate, from labelled images"
    )
    threshold.add_argument("--data", type=Path, required=True, help="PAMTRI, VeRi, CSV or pack")
    threshold.add_argument(
        "--false-match-rate", type=share, default=0.001, help="share of different pairs (0.001)"
    )
    threshold.add_argument(
        "--output", type=Path, metavar="DIR", help="the --output of evaluate, to reuse embeddings"
    )
    add_json(threshold)
    add_workers(threshold)
    add_network_options(threshold, batch=32)
    threshold.set_defaults(run=_threshold)


def _evaluate(options: argparse.Namespace) -> None:
    from ..data.layouts import read_dataset
    from ..evaluation.report import write_evaluation_report
    from ..evaluation.results import card_metrics
    from ..evaluation.run import evaluate
    from ..hub.card import default_card_path, load_card

    dataset = read_dataset(options.data, ["query", "gallery"])
    published = card_metrics(load_card(options.card or default_card_path()))
    predictor = make_predictor(options)
    evaluation = evaluate(
        predictor,
        dataset,
        rerank=options.rerank,
        output=options.output,
        workers=options.workers,
    )
    if options.json:
        print_json([evaluation.as_json()])
    else:
        _print_metrics(evaluation, published)
    if not predictor.engine.source:
        print("multitasknet: the weights are random; these metrics mean nothing", file=sys.stderr)
    if options.output:
        report = options.output / "report.html"
        write_evaluation_report(evaluation, dataset, report, published=published)
        stream = sys.stderr if options.json else sys.stdout
        print(f"\n{report}\n{options.output / 'metrics.json'}", file=stream)


def _print_metrics(evaluation: Evaluation, published: dict[str, float]) -> None:
    columns = {"this run": evaluation.metrics}
    if evaluation.reranked:
        columns["re-ranked"] = evaluation.reranked_metrics
    columns["card"] = published
    print(f"{'percent':10}" + "".join(f"{name:>12}" for name in columns))
    for figure in evaluation.metrics:
        values = (column.get(figure) for column in columns.values())
        cells = ("" if value is None else f"{value:.2f}" for value in values)
        print(f"{figure:10}" + "".join(f"{cell:>12}" for cell in cells))
    ranking = evaluation.ranking
    count = ranking.valid_queries
    print(f"{count} {'query' if count == 1 else 'queries'}", end="")
    print(f", {len(ranking.skipped_queries)} without a match left out")


def _search(options: argparse.Namespace) -> None:
    from ..data.labels import read_labels
    from ..retrieval.embedding import origin_of
    from ..retrieval.index import GalleryIndex
    from ..retrieval.search import build_index, find_images, search, write_search_report

    has_index = options.index is not None and options.index.is_file()
    if options.gallery is None and not has_index:
        options.usage("give --gallery, or an --index that exists")
    images = find_images(options.gallery) if options.gallery else None
    check_images(options.query)
    labels = read_labels(options.labels) if options.labels else None
    predictor = make_predictor(options)
    known = GalleryIndex.load(options.index, origin_of(predictor)) if has_index else None
    if images is None:
        assert known is not None
        index = known
    else:
        index = build_index(
            predictor,
            images,
            labels=labels,
            known=known,
            folder=options.gallery,
            workers=options.workers,
        )
        if options.index:
            index.save(options.index)
    found = search(
        predictor, index, options.query, top=options.top, labels=labels, use_faiss=options.faiss
    )
    if options.json:
        print_json(
            {"query": query, "matches": [asdict(match) for match in matches]}
            for query, matches in zip(options.query, found, strict=True)
        )
    else:
        _print_matches(options.query, found)
    if options.output:
        page = write_search_report(
            options.output,
            options.query,
            found,
            gallery=len(index.names),
            weights=predictor.engine.source,
        )
        print(f"\n{page}", file=sys.stderr if options.json else sys.stdout)


def _print_matches(queries: list[Path], found: list[list[Match]]) -> None:
    for query, matches in zip(queries, found, strict=True):
        print(f"\n{query}")
        for rank, match in enumerate(matches, start=1):
            print(f"  {rank:3}  {match.distance:10.4g}  {match.name}")


def _threshold(options: argparse.Namespace) -> None:
    from ..data.layouts import read_dataset
    from ..evaluation.run import dataset_roc
    from ..ranking.threshold import threshold_at

    dataset = read_dataset(options.data, ["query", "gallery"])
    predictor = make_predictor(options)
    roc = dataset_roc(predictor, dataset, output=options.output, workers=options.workers)
    chosen = threshold_at(roc, options.false_match_rate)
    if options.json:
        print_json([asdict(chosen)])
        return
    print(f"distance          {chosen.distance:.6g} (squared Euclidean; at most this is a match)")
    print(f"false-match rate  {chosen.false_match_rate:.3g} ({chosen.false_matches} pairs)")
    print(f"true-match rate   {chosen.true_match_rate:.3g}")
    print(f"measured on       {roc.positives:,} same-vehicle, {roc.negatives:,} different pairs")
