"""``gallery`` and ``search --gallery STORE``: galleries that are kept, and grow."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import MultiTaskNetError
from .options import (
    add_command,
    add_options,
    add_predictor_options,
    check_images,
    distance_text,
    given,
    make_predictor,
    positive,
    predictor_settings,
    print_json,
    print_rows,
    print_uncalibrated,
    share,
)

if TYPE_CHECKING:
    from ..inference.predictor import Predictor
    from ..retrieval.adding import AddReport, Entry
    from ..retrieval.gallery import Hit
    from ..retrieval.store_search import Searched, StoreGallery

_SHOWN = 10
# Options of search that ask for a store.
OF_STORES = (
    "where",
    "max_distance",
    "false_match_rate",
    "group_by",
    "exact",
    "recall",
    "track",
    "not_before",
    "not_after",
    "travel_times",
    "from_camera",
    "from_time",
)


@dataclass(frozen=True)
class Answer:
    """What was found for a query, how probable each hit is, and how it was searched."""

    query: str
    hits: Sequence[Hit]
    probabilities: Sequence[float | None]
    searched: Searched


class GalleryCommandError(MultiTaskNetError, ValueError):
    """Options that do not go together."""


def add_parsers(commands: Any) -> None:
    gallery = commands.add_parser(
        "gallery", help="keep a gallery that grows", description="Keep a gallery that grows."
    )
    actions = gallery.add_subparsers(title="actions", required=True, metavar="ACTION")

    add = add_command(actions, "add", _add, "embed pictures and keep what the network says of them")
    _add_store(add)
    add.add_argument("images", nargs="*", metavar="IMAGE", help="pictures, folders, - for a list")
    add.add_argument("--manifest", type=Path, help="CSV or Parquet: image, id, camera, time, ...")
    add.add_argument(
        "--reembed", action="store_true", help="replace rows of other weights; all, without images"
    )
    add.add_argument(
        "--ray",
        nargs="?",
        const="local",
        metavar="ADDRESS",
        help="on Ray: of a running cluster, such as auto; without, this machine",
    )
    add.add_argument("--ray-actors", type=positive, default=1, help="networks at a time (1)")
    add_options(add, "--labels", "--json")
    add_predictor_options(add, batch=32)

    info = add_command(actions, "info", _info, "say what a store holds")
    _add_store(info)
    add_options(info, "--json")

    remove = add_command(actions, "remove", _remove, "delete rows for good")
    _add_store(remove)
    remove.add_argument("--where", required=True, metavar="SQL", help="which rows")

    compact = add_command(actions, "compact", _compact, "join small files, drop old versions")
    _add_store(compact)

    index = add_command(actions, "index", _index, "build the index for searching many rows")
    _add_store(index)
    index.add_argument("--recall", type=share, default=0.95, help="to be found (0.95)")
    add_options(index, "--json")

    export = add_command(actions, "export", _export, "write rows as Parquet or NumPy")
    _add_store(export)
    export.add_argument("output", type=Path, help="a file .parquet, or .npz for search --index")
    export.add_argument("--where", metavar="SQL", help="which rows (all)")

    link = add_command(actions, "link", _link, "group rows into vehicles, with their journeys")
    _add_store(link)
    _add_distances(link, required=True)
    link.add_argument(
        "--window",
        type=_distance,
        default=1.0,
        metavar="SECONDS",
        help="in which a camera sees a vehicle once at most (1)",
    )
    add_options(link, "--json")


def add_search_options(parser: argparse.ArgumentParser) -> None:
    """What searching a store can do beyond searching a folder."""
    group = parser.add_argument_group("of a store (--gallery NAME.lance)")
    group.add_argument("--where", metavar="SQL", help="such as: camera in (3, 4) and color = 'red'")
    _add_distances(group)
    group.add_argument("--group-by", choices=("camera",), help="the nearest of each camera alone")
    group.add_argument("--exact", action="store_true", default=None, help="without the index")
    group.add_argument("--recall", type=share, help="that an index must reach (0.95)")
    group.add_argument(
        "--track", action="store_true", default=None, help="all queries show one vehicle"
    )
    group.add_argument("--not-before", type=_time, metavar="TIME", help="first time, ISO 8601")
    group.add_argument("--not-after", type=_time, metavar="TIME", help="last time, ISO 8601")
    group.add_argument(
        "--travel-times", type=Path, metavar="CSV", help="from, to, least, most: seconds"
    )
    group.add_argument("--from-camera", help="the query's (that of its row)")
    group.add_argument("--from-time", type=_time, metavar="TIME", help="the query's")


def search_store(options: argparse.Namespace) -> None:
    """The command ``search`` in a store."""
    from ..data.labels import keypoints_of
    from ..files import check_output
    from ..retrieval.comparing import same_vehicle
    from ..retrieval.embedding import origin_of
    from ..retrieval.store_search import StoreGallery

    if options.index or options.faiss:
        options.usage("--index and --faiss go with a folder; a store has an index of its own")
    check_images(options.query)
    if options.output:
        check_output(options.output, inputs=options.query, makes_parents=True)
    gallery = StoreGallery(options.gallery, recall=options.recall or 0.95)
    gallery.store.count(options.where)  # a condition that is none shows now
    conditions = [_condition(options, gallery, query) for query in options.query]
    keypoints = keypoints_of(options.query, options.labels)
    predictor = make_predictor(options)
    gallery.check_origin(origin_of(predictor))
    names = [str(query) for query in options.query]
    embeddings = predictor.embed(options.query, keypoints)
    if options.track:
        names, embeddings = names[:1], embeddings.mean(axis=0, keepdims=True)
    limit = _limit(options, gallery)
    found = []
    for name, embedding, condition in zip(names, embeddings, conditions, strict=False):
        (hits,), searched = gallery.find(
            embedding[None],
            top=options.top,
            where=condition,
            max_distance=limit,
            exact=bool(options.exact),
            group_by=options.group_by,
        )
        probable = [same_vehicle(predictor, hit.distance) for hit in hits]
        found.append(Answer(name, hits, probable, searched))
    if options.json:
        print_json(_as_json(answer) | {"max_distance": limit} for answer in found)
    else:
        for answer in found:
            _print_answer(predictor, answer)
        print_uncalibrated(predictor)
    if options.output:
        _write_page(options, predictor, found, len(gallery))


def _condition(options: argparse.Namespace, gallery: StoreGallery, query: Path) -> str | None:
    from ..retrieval.conditions import TravelTimes, all_of, filter_condition
    from ..retrieval.gallery import GalleryFilter

    times = GalleryFilter(not_before=options.not_before, not_after=options.not_after)
    reachable = None
    if options.travel_times:
        camera, time = options.from_camera, options.from_time
        if not (camera and time):
            try:
                row = gallery.row(str(query.absolute()))
                camera, time = camera or row.camera, time or row.time
            except KeyError:
                pass
        if not (camera and time):
            raise GalleryCommandError(
                f"--travel-times needs to know where and when {query} was taken, which the store "
                f"does not; give --from-camera and --from-time"
            )
        reachable = TravelTimes.read(options.travel_times).condition(camera, time)
    return all_of([options.where, filter_condition(times), reachable])


def _as_json(answer: Answer) -> dict[str, Any]:
    matches = [
        asdict(hit.row) | {"distance": hit.distance, "probability": probability}
        for hit, probability in zip(answer.hits, answer.probabilities, strict=True)
    ]
    return {"query": answer.query, "matches": matches, "searched": asdict(answer.searched)}


def _print_answer(predictor: Predictor, answer: Answer) -> None:
    print(f"\n{answer.query}")
    for rank, hit in enumerate(answer.hits, start=1):
        row = hit.row
        facts = (row.camera and f"camera {row.camera}", row.time, row.color, row.type)
        told = "  ".join(str(fact) for fact in facts if fact)
        how_far = distance_text(predictor, hit.distance)
        print(f"  {rank:3}  {how_far}  {row.image}  {told}".rstrip())
    if not answer.hits:
        print("  nothing")
    searched = answer.searched
    how = "each compared"
    if not searched.exact:
        how = (
            f"{searched.probes} probes, {searched.refine}-fold refinement, expected recall "
            f"{searched.recall:.3f}"
        )
    print(f"  of {searched.rows:,} rows, {how}")


def _write_page(
    options: argparse.Namespace,
    predictor: Predictor,
    found: Sequence[Answer],
    count: int,
) -> None:
    from ..retrieval.search import Match, write_search_report

    page = write_search_report(
        options.output,
        [answer.query for answer in found],
        [
            [
                Match(str(hit.row.image), hit.distance, probability)
                for hit, probability in zip(answer.hits, answer.probabilities, strict=True)
            ]
            for answer in found
        ],
        gallery=count,
        weights=predictor.engine.source,
        calibration=predictor.calibration,
    )
    print(f"\n{page}", file=sys.stderr if options.json else sys.stdout)


def _add(options: argparse.Namespace) -> None:
    from ..data.labels import read_labels
    from ..retrieval.adding import add_pictures, open_for, stored_entries
    from ..retrieval.embedding import origin_of
    from ..retrieval.store import check_name

    check_name(options.store)
    if bool(options.images) + bool(options.manifest) != 1 and not (
        options.reembed and not options.images and not options.manifest
    ):
        options.usage("give images, or --manifest, or --reembed alone")
    entries = _entries(options)
    labels = read_labels(options.labels) if options.labels else None
    predictor = make_predictor(options)
    store = open_for(options.store, predictor)
    if entries is None:
        entries = stored_entries(store, origin_of(predictor))
    how = given(options, ("reembed",)) | {"labels": labels}
    if options.ray:
        from ..retrieval.ray_adding import add_with_ray

        how |= {"address": options.ray, "actors": options.ray_actors}
        report = add_with_ray(store, predictor, predictor_settings(options), entries, **how)
    else:
        report = add_pictures(store, predictor, entries, **how)
    _print_report(report, as_json=options.json)


def _entries(options: argparse.Namespace) -> list[Entry] | None:
    from ..retrieval.adding import entries_of, read_manifest

    if options.manifest:
        return read_manifest(options.manifest)
    if options.images == ["-"]:
        return entries_of(Path(line) for line in _lines())
    paths = [Path(image) for image in options.images]
    check_images([path for path in paths if not path.is_dir()])
    return entries_of(paths) if paths else None


def _lines() -> Iterator[str]:
    yield from filter(None, (line.rstrip("\r\n") for line in sys.stdin))


def _print_report(report: AddReport, *, as_json: bool) -> None:
    facts = {"added": report.added, "unchanged": report.unchanged}
    if as_json:
        print_json([facts | {"broken": report.broken}])
        return
    print_rows(facts | {"broken": len(report.broken)})
    for image, problem in list(report.broken.items())[:_SHOWN]:
        print(f"  {image}: {problem}")


def _info(options: argparse.Namespace) -> None:
    from ..retrieval.store_search import StoreGallery

    gallery = StoreGallery(options.store)
    store, facets, plan = gallery.store, gallery.facets, gallery.plan()
    origins = {
        f"{one.weights_sha256[:12]} {one.precision}": n for one, n in store.origins().items()
    }
    index = "none" if plan.exact else f"recall {plan.recall:.3f} by {plan.probes} probes"
    print_rows(
        {
            "rows": len(gallery),
            "bytes": store.size(),
            "cameras": len(facets.cameras),
            "colors": ", ".join(facets.colors),
            "types": ", ".join(facets.types),
            "columns": ", ".join(store.columns),
            "weights": ", ".join(f"{name} ({count} rows)" for name, count in origins.items()),
            "index": index,
            "versions": len(store.table.list_versions()),
        },
        as_json=options.json,
    )


def _remove(options: argparse.Namespace) -> None:
    from ..retrieval.store import GalleryStore

    print(f"{GalleryStore(options.store).remove(options.where)} rows are gone for good")


def _compact(options: argparse.Namespace) -> None:
    from ..retrieval.store import GalleryStore

    store = GalleryStore(options.store)
    before = store.size()
    store.compact()
    print(f"{before:,} bytes before, {store.size():,} after")


def _index(options: argparse.Namespace) -> None:
    from ..retrieval.store_search import StoreGallery

    measured = [asdict(one) for one in StoreGallery(options.store).build_index(options.recall)]
    if options.json:
        print_json(measured)
        return
    for one in measured:
        print(f"{one['probes']:6} probes find {one['recall']:.3f} of the 10 nearest")


def _export(options: argparse.Namespace) -> None:
    from ..files import check_output
    from ..retrieval.store import GalleryStore

    check_output(options.output)
    count = GalleryStore(options.store).export(options.output, options.where)
    print(f"{count} rows in {options.output}")


def _link(options: argparse.Namespace) -> None:
    from ..retrieval.store_linking import link_store
    from ..retrieval.store_search import StoreGallery

    gallery = StoreGallery(options.store)
    report = link_store(gallery, max_distance=_limit(options, gallery), window=options.window)
    print_rows(asdict(report), as_json=options.json)


def _limit(options: argparse.Namespace, gallery: StoreGallery) -> Any:
    if options.false_match_rate:
        return gallery.false_match_distance(options.false_match_rate)
    return options.max_distance


def _add_store(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("store", metavar="STORE", help="a folder whose name ends in .lance")


def _add_distances(parser: Any, *, required: bool = False) -> None:
    choice = parser.add_mutually_exclusive_group(required=required)
    choice.add_argument("--max-distance", type=_distance, help="squared Euclidean, at most")
    choice.add_argument(
        "--false-match-rate", type=share, help="the distance that so many pairs of rows lie within"
    )


def _distance(text: str) -> float:
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number of at least 0, got {text!r}")
    return value


def _time(text: str) -> datetime:
    from ..retrieval.conditions import parse_time

    try:
        time = parse_time(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    if time is None:
        raise argparse.ArgumentTypeError("expected a time, such as 2026-11-01T08:30:00")
    return time
